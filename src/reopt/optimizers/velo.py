"""VeLO: a network of its own for each array, made by an LSTM (Metz et al. 2022, arXiv 2211.09760).

Of accumulators as STAR's, with fixed decays, 30 features are made of a parameter: the shared 28, the gradient cut at
0.1, and the gradient over the root of its second moment; time is not among them. They go through a network whose
weights are a mixture of `bank`, stored sets of weights, by N numbers c; these, and a rate lr, are linear in the output
of an LSTM of the array, which is fed the fraction of steps done, running means of the loss, statistics of the
accumulators and the rank of the array, mixed with the maximum over all arrays:

    x = W1 f + max over arrays of relu(W2 f),   c, lr = linear(LSTM(x)),   weights = bank_scale mean_i c_i bank_i
    dx = -s lr d exp(e m) RMS(x)

with d and m outputs of the network and RMS(x) the root mean square of the array's parameters.
"""

import itertools
from typing import Any, NamedTuple

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
MOST = 1000.0  # a gradient counts as no larger
CUT = 0.1  # of the feature that is cut
HIDDEN = 4
OUTPUTS = 3  # direction, magnitude, and one that is not used
FRACTIONS = (0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1)
STEEP = 10.0  # of tanh(STEEP (t/T - fraction))
MEANS = 10  # running means of the loss
RANKS = 5
OF_ARRAY = len(FRACTIONS) + (MEANS - 1) + len(DECAYS) + 1 + len(DECAYS) + RANKS


class LossMeans(NamedTuple):
    """Running means of the loss, their least values so far, and how many losses there were."""

    means: Float[Array, "problem mean"]
    least: Float[Array, "problem mean"]
    seen: Float[Array, " problem"]


class Shared(NamedTuple):
    """What a problem keeps beside its parameters' states: the LSTM of each array, and means of the loss."""

    hidden: Float[Array, "problem array unit"]
    cell: Float[Array, "problem array unit"]
    losses: LossMeans


class Context(NamedTuple):
    """What a parameter is told: of its array; its network's `mixture` and `rate`; the root mean square of the array."""

    told: Sensed
    mixture: Float[Array, "*param set"]
    rate: Float[Array, "*param"]
    size: Float[Array, "*param"]


class Linear(eqx.Module):
    """W^T x + b."""

    weight: Float[Array, "in_ out"]
    bias: Float[Array, " out"]

    def __call__(self, x: Float[Array, "*leading in_"]) -> Float[Array, "*leading out"]:
        return jnp.matmul(x, self.weight, precision="highest") + self.bias


def linear(key: PRNGKeyArray, size: int, out: int, *, bias: float = 0.0) -> Linear:
    """Weights of variance 1 / inputs."""
    return Linear(jax.random.normal(key, (size, out)) / np.sqrt(size), jnp.full(out, bias))


class Bank(eqx.Module):
    """N stored sets of weights of a network of two hidden layers."""

    weights: list[Float[Array, "set in_ out"]]
    biases: list[Float[Array, "set out"]]


class VeLO(Joint):
    """The optimizer, the start of its LSTM trained too. `bank_scale` is 100 as published, for 256 stored sets."""

    own_mix: Linear
    other_mix: Linear
    gates: Linear  # of the LSTM: input, candidate, forget, output
    control: Linear
    rate: Linear
    bank: Bank
    initial_hidden: Float[Array, " unit"]
    initial_cell: Float[Array, " unit"]
    step_scale: float = eqx.field(static=True, default=0.05)
    exponent: float = eqx.field(static=True, default=0.1)
    bank_scale: float = eqx.field(static=True, default=10.0)

    @property
    def decays(self) -> Decays:
        """Fixed."""
        return Decays(jnp.asarray(DECAYS), jnp.asarray(SECOND_DECAY), jnp.asarray(DECAYS))

    @property
    def units(self) -> int:
        """Of the LSTM."""
        return self.gates.bias.shape[0] // 4

    def start(self, layout: Layout, params: Array) -> State:
        problems, arrays = params.shape[0], len(layout.shapes)
        hidden, cell = (
            jnp.broadcast_to(one, (problems, arrays, self.units)).astype(params.dtype)
            for one in (self.initial_hidden, self.initial_cell)
        )
        means = jnp.zeros((problems, MEANS), params.dtype)
        losses = LossMeans(means, jnp.full_like(means, 1e12), jnp.zeros(problems, params.dtype))
        return State(accumulators.start(len(DECAYS), params), Shared(hidden, cell, losses))

    def sense(self, layout: Layout, state: State, inputs: Inputs) -> tuple[Context, Shared]:
        gradient = jnp.clip(inputs.gradient, -MOST, MOST)
        told = accumulators.sense(layout, state.own, gradient, inputs.param, self.decays, features)
        losses = _after(state.shared.losses, inputs.loss, inputs.num_steps)
        seen = self.of_arrays(layout, state, inputs, losses)
        mixed = self.own_mix(seen) + jnp.max(jax.nn.relu(self.other_mix(seen)), axis=-2, keepdims=True)
        hidden, cell = lstm(self.gates, mixed, state.shared.hidden, state.shared.cell)
        control, rate = self.control(hidden), self.rate(hidden)[..., 0]
        size = jnp.sqrt(layout.array_mean(jnp.square(inputs.param)) + accumulators.TINY)
        mixture = jnp.stack([layout.spread(control[..., i]) for i in range(control.shape[-1])], axis=-1)
        return Context(told, mixture, layout.spread(rate), size), Shared(hidden, cell, losses)

    def of_arrays(self, layout: Layout, state: State, inputs: Inputs, losses: LossMeans) -> Array:
        """The 30 features of each array, `(problem, array, feature)`."""
        own = accumulators.parts(state.own)
        norm = 1 / jnp.sqrt(jnp.maximum(accumulators.TINY, layout.per_array(jnp.square(inputs.param))))
        fraction = inputs.step / jnp.asarray(inputs.num_steps, norm.dtype)
        time = jnp.tanh(STEEP * (fraction - np.asarray(FRACTIONS))).astype(norm.dtype)
        spread = layout.spread(norm)
        second = own.second * spread
        variances, apart = [], []
        for i in range(len(DECAYS)):
            momentum = own.momentum[..., i] * spread
            mean = layout.array_mean(momentum)
            variances.append(layout.per_array(jnp.square(momentum - mean)))
            apart.append(layout.per_array(jnp.square(second - mean)))
        ranks = [sum(size > 1 for size in shape) for shape in layout.shapes]
        shape = norm.shape
        return jnp.concatenate(
            [
                jnp.broadcast_to(time, (*shape, len(FRACTIONS))),
                jnp.broadcast_to(loss_features(losses, inputs.num_steps)[:, None], (*shape, MEANS - 1)),
                *(_log(10 * one)[..., None] for one in (*variances, layout.per_array(second), *apart)),
                jnp.broadcast_to(jax.nn.one_hot(jnp.asarray(ranks), RANKS, dtype=norm.dtype), (*shape, RANKS)),
            ],
            axis=-1,
        )

    def one(self, context: Context) -> "VeloSlice":
        return VeloSlice(self, context)


class VeloSlice(Optimizer):
    """VeLO of parameters whose context is held."""

    velo: VeLO
    context: Context

    @property
    def state_names(self) -> tuple[str, ...]:
        return accumulators.names(len(DECAYS))

    def initial_state(self) -> Array:
        return jnp.zeros(len(self.state_names))

    def update(self, state: Array, gradient: Array) -> Array:
        cut = jnp.clip(gradient, -MOST, MOST)
        return accumulators.accumulate(state, cut, self.context.told, self.velo.decays)

    def readout(self, state: Array, gradient: Array) -> Array:
        velo, c = self.velo, self.context
        x = accumulators.in_units(features(state, jnp.clip(gradient, -MOST, MOST), c.told), c.told)
        count = c.mixture.shape[-1]
        layers = list(zip(velo.bank.weights, velo.bank.biases, strict=True))
        for number, (weights, biases) in enumerate(layers):
            weight = velo.bank_scale / count * jnp.tensordot(c.mixture, weights, 1, precision="highest")
            bias = velo.bank_scale / count * jnp.tensordot(c.mixture, biases, 1, precision="highest")
            x = jnp.sum(x[..., :, None] * weight, axis=-2) + bias
            x = jax.nn.relu(x) if number + 1 < len(layers) else x
        return -velo.step_scale * c.rate * x[..., 0] * jnp.exp(velo.exponent * x[..., 1]) * c.size


def features(state: Array, gradient: Array, told: Sensed) -> Float[Array, "*param feature"]:
    """The 30 features of a parameter."""
    root = jnp.sqrt(accumulators.parts(state).second + EPS)
    more = jnp.stack([jnp.clip(gradient, -CUT, CUT), gradient / root], axis=-1)
    return jnp.concatenate([accumulators.features(state, gradient, told), more], axis=-1)


def lstm(gates: Linear, x: Array, hidden: Array, cell: Array) -> tuple[Array, Array]:
    """(hidden', cell') of an LSTM, with 1 added to its forget gate."""
    taken, candidate, kept, shown = jnp.split(gates(jnp.concatenate([x, hidden], axis=-1)), 4, axis=-1)
    cell = jax.nn.sigmoid(kept + 1) * cell + jax.nn.sigmoid(taken) * jnp.tanh(candidate)
    return jax.nn.sigmoid(shown) * jnp.tanh(cell), cell


def _decays_of_loss(num_steps: Any, dtype: Any) -> Float[Array, " mean"]:
    """exp(-1 / half-life) for half-lives evenly spaced in logarithm from 10 to the number of steps."""
    most = jnp.log10(jnp.asarray(num_steps, dtype))
    return jnp.exp(-1 / 10 ** (1 + (most - 1) * jnp.linspace(0, 1, MEANS, dtype=dtype)))


def _after(losses: LossMeans, loss: Float[Array, " problem"], num_steps: Any) -> LossMeans:
    """The means with one loss more, which counts as at most twice the largest of them.

    That largest is corrected for one loss more than there were, as in the published code.
    """
    decays, count = _decays_of_loss(num_steps, losses.means.dtype), losses.seen[:, None]
    correction = 1 - decays ** (count + 1)
    largest = jnp.where(losses.seen == 0, loss, jnp.max(losses.means / correction, axis=-1))
    taken = jnp.minimum(2 * jnp.abs(largest), loss)[:, None]
    means = decays * losses.means + (1 - decays) * taken
    return LossMeans(means, jnp.minimum(losses.least, means / correction), losses.seen + 1)


def loss_features(losses: LossMeans, num_steps: Any) -> Float[Array, "problem feature"]:
    """Where each mean lies between its least value (-1) and the next longer mean (0), cut at -1 and 1; 0 at first."""
    decays = _decays_of_loss(num_steps, losses.means.dtype)
    corrected = losses.means / (1 - decays ** losses.seen[:, None])
    shorter, longer, least = corrected[:, :-1], corrected[:, 1:], losses.least[:, :-1]
    place = (shorter - least) / jnp.maximum(1e-8, longer - least) - 1
    return jnp.where(losses.seen[:, None] <= 2, 0.0, jnp.clip(place, -1, 1))


def _log(values: Array) -> Array:
    return 0.5 * jnp.clip(jnp.log(1e-8 + jnp.abs(values)), -5, 5)


def create_velo(key: PRNGKeyArray, *, units: int = 16, sets: int = 8, **settings: Any) -> VeLO:
    """VeLO before meta-training; `settings` are fields of `VeLO` beside its arrays.

    The rate begins at 1; published, its bias begins at 0, a rate near 0 of either sign.
    """
    keys = iter(jax.random.split(key, 5 + 3))
    sizes = (FEATURES + 2, HIDDEN, HIDDEN, OUTPUTS)
    pairs = list(itertools.pairwise(sizes))
    bank = Bank(
        [jax.random.normal(next(keys), (sets, *pair)) / np.sqrt(pair[0]) for pair in pairs],
        [jnp.zeros((sets, out)) for _, out in pairs],
    )
    return VeLO(
        linear(next(keys), OF_ARRAY, units),
        linear(next(keys), OF_ARRAY, units),
        linear(next(keys), 2 * units, 4 * units),
        linear(next(keys), units, sets),
        linear(next(keys), units, 1, bias=1.0),
        bank,
        jnp.zeros(units),
        jnp.zeros(units),
        **settings,
    )
