"""The recipes of docs/extend: in a copy of the repository, exactly what a page shows, then a look at what came out."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)


class Copy:
    """A copy of the repository's own files, in which a recipe is followed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for name in filter(None, listed.split("\0")):
            if name.startswith((".dvc-remote/", "docs/")) or not (ROOT / name).is_file():
                continue
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, path / name)
        self.run("git init -q")

    def run(self, command: str) -> str:
        """What a command of a page prints; `uv run` is this environment with the sources of the copy."""
        search = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = os.environ | {"PATH": search, "PYTHONPATH": str(self.path / "src"), "PYTEST_ADDOPTS": ""}
        command = command.replace("uv run ", "")
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def follow(self, page: str) -> list[str]:
        """Write the files of a page, run its commands; what each command printed."""
        printed = []
        for language, title, content in BLOCK.findall((ROOT / "docs/extend" / page).read_text(encoding="utf-8")):
            file = self.path / title
            if language == "sh":
                printed += [self.run(line) for line in content.replace("\\\n", "").splitlines()]
            else:
                assert language in ("python", "yaml")
                assert title, content
                assert not file.exists(), "a recipe only adds files"
                file.write_text(content, encoding="utf-8")
        return printed


def keys_of(content: object) -> int:
    """How many keys a YAML file has, of blocks in blocks too."""
    return sum(1 + keys_of(value) for value in content.values()) if isinstance(content, dict) else 0


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path / "reopt")


def test_a_task(copy: Copy) -> None:
    evaluated, *_, whole, planned = copy.follow("task.md")
    assert keys_of(yaml.safe_load((copy.path / "config/mine.yaml").read_text())) <= 10
    assert yaml.safe_load(whole)["tasks"]["double_well"]["shown"] == "gru8-s0"
    (mean,) = re.findall(r"^meta-objective ([\d.]+)", evaluated, re.MULTILINE)
    assert 0 < float(mean) < 1  # it goes down into the wells
    for rule in ("metatrain", "tune", "evaluate", "record", "fixed_points", "claims"):
        assert re.search(rf"^{rule} +\d", planned, re.MULTILINE), rule
    assert "results/mine/double_well/optimizers/gru8-s0/best.safetensors" in planned


def test_a_mechanism(copy: Copy) -> None:
    tested, seen = copy.follow("mechanism.md")
    assert "2 passed" in tested
    assert re.search(r"^drift +absent", seen, re.MULTILINE)
    assert {line.split()[0] for line in seen.splitlines()[1:6]} >= {"momentum", "clipping", "schedule", "drift"}


def test_a_figure(copy: Copy) -> None:
    planned, tested = copy.follow("figure.md")
    assert re.search(r"^figure_memory +1", planned, re.MULTILINE)
    assert "results/laptop/quadratic/analysis/gru32-s0/modes.csv" in planned
    assert "1 passed" in tested


def test_a_subject(copy: Copy) -> None:
    _, _, compared, *_, planned = copy.follow("subject.md")
    readings = pd.read_csv(copy.path / "examined/readings.csv").drop_duplicates("mechanism").set_index("mechanism")
    assert readings["verdict"][["momentum", "clipping", "schedule"]].tolist() == ["present", "present", "absent"]
    both = pd.read_csv(copy.path / "both.csv")
    assert dict(both.groupby("optimizer").size()) == {"saturating": 16, "optimizer": 16}
    assert "equal to 1e-" in compared
    assert re.search(r"^verdicts +1", planned, re.MULTILINE)
    assert "results/laptop/quadratic/analysis/momentum/record.npz" in planned
