"""Subcommands of `reopt` on a config and its results: check-config, figures, claims, deviations, trace."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reopt.cli.app import app
from reopt.cli.options import (
    DEFAULT,
    ConfigFile,
    LogFile,
    OutDir,
    OutFile,
    TaskName,
)
from reopt.core.errors import ReoptError

if TYPE_CHECKING:
    from reopt.pipeline.trace import File, Trace

UNSOUND = 1  # exit code of `trace`; 0 is a verdict that follows from unchanged files, 2 an error


@app.command("check-config")
def check_config(
    files: Annotated[list[Path], typer.Argument(help="Config files.")],
    whole: Annotated[bool, typer.Option("--whole", help="Print them with the default of each key left out.")] = False,
) -> None:
    """Check config files: keys, types, bounds, tasks. Prints one line for each."""
    import yaml

    from reopt.pipeline.config import filled, read_yaml
    from reopt.systems import config as systems

    for file in files:
        content = read_yaml(file)
        content = (systems.filled if "systems" in content else filled)(content, str(file))
        flat = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=110)
        typer.echo(flat if whole else f"{file}: fine")


@app.command()
def figure(
    name: Annotated[str, typer.Argument(help="Figure, for instance 'momentum'.")],
    out: OutDir,
    config: ConfigFile = DEFAULT,
    log: LogFile = None,
) -> None:
    """Draw a figure from the config's results: NAME.svg, NAME.png, and its caption NAME.rst, in the folder."""
    from reopt.core.tables import write_text
    from reopt.figures.registry import figure_module
    from reopt.figures.save import save
    from reopt.pipeline.config import load_config, read_filled
    from reopt.pipeline.slice import results_of_ours, writable
    from reopt.pipeline.stages import view

    del log
    module = figure_module(name)
    writable(*(out / f"{name}.{suffix}" for suffix in ("svg", "png", "rst")))
    results = Path("results") / load_config(config).name
    content = read_filled(config)
    with results_of_ours(results):
        data = {task: module.data(view(content, name, task, results)) for task in content["tasks"]}
        drawing, caption = module.figure(data), module.caption(data)
    save(drawing, out / f"{name}.svg", out / f"{name}.png")
    write_text(out / f"{name}.rst", caption + "\n")


@app.command()
def claims(
    out: OutFile,
    config: ConfigFile = DEFAULT,
    seeds: Annotated[Path | None, typer.Option("--seeds", help="Also write a row a run: its effect and grade.")] = None,
    log: LogFile = None,
) -> None:
    """Judge each claim of the paper by the criteria in the config: a table with effects and verdicts."""
    from reopt.cli.progress import Reporter
    from reopt.core.tables import write_table
    from reopt.pipeline import claims as stage
    from reopt.pipeline.config import load_config, read_filled
    from reopt.pipeline.slice import results_of_ours, writable

    checked = load_config(config)
    writable(out, *([] if seeds is None else [seeds]))
    results = Path("results") / checked.name
    with results_of_ours(results):
        judged = stage.judge(read_filled(config), checked.claims, results)
    write_table(out, judged.claims)
    if seeds is not None:
        write_table(seeds, judged.seeds)
    with Reporter("claims", log) as report:
        for verdict, count in judged.claims["verdict"].value_counts().sort_index().items():
            report.say(f"{count} {verdict}")


@app.command()
def deviations(
    out: OutFile,
    config: ConfigFile = DEFAULT,
    reference: Annotated[Path, typer.Option(help="The config that it is compared with.")] = Path("config/paper.yaml"),
    log: LogFile = None,
) -> None:
    """Every value in which a config's tasks and optimizers differ from those of a reference, as CSV."""
    from reopt.cli.progress import Reporter
    from reopt.core.tables import write_table
    from reopt.pipeline.config import load_config
    from reopt.pipeline.deviations import deviations as stage
    from reopt.pipeline.slice import writable

    ours, theirs = load_config(config), load_config(reference)
    writable(out)
    with Reporter(f"deviations {ours.name}", log) as report:
        table = stage(ours, theirs)
        report.say(f"{len(table)} values differ from those of {reference}")
    write_table(out, table)


@app.command()
def trace(
    claim: Annotated[str, typer.Argument(help="Claim, by its name in claims.csv (T2).")],
    task: TaskName,
    cell: Annotated[str, typer.Option("--cell", help="Optimizer, by its name in the task's block (gru32).")],
    config: ConfigFile = DEFAULT,
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write it: .json for everything, .csv for a row a file.")
    ] = None,
    log: LogFile = None,
) -> None:
    """Trace a verdict: its row, what was measured on each run, and every file behind that with the command it is from.

    The claim is judged anew from these files, and their bytes are held against what was recorded of them. Exit code 0:
    all agrees; 1: the verdict does not follow from the files, or a file is missing or was changed; 2: an error.
    """
    try:
        from snakedvc import SnakedvcError
    except ImportError as error:
        raise ReoptError("tracing reads what the pipeline recorded: pip install 'reopt[pipeline]'") from error
    from reopt.core.tables import write_json, write_table
    from reopt.pipeline.config import load_config, read_filled
    from reopt.pipeline.slice import results_of_ours, writable
    from reopt.pipeline.trace import trace as stage

    del log
    if out is not None and out.suffix not in (".json", ".csv"):
        raise ReoptError(f"--out {out}: give a name that ends with .json or .csv")
    checked = load_config(config)
    if task not in checked.tasks:
        raise ReoptError(f"{config} has no task {task!r}; it has: {', '.join(checked.tasks)}")
    if cell not in checked.tasks[task].optimizers:
        raise ReoptError(f"{config} has no optimizer {cell!r}; it has: {', '.join(checked.tasks[task].optimizers)}")
    if out is not None:
        writable(out)
    try:
        with results_of_ours(Path("results") / checked.name):
            found = stage(read_filled(config), checked, config, claim=claim, task=task, cell=cell)
    except SnakedvcError as error:
        raise ReoptError(str(error)) from error
    if out is not None and out.suffix == ".json":
        write_json(out, found.document())
    elif out is not None:
        write_table(out, found.files())
    _show(found)
    if not found.sound:
        raise typer.Exit(UNSOUND)


def _show(found: "Trace") -> None:
    for name, value in found.row.items():
        typer.echo(f"{name + ':':<12}{value}")
    typer.echo("")
    _show_file(found.table)
    for seed in found.seeds:
        beside = f" ({seed.beside})" if seed.beside else ""
        typer.echo(f"\n{seed.subject}: {seed.value:.6g} [{seed.low:.6g}, {seed.high:.6g}], {seed.grade}{beside}")
        for file in seed.files:
            _show_file(file)
    if not found.seeds:
        typer.echo("\nNothing was measured: the claim cannot be tested here.")
    typer.echo("")
    if found.equal:
        typer.echo("Judged anew from these files: the same row.")
    else:
        other = {name: value for name, value in found.again.items() if str(value) != str(found.row.get(name))}
        typer.echo(f"Judged anew from these files: another row, {other}.")
    counts = found.files()["dvc"].value_counts()
    typer.echo(
        "Files against what was recorded: " + ", ".join(f"{count} {word}" for word, count in counts.items()) + "."
    )


def _show_file(file: "File") -> None:
    indent = "  " * (file.depth + 1)
    typer.echo(f"{indent}{file.path}")
    typer.echo(f"{indent}  sha256 {file.sha256 or '-'}; dvc: {file.dvc}")
    typer.echo(f"{indent}  {file.command or 'no rule makes it'}")
