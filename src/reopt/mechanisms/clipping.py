"""Clipping: where the update levels off, at rest and in the states that constant gradients lead to."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reopt.mechanisms.base import (
    ABSENT,
    PRESENT,
    UNDETERMINED,
    Bounds,
    Finding,
    Findings,
    Mechanism,
    Row,
    exact,
    unless_rough,
)
from reopt.mechanisms.interventions import intervene, removed
from reopt.mechanisms.update_function import common_level

if TYPE_CHECKING:
    from reopt.examination.examination import Examination

BOUNDS = Bounds(absent=0.05, present=0.5)
SAME_LEVEL = 2.0  # a clip's level may differ by this factor between states; a normalisation's follows the gradient


def measure(found: "Examination", findings: Findings) -> Finding:
    """Where the update levels off, in the attractor and in the states that constant gradients lead to.

    `threshold` is the gradient at which the straight line through the update's slope at zero meets its level: c for a
    hard clip at c and for c tanh(g / c). Its interval is its range over states; a level that grows with the gradient
    of the state is normalisation, not clipping. `hardness` is 1 for a hard clip, 5.6 for tanh; `fraction_clipped` is
    the share of the gradients met beyond the threshold, with its interval over problems. `saturated_in_runs` is the
    share of the gradients met at which the update, in the state of the run, has levelled off
    (`reopt.mechanisms.operating_point`), whatever the reason.
    """
    del findings
    finding = _at_rest(found)
    share = found.operating.saturated
    if not np.isfinite(share):
        return finding
    told = f"in the runs the update has levelled off for {share:.1%} of the gradients"
    rows = [*finding.readings, ("saturated_in_runs", 0, *exact(share), "1")]
    return finding._replace(why=f"{told}; {finding.why}", readings=rows)


def _at_rest(found: "Examination") -> Finding:
    """In the attractor and the states of constant gradients."""
    rest = found.clipping[found.clipping["place"] == "fixed_point"].iloc[0]
    slope, jump = float(rest["slope_at_zero"]), float(rest["jump"])
    met = np.abs(found.met.gradients.astype(np.float64))
    rows: list[Row]
    if jump != 0:
        rows = [
            ("threshold", 0, 0.0, 0.0, 0.0, "gradient"),
            ("slope", 0, np.inf, np.inf, np.inf, "update / gradient"),
            ("hardness", 0, 1.0, 1.0, 1.0, "1"),
            ("fraction_clipped", 0, *_over_problems(met, 0.0), "1"),
        ]
        given, rough = unless_rough(found, PRESENT)
        why = f"beside zero only the sign of the gradient counts: the update is {-jump / 2:+.3g} for small negative"
        why = f"{why} gradients and {jump / 2:+.3g} for positive ones, beside what it has without a gradient"
        return Finding("clipping", given, f"{why}; {rough}" if rough else why, rows)
    rows = [("slope", 0, *exact(-slope), "update / gradient")]
    if not np.isfinite(slope) or slope == 0:
        return _at_finite_gradients(found, rows, slope)
    level = common_level(pd.concat([found.clipping, found.far.held]))
    fallen = round(level.fall, 4) + 0.0  # no "-0.0%"
    given, why = BOUNDS.verdict(level.fall), f"as gradients grow the slope of the update falls by {fallen:.1%}"
    unit, threshold, low, high, hardness = "gradient", level.threshold, level.low, level.high, level.hardness
    if level.seen_in == "amplified":
        why += " (in states with a huge second moment, which otherwise hides a clip)"
        behind = _normalised_clip(found)
        if given != PRESENT and behind is not None:
            given, unit, hardness = PRESENT, "gradient / its root mean square", 1.0
            threshold, low, high = behind
            why = "the update bends sharply at a level that follows the constant gradient: a clip after normalisation"
            met = np.full_like(met, np.nan)
    if given != ABSENT and np.isfinite(threshold):
        if high > SAME_LEVEL * low:
            given = ABSENT if level.follows > 0.5 else UNDETERMINED
            why += f", but at a level that moves between {low:.3g} and {high:.3g} with the state"
            why += ": that is normalisation" if given == ABSENT else ""
        rows += [("threshold", 0, threshold, low, high, unit), ("hardness", 0, *exact(hardness), "1")]
        if np.isfinite(met).any():
            rows.append(("fraction_clipped", 0, *_over_problems(met, threshold), "1"))
    given, rough = unless_rough(found, given)
    return Finding("clipping", given, f"{why}; {rough}" if rough else why, rows)


def _at_finite_gradients(found: "Examination", rows: list[Row], slope: float) -> Finding:
    """Without a slope at rest: by the largest secant, in the states that gradients of the sizes met lead to."""
    why = "the update has no slope at zero gradient"
    known = np.isfinite(slope) and not found.finite.silent
    level = found.finite.saturation() if known else None
    given = BOUNDS.verdict(level.fall if level else np.nan if known or slope != 0 else 0.0)
    if level:
        why += f"; for large gradients its slope is {level.fall:.1%} below the largest ratio of update to gradient"
        if given != ABSENT and level.high > SAME_LEVEL * level.low:
            given, apart = UNDETERMINED, f"{level.low:.3g} and {level.high:.3g}"
            why += f", but it levels off between {apart} with the state: a clip or a normalisation"
        if given != ABSENT:
            rows = [*rows, ("threshold", 0, level.threshold, level.low, level.high, "gradient")]
    given, rough = unless_rough(found, given)
    return Finding("clipping", given, f"{why}; {rough}" if rough else why, rows)


def _normalised_clip(found: "Examination") -> tuple[float, float, float] | None:
    """(median, least, largest) threshold of a clip of the normalised gradient: level / (sqrt(decay) |g*|) under g*.

    There the rate at zero is rate / (sqrt(decay) |g*|), and the level the gradient at which the normalised one is at
    the threshold, by that rate. Only where the update ends in a corner in most states.
    """
    held = found.far.held[(found.far.held["place"] == "held") & (found.far.held["shift"] != 0)]
    with_corner = held[np.isfinite(held["corner"]) & np.isfinite(held["threshold"])]
    if len(held) < 4 or len(with_corner) < 0.5 * len(held):
        return None
    far = with_corner[with_corner["shift"].abs() > with_corner["shift"].abs().median()]
    follows = found.far.middle.table["rate_time_constant"]
    decay = float(np.exp(-1 / follows.median())) if follows.notna().any() else 1.0
    values = (far["threshold"] / (far["shift"].abs() * np.sqrt(decay))).to_numpy()
    if not len(values) or values.max() > 1.1 * values.min():
        return None
    return float(np.median(values)), float(values.min()), float(values.max())


def _over_problems(met: np.ndarray, beyond: float) -> tuple[float, float, float]:
    """Share of the |gradients| (step, problem, param) met that are beyond, and its 95% interval over problems."""
    known = np.isfinite(met)
    flags = np.where(known, met > beyond, 0)
    shares = flags.sum(axis=(0, 2)) / np.maximum(known.sum(axis=(0, 2)), 1)
    mean = float(shares.mean())
    half = 1.96 * float(shares.std(ddof=1)) / np.sqrt(shares.size) if shares.size > 1 else np.nan
    return mean, max(0.0, mean - half), min(1.0, mean + half)


MECHANISM = Mechanism(
    name="clipping",
    number="fall of the update's slope from zero to large gradients, if it saturates at one level in every state",
    bounds=BOUNDS,
    measure=measure,
    order=20,
    remove=lambda optimizer, linearization: intervene(optimizer, linearization, removed("clipping")),
)
