"""Subcommands of `reopt` for the published systems: train, tune rivals, judge, read, compare, claims, figure."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reopt.cli.app import app
from reopt.cli.options import LogFile, OutDir, OutFile
from reopt.core.errors import ReoptError

if TYPE_CHECKING:
    from reopt.systems.kinds import Loaded
    from reopt.systems.schema import SystemEntry, SystemsConfig, TaskEntry

SystemsFile = Annotated[Path, typer.Option("--config", help="Config file of systems.", show_default=True)]
SystemName = Annotated[str, typer.Argument(help="System, by its name in the config.")]
RivalTask = Annotated[str, typer.Option("--task", help="Task, by its name in the config.")]
SYSTEMS = Path("config/systems.yaml")


@app.command("train-system")
def train_system(
    system: SystemName,
    out: OutDir,
    config: SystemsFile = SYSTEMS,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Meta-training seed.")] = 0,
    log: LogFile = None,
) -> None:
    """Meta-train a published system; a run that was killed goes on where it stopped.

    Writes best.safetensors, training.csv.gz and provenance.json to the folder.
    """
    from reopt.cli.progress import Reporter
    from reopt.core.tables import write_table
    from reopt.pipeline.slice import use_cores, writable
    from reopt.systems import kinds, stages, training

    use_cores(1)
    content, entry, task = _system(config, system)
    best, table, provenance = (out / name for name in ("best.safetensors", "training.csv.gz", "provenance.json"))
    writable(best, table, provenance)
    stage = stages.training(content, system)
    code, settings = _code(*stage.modules), _settings(content, *stage.keys)
    text = json.dumps([code, settings, seed], sort_keys=True)
    state_file = (
        Path(".reopt/systems") / f"{system}-s{seed}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.safetensors"
    )
    writable(state_file)
    with Reporter(f"train-system {system} seed {seed}", log) as report:
        state = training.train(
            entry, task.task, num_steps=task.num_steps, seed=seed, state_file=state_file, report=report
        )
    kinds.save(best, state.best, entry.kind, entry.settings, seed=seed, task=entry.task)
    write_table(table, training.log_table(state))
    _record(provenance, stage.modules, settings | {"seed": seed}, code, [])
    state_file.unlink(missing_ok=True)


@app.command("tune-rival")
def tune_rival(
    rival: Annotated[str, typer.Argument(help="Rival, by its name in the task's block.")],
    task: RivalTask,
    out: OutDir,
    config: SystemsFile = SYSTEMS,
    log: LogFile = None,
) -> None:
    """Score settings of a rival on tuning problems: all on the first of them, the best on the rest too.

    Writes draws.csv (every draw), winner.json (the best by each measure) and provenance.json to the folder.
    """
    from reopt.cli.progress import Reporter
    from reopt.core.tables import rounded, write_json, write_table
    from reopt.pipeline.slice import use_cores, writable
    from reopt.systems import judge, rivals, stages

    use_cores(1)
    content, entry = _task(config, task)
    name, ranges = _rival(entry, config, task, rival)
    table, winner, provenance = (out / name for name in ("draws.csv", "winner.json", "provenance.json"))
    writable(table, winner, provenance)
    tuning = content.tuning
    unit, draws = rivals.draw(ranges, tuning.draws, tuning.seed)
    with Reporter(f"tune-rival {task} {rival}", log) as report:
        report.say(f"{tuning.draws} draws on {tuning.first} problems, then the best on {tuning.problems}")
        found, chosen = judge.race(
            lambda settings: rivals.build(name, settings), draws, entry.task, tuning, entry.num_steps
        )
    write_table(table, rounded(found))
    write_json(
        winner,
        {
            measure: {
                "draw": draw,
                "settings": {key: float(value[draw]) for key, value in draws.items()},
                "at_edge": rivals.at_edge(ranges, unit[draw]),
            }
            for measure, draw in chosen.items()
        },
    )
    stage = stages.tuning(content, task, rival)
    _record(provenance, stage.modules, _settings(content, *stage.keys), _code(*stage.modules), [])


@app.command("judge-rival")
def judge_rival(
    draws: Annotated[Path, typer.Argument(help="draws.csv of `reopt tune-rival`.")],
    rival: Annotated[str, typer.Option("--rival", help="Rival, by its name in the task's block.")],
    task: RivalTask,
    out: OutFile,
    config: SystemsFile = SYSTEMS,
    log: LogFile = None,
) -> None:
    """Judge a rival on held-out problems: its best setting for all, and the best of each problem by itself.

    Only draws that were scored on all tuning problems are run.
    """
    import numpy as np

    from reopt.cli.progress import Reporter
    from reopt.core.tables import read_table, rounded, write_table
    from reopt.pipeline.slice import use_cores, writable
    from reopt.systems import judge, rivals

    use_cores(1)
    content, entry = _task(config, task)
    name, ranges = _rival(entry, config, task, rival)
    writable(out)
    table = read_table(draws, (*ranges, "problems"))
    table = table[table["problems"] == table["problems"].max()]
    settings = {key: table[key].to_numpy(np.float32) for key in ranges}
    means = {column: table[f"mean_{column}"].to_numpy() for column in _measures(table, draws)}
    with Reporter(f"judge-rival {task} {rival}", log) as report:
        report.say(f"{len(table)} draws on {content.judging.problems} problems")
        values = judge.score_draws(
            lambda one: rivals.build(name, one), settings, entry.task, "evaluation", content.judging, entry.num_steps
        )
    write_table(out, rounded(judge.problem_table(values, {"one": judge.chosen(means)}, each=True)))


@app.command("judge-system")
def judge_system(
    checkpoint: Annotated[Path, typer.Argument(help="best.safetensors of `reopt train-system`.")],
    system: Annotated[str, typer.Option("--system", help="System, by its name in the config.")],
    out: OutDir,
    config: SystemsFile = SYSTEMS,
    log: LogFile = None,
) -> None:
    """Judge a system on held-out problems, as it was trained and with the best factor of its updates.

    Writes problems.csv, and factors.csv with the factors' scores on tuning problems, to the folder.
    """
    import numpy as np

    from reopt.cli.progress import Reporter
    from reopt.core.tables import rounded, write_table
    from reopt.pipeline.slice import use_cores, writable
    from reopt.systems import judge, kinds

    use_cores(1)
    content, entry, task = _system(config, system)
    writable(out / "problems.csv", out / "factors.csv")
    loaded = _loaded(checkpoint, system, entry, config)
    draws = {"factor": np.asarray(sorted({1.0, *entry.factors}), np.float32)}

    def build(settings: dict) -> kinds.Joint:
        return kinds.Scaled(loaded.joint, settings["factor"])

    with Reporter(f"judge-system {system}", log) as report:
        report.say(f"{len(draws['factor'])} factors on {content.tuning.problems} problems, to choose one")
        tuned = judge.score_draws(build, draws, task.task, "tuning", content.tuning, task.num_steps)
        report.say(f"on {content.judging.problems} held-out problems")
        values = judge.score_draws(build, draws, task.task, "evaluation", content.judging, task.num_steps)
    as_trained = int(np.flatnonzero(draws["factor"] == 1)[0])
    choices = {"trained": dict.fromkeys(values, as_trained)}
    if len(draws["factor"]) > 1:
        choices["scaled"] = judge.chosen({key: value.mean(axis=1) for key, value in tuned.items()})
    write_table(out / "problems.csv", rounded(judge.problem_table(values, choices)))
    write_table(out / "factors.csv", rounded(judge.mean_table(tuned, {"factor": draws["factor"].astype(float)})))


@app.command("read-system")
def read_system(
    checkpoint: Annotated[Path, typer.Argument(help="best.safetensors of `reopt train-system`.")],
    system: Annotated[str, typer.Option("--system", help="System, by its name in the config.")],
    out: OutDir,
    config: SystemsFile = SYSTEMS,
    log: LogFile = None,
) -> None:
    """Read a system's mechanisms in its context, on held-out problems of its own task.

    Writes verdicts.csv, mixture.csv and conditioning.csv to the folder; `reopt dissect` makes a page with figures.
    """
    from reopt.cli.progress import Reporter
    from reopt.core.tables import rounded, write_table
    from reopt.pipeline.slice import use_cores, writable
    from reopt.published.in_context import read_in_context

    use_cores(1)
    content, entry, task = _system(config, system)
    verdicts, mixture, conditioning = (out / f"{name}.csv" for name in ("verdicts", "mixture", "conditioning"))
    writable(verdicts, mixture, conditioning)
    loaded = _loaded(checkpoint, system, entry, config)
    with Reporter(f"read-system {system}", log) as report:
        found = read_in_context(
            loaded.joint,
            task.task,
            problems=content.reading.problems,
            seed=content.reading.seed,
            num_steps=task.num_steps,
            layout_known=True,
        )
        for sentence in found.sentences():
            report.say(sentence)
    write_table(verdicts, found.findings)
    write_table(mixture, rounded(found.mixture))
    write_table(conditioning, rounded(found.conditioning))


@app.command("compare-systems")
def compare_systems(out: OutFile, config: SystemsFile = SYSTEMS, log: LogFile = None) -> None:
    """Compare systems with rivals and each other: paired differences, by meta-seed and over all."""
    from reopt.core.tables import rounded, write_table
    from reopt.pipeline.slice import results_of_ours, writable
    from reopt.systems.config import load_systems
    from reopt.systems.summary import summary

    del log
    content = load_systems(config)
    writable(out)
    with results_of_ours(Path("results") / content.name):
        table = summary(content, Path("results") / content.name)
    write_table(out, rounded(table))


@app.command("systems-claims")
def systems_claims(
    summary: Annotated[Path, typer.Argument(help="Table of `reopt compare-systems`.")],
    out: OutFile,
    config: SystemsFile = SYSTEMS,
    log: LogFile = None,
) -> None:
    """Judge the config's claims about systems."""
    from reopt.core.tables import rounded, write_table
    from reopt.pipeline.slice import writable
    from reopt.systems.config import load_systems
    from reopt.systems.summary import read_summary, verdicts

    del log
    content = load_systems(config)
    writable(out)
    write_table(out, rounded(verdicts(content, read_summary(summary))))


@app.command("systems-figure")
def systems_figure(
    summary: Annotated[Path, typer.Argument(help="Table of `reopt compare-systems`.")],
    out: OutDir,
    config: SystemsFile = SYSTEMS,
    log: LogFile = None,
) -> None:
    """Draw systems against their rivals: systems.svg, systems.png and the caption systems.rst, in the folder."""
    from reopt.core.tables import write_text
    from reopt.figures.save import save
    from reopt.figures.systems import caption, figure
    from reopt.pipeline.slice import writable
    from reopt.systems.config import load_systems
    from reopt.systems.summary import panels, read_summary

    del log
    content = load_systems(config)
    writable(*(out / f"systems.{suffix}" for suffix in ("svg", "png", "rst")))
    table = read_summary(summary)
    save(figure(table, panels(content)), out / "systems.svg", out / "systems.png")
    write_text(out / "systems.rst", caption(table) + "\n")


def _task(config: Path, task: str) -> "tuple[SystemsConfig, TaskEntry]":
    from reopt.systems.config import load_systems

    content = load_systems(config)
    if task not in content.tasks:
        raise ReoptError(f"{config} has no task {task!r}; it has: {', '.join(content.tasks)}")
    return content, content.tasks[task]


def _system(config: Path, system: str) -> "tuple[SystemsConfig, SystemEntry, TaskEntry]":
    from reopt.systems.config import load_systems

    content = load_systems(config)
    if system not in content.systems:
        raise ReoptError(f"{config} has no system {system!r}; it has: {', '.join(content.systems)}")
    return content, content.systems[system], content.tasks[content.systems[system].task]


def _loaded(checkpoint: Path, system: str, entry: "SystemEntry", config: Path) -> "Loaded":
    """A checkpoint, if it is of the kind that the config says."""
    from reopt.systems import kinds

    loaded = kinds.load(checkpoint)
    if loaded.about["kind"] != entry.kind:
        raise ReoptError(f"{checkpoint} is a {loaded.about['kind']}, but {config} says that {system} is a {entry.kind}")
    return loaded


def _rival(entry: "TaskEntry", config: Path, task: str, rival: str) -> tuple:
    for name, ranges in entry.rivals.items():
        if name == rival:
            return name, ranges
    raise ReoptError(f"{config} has no tasks.{task}.rivals.{rival}; it has: {', '.join(entry.rivals)}")


def _measures(table: "object", path: Path) -> list[str]:
    columns = [str(name) for name in getattr(table, "columns", [])]
    found = [name.removeprefix("mean_") for name in columns if name.startswith("mean_")]
    if not found:
        raise ReoptError(f"{path} is no table of `reopt tune-rival`: it has no means of measures")
    return found


def _settings(content: "SystemsConfig", *keys: str) -> dict:
    from reopt.pipeline.stages import lookup

    plain = content.model_dump(mode="json")
    return {key: lookup(plain, key) for key in keys}


def _code(*modules: str) -> dict[str, str]:
    """The source that a stage uses: file to sha256; empty outside the repository."""
    try:
        from snakedvc import SnakedvcError, sources
    except ImportError:  # a distribution of its own, which only the pipeline needs
        return {}
    try:
        return sources(*modules)
    except SnakedvcError:
        return {}


def _record(path: Path, modules: tuple, settings: dict, code: dict[str, str], inputs: list[Path]) -> None:
    from reopt.core.provenance import write_provenance

    write_provenance(path, stage=modules[0], code=code, settings=settings, inputs=inputs)
