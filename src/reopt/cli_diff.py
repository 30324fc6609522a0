"""`reopt diff`: whether two optimizers are the same, and if not, in what they differ."""

from pathlib import Path
from typing import Annotated

import typer

from reopt.cli import DEFAULT, AnyConfig, AnyTask, LogFile, Problems, Seed, Steps, Subject, app

DIFFERENT = 1  # exit code; 0 is equal, 2 an error


@app.command()
def diff(
    a: Subject,
    b: Subject,
    task: AnyTask,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for difference.csv and the figure; default: none are written.")
    ] = None,
    config: AnyConfig = None,
    steps: Steps = None,
    problems: Problems = 64,
    seed: Seed = 0,
    tolerance: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Relative difference of updates that counts as none.")
    ] = 1e-6,
    log: LogFile = None,
) -> None:
    """Compare two optimizers: equal along the same trajectories, or different, mechanism by mechanism.

    Exit code 0: equal within --tolerance; 1: different; 2: an error. Writes difference.csv (a row a quantity, with
    both intervals), difference.svg and difference.png to the folder, if one is given. Works in any folder.
    """
    from reopt.commands import writable
    from reopt.dissection.difference import FILES, difference, subject_from_words, table_text
    from reopt.dissection.setting import setting_of
    from reopt.progress import Reporter

    where = setting_of(task, config=config, steps=steps, default=DEFAULT)
    if out is not None:
        writable(*(out / file for file in FILES))
    with Reporter("diff", log) as report:
        one, other = (
            subject_from_words(words, task=where.task, task_name=where.name, results=where.results) for words in (a, b)
        )
        result = difference(
            one,
            other,
            where.task,
            num_steps=where.num_steps,
            problems=problems,
            seed=seed,
            tolerance=tolerance,
            say=report.say,
        )
        if out is not None:
            result.write(out)
            report.say(f"written: {out / FILES[0]}")
    typer.echo(f"A: {one.name}, B: {other.name}, on {where.name}")
    for sentence in result.words:
        typer.echo(sentence)
    if not result.equal:
        typer.echo("")
        typer.echo(table_text(result.table))
        raise typer.Exit(DIFFERENT)
