"""What stages read: a task's own blocks instead of the config's, and nothing of another task."""

import copy
from pathlib import Path

import pytest
import yaml

from reopt.core.errors import ReoptError
from reopt.pipeline.config import read_yaml
from reopt.pipeline.slice import Slice
from reopt.pipeline.stages import baselines_of, block, is_searched, stage
from snakedvc import section

LAPTOP = Path(__file__).parents[2] / "config/laptop.yaml"
NAMES = {
    "evaluation": ("evaluate", "conditions", "linearize"),
    "record": ("record",),
    "baselines": ("tune",),
}
OTHERS = ("metatrain", "fixed_points", "pca", "update_functions", "gradient_density", "schedule", "adaptation")
VALUES = {
    "evaluation": {"problems": 17, "seed": 5},
    "record": {"problems": 3, "state_problems": 2, "params": 4, "seed": 9},
}


@pytest.fixture
def config() -> dict:
    return read_yaml(LAPTOP)


def slices(config: dict) -> dict[tuple[str, str], str]:
    """What each stage of each task reads, as text."""
    found = {}
    for task, entry in config["tasks"].items():
        names = {"optimizer": next(iter(entry["optimizers"])), "baseline": "momentum"}
        for name in (*(name for group in NAMES.values() for name in group), *OTHERS):
            found[task, name] = repr(section(config, *stage(config, name, task=task, **names).keys))
    return found


def changed(config: dict, other: dict) -> set[tuple[str, str]]:
    before, after = slices(config), slices(other)
    return {key for key in before if before[key] != after[key]}


@pytest.mark.parametrize("name", VALUES)
def test_a_block_of_its_own_is_what_the_tasks_stages_read(config: dict, name: str):
    other = copy.deepcopy(config)
    other["tasks"]["quadratic"]["own"] = {name: VALUES[name]}
    assert block(config, "quadratic", name) == ("analysis.record" if name == "record" else name)
    assert block(other, "quadratic", name) == f"tasks.quadratic.own.{name}"
    assert changed(config, other) == {("quadratic", stage) for stage in NAMES[name]}
    last = copy.deepcopy(other)
    last["tasks"]["quadratic"]["own"][name]["seed"] += 1
    assert changed(other, last) == {("quadratic", stage) for stage in NAMES[name]}


@pytest.mark.parametrize("name", VALUES)
def test_the_configs_block_is_read_by_tasks_without_their_own_alone(config: dict, name: str):
    for task, own in {"quadratic": {}, "rosenbrock": VALUES, "two_moons": {}, "mnist": VALUES}.items():
        config["tasks"][task]["own"] = dict(own)
    other = copy.deepcopy(config)
    (other["analysis"] if name == "record" else other)[name]["seed"] += 1
    assert changed(config, other) == {(task, s) for task in ("quadratic", "two_moons") for s in NAMES[name]}


def test_ranges_of_its_own_say_which_baselines_a_task_has(config: dict):
    own = copy.deepcopy(config["baselines"])
    del own["ranges"]["sgd"]
    own["draws"] += 1
    config["tasks"]["rosenbrock"]["own"] = {}
    other = copy.deepcopy(config)
    other["tasks"]["rosenbrock"]["own"]["baselines"] = own
    assert set(baselines_of(config, "rosenbrock")) - set(baselines_of(other, "rosenbrock")) == {"sgd"}
    assert baselines_of(config, "quadratic") == baselines_of(other, "quadratic")
    assert changed(config, other) == {("rosenbrock", "tune")}


def test_commands_read_the_block_that_the_stage_declares(config: dict, tmp_path: Path):
    config["tasks"]["quadratic"]["own"] = {"evaluation": VALUES["evaluation"]}
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(config))
    read = Slice(path, "evaluate", task="quadratic")
    assert read.block("evaluation").problems == 17
    assert read.plain()["tasks.quadratic.own.evaluation"] == VALUES["evaluation"]
    assert "evaluation" not in read.plain()
    with pytest.raises(KeyError, match="does not declare"):
        read.block("record")


def test_a_search_reads_its_block_and_its_optimizers(config: dict):
    task = config["tasks"]["two_moons"]
    name = next(iter(task["optimizers"]))
    values = {"features": ["raw"], "input_scale": [1.0], "output_scale": [1.0], "learning_rate": [0.1]}
    task["search"] = {"optimizer": name, "candidates": 1, "outer_steps": 2, "seed": 0} | values
    keys = stage(config, "search", task="two_moons").keys
    assert "tasks.two_moons.search" in keys
    assert any(key.startswith(f"tasks.two_moons.optimizers.{name}.training.") for key in keys)
    assert not any(key.startswith("tasks.mnist") for key in keys)
    assert not is_searched(config, "two_moons", name)
    task["optimizers"][name]["training"]["learning_rate"] = "searched"
    assert is_searched(config, "two_moons", name)
    task["search"] = None
    with pytest.raises(ReoptError, match=r"tasks\.two_moons\.search is null"):
        stage(config, "search", task="two_moons")
