"""All analyses of one optimizer on one task, in memory; the pipeline runs the same ones as rules.

Where the pipeline knows what it examines, this takes what comes: an optimizer without a stable state (AdaGrad), with
a state at which derivatives do not exist (a second moment of 0 under a root), with a schedule that ends at 0.
"""

from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float

from reopt.dissection.delegate import Delegate
from reopt.dynamics.fixed_points import FixedPoints, attractor, find_fixed_points, search_seeds
from reopt.dynamics.free_system import FreeSystem, beside_zero
from reopt.dynamics.linearization import Linearization, linearize
from reopt.dynamics.pca import PCA, pca
from reopt.dynamics.precision import double_precision, to_double
from reopt.dynamics.record import Recording, finite_states, record
from reopt.errors import ReoptError
from reopt.mechanisms.adaptation import Adaptation, adaptation, even_part
from reopt.mechanisms.clipping import (
    Place,
    clipping,
    common_level,
    evaluate_update_functions,
    gradient_density,
    gradient_grid,
    gradient_limit,
    places,
    update_functions,
)
from reopt.mechanisms.momentum import impulse_response, modes, modes_table
from reopt.mechanisms.noise import Noise, update_noise
from reopt.mechanisms.schedule import Schedule, schedule
from reopt.mechanisms.switching import Switching, switching
from reopt.optimizers.base import Optimizer
from reopt.tasks.base import Task

REACH = 100.0  # how far beyond the largest gradient met an update function is followed
LAGS = 400  # of the impulse response
HAIR = 1e-100  # its root is far below any eps
WIDE = 6.0  # decades of held gradients below that reach
AMPLIFICATIONS = (1e6, 1e8, 1e10)  # of a second moment
HELD = ("held", "amplified")
DIVERGED = 1e6  # a loss beyond this many times its first
NOISE_ROWS = 256  # places at which noise is looked for
FADED = 1e-3  # a rate below this share of its peak is no place to read other mechanisms at


class Nudged(Delegate):
    """The same optimizer, started a hair away from zeros in the components `at`."""

    inner: Optimizer
    at: tuple[int, ...] = eqx.field(static=True)

    def initial_state(self) -> Array:
        return self.inner.initial_state().at[jnp.asarray(self.at)].add(HAIR)


class Examination(NamedTuple):
    """What was found; `settled` says that `linearization.point` is a stable fixed point, not just where the
    autonomous trajectory was at its end; `clock` is the step at which a clock was held. `middle` is the even part of
    `adaptation`. `held` is `clipping` in the even parts of the states of gradients held over a wide range, and, for
    an optimizer that normalises, in states with a huge second moment ("amplified"). `switching` is there where the
    update jumps with the sign of the gradient."""

    recording: Recording
    points: FixedPoints
    settled: bool
    clock: float
    linearization: Linearization
    modes: pd.DataFrame
    impulse: pd.DataFrame
    pca: PCA
    update_functions: pd.DataFrame
    clipping: pd.DataFrame
    held: pd.DataFrame
    density: pd.DataFrame
    schedule: Schedule
    adaptation: Adaptation
    middle: Adaptation
    switching: Switching | None
    noise: Noise
    amplified: Float[np.ndarray, "amplified hidden"]
    reach: float  # the largest gradient held


def examine(
    optimizer: Optimizer, task: Task, *, num_steps: int, problems: int = 64, seed: int = 0, max_params: int = 64
) -> Examination:
    """Record `optimizer` on `problems` problems of `task`, and run every analysis on it.

    **Arguments:** at most `max_params` parameters of a problem are recorded.

    **Raises** `ReoptError` where the optimizer has no derivatives to examine.
    """
    runs = record(
        optimizer,
        task,
        seed=seed,
        num_steps=num_steps,
        problems=problems,
        state_problems=min(4, problems),
        max_params=max_params,
    )
    runs = _before_divergence(runs)
    smooth = _smooth(optimizer, runs)
    coasting = schedule(smooth, num_steps=num_steps)
    clock = _telling_step(coasting, num_steps)
    seeds = search_seeds(smooth, runs.states, visited=200, perturbed=56, seed=seed)
    points = find_fixed_points(smooth, seeds.states, kind=seeds.kind, clock=clock)
    rest, settled = _rest(smooth, points, num_steps)
    rest = _beside_zero(smooth, rest, clock)
    linear = linearize(smooth, rest, clock=clock)
    basis = pca(runs.states, clock=optimizer.clock)
    smallest = gradient_limit(runs.gradients, quantile=0.3, factor=1.0)
    largest = gradient_limit(runs.gradients, factor=1.0)
    visited = tuple(sorted({1, num_steps // 10, num_steps // 2}))
    where = places(smooth, point=rest, states=runs.states, pca=basis, linearization=linear, visited_steps=visited)
    grid = gradient_grid(
        gradient_limit(runs.gradients),
        linear_limit=gradient_limit(runs.gradients, quantile=0.9, factor=1.0),
    )
    reach = REACH * largest
    sweep = partial(adaptation, smooth, point=rest, pca=basis, clock=clock)
    wide = even_part(smooth, sweep(limit=reach, decades=WIDE), clock=clock)
    held = [
        Place("held", gradient, state)
        for gradient, state, converged in zip(wide.table["gradient"], wide.states, wide.table["converged"], strict=True)
        if converged
    ]
    amplified = _amplified(smooth, wide)
    looked_at = clipping(smooth, [*where, *held, *amplified], runs.gradients, limit=reach)
    level = common_level(looked_at)
    # Beyond a clip a larger gradient is no larger to what comes after it; near a soft one it already is less so.
    # Without one, a power law is followed far beyond the gradients met, well above its knee.
    limit = min(reach, 0.1 * level.threshold) if level.threshold > 0 else reach
    limit = limit if amplified else largest
    arms = sweep(limit=limit, decades=float(np.clip(np.log10(limit / min(smallest, 1e-3 * limit)), 1.0, 8.0)))
    coasting = schedule(smooth, num_steps=num_steps, point=rest, pca=basis)
    jumps = bool(looked_at["jump"].ne(0).any())
    return Examination(
        recording=runs,
        points=points,
        settled=settled,
        clock=clock,
        linearization=linear,
        modes=modes_table(modes(linear)),
        impulse=impulse_response(smooth, linear, num_lags=LAGS),
        pca=basis,
        update_functions=update_functions(smooth, where, grid),
        clipping=looked_at[~looked_at["place"].isin(HELD)].reset_index(drop=True),
        held=looked_at[looked_at["place"].isin(HELD)].reset_index(drop=True),
        density=gradient_density(runs.gradients),
        schedule=coasting,
        adaptation=arms,
        middle=even_part(smooth, arms, clock=clock),
        switching=switching(smooth, rest, pulse=largest, clock=clock) if jumps else None,
        noise=_noise(optimizer, runs, coasting),
        amplified=np.array([place.state for place in amplified]).reshape(len(amplified), rest.size),
        reach=reach,
    )


def _before_divergence(runs: Recording) -> Recording:
    """The runs, NaN from where a loss has passed DIVERGED times its first: what is met there tells of overflow."""
    losses = runs.losses.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        lost = np.logical_or.accumulate(~(losses <= losses[0] + DIVERGED * np.abs(losses[0])), axis=0)
    lost[0] = False
    few = runs.states.shape[1]
    return runs._replace(
        states=np.where(lost[:, :few, None, None], np.nan, runs.states),
        gradients=np.where(lost[..., None], np.nan, runs.gradients),
        updates=np.where(lost[..., None], np.nan, runs.updates),
    )


def _amplified(optimizer: Optimizer, wide: Adaptation) -> list[Place]:
    """The even part of the state under the largest gradient held, times AMPLIFICATIONS, if the rate follows a power
    law there: then the optimizer divides by a moment that has no bound. None otherwise."""
    good = np.flatnonzero(wide.table["converged"] & (wide.table["gradient"] > 0))
    if not good.size or not optimizer.state_size:
        return []
    farthest = wide.states[good[-1]]
    factors = np.tile(np.asarray(AMPLIFICATIONS)[:, None], (1, optimizer.state_size))
    if optimizer.clock is not None:
        factors[:, optimizer.clock] = 1.0
    states = factors * farthest
    rates = np.abs(evaluate_update_functions(optimizer, states, np.zeros(1))[1][:, 0])
    if not (np.isfinite(rates) & (rates > 0)).all():
        return []
    powers = np.diff(np.log(rates)) / np.diff(np.log(AMPLIFICATIONS))
    if not (powers.max() < -0.1 and np.ptp(powers) < 0.01 * np.abs(powers).max()):
        return []
    return [Place("amplified", k, state) for k, state in zip(AMPLIFICATIONS, states, strict=True)]


def _noise(optimizer: Optimizer, runs: Recording, coasting: Schedule) -> Noise:
    """The noise at a few hundred of the gradients and states met."""
    gradients = runs.gradients[:, : runs.states.shape[1]].reshape(-1).astype(np.float64)
    states = runs.states.reshape(gradients.size, runs.states.shape[-1]).astype(np.float64)
    good = np.flatnonzero(np.isfinite(states).all(axis=1) & np.isfinite(gradients) & (gradients != 0))
    if not good.size:
        return Noise(0.0, 0.0, 0.0)
    picked = good[np.linspace(0, good.size - 1, NOISE_ROWS).round().astype(int)]
    offsets = coasting.table["offset"].to_numpy()
    return update_noise(optimizer, states[picked], gradients[picked], offsets)


def _smooth(optimizer: Optimizer, runs: Recording) -> Optimizer:
    """The optimizer, started a hair beside zeros in components that are never negative if its update has no slope."""
    initial = schedule(optimizer, num_steps=1).table
    if np.isfinite(initial["effective_learning_rate"]).all():
        return optimizer
    rows = finite_states(runs.states)
    never_negative = (rows >= 0).all(axis=0) if len(rows) else np.ones(optimizer.state_size, bool)
    first = np.asarray(optimizer.initial_state())
    at = np.flatnonzero(never_negative & (first == 0) & (np.arange(optimizer.state_size) != optimizer.clock))
    return Nudged(optimizer, tuple(int(i) for i in at)) if at.size else optimizer


def _beside_zero(optimizer: Optimizer, rest: Float[np.ndarray, " hidden"], clock: float) -> np.ndarray:
    with double_precision():
        system = FreeSystem(to_double(optimizer), clock)
        return system.embed(beside_zero(system, system.restrict(rest[None]), np.zeros(1)))[0] if system.size else rest


def _telling_step(coasting: Schedule, num_steps: int) -> float:
    """The last step, or, where the rate has faded away by then, that of its peak: the clock is held there."""
    rates = np.abs(coasting.table["effective_learning_rate"].to_numpy())
    if not np.isfinite(rates).all() or rates[-1] > FADED * rates.max():
        return float(num_steps)
    return float(np.argmax(rates))


def _rest(optimizer: Optimizer, points: FixedPoints, num_steps: int) -> tuple[Float[np.ndarray, " hidden"], bool]:
    """(the attractor, True), or (where the autonomous trajectory is at its end, False)."""
    try:
        return attractor(points), True
    except ReoptError:
        with double_precision():
            system = to_double(optimizer)
            state = jnp.asarray(system.initial_state(), jnp.float64)
            advance = eqx.filter_jit(lambda h: system.update(h, jnp.zeros((), jnp.float64)))
            for _ in range(num_steps):
                state = advance(state)
            return np.asarray(state), False
