"""A person with an empty home and a bare virtual environment; each step is a command, and says how long it took."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
FORGOTTEN = ("PYTHON", "VIRTUAL_ENV", "UV_", "JAX_", "XLA_", "REOPT_", "DVC_", "XDG_", "CONDA", "PYENV")
"""Beginnings of the variables of this process that a new person has not set."""
SHARED = (
    *("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "JAX_DISABLE_MOST_OPTIMIZATIONS"),
    "XLA_FLAGS",
)
"""Where compiled programs lie and how they are compiled: the suite sets it, and who runs a script alone does not."""


class Failed(Exception):
    """A step did not do what the person was told that it does."""


class Person:
    """Runs commands below a folder, with `HOME` and programs of its own; `steps` is (what was done, seconds)."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.steps: list[tuple[str, float]] = []
        (folder / "home").mkdir(parents=True)
        kept = {key: value for key, value in os.environ.items() if key in SHARED or not key.startswith(FORGOTTEN)}
        roles = ("AUTHOR_NAME", "AUTHOR_EMAIL", "COMMITTER_NAME", "COMMITTER_EMAIL")
        known = {f"GIT_{role}": "person@example.org" for role in roles}
        others = [place for place in os.environ["PATH"].split(os.pathsep) if not place.startswith(sys.prefix)]
        path = os.pathsep.join([str(folder / "venv/bin"), *others])
        self.environment = kept | known | {"HOME": str(folder / "home"), "PATH": path, "COLUMNS": "200"}
        self.does("a bare virtual environment", sys.executable, "-m", "venv", str(folder / "venv"))

    def does(self, what: str, *command: str, where: Path | None = None, ends: Sequence[int] = (0,)) -> str:
        """Run a command to its end; what it printed. **Raises** `Failed` where its exit status is none of `ends`."""
        process = self.starts(*command, where=where)
        start = time.monotonic()
        printed, _ = process.communicate()
        self.took(what, time.monotonic() - start)
        if process.returncode not in ends:
            raise Failed(f"{what}: {' '.join(command)} ended with {process.returncode}:\n{printed[-3000:]}")
        return printed

    def starts(self, *command: str, where: Path | None = None) -> "subprocess.Popen[str]":
        """Start a command; its errors come with what it prints."""
        return subprocess.Popen(
            command,
            cwd=where or self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def took(self, what: str, seconds: float) -> None:
        """Note a step, and print it."""
        self.steps.append((what, seconds))
        print(f"{self.name}: {what}: {seconds:.0f} s", flush=True)


def clone(person: Person, name: str = "reopt") -> Path:
    """The repository as it is committed, in a folder of the person."""
    person.does("git clone", "git", "clone", "--quiet", str(ROOT), name)
    return person.folder / name


def install(person: Person, repository: Path) -> None:
    """What the README says: pip install uv && uv sync."""
    person.does("pip install uv", "pip", "install", "--quiet", "uv")
    person.does("uv sync", "uv", "sync", "--quiet", where=repository)


def must(holds: bool, what: str) -> None:
    """**Raises** `Failed` with `what` where it does not hold."""
    if not holds:
        raise Failed(what)
