"""Grades of a claim, and the arms of the paper by whose recipes some claims are judged."""

from collections.abc import Iterable
from typing import Literal

Grade = Literal["holds", "in part", "fails", "undetermined", "not testable"]
HOLDS: Grade = "holds"
IN_PART: Grade = "in part"
FAILS: Grade = "fails"
UNDETERMINED: Grade = "undetermined"
NOT_TESTABLE: Grade = "not testable"

PAPER_ARM, TUTORIAL_ARM = "paper", "tutorial"
ARMS = (PAPER_ARM, TUTORIAL_ARM)
"""Optimizers trained as the paper's was, and by the recipe of its published tutorial: their names in a config."""


def arm_of(optimizer: str) -> str | None:
    """The arm that an optimizer is, by its name (`paper`, `paper_norm`); None for any other recipe."""
    return next((arm for arm in ARMS if optimizer == arm or optimizer.startswith(f"{arm}_")), None)


def middle_grade(grades: Iterable[Grade]) -> Grade:
    """The grade over seeds: the lower median of those that are determined; undetermined if these are not most.

    So a claim holds where it holds in more than half of these seeds, and in part where it does so at least in part.
    """
    every = list(grades)
    known = sorted((grade for grade in every if grade != UNDETERMINED), key=(FAILS, IN_PART, HOLDS).index)
    if 2 * len(known) <= len(every):
        return UNDETERMINED
    return known[(len(known) - 1) // 2]
