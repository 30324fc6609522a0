"""Which runs travel with the package, and what their cards are made of: planted results in, numbers out."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reopt.core.checkpoint import write_checkpoint
from reopt.core.tables import write_arrays

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("ship", ROOT / "workflow/scripts/ship.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("objectives", "diverged", "best"),
    [
        ((0.3, 0.1, 0.2), (0, 0, 0), 1),
        ((0.3, 0.1, 0.2), (0, 40, 0), 2),
        ((0.3, 0.1, 0.2), (7, 40, 9), 1),
    ],
)
def test_the_best_in_validation_is_taken(script, tmp_path: Path, objectives, diverged, best: int):
    for seed, (objective, ended) in enumerate(zip(objectives, diverged, strict=True)):
        description = {"validation_meta_objective": objective} | ({"diverged": ended} if ended else {})
        write_checkpoint(tmp_path / f"gru2-s{seed}/best.safetensors", {"a": np.zeros(2)}, description)
    assert script.best_run(tmp_path, "gru2", [0, 1, 2]) == f"gru2-s{best}"


def test_sizes_of_gradients_are_those_of_the_first_step_without_zeros(script, tmp_path: Path):
    first = np.concatenate([np.arange(1, 102), np.zeros(50), [np.nan]]).reshape(4, 38) * -0.01
    write_arrays(tmp_path / "record.npz", {"gradients": np.stack([first, np.full_like(first, 8.0)])})
    found = script.scope(tmp_path / "record.npz", 7, 38)
    assert found == {"steps": 7, "params": 38, "low": 0.06, "median": 0.51, "high": 0.96, "largest": 8.0}


def test_a_score_leaves_out_what_diverged_and_counts_it(script, tmp_path: Path):
    pd.DataFrame({"meta_objective": [1.0, 2.0, np.inf, 3.0, np.nan]}).to_csv(tmp_path / "x.csv")
    found = script.score(tmp_path / "x.csv", "x")
    half = 1.959964 / np.sqrt(3)
    assert found["mean"] == 2
    assert found["diverged"] == 2
    np.testing.assert_allclose([found["low"], found["high"]], [2 - half, 2 + half], rtol=1e-5)


def test_a_recipe_of_an_earlier_checkpoint_reads_the_same(script):
    training = {
        "outer_steps": 500, "problems": 8, "estimator": {"kind": "full"}, "learning_rate": 0.003,
        "schedule": {"kind": "cosine"},
    }  # fmt: skip
    network = {"cell": "gru", "units": 16, "features": "raw", "input_scale": 30.0, "output_scale": 0.05}
    said = {
        key: script.recipe({"optimizer": network, "seed": 1, "training": training | {key: {"factor": 4.0}}})
        for key in ("calm", "cotangent_clipping")
    }
    assert said["calm"] == said["cotangent_clipping"]
    assert "cotangents clipped at 4; Adam at 0.003" in said["calm"]
