"""`reopt beyond`: an optimizer away from what it was trained or tuned on."""

from pathlib import Path
from typing import Annotated

import typer

from reopt.cli import DEFAULT, ConfigFile, LogFile, OutDir, OutFile, Subject, TaskName, app


@app.command()
def beyond(
    subject: Subject,
    task: TaskName,
    out: OutDir,
    config: ConfigFile = DEFAULT,
    record: Annotated[
        Path | None, typer.Option("--record", help="What `reopt record` wrote: says which mechanism breaks first.")
    ] = None,
    clipping: Annotated[
        Path | None, typer.Option("--clipping", help="clipping.csv of `reopt update-functions`; with --record.")
    ] = None,
    log: LogFile = None,
) -> None:
    """Longer runs, rescaled losses, other condition numbers: where an optimizer fails.

    Writes beyond.csv and horizon.csv to the folder; with --record and --clipping breaking.csv and first_to_break.csv.
    """
    from reopt.artifacts.tables import read_table, write_table
    from reopt.cli_analysis import _open, _read
    from reopt.dynamics.record import Recording
    from reopt.errors import ReoptError
    from reopt.mechanisms import breaking as mechanisms
    from reopt.progress import Reporter
    from reopt.training import beyond as stage

    if (record is None) != (clipping is None):
        raise ReoptError("--record and --clipping belong together: give both, or neither")
    files = ["beyond.csv", "horizon.csv", *(["breaking.csv", "first_to_break.csv"] if record else [])]
    read, _, name, optimizer = _open(config, "beyond", task, subject, *(out / file for file in files))
    setup = stage.Setup(read.problem, read.num_steps)
    settings, recording = read.block("evaluation"), read.block("record")
    if record and clipping:  # before the work, for they may be damaged
        runs = _read(record, Recording, hidden=optimizer.state_size, step=read.num_steps)
        thresholds = read_table(clipping, ("place", "threshold_positive", "threshold_negative"))
        initial = thresholds[thresholds["place"] == "initial"]
        if initial.empty:
            raise ReoptError(f"table {clipping} has no row of the initial state")
    with Reporter(f"beyond {task} {name}", log) as report:
        result = stage.beyond(optimizer, setup, subject=name, home=task, problems=settings.problems, seed=settings.seed)
        worse = result.table["worse"].groupby(result.table["axis"], sort=False).sum()
        report.say("values at which it is worse: " + ", ".join(f"{axis} {count}" for axis, count in worse.items()))
        if record and clipping:
            home = mechanisms.home_of(
                optimizer,
                runs,
                positive=float(initial["threshold_positive"].iloc[0]),
                negative=float(initial["threshold_negative"].iloc[0]),
                low_quantile=read["analysis.adaptation.low_quantile"],
            )
            recipe = mechanisms.Recipe(recording.seed, recording.problems, recording.state_problems, recording.params)
            table = mechanisms.breaking(optimizer, setup, runs, home, name=task, recipe=recipe)
            first = mechanisms.first_to_break(result.table, table, home=mechanisms.values_at_home(task, setup))
            for row in first.itertuples():
                report.say(f"{row.axis} {row.value:g}: {row.mechanism}")
            write_table(out / "breaking.csv", table)
            write_table(out / "first_to_break.csv", first)
    write_table(out / "beyond.csv", result.table)
    write_table(out / "horizon.csv", result.curve)


@app.command()
def transfer(
    subject: Subject,
    task: Annotated[str, typer.Option("--task", help="Task to run on, by its name in the config.")],
    out: OutFile,
    config: ConfigFile = DEFAULT,
    log: LogFile = None,
) -> None:
    """Run an optimizer on a task that it was neither trained nor tuned on; a table of one row."""
    from reopt.artifacts.tables import write_table
    from reopt.cli_analysis import _open
    from reopt.training import beyond as stage

    del log
    read, _, name, optimizer = _open(config, "transfer", task, subject, out)
    settings = read.block("evaluation")
    setup = stage.Setup(read.problem, read.num_steps)
    write_table(
        out,
        stage.transfer(optimizer, setup, subject=name, onto=task, problems=settings.problems, seed=settings.seed),
    )
