"""`reopt foretell`: what an optimizer will do, and a run for each sentence."""

from pathlib import Path
from typing import Annotated

import typer

from reopt.cli.app import app
from reopt.cli.options import DEFAULT, AnyConfig, AnyTask, LogFile, Problems, Seed, Steps, Subject
from reopt.core.errors import ReoptError


@app.command()
def foretell(
    subject: Subject,
    task: AnyTask,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the tables and the figure; default: none are written.")
    ] = None,
    examination: Annotated[
        Path | None,
        typer.Option("--examination", help="Folder in which `reopt analyse` has made what is known of it already."),
    ] = None,
    table: Annotated[Path | None, typer.Option("--table", help="File for foretold.csv alone.")] = None,
    curvature: Annotated[
        tuple[float, float] | None,
        typer.Option(min=0.0, help="Lowest and highest curvature of the task; default: of quadratics their own."),
    ] = None,
    config: AnyConfig = None,
    steps: Steps = None,
    problems: Problems = None,
    seed: Seed = None,
    log: LogFile = None,
) -> None:
    """Foretell from the linearization where an optimizer is stable, how fast it goes to rest, and what it does beyond.

    Prints each sentence as foretold or not, for each is followed by a run. Writes foretold.csv (a row a sentence),
    stability.csv and locus.csv (against curvature), along.csv (along the schedule) and the figure foretold to the
    folder, if one is given. Exit code 0, also where a sentence does not hold. Works in any folder.
    """
    from reopt.cli.progress import Reporter
    from reopt.examination.foretell import FILES
    from reopt.examination.foretell import foretell as stage
    from reopt.pipeline.setting import setting_of
    from reopt.pipeline.slice import writable
    from reopt.pipeline.subjects import resolve

    if curvature is not None and not 0 < curvature[0] <= curvature[1] < float("inf"):
        raise ReoptError(f"--curvature {curvature[0]:g} {curvature[1]:g}: give two numbers above 0, the lower first")
    if examination is not None:
        _of_the_pipeline(subject, task, config or DEFAULT, examination, table, log)
        return
    where = setting_of(
        task, config=config, steps=steps, problems=problems, seed=seed, default=DEFAULT, subjects=[subject]
    )
    if out is not None:
        writable(*(out / file for file in (*FILES, "foretold.svg", "foretold.png")))
    if table is not None:
        writable(table)
    name, optimizer = resolve(subject, task=where.task, task_name=where.name, results=where.results, decay=True)
    with Reporter(f"foretell {name}", log) as report:
        result = stage(optimizer, where.task, where.settings, name=name, curvatures=curvature, say=report.say)
        if out is not None:
            result.write(out)
            report.say(f"written: {out / FILES[0]}")
        if table is not None:
            result.write_table(table)
    typer.echo(repr(result))


def _of_the_pipeline(
    subject: str, task: str, config: Path, examination: Path, table: Path | None, log: Path | None
) -> None:
    """The table of a subject that the pipeline has examined."""
    from reopt.cli.progress import Reporter
    from reopt.examination.examination import Examination
    from reopt.examination.foretell import Foretelling, curvatures_of
    from reopt.pipeline.slice import Slice, writable
    from reopt.pipeline.subjects import resolve

    if table is None:
        raise ReoptError("--examination needs --table: the file to write")
    read = Slice(config, "foretell", task=task)
    writable(table)
    name, optimizer = resolve(subject, task=read.task, task_name=task, results=read.results)
    found = Examination(optimizer, read.task, read.settings, name=name, stored=examination)
    found.require("recording", "points", "linearization", "clipping")
    with Reporter(f"foretell {task} {name}", log) as report:
        result = Foretelling(found, curvatures_of(read.task))
        result.write_table(table)
        told = result.table["agrees"].dropna()
        report.say(result.refusal or f"{int(told.sum())} of {len(told)} sentences as foretold")
