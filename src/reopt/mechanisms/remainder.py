"""Remainder: what the mechanisms found leave unexplained of the updates of the recorded runs."""

from typing import TYPE_CHECKING

import numpy as np

from reopt.mechanisms.base import PRESENT, UNDETERMINED, Bounds, Finding, Findings, Mechanism, unless_rough
from reopt.mechanisms.distillation import Distilled, distilled_updates, explained, noise_share, orders
from reopt.mechanisms.update_function import evaluate_update_functions

if TYPE_CHECKING:
    from reopt.examination.examination import Examination

BOUNDS = Bounds(absent=0.02, present=0.1)
FEW = 8  # problems by which the order of the mechanisms is chosen


def measure(found: "Examination", findings: Findings) -> Finding:
    """How much of the updates along the recorded runs the mechanisms found explain together (`r2`, 1 is all).

    R^2 = 1 - sum (u - u_distilled)^2 / sum u^2, every step weighted the same, with a bootstrap interval over problems;
    of the orders in which the mechanisms can stand, the best on the first problems. `noise` is the share of the
    updates that no smooth function of gradient, state and step could say (`reopt.mechanisms.noise`), to two standard
    errors; the verdict is on what is left beside it. What it cannot see: a mechanism that these runs do not use.
    """
    true = found.met.updates.astype(np.float64)
    gradients = found.met.gradients[:, : true.shape[1]]
    finite = np.isfinite(true).all(axis=2)
    if not finite.all(axis=0).any():  # every run diverged: up to where half of them had
        kept = int(np.sum(np.logical_and.accumulate(2 * finite.sum(axis=1) >= finite.shape[1])))
        true, gradients = true[:kept], gradients[:kept]
    candidates = orders(distill(found, findings))
    with np.errstate(all="ignore"):
        few = slice(0, FEW)
        tried = [
            explained(true[:, few], distilled_updates(one, gradients[:, few]), resamples=1)[0] for one in candidates
        ]
        best = candidates[int(np.argmax(np.nan_to_num(tried, nan=-np.inf)))]
        value, low, high = explained(true, distilled_updates(best, gradients))
        noise = noise_share(true, found.noise.level)
    most_noise = min(noise * (1 + found.noise.error), 1.0)
    given = BOUNDS.verdict(1 - value - noise)
    if given == PRESENT and not 1 - high - most_noise > BOUNDS.present:
        given = UNDETERMINED
    if given == PRESENT:  # what is put together of slopes that mean nothing leaves a gap of its own
        given, _ = unless_rough(found, given)
    why = f"the mechanisms found explain {max(value, 0):.1%} of the updates of the recorded runs (R² = {value:.4g})"
    if noise > 0:
        why += f"; {noise:.1%} of them is noise that nothing could explain"
    spread = (noise, max(noise * (1 - found.noise.error), 0.0), most_noise)
    return Finding("remainder", given, why, [("r2", 0, value, low, high, "1"), ("noise", 0, *spread, "1")])


def distill(found: "Examination", findings: Findings) -> Distilled:
    """The mechanisms that were found (verdict present) as one explicit optimizer."""
    linear, table = found.linearization, found.modes
    modes = table[table["kind"] == "mode"]
    alpha = (modes["alpha_real"] + 1j * modes["alpha_imag"]).to_numpy()
    beta = (modes["beta_real"] + 1j * modes["beta_imag"]).to_numpy()
    direct = float(-linear.direct)
    if found.switching is not None:
        jump = float(found.clipping.loc[found.clipping["place"] == "fixed_point", "jump"].iloc[0])
        size = -0.5 * jump
        alpha, beta, direct = size * found.switching.alpha, found.switching.beta, size * found.switching.direct
    if findings["momentum"].verdict != PRESENT:
        direct, alpha, beta = direct + float(np.real(alpha).sum()), alpha[:0], beta[:0]
    clip = None
    if findings["clipping"].verdict == PRESENT and found.switching is not None:
        clip = (np.array([-1e-30, 0.0, 1e-30]), np.array([-1.0, 0.0, 1.0]))
    elif findings["clipping"].verdict == PRESENT:
        clip = _clip_function(found)
    # A correction of a second moment by its clock does not show at rest, where no schedule is found then.
    corrected = found.optimizer.clock is not None and findings["adaptation"].verdict == PRESENT
    scheduled = _scheduled(found) if findings["schedule"].verdict == PRESENT or corrected else None
    law, decay = None, 0.0
    if findings["adaptation"].verdict == PRESENT:
        arms = found.far.middle.table
        arms = arms[arms["converged"] & (arms["effective_learning_rate_at_zero"] > 0)]
        resting = arms.loc[arms["arm"] == "zero", "effective_learning_rate_at_zero"]
        sides = arms[arms["arm"] != "zero"].assign(size=lambda t: t["gradient"].abs())
        means = sides.groupby("size")["effective_learning_rate_at_zero"].mean()
        if len(resting) and len(means) > 2:
            law = (means.index.to_numpy(), means.to_numpy() / float(resting.iloc[0]))
            constant = [row[2] for row in findings["adaptation"].readings if row[0] == "time_constant"]
            decay = float(np.exp(-1 / constant[0])) if constant and constant[0] > 0 else 0.0
    # At rest behind a sign the update is one of the two steps, which is no offset.
    offset = 0.0 if found.switching is not None else float(linear.offset)
    return Distilled(alpha, beta, direct, offset, clip, scheduled, law, decay)


def _clip_function(found: "Examination") -> tuple[np.ndarray, np.ndarray] | None:
    """(gradients, phi): the update function, over its slope, at rest, or where a second moment does not bend it."""
    amplified = found.far.held[found.far.held["place"] == "amplified"]
    if len(amplified):
        state, limit = found.far.amplified[-1], float(found.far.reach)
        half = np.geomspace(1e-6 * limit, limit, 2000)
        gradients = np.concatenate([-half[::-1], [0.0], half])
        updates, slopes = (a[0] for a in evaluate_update_functions(found.optimizer, state[None], gradients))
        slope, centre = slopes[len(half)], updates[len(half)]
        return (gradients, (updates - centre) / slope) if slope != 0 and np.isfinite(slope) else None
    at = found.update_functions[found.update_functions["place"] == "fixed_point"].sort_values("gradient")
    slope = float(found.clipping.loc[found.clipping["place"] == "fixed_point", "slope_at_zero"].iloc[0])
    centre = float(at.loc[at["gradient"] == 0, "update"].iloc[0])
    if slope == 0 or not np.isfinite(slope):
        return None
    return at["gradient"].to_numpy(), (at["update"].to_numpy() - centre) / slope


def _scheduled(found: "Examination") -> np.ndarray | None:
    """The rate at each step, over that with the clock where the modes were read; None if that is 0.

    By the autonomous trajectory, or, with a clock, in one state of the arms with the clock at each step: a correction
    of a second moment by its clock does not show while that is 0.
    """
    rates = found.schedule.table["effective_learning_rate"].to_numpy()
    if found.switching is not None:
        jump = float(found.clipping.loc[found.clipping["place"] == "fixed_point", "jump"].iloc[0])
        return rates / (-0.5 * jump)
    rest = np.stack([found.linearization.point])
    here = _rates(found, rest)[0]
    if found.optimizer.clock is not None:
        arms = found.far.middle
        converged = np.flatnonzero(arms.table["converged"] & (arms.table["gradient"] > 0))
        states = arms.states[converged[len(converged) // 2]][None] if converged.size else rest
        steps = np.repeat(states, len(rates), axis=0)
        steps[:, found.optimizer.clock] = np.arange(len(rates))
        rates = _rates(found, steps)
        # The law of adaptation is read with the clock of the arms: its share in these rates is taken off.
        at_rest = np.where(np.arange(rest.shape[1]) == found.optimizer.clock, states, rest)
        with np.errstate(all="ignore"):
            here *= _rates(found, states)[0] / _rates(found, at_rest)[0]
    return rates / here if here != 0 and np.isfinite(rates).all() and np.isfinite(here) else None


def _rates(found: "Examination", states: np.ndarray) -> np.ndarray:
    """Minus the slope at zero gradient in each state."""
    with np.errstate(all="ignore"):
        return -evaluate_update_functions(found.smooth, states, np.zeros(1))[1][:, 0]


MECHANISM = Mechanism(
    name="remainder",
    number="1 - R^2 of the updates as predicted from the mechanisms found",
    bounds=BOUNDS,
    measure=measure,
    order=1000,
)
