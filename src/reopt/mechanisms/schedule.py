"""Schedule: how the effective learning rate changes by itself, whatever gradients come."""

from typing import TYPE_CHECKING, Any

import numpy as np

from reopt.mechanisms.base import (
    ABSENT,
    UNDETERMINED,
    Bounds,
    Finding,
    Findings,
    Mechanism,
    Row,
    exact,
    share,
    unless_rough,
)
from reopt.mechanisms.effective_rate import normalises
from reopt.mechanisms.interventions import intervene, removed
from reopt.mechanisms.update_function import evaluate_update_functions

if TYPE_CHECKING:
    from reopt.examination.examination import Examination

BOUNDS = Bounds(absent=0.001, present=0.01)
FAR = 1e9  # steps by which a bias correction is over
SAME = 1e-6  # relative difference of a rate from that of a bias correction, by rounding


def measure(found: "Examination", findings: Findings) -> Finding:
    """The effective learning rate, minus the slope of the update at g = 0, along the autonomous trajectory.

    `initial`, `peak`, `final` (update / gradient; half the jump, in units of the update, where it has only that),
    `peak_step` (steps), and `relative_range`, (highest - lowest) / largest |rate|, by which the verdict goes. Where the
    slope is 0 throughout, the rate is the secant over gradients of the sizes met (`reopt.mechanisms.finite_probes`).

    An optimizer that normalises its gradients has that rate only for gradients far below any that come. There the step
    under a steady gradient of the size met most is the rate that one set: `step_initial`, `step_peak`, `step_final`
    (update), `step_peak_step` (steps), `step_range` (1). A schedule shows in both; what shows in one alone is none: a
    bias correction (Adam's), which holds that step constant, or a second moment that fills (RMSProp's).

    What it cannot see: a schedule that only shows while gradients come.
    """
    del findings
    rates = found.schedule.table["effective_learning_rate"].to_numpy()
    if not np.isfinite(rates).all():
        return Finding("schedule", UNDETERMINED, "the update has no slope at zero gradient along the trajectory", [])
    largest = np.abs(rates).max()
    change = float(np.ptp(rates) / largest) if largest > 0 else 0.0
    steps = found.clipping["slope_at_zero"].eq(0).all()  # then the rate is half the jump
    if largest == 0 and not found.finite.silent:
        return _at_finite_gradients(found)
    if found.clipping["jump"].ne(0).any() and not steps:
        return Finding("schedule", UNDETERMINED, "the update jumps at zero gradient: its slope there says nothing", [])
    peak = int(np.argmax(rates))
    rows: list[Row] = [
        ("initial", 0, *exact(rates[0]), "update / gradient"),
        ("peak", 0, *exact(rates[peak]), "update / gradient"),
        ("peak_step", 0, float(peak), float(peak), float(peak), "steps"),
        ("final", 0, *exact(rates[-1]), "update / gradient"),
        ("relative_range", 0, *share(change), "1"),
    ]
    shape = _shape(found.schedule.summary)
    why = f"without a gradient the learning rate changes by {change:.1%} of its peak (shape: {shape})"
    if decay := _bias_correction(found, rates):
        why = f"{why}, all of it the bias correction of a moment with decay {decay:.4g}"
    if normalises(found.schedule.summary):
        of_steps, rows_of_steps, told = _of_steps(found)
        change, rows, why = min(change, of_steps), [*rows, *rows_of_steps], f"{told}; {why}"
    given, rough = unless_rough(found, BOUNDS.verdict(change))
    return Finding("schedule", given, f"{why}; {rough}" if rough else why, rows)


def _shape(summary: dict[str, Any]) -> str:
    return str(summary["shape"]).replace("_", " ")


def _of_steps(found: "Examination") -> tuple[float, list[Row], str]:
    """Relative range, readings and words of the steps under a steady gradient."""
    steps, summary = found.schedule.table["steady_step"].to_numpy(), found.schedule.summary["steady"]
    change, peak = float(np.ptp(steps) / np.abs(steps).max()), int(np.argmax(steps))
    rows: list[Row] = [
        ("step_initial", 0, *exact(steps[0]), "update"),
        ("step_peak", 0, *exact(steps[peak]), "update"),
        ("step_peak_step", 0, float(peak), float(peak), float(peak), "steps"),
        ("step_final", 0, *exact(steps[-1]), "update"),
        ("step_range", 0, *share(change), "1"),
    ]
    course = f"goes from {steps[0]:.4g} to {steps[-1]:.4g} (shape: {_shape(summary)})"
    if peak not in (0, len(steps) - 1):
        course = f"goes from {steps[0]:.4g} by {steps[peak]:.4g} at step {peak} to {steps[-1]:.4g}"
    if BOUNDS.verdict(change) == ABSENT:
        course = f"is {steps[-1]:.4g} throughout"
    return change, rows, f"under a steady gradient, whatever its size, the step {course}"


def _bias_correction(found: "Examination", rates: np.ndarray) -> float | None:
    """The decay b where the rate is that of a clock far on, over 1 - b^t at step t = 1, 2, ...; else None."""
    if found.optimizer.clock is None or len(rates) < 3 or not (rates > 0).all():
        return None
    state = np.array(found.coasted(len(rates) - 1), np.float64)
    state[found.optimizer.clock] = FAR
    limit = -float(evaluate_update_functions(found.smooth, state[None], np.zeros(1))[1][0, 0])
    if not (np.isfinite(limit) and 0 < limit < rates[0]):
        return None
    decay = 1 - limit / rates[0]
    expected = limit / (1 - decay ** np.arange(1.0, len(rates) + 1))
    return decay if np.allclose(rates, expected, rtol=SAME, atol=0) else None


def _at_finite_gradients(found: "Examination") -> Finding:
    """By secants over gradients of the sizes met; readings are those of the largest, with their range over sizes."""
    rates = found.finite.schedule()
    if not rates.size:
        why = f"no gradient up to {found.finite.sizes[-1]:.3g} moves the update along the trajectory"
        given = ABSENT if found.optimizer.state_size == 0 else UNDETERMINED
        return Finding("schedule", given, f"{why}: {'no state' if given == ABSENT else 'nothing'} to read", [])
    changes = np.ptp(rates, axis=0) / np.abs(rates).max(axis=0)
    peak = int(np.argmax(rates[:, -1]))
    rows: list[Row] = [
        (name, 0, float(at[-1]), float(at.min()), float(at.max()), "update / gradient")
        for name, at in (("initial", rates[0]), ("peak", rates[peak]), ("final", rates[-1]))
    ]
    rows.append(("peak_step", 0, float(peak), float(peak), float(peak), "steps"))
    rows.append(("relative_range", 0, float(changes.max()), float(changes.min()), float(changes.max()), "1"))
    given, rough = unless_rough(found, BOUNDS.verdict(float(changes.max())))
    why = "the update has no slope at zero gradient; by secants over the sizes met the rate"
    why += f" changes by {changes.max():.1%} of its peak"
    return Finding("schedule", given, f"{why}; {rough}" if rough else why, rows)


MECHANISM = Mechanism(
    name="schedule",
    number="relative range of the effective learning rate from the start on, without a gradient; where gradients are "
    "normalised, the smaller of that and the relative range of the step under a steady gradient",
    bounds=BOUNDS,
    measure=measure,
    order=30,
    remove=lambda optimizer, linearization: intervene(optimizer, linearization, removed("schedule")),
)
