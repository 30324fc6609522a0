"""`reopt estimate`: what the jobs of a config cost, before they are run."""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reopt.cli.app import app
from reopt.cli.options import DEFAULT, AnyConfig, LogFile
from reopt.core.errors import ReoptError

if TYPE_CHECKING:
    import pandas as pd

NO_CONFIG = Path()  # a folder, never a config
_WORDS = {"tune": "tune (at most)"}
_SUFFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"))


@app.command()
def estimate(
    config: AnyConfig = None,
    task: Annotated[
        str | None,
        typer.Option(
            "--task", help="Instead of a config: an installed task (quadratic), or file.py:task, to train on."
        ),
    ] = None,
    cell: Annotated[str, typer.Option("--cell", help="With --task: gru, lstm or vanilla.")] = "gru",
    units: Annotated[int, typer.Option("--units", min=1, max=4096, help="With --task: hidden units.")] = 32,
    outer_steps: Annotated[
        int, typer.Option("--outer-steps", min=1, max=10_000_000, help="With --task: steps of meta-training.")
    ] = 1000,
    steps: Annotated[
        int | None, typer.Option("--steps", min=2, max=1_000_000, help="With --task: steps of a run; default: 201.")
    ] = None,
    problems: Annotated[
        int, typer.Option("--problems", min=1, max=100_000, help="With --task: problems of an outer step.")
    ] = 64,
    draws: Annotated[
        int,
        typer.Option("--draws", min=0, max=1_000_000, help="With --task: draws each of three baselines is tuned with."),
    ] = 200,
    out: Annotated[Path | None, typer.Option("--out", help="Also write the table, CSV: a row a kind of job.")] = None,
    log: LogFile = None,
) -> None:
    """FLOPs, peak memory and minutes of a config's jobs, or of one meta-training, from a short calibration here.

    `reopt estimate --task quadratic --cell gru --units 32` needs no config: it is what `reopt.metatrain` would take,
    with its defaults, then tuning three baselines, then judging all four on 256 problems.

    Real programs are timed at a few steps, some seconds for each size of optimizer, and extrapolated. Where a run of
    the config has been timed, its minutes stand beside. Compilation is left out; tuning is its upper bound.
    """
    from reopt.cli.progress import Reporter
    from reopt.core.tables import write_table
    from reopt.pipeline.config import load_config
    from reopt.pipeline.cost.jobs import estimate as stage
    from reopt.pipeline.cost.jobs import total
    from reopt.pipeline.slice import use_cores, writable

    use_cores(len(os.sched_getaffinity(0)))
    if task is not None:
        if config is not None:
            raise ReoptError("give --config, for its jobs, or --task, for one meta-training: not both")
        from reopt.library import learned_settings
        from reopt.pipeline.cost.one import estimate_one
        from reopt.pipeline.setting import setting_of

        where = setting_of(task, config=None, steps=steps, default=NO_CONFIG)
        settings = learned_settings(cell=cell, units=units, outer_steps=outer_steps, problems=problems)
        title = f"{cell}{units} on {where.name}"
        if out is not None:
            writable(out)
        with Reporter(f"estimate {title}", log) as report:
            sizes = {"num_steps": where.settings.num_steps, "problems": where.settings.evaluation_problems}
            table = estimate_one(where.task, settings, task_name=where.name, draws=draws, say=report.say, **sizes)
        whole = {"jobs": float(table["jobs"].sum())} | {
            key: value for key, value in total(table).items() if key != "jobs"
        }
    else:
        config = config or DEFAULT
        if not config.exists() and config == DEFAULT:
            raise ReoptError(f"there is no {DEFAULT} here: give --config FILE, or --task for one meta-training")
        read = load_config(config)
        title = config.name
        if out is not None:
            writable(out)
        with Reporter(f"estimate {read.name}", log) as report:
            table = stage(read, logs=Path("logs") / read.name, say=report.say)
        whole = total(table)
    if out is not None:
        write_table(out, table)
    _show(table, whole, title)


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
