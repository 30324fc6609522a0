"""A checked config that was kept is the one that a check would give, and is checked again when anything changes."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from reopt.core.errors import ReoptError
from reopt.pipeline.config import read_filled, read_yaml
from reopt.pipeline.kept import read_filled_once

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["smoke", "study"])
def test_kept_is_as_checked_to_the_letter(name: str, tmp_path: Path) -> None:
    path = ROOT / f"config/{name}.yaml"
    checked = repr(read_filled(path))
    assert repr(read_filled_once(path, tmp_path)) == checked
    (kept,) = tmp_path.iterdir()
    before = kept.stat().st_mtime_ns
    assert repr(read_filled_once(path, tmp_path)) == checked
    assert kept.stat().st_mtime_ns == before


def test_what_changed_is_checked_and_what_is_wrong_is_refused_each_time(tmp_path: Path) -> None:
    content = read_yaml(ROOT / "config/smoke.yaml")
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    read_filled_once(path, tmp_path / "kept")
    wrong = copy.deepcopy(content)
    task = next(iter(wrong["tasks"].values()))
    task["num_steps"] = -3
    path.write_text(yaml.safe_dump(wrong))
    for _ in range(2):
        with pytest.raises(ReoptError, match="num_steps"):
            read_filled_once(path, tmp_path / "kept")
    task["num_steps"] = 7
    path.write_text(yaml.safe_dump(wrong))
    assert next(iter(read_filled_once(path, tmp_path / "kept")["tasks"].values()))["num_steps"] == 7


def test_damage_is_no_config(tmp_path: Path) -> None:
    path = ROOT / "config/smoke.yaml"
    checked = read_filled_once(path, tmp_path)
    (kept,) = tmp_path.iterdir()
    for damaged in (kept.read_text()[:100], "[]", json.dumps({"key": "of another", "config": {}})):
        kept.write_text(damaged)
        assert read_filled_once(path, tmp_path) == checked


def test_a_dry_run_needs_no_jax_once_the_config_was_checked(tmp_path: Path) -> None:
    """What takes most of its time: to read the Snakefile, everything that it imports included."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "import reopt.pipeline.stages, reopt.figures.registry, reopt.mechanisms.registry, reopt.examination.parts\n"
        "from reopt.pipeline.kept import read_filled_once\n"
        f"read_filled_once('config/smoke.yaml', Path({str(tmp_path)!r}))\n"
        "print(sorted({'jax', 'pandas', 'scipy'} & set(sys.modules)))"
    )
    run = [sys.executable, "-c", code]
    found = [
        subprocess.run(run, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True).stdout.strip()
        for _ in range(2)
    ]
    assert found[1] == "[]"
