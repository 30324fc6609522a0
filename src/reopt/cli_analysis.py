"""Subcommands of `reopt` that examine an optimizer, draw figures and judge claims."""

from pathlib import Path
from typing import Annotated

import typer

from reopt.cli import DEFAULT, ConfigFile, LogFile, OutDir, OutFile, Subject, TaskName, app

RecordFile = Annotated[Path, typer.Option("--record", help="What `reopt record` wrote.")]
PointsFile = Annotated[Path, typer.Option("--fixed-points", help="What `reopt fixed-points` wrote.")]
PCAFile = Annotated[Path, typer.Option("--pca", help="What `reopt pca` wrote.")]
LinearFile = Annotated[Path, typer.Option("--linearization", help="linearization.npz of `reopt linearize`.")]
# Arrays of any file that hold finite numbers alone, even where runs diverged.
_FINITE = {"points", "point", "jacobian", "input", "readout", "direct", "offset", "mean", "components"}


def _open(config: Path, name: str, task: str, subject: str, *outputs: Path):
    """(slice of the config, task, subject's name, optimizer) of an analysis whose outputs can be written."""
    from reopt.commands import Slice, writable
    from reopt.subjects import resolve

    read = Slice(config, name, task=task)
    writable(*outputs)
    target = read.task
    name, optimizer = resolve(subject, task=target, task_name=task, results=read.results)
    return read, target, name, optimizer


def _read(path: Path, kind, **sizes: int):
    """A NamedTuple of arrays from its npz file, in which axes have these sizes. **Raises** `ReoptError`."""
    import numpy as np
    from jaxtyping import Float, jaxtyped

    from reopt.artifacts.tables import read_arrays
    from reopt.errors import ReoptError

    arrays = read_arrays(path, kind._fields)
    with jaxtyped("context"):  # in which each name of an axis stands for one size
        for axis, size in sizes.items():
            isinstance(np.zeros(size), Float[np.ndarray, axis])  # type: ignore[arg-type]
        for name, wanted in kind.__annotations__.items():
            found = arrays[name]
            if not isinstance(found, wanted):
                known = ", ".join(f"{axis} {size}" for axis, size in sizes.items())
                raise ReoptError(
                    f"{path}: array {name!r} is {found.dtype}{list(found.shape)}, but must be {wanted.__name__} with "
                    f"{known}: it is damaged, or of another subject or config"
                )
            if name in _FINITE and not np.isfinite(found).all():
                raise ReoptError(f"{path}: array {name!r} holds values that are not finite")
    return kind(**{name: arrays[name] for name in kind._fields})


@app.command()
def record(subject: Subject, task: TaskName, out: OutFile, config: ConfigFile = DEFAULT, log: LogFile = None) -> None:
    """Record states, gradients, updates and losses along runs, run in float32 as in training; an npz file."""
    from reopt.artifacts.tables import write_arrays
    from reopt.dynamics import record as stage

    del log
    read, target, _, optimizer = _open(config, "record", task, subject, out)
    settings = read.block("record")
    result = stage.record(
        optimizer,
        target,
        seed=settings.seed,
        num_steps=read.num_steps,
        problems=settings.problems,
        state_problems=settings.state_problems,
        max_params=settings.params,
    )
    write_arrays(out, result._asdict())


@app.command("fixed-points")
def fixed_points(
    subject: Subject,
    task: TaskName,
    record: RecordFile,
    out: OutFile,
    config: ConfigFile = DEFAULT,
    log: LogFile = None,
) -> None:
    """Find the fixed points at zero gradient, from visited and perturbed states; an npz file."""
    from reopt.artifacts.tables import write_arrays
    from reopt.dynamics import fixed_points as stage
    from reopt.dynamics.record import Recording
    from reopt.progress import Reporter

    read, _, name, optimizer = _open(config, "fixed_points", task, subject, out)
    settings = read["analysis.fixed_points"]
    states = _read(record, Recording, hidden=optimizer.state_size, step=read.num_steps).states
    seeds = stage.search_seeds(
        optimizer,
        states,
        visited=settings.visited_seeds,
        perturbed=settings.perturbed_seeds,
        perturbation=settings.perturbation,
        seed=settings.seed,
    )
    result = stage.find_fixed_points(
        optimizer,
        seeds.states,
        kind=seeds.kind,
        tolerance=settings.tolerance,
        max_iterations=settings.max_iterations,
        merge_distance=settings.merge_distance,
        clock=read.num_steps,
    )
    with Reporter(f"fixed points {task} {name}", log) as report:
        converged = int((result.seed_result >= 0).sum())
        report.say(f"{len(result.points)} points; {converged} of {len(result.seed_result)} seeds converged")
    write_arrays(out, result._asdict())


@app.command()
def linearize(
    subject: Subject,
    task: TaskName,
    fixed_points: PointsFile,
    out: OutDir,
    config: ConfigFile = DEFAULT,
    log: LogFile = None,
) -> None:
    """Linearize at the attractor: modes, impulse response, and runs of the linearised optimizer.

    Where no fixed point is stable, it is done at the least unstable one, and the command says so.
    Writes linearization.npz, modes.csv, impulse.csv, linearized.csv and linearized_problems.csv to the folder.
    """
    from reopt.artifacts.tables import rounded, write_arrays, write_table
    from reopt.dynamics import linearization as stage
    from reopt.dynamics.fixed_points import FixedPoints
    from reopt.mechanisms import momentum
    from reopt.progress import Reporter

    files = ("linearization.npz", "modes.csv", "impulse.csv", "linearized.csv", "linearized_problems.csv")
    read, target, name, optimizer = _open(config, "linearize", task, subject, *(out / file for file in files))
    settings = read.block("evaluation")
    found = _read(fixed_points, FixedPoints, hidden=optimizer.state_size)
    point = stage.operating_point(found)
    if not (found.spectral_radius < 1).any():
        with Reporter(f"linearize {task} {name}", log) as report:
            report.say("no fixed point is stable; it is done at the least unstable one")
    linear = stage.linearize(optimizer, point, clock=read.num_steps)
    runs = momentum.linearized_runs(
        optimizer, linear, target, seed=settings.seed, num_steps=read.num_steps, problems=settings.problems
    )
    write_arrays(out / "linearization.npz", linear._asdict())
    write_table(out / "modes.csv", momentum.modes_table(momentum.modes(linear)))
    write_table(out / "impulse.csv", momentum.impulse_response(optimizer, linear))
    write_table(out / "linearized.csv", rounded(runs.curves))
    write_table(out / "linearized_problems.csv", rounded(runs.problems))


@app.command()
def pca(
    subject: Subject,
    task: TaskName,
    record: RecordFile,
    out: OutFile,
    config: ConfigFile = DEFAULT,
    log: LogFile = None,
) -> None:
    """Principal components of the recorded states; an npz file."""
    from reopt.artifacts.tables import write_arrays
    from reopt.dynamics import pca as stage
    from reopt.dynamics.record import Recording

    del log
    read, _, _, optimizer = _open(config, "pca", task, subject, out)
    states = _read(record, Recording, hidden=optimizer.state_size, step=read.num_steps).states
    write_arrays(out, stage.pca(states, clock=optimizer.clock)._asdict())


@app.command("update-functions")
def update_functions(
    subject: Subject,
    task: TaskName,
    record: RecordFile,
    pca: PCAFile,
    linearization: LinearFile,
    out: OutDir,
    config: ConfigFile = DEFAULT,
    log: LogFile = None,
) -> None:
    """Update against gradient at chosen states, and where it saturates.

    Writes update_functions.csv.gz and clipping.csv to the folder.
    """
    from reopt.artifacts.tables import rounded, write_table
    from reopt.dynamics.linearization import Linearization
    from reopt.dynamics.pca import PCA
    from reopt.dynamics.record import Recording
    from reopt.mechanisms import clipping as stage

    del log
    files = ("update_functions.csv.gz", "clipping.csv")
    read, _, _, optimizer = _open(config, "update_functions", task, subject, *(out / file for file in files))
    settings, size = read["analysis.clipping"], optimizer.state_size
    runs = _read(record, Recording, hidden=size, step=read.num_steps)
    linear = _read(linearization, Linearization, hidden=size)
    limit = stage.gradient_limit(runs.gradients, factor=settings.range_factor)
    steps = tuple(sorted({1, read.num_steps // 10, read.num_steps // 2}))
    places = stage.places(
        optimizer,
        point=linear.point,
        states=runs.states,
        pca=_read(pca, PCA, hidden=size),
        linearization=linear,
        shifts=tuple(settings.shifts),
        visited_steps=steps,
    )
    linear_limit = stage.gradient_limit(runs.gradients, quantile=0.9, factor=1.0)
    grid = stage.gradient_grid(limit, linear_limit=linear_limit, num_points=settings.grid)
    write_table(out / "update_functions.csv.gz", rounded(stage.update_functions(optimizer, places, grid), 7))
    write_table(out / "clipping.csv", stage.clipping(optimizer, places, runs.gradients, limit=limit))


@app.command("gradient-density")
def gradient_density(
    task: TaskName, record: RecordFile, out: OutFile, config: ConfigFile = DEFAULT, log: LogFile = None
) -> None:
    """Density of the gradients met along the recorded runs."""
    from reopt.artifacts.tables import rounded, write_table
    from reopt.commands import Slice, writable
    from reopt.dynamics.record import Recording
    from reopt.mechanisms import clipping as stage

    del log
    read = Slice(config, "gradient_density", task=task)
    writable(out)
    gradients = _read(record, Recording, step=read.num_steps).gradients
    write_table(out, rounded(stage.gradient_density(gradients, num_bins=read["analysis.clipping"].bins)))


@app.command()
def schedule(
    subject: Subject,
    task: TaskName,
    pca: PCAFile,
    linearization: LinearFile,
    out: OutDir,
    config: ConfigFile = DEFAULT,
    log: LogFile = None,
) -> None:
    """Effective learning rate along the autonomous trajectory from the initial state.

    Writes schedule.csv and schedule.json to the folder.
    """
    from reopt.artifacts.tables import rounded, write_json, write_table
    from reopt.dynamics.linearization import Linearization
    from reopt.dynamics.pca import PCA
    from reopt.mechanisms import schedule as stage

    del log
    files = ("schedule.csv", "schedule.json")
    read, _, _, optimizer = _open(config, "schedule", task, subject, *(out / file for file in files))
    point = _read(linearization, Linearization, hidden=optimizer.state_size).point
    basis = _read(pca, PCA, hidden=optimizer.state_size)
    result = stage.schedule(optimizer, num_steps=read.num_steps, point=point, pca=basis)
    write_table(out / "schedule.csv", rounded(result.table))
    write_json(out / "schedule.json", result.summary)


@app.command()
def adaptation(
    subject: Subject,
    task: TaskName,
    record: RecordFile,
    pca: PCAFile,
    linearization: LinearFile,
    out: OutDir,
    config: ConfigFile = DEFAULT,
    log: LogFile = None,
) -> None:
    """Fixed points under constant gradients, and the effective learning rate along both arms.

    Writes adaptation.csv, adaptation.json and adaptation_functions.csv.gz to the folder.
    """
    import math

    from reopt.artifacts.tables import rounded, write_json, write_table
    from reopt.dynamics.linearization import Linearization
    from reopt.dynamics.pca import PCA
    from reopt.dynamics.record import Recording
    from reopt.mechanisms import adaptation as stage
    from reopt.mechanisms.clipping import gradient_limit

    del log
    files = ("adaptation.csv", "adaptation.json", "adaptation_functions.csv.gz")
    read, _, _, optimizer = _open(config, "adaptation", task, subject, *(out / file for file in files))
    settings, size = read["analysis.adaptation"], optimizer.state_size
    gradients = _read(record, Recording, hidden=size, step=read.num_steps).gradients
    low = gradient_limit(gradients, quantile=settings.low_quantile, factor=1.0)
    high = gradient_limit(gradients, quantile=settings.high_quantile, factor=1.0)
    result = stage.adaptation(
        optimizer,
        point=_read(linearization, Linearization, hidden=size).point,
        limit=high,
        num_gradients=settings.gradients,
        decades=math.log10(high / low),
        pca=_read(pca, PCA, hidden=size),
        clock=read.num_steps,
    )
    write_table(out / "adaptation.csv", rounded(result.table))
    write_json(out / "adaptation.json", result.summary)
    write_table(out / "adaptation_functions.csv.gz", rounded(result.functions, 7))


@app.command()
def figure(
    name: Annotated[str, typer.Argument(help="Figure, for instance 'momentum'.")],
    out: OutDir,
    config: ConfigFile = DEFAULT,
    log: LogFile = None,
) -> None:
    """Draw a figure from the config's results: NAME.svg, NAME.png, and its caption NAME.rst, in the folder."""
    import importlib

    from reopt.artifacts.tables import write_text
    from reopt.commands import results_of_ours, writable
    from reopt.config import load_config, read_yaml
    from reopt.errors import ReoptError
    from reopt.figure_data import figure_data
    from reopt.figures.save import save
    from reopt.stages import FIGURES

    del log
    if name not in FIGURES:
        raise ReoptError(f"no figure is called {name!r}; there are: {', '.join(FIGURES)}")
    writable(*(out / f"{name}.{suffix}" for suffix in ("svg", "png", "rst")))
    results = Path("results") / load_config(config).name
    module = importlib.import_module(f"reopt.figures.{name}")
    with results_of_ours(results):
        data = figure_data(module, read_yaml(config), name, results)
        drawing, caption = module.figure(data), module.caption(data)
    save(drawing, out / f"{name}.svg", out / f"{name}.png")
    write_text(out / f"{name}.rst", caption + "\n")


@app.command()
def claims(out: OutFile, config: ConfigFile = DEFAULT, log: LogFile = None) -> None:
    """Judge each claim of the paper by the criterion in the config: a table with numbers and verdicts."""
    from reopt import claims as stage
    from reopt.artifacts.tables import write_table
    from reopt.commands import results_of_ours, writable
    from reopt.config import load_config, read_yaml
    from reopt.progress import Reporter

    checked = load_config(config)
    writable(out)
    results = Path("results") / checked.name
    with results_of_ours(results):
        table = stage.judge(read_yaml(config), checked.claims, results)
    write_table(out, table)
    with Reporter("claims", log) as report:
        for verdict, count in table["verdict"].value_counts().sort_index().items():
            report.say(f"{count} {verdict}")
