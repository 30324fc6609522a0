"""The command `reopt`: one subcommand per rule of the pipeline, the same door for people and for Snakemake."""

import importlib
import io
import logging
import os
import shutil
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from reopt.errors import ReoptError

app = typer.Typer(
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Reverse-engineer optimizers: meta-train them, judge them, find their mechanisms.",
    epilog="The whole pipeline: `snakemake`. Each rule of it is one of these commands.",
)

ConfigFile = Annotated[Path, typer.Option("--config", help="Config file.", show_default=True)]
TaskName = Annotated[str, typer.Option("--task", help="Task, by its name in the config.")]
OutFile = Annotated[Path, typer.Option("--out", help="File to write.")]
OutDir = Annotated[Path, typer.Option("--out", help="Folder to write to.")]
LogFile = Annotated[Path | None, typer.Option("--log", help="Also append progress lines to this file.")]
Subject = Annotated[
    str,
    typer.Argument(
        help="A checkpoint or tuned baseline's file, 'best', a baseline's name, 'polyak', a run of the pipeline "
        "(gru32-s0), file.py:name or package.module:name."
    ),
]
DEFAULT = Path("config/laptop.yaml")
# Of the commands that work in any folder, with or without a config.
AnyTask = Annotated[
    str, typer.Option("--task", help="A task of the config, an installed task (quadratic), or file.py:task.")
]
AnyConfig = Annotated[
    Path | None,
    typer.Option("--config", help=f"Config file; default: {DEFAULT} where there is one, else the task's own."),
]
Steps = Annotated[
    int | None, typer.Option(min=2, max=1_000_000, help="Steps of a run; default: the config's, else 201.")
]
Problems = Annotated[int, typer.Option(min=2, max=100_000, help="Problems to run on.")]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Their seed.")]
INTERRUPTED = 130  # what typer makes of Ctrl-C


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

    Writes best.safetensors, last.safetensors, training.csv and provenance.json to the folder.
    """
    import hashlib
    import json

    import pandas as pd

    from reopt.artifacts.tables import write_table
    from reopt.commands import Slice, use_cores, with_recipe, writable
    from reopt.progress import Reporter
    from reopt.training import metatrain as stage

    use_cores(threads)
    read = Slice(config, "metatrain", task=task, optimizer=optimizer)
    settings = with_recipe(read.learned(optimizer), recipe, f"{config}: {optimizer} on {task}")
    outputs = [out / name for name in ("best.safetensors", "last.safetensors", "training.csv", "provenance.json")]
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
    write_table(out / "training.csv", pd.DataFrame(stage.log_columns(final)))
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
    import hashlib
    import json

    from reopt.artifacts.tables import write_json, write_table
    from reopt.commands import Slice, use_cores, writable
    from reopt.progress import Reporter
    from reopt.training.search import search_recipe

    use_cores(threads)
    read = Slice(config, "search", task=task)
    writable(*(out / f"recipe.{suffix}" for suffix in ("csv", "json", "provenance.json")))
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

    Writes BASELINE.csv (every draw), BASELINE.json (the winner) and BASELINE.provenance.json to the folder.
    """
    from reopt.artifacts.tables import rounded, write_json, write_table
    from reopt.commands import Slice, writable
    from reopt.progress import Reporter
    from reopt.training import tune as stage

    read = Slice(config, "tune", task=task, baseline=baseline)
    writable(*(out / f"{baseline}.{suffix}" for suffix in ("csv", "json", "provenance.json")))
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
            give_up=read.of_baselines("give_up"),
        )
        edge = f"; at the edge of its range: {', '.join(winner['at_edge'])}" if winner["at_edge"] else ""
        report.say(f"best meta-objective {winner['meta_objective']:.4f}{edge}")
    write_table(out / f"{baseline}.csv", rounded(table))
    write_json(out / f"{baseline}.json", winner)
    read.record(out / f"{baseline}.provenance.json", data=read.data())


@app.command()
def evaluate(
    subjects: Annotated[list[str], typer.Argument(metavar="SUBJECT...", help="What to judge, one or more.")],
    task: TaskName,
    out: Annotated[Path, typer.Option("--out", help="Table to write, CSV: a row a problem.")],
    config: ConfigFile = DEFAULT,
    problems: Annotated[
        int | None, typer.Option(min=2, max=1_000_000, help="Number of problems; default: the config's.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**31 - 1, help="Their seed; default: the config's.")] = None,
    curves: Annotated[Path | None, typer.Option(help="Also write the loss curves, CSV: a row a step.")] = None,
    log: LogFile = None,
) -> None:
    """Judge optimizers on held-out problems, and print each one's mean meta-objective with its 95% interval.

    Columns: optimizer, task, seed, problem, meta_objective, final_loss.
    """
    import numpy as np
    import pandas as pd

    from reopt.artifacts.tables import rounded, write_table
    from reopt.commands import Slice, writable
    from reopt.optimizers.optax_bridge import FromOptax
    from reopt.progress import Reporter
    from reopt.subjects import resolve
    from reopt.training import evaluate as stage
    from reopt.training.evaluate_optax import evaluate_optax

    read = Slice(config, "evaluate", task=task)
    writable(out, *([curves] if curves else []))
    settings = read.block("evaluation")
    problems = problems or settings.problems
    seed = settings.seed if seed is None else seed
    target = read.task
    found = [resolve(words, task=target, task_name=task, results=read.results, decay=True) for words in subjects]
    results = []
    with Reporter(f"evaluate {task}", log) as report:
        for name, optimizer in found:
            judge: Any = stage.evaluate
            judged: Any = optimizer
            if isinstance(optimizer, FromOptax) and optimizer.weight_decay:  # its true runs see the parameters
                judge, judged = evaluate_optax, optimizer.transformation
            result = judge(
                judged, target, name=name, task_name=task, problems=problems, seed=seed, num_steps=read.num_steps
            )
            mean, low, high = stage.mean_interval(result.table["meta_objective"].to_numpy())
            lost = int((~np.isfinite(result.table["meta_objective"])).sum())
            diverged = f"; diverged on {lost} of them" if lost else ""
            report.say(f"{name}: meta-objective {mean:.4f} [{low:.4f}, {high:.4f}], {problems} problems{diverged}")
            results.append(result)
    write_table(out, rounded(pd.concat([result.table for result in results])))
    if curves:
        write_table(curves, rounded(pd.concat([result.curves for result in results])))


@app.command()
def conditions(task: TaskName, out: OutFile, config: ConfigFile = DEFAULT, log: LogFile = None) -> None:
    """Condition numbers, extreme Hessian eigenvalues and initial losses of the evaluation problems."""
    from reopt.artifacts.tables import write_table
    from reopt.commands import Slice, writable
    from reopt.training import conditions as stage

    del log
    read = Slice(config, "conditions", task=task)
    writable(out)
    settings = read.block("evaluation")
    write_table(out, stage.conditions(read.task, problems=settings.problems, seed=settings.seed))


@app.command("check-config")
def check_config(files: Annotated[list[Path], typer.Argument(help="Config files.")]) -> None:
    """Check config files: keys, types, bounds, tasks. Prints one line for each."""
    from reopt.config import load_config

    for file in files:
        load_config(file)
        typer.echo(f"{file}: fine")


def main() -> None:
    """Entry point: an error is one line and exit code 2; with REOPT_TRACEBACK in the environment, all of it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may hold what the terminal cannot show
    warnings.simplefilter("ignore", RuntimeWarning)  # of numbers that left their range: the commands say so themselves
    logging.getLogger("jax").setLevel(logging.ERROR)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    for more in (
        "reopt.cli_analysis",
        "reopt.cli_causes",
        "reopt.cli_landscape",
        "reopt.cli_dissect",
        "reopt.cli_diff",
        "reopt.cli_estimate",
        "reopt.cli_beyond",
        "reopt.cli_trace",
        "reopt.cli_deviations",
    ):  # each adds its commands to `app`
        importlib.import_module(more)
    from snakedvc import die_with_parent

    if os.environ.get("REOPT_DIE_WITH_PARENT"):  # set by the Snakefile: a killed pipeline leaves no job behind
        die_with_parent()
    try:
        _refuse_overwriting(sys.argv[1:])
        code = app(sys.argv[1:] or ["--help"], prog_name="reopt", standalone_mode=False)
    except ReoptError as error:
        _fail(error)
    except typer.TyperException as error:  # of the command line's own words
        _fail(ReoptError(error.format_message()))
    except OSError as error:  # of a name or place that the system refuses
        _fail(ReoptError(f"{error.filename or 'the system says'}: {error.strerror or error}"))
    except MemoryError:
        _fail(ReoptError("out of memory; try fewer problems"))
    except (SystemExit, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # whatever somebody's file or optimizer brings
        if os.environ.get("REOPT_TRACEBACK"):
            raise
        words = " ".join(str(error).split())
        words = words if len(words) <= 300 else f"{words[:297]}..."
        _fail(ReoptError(f"{type(error).__name__}: {words} (REOPT_TRACEBACK=1 shows where)"))
    if code == INTERRUPTED:
        print("reopt: interrupted", file=sys.stderr)
    sys.exit(code)


def _refuse_overwriting(arguments: list[str]) -> None:
    """No file may be written that the same command reads, or writes as something else. **Raises** `ReoptError`."""
    pairs = [item.partition("=") if item.startswith("--") else (item, "", "") for item in arguments]
    words = [value or name for name, _, value in pairs if value or not name.startswith("--")]
    for option in ("--out", "--curves", "--log", "--state"):
        for i, (name, _, value) in enumerate(pairs):
            target = value or (arguments[i + 1] if i + 1 < len(arguments) else "") if name == option else ""
            if target and not Path(target).is_dir() and not target.startswith("/dev/"):
                same = [word for word in words if word and Path(word).resolve() == Path(target).resolve()]
                if len(same) > 1:
                    raise ReoptError(f"{option} {target} is a file that this command also reads or writes otherwise")


def _fail(error: ReoptError) -> NoReturn:
    print(f"reopt: error: {error}", file=sys.stderr)
    sys.exit(2)
