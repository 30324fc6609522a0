"""A project of one's own: its config says what the models say, its stages own what the repository's own."""

from pathlib import Path

import pytest
import yaml

from reopt.core.errors import ReoptError
from reopt.pipeline.config import filled, load_config, parse_config, read_yaml
from reopt.pipeline.project import first_config, lay_out, stages_for, written_out

ROOT = Path(__file__).parents[2]
SHIPPED = sorted(path for path in (ROOT / "config").glob("*.yaml") if not path.name.startswith("systems"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_config_that_is_written_out_says_the_same(path: Path) -> None:
    text = written_out(load_config(path))
    assert parse_config(yaml.safe_load(text), "written.yaml") == load_config(path)
    assert max(len(line) for line in text.splitlines() if "#" in line) <= 120


def test_every_key_of_the_first_config_is_there_with_its_meaning() -> None:
    config = first_config("mine", read_yaml(ROOT / "config/smoke.yaml"))
    text = written_out(config)
    content = yaml.safe_load(text)
    assert filled(content, "mine.yaml") == {**content, "tasks": filled(content, "mine.yaml")["tasks"]}
    assert content["tasks"]["quadratic"]["search"] is None
    assert list(content["tasks"]["quadratic"]["optimizers"]) == ["gru16"]
    assert "        units: 16  # hidden units\n" in text
    assert "  seed: 1  # seed of the problems\n" in text
    assert "      eps: {low: 1.0e-08, high: 10.0, scale: log}\n" in text


def test_stages_own_what_the_repositorys_own_and_know_no_code_of_a_folder() -> None:
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    ours = yaml.safe_load(text)["stages"]
    stages = yaml.safe_load(stages_for(text, ["bowl", "well"], ["mine"]))["stages"]
    assert ours.keys() - stages.keys() == {"recipe", "searched", "systems"}
    for name, stage in stages.items():
        assert stage["outs"] == ours[name]["outs"]
        assert "params" not in stage
        assert stage["deps"][-1] == ("config/paper.yaml" if name == "claims" else "config/${item.config}.yaml")
        assert not any(path.startswith("src/") for path in stage["deps"])
        assert stage["matrix"]["config"] == ["mine"]
        assert stage["matrix"].get("task", ["bowl", "well"]) == ["bowl", "well"]
    each = ["results/${item.config}/bowl", "results/${item.config}/well"]
    shared = ["results/${item.config}/claims.csv", "results/${item.config}/deviations.csv"]
    assert stages["figures"]["deps"] == [*each, *shared, "config/${item.config}.yaml"]
    assert stages["evaluation"]["deps"][:2] == [
        "results/${item.config}/${item.task}/baselines",
        "results/${item.config}/${item.task}/optimizers",
    ]


def test_nothing_is_overwritten_and_nothing_is_written_then(tmp_path: Path) -> None:
    (tmp_path / "workflow/rules").mkdir(parents=True)
    (tmp_path / "workflow/rules/claims.txt").write_text("mine")
    (tmp_path / "dvc.yaml").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ReoptError, match=r"dvc\.yaml is there already, and is not overwritten"):
        lay_out(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
    for name in ("../x", "Mine", ""):
        with pytest.raises(ReoptError, match="allowed: text matching"):
            lay_out(tmp_path / "other", name)
    with pytest.raises(ReoptError, match="--name smoke is that of a config that comes with every project"):
        lay_out(tmp_path / "other", "smoke")
    assert sorted(tmp_path.rglob("*")) == before
