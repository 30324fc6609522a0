"""What a mechanism is: a number measured on an examination, two bounds that make a verdict of it, its readings.

A mechanism is one module of this package with a `MECHANISM`; `reopt.mechanisms.registry` finds it. Verdicts compare one
number with two bounds, so that what is there only just is called undetermined.

An optimizer is a deterministic function, so most readings are derivatives, exact to rounding, and their interval is
that rounding; where a reading is an average over problems, states or a fit, the interval is that of the average, the
states or the fit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from reopt.dynamics.linearization import Linearization
from reopt.optimizers.base import Optimizer

if TYPE_CHECKING:
    from reopt.examination.examination import Examination

PRESENT, ABSENT, UNDETERMINED = "present", "absent", "undetermined"
Row = tuple[str, int, float, float, float, str]
"""A reading: quantity, index, value, low, high, unit."""


class Finding(NamedTuple):
    """A mechanism's verdict, why, and its readings: (quantity, index, value, low, high, unit)."""

    mechanism: str
    verdict: str
    why: str
    readings: list[Row]


class Bounds(NamedTuple):
    """The number of a mechanism below which it is absent, and that above which it is present."""

    absent: float
    present: float

    def verdict(self, number: float) -> str:
        """What a measured number says; a number that is not finite says nothing."""
        if not np.isfinite(number):
            return UNDETERMINED
        return ABSENT if number < self.absent else PRESENT if number > self.present else UNDETERMINED


Findings = Mapping[str, Finding]
"""The findings made so far, by mechanism."""


@dataclass(frozen=True)
class Mechanism:
    """A mechanism that any optimizer is examined for.

    `number` says in words which number the verdict compares with `bounds`. `measure` takes the examination and the
    findings on the mechanisms of lower `order`, which come before it, and gives the finding. `remove`,
    if there is a way, takes the mechanism away from an optimizer with this linearization, so that a run shows what it
    was worth.
    """

    name: str
    number: str
    bounds: Bounds
    measure: Callable[["Examination", Findings], Finding]
    order: int = 50
    remove: Callable[[Optimizer, Linearization], Optimizer] | None = None


def exact(value: float, relative: float = 1e-12) -> tuple[float, float, float]:
    """(value, low, high) of a reading that is exact to rounding."""
    if not np.isfinite(value):
        return float(value), float(value), float(value)
    half = abs(value) * relative
    return float(value), float(value - half), float(value + half)


def share(value: float, error: float = 1e-12) -> tuple[float, float, float]:
    """(value, low, high) of a share or relative range that is exact to rounding; 0 where it is no more than `error`."""
    return exact(value) if not value <= error else (0.0, 0.0, error)


def within(value: float, half: float) -> tuple[float, float, float]:
    """(value, low, high) of a reading that is known to `half`; 0 where it is no more than that."""
    value = 0.0 if abs(value) <= half else float(value)
    return value, value - half, value + half


def unless_rough(found: "Examination", given: str) -> tuple[str, str]:
    """The verdict, or undetermined and why where the update is too rough for derivatives to mean anything."""
    if found.noise.rough == 0:
        return given, ""
    ratio = found.noise.rough / found.noise.size if found.noise.size > 0 else np.inf
    words = f"the update is no smooth function of gradient and state (noise of {ratio:.2g} of its size)"
    return UNDETERMINED, f"{words}: slopes mean nothing"
