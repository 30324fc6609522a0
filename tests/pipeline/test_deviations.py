"""Deviations of one config from another."""

from pathlib import Path

from reopt.pipeline.config import load_config
from reopt.pipeline.deviations import deviations

CONFIGS = Path(__file__).parents[2] / "config"


def test_a_config_does_not_depart_from_itself():
    paper = load_config(CONFIGS / "paper.yaml")
    assert deviations(paper, paper).empty


def test_values_that_differ_are_named_once_with_the_optimizers_that_have_them():
    paper = load_config(CONFIGS / "paper.yaml")
    task = paper.tasks["quadratic"]
    entry = task.optimizers["gru256"]
    smaller = entry.model_copy(update={"units": 8})
    longer = smaller.model_copy(update={"training": smaller.training.model_copy(update={"outer_steps": 7})})
    changed = task.model_copy(
        update={
            "num_steps": 9,
            "problem": {**task.problem, "dimension": 3},
            "optimizers": {"gru256": entry, "small": smaller, "long": longer},
        }
    )
    config = paper.model_copy(update={"tasks": {"quadratic": changed, "bowl": changed}})
    found = [tuple(row) for row in deviations(config, paper).itertuples(index=False)]
    assert found[:5] == [
        ("quadratic", "-", "problem.dimension", "5", "3"),
        ("quadratic", "-", "num_steps", "201", "9"),
        ("quadratic", "small long", "units", "256", "8"),
        ("quadratic", "long", "training.outer_steps", "5000", "7"),
        ("bowl", "-", "task", "false", "true"),
    ]
    assert found[5:] == [(task, "-", "task", "true", "false") for task in ("rosenbrock", "two_moons", "mnist")]
