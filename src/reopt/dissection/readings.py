"""Readings: what an examination says of each mechanism, as numbers with uncertainty and a verdict.

One row a reading: mechanism, quantity, index, value, low, high, unit, verdict. An optimizer is a deterministic
function, so most readings are derivatives, exact to rounding, and their interval is that rounding; where a reading is
an average over problems, states or a fit, the interval is that of the average, the states or the fit.

Verdicts compare one number a mechanism with two bounds, so that what is there only just is called undetermined:

| mechanism  | number                                                                         | absent | present |
|------------|--------------------------------------------------------------------------------|--------|---------|
| momentum   | memory: share of the impulse response that comes after the step of the pulse   | < .005 | > .02   |
| clipping   | 1 - slope at the end of the range over slope at zero, if the level is the same | < .05  | > .5    |
|            | in the states of all constant gradients (within a factor of 2)                 |        |         |
| schedule   | relative range of the effective learning rate along the autonomous trajectory  | < .001 | > .01   |
| adaptation | relative range of the rate at zero along the arms of constant gradients        | < .01  | > .1    |
| remainder  | 1 - R^2 of the updates written out of the mechanisms found                     | < .02  | > .1    |
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reopt.dissection.examine import Examination
from reopt.mechanisms.clipping import evaluate_update_functions
from reopt.mechanisms.distillation import Distilled, distilled_updates, explained
from reopt.optimizers.base import Optimizer

COLUMNS = ("mechanism", "quantity", "index", "value", "low", "high", "unit", "verdict")
MECHANISMS = ("momentum", "clipping", "schedule", "adaptation", "remainder")
PRESENT, ABSENT, UNDETERMINED = "present", "absent", "undetermined"
BOUNDS = {
    "momentum": (0.005, 0.02),
    "clipping": (0.05, 0.5),
    "schedule": (0.001, 0.01),
    "adaptation": (0.01, 0.1),
    "remainder": (0.02, 0.1),
}
FAINT = 1e-6  # modes with less than this share of all |alpha| are not listed
SAME_LEVEL = 2.0  # a clip's level may differ by this factor between states; a normalisation's follows the gradient


class Finding(NamedTuple):
    """A mechanism's verdict, why, and its readings: (quantity, index, value, low, high, unit)."""

    mechanism: str
    verdict: str
    why: str
    readings: list[tuple[str, int, float, float, float, str]]


def verdict(mechanism: str, number: float) -> str:
    """The verdict on a mechanism from its number, see the table above."""
    low, high = BOUNDS[mechanism]
    if not np.isfinite(number):
        return UNDETERMINED
    return ABSENT if number < low else PRESENT if number > high else UNDETERMINED


def _exact(value: float, relative: float = 1e-12) -> tuple[float, float, float]:
    if not np.isfinite(value):
        return float(value), float(value), float(value)
    half = abs(value) * relative
    return float(value), float(value - half), float(value + half)


def momentum(found: Examination) -> Finding:
    """Modes of the linearization at rest (update = -sum_j Re(alpha_j v_j), v_j <- beta_j v_j + g), and its memory.

    `memory` is sum_{k>=1} |r_k| / sum_{k>=0} |r_k| of the impulse response r: beta for a single buffer, 0 without one.
    It does not depend on eigenvectors, which mislead where the Jacobian is far from normal. What this cannot see: a
    buffer behind a step function (Lion, sign of momentum), for the update has no slope there.
    """
    table = found.modes
    seen = table[table["participation"] > FAINT]
    response = np.abs(found.impulse["linear"].to_numpy())
    total = response.sum()
    memory = float(response[1:].sum() / total) if total > 0 else 0.0
    stepwise = bool(np.any(found.clipping["jump"] != 0))
    given = UNDETERMINED if stepwise else verdict("momentum", memory)
    count, isolated = len(found.points.points), bool(found.points.isolated.all())
    rows = [
        ("fixed_points", 0, *_exact(count if isolated else np.inf), "1"),
        ("memory", 0, *_exact(memory), "1"),
        ("direct", 0, *_exact(float(table.loc[table["kind"] == "direct", "alpha_real"].sum())), "update / gradient"),
    ]
    modes = seen[seen["kind"] == "mode"]
    for index, (_, mode) in enumerate(modes.sort_values("participation", ascending=False).iterrows()):
        for part, unit in (("alpha_real", "update / gradient"), ("alpha_imag", "update / gradient")):
            rows.append((part, index, *_exact(mode[part]), unit))
        rows += [(part, index, *_exact(mode[part]), "1") for part in ("beta_real", "beta_imag")]
        rows.append(("timescale", index, *_exact(mode["timescale"]), "steps"))
    places = f"{count} fixed point{'s' * (count != 1)} at zero gradient" if isolated else "a continuum of fixed points"
    why = f"{places}; {memory:.1%} of the answer to a gradient comes after the step in which it was there"
    if stepwise:
        why = f"{places}; the update jumps with the sign of the gradient, so it has no linear response to read"
    return Finding("momentum", given, why, rows)


def clipping(found: Examination) -> Finding:
    """Where the update levels off, in the attractor and in the states that constant gradients lead to.

    `threshold` is the gradient at which the straight line through the update's slope at zero meets its level: c for a
    hard clip at c and for c tanh(g / c). Its interval is its range over states; a level that grows with the gradient
    of the state is normalisation, not clipping. `hardness` is 1 for a hard clip, 5.6 for tanh; `fraction_clipped` is
    the share of the gradients met beyond the threshold, with its interval over problems.
    """
    rest = found.clipping[found.clipping["place"] == "fixed_point"].iloc[0]
    slope, jump = float(rest["slope_at_zero"]), float(rest["jump"])
    met = np.abs(found.recording.gradients.astype(np.float64))
    if jump != 0:
        readings = [
            ("threshold", 0, 0.0, 0.0, 0.0, "gradient"),
            ("slope", 0, np.inf, np.inf, np.inf, "update / gradient"),
        ]
        readings += [("hardness", 0, 1.0, 1.0, 1.0, "1"), ("fraction_clipped", 0, *_over_problems(met > 0), "1")]
        return Finding(
            "clipping", PRESENT, f"the update depends on the sign of the gradient: it jumps by {jump:.3g}", readings
        )
    rows = [("slope", 0, *_exact(-slope), "update / gradient")]
    if not np.isfinite(slope) or slope == 0:
        fall = 0.0 if slope == 0 else np.nan
        return Finding("clipping", verdict("clipping", fall), "the update does not depend on the gradient", rows)
    fall = 1 - float(rest["saturation"])
    states = pd.concat(
        [found.clipping[found.clipping["place"].isin(["initial", "fixed_point", "visited"])], found.held]
    )
    levels = states["level"].to_numpy(float)
    known = levels[np.isfinite(levels)]
    given, why = verdict("clipping", fall), f"far out the slope has fallen by {fall:.1%}"
    threshold = float(rest["level"])
    if given != ABSENT and np.isfinite(threshold):
        low, high = float(known.min()), float(known.max())
        own = found.held[np.isfinite(found.held["level"])]
        sizes, at = own["shift"].abs().to_numpy(), own["level"].to_numpy()
        moving = sizes > 0
        follows = np.polyfit(np.log(sizes[moving]), np.log(at[moving]), 1)[0] if moving.sum() > 2 else 0.0
        if high > SAME_LEVEL * low:
            given = ABSENT if follows > 0.5 else UNDETERMINED
            why += f", but at a level that moves between {low:.3g} and {high:.3g} with the state"
            why += ": that is normalisation" if given == ABSENT else ""
        rows += [
            ("threshold", 0, threshold, low, high, "gradient"),
            ("hardness", 0, *_exact(float(rest["hardness"])), "1"),
            ("fraction_clipped", 0, *_over_problems(met > threshold), "1"),
        ]
    return Finding("clipping", given, why, rows)


def _over_problems(flags: np.ndarray) -> tuple[float, float, float]:
    """Mean and its 95% interval over problems of an array (step, problem, param)."""
    shares = flags.mean(axis=(0, 2))
    mean = float(shares.mean())
    half = 1.96 * float(shares.std(ddof=1)) / np.sqrt(shares.size) if shares.size > 1 else np.nan
    return mean, max(0.0, mean - half), min(1.0, mean + half)


def schedule(found: Examination) -> Finding:
    """The effective learning rate, minus the slope of the update at g = 0, along the autonomous trajectory."""
    rates = found.schedule.table["effective_learning_rate"].to_numpy()
    if not np.isfinite(rates).all():
        return Finding("schedule", UNDETERMINED, "the update has no slope at zero gradient along the trajectory", [])
    largest = np.abs(rates).max()
    change = float(np.ptp(rates) / largest) if largest > 0 else 0.0
    if found.clipping["jump"].ne(0).any():
        return Finding("schedule", UNDETERMINED, "the update jumps at zero gradient: its slope there says nothing", [])
    peak = int(np.argmax(rates))
    rows = [
        ("initial", 0, *_exact(rates[0]), "update / gradient"),
        ("peak", 0, *_exact(rates[peak]), "update / gradient"),
        ("peak_step", 0, float(peak), float(peak), float(peak), "steps"),
        ("final", 0, *_exact(rates[-1]), "update / gradient"),
        ("relative_range", 0, *_exact(change), "1"),
    ]
    words = str(found.schedule.summary["shape"]).replace("_", " ")
    return Finding(
        "schedule", verdict("schedule", change), f"shape: {words}; it ranges over {change:.1%} of its peak", rows
    )


def adaptation(found: Examination) -> Finding:
    """The rate at zero at the fixed points of constant gradients: its power law and how fast it follows.

    `exponent` is the slope of log rate against log |g| beyond the knee, with its t interval (0 none, -1 full
    normalisation); `time_constant` that of the mode by which the rate follows the gradient, the median over the
    gradients held, with their range. What this cannot see: normalisation without memory, which is clipping.
    """
    table, summary = found.adaptation.table, found.adaptation.summary
    share = float(table["converged"].mean())
    rows = [("converged", 0, *_exact(share), "1")]
    if share < 0.5:
        why = "under a constant gradient the state never settles: there is no fixed point at which to read a rate"
        return Finding("adaptation", UNDETERMINED, why, rows)
    rates = table.loc[table["converged"], "effective_learning_rate_at_zero"].to_numpy()
    rates = rates[np.isfinite(rates)]
    largest = np.abs(rates).max() if rates.size else 0.0
    change = float(np.ptp(rates) / largest) if largest > 0 else 0.0
    given = verdict("adaptation", change)
    if summary["exponent"] is not None:
        rows.append(("exponent", 0, summary["exponent"], summary["low"], summary["high"], "1"))
    if summary["knee"] is not None:
        rows.append(("knee", 0, *_exact(summary["knee"]), "gradient"))
    beyond = table["gradient"].abs() > (summary["knee"] or 0.0)
    follows = table.loc[beyond & table["rate_time_constant"].notna(), "rate_time_constant"].to_numpy()
    if follows.size:
        rows.append(
            ("time_constant", 0, float(np.median(follows)), float(follows.min()), float(follows.max()), "steps")
        )
    return Finding("adaptation", given, f"the rate ranges over {change:.1%} of its largest value along the arms", rows)


def distill(found: Examination, findings: dict[str, Finding], optimizer: Optimizer) -> Distilled:
    """The mechanisms that were found (verdict present) as one explicit optimizer."""
    linear, table = found.linearization, found.modes
    modes = table[table["kind"] == "mode"]
    alpha = (modes["alpha_real"] + 1j * modes["alpha_imag"]).to_numpy()
    beta = (modes["beta_real"] + 1j * modes["beta_imag"]).to_numpy()
    direct = float(-linear.direct)
    if findings["momentum"].verdict != PRESENT:
        direct, alpha, beta = direct + float(np.real(alpha).sum()), alpha[:0], beta[:0]
    clip = None
    if findings["clipping"].verdict == PRESENT:
        functions = found.update_functions
        at = functions[functions["place"] == "fixed_point"].sort_values("gradient")
        slope = float(found.clipping.loc[found.clipping["place"] == "fixed_point", "slope_at_zero"].iloc[0])
        centre = float(at.loc[at["gradient"] == 0, "update"].iloc[0])
        if slope != 0 and np.isfinite(slope):
            clip = (at["gradient"].to_numpy(), (at["update"].to_numpy() - centre) / slope)
    scheduled = _scheduled(found, optimizer) if findings["schedule"].verdict == PRESENT else None
    law, decay = None, 0.0
    if findings["adaptation"].verdict == PRESENT:
        arms = found.adaptation.table
        arms = arms[arms["converged"] & (arms["effective_learning_rate_at_zero"] > 0)]
        resting = arms.loc[arms["arm"] == "zero", "effective_learning_rate_at_zero"]
        sides = arms[arms["arm"] != "zero"].assign(size=lambda t: t["gradient"].abs())
        means = sides.groupby("size")["effective_learning_rate_at_zero"].mean()
        if len(resting) and len(means) > 2:
            law = (means.index.to_numpy(), means.to_numpy() / float(resting.iloc[0]))
            constant = [row[2] for row in findings["adaptation"].readings if row[0] == "time_constant"]
            decay = float(np.exp(-1 / constant[0])) if constant and constant[0] > 0 else 0.0
    return Distilled(alpha, beta, direct, float(linear.offset), clip, scheduled, law, decay)


def _scheduled(found: Examination, optimizer: Optimizer) -> np.ndarray | None:
    """The rate at each step, over that with the clock where the modes were read; None if that is 0.

    By the autonomous trajectory, or, with a clock, in one state with the clock at each step: a correction of a second
    moment by its clock does not show while that is 0.
    """
    states = np.stack([found.linearization.point])
    rates = found.schedule.table["effective_learning_rate"].to_numpy()
    if optimizer.clock is not None:
        converged = np.flatnonzero(found.adaptation.table["converged"] & (found.adaptation.table["gradient"] > 0))
        states = found.adaptation.states[converged[len(converged) // 2]][None] if converged.size else states
        steps = np.repeat(states, len(rates), axis=0)
        steps[:, optimizer.clock] = np.arange(len(rates))
        rates = -evaluate_update_functions(optimizer, steps, np.zeros(1))[1][:, 0]
    here = -float(evaluate_update_functions(optimizer, states, np.zeros(1))[1][0, 0])
    return rates / here if here != 0 and np.isfinite(rates).all() and np.isfinite(here) else None


def remainder(found: Examination, findings: dict[str, Finding], optimizer: Optimizer) -> Finding:
    """How much of the updates along the recorded runs the mechanisms found explain together (`r2`, 1 is all)."""
    gradients = found.recording.gradients
    true = found.recording.updates.astype(np.float64)
    with np.errstate(all="ignore"):
        value, low, high = explained(true, distilled_updates(distill(found, findings, optimizer), gradients))
    return Finding(
        "remainder",
        verdict("remainder", 1 - value),
        f"the mechanisms found explain {max(value, 0):.1%} of the updates of the recorded runs (R² = {value:.4g})",
        [("r2", 0, value, low, high, "1")],
    )


def read(found: Examination, optimizer: Optimizer) -> list[Finding]:
    """A finding for each mechanism, in the order of `MECHANISMS`."""
    findings = {one.mechanism: one for one in (momentum(found), clipping(found), schedule(found), adaptation(found))}
    return [*findings.values(), remainder(found, findings, optimizer)]


def readings_table(findings: list[Finding]) -> pd.DataFrame:
    """The readings as one tidy table."""
    rows: list[tuple[Any, ...]] = []
    for finding in findings:
        for quantity, index, value, low, high, unit in finding.readings:
            rows.append((finding.mechanism, quantity, index, value, low, high, unit, finding.verdict))
        if not finding.readings:
            rows.append((finding.mechanism, "none", 0, np.nan, np.nan, np.nan, "1", finding.verdict))
    return pd.DataFrame(rows, columns=list(COLUMNS))
