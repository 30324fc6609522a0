"""STAR: stabilized through ample regularization (Harrison, Metz and Sohl-Dickstein 2022, arXiv 2209.11208).

Of accumulators at three decays 28 features are made (`reopt.optimizers.accumulators`), each divided by its root mean
square over the array. With 11 of time they go through a small network with four outputs d, m, a, r:

    dx = -wd exp(e r) x - s d exp(e m) [/ sqrt(v)] - eta exp(e a) mean_i m_i / sqrt(v)

the weight decay, the black box (divided where it is preconditioned), and the nominal term, in whose place may stand
m_2 / sqrt(v) ("adam_single"), mean_i m_i ("momentum"), the gradient ("sgd"), or nothing ("none").
"""

import itertools
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from reopt.optimizers import accumulators
from reopt.optimizers.accumulators import EPS, FEATURES, Decays, Sensed
from reopt.optimizers.base import Optimizer
from reopt.optimizers.joint import Inputs, Joint, Layout, State

DECAYS = (0.5, 0.9, 0.99)
SECOND_DECAY = 0.99
TIMES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5)
"""Of the features of time."""
HIDDEN = 4
OUTPUTS = 4  # direction, magnitude, magnitude of the nominal term, weight decay
SCALE = 10.0  # of the logarithm of 1 - decay: a step of training moves it ten times as far as a weight
BEGIN = 0.01  # times the last weights: else the black box, over small second moments, makes steps of order 10

Nominal = Literal["adam", "adam_single", "momentum", "sgd", "none"]


class Context(NamedTuple):
    """What a parameter is told: of its array, and of time."""

    told: Sensed
    time: Float[Array, "*param feature"]


class Network(eqx.Module):
    """A perceptron with ReLU."""

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

    @property
    def decays(self) -> Decays:
        """The decays themselves."""
        logs = (self.momentum_logs, self.second_log, self.factored_logs)
        momentum, second, factored = (accumulators.with_logs(one, SCALE) for one in logs)
        return Decays(momentum, jnp.clip(second, 0, 1), jnp.clip(factored, 0, 1))  # averages of squares stay positive

    def start(self, layout: Layout, params: Array) -> State:
        del layout
        return State(accumulators.start(len(self.momentum_logs), params), ())

    def sense(self, layout: Layout, state: State, inputs: Inputs) -> tuple[Context, Any]:
        told = accumulators.sense(layout, state.own, inputs.gradient, inputs.param, self.decays)
        time = jnp.tanh(jnp.asarray(inputs.step, inputs.gradient.dtype) / np.asarray(TIMES) - 1)
        shape = (*inputs.gradient.shape, len(TIMES))
        return Context(told, jnp.broadcast_to(time.astype(inputs.gradient.dtype), shape)), ()

    def one(self, context: Context) -> "StarSlice":
        return StarSlice(self, context)


class StarSlice(Optimizer):
    """STAR of parameters whose context is held; its `context` leads with the axes that states have."""

    star: STAR
    context: Context

    @property
    def state_names(self) -> tuple[str, ...]:
        return accumulators.names(len(self.star.momentum_logs))

    def initial_state(self) -> Array:
        return jnp.zeros(len(self.state_names))

    def update(self, state: Array, gradient: Array) -> Array:
        return accumulators.accumulate(state, gradient, self.context.told, self.star.decays)

    def readout(self, state: Array, gradient: Array) -> Array:
        star, c, own = self.star, self.context, accumulators.parts(state)
        normed = accumulators.in_units(accumulators.features(state, gradient, c.told), c.told)
        d, m, a, r = jnp.moveaxis(star.network(jnp.concatenate([normed, c.time], axis=-1)), -1, 0)
        root = jnp.sqrt(own.second + EPS)
        box = star.step_scale * d * jnp.exp(star.exponent * m)
        change = -box / root if star.preconditioned else -box
        if star.nominal != "none":
            size = star.nominal_scale * jnp.exp(star.exponent * a)
            change = change - size * nominal_term(star.nominal, own.momentum, root, gradient)
        if star.weight_decay:
            change = change - star.weight_decay * jnp.exp(star.exponent * r) * c.told.param
        return change


def nominal_term(
    kind: Nominal,
    momentum: Float[Array, "*param decay"],
    root: Float[Array, "*param"],
    gradient: Float[Array, "*param"],
) -> Float[Array, "*param"]:
    """A hand-designed direction, which the network scales; `root` is that of the second moment."""
    if kind == "sgd":
        return gradient
    if kind == "adam_single":
        return momentum[..., momentum.shape[-1] // 2] / root
    mean = jnp.mean(momentum, axis=-1)
    return mean / root if kind == "adam" else mean


def create_star(key: PRNGKeyArray, **settings: Any) -> STAR:
    """STAR before meta-training; `settings` are fields of `STAR` beside its arrays."""
    sizes = (FEATURES + len(TIMES), HIDDEN, HIDDEN, OUTPUTS)
    momentum, second = (accumulators.logs_of(decays, SCALE) for decays in (DECAYS, SECOND_DECAY))
    begun = network(key, sizes)
    begun = eqx.tree_at(lambda one: one.weights[-1], begun, BEGIN * begun.weights[-1])
    return STAR(begun, momentum, second, momentum, **settings)
