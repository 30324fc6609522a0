"""What came out for the published systems: in a few lines, and as tables in Markdown of claims, rivals, mechanisms."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from reopt.core.tables import read_table
from reopt.figures.systems import name_of, row_name, rows_of
from reopt.report.verdicts import number
from reopt.systems.schema import SystemsConfig
from reopt.systems.summary import panels, read_summary

_MECHANISMS = ("mechanism", "verdict", "why")
_VERBS = {"holds": "hold", "fails": "fail", "undetermined": "are undetermined"}


def systems_summary(content: SystemsConfig, file: Path, results: Path) -> str:
    """Each system beside its best rival, how many claims hold, and what to open or to run next, for the terminal.

    **Arguments:** `content` is that of the config `file`, `results` its folder of results. **Raises** `ReoptError`
    where a table there is none.
    """
    runs = sum(len(one.seeds) for one in content.systems.values())
    lines = [f"{results}: {runs} meta-trainings of {len(content.systems)} published systems and variants, by {file}"]
    table, claims, figure = (results / name for name in ("summary.csv", "claims.csv", "figures/systems.svg"))
    if table.is_file():
        found = read_summary(table)
        lines += [f"  {_beside_the_best(found, system)}" for system in panels(content)]
    if claims.is_file():
        counts = read_table(claims, ("verdict",))["verdict"].value_counts()
        lines.append("  claims: " + ", ".join(f"{counts.get(verdict, 0)} {verb}" for verdict, verb in _VERBS.items()))
    made = table.is_file() and claims.is_file() and figure.is_file()
    lines.append(f"  open {figure}" if made else f"  `snakemake --configfile {file}` makes what is missing")
    return "\n".join(lines)


def _beside_the_best(summary: pd.DataFrame, system: str) -> str:
    rivals = rows_of(summary, system, [])
    rivals = rivals[rivals["choice"] == "one"]
    row = rivals.loc[rivals["difference"].idxmax()]
    outcome = "beats" if row["high"] < 0 else "does not reach" if row["low"] > 0 else "is no better and no worse than"
    mine, other = f"{row['measure']} {number(row['mean'])}", number(row["other"])
    return f"{name_of(system)} ({mine}) {outcome} {row_name(row)} ({other}), the best rival"


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
