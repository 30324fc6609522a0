"""What two optimizers do with gradients that are not finite: whether they take a step, and go on afterwards."""

import numpy as np

from reopt.examination.trajectories import LOST_AT, NOT_FINITE, Driven

Row = tuple[str, str, int, float, float, float, float, float, float, bool]
_NAMES = {"nan": "NaN", "plus_inf": "inf", "minus_inf": "-inf"}


def compare_not_finite(found: Driven, tolerance: float) -> tuple[list[Row], list[str]]:
    """Rows and sentences on how two optimizers answer NaN and infinities.

    The rows tell of one such gradient at step 20: the share of the updates from there on that are finite. With an
    infinite `tolerance`, nothing but that an update of one alone is finite counts as a difference.
    """
    rows: list[Row] = []
    told: dict[str, list[str]] = {}
    for family, name in _NAMES.items():
        own = np.flatnonzero(np.asarray(found.drive.family) == family)
        apart = _beyond(found, tolerance)[:, own].any(axis=(0, 2))
        one, other = (float(np.isfinite(side[LOST_AT:, own[0]]).mean()) for side in (found.a, found.b))
        alike = one == other and not apart.any()
        rows.append(("not_finite", f"finite_after_{family}", 0, one, one, one, other, other, other, alike))
        if apart.any():
            told.setdefault(_where(found, int(own[np.argmax(apart)]), tolerance), []).append(name)
    return rows, [f"gradients that are not finite ({', '.join(names)}): {text}" for text, names in told.items()]


def _beyond(found: Driven, tolerance: float) -> np.ndarray:
    return (found.difference > tolerance) | (np.isfinite(found.a) != np.isfinite(found.b))


def _where(found: Driven, sequence: int, tolerance: float) -> str:
    """Where the updates of a sequence part first, in words, and what each does from there on."""
    beyond = _beyond(found, tolerance)[:, sequence]
    step = int(np.argmax(beyond.any(axis=1)))
    param = int(np.argmax(beyond[step]))
    lost = ~np.isfinite(found.drive.gradients[:, sequence, param])
    in_a_row = step - int(np.max(np.flatnonzero(~lost[: step + 1]), initial=-1))
    place = (
        f"at the {_ordinal(in_a_row)} in a row" if in_a_row > 1 else "at the first" if in_a_row else f"at step {step}"
    )
    if not lost.any():
        place += ", for a parameter whose own gradient is finite,"
    elif not lost[step]:
        place += ", after such a one,"
    sides = [
        f"{label}'s update is {side[step, sequence, param]:.6g}, {_afterwards(side[step + 1 :, sequence, param])}"
        for label, side in zip("AB", (found.a, found.b), strict=True)
    ]
    return f"{place} {'; '.join(sides)}"


def _ordinal(count: int) -> str:
    ends = {1: "st", 2: "nd", 3: "rd"} if count % 100 not in (11, 12, 13) else {}
    return f"{count}{ends.get(count % 10, 'th')}"


def _afterwards(updates: np.ndarray) -> str:
    finite = np.isfinite(updates)
    if finite.all():
        return "and all later ones are finite"
    if not finite.any():
        return "and no later one is finite"
    return f"and {finite.sum()} of the {len(finite)} later ones are finite"


assert set(_NAMES) == set(NOT_FINITE)
