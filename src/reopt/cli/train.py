"""Subcommands of `reopt` that train: meta-training, the search for a recipe, tuning of baselines."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Annotated

import typer

from reopt.cli.app import app
from reopt.cli.options import (
    DEFAULT,
    ConfigFile,
    LogFile,
    OutDir,
    TaskName,
)
from reopt.core.errors import ReoptError


@app.command()
def metatrain(
    optimizer: Annotated[str, typer.Argument(help="Optimizer, by its name in the task's block of the config.")],
    task: TaskName,
    out: OutDir,
    config: ConfigFile = DEFAULT,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Meta-training seed.")] = 0,
    recipe: Annotated[Path | None, typer.Option(help="recipe.json of `reopt search`, for what is searched.")] = None,
    state: Annotated[Path | None, typer.Option(help="State of an unfinished run; default below .reopt/.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Cores that share the problems, where there is no GPU.")] = 1,
    keep_diverged: Annotated[
        bool, typer.Option("--keep-diverged", help="A run that diverges ends there, with the best weights it had.")
    ] = False,
    log: LogFile = None,
) -> None:
    """Meta-train a learned optimizer; a run that was killed goes on where it stopped.

    Writes best.safetensors, last.safetensors, training.csv.gz and provenance.json to the folder.
    """

    import pandas as pd

    from reopt.cli.progress import Reporter
    from reopt.core.tables import write_table
    from reopt.pipeline.slice import Slice, use_cores, with_recipe, writable
    from reopt.training import metatrain as stage

    use_cores(threads)
    read = Slice(config, "metatrain", task=task, optimizer=optimizer)
    settings = with_recipe(read.learned(optimizer), recipe, f"{config}: {optimizer} on {task}")
    outputs = [out / name for name in ("best.safetensors", "last.safetensors", "training.csv.gz", "provenance.json")]
    writable(*outputs)
    if state and state.resolve() in (path.resolve() for path in outputs):
        raise ReoptError(f"--state {state} is an output of this run: it would be removed in the end")
    identity = {"settings": read.plain() | settings.model_dump(mode="json"), "code": read.code(), "seed": seed}
    name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    state_file = state or Path(".reopt/metatrain") / f"{task}-{optimizer}-s{seed}-{name}.safetensors"
    writable(state_file)
    with Reporter(f"metatrain {task} {optimizer} seed {seed}", log) as report:
        final, description = stage.metatrain(
            read.task,
            settings,
            task_name=task,
            num_steps=read.num_steps,
            seed=seed,
            state_file=state_file,
            training_task=read.task_but(settings.training.problem),
            start_over=state is None,
            keep_diverged=keep_diverged,
            report=report,
        )
    stage.write_best(out / "best.safetensors", final, description)
    stage.write_last(out / "last.safetensors", final, description)
    write_table(out / "training.csv.gz", pd.DataFrame(stage.log_columns(final)))
    read.record(out / "provenance.json", [recipe] if recipe else [], seed=seed, data=read.data())
    state_file.unlink(missing_ok=True)


@app.command()
def search(
    task: TaskName,
    out: OutDir,
    config: ConfigFile = DEFAULT,
    threads: Annotated[int, typer.Option(min=1, help="Cores that share the problems, where there is no GPU.")] = 1,
    log: LogFile = None,
) -> None:
    """Search for a task's recipe: features, scales and learning rate, by short meta-trainings judged in validation.

    Writes recipe.csv (every candidate), recipe.json (the best) and recipe.provenance.json to the folder.
    """

    from reopt.cli.progress import Reporter
    from reopt.core.tables import write_json, write_table
    from reopt.pipeline.slice import Slice, use_cores, writable
    from reopt.training.search import search_recipe

    use_cores(threads)
    read = Slice(config, "search", task=task)
    writable(*(out / f"recipe.{suffix}" for suffix in ("csv.gz", "json", "provenance.json")))
    settings = read.learned(read.search.optimizer)
    identity = json.dumps({"settings": read.plain(), "code": read.code()}, sort_keys=True)
    states = Path(".reopt/search") / f"{task}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    writable(states / "0.safetensors")
    with Reporter(f"search {task}", log) as report:
        table, recipe = search_recipe(
            read.task,
            settings,
            read.search,
            task_name=task,
            num_steps=read.num_steps,
            training_task=read.task_but(settings.training.problem),
            state_folder=states,
            report=report,
        )
    write_table(out / "recipe.csv", table)
    write_json(out / "recipe.json", recipe)
    read.record(out / "recipe.provenance.json", data=read.data())
    shutil.rmtree(states)


@app.command()
def tune(
    baseline: Annotated[str, typer.Argument(help="sgd, momentum, rmsprop, adam or adam_decay.")],
    task: TaskName,
    out: OutDir,
    config: ConfigFile = DEFAULT,
    log: LogFile = None,
) -> None:
    """Tune a classical optimizer by random search.

    Writes BASELINE.csv.gz (every draw), BASELINE.json (the winner) and BASELINE.provenance.json to the folder.
    """
    from reopt.cli.progress import Reporter
    from reopt.core.tables import rounded, write_json, write_table
    from reopt.pipeline.slice import Slice, writable
    from reopt.training import tune as stage

    read = Slice(config, "tune", task=task, baseline=baseline)
    writable(*(out / f"{baseline}.{suffix}" for suffix in ("csv.gz", "json", "provenance.json")))
    with Reporter(f"tune {task} {baseline}", log) as report:
        report.say(f"{read.of_baselines('draws')} draws on {read.of_baselines('problems')} problems")
        table, winner = stage.tune(
            baseline,
            read.task,
            read.of_baselines(f"ranges.{baseline}"),
            draws=read.of_baselines("draws"),
            problems=read.of_baselines("problems"),
            seed=read.of_baselines("seed"),
            num_steps=read.num_steps,
            early_stopping=read.of_baselines("early_stopping"),
        )
        edge = f"; at the edge of its range: {', '.join(winner['at_edge'])}" if winner["at_edge"] else ""
        report.say(f"best meta-objective {winner['meta_objective']:.4f}{edge}")
    write_table(out / f"{baseline}.csv.gz", rounded(table))
    write_json(out / f"{baseline}.json", winner)
    read.record(out / f"{baseline}.provenance.json", data=read.data())
