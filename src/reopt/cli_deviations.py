"""`reopt deviations`: where a config departs from the paper's."""

from pathlib import Path
from typing import Annotated

import typer

from reopt.cli import DEFAULT, ConfigFile, LogFile, OutFile, app


@app.command()
def deviations(
    out: OutFile,
    config: ConfigFile = DEFAULT,
    reference: Annotated[Path, typer.Option(help="The config that it is compared with.")] = Path("config/paper.yaml"),
    log: LogFile = None,
) -> None:
    """Every value in which a config's tasks and optimizers differ from those of a reference, as CSV."""
    from reopt.artifacts.tables import write_table
    from reopt.commands import writable
    from reopt.config import load_config
    from reopt.deviations import deviations as stage
    from reopt.progress import Reporter

    ours, theirs = load_config(config), load_config(reference)
    writable(out)
    with Reporter(f"deviations {ours.name}", log) as report:
        table = stage(ours, theirs)
        report.say(f"{len(table)} values differ from those of {reference}")
    write_table(out, table)
