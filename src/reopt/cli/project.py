"""Subcommand of `reopt` that lays out a project: init."""

from pathlib import Path
from typing import Annotated

import typer

from reopt.cli.app import app


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where; made if it is missing.")] = Path(),
    name: Annotated[str, typer.Option("--name", help="Of its config, and of the folder of results.")] = "mine",
) -> None:
    """Lay out a project of your own: a config with every key, rules, stages, profiles. Overwrites nothing.

    Then, in the folder: `snakemake --configfile config/NAME.yaml` meta-trains, tunes, examines, draws and judges, and
    records the results in DVC. `reopt estimate --config config/NAME.yaml` says before what that takes.
    """
    from reopt.pipeline.project import lay_out

    command = lay_out(folder, name)
    typer.echo(f"{folder / 'config' / name}.yaml: what is computed, every key with its meaning")
    typer.echo(f"{folder / 'Snakefile'}, {folder / 'workflow'}, {folder / 'profiles'}: the rules, and how they are run")
    typer.echo(f"{folder / 'dvc.yaml'}, {folder / 'pyproject.toml'}: what is recorded")
    typer.echo(f"next: {command}")
