"""OPEN: a learned optimizer for reinforcement learning (Goldie et al. 2024, arXiv 2407.07082).

Of a parameter x and its gradient g, with momenta m_i <- d_i m_i + (1 - d_i) g at six decays, 15 features

    x,  sign m_i,  log(|m_i| + 1e-13),  sign g,  log(|g| + 1e-13)

are divided by their root mean squares over the array; with the share of training done, the place of the layer, the
share of passes over a batch and the dormancy of the unit they are the input of a GRU of the parameter (the reset gate
acts on the product W h + b). Its state goes through two hidden layers with layer normalisation and ReLU to three
numbers o:

    u = s o_0 exp(s o_1),    dx = -(u - mean of u over all parameters),    s = 0.001

o_2 is the size of noise that is drawn for the actor alone; no noise is drawn here. On a task that is no reinforcement
learning there is one pass over a batch (its share is 0) and no unit is known to be dormant (dormancy 1).
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from reopt.optimizers.base import Optimizer
from reopt.optimizers.joint import Inputs, Joint, Layout, State
from reopt.published.files import known, read_weights

DECAYS = (0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)
TINY = 1e-13  # under the logarithms
FLOOR = 1e-5  # under the root of a feature's mean square
NORM_FLOOR = 1e-6  # of layer normalisation
STEP = 0.001
NORMED = 3 + 2 * len(DECAYS)
FEATURES = NORMED + 4

Parts = dict[str, np.ndarray]


class Context(NamedTuple):
    """What a parameter is told: the root mean square of each feature over its array, its value, four features that are
    not divided, and the mean of all updates."""

    scale: Float[Array, "*param feature"]
    param: Float[Array, "*param"]
    more: Float[Array, "*param four"]
    mean: Float[Array, "*param"]


class OPEN(Joint):
    """The optimizer; `weights` by names such as "in.kernel" or "dense_0.bias", as `unpack` gives them."""

    weights: Parts

    @property
    def units(self) -> int:
        """Of the GRU."""
        return self.weights["hn.bias"].shape[0]

    def start(self, layout: Layout, params: Array) -> State:
        del layout
        return State(jnp.zeros((*params.shape, len(DECAYS) + self.units), params.dtype), ())

    def sense(self, layout: Layout, state: State, inputs: Inputs) -> tuple[Context, Any]:
        gradient, param = inputs.gradient, inputs.param
        made = features(accumulate(state.own[..., : len(DECAYS)], gradient), gradient, param)
        squares = jnp.moveaxis(layout.array_mean(jnp.moveaxis(jnp.square(made), -1, 0)), 0, -1)
        done = inputs.step / jnp.maximum(jnp.asarray(inputs.num_steps, param.dtype) - 1, 1)
        more = [done, layout.spread(jnp.asarray(layer_places(layout), param.dtype)), 0.0, 1.0]
        wide = [jnp.broadcast_to(jnp.asarray(one, param.dtype), param.shape) for one in more]
        blank = Context(jnp.sqrt(FLOOR + squares), param, jnp.stack(wide, axis=-1), jnp.zeros_like(param))
        updates = self.one(blank)(state.own, gradient)[1]
        mean = jnp.mean(updates, axis=-1, keepdims=True)
        return blank._replace(mean=jnp.broadcast_to(mean, param.shape)), ()

    def one(self, context: Context) -> "OpenSlice":
        return OpenSlice(self, context)


class OpenSlice(Optimizer):
    """OPEN of parameters whose context is held; its state is six momenta, then the GRU's units."""

    whole: OPEN
    context: Context

    @property
    def state_names(self) -> tuple[str, ...]:
        return (*(f"momentum[{i}]" for i in range(len(DECAYS))), *(f"h{i}" for i in range(self.whole.units)))

    def initial_state(self) -> Array:
        return jnp.zeros(len(self.state_names))

    def update(self, state: Array, gradient: Array) -> Array:
        c, weights = self.context, self.whole.weights
        momenta = accumulate(state[..., : len(DECAYS)], gradient)
        hidden = state[..., len(DECAYS) :]
        x = jnp.concatenate([features(momenta, gradient, c.param) / c.scale, c.more], axis=-1)
        reset, keep = (
            jax.nn.sigmoid(dense(x, weights, f"i{gate}") + dense(hidden, weights, f"h{gate}")) for gate in "rz"
        )
        new = jnp.tanh(dense(x, weights, "in") + reset * dense(hidden, weights, "hn"))
        return jnp.concatenate([momenta, (1 - keep) * new + keep * hidden], axis=-1)

    def readout(self, state: Array, gradient: Array) -> Array:
        del gradient
        x, weights = state[..., len(DECAYS) :], self.whole.weights
        for layer in (0, 1):
            x = dense(x, weights, f"dense_{layer}")
            x = (x - x.mean(axis=-1, keepdims=True)) / jnp.sqrt(x.var(axis=-1, keepdims=True) + NORM_FLOOR)
            scale, bias = (jnp.asarray(weights[f"norm_{layer}.{part}"], x.dtype) for part in ("scale", "bias"))
            x = jax.nn.relu(x * scale + bias)
        out = dense(x, weights, "dense_2")
        return -size(out) - self.context.mean


def size(out: Float[Array, "*param three"]) -> Float[Array, "*param"]:
    """u, what is taken off a parameter before the mean of all is."""
    return STEP * out[..., 0] * jnp.exp(STEP * out[..., 1])


def dense(x: Array, weights: Parts, name: str) -> Array:
    """x W + b, or x W where there is no bias. A sum of products: on accelerators a matmul would round its inputs."""
    product = jnp.sum(x[..., :, None] * jnp.asarray(weights[f"{name}.kernel"], x.dtype), axis=-2)
    bias = weights.get(f"{name}.bias")
    return product if bias is None else product + jnp.asarray(bias, x.dtype)


def accumulate(momenta: Array, gradient: Array) -> Array:
    """Every momentum a step on."""
    decays = jnp.asarray(DECAYS, momenta.dtype)
    return decays * momenta + (1 - decays) * gradient[..., None]


def features(momenta: Array, gradient: Array, param: Array) -> Float[Array, "*param feature"]:
    """The 15 features that are divided by their root mean squares."""
    return jnp.concatenate(
        [
            jnp.broadcast_to(param, gradient.shape)[..., None],
            jnp.sign(momenta),
            jnp.log(jnp.abs(momenta) + TINY),
            jnp.sign(gradient)[..., None],
            jnp.log(jnp.abs(gradient) + TINY)[..., None],
        ],
        axis=-1,
    )


def layer_places(layout: Layout) -> Float[np.ndarray, " array"]:
    """0 at the first layer to 1 at the last, for each array; a vector belongs to the matrix before it."""
    layers = np.maximum(np.cumsum([len(shape) > 1 for shape in layout.shapes]) - 1, 0)
    return layers / max(layers[-1], 1)


def pieces(units: int, hidden: int) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes in the order of the flat vector: by name of module, the cell before the head."""
    found: list[tuple[str, tuple[int, ...]]] = [("hn.bias", (units,))]
    found += [(f"h{gate}.kernel", (units, units)) for gate in "nrz"]
    for gate in "nrz":
        found += [(f"i{gate}.bias", (units,)), (f"i{gate}.kernel", (FEATURES, units))]
    for layer, (before, after) in enumerate(((units, hidden), (hidden, hidden), (hidden, 3))):
        found += [(f"dense_{layer}.bias", (after,)), (f"dense_{layer}.kernel", (before, after))]
        if layer < 2:
            found += [(f"norm_{layer}.bias", (after,)), (f"norm_{layer}.scale", (after,))]
    return found


def unpack(values: Float[np.ndarray, " number"], units: int, hidden: int) -> Parts:
    """The flat vector by its parts."""
    parts, at = {}, 0
    for name, shape in pieces(units, hidden):
        count = int(np.prod(shape))
        parts[name] = np.asarray(values[at : at + count]).reshape(shape)
        at += count
    assert at == len(values)
    return parts


def load_open(path: Path | str) -> OPEN:
    """OPEN from a published file, such as `breakout_OPEN.npy`, or one of the same layout.

    **Raises** `ReoptError`, see `read_weights`.

    ```python
    from reopt.published.open_rl import load_open

    optimizer = load_open("breakout_OPEN.npy")
    ```
    """
    values = read_weights(path, "open").values
    return OPEN(unpack(values, *known("open")["units"][str(values.size)]))
