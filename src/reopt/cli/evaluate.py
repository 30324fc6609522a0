"""Subcommands of `reopt` that judge optimizers by their loss curves, and measure how hard the problems are."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from reopt.cli.app import app
from reopt.cli.options import (
    DEFAULT,
    AnyConfig,
    AnyTask,
    ConfigFile,
    Draws,
    LogFile,
    NoCache,
    OutDir,
    OutFile,
    Seed,
    Steps,
    Subject,
    TaskName,
)
from reopt.core.errors import ReoptError


@app.command()
def evaluate(
    subjects: Annotated[list[str], typer.Argument(metavar="SUBJECT...", help="What to judge, one or more.")],
    task: AnyTask,
    out: Annotated[Path | None, typer.Option("--out", help="Table to write, CSV: a row a problem.")] = None,
    config: AnyConfig = None,
    steps: Steps = None,
    problems: Annotated[
        int | None, typer.Option(min=2, max=1_000_000, help="Number of problems; default: the config's, else 256.")
    ] = None,
    seed: Seed = None,
    curves: Annotated[Path | None, typer.Option(help="Also write the loss curves, CSV: a row a step.")] = None,
    draws: Draws = 200,
    no_cache: NoCache = False,
    log: LogFile = None,
) -> None:
    """Judge optimizers on held-out problems, and print each one's mean meta-objective with its 95% interval.

    Columns: optimizer, task, seed, problem, meta_objective, final_loss. Works in any folder: without a config a shipped
    optimizer (mnist/gru16) has its task as it was trained on it, and momentum, rmsprop and adam are tuned first.
    A file of published weights (open:FILE) and a checkpoint of `reopt.systems` run with all that they are told.
    """
    import numpy as np
    import pandas as pd

    from reopt.cli.progress import Reporter
    from reopt.core.tables import rounded, write_table
    from reopt.evaluation import evaluate as stage
    from reopt.evaluation.evaluate_optax import evaluate_optax
    from reopt.optimizers.base import Optimizer
    from reopt.optimizers.joint import Joint
    from reopt.optimizers.optax_bridge import FromOptax
    from reopt.optimizers.refusals import MORE, RANDOM, NotComponentWise
    from reopt.pipeline.baseline_cache import cache_folder
    from reopt.pipeline.setting import evaluation_setting, to_tune, tuned_rival
    from reopt.pipeline.slice import writable
    from reopt.pipeline.subjects import load_object, made, resolve, split_object
    from reopt.published.subjects import load_seeing, sees_more
    from reopt.shipped.use import task_out_of_range
    from reopt.training.evolution import unroll_joint

    subjects = list(dict.fromkeys(subjects))  # one that is named twice is judged once
    where = evaluation_setting(task, config=config, default=DEFAULT, subjects=subjects)
    writable(*filter(None, (out, curves)))
    problems = problems or where.settings.evaluation_problems
    seed = where.settings.evaluation_seed if seed is None else seed
    num_steps = steps or where.settings.num_steps
    where = where._replace(settings=replace(where.settings, num_steps=num_steps))
    target, rivals = where.task, to_tune(subjects, where) if draws else []
    found: dict[str, tuple[str, Any]] = {}
    for words in (one for one in subjects if one not in rivals):
        if sees_more(words):
            found[words] = load_seeing(words)[:2]
            continue
        try:
            found[words] = resolve(words, task=target, task_name=where.name, results=where.results, decay=True)
        except ReoptError as error:
            why = error.__cause__  # `resolve` says of which subject it is
            if not isinstance(why, NotComponentWise) or why.kind in (MORE, RANDOM):
                raise
            found[words] = split_object(words)[1], made(load_object(words), words)
    results = []
    with Reporter(f"evaluate {where.name}", log) as report:
        for words in rivals:
            cache = None if no_cache else cache_folder()
            tuned = tuned_rival(words, where, draws=draws, seed=0, say=report.say, cache=cache)
            if tuned is None:
                raise ReoptError(f"{words} cannot be judged: all {draws} draws of it diverged on this task")
            found[words] = words, tuned
        labels = _told_apart([found[words][0] for words in subjects], subjects)
        for name, (own, optimizer) in zip(labels, (found[words] for words in subjects), strict=True):
            if name != own:
                report.say(f"{own} is the name of several: this one is called {name}")
            judge: Any = stage.evaluate
            judged: Any = optimizer
            decays = optimizer.weight_decay if isinstance(optimizer, FromOptax) else False
            if decays or getattr(optimizer, "sees_values", False):  # its true runs see the parameters
                judge, judged = evaluate_optax, judged.transformation
            if isinstance(optimizer, Joint):
                judge = partial(stage.judge, unroll_joint)
            elif not isinstance(optimizer, Optimizer):
                judge = evaluate_optax
                report.say(f"{name} does not act on each parameter alone: run on {_layout(target)}")
            else:
                for sentence in task_out_of_range(optimizer, target, num_steps=num_steps, seed=seed):
                    report.say(sentence)
            result = judge(
                judged, target, name=name, task_name=where.name, problems=problems, seed=seed, num_steps=num_steps
            )
            mean, low, high = stage.mean_interval(result.table["meta_objective"].to_numpy())
            lost = int((~np.isfinite(result.table["meta_objective"])).sum())
            diverged = f"; diverged on {lost} of them" if lost else ""
            report.say(f"{name}: meta-objective {mean:.4f} [{low:.4f}, {high:.4f}], {problems} problems{diverged}")
            results.append(result)
    if out:
        write_table(out, rounded(pd.concat([result.table for result in results])))
    if curves:
        write_table(curves, rounded(pd.concat([result.curves for result in results])))


def _layout(task: Any) -> str:
    """The arrays of a task, in words."""
    from reopt.evaluation.evaluate_optax import names_of

    names = ["/".join(path) for path in names_of(task)]
    if len(names) == 1:
        return f"one vector, {names[0]}"
    return f"its arrays {', '.join(names[:2])}{f', ..., {names[-1]}' if len(names) > 2 else ''}"


def _told_apart(names: list[str], subjects: list[str]) -> list[str]:
    """The names of subjects; where several have one, each but the one that is called so by its words gets these,
    without the folder where that is enough."""
    ends = [Path(words).name for words in subjects]
    return [
        name if names.count(name) == 1 or words == name else end if ends.count(end) == 1 else words
        for name, end, words in zip(names, ends, subjects, strict=True)
    ]


@app.command()
def conditions(task: TaskName, out: OutFile, config: ConfigFile = DEFAULT, log: LogFile = None) -> None:
    """Condition numbers, extreme Hessian eigenvalues and initial losses of the evaluation problems."""
    from reopt.core.tables import write_table
    from reopt.evaluation import conditioning as stage
    from reopt.pipeline.slice import Slice, writable

    del log
    read = Slice(config, "conditions", task=task)
    writable(out)
    settings = read.block("evaluation")
    write_table(out, stage.conditions(read.task, problems=settings.problems, seed=settings.seed))


@app.command()
def landscape(subject: Subject, task: TaskName, out: OutDir, config: ConfigFile = DEFAULT, log: LogFile = None) -> None:
    """The loss of one evaluation problem on the plane of an optimizer's path, and the path on it.

    Writes landscape.csv (u, v, loss) and path.csv (step, u, v, distance, loss) to the folder.
    """
    from reopt.core.tables import write_table
    from reopt.evaluation.landscape import landscape as stage
    from reopt.pipeline.slice import Slice, writable
    from reopt.pipeline.subjects import resolve

    del log
    read = Slice(config, "landscape", task=task)
    writable(out / "landscape.csv", out / "path.csv")
    target = read.task
    _, optimizer = resolve(subject, task=target, task_name=task, results=read.results)
    result = stage(optimizer, target, read.block("evaluation").seed, read.num_steps)
    write_table(out / "landscape.csv", result.grid)
    write_table(out / "path.csv", result.path)
