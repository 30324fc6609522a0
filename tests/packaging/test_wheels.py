"""Two distributions: each holds its own package, and works where the other is not installed."""

import re
import zipfile
from pathlib import Path

import pytest
from bare_environments import Bare, bare

pytestmark = pytest.mark.long


def test_no_file_is_in_both(wheels: dict[str, Path]) -> None:
    assert wheels.keys() == {"reopt", "snakedvc"}
    for name, wheel in wheels.items():
        packages = {member.partition("/")[0] for member in zipfile.ZipFile(wheel).namelist()}
        assert {package for package in packages if not package.endswith(".dist-info")} == {name}


def test_snakedvc_brings_no_jax(bridge: Bare, tmp_path: Path) -> None:
    show = "from importlib.metadata import distributions as d; print(*sorted(x.name.lower() for x in d()))"
    installed = bridge.run("python", "-c", show, folder=tmp_path).stdout.split()
    assert {"snakedvc", "snakemake", "dvc"} <= set(installed)
    assert not {"jax", "jaxlib", "reopt", "optax", "equinox"} & set(installed)
    helped = [
        bridge.run(*how, "--help", folder=tmp_path).stdout for how in (["snakedvc"], ["python", "-m", "snakedvc"])
    ]
    assert helped[0] == helped[1]
    assert re.search(r"^ +verify ", helped[0], re.MULTILINE)


def test_reopt_alone_examines(wheels: dict[str, Path], tmp_path: Path) -> None:
    alone = bare(tmp_path, str(wheels["reopt"]), links=tmp_path)
    folder = tmp_path / "empty"
    folder.mkdir()
    code = "import reopt, optax; print(reopt.dissect(optax.adam(1e-3), reopt.tasks.Quadratic()))"
    printed = alone.run("python", "-c", code, folder=folder).stdout
    assert re.search(r"^momentum +present", printed, re.MULTILINE)
    examine = ("reopt", "dissect", "optax:sgd(0.1)", "--task", "quadratic", "--out", "examined", "--draws", "20")
    alone.run(*examine, folder=folder)
    assert (folder / "examined/index.html").is_file()
    traced = alone.run("reopt", "trace", "T2", "--task", "quadratic", "--cell", "gru", folder=folder, ok=False)
    assert traced.returncode == 2
    assert "pip install 'reopt[pipeline]'" in traced.stderr
