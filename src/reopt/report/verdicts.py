"""The verdicts on the paper's claims, for people: counts, sentences, and a table a task."""

import math
from typing import Literal

import pandas as pd

from reopt.core.grades import NOT_TESTABLE, UNDETERMINED

MOST, FEW = 2 / 3, 1 / 6
"""Shares of the runs from which a claim replicates, and up to which it does not."""

Group = Literal["most", "few", "some"]

OPENINGS: dict[Group, tuple[str, str]] = {
    "most": ("Replicates", "in at least two thirds of the runs a learned optimizer"),
    "few": ("Does not replicate", "in at most one run in six it"),
    "some": ("Depends on task, network and seed", "whether it"),
}
"""How the sentence about a group of claims begins."""

SHORT = {  # what a claim of the paper says of a learned optimizer, to be read after "it"
    "T1a": "beats every tuned baseline",
    "T1b": "beats them in test accuracy too",
    "T2": "has a single fixed point at zero gradient",
    "T3a": "is linear near its fixed point",
    "T3b": "implements momentum",
    "T4": "uses Polyak's momentum on the quadratic",
    "T5a": "has low-dimensional states",
    "T5b": "shifts its update function along the first component without bending it",
    "T6": "has several slow timescales",
    "T7a": "saturates as gradients grow",
    "T7b": "has an odd update function",
    "T8a": "stays linear for the gradients of the quadratic",
    "T8b": "saturates for those of Rosenbrock's function",
    "T9": "clips alike in all its states",
    "T10a": "raises its learning rate for about 25 steps on the quadratic",
    "T10b": "first raises its learning rate on the quadratic",
    "T10c": "lowers it after that",
    "T11a": "follows a schedule on the networks while no gradient comes",
    "T11b": "follows none on Rosenbrock's function",
    "T12": "has a curve of fixed points under constant gradients",
    "T13": "lowers its learning rate as a constant gradient grows",
    "T14a": "has only stable fixed points under constant gradients",
    "T14b": "is symmetric in the sign of a constant gradient",
    "T15": "adapts as RMSProp does",
}
"""What a claim of the paper says of a learned optimizer, to be read after "it"."""


def replication(claims: pd.DataFrame) -> dict[Group, str]:
    """Which claims hold in most meta-trained runs, which in hardly any, which in between, with how many of how many.

    `claims` is the table `claims.csv`; a group without claims is empty.
    """
    tested = claims[(claims["verdict"] != NOT_TESTABLE) & (claims["seeds"] > 0)]
    groups: dict[Group, list[str]] = {"most": [], "few": [], "some": []}
    for name, text in SHORT.items():
        rows = tested[tested["claim"] == name]
        if rows.empty:
            continue
        met, runs = round((rows["share"] * rows["seeds"]).sum()), rows["seeds"].sum()
        group: Group = "most" if met / runs >= MOST else "few" if met / runs <= FEW else "some"
        groups[group].append(f"{text} ({name}, {met}/{runs})")
    return {group: ", ".join(texts) for group, texts in groups.items()}


def counts(claims: pd.DataFrame) -> dict[str, int]:
    """How many verdicts there are of each grade, of those on claims that can be tested."""
    tested = claims.loc[claims["verdict"] != NOT_TESTABLE, "verdict"].value_counts()
    return {grade: int(tested.get(grade, 0)) for grade in ("holds", "in part", "fails", UNDETERMINED)}


def counted(claims: pd.DataFrame) -> str:
    """The same in words."""
    found = counts(claims)
    verbs = {"holds": "hold", "in part": "hold in part", "fails": "fail", UNDETERMINED: "are undetermined"}
    *first, last = (f"{count} {verbs[grade]}" for grade, count in found.items())
    return f"{', '.join(first)} and {last}"


def cells(claims: pd.DataFrame) -> list[str]:
    """The families of runs in the table of a task, in its order."""
    return list(dict.fromkeys(claims["cell"]))


def rows(claims: pd.DataFrame) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Claim, statement and, for each of `cells`, verdict and number, from the table of a task."""
    found = []
    for claim, of_claim in claims.groupby("claim", sort=False):
        by_cell = of_claim.set_index("cell")
        statement = str(of_claim["statement"].iloc[0]).partition(" (")[0]
        found.append((str(claim), statement, [_cell(by_cell.loc[cell]) for cell in cells(claims)]))
    return found


def _cell(row: "pd.Series[object]") -> tuple[str, str]:
    """Verdict of one claim on one family; in how many seeds it holds, and the effect with its interval."""
    if row["verdict"] in (NOT_TESTABLE, UNDETERMINED):
        return str(row["verdict"]), ""
    measured = number(row["value"])
    if math.isfinite(row["low"]) and row["low"] < row["high"]:
        measured += f" [{number(row['low'])}, {number(row['high'])}]"
    return str(row["verdict"]), f"{row['share'] * row['seeds']:.0f}/{row['seeds']}: {measured}"


def number(value: float) -> str:
    """A number with three digits; a dash for what is not finite."""
    return f"{value:.3g}" if math.isfinite(value) else "–"
