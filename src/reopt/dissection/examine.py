"""All analyses of one optimizer on one task, in memory; the pipeline runs the same ones as rules.

Where the pipeline knows what it examines, this takes what comes: an optimizer without a stable state (AdaGrad), with
a state at which derivatives do not exist (a second moment of 0 under a root), with a schedule that ends at 0.
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float

from reopt.dynamics.fixed_points import FixedPoints, attractor, find_fixed_points, search_seeds
from reopt.dynamics.free_system import TINY, FreeSystem, beside_zero
from reopt.dynamics.linearization import Linearization, linearize
from reopt.dynamics.pca import PCA, pca
from reopt.dynamics.precision import double_precision, to_double
from reopt.dynamics.record import Recording, finite_states, record
from reopt.errors import ReoptError
from reopt.mechanisms.adaptation import Adaptation, adaptation
from reopt.mechanisms.clipping import (
    Place,
    clipping,
    gradient_density,
    gradient_grid,
    gradient_limit,
    places,
    update_functions,
)
from reopt.mechanisms.momentum import impulse_response, modes, modes_table
from reopt.mechanisms.schedule import Schedule, schedule
from reopt.optimizers.base import Optimizer
from reopt.tasks.base import Task

REACH = 100.0  # how far beyond the largest gradient met an update function is followed
LAGS = 400  # of the impulse response
FADED = 1e-3  # a rate below this share of its peak is no place to read other mechanisms at


class Nudged(Optimizer):
    """The same optimizer, started a hair away from zeros in the components `at`."""

    inner: Optimizer
    at: tuple[int, ...] = eqx.field(static=True)

    @property
    def state_names(self) -> tuple[str, ...]:
        return self.inner.state_names

    @property
    def clock(self) -> int | None:
        return self.inner.clock

    def initial_state(self) -> Array:
        return self.inner.initial_state().at[jnp.asarray(self.at)].add(TINY)

    def update(self, state: Array, gradient: Array) -> Array:
        return self.inner.update(state, gradient)

    def readout(self, state: Array, gradient: Array) -> Array:
        return self.inner.readout(state, gradient)


class Examination(NamedTuple):
    """What was found; `settled` says that `linearization.point` is a stable fixed point, not just where the
    autonomous trajectory was at its end. `held` is `clipping` in the states of the adaptation arms, `clock` the
    step at which a clock was held."""

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
    arms = adaptation(
        smooth,
        point=rest,
        limit=largest,
        decades=float(np.clip(np.log10(largest / smallest), 1.0, 8.0)),
        pca=basis,
        clock=clock,
    )
    visited = tuple(sorted({1, num_steps // 10, num_steps // 2}))
    where = places(smooth, point=rest, states=runs.states, pca=basis, linearization=linear, visited_steps=visited)
    grid = gradient_grid(
        gradient_limit(runs.gradients),
        linear_limit=gradient_limit(runs.gradients, quantile=0.9, factor=1.0),
    )
    reach = REACH * largest
    arm_places = [
        Place("held", gradient, state)
        for gradient, state, converged in zip(arms.table["gradient"], arms.states, arms.table["converged"], strict=True)
        if converged
    ]
    looked_at = clipping(smooth, [*where, *arm_places], runs.gradients, limit=reach)
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
        clipping=looked_at[looked_at["place"] != "held"].reset_index(drop=True),
        held=looked_at[looked_at["place"] == "held"].reset_index(drop=True),
        density=gradient_density(runs.gradients),
        schedule=schedule(smooth, num_steps=num_steps, point=rest, pca=basis),
        adaptation=arms,
    )


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
