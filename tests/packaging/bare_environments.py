"""Environments in which nothing is installed but what a test names."""

import os
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FOR_ALL = ("LANG", "LC_ALL", "TMPDIR")
# Compiled programs are shared by all tests; nothing of what is installed comes with them.
_COMPILED = (
    *("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "JAX_DISABLE_MOST_OPTIMIZATIONS"),
    "XLA_FLAGS",
)


@dataclass(frozen=True)
class Bare:
    """An environment of its own, for programs that see neither this repository nor a home."""

    path: Path
    home: Path

    def run(self, *command: str, folder: Path, ok: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment in a folder; with `ok` it must succeed."""
        kept = {name: os.environ[name] for name in (*_FOR_ALL, *_COMPILED) if name in os.environ}
        search = os.pathsep.join([str(self.path / "bin"), os.environ["PATH"]])
        environment = kept | {"PATH": search, "HOME": str(self.home), "DVC_NO_ANALYTICS": "1"}
        done = subprocess.run(command, check=False, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0 or not ok, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done


def bare(folder: Path, *requirements: str, links: Path) -> Bare:
    """Install requirements, in the versions that the repository pins, into a new environment."""
    (folder / "home").mkdir()
    pins = folder / "pins.txt"
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    pins.write_text("\n".join(settings["tool"]["uv"]["constraint-dependencies"]), encoding="utf-8")
    made = Bare(folder / "environment", folder / "home")
    subprocess.run(["uv", "venv", "--quiet", str(made.path)], cwd=folder, check=True)
    install = ["uv", "pip", "install", "--quiet", "--python", str(made.path), "--constraint", str(pins)]
    # A wheel of this version that was built before, and is remembered, is not what is tested.
    fresh = ["--refresh-package", "reopt", "--refresh-package", "snakedvc", "--find-links", str(links)]
    # What is imported is compiled then; to compile all that is installed takes ten times as long.
    lazy = {name: value for name, value in os.environ.items() if name != "UV_COMPILE_BYTECODE"}
    subprocess.run([*install, *fresh, *requirements], cwd=folder, check=True, env=lazy)
    return made
