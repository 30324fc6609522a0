"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[Path, typer.Option("--config", help="Config file.", show_default=True)]
TaskName = Annotated[str, typer.Option("--task", help="Task, by its name in the config.")]
OutFile = Annotated[Path, typer.Option("--out", help="File to write.")]
OutDir = Annotated[Path, typer.Option("--out", help="Folder to write to.")]
LogFile = Annotated[Path | None, typer.Option("--log", help="Also append progress lines to this file.")]
Subject = Annotated[
    str,
    typer.Argument(
        help="A checkpoint or tuned baseline's file, 'best', a baseline's name, 'polyak', 'best_linear', a run of the "
        "pipeline (gru32-s0), a shipped optimizer (mnist/gru16, see `reopt optimizers`), file.py:name or "
        "package.module:name, also called: 'optax:adam(1e-2)', 'torch:Adam(lr=1e-2)'."
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
Draws = Annotated[
    int, typer.Option(min=0, max=1_000_000, help="Draws a baseline is tuned with, where none is tuned yet.")
]
NoCache = Annotated[
    bool,
    typer.Option(
        "--no-cache", help="Tune baselines again, and keep none: they are kept in $REOPT_CACHE or the user's cache."
    ),
]
Steps = Annotated[
    int | None, typer.Option(min=2, max=1_000_000, help="Steps of a run; default: the config's, else 201.")
]
Problems = Annotated[
    int | None, typer.Option(min=2, max=100_000, help="Problems to run on; default: the config's, else 64.")
]
Seed = Annotated[int | None, typer.Option(min=0, max=2**31 - 1, help="Their seed; default: the config's, else 0.")]
