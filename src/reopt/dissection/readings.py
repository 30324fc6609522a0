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
from reopt.mechanisms.clipping import common_level, evaluate_update_functions
from reopt.mechanisms.distillation import Distilled, distilled_updates, explained, noise_share, orders
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


FEW = 8  # problems by which the order of the mechanisms is chosen
LONG = 4000  # lags over which memory behind a step is summed
AT_ONCE = 1e-12  # a |beta| that is no delay
Row = tuple[str, int, float, float, float, str]


class Finding(NamedTuple):
    """A mechanism's verdict, why, and its readings: (quantity, index, value, low, high, unit)."""

    mechanism: str
    verdict: str
    why: str
    readings: list[Row]


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

    A row of `alpha_real`, `alpha_imag` (update / gradient), `beta_real`, `beta_imag` (1) and `timescale` (steps,
    -1 / ln |beta|) a mode, by falling |alpha|; a complex pole is a pair of modes, conjugate to each other, each with
    half of the alpha of the one real buffer. What the update takes from a gradient at once is the mode with beta = 0
    (Nesterov's: lr) and the reading `direct`. `memory` is sum_{k>=1} |r_k| / sum_{k>=0} |r_k| of the impulse response
    r: beta for a single buffer, 0 without one. It does not depend on eigenvectors, which mislead where the Jacobian is
    far from normal.

    Where the update jumps with the sign of the gradient (sign-SGD, Lion) there is no slope; then the modes are those
    of what the sign is taken of, or of what comes after it (`reopt.mechanisms.switching`), and alpha is in units of the
    response to a gradient at once: behind a step only ratios can be seen.

    What this cannot see: modes with less than FAINT of all |alpha|; the single alphas of modes that coincide.
    """
    table = found.modes
    count, isolated = len(found.points.points), bool(found.points.isolated.all())
    places = f"{count} fixed point{'s' * (count != 1)} at zero gradient" if isolated else "a continuum of fixed points"
    rows: list[Row] = [("fixed_points", 0, *_exact(count if isolated else np.inf), "1")]
    unit = "update / gradient"
    if found.switching is not None:
        step = found.switching
        alpha, beta, direct, unit = step.alpha, step.beta, step.direct, "1"
        response = np.abs(np.real(beta[None, :] ** np.arange(1, LONG)[:, None] @ alpha))
        total = 1 + float(response.sum())
        memory, where = float(response.sum() / total), "behind" if step.behind else "after"
        told = f"buffers {where} the step by which the update follows a sign" if alpha.size else "no buffer by the step"
    else:
        alpha = (table["alpha_real"] + 1j * table["alpha_imag"]).to_numpy()
        beta = (table["beta_real"] + 1j * table["beta_imag"]).to_numpy()
        # Without a delay a mode is what the update takes from the gradient at once, by whatever way it came.
        at_once = np.abs(beta) < AT_ONCE
        direct = float(np.real(alpha[at_once]).sum())
        alpha, beta = alpha[~at_once], beta[~at_once]
        lags = np.abs(found.impulse["linear"].to_numpy())
        memory, told = (float(lags[1:].sum() / lags.sum()) if lags.sum() > 0 else 0.0), ""
    given, rough = _unless_rough(found, verdict("momentum", memory))
    rows += [("memory", 0, *_exact(memory), "1"), ("direct", 0, *_exact(direct), unit)]
    alpha, beta = np.append(alpha, direct), np.append(beta, 0)
    share = np.abs(alpha) / max(np.abs(alpha).sum(), 1e-300)
    index = 0
    for i in np.argsort(-share, kind="stable"):
        if share[i] > FAINT:
            rows += [
                ("alpha_real", index, *_exact(alpha[i].real), unit),
                ("alpha_imag", index, *_exact(alpha[i].imag), unit),
            ]
            rows += [("beta_real", index, *_exact(beta[i].real), "1"), ("beta_imag", index, *_exact(beta[i].imag), "1")]
            size = abs(beta[i])
            timescale = 0.0 if size == 0 else -1 / np.log(size) if size != 1 else np.inf
            rows.append(("timescale", index, *_exact(timescale), "steps"))
            index += 1
    why = f"{places}; {memory:.1%} of the answer to a gradient comes after the step in which it was there"
    return Finding("momentum", given, "; ".join(part for part in (why, told, rough) if part), rows)


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
    rows: list[Row]
    if jump != 0:
        rows = [
            ("threshold", 0, 0.0, 0.0, 0.0, "gradient"),
            ("slope", 0, np.inf, np.inf, np.inf, "update / gradient"),
            ("hardness", 0, 1.0, 1.0, 1.0, "1"),
            ("fraction_clipped", 0, *_over_problems(met, 0.0), "1"),
        ]
        given, rough = _unless_rough(found, PRESENT)
        why = f"the update depends on the sign of the gradient: it jumps by {jump:.3g}"
        return Finding("clipping", given, f"{why}; {rough}" if rough else why, rows)
    rows = [("slope", 0, *_exact(-slope), "update / gradient")]
    if not np.isfinite(slope) or slope == 0:
        fall = 0.0 if slope == 0 else np.nan
        given, rough = _unless_rough(found, verdict("clipping", fall))
        return Finding(
            "clipping", given, "; ".join(["the update has no slope at zero gradient", rough][: 1 + bool(rough)]), rows
        )
    level = common_level(pd.concat([found.clipping, found.held]))
    given, why = verdict("clipping", level.fall), f"far out the slope has fallen by {level.fall:.1%}"
    unit, threshold, low, high, hardness = "gradient", level.threshold, level.low, level.high, level.hardness
    if level.seen_in == "amplified":
        why += " in states with a huge second moment"
        behind = _normalised_clip(found)
        if given != PRESENT and behind is not None:
            given, unit, hardness = PRESENT, "gradient / its root mean square", 1.0
            threshold, low, high = behind
            why = "the update ends in a corner at a level that follows the gradient held: a clip after normalisation"
            met = np.full_like(met, np.nan)
    if given != ABSENT and np.isfinite(threshold):
        if high > SAME_LEVEL * low:
            given = ABSENT if level.follows > 0.5 else UNDETERMINED
            why += f", but at a level that moves between {low:.3g} and {high:.3g} with the state"
            why += ": that is normalisation" if given == ABSENT else ""
        rows += [("threshold", 0, threshold, low, high, unit), ("hardness", 0, *_exact(hardness), "1")]
        if np.isfinite(met).any():
            rows.append(("fraction_clipped", 0, *_over_problems(met, threshold), "1"))
    given, rough = _unless_rough(found, given)
    return Finding("clipping", given, f"{why}; {rough}" if rough else why, rows)


def _normalised_clip(found: Examination) -> tuple[float, float, float] | None:
    """(median, least, largest) threshold of a clip of the normalised gradient: level / (sqrt(decay) |g*|) under g*.

    There the rate at zero is rate / (sqrt(decay) |g*|), and the level the gradient at which the normalised one is at
    the threshold, by that rate. Only where the update ends in a corner in most states.
    """
    held = found.held[(found.held["place"] == "held") & (found.held["shift"] != 0)]
    with_corner = held[np.isfinite(held["corner"]) & np.isfinite(held["level"])]
    if len(held) < 4 or len(with_corner) < 0.5 * len(held):
        return None
    far = with_corner[with_corner["shift"].abs() > with_corner["shift"].abs().median()]
    follows = found.middle.table["rate_time_constant"]
    decay = float(np.exp(-1 / follows.median())) if follows.notna().any() else 1.0
    values = (far["level"] / (far["shift"].abs() * np.sqrt(decay))).to_numpy()
    if not len(values) or values.max() > 1.1 * values.min():
        return None
    return float(np.median(values)), float(values.min()), float(values.max())


def _unless_rough(found: Examination, given: str) -> tuple[str, str]:
    """The verdict, or undetermined and why where the update is too rough for derivatives to mean anything."""
    if found.noise.rough == 0:
        return given, ""
    ratio = found.noise.rough / found.noise.size if found.noise.size > 0 else np.inf
    words = f"the update is no smooth function of gradient and state (noise of {ratio:.2g} of its size)"
    return UNDETERMINED, f"{words}: slopes mean nothing"


def _over_problems(met: np.ndarray, beyond: float) -> tuple[float, float, float]:
    """Share of the |gradients| (step, problem, param) met that are beyond, and its 95% interval over problems."""
    known = np.isfinite(met)
    flags = np.where(known, met > beyond, 0)
    shares = flags.sum(axis=(0, 2)) / np.maximum(known.sum(axis=(0, 2)), 1)
    mean = float(shares.mean())
    half = 1.96 * float(shares.std(ddof=1)) / np.sqrt(shares.size) if shares.size > 1 else np.nan
    return mean, max(0.0, mean - half), min(1.0, mean + half)


def schedule(found: Examination) -> Finding:
    """The effective learning rate, minus the slope of the update at g = 0, along the autonomous trajectory.

    `initial`, `peak`, `final` (update / gradient; half the jump, in units of the update, where it has only that),
    `peak_step` (steps), and `relative_range`, (highest - lowest) / largest |rate|, by which the verdict goes. A bias
    correction (Adam's) is part of it. What it cannot see: a schedule that only shows while gradients come.
    """
    rates = found.schedule.table["effective_learning_rate"].to_numpy()
    if not np.isfinite(rates).all():
        return Finding("schedule", UNDETERMINED, "the update has no slope at zero gradient along the trajectory", [])
    largest = np.abs(rates).max()
    change = float(np.ptp(rates) / largest) if largest > 0 else 0.0
    steps = found.clipping["slope_at_zero"].eq(0).all()  # then the rate is half the jump
    if found.clipping["jump"].ne(0).any() and not steps:
        return Finding("schedule", UNDETERMINED, "the update jumps at zero gradient: its slope there says nothing", [])
    peak = int(np.argmax(rates))
    rows: list[Row] = [
        ("initial", 0, *_exact(rates[0]), "update / gradient"),
        ("peak", 0, *_exact(rates[peak]), "update / gradient"),
        ("peak_step", 0, float(peak), float(peak), float(peak), "steps"),
        ("final", 0, *_exact(rates[-1]), "update / gradient"),
        ("relative_range", 0, *_exact(change), "1"),
    ]
    words = str(found.schedule.summary["shape"]).replace("_", " ")
    given, rough = _unless_rough(found, verdict("schedule", change))
    why = f"shape: {words}; it ranges over {change:.1%} of its peak"
    return Finding("schedule", given, f"{why}; {rough}" if rough else why, rows)


def adaptation(found: Examination) -> Finding:
    """The rate at zero at the fixed points of constant gradients: its power law and how fast it follows.

    The rate is that in the even part of the states under g and -g (`reopt.mechanisms.adaptation.even_part`).
    `exponent` is the slope of log rate against log |g| beyond the knee, with its t interval (0 none, -1 full
    normalisation); `knee` (gradient) where the rate has fallen to 1/sqrt(2); `time_constant` (steps) that of the mode
    by which the rate follows the gradient, the median over the gradients held, with their range, and `beta2` =
    exp(-1 / time_constant); `converged` the share of held gradients with an attracting fixed point. What this cannot
    see: normalisation without memory, which is clipping; an optimizer without a fixed point (AdaGrad), of which it
    says so.
    """
    table, summary = found.middle.table, found.middle.summary
    share = float(table["converged"].mean())
    rows: list[Row] = [("converged", 0, *_exact(share), "1")]
    if share < 0.5:
        why = "under a constant gradient the state never settles: there is no fixed point at which to read a rate"
        return Finding("adaptation", UNDETERMINED, why, rows)
    good = table[table["converged"]]
    rates = good["effective_learning_rate_at_zero"].to_numpy()
    rates = rates[np.isfinite(rates)]
    largest = np.abs(rates).max() if rates.size else 0.0
    change = float(np.ptp(rates) / largest) if largest > 0 else 0.0
    given, rough = _unless_rough(found, verdict("adaptation", change))
    if summary["exponent"] is not None:
        rows.append(("exponent", 0, summary["exponent"], summary["low"], summary["high"], "1"))
    if summary["knee"] is not None:
        rows.append(("knee", 0, *_exact(summary["knee"]), "gradient"))
    beyond = good["gradient"].abs() > (summary["knee"] or 0.0)
    follows = good.loc[beyond & good["rate_time_constant"].notna(), "rate_time_constant"].to_numpy()
    if follows.size and given != ABSENT:
        constant = [float(np.median(follows)), float(follows.min()), float(follows.max())]
        rows.append(("time_constant", 0, constant[0], constant[1], constant[2], "steps"))
        value, low, high = (float(np.exp(-1 / steps)) if steps > 0 else 0.0 for steps in constant)
        rows.append(("beta2", 0, value, low, high, "1"))
    why = f"the rate ranges over {change:.1%} of its largest value along the arms"
    own = found.adaptation.table["effective_learning_rate_at_zero"].abs()
    if given == ABSENT and own.min() < 0.9 * own.max():
        why += "; that it falls more in the states of the gradients held is the clip behind the buffers that they fill"
    return Finding("adaptation", given, f"{why}; {rough}" if rough else why, rows)


def distill(found: Examination, findings: dict[str, Finding], optimizer: Optimizer) -> Distilled:
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
        clip = _clip_function(found, optimizer)
    scheduled = _scheduled(found, optimizer) if findings["schedule"].verdict == PRESENT else None
    law, decay = None, 0.0
    if findings["adaptation"].verdict == PRESENT:
        arms = found.middle.table
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


def _clip_function(found: Examination, optimizer: Optimizer) -> tuple[np.ndarray, np.ndarray] | None:
    """(gradients, phi): the update function, over its slope, at rest, or where a second moment does not bend it."""
    amplified = found.held[found.held["place"] == "amplified"]
    if len(amplified):
        state, limit = found.amplified[-1], float(found.reach)
        half = np.geomspace(1e-6 * limit, limit, 2000)
        gradients = np.concatenate([-half[::-1], [0.0], half])
        updates, slopes = (a[0] for a in evaluate_update_functions(optimizer, state[None], gradients))
        slope, centre = slopes[len(half)], updates[len(half)]
        return (gradients, (updates - centre) / slope) if slope != 0 and np.isfinite(slope) else None
    at = found.update_functions[found.update_functions["place"] == "fixed_point"].sort_values("gradient")
    slope = float(found.clipping.loc[found.clipping["place"] == "fixed_point", "slope_at_zero"].iloc[0])
    centre = float(at.loc[at["gradient"] == 0, "update"].iloc[0])
    if slope == 0 or not np.isfinite(slope):
        return None
    return at["gradient"].to_numpy(), (at["update"].to_numpy() - centre) / slope


def _scheduled(found: Examination, optimizer: Optimizer) -> np.ndarray | None:
    """The rate at each step, over that with the clock where the modes were read; None if that is 0.

    By the autonomous trajectory, or, with a clock, in one state with the clock at each step: a correction of a second
    moment by its clock does not show while that is 0.
    """
    states = np.stack([found.linearization.point])
    rates = found.schedule.table["effective_learning_rate"].to_numpy()
    if optimizer.clock is not None:
        converged = np.flatnonzero(found.middle.table["converged"] & (found.middle.table["gradient"] > 0))
        states = found.middle.states[converged[len(converged) // 2]][None] if converged.size else states
        steps = np.repeat(states, len(rates), axis=0)
        steps[:, optimizer.clock] = np.arange(len(rates))
        rates = -evaluate_update_functions(optimizer, steps, np.zeros(1))[1][:, 0]
    if found.switching is not None:
        rates = found.schedule.table["effective_learning_rate"].to_numpy()
        jump = float(found.clipping.loc[found.clipping["place"] == "fixed_point", "jump"].iloc[0])
        return rates / (-0.5 * jump)
    here = -float(evaluate_update_functions(optimizer, states, np.zeros(1))[1][0, 0])
    return rates / here if here != 0 and np.isfinite(rates).all() and np.isfinite(here) else None


def remainder(found: Examination, findings: dict[str, Finding], optimizer: Optimizer) -> Finding:
    """How much of the updates along the recorded runs the mechanisms found explain together (`r2`, 1 is all).

    R^2 = 1 - sum (u - u_distilled)^2 / sum u^2, every step weighted the same, with a bootstrap interval over problems;
    of the orders in which the mechanisms can stand, the best on the first problems. `noise` is the share of the
    updates that no smooth function of gradient, state and step could say (`reopt.mechanisms.noise`), to two standard
    errors; the verdict is on what is left beside it. What it cannot see: a mechanism that these runs do not use.
    """
    gradients = found.recording.gradients
    true = found.recording.updates.astype(np.float64)
    finite = np.isfinite(true).all(axis=2)
    if not finite.all(axis=0).any():  # every run diverged: up to where half of them had
        kept = int(np.sum(np.logical_and.accumulate(2 * finite.sum(axis=1) >= finite.shape[1])))
        true, gradients = true[:kept], gradients[:kept]
    candidates = orders(distill(found, findings, optimizer))
    with np.errstate(all="ignore"):
        few = slice(0, FEW)
        tried = [
            explained(true[:, few], distilled_updates(one, gradients[:, few]), resamples=1)[0] for one in candidates
        ]
        best = candidates[int(np.argmax(np.nan_to_num(tried, nan=-np.inf)))]
        value, low, high = explained(true, distilled_updates(best, gradients))
        noise = noise_share(true, found.noise.level)
    most_noise = min(noise * (1 + found.noise.error), 1.0)
    given = verdict("remainder", 1 - value - noise)
    if given == PRESENT and not 1 - high - most_noise > BOUNDS["remainder"][1]:
        given = UNDETERMINED
    if given == PRESENT:  # what is put together of slopes that mean nothing leaves a gap of its own
        given, _ = _unless_rough(found, given)
    why = f"the mechanisms found explain {max(value, 0):.1%} of the updates of the recorded runs (R² = {value:.4g})"
    if noise > 0:
        why += f"; {noise:.1%} of them is noise that nothing could explain"
    spread = (noise, max(noise * (1 - found.noise.error), 0.0), most_noise)
    return Finding("remainder", given, why, [("r2", 0, value, low, high, "1"), ("noise", 0, *spread, "1")])


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
