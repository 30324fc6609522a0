"""Subcommands of `reopt` that take mechanisms away, or take an optimizer out of its distribution."""

from pathlib import Path
from typing import Annotated

import typer

from reopt.cli.app import app
from reopt.cli.options import (
    DEFAULT,
    ConfigFile,
    LogFile,
    OutDir,
    OutFile,
    Subject,
    TaskName,
)
from reopt.core.errors import ReoptError

ExaminationDir = Annotated[
    Path, typer.Option("--examination", help="Folder in which `reopt analyse` has made the parts that are needed.")
]


def _open(config: Path, name: str, task: str, subject: str, *outputs: Path):
    """(slice of the config, task, subject's name, optimizer) of a command whose outputs can be written."""
    from reopt.pipeline.slice import Slice, writable
    from reopt.pipeline.subjects import resolve

    read = Slice(config, name, task=task)
    writable(*outputs)
    target = read.task
    name, optimizer = resolve(subject, task=target, task_name=task, results=read.results)
    return read, target, name, optimizer


@app.command()
def causes(
    subject: Subject,
    task: TaskName,
    examination: ExaminationDir,
    out: OutDir,
    momentum: Annotated[
        Path | None, typer.Option("--momentum", help="A tuned momentum (.json of `reopt tune`) to run beside it.")
    ] = None,
    config: ConfigFile = DEFAULT,
    log: LogFile = None,
) -> None:
    """Take momentum, clipping, schedule and adaptation away, in all combinations: what the meta-objective loses.

    Writes causes.csv (a row a combination) and worth.csv (what each mechanism is worth) to the folder.
    """
    from reopt.core.determinism import same_on_all_processors

    same_on_all_processors()
    from reopt.cli.progress import Reporter
    from reopt.examination.examination import Examination
    from reopt.examination.parts import files_of
    from reopt.examination.storage import save
    from reopt.mechanisms import ablation as stage
    from reopt.optimizers.load import load_baseline

    outputs = (out / file for file in files_of("ablation"))
    read, target, name, optimizer = _open(config, "causes", task, subject, *outputs)
    settings = read.block("evaluation")
    found = Examination(optimizer, target, read.settings, name=name, stored=examination)
    found.require("linearization", "clipping")
    result = stage.causes(
        optimizer,
        found.linearization,
        target,
        seed=settings.seed,
        num_steps=read.num_steps,
        problems=stage.num_problems(target, optimizer, settings.problems),
        half_slope=stage.half_slope_range(found.clipping),
        tuned_momentum=load_baseline(momentum) if momentum else None,
    )
    with Reporter(f"causes {task} {name}", log) as report:
        alone = result.worth[result.worth["quantity"] == "alone"]
        report.say("; ".join(f"without {row.mechanism} {row.value:+.3g}" for row in alone.itertuples()))
    save("ablation", result, out)


@app.command()
def beyond(
    subject: Subject,
    task: TaskName,
    out: OutDir,
    config: ConfigFile = DEFAULT,
    examination: Annotated[
        Path | None,
        typer.Option("--examination", help="Folder of `reopt analyse`, for which mechanism fails first."),
    ] = None,
    log: LogFile = None,
) -> None:
    """Longer runs, rescaled losses, other condition numbers: where an optimizer fails.

    Writes beyond.csv and horizon.csv to the folder; with --examination breaking.csv and first_to_break.csv.
    """
    from reopt.cli.progress import Reporter
    from reopt.core.tables import write_table
    from reopt.evaluation import shift as stage
    from reopt.examination.examination import Examination
    from reopt.mechanisms import failure as mechanisms

    files = ["beyond.csv", "horizon.csv", *(["breaking.csv", "first_to_break.csv"] if examination else [])]
    read, target, name, optimizer = _open(config, "beyond", task, subject, *(out / file for file in files))
    setup = stage.Setup(read.problem, read.num_steps)
    settings, recording = read.block("evaluation"), read.block("record")
    if examination:  # before the work, for they may be damaged
        found = Examination(optimizer, target, read.settings, name=name, stored=examination)
        found.require("recording", "clipping")
        runs, initial = found.recording, found.clipping[found.clipping["place"] == "initial"]
        if initial.empty:
            raise ReoptError(f"the clipping stored in {examination} has no row of the initial state")
    with Reporter(f"beyond {task} {name}", log) as report:
        result = stage.beyond(optimizer, setup, subject=name, home=task, problems=settings.problems, seed=settings.seed)
        worse = result.table["worse"].groupby(result.table["axis"], sort=False).sum()
        report.say("values at which it is worse: " + ", ".join(f"{axis} {count}" for axis, count in worse.items()))
        if examination:
            home = mechanisms.home_of(
                optimizer,
                runs,
                positive=float(initial["half_slope_positive"].iloc[0]),
                negative=float(initial["half_slope_negative"].iloc[0]),
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
    from reopt.core.tables import write_table
    from reopt.evaluation import shift as stage

    del log
    read, _, name, optimizer = _open(config, "transfer", task, subject, out)
    settings = read.block("evaluation")
    setup = stage.Setup(read.problem, read.num_steps)
    write_table(
        out,
        stage.transfer(optimizer, setup, subject=name, onto=task, problems=settings.problems, seed=settings.seed),
    )
