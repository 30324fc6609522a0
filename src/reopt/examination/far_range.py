"""Far beyond the gradients met, where a mechanism that runs hardly touch still shows: what the verdicts look at.

Beside them the noise in the updates, in which no mechanism can be read.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from reopt.dynamics.pca import PCA
from reopt.dynamics.record import Recording
from reopt.examination.reference import Reference
from reopt.mechanisms.constant_gradients import Adaptation, adaptation, even_part
from reopt.mechanisms.effective_rate import Schedule
from reopt.mechanisms.noise import Noise, update_noise
from reopt.mechanisms.operating_point import even_state_at_end
from reopt.mechanisms.update_function import (
    Place,
    clipping,
    common_level,
    evaluate_update_functions,
    gradient_limit,
)
from reopt.optimizers.base import Optimizer

REACH = 100.0  # how far beyond the largest gradient met an update function is followed
WIDE = 6.0  # decades of constant gradients below that reach
AMPLIFICATIONS = (1e6, 1e8, 1e10)  # of a second moment
NOISE_ROWS = 256  # places at which noise is looked for


class FarRange(NamedTuple):
    """`held` is the table of clipping in the even parts of the states of constant gradients over a wide range, and, for
    an optimizer that normalises, in states with a huge second moment ("amplified", whose states are `amplified`).
    `arms` is the sweep of constant gradients by which adaptation is read, `middle` its even part; `reach` the largest
    gradient held."""

    held: pd.DataFrame
    amplified: Float[np.ndarray, "amplified hidden"]
    arms: Adaptation
    middle: Adaptation
    reach: float


def reach_of(runs: Recording) -> float:
    """The largest |gradient| up to which update functions are followed."""
    return REACH * gradient_limit(runs.gradients, factor=1.0)


def far_range(
    optimizer: Optimizer,
    runs: Recording,
    reference: Reference,
    near: pd.DataFrame,
    *,
    pca: PCA,
    clock: float,
    gradients: int,
    quantiles: tuple[float, float],
) -> FarRange:
    """What the optimizer does up to 100 times the largest gradient met.

    **Arguments:** `near` is the table of clipping at the places near the runs; `gradients` are held a sign;
    `quantiles`, low and high, of the |gradients| met are the range that constant gradients cover at least.
    """
    smallest, largest = (gradient_limit(runs.gradients, quantile=part, factor=1.0) for part in quantiles)
    reach = reach_of(runs)

    def sweep(limit: float, decades: float) -> Adaptation:
        held = {"num_gradients": gradients, "limit": limit, "decades": decades, "from_start": False}
        return adaptation(optimizer, point=reference.state, pca=pca, clock=clock, **held)  # type: ignore[arg-type]

    wide = even_part(optimizer, sweep(reach, WIDE), clock=clock)
    places = [
        Place("held", gradient, state)
        for gradient, state, converged in zip(wide.table["gradient"], wide.states, wide.table["converged"], strict=True)
        if converged
    ]
    amplified = _amplified(optimizer, wide, runs)
    met = gradient_limit(runs.gradients)
    looked_at = [*places, *amplified]
    held = clipping(optimizer, looked_at, runs.gradients, limit=met, reach=reach) if looked_at else near.iloc[:0]
    level = common_level(pd.concat([near, held]))
    # Beyond a clip a larger gradient is no larger to what comes after it; near a soft one it already is less so.
    # Without one, a power law is followed far beyond the gradients met, well above its knee.
    limit = min(reach, 0.1 * level.threshold) if level.threshold > 0 else reach
    limit = limit if amplified else largest
    arms = sweep(limit, float(np.clip(np.log10(limit / min(smallest, 1e-3 * limit)), 1.0, 8.0)))
    states = np.array([place.state for place in amplified]).reshape(len(amplified), reference.state.size)
    return FarRange(held, states, arms, even_part(optimizer, arms, clock=clock), reach)


def _amplified(optimizer: Optimizer, wide: Adaptation, runs: Recording) -> list[Place]:
    """The even part of the state under the largest gradient held, times AMPLIFICATIONS, if the rate follows a power
    law there: then the optimizer divides by a moment that has no bound. None otherwise.

    Where no constant gradient leads to a fixed point, as with AdaGrad's sum, it is the state at the end of a run.
    """
    if not optimizer.state_size:
        return []
    good = np.flatnonzero(wide.table["converged"] & (wide.table["gradient"] > 0))
    if good.size:
        farthest = wide.states[good[-1]]
    elif not wide.table["converged"].any():
        farthest = even_state_at_end(optimizer, runs)
    else:
        return []
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


def noise_in(optimizer: Optimizer, runs: Recording, trajectory: Schedule) -> Noise:
    """The noise at a few hundred of the gradients and states met."""
    gradients = runs.gradients[:, : runs.states.shape[1]].reshape(-1).astype(np.float64)
    states = runs.states.reshape(gradients.size, runs.states.shape[-1]).astype(np.float64)
    good = np.flatnonzero(np.isfinite(states).all(axis=1) & np.isfinite(gradients) & (gradients != 0))
    if not good.size:
        return Noise(0.0, 0.0, 0.0)
    picked = good[np.linspace(0, good.size - 1, NOISE_ROWS).round().astype(int)]
    offsets = trajectory.table["offset"].to_numpy()
    return update_noise(optimizer, states[picked], gradients[picked], offsets)
