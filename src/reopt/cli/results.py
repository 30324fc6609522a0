"""Subcommands of `reopt` that show what came out: results, page."""

from pathlib import Path
from typing import Annotated

import typer

from reopt.cli.app import app
from reopt.cli.options import DEFAULT, ConfigFile, LogFile, OutFile
from reopt.core.errors import ReoptError


@app.command("results")
def results(
    configs: Annotated[
        list[Path] | None, typer.Argument(help="Config files; default: each of config/ that has results.")
    ] = None,
) -> None:
    """Say what is in results/: of each config its tasks, whether the learned optimizer won, and where the page is."""
    from reopt.pipeline.config import Config, load_config, read_yaml
    from reopt.report.summary import summary
    from reopt.report.systems import systems_summary
    from reopt.systems.config import load_systems
    from reopt.systems.schema import SystemsConfig

    every = configs or sorted(Path("config").glob("*.yaml"))
    loaded: dict[Path, Config | SystemsConfig] = {
        file: load_systems(file) if "systems" in read_yaml(file) else load_config(file) for file in every
    }
    there = [file for file, config in loaded.items() if configs or (Path("results") / config.name).is_dir()]
    if not there:
        raise ReoptError(
            "there are no results here: in a clone of the repository, `dvc pull` brings those that were computed "
            "before, `snakemake` computes those of config/laptop.yaml"
        )
    for file in there:
        config, folder = loaded[file], Path("results") / loaded[file].name
        if isinstance(config, Config):
            typer.echo(summary(config.model_dump(exclude_none=True), file, folder))
        else:
            typer.echo(systems_summary(config, file, folder))


@app.command()
def page(out: OutFile, config: ConfigFile = DEFAULT, log: LogFile = None) -> None:
    """Make the page of a config's results: scores, figures with their captions, claims. Shows the figures beside it."""
    from reopt.core.tables import write_text
    from reopt.pipeline.config import load_config, read_filled
    from reopt.pipeline.slice import results_of_ours, writable
    from reopt.report.page import results_page

    del log
    name = load_config(config).name
    writable(out)
    with results_of_ours(Path("results") / name):
        text = results_page(read_filled(config), Path("results") / name)
    write_text(out, text)
