"""`reopt trace`: from a verdict back to the arrays and checkpoints it was made from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reopt.cli import DEFAULT, ConfigFile, LogFile, TaskName, app
from reopt.errors import ReoptError

if TYPE_CHECKING:
    from reopt.tracing import File, Trace

UNSOUND = 1  # exit code; 0 is a verdict that follows from unchanged files, 2 an error


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

    The claim is judged anew from these files, and their bytes are held against dvc.lock. Exit code 0: all agrees;
    1: the verdict does not follow from the files, or a file is missing or was changed; 2: an error.
    """
    from reopt.artifacts.tables import write_json, write_table
    from reopt.commands import results_of_ours, writable
    from reopt.config import load_config, read_yaml
    from reopt.tracing import trace as stage
    from snakedvc import SnakedvcError

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
            found = stage(read_yaml(config), checked, config, claim=claim, task=task, cell=cell)
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
        met = "meets the criterion" if seed.met else "does not meet the criterion"
        typer.echo(f"\n{seed.subject}: {seed.value:.6g} [{seed.low:.6g}, {seed.high:.6g}], {met}")
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
    typer.echo("Files against dvc.lock: " + ", ".join(f"{count} {word}" for word, count in counts.items()) + ".")


def _show_file(file: "File") -> None:
    indent = "  " * (file.depth + 1)
    typer.echo(f"{indent}{file.path}")
    typer.echo(f"{indent}  sha256 {file.sha256 or '-'}; dvc: {file.dvc}")
    typer.echo(f"{indent}  {file.command or 'no rule makes it'}")
