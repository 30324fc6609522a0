"""`reopt dissect` and `reopt diff`: the examination of any optimizer, and of what two differ in, from any folder."""

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reopt.cli.app import app
from reopt.cli.options import (
    DEFAULT,
    AnyConfig,
    AnyTask,
    Draws,
    LogFile,
    NoCache,
    OutDir,
    Problems,
    Seed,
    Steps,
    Subject,
)
from reopt.core.errors import ReoptError

if TYPE_CHECKING:
    from reopt.optimizers.base import Optimizer

TUNING, DRAWING = 0.3, 0.1  # shares of a dissection that these usually take
DIFFERENT = 1  # exit code of `diff`; 0 is equal, 2 an error


class Format(StrEnum):
    """Of a figure's file."""

    svg = "svg"
    png = "png"
    pdf = "pdf"


FORMATS = [Format.svg, Format.png]
OF_SYSTEMS = {"family": 50, "catch": 128}  # tasks that only they are trained on, and the steps of a run there


@app.command()
def dissect(
    subject: Subject,
    task: AnyTask,
    out: OutDir,
    config: AnyConfig = None,
    steps: Steps = None,
    problems: Problems = None,
    seed: Seed = None,
    draws: Draws = 200,
    no_cache: NoCache = False,
    formats: Annotated[
        list[Format], typer.Option("--format", help="Of the figures; may be given several times.")
    ] = FORMATS,
    anew: Annotated[
        bool, typer.Option("--anew", help="Compute everything, even what the pipeline has made of this optimizer.")
    ] = False,
    coupled: Annotated[
        bool, typer.Option("--coupled", help="Take an optax transformation that couples parameters, see below.")
    ] = False,
    log: LogFile = None,
) -> None:
    """Examine an optimizer: fixed points, modes, clipping, schedule, adaptation, and what they leave unexplained.

    Writes readings.csv (a row a reading, a verdict a mechanism), evaluation.csv, the tables and arrays of the
    examination under the names that the pipeline gives them (schedule.csv, fixed_points.npz, ...), the figures, and
    index.html, one page with all of it, to the folder. SUBJECT may be any component-wise optax
    transformation; what decoupled weight decay takes away is said beside the readings. With --coupled it may also be
    one that couples parameters (a global norm): the readings are then those of a problem with a single scalar
    parameter, and say so; the loss curves are true. Works in any folder: momentum, rmsprop and adam are tuned first
    where there is no config.

    SUBJECT may also be open:FILE, weights of the published optimizer OPEN: it is run with its context and read there,
    at finite gradients; the folder then holds verdicts.csv, tables of what was read, and index.html
    (docs: published). So is a checkpoint of `reopt.systems` (STAR, VeLO, the hierarchical optimizer, Optim4RL), for
    which TASK may also be one that these are trained on: family or catch.
    """
    from reopt.published.subjects import sees_more

    if sees_more(subject):
        return _dissect_published(
            subject, task, out, config=config, steps=steps, problems=problems, seed=seed, coupled=coupled, log=log
        )
    from reopt.cli.progress import Reporter
    from reopt.examination.dissect import dissect as examine
    from reopt.examination.dissect import written_files
    from reopt.pipeline.baseline_cache import cache_folder
    from reopt.pipeline.setting import is_baseline, made_by_pipeline, setting_of, to_tune, tuned_rivals
    from reopt.pipeline.slice import writable
    from reopt.pipeline.subjects import resolve

    where = setting_of(
        task, config=config, steps=steps, problems=problems, seed=seed, default=DEFAULT, subjects=[subject]
    )
    writable(*(out / file for file in written_files(formats)))
    to_be_tuned = bool(draws and to_tune([subject], where))  # the subject is one of the rivals, which are tuned here
    name = subject
    optimizer: Optimizer | None = None
    if not to_be_tuned:
        name, optimizer = resolve(
            subject, task=where.task, task_name=where.name, results=where.results, decay=True, coupled=coupled
        )
    with Reporter(f"dissect {name}", log) as report:
        made = None if anew or steps or problems or seed is not None else made_by_pipeline(subject, name, where)
        if made:
            report.say(f"what there is of it in {made.folder} is read; --anew computes it")
        cache = None if no_cache else cache_folder()
        sizes = {"draws": draws, "seed": seed or 0}
        tuning = report.share(0.0, TUNING)
        rivals = tuned_rivals(where, **sizes, say=report.say, cache=cache, report=tuning)
        if to_be_tuned:
            optimizer = rivals.get(name)
            if optimizer is None:
                raise ReoptError(f"{name} cannot be examined: all {draws} draws of it diverged on this task")
        if is_baseline(subject, name, where):
            rivals.pop(name, None)
        result = examine(
            optimizer,
            where.task,
            where.settings,
            name=name,
            task_name=where.name,
            rivals=rivals,
            say=report.say,
            report=report.share(TUNING if tuning.used else 0.0, 1 - DRAWING),
            stored=made.folder if made else None,
            known=made.evaluations([name, *rivals]) if made else None,
        )
        for finding in result.findings:
            report.say(f"{finding.mechanism}: {finding.verdict}; {finding.why}")
        drawing = report.share(1 - DRAWING, 1.0)
        drawing(0, 1, "drawing")
        result.write(out, command=shlex.join(["reopt", *sys.argv[1:]]), formats=formats)
        drawing(1, 1, "drawn")
        report.say(f"written: {out / 'index.html'}")


def _dissect_published(
    subject: str,
    task: str,
    out: Path,
    *,
    config: Path | None,
    steps: int | None,
    problems: int | None,
    seed: int | None,
    coupled: bool,
    log: Path | None,
) -> None:
    """An optimizer with a context, read in it."""
    from reopt.cli.progress import Reporter
    from reopt.core.tables import write_text
    from reopt.pipeline.setting import setting_of
    from reopt.pipeline.slice import writable
    from reopt.published.in_context import FILES, read_in_context
    from reopt.published.page import PAGE, page_of
    from reopt.published.subjects import load_seeing
    from reopt.version import versions

    if coupled:
        raise ReoptError(f"--coupled is for optax transformations: {subject} is read with all that it is told")
    writable(*(out / file for file in (*FILES, PAGE)))
    name, optimizer, sure = load_seeing(subject)
    if sure and task in OF_SYSTEMS and config is None:
        from reopt.systems.schema import TaskEntry

        num_steps = steps or OF_SYSTEMS[task]
        target = TaskEntry.model_validate({"kind": task, "num_steps": num_steps, "rivals": {}}).task
    else:
        where = setting_of(task, config=config, steps=steps, problems=problems, seed=seed, default=DEFAULT)
        target, num_steps = where.task, where.settings.num_steps
    with Reporter(f"dissect {name}", log) as report:
        sizes = {"problems": problems or 16, "num_steps": num_steps, "seed": seed or 0}
        result = read_in_context(optimizer, target, layout_known=sure, **sizes)
        for sentence in result.sentences():
            report.say(sentence)
        facts = {
            "task": f"{task}, {sizes['problems']} held-out problems of seed {sizes['seed']}, {num_steps} steps",
            "versions": versions(),
        }
        command = shlex.join(["reopt", *sys.argv[1:]])
        text = page_of(result, name, task, facts=facts, command=command)
        result.write(out)
        write_text(out / PAGE, text)
        report.say(f"written: {out / PAGE}")


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
    problems: Problems = None,
    seed: Seed = None,
    tolerance: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Relative difference of updates that counts as none.")
    ] = 1e-6,
    log: LogFile = None,
) -> None:
    """Compare two optimizers: equal along the same trajectories, or different, mechanism by mechanism.

    Exit code 0: equal within --tolerance; 1: different; 2: an error. Writes difference.csv (a row a quantity, with
    both intervals), difference.svg and difference.png to the folder, if one is given. Works in any folder.
    """
    from reopt.cli.progress import Reporter
    from reopt.examination.compare import FILES, difference, table_text
    from reopt.pipeline.setting import setting_of, subject_from_words
    from reopt.pipeline.slice import writable

    problems, seed = problems or 64, seed or 0
    where = setting_of(task, config=config, steps=steps, problems=problems, seed=seed, default=DEFAULT, subjects=[a, b])
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
            where.settings,
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
