"""Machines without a GPU: JAX's plugins for one say so in a line, and the CPU computes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reopt.cli import devices

COMMAND = "evaluate polyak --task quadratic --problems 2 --steps 2"
NO_GPU = not any(os.path.exists(path) for path in devices._GPUS)


def run(folder: Path, plugin: str, code: str, **environment: str) -> subprocess.CompletedProcess:
    """`reopt` with a plugin of JAX on its path, whose module is `code`."""
    module = folder / "jax_plugins" / plugin / "__init__.py"
    module.parent.mkdir(parents=True)
    module.write_text(code)
    kept = {key: value for key, value in os.environ.items() if key != "JAX_PLATFORMS"}
    return subprocess.run(
        [sys.executable, "-m", "reopt", *COMMAND.split()],
        cwd=folder,
        env=kept | {"PYTHONPATH": str(folder)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.long
def test_a_plugin_that_fails_is_a_line(tmp_path: Path) -> None:
    code = "def initialize():\n    raise RuntimeError('Unable to load CUDA. Is it installed?\\nmore of it')\n"
    done = run(tmp_path, "broken", code)
    assert done.returncode == 0
    first, *rest = done.stderr.splitlines()
    assert first == (
        "reopt: jax_plugins.broken cannot be used: Unable to load CUDA. Is it installed?; computing on the CPU"
    )
    assert all(line.startswith("evaluate quadratic: ") for line in rest)
    assert rest


@pytest.mark.parametrize("plugin", ["xla_cuda12", pytest.param("xla_cuda13", marks=pytest.mark.long)])
def test_without_a_gpu_its_plugin_is_not_loaded(plugin: str, tmp_path: Path) -> None:
    """It writes past Python to standard error as soon as it is imported."""
    done = run(tmp_path, plugin, "import os\nos.write(2, b'noise of the plugin\\n')\n\ndef initialize():\n    pass\n")
    lines = done.stderr.splitlines()
    assert done.returncode == 0
    assert ("reopt: there is no NVIDIA GPU here; computing on the CPU" in lines) == NO_GPU
    assert ("noise of the plugin" in lines) == (not NO_GPU)


@pytest.mark.long
@pytest.mark.parametrize(
    ("platform", "code", "lines"), [("banana", 2, 1), pytest.param("cpu", 0, 1, marks=pytest.mark.long)]
)
def test_a_platform_that_is_asked_for_is_there_or_the_error_is_a_line(
    platform: str, code: int, lines: int, tmp_path: Path
) -> None:
    done = run(tmp_path, "xla_cuda12", "def initialize():\n    pass\n", JAX_PLATFORMS=platform)
    assert done.returncode == code
    assert len(done.stderr.splitlines()) == lines
    assert (f"reopt: error: JAX_PLATFORMS={platform}: there is no such device here" in done.stderr) == (code == 2)
