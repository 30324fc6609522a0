"""Which config a folder of results belongs to: two configs of one name would write over each other's results."""

from pathlib import Path
from typing import Any

from .errors import SnakedvcError
from .families import DVC_YAML, families
from .settings import read_settings
from .state import write_whole

NOTE = ".owner"  # in the folder of results, the path of its config; not versioned


def own(workflow: Any, folder: str, config: str) -> None:
    """Claim a folder of results for a config; call it in the Snakefile as soon as both are known.

    The folder of a versioned config is known from `dvc.yaml`; others are noted when they are first used.

    Args:
        workflow: Snakemake's workflow; a dry run notes nothing.
        folder: where all results of the config lie, `results/NAME`.
        config: the config file, relative to the repository.

    Raises:
        SnakedvcError: the folder belongs to another config.
    """
    versioned = _versioned_owner(folder)
    note = Path(folder, NOTE)
    noted = note.read_text(encoding="utf-8").strip() if note.is_file() else None
    if versioned and versioned != config:
        raise SnakedvcError(
            f"'{folder}' holds the results of {versioned}, as {DVC_YAML} says, and {config} would write over them: "
            f"give it another name. If it takes the place of {versioned}, say so in {DVC_YAML} and [tool.snakedvc]."
        )
    if not versioned and noted and noted != config and Path(noted).is_file():
        raise SnakedvcError(
            f"'{folder}' holds the results of {noted}, and {config} would write over them: give it another name. "
            f"If it takes the place of {noted}, remove {note.as_posix()} first."
        )
    if not versioned and noted != config and workflow.is_main_process and not workflow.output_settings.dryrun:
        write_whole(note, f"{config}\n".encode())


def _versioned_owner(folder: str) -> str | None:
    if not DVC_YAML.is_file():
        return None
    inside = folder.rstrip("/") + "/"
    known = read_settings().configs
    for family in families():
        if family.config in known and any(out.startswith(inside) for out in family.outs):
            return family.config
    return None
