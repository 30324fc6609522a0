"""Adaptation: how the learning rate follows the size of the gradients."""

from typing import TYPE_CHECKING

import numpy as np

from reopt.mechanisms.base import ABSENT, UNDETERMINED, Bounds, Finding, Findings, Mechanism, Row, exact, unless_rough
from reopt.mechanisms.constant_gradients import knee_interval
from reopt.mechanisms.interventions import intervene, removed

if TYPE_CHECKING:
    from reopt.examination.examination import Examination

BOUNDS = Bounds(absent=0.01, present=0.1)


def measure(found: "Examination", findings: Findings) -> Finding:
    """The rate at zero at the fixed points of constant gradients: its power law and how fast it follows.

    The rate is that in the even part of the states under g and -g (`reopt.mechanisms.constant_gradients.even_part`).
    `exponent` is the slope of log rate against log |g| beyond the knee, with its t interval (0 none, -1 full
    normalisation); `knee` (gradient) where the rate has fallen to 1/sqrt(2), between two
    gradients held, which are its interval; `time_constant` (steps) that of the mode
    by which the rate follows the gradient, the median over the gradients held, with their range, and `beta2` =
    exp(-1 / time_constant); `converged` the share of held gradients with an attracting fixed point. What this cannot
    see: normalisation without memory, which is clipping; an optimizer without a fixed point (AdaGrad), of which it
    says so. Where the slope at zero is 0 throughout, or never changes, the rate is also looked at by secants over the
    sizes met after histories of such gradients (`reopt.mechanisms.finite_probes`); `relative_range` is how it ranges.
    `range_in_runs` is how it ranges over the states of the runs (`reopt.mechanisms.operating_point`).
    """
    del findings
    finding = _at_rest(found)
    change, (_, low, high) = found.operating.range, found.operating.spread("rate_at_end")
    if not np.isfinite(change):
        return finding
    told = f"in the states of the runs the learning rate is {low:.3g} to {high:.3g}"
    told = told if change > BOUNDS.absent else f"in the states of the runs the learning rate is {high:.3g} throughout"
    rows = [*finding.readings, ("range_in_runs", 0, *exact(change), "1")]
    return finding._replace(why=f"{told}; {finding.why}", readings=rows)


def _at_rest(found: "Examination") -> Finding:
    """At the fixed points of constant gradients."""
    table, summary = found.far.middle.table, found.far.middle.summary
    if found.clipping["slope_at_zero"].eq(0).all() and not found.finite.silent:
        return _at_finite_gradients(found)
    share = float(table["converged"].mean())
    rows: list[Row] = [("converged", 0, *exact(share), "1")]
    if share < 0.5:
        why = "under a constant gradient the state never settles: there is no fixed point at which to read a rate"
        return Finding("adaptation", UNDETERMINED, why, rows)
    good = table[table["converged"]]
    rates = good["effective_learning_rate_at_zero"].to_numpy()
    rates = rates[np.isfinite(rates)]
    largest = np.abs(rates).max() if rates.size else 0.0
    if rates.size and largest == 0 and not found.finite.silent:
        return _at_finite_gradients(found)
    change = float(np.ptp(rates) / largest) if largest > 0 else 0.0
    given = BOUNDS.verdict(change)
    beyond_zero = found.finite.rate_change() if given == ABSENT and not found.finite.stateless else None
    if beyond_zero is not None and beyond_zero.certain and beyond_zero.value > BOUNDS.absent:
        return _at_finite_gradients(found)
    given, rough = unless_rough(found, given)
    if summary["exponent"] is not None:
        rows.append(("exponent", 0, summary["exponent"], summary["low"], summary["high"], "1"))
    if summary["knee"] is not None:
        rows.append(("knee", 0, summary["knee"], *knee_interval(table, summary["knee"]), "gradient"))
    beyond = good["gradient"].abs() > (summary["knee"] or 0.0)
    follows = good.loc[beyond & good["rate_time_constant"].notna(), "rate_time_constant"].to_numpy()
    if follows.size and given != ABSENT:
        constant = [float(np.median(follows)), float(follows.min()), float(follows.max())]
        rows.append(("time_constant", 0, constant[0], constant[1], constant[2], "steps"))
        value, low, high = (float(np.exp(-1 / steps)) if steps > 0 else 0.0 for steps in constant)
        rows.append(("beta2", 0, value, low, high, "1"))
    why = f"between constant gradients of the sizes met the learning rate differs by up to {change:.1%}"
    own = found.far.arms.table["effective_learning_rate_at_zero"].abs()
    if given == ABSENT and own.min() < 0.9 * own.max():
        why += "; that it seems to fall more comes from the clip behind the momentum, which constant gradients reach"
    return Finding("adaptation", given, f"{why}; {rough}" if rough else why, rows)


def _at_finite_gradients(found: "Examination") -> Finding:
    """By secants over gradients of the sizes met, after histories of such gradients."""
    if found.finite.stateless:
        return Finding("adaptation", ABSENT, "nothing is kept from step to step", [])
    change = found.finite.rate_change()
    if not np.isfinite(change.value):
        why = f"no gradient up to {found.finite.sizes[-1]:.3g} moves the update: there is no rate to read"
        return Finding("adaptation", UNDETERMINED, why, [])
    given = BOUNDS.verdict(change.value)
    low = change.value
    why = (
        f"between runs of gradients of the sizes met the learning rate (update over gradient) differs by up to"
        f" {change.value:.1%}"
    )
    if given != ABSENT and not change.certain:
        given, low = UNDETERMINED, 0.0
        why += ", but what follows the sign of earlier gradients does not cancel in it: a rate or a buffer"
    given, rough = unless_rough(found, given)
    rows: list[Row] = [("relative_range", 0, change.value, low, max(change.value, 0.0), "1")]
    return Finding("adaptation", given, f"{why}; {rough}" if rough else why, rows)


MECHANISM = Mechanism(
    name="adaptation",
    number="relative range of the learning rate over the states of rest of constant gradients",
    bounds=BOUNDS,
    measure=measure,
    order=40,
    remove=lambda optimizer, linearization: intervene(optimizer, linearization, removed("adaptation")),
)
