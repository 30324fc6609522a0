"""Differences of two optimizers that no reading at rest tells: by what came before, and at which step it came.

Four experiments, each on the updates alone, whatever the optimizer is; parameters are 0.

- *lag*: one's updates are the other's of k steps before, along which families of gradients.
- *bend by step*: answers after n steps of a constant gradient, as level |g| / (|g|^p + knee^p)^(1/p)
  (`trajectories.Steady`), for n of `BENT_AT`. With g^2 summed up or averaged and eps outside its root p = 1, inside
  p = 2; an eps added before the bias of the average is corrected, sqrt(v) + eps, v = (1 - b^n) g^2, has a knee that
  falls with n as 1 / sqrt(1 - b^n).
- *momentum by step*: the update after the answer to a lone tiny gradient at step s, relative to that answer,
  u_(s+1) / u_s, for s of `PULSED_AT`: a momentum that follows a schedule, or another correction of its bias.
- *spike*: gradients of one size, among them one that is `SPIKE` times as large: what is left of the update `AFTER`
  steps later, relative to a run without it, when it came first and when it came at step `LATE`. A largest second moment
  that is kept after its bias is corrected counts a first gradient in full (1 / SPIKE is left for good), one kept before
  does not: v = (1 - b) g^2 then.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from reopt.examination.not_finite import Row
from reopt.examination.trajectories import (
    TINIEST,
    TINY,
    Driven,
    Steady,
    Transformation,
    levelled,
    relative_difference,
    updates,
)

Told = list[tuple[str, str]]  # a mechanism, and a sentence on it
MOST_LAG = 3
BENT_AT = (1, 10, 100, 1000)  # steps of a constant gradient
PULSED_AT = (0, 10, 100, 500)
SPIKE, AFTER, LATE = 1e3, 200, 500
SAME = 1e-5  # relative distance of two readings that counts as none
SAME_LEFT = 0.01  # of what a spike leaves, which an eps moves a little too
SCHEDULED = 1e-3  # relative change of a momentum with the step that is more than the end of a bias correction
EQUAL_ANSWER = 0.05  # relative distance from 1 / SPIKE that counts as all of it


class Histories(NamedTuple):
    """The readings of one optimizer."""

    bends: tuple[Steady, ...]
    following: Float[np.ndarray, " pulse"]
    left: Float[np.ndarray, " spike"]


def histories(transformation: Transformation, usual: float, largest: float) -> Histories:
    """The last three experiments: constant gradients up to `largest`, and a spike among gradients of size `usual`."""
    sizes = np.geomspace(TINIEST, largest, int(np.ceil(np.log10(largest / TINIEST))) + 1)
    steps = max(BENT_AT)
    pulses = [np.where(np.arange(steps) == s, TINY, 0.0) for s in PULSED_AT]
    plain = np.full(steps, usual)
    spikes = [np.where(np.arange(steps) == s, SPIKE, 1.0) * usual for s in (0, LATE)]
    given = np.concatenate([np.tile(sizes, (steps, 1)), np.stack([*pulses, plain, *spikes], axis=1)], axis=1)
    found = updates(transformation, given[..., None], np.zeros_like(given)[..., None])[..., 0]
    constant, rest = found[:, : sizes.size], found[:, sizes.size :]
    at = np.array(PULSED_AT)
    with np.errstate(all="ignore"):
        pulsed = rest[:, : at.size]
        following = pulsed[at + 1, np.arange(at.size)] / pulsed[at, np.arange(at.size)]
        seen = np.array([AFTER, LATE + AFTER])
        left = rest[seen, at.size + 1 + np.arange(2)] / rest[seen, at.size]
    return Histories(tuple(levelled(sizes, -constant[n - 1]) for n in BENT_AT), following, left)


def compare_histories(
    a: Transformation, b: Transformation, probes: Driven, *, usual: float, tolerance: float
) -> tuple[list[Row], Told]:
    """Rows and sentences on what the experiments tell apart; `probes` are the probing sequences of both."""
    rows, told = _compare_lag(probes, tolerance)
    largest = float(np.abs(probes.drive.gradients[:, np.asarray(probes.drive.family) == "constant"]).max())
    one, other = (histories(side, usual, largest) for side in (a, b))
    for more, sentences in (_bends(one, other), _following(one, other), _left(one, other)):
        rows, told = rows + more, told + sentences
    return rows, told


def _row(mechanism: str, quantity: str, index: int, a: float, b: float, relative: float = SAME) -> Row:
    same = bool(np.isclose(a, b, rtol=relative, atol=1e-12, equal_nan=True))
    return (mechanism, quantity, index, a, a, a, b, b, b, same)


def _compare_lag(probes: Driven, tolerance: float) -> tuple[list[Row], Told]:
    names = np.asarray(probes.drive.family)
    for lag in range(1, MOST_LAG + 1):
        for late, early, updates_of_late, updates_of_early in (
            ("B", "A", probes.b, probes.a),
            ("A", "B", probes.a, probes.b),
        ):
            shifted = relative_difference(updates_of_late[lag:], updates_of_early[:-lag])
            alike = [
                str(family)
                for family in dict.fromkeys(names)
                if probes.difference[:, names == family].max() > tolerance
                and shifted[:, names == family].max() <= tolerance
                and np.ptp(updates_of_early[:, names == family], axis=0).any()
            ]
            if not alike:
                continue
            behind = [float(lag), 0.0] if late == "A" else [0.0, float(lag)]
            steps = "one step" if lag == 1 else f"{lag} steps"
            how = "answers a gradient" if "pulses" in alike else "counts its steps"
            text = (
                f"lag: {late} {how} {steps} late: along {', '.join(alike)} its updates are those that {early} made "
                f"{steps} before"
            )
            return [_row("lag", "steps", 0, *behind)], [("lag", text)]
    return [], []


def _bends(a: Histories, b: Histories) -> tuple[list[Row], Told]:
    rows = [
        _row("constant_gradients", f"{quantity}_by_step", step, getattr(one, quantity), getattr(other, quantity))
        for step, one, other in zip(BENT_AT, a.bends, b.bends, strict=True)
        for quantity in ("level", "knee", "sharpness")
    ]
    differs = [row for row in rows if not row[-1] and not row[1].startswith("level")]
    if not differs:
        return rows, []
    said = [f"{label} {_bends_words(found.bends)}" for label, found in zip("AB", (a, b), strict=True)]
    return rows, [("constant gradients", f"constant gradients, by step: {'; '.join(said)}")]


def _bends_words(bends: tuple[Steady, ...]) -> str:
    known = [(step, one) for step, one in zip(BENT_AT, bends, strict=True) if not np.isnan(one.knee)]
    if not known:
        return f"does not level off ({bends[-1].why})"
    steps, knees = ", ".join(str(step) for step, _ in known), ", ".join(f"{one.knee:.4g}" for _, one in known)
    text = f"levels off from gradient {knees} on at step {steps}" if len(known) > 1 else f"from gradient {knees} on"
    sharpness = np.array([one.sharpness for _, one in known])
    if not np.isfinite(sharpness).all() or np.ptp(sharpness) > 1e-3:
        return text
    place = {1: ", with eps outside the root (sharpness 1)", 2: ", with what is added inside the root (sharpness 2)"}
    where = next((words for p, words in place.items() if abs(sharpness[0] - p) < 1e-3), "")
    return text + where + _falls(known)


def _falls(known: list[tuple[int, Steady]]) -> str:
    """Whether the knees fall with the number n of steps as 1 / sqrt(1 - b^n), or as n^(-1/2) or n^-1 of a sum."""
    steps = np.array([step for step, _ in known], float)
    knees = np.array([one.knee for _, one in known])
    if len(known) < 2 or knees[-1] >= knees[0] * (1 - SAME):
        return ""
    if np.allclose(knees * np.sqrt(steps), knees[0] * np.sqrt(steps[0]), rtol=1e-3):
        return "; it falls as one over the root of the step, as where squares are summed up"
    low, high = 0.0, 1.0 - 1e-9  # of b, by the ratio of the first knee to the last
    ratio = knees[0] / knees[-1]
    for _ in range(100):
        b = 0.5 * (low + high)
        more = np.sqrt((1 - b ** steps[-1]) / (1 - b ** steps[0])) > ratio
        low, high = (low, b) if more else (b, high)
    expected = knees[-1] * np.sqrt((1 - b ** steps[-1]) / (1 - b**steps))
    if np.allclose(knees, expected, rtol=1e-3):
        return f"; it falls as where eps is added before the bias of an average of decay {b:.6g} is corrected"
    return ""


def _following(a: Histories, b: Histories) -> tuple[list[Row], Told]:
    rows = [
        _row("momentum", "following", step, float(one), float(other))
        for step, one, other in zip(PULSED_AT, a.following, b.following, strict=True)
    ]
    if all(row[-1] for row in rows):
        return rows, []
    said = []
    for label, found in zip("AB", (a.following, b.following), strict=True):
        late = found[-2:]
        goes_on = np.isfinite(late).all() and np.ptp(late) > SCHEDULED * abs(late[-1])
        why = " (and goes on changing with the step)" if goes_on else ""
        said.append(f"{label} {', '.join(f'{value:.4g}' for value in found)}{why}")
    steps = ", ".join(str(step) for step in PULSED_AT)
    text = f"after a lone gradient at step {steps} the next update is, of the answer to it, {'; '.join(said)}"
    # A ratio that is the same at all steps is that of two momenta, which are told as momentum.
    with np.errstate(all="ignore"):
        ratio = a.following / b.following
    by_step = not np.ptp(ratio) <= SCHEDULED * np.abs(ratio).max()
    return rows, [("momentum by step" if by_step else "momentum", f"momentum, by step: {text}")]


def _left(a: Histories, b: Histories) -> tuple[list[Row], Told]:
    rows = [
        _row("adaptation", "left_after_spike", step, float(one), float(other), SAME_LEFT)
        for step, one, other in zip((0, LATE), a.left, b.left, strict=True)
    ]
    if all(row[-1] for row in rows):
        return rows, []
    said = [f"{label} {_left_words(found)}" for label, found in zip("AB", (a.left, b.left), strict=True)]
    text = f"{AFTER} steps after a gradient {SPIKE:g} times the others the update is, of what it is without"
    return rows, [("adaptation", f"adaptation to the past: {text}, {'; '.join(said)}")]


def _left_words(left: Float[np.ndarray, " spike"]) -> str:
    first = f"{left[0]:.4g} if it came first and {left[1]:.4g} at step {LATE}"
    if abs(left[0] * SPIKE - 1) > EQUAL_ANSWER:
        return first
    return (
        f"{first} (a first gradient counts in full for good, as in a largest average kept after its bias is corrected)"
    )
