"""Where an optimizer is looked at: its smooth twin, the step at which a clock is held, the reference point.

An examination takes what comes: an optimizer without a stable state (AdaGrad), with a state at which derivatives do
not exist (a second moment of 0 under a root), with a schedule that ends at 0, with runs that diverge.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from reopt.core.errors import ReoptError
from reopt.dynamics.autonomous import BESIDE, CLOCK, FreeSystem, beside_zero
from reopt.dynamics.fixed_points import FixedPoints, attractor
from reopt.dynamics.linearization import operating_point
from reopt.dynamics.precision import double_precision, to_double
from reopt.dynamics.record import Recording, finite_states
from reopt.mechanisms.effective_rate import Schedule
from reopt.mechanisms.update_function import evaluate_update_functions
from reopt.optimizers.base import Optimizer
from reopt.optimizers.wrapper import Delegate

DIVERGED = 1e6  # a loss beyond this many times its first
PERIOD, STEADY = 12, 0.05  # steps over which a rate may not change by more than this share of it
FADED = 1e-3  # a rate below this share of its peak is no place to read other mechanisms at


class Reference(NamedTuple):
    """The state that an optimizer is linearized at, and how it was found.

    `settled`: it is a stable fixed point. Else it is the least unstable of the isolated fixed points, or, where there
    are none, the end of the autonomous trajectory.
    """

    state: Float[np.ndarray, " hidden"]
    settled: bool


class Nudged(Delegate):
    """The same optimizer, whose components `at` are never nearer to 0 than `offset` when a step begins.

    Derivatives pass as if nothing had been moved. A start beside 0 alone would not do: a fast decay takes it down to
    an exact 0 within the run.
    """

    inner: Optimizer
    at: tuple[int, ...] = eqx.field(static=True)
    offset: float = eqx.field(static=True, default=BESIDE[0])

    def initial_state(self) -> Array:
        start = self.inner.initial_state()
        near = np.isin(np.arange(start.shape[-1]), self.at)
        return jnp.where(near, jnp.maximum(start, jnp.asarray(self.offset, start.dtype)), start)

    def update(self, state: Array, gradient: Array) -> Array:
        return self.inner.update(self._lifted(state), gradient)

    def _lifted(self, state: Array) -> Array:
        near = state[..., jnp.asarray(self.at)]
        return state.at[..., jnp.asarray(self.at)].add(
            jax.lax.stop_gradient(jnp.maximum(near, jnp.asarray(self.offset, state.dtype)) - near)
        )


def before_divergence(runs: Recording) -> Recording:
    """The runs, NaN from where a loss has passed DIVERGED times its first: what is met there tells of overflow."""
    losses = runs.losses.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        lost = np.logical_or.accumulate(~(losses <= losses[0] + DIVERGED * np.abs(losses[0])), axis=0)
    lost[0] = False
    few = runs.states.shape[1]
    return runs._replace(
        states=np.where(lost[:, :few, None, None], np.nan, runs.states),
        gradients=np.where(lost[..., None], np.nan, runs.gradients),
        updates=np.where(lost[:, : runs.updates.shape[1], None], np.nan, runs.updates),
    )


def smooth_twin(optimizer: Optimizer, runs: Recording) -> Optimizer:
    """The optimizer, started beside zeros in components that are never negative if its update has no slope."""
    if _has_slope(optimizer):
        return optimizer
    rows = finite_states(runs.states)
    never_negative = (rows >= 0).all(axis=0) if len(rows) else np.ones(optimizer.state_size, bool)
    first = np.asarray(optimizer.initial_state())
    at = np.flatnonzero(never_negative & (first == 0) & (np.arange(optimizer.state_size) != optimizer.clock))
    if not at.size:
        return optimizer
    twins = [Nudged(optimizer, tuple(int(i) for i in at), offset) for offset in BESIDE]
    return next((twin for twin in twins if _has_slope(twin)), twins[0])


def _has_slope(optimizer: Optimizer) -> bool:
    """Whether the update has a slope at zero gradient in the initial state."""
    with double_precision():
        start = np.asarray(to_double(optimizer).initial_state(), np.float64)
    return bool(np.isfinite(evaluate_update_functions(optimizer, start[None], np.zeros(1))[1]).all())


def telling_step(trajectory: Schedule, num_steps: int) -> float:
    """The last step of a run, or, where the rate has faded away by then, that of its peak: the clock is held there.

    Both count from 0, as the steps of the schedule do: the rate read with this clock is the one that it ends at.
    """
    rates = np.abs(trajectory.table["effective_learning_rate"].to_numpy())
    if not np.isfinite(rates).all() or rates[-1] > FADED * rates.max():
        return float(num_steps - 1)
    return float(np.argmax(rates))


def settling_step(optimizer: Optimizer, state: Float[np.ndarray, " hidden"], last: float) -> float:
    """Where a clock is held under constant gradients: so far on that corrections are over, if the rate is still there.

    A state at rest under a gradient has been there for ever, and a clock of the run's last step beside it would correct
    a moment that needs none. The clock is doubled from `last` up to CLOCK, while the rate at zero gradient in `state`
    stays finite and above FADED of its largest (a schedule that ends has no answers later), and stays as it is where
    the rate changes from step to step there (a period).
    """
    if optimizer.clock is None:
        return last
    steps = [max(last, 1.0)]
    while steps[-1] < CLOCK:
        steps.append(min(2 * steps[-1], CLOCK))
    rates = np.abs(_rates_at(optimizer, state, np.array(steps)))
    if not np.isfinite(rates[0]) or rates[0] == 0:
        return last
    reached = last
    for step, rate, highest in zip(steps, rates, np.maximum.accumulate(rates), strict=True):
        if not rate > FADED * highest:
            break
        reached = step
    there = _rates_at(optimizer, state, reached + np.arange(PERIOD))
    return reached if np.ptp(there) <= STEADY * np.abs(there).max() else last


def _rates_at(optimizer: Optimizer, state: np.ndarray, steps: np.ndarray) -> Float[np.ndarray, " step"]:
    """The rate at zero gradient in a state, with the clock at each of these steps."""
    states = np.repeat(np.asarray(state, np.float64)[None], len(steps), axis=0)
    states[:, optimizer.clock] = steps
    return -evaluate_update_functions(optimizer, states, np.zeros(1))[1][:, 0]


def reference_point(optimizer: Optimizer, points: FixedPoints, *, clock: float, num_steps: int) -> Reference:
    """Where the optimizer is linearized, moved beside zeros at which derivatives do not exist."""
    found = _rest(optimizer, points, num_steps)
    return found._replace(state=_beside_zero(optimizer, found.state, clock))


def _rest(optimizer: Optimizer, points: FixedPoints, num_steps: int) -> Reference:
    try:
        return Reference(attractor(points), True)
    except ReoptError:
        if len(points.points) and points.isolated.all():
            return Reference(operating_point(points), False)
    return Reference(state_after(optimizer, num_steps), False)


def state_after(optimizer: Optimizer, num_steps: int) -> Float[np.ndarray, " hidden"]:
    """The state of the autonomous trajectory after so many steps without a gradient."""
    with double_precision():
        return np.asarray(_coast(to_double(optimizer), num_steps))


@eqx.filter_jit
def _coast(optimizer: Optimizer, num_steps: int) -> Array:
    start = jnp.asarray(optimizer.initial_state(), jnp.float64)
    zero = jnp.zeros((), jnp.float64)
    return jax.lax.scan(lambda state, _: (optimizer.update(state, zero), None), start, None, length=num_steps)[0]


def _beside_zero(optimizer: Optimizer, rest: Float[np.ndarray, " hidden"], clock: float) -> np.ndarray:
    with double_precision():
        system = FreeSystem(to_double(optimizer), clock)
        return system.embed(beside_zero(system, system.restrict(rest[None]), np.zeros(1)))[0] if system.size else rest
