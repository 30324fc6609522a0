"""The hierarchical optimizer: a network for each parameter, an LSTM for each array, a message between arrays (Metz,
Maheswaranathan, Freeman, Poole and Sohl-Dickstein 2020, arXiv 2009.11243).

A parameter keeps first and second moments at several decays. Its gradient, value, the logarithm of its size, moments,
momenta over the roots of second moments and 1 over these are divided by their root mean squares over the array; with
sines of time, the number of arrays, norm and size of the array, and what the array's LSTM says, they go through a
network whose first two outputs d and m make the step, and whose others are averaged over the array for the LSTM's next
step:

    dx = -s d exp(e m)

The LSTM is also fed statistics of moments and parameters, norms, the shape, training and validation loss against their
running means, and the mean over all arrays of a message. Gradients are cut at ten times the running mean of their size.
"""

from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from reopt.optimizers.accumulators import EPS, FLOOR
from reopt.optimizers.base import Optimizer
from reopt.optimizers.joint import Inputs, Joint, Layout, State
from reopt.optimizers.star import TIMES, Network, network
from reopt.optimizers.velo import Linear, linear, lstm

DECAYS = (0.5, 0.9, 0.99)
OF_ARRAY = 18  # features of an array, beside message and the network's means
AXES = 4  # of a shape
TINY = 1e-8
CUT = 10.0  # times the running mean of the gradients' size
CUT_DECAY = 0.99
TRAINING_DECAY, VALIDATION_DECAY = 0.9, 0.95  # of the running means of losses


class Running(NamedTuple):
    """A running mean and variance, and how many values there were."""

    mean: Float[Array, " problem"]
    variance: Float[Array, " problem"]
    seen: Float[Array, " problem"]


class Shared(NamedTuple):
    """What a problem keeps beside its parameters' states."""

    hidden: Float[Array, "problem array unit"]
    cell: Float[Array, "problem array unit"]
    means: Float[Array, "problem array out"]  # of the network's further outputs, of the step before
    message: Float[Array, "problem out"]
    training: Running
    validation: Running
    size: Float[Array, " problem"]  # running mean of the gradients' size, not corrected
    steps: Float[Array, " problem"]


class Context(NamedTuple):
    """What a parameter is told: `rest`, what the others contribute to the mean square of each feature over the array,
    and `share`, that of its own square in it; `more`, features that are the same in all of it; its value; and where
    gradients are cut."""

    rest: Float[Array, "*param feature"]
    share: Float[Array, "*param"]
    more: Float[Array, "*param feature"]
    param: Float[Array, "*param"]
    cut: Float[Array, "*param"]


class Hierarchical(Joint):
    """The optimizer; where its LSTM, means and message begin is trained too."""

    network: Network
    gates: Linear
    told: Linear  # of the LSTM to the network
    sent: Linear  # of the LSTM to the message
    initial_means: Float[Array, " out"]
    initial_message: Float[Array, " out"]
    initial_hidden: Float[Array, " unit"]
    initial_cell: Float[Array, " unit"]
    step_scale: float = eqx.field(static=True, default=0.02)
    exponent: float = eqx.field(static=True, default=0.5)
    sees_validation: ClassVar[bool] = True

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
        none = Running(*(jnp.zeros(problems, params.dtype) for _ in range(3)))
        means = jnp.broadcast_to(self.initial_means, (problems, arrays, len(self.initial_means))).astype(params.dtype)
        message = jnp.broadcast_to(self.initial_message, (problems, len(self.initial_message))).astype(params.dtype)
        size = jnp.full(problems, 1 - CUT_DECAY, params.dtype)
        own = jnp.zeros((*params.shape, 2 * len(DECAYS)), params.dtype)
        return State(own, Shared(hidden, cell, means, message, none, none, size, jnp.ones(problems, params.dtype)))

    def sense(self, layout: Layout, state: State, inputs: Inputs) -> tuple[Context, Shared]:
        shared = state.shared
        cut = CUT * shared.size / (1 - CUT_DECAY**shared.steps)
        gradient = jnp.clip(inputs.gradient, -cut[:, None], cut[:, None])
        now = jnp.sqrt(TINY + jnp.mean(layout.per_array(jnp.square(gradient)), axis=-1))
        training = _with(shared.training, inputs.loss, TRAINING_DECAY)
        validation = shared.validation
        if inputs.validation is not None:
            looked = jnp.isfinite(inputs.validation)
            after = _with(validation, jnp.where(looked, inputs.validation, 0.0), VALIDATION_DECAY)
            validation = jax.tree.map(lambda new, old: jnp.where(looked, new, old), after, validation)
        own = accumulate(state.own, gradient)
        losses = (
            _against(training, inputs.loss, TRAINING_DECAY),
            _against(training, _corrected(validation, VALIDATION_DECAY), TRAINING_DECAY),
        )
        seen = jnp.concatenate(
            [
                of_arrays(layout, own, gradient, inputs.param, *losses),
                shared.means,
                jnp.broadcast_to(shared.message[:, None], (*shared.means.shape[:2], shared.message.shape[-1])),
            ],
            axis=-1,
        )
        hidden, cell = lstm(self.gates, seen, shared.hidden, shared.cell)
        more = self._of_whole_arrays(layout, inputs, self.told(hidden))
        squares = jnp.square(features(own, gradient, inputs.param))
        share = jnp.asarray(1 / np.repeat(layout.sizes, layout.sizes), squares.dtype)
        mean = jnp.moveaxis(layout.array_mean(jnp.moveaxis(squares, -1, 0)), 0, -1)
        others = jnp.maximum(mean - share[:, None] * squares, 0)
        own_share, cuts = (jnp.broadcast_to(one, inputs.param.shape) for one in (share, cut[:, None]))
        context = Context(others, own_share, more, inputs.param, cuts)
        rest = self.outputs(own, gradient, context)[..., 2:]
        means = jnp.moveaxis(layout.per_array(jnp.moveaxis(rest, -1, 0)), 0, -1)
        size = CUT_DECAY * shared.size + (1 - CUT_DECAY) * now
        message = jnp.mean(self.sent(hidden), axis=-2)
        return context, Shared(hidden, cell, means, message, training, validation, size, shared.steps + 1)

    def _of_whole_arrays(self, layout: Layout, inputs: Inputs, told: Array) -> Float[Array, "problem param feature"]:
        """Sines of time, the number of arrays, norm and size of the array, and what its LSTM says."""
        kind, shape = inputs.param.dtype, inputs.param.shape
        sines = jnp.sin(jnp.asarray(inputs.step, kind) / (np.pi * np.asarray(TIMES)))
        norm = jnp.log(jnp.sqrt(layout.per_array(jnp.square(inputs.param)) * layout.sizes) + TINY)
        spread = jnp.stack([layout.spread(told[..., i]) for i in range(told.shape[-1])], axis=-1)
        return jnp.concatenate(
            [
                jnp.broadcast_to(sines.astype(kind), (*shape, len(TIMES))),
                jnp.full((*shape, 1), np.log(len(layout.shapes)) - 1, kind),
                layout.spread(norm)[..., None],
                jnp.broadcast_to(jnp.repeat(jnp.log(jnp.asarray(layout.sizes, kind)), layout.sizes), shape)[..., None],
                spread,
            ],
            axis=-1,
        )

    def outputs(self, state: Array, gradient: Array, context: Context) -> Float[Array, "*param out"]:
        """Of the network of a parameter, of the state after the step and the gradient that is cut."""
        raw = features(state, gradient, context.param)
        normed = raw / jnp.sqrt(FLOOR + context.rest + context.share[..., None] * jnp.square(raw))
        return self.network(jnp.concatenate([normed, context.more], axis=-1))

    def one(self, context: Context) -> "HierarchicalSlice":
        return HierarchicalSlice(self, context)


class HierarchicalSlice(Optimizer):
    """The hierarchical optimizer of parameters whose context is held."""

    whole: Hierarchical
    context: Context

    @property
    def state_names(self) -> tuple[str, ...]:
        return tuple(f"{name}[{i}]" for name in ("first", "second") for i in range(len(DECAYS)))

    def initial_state(self) -> Array:
        return jnp.zeros(len(self.state_names))

    def _cut(self, gradient: Array) -> Array:
        return jnp.clip(gradient, -self.context.cut, self.context.cut)

    def update(self, state: Array, gradient: Array) -> Array:
        return accumulate(state, self._cut(gradient))

    def readout(self, state: Array, gradient: Array) -> Array:
        found = self.whole.outputs(state, self._cut(gradient), self.context)
        return -self.whole.step_scale * found[..., 0] * jnp.exp(self.whole.exponent * found[..., 1])


def accumulate(state: Array, gradient: Array) -> Array:
    """Both moments at every decay, a step on."""
    decays = jnp.asarray((*DECAYS, *DECAYS), state.dtype)
    new = jnp.concatenate(
        [jnp.broadcast_to(one[..., None], (*gradient.shape, len(DECAYS))) for one in (gradient, jnp.square(gradient))],
        axis=-1,
    )
    return decays * state + (1 - decays) * new


def features(state: Array, gradient: Array, param: Array) -> Float[Array, "*param feature"]:
    """Of a parameter, before they are divided by their root mean squares over the array."""
    first, second = jnp.split(state, 2, axis=-1)
    root = jnp.sqrt(second + EPS)
    single = [gradient, param, jnp.log(jnp.abs(param) + TINY)]
    return jnp.concatenate([*(one[..., None] for one in single), first, first / root, second, 1 / root], axis=-1)


def of_arrays(
    layout: Layout, state: Array, gradient: Array, param: Array, training: Array, validation: Array
) -> Float[Array, "problem array 18"]:
    """Features of each array."""
    first, second = jnp.split(state, 2, axis=-1)
    parts = []
    for moment in (first, second, param[..., None]):
        mean = layout.per_array(jnp.mean(moment, axis=-1))
        apart = jnp.square(moment - layout.spread(mean)[..., None])
        parts += [_log(mean), jnp.sign(mean), _log(layout.per_array(jnp.mean(apart, axis=-1)))]
    norms = [jnp.sqrt(layout.per_array(jnp.square(one)) * layout.sizes) for one in (param, gradient)]
    shapes = [np.log([*shape, *[1] * (AXES - len(shape))][:AXES]) - 1 for shape in layout.shapes]
    scalar = [1.0 if not shape else -1.0 for shape in layout.shapes]
    constant = [np.asarray(scalar), *np.asarray(shapes).T]
    wide = parts[0].shape
    parts += [_log(one) for one in norms]
    parts += [jnp.broadcast_to(jnp.asarray(one, param.dtype), wide) for one in constant]
    parts += [jnp.broadcast_to(one[:, None], wide) for one in (training, validation)]
    return jnp.stack(parts, axis=-1)


def _log(values: Array) -> Array:
    return jnp.clip(jnp.log(TINY + jnp.abs(values)), -5, 5)


def _with(running: Running, value: Array, decay: float) -> Running:
    """A running mean and variance with one value more."""
    mean = decay * running.mean + (1 - decay) * value
    variance = decay * running.variance + (1 - decay) * jnp.square(mean - value)
    return Running(mean, variance, running.seen + 1)


def _corrected(running: Running, decay: float) -> Array:
    return running.mean / (1 - decay**running.seen + TINY)


def _against(running: Running, value: Array, decay: float) -> Array:
    """A value less the running mean, over the root of the running variance, cut at -5 and 5."""
    correction = 1 / (1 - decay**running.seen + TINY)
    return jnp.clip((value - correction * running.mean) / jnp.sqrt(correction * running.variance + TINY), -5, 5)


def create_hierarchical(
    key: PRNGKeyArray,
    *,
    units: int = 16,
    hidden: int = 16,
    told: int = 8,
    message: int = 8,
    means: int = 8,
    **more: Any,
) -> Hierarchical:
    """The hierarchical optimizer before meta-training; `more` are fields of `Hierarchical` beside its arrays.

    Published: units 64, hidden 32, told 17, message 18, means 16.
    """
    keys = iter(jax.random.split(key, 6))
    inputs = 3 + 4 * len(DECAYS) + len(TIMES) + 3 + told
    return Hierarchical(
        network(next(keys), (inputs, hidden, hidden, 2 + means)),
        linear(next(keys), OF_ARRAY + means + message + units, 4 * units),
        linear(next(keys), units, told),
        linear(next(keys), units, message),
        jax.random.normal(next(keys), (means,)) / np.sqrt(means),
        jax.random.normal(next(keys), (message,)) / np.sqrt(message),
        jnp.zeros(units),
        jnp.zeros(units),
        **more,
    )
