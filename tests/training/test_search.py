"""The search for a recipe: what is tried, what is picked, and that a killed search goes on."""

import itertools
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from reopt.core.checkpoint import read_checkpoint, write_checkpoint
from reopt.core.errors import ReoptError
from reopt.pipeline.config import LearnedConfig, SearchConfig, parse_config, read_yaml
from reopt.tasks.quadratic import Quadratic
from reopt.training.search import NAMES, candidates, search_recipe, shortened

CONFIG = Path(__file__).parents[2] / "config/smoke.yaml"
WILD = 1e12  # a learning rate with which nothing can be trained


def search(**values) -> SearchConfig:
    grid = {
        "features": ["raw", "log1p"],
        "input_scale": [0.1, 1.0, 10.0],
        "output_scale": [1.0],
        "learning_rate": [0.01],
    }
    return SearchConfig(**{"optimizer": "gru16", "candidates": 4, "outer_steps": 12, "seed": 1} | grid | values)


@pytest.fixture(scope="module")
def entry() -> LearnedConfig:
    content = read_yaml(CONFIG)
    optimizer = content["tasks"]["quadratic"]["optimizers"]["gru16"] | {"units": 3}
    optimizer["training"] |= {"problems": 4, "cotangent_clipping": None}
    optimizer["training"]["validation"] |= {"problems": 4, "every": 4}
    content["tasks"]["quadratic"]["optimizers"]["gru16"] = optimizer
    return parse_config(content, "tiny.yaml").tasks["quadratic"].optimizers["gru16"]


def run(entry: LearnedConfig, asked: SearchConfig, folder: Path, said: list | None = None):
    task = Quadratic(2)
    return search_recipe(
        task,
        entry,
        asked,
        task_name="quadratic",
        num_steps=6,
        training_task=task,
        state_folder=folder,
        report=lambda *words: None if said is None else said.append(words),
    )


def test_candidates_are_distinct_and_together_the_whole_grid():
    asked = search(candidates=24, output_scale=[1.0, 0.1], learning_rate=[0.1, 0.01])
    tried = [tuple(one[name] for name in NAMES) for one in candidates(asked)]
    assert len(set(tried)) == 24
    assert set(tried) == set(itertools.product(*(getattr(asked, name) for name in NAMES)))


@pytest.mark.parametrize("seed", range(3))
def test_fewer_candidates_are_the_first_of_more(seed: int):
    more = candidates(search(candidates=6, seed=seed))
    for count in range(1, 6):
        assert candidates(search(candidates=count, seed=seed)) == more[:count]
    assert len({tuple(map(str, candidates(search(candidates=6, seed=seed)))) for seed in range(5)}) > 1


def test_a_short_training_is_whole_in_itself(entry: LearnedConfig):
    recipe = {"features": "log1p", "input_scale": 3.0, "output_scale": 0.2, "learning_rate": 0.5}
    short = shortened(entry, recipe, 10)
    assert {name: getattr(short, name) for name in NAMES[:3]} | {
        "learning_rate": short.training.learning_rate
    } == recipe
    assert short.training.outer_steps == 10
    assert short.training.schedule.warmup_steps == 5  # the entry's 50 would never end
    assert shortened(entry, recipe, 400).training.schedule == entry.training.schedule
    assert short.training.validation == entry.training.validation


@pytest.mark.long
def test_the_best_of_the_table_is_picked_and_a_killed_search_goes_on(entry: LearnedConfig, tmp_path: Path):
    said: list = []
    asked = search(candidates=3, input_scale=[1.0, 3.0], learning_rate=[0.01, WILD], seed=2)
    values = [one["learning_rate"] for one in candidates(asked)]
    assert WILD in values
    assert 0.01 in values
    table, recipe = run(entry, asked, tmp_path, said)
    assert table.drop(columns=["candidate", "meta_objective"]).to_dict("records") == candidates(asked)
    wild = np.asarray(values) == WILD
    assert np.isinf(table["meta_objective"][wild]).all()
    assert np.isfinite(table["meta_objective"][~wild]).all()
    best = candidates(asked)[int(table["meta_objective"].argmin())]
    assert recipe == best | {"meta_objective": table["meta_objective"].min(), "candidates": 3}
    assert [words[:2] for words in said] == [(1, 3), (2, 3), (3, 3)]

    # A finished candidate is not trained again: what its state says is believed.
    finite = int(np.flatnonzero(~wild)[0])
    arrays, description = read_checkpoint(tmp_path / f"{finite}.safetensors")
    doctored = arrays | {"best_validation": np.asarray(jnp.float32(0.125))}
    write_checkpoint(tmp_path / f"{finite}.safetensors", doctored, description)
    again, _ = run(entry, asked, tmp_path)
    assert again["meta_objective"][finite] == 0.125
    others = np.arange(3) != finite
    np.testing.assert_array_equal(again["meta_objective"][others], table["meta_objective"][others])
    (tmp_path / f"{finite}.safetensors").unlink()  # ... and one whose state is gone is, with the same end
    np.testing.assert_array_equal(run(entry, asked, tmp_path)[0]["meta_objective"], table["meta_objective"])


@pytest.mark.long
def test_a_search_in_which_all_diverge_says_so(entry: LearnedConfig, tmp_path: Path):
    with pytest.raises(ReoptError, match="every candidate for quadratic diverged"):
        run(entry, search(candidates=1, input_scale=[1.0], learning_rate=[WILD]), tmp_path)
