"""Where an examination takes place: baselines that cannot be tuned there are left out, and said to be."""

from pathlib import Path

import jax.numpy as jnp

from reopt.examination.settings import Settings
from reopt.pipeline.setting import RIVALS, Setting, made_by_pipeline, tuned_rivals
from reopt.tasks.base import Task


class Steep(Task):
    """1e30 x^4, on which whatever is proportional to the gradient leaves the numbers at once."""

    @property
    def num_params(self) -> int:
        return 1

    def sample(self, key):
        return jnp.ones(1)

    def initial_params(self, problem):
        return problem

    def loss(self, problem, params, step):
        return jnp.sum(1e30 * params**4)


def test_a_baseline_that_diverges_on_a_task_is_left_out_and_the_others_stay(tmp_path: Path):
    said: list[str] = []
    where = Setting("steep", Steep(), Settings(num_steps=12), tmp_path)
    rivals = tuned_rivals(where, draws=2, seed=0, say=said.append)
    assert set(rivals) == set(RIVALS) - {"momentum"}
    assert [line for line in said if "left out" in line] == [
        "momentum is left out of the comparison: all 2 draws of it diverged on this task"
    ]


def test_what_the_pipeline_made_is_read_for_its_own_runs_alone(tmp_path: Path):
    """A run by its name, `best` or its file; no other file of that name, no object, nothing without an examination."""
    where = Setting("steep", Steep(), Settings(), tmp_path)
    own = tmp_path / "steep/optimizers/gru4-s0/best.safetensors"
    other = tmp_path / "elsewhere/gru4-s0/best.safetensors"
    for path in (own, other):
        path.parent.mkdir(parents=True)
        path.touch()
    assert made_by_pipeline(str(own), "gru4-s0", where) is None
    (tmp_path / "steep/analysis/gru4-s0").mkdir(parents=True)
    for words in (str(own), "gru4-s0", "best"):
        made = made_by_pipeline(words, "gru4-s0", where)
        assert made is not None
        assert made.folder == tmp_path / "steep/analysis/gru4-s0"
        assert made.evaluations(["gru4-s0"]) == {}
    assert made_by_pipeline(str(other), "gru4-s0", where) is None
    assert made_by_pipeline("mine.py:gru4-s0", "gru4-s0", where) is None
