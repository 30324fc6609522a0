"""STAR: stabilized through ample regularization (Harrison, Metz and Sohl-Dickstein 2022, arXiv 2209.11208).

Own state of a parameter: momenta at three decays, a second moment, and averages of squared gradients over its row and
column at three decays. Of these 28 features are made, each divided by its root mean square over the array, and with 11
of time they go through a small network with four outputs d, m, a, r:

    dx = -wd exp(e r) x - s d exp(e m) [/ sqrt(v)] - eta exp(e a) mean_i m_i / sqrt(v)

the weight decay, the black box (divided where it is preconditioned), and the nominal term. What each reads of others
is held in a context: the rest of the row and column, the means, the root mean squares, and time.
"""

import itertools
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from reopt.optimizers.base import Optimizer
from reopt.optimizers.joint import Inputs, Joint, Layout, State

DECAYS = (0.5, 0.9, 0.99)
SECOND_DECAY = 0.99
TIMES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5)
"""Of the features of time."""
HIDDEN = 4
OUTPUTS = 4  # direction, magnitude, magnitude of the nominal term, weight decay
FEATURES = 28
EPS = 1e-6  # under the root of a second moment
FLOOR = 1e-5  # under the root of a feature's mean square
TINY = 1e-9  # beside what is divided by
SCALE = 10.0  # of the logarithm of 1 - decay, so that a step of training moves a decay gently

Nominal = Literal["adam", "momentum", "none"]


class Context(NamedTuple):
    """What a parameter is told: `rest` of its row and column (their means of squares without its own, times what share
    they are), `share` of its own in them, the mean over the array of each average of rows, the root mean square of
    each feature, features of time, and its value."""

    rest_row: Float[Array, "*param"]
    rest_column: Float[Array, "*param"]
    share_row: Float[Array, "*param"]
    share_column: Float[Array, "*param"]
    mean_row: Float[Array, "*param decay"]
    scale: Float[Array, "*param feature"]
    time: Float[Array, "*param feature"]
    param: Float[Array, "*param"]


class Network(eqx.Module):
    """A perceptron of two hidden layers with ReLU."""

    weights: list[Array]
    biases: list[Array]

    def __call__(self, x: Float[Array, "*param feature"]) -> Float[Array, "*param out"]:
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            # Sums of products: on accelerators a matmul would round its inputs.
            x = jnp.sum(x[..., :, None] * weight, axis=-2) + bias
            x = jax.nn.relu(x) if number + 1 < len(self.weights) else x
        return x


def network(key: PRNGKeyArray, sizes: tuple[int, ...]) -> Network:
    """Weights of variance 1 / inputs, biases 0."""
    keys = jax.random.split(key, len(sizes) - 1)
    pairs = list(itertools.pairwise(sizes))
    weights = [jax.random.normal(k, pair) / np.sqrt(pair[0]) for k, pair in zip(keys, pairs, strict=True)]
    return Network(weights, [jnp.zeros(out) for _, out in pairs])


class STAR(Joint):
    """The optimizer; its decays are trained through log(1 - decay) / `SCALE`."""

    network: Network
    momentum_logs: Float[Array, " decay"]
    second_log: Float[Array, ""]
    factored_logs: Float[Array, " decay"]
    step_scale: float = eqx.field(static=True, default=0.01)
    nominal_scale: float = eqx.field(static=True, default=0.01)
    exponent: float = eqx.field(static=True, default=0.1)
    weight_decay: float = eqx.field(static=True, default=0.0)
    nominal: Nominal = eqx.field(static=True, default="adam")
    preconditioned: bool = eqx.field(static=True, default=True)
    averaged: bool = eqx.field(static=True, default=False)  # the nominal term's magnitude, over the array

    def start(self, layout: Layout, params: Array) -> State:
        size = len(_names(len(self.momentum_logs)))
        return State(jnp.zeros((*params.shape, size), params.dtype), ())

    def sense(self, layout: Layout, state: State, inputs: Inputs) -> tuple[Context, Any]:
        square = jnp.square(inputs.gradient)
        shape = inputs.gradient.shape
        row, column = (
            jnp.broadcast_to(jnp.asarray(1 / count, square.dtype), shape)
            for count in (layout.row_size(), layout.column_size())
        )
        time = jnp.tanh(jnp.asarray(inputs.step, square.dtype) / np.asarray(TIMES) - 1)
        decays = len(self.factored_logs)
        blank = Context(
            layout.row_mean(square) - row * square,
            layout.column_mean(square) - column * square,
            row,
            column,
            jnp.ones((*shape, decays), square.dtype),
            jnp.ones((*shape, FEATURES), square.dtype),
            jnp.broadcast_to(time.astype(square.dtype), (*shape, len(TIMES))),
            inputs.param,
        )
        own = self.one(blank).update(state.own, inputs.gradient)
        rows = _parts(own)["row"]
        means = jnp.stack([layout.array_mean(rows[..., i]) for i in range(decays)], axis=-1)
        told = blank._replace(mean_row=means)
        features = features_of(own, inputs.gradient, told)
        squares = jnp.stack([layout.array_mean(jnp.square(features[..., i])) for i in range(FEATURES)], axis=-1)
        return told._replace(scale=jnp.sqrt(FLOOR + squares)), ()

    def one(self, context: Context) -> "StarSlice":
        return StarSlice(self, context)


class StarSlice(Optimizer):
    """STAR of parameters whose context is held; its `context` leads with the axes that states have."""

    star: STAR
    context: Context

    @property
    def state_names(self) -> tuple[str, ...]:
        return _names(len(self.star.momentum_logs))

    def initial_state(self) -> Array:
        return jnp.zeros(len(self.state_names))

    def update(self, state: Array, gradient: Array) -> Array:
        star, c, old = self.star, self.context, _parts(state)
        square = jnp.square(gradient)
        momenta, second, factored = (
            1 - jnp.exp(SCALE * jnp.asarray(logs, state.dtype))
            for logs in (star.momentum_logs, star.second_log, star.factored_logs)
        )
        row = c.rest_row + c.share_row * square
        column = c.rest_column + c.share_column * square
        return jnp.concatenate(
            [
                momenta * old["momentum"] + (1 - momenta) * gradient[..., None],
                second * old["second"] + (1 - second) * square[..., None],
                factored * old["row"] + (1 - factored) * row[..., None],
                factored * old["column"] + (1 - factored) * column[..., None],
            ],
            axis=-1,
        )

    def readout(self, state: Array, gradient: Array) -> Array:
        star, c, own = self.star, self.context, _parts(state)
        normed = features_of(state, gradient, c) / c.scale
        d, m, a, r = jnp.moveaxis(star.network(jnp.concatenate([normed, c.time], axis=-1)), -1, 0)
        root = jnp.sqrt(own["second"][..., 0] + EPS)
        box = star.step_scale * d * jnp.exp(star.exponent * m)
        if star.preconditioned:
            box = box / root
        change = -box
        if star.nominal != "none":
            mean = jnp.mean(own["momentum"], axis=-1)
            size = star.nominal_scale * jnp.exp(star.exponent * a)
            change = change - size * (mean / root if star.nominal == "adam" else mean)
        if star.weight_decay:
            change = change - star.weight_decay * jnp.exp(star.exponent * r) * c.param
        return change


def features_of(state: Array, gradient: Array, context: Context) -> Float[Array, "*param feature"]:
    """The 28 features, before they are divided by their root mean squares over the array."""
    own = _parts(state)
    momentum, second, row, column = own["momentum"], own["second"], own["row"], own["column"]
    root = jnp.sqrt(second + EPS)
    factored = 1 / jnp.sqrt(row * column / (context.mean_row + TINY) + TINY)
    return jnp.concatenate(
        [
            gradient[..., None],
            context.param[..., None],
            momentum,
            second,
            momentum / root,
            1 / root,
            gradient[..., None] * factored,
            row,
            column,
            1 / jnp.sqrt(row + TINY),
            1 / jnp.sqrt(column + TINY),
            momentum * factored,
        ],
        axis=-1,
    )


def create_star(key: PRNGKeyArray, **settings: Any) -> STAR:
    """STAR before meta-training; `settings` are fields of `STAR` beside its arrays."""

    def logs(decays: Any) -> Array:
        return jnp.log(1 - jnp.asarray(decays, jnp.float32)) / SCALE

    sizes = (FEATURES + len(TIMES), HIDDEN, HIDDEN, OUTPUTS)
    return STAR(network(key, sizes), logs(DECAYS), logs(SECOND_DECAY), logs(DECAYS), **settings)


def _names(decays: int) -> tuple[str, ...]:
    many = [f"{name}[{i}]" for name in ("momentum",) for i in range(decays)]
    return (*many, "second", *(f"row[{i}]" for i in range(decays)), *(f"column[{i}]" for i in range(decays)))


def _parts(state: Array) -> dict[str, Array]:
    decays = (state.shape[-1] - 1) // 3
    ends = np.cumsum([decays, 1, decays, decays])
    names = ("momentum", "second", "row", "column")
    return {
        name: state[..., end - size : end]
        for name, end, size in zip(names, ends, (decays, 1, decays, decays), strict=True)
    }
