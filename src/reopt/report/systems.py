"""What came out for the published systems, as tables in Markdown: claims, rivals, mechanisms."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from reopt.core.tables import read_table
from reopt.figures.systems import name_of, row_name, rows_of
from reopt.report.verdicts import number

_MECHANISMS = ("mechanism", "verdict", "why")


def claims_table(claims: pd.DataFrame) -> list[str]:
    """Verdict and difference of each claim; lines of Markdown, of the table of `reopt systems-claims`."""
    lines = ["| claim | statement | worse by (95% interval) | verdict |", "|---|---|---|---|"]
    for row in claims.itertuples(index=False):
        lines.append(f"| {row.claim} | {row.statement} | {_interval(row)} | {row.verdict} |")
    return lines


def rivals_table(summary: pd.DataFrame, system: str, variants: Sequence[str]) -> list[str]:
    """A system against each of its rivals and variants: what they reach, the paired difference, how often it is better.

    **Arguments:** `summary` is the table of `reopt compare-systems`; `variants` are systems on the same task.
    """
    rows = rows_of(summary, system, variants)
    measure, mean = str(rows["measure"].iloc[0]), float(rows["mean"].iloc[0])
    lines = [
        f"{name_of(system)} reaches {measure} {number(mean)} over all meta-trainings.",
        "",
        f"| against | its {measure} | worse by (95% interval) | better on |",
        "|---|---|---|---|",
    ]
    for _, row in rows.iterrows():
        lines.append(f"| {row_name(row)} | {number(row['other'])} | {_interval(row)} | {row['better']:.0%} |")
    return lines


def mechanisms_table(readings: Sequence[Path]) -> list[str]:
    """Verdicts on each mechanism over meta-trainings, and why it is so in the first.

    **Arguments:** `readings` are tables verdicts.csv of `reopt read-system`, one a meta-training.
    **Raises** `ReoptError` where one is none.
    """
    tables = [read_table(path, _MECHANISMS) for path in readings]
    lines = [f"| mechanism | verdicts of {len(tables)} | in the first |", "|---|---|---|"]
    together = pd.concat(tables)
    for row in tables[0].itertuples(index=False):
        found = together.loc[together["mechanism"] == row.mechanism, "verdict"].value_counts()
        counts = ", ".join(f"{count} {verdict}" for verdict, count in found.items())
        lines.append(f"| {row.mechanism} | {counts} | {str(row.why).replace('|', chr(92) + '|')} |")
    return lines


def _interval(row: "pd.Series[object]") -> str:
    """A difference with its interval."""
    return f"{row.difference:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"  # type: ignore[attr-defined]
