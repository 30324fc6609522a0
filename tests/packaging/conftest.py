"""The distributions that are built of this repository, and an environment with the smaller one."""

import subprocess
from pathlib import Path

import pytest
from bare_environments import ROOT, Bare, bare


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel of each distribution, made from its source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(["uv", "build", "--quiet", "--all-packages", "--out-dir", str(folder)], cwd=ROOT, check=True)
    return {file.name.partition("-")[0]: file for file in folder.glob("*.whl")}


@pytest.fixture(scope="session")
def bridge(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Bare:
    """An environment with the wheel of snakedvc and what it needs."""
    return bare(tmp_path_factory.mktemp("bridge"), str(wheels["snakedvc"]), links=wheels["snakedvc"].parent)
