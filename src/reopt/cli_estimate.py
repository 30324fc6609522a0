"""`reopt estimate`: what the jobs of a config cost, before they are run."""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reopt.cli import DEFAULT, ConfigFile, LogFile, app

if TYPE_CHECKING:
    import pandas as pd

_WORDS = {"tune": "tune (at most)"}
_SUFFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"))


@app.command()
def estimate(
    config: ConfigFile = DEFAULT,
    out: Annotated[Path | None, typer.Option("--out", help="Also write the table, CSV: a row a kind of job.")] = None,
    log: LogFile = None,
) -> None:
    """FLOPs, peak memory and minutes of a config's jobs, from a short calibration on this machine.

    Real programs are timed at a few steps, some seconds for each size of optimizer, and extrapolated. Where a run of
    the config has been timed, its minutes stand beside. Compilation is left out; tuning is its upper bound.
    """
    from reopt.artifacts.tables import write_table
    from reopt.commands import use_cores, writable
    from reopt.config import load_config
    from reopt.estimate.jobs import estimate as stage
    from reopt.estimate.jobs import total
    from reopt.progress import Reporter

    use_cores(len(os.sched_getaffinity(0)))
    read = load_config(config)
    if out is not None:
        writable(out)
    with Reporter(f"estimate {read.name}", log) as report:
        table = stage(read, logs=Path("logs") / read.name, say=report.say)
    if out is not None:
        write_table(out, table)
    _show(table, total(table), config.name)


def _show(table: "pd.DataFrame", total: dict[str, float], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    timed = table["measured_minutes"].notna().any()
    shown = Table(title=f"{title}: predicted for this machine, one job after the other", title_justify="left")
    for name in ("work", "of"):
        shown.add_column(name)
    for name in ("jobs", "FLOPs", "peak MB", "minutes", *(("measured", "ratio") if timed else ())):
        shown.add_column(name, justify="right")
    rows: list[tuple[str, str, Any]] = [
        (_WORDS.get(row["work"], row["work"]), " ".join(dict.fromkeys((row["task"], row["subject"]))), row)
        for _, row in table.iterrows()
    ]
    for work, of, row in [*rows, ("total", "", total)]:
        if work == "total":
            shown.add_section()
        numbers = [f"{row['jobs']:.0f}", _flops(row["flops"]), _number(row["peak_mb"]), _number(row["minutes"])]
        if timed:
            numbers += [_number(row.get(name, math.nan)) for name in ("measured_minutes", "predicted_to_measured")]
        shown.add_row(work, of, *numbers)
    Console().print(shown)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def _flops(value: float) -> str:
    if math.isnan(value):
        return "-"
    scale, letter = next(((scale, letter) for scale, letter in _SUFFIXES if value >= scale), (1.0, ""))
    return f"{value / scale:.3g} {letter}".strip()
