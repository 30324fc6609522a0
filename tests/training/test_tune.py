"""The race of a random search against the plain search that runs every draw to its end."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reopt.core.errors import ReoptError
from reopt.core.schema import Range
from reopt.evaluation.keys import problem_key
from reopt.evaluation.unroll import meta_objective, unroll
from reopt.optimizers.load import build_baseline
from reopt.tasks.quadratic import Quadratic
from reopt.training.tune import BLOCK, DRAWS_AT_ONCE, NUMBERS_AT_ONCE, lanes_for, score_draws, tune

STEPS, DRAWS = 45, 150  # a number of steps that BLOCK does not divide
TASK = Quadratic()
PROBLEMS = TASK.sample_batch(problem_key("tuning", 3), 6)


class Sunk(Quadratic):
    """The same problems, all losses lower by 1: most end below zero."""

    def loss(self, problem, params, step):
        return super().loss(problem, params, step) - 1


@functools.cache
def draws(name: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    rate = 10 ** rng.uniform(-2, 2, DRAWS)
    others = {"momentum": {"momentum": rng.uniform(0, 1, DRAWS)}, "adam": {"beta1": rng.uniform(0, 1, DRAWS)}}
    return {"learning_rate": rate} | others.get(name, {})


def plain(name: str, task: Quadratic) -> np.ndarray:
    """Every draw to its end; infinite or not a number where it diverged."""
    values = {key: jnp.asarray(value, jnp.float32) for key, value in draws(name).items()}

    def score(values):
        return jnp.mean(meta_objective(unroll(build_baseline(name, values), task, PROBLEMS, STEPS).losses))

    return np.asarray(jax.jit(jax.vmap(score))(values), float)


# Adam's runs at high rates are chaotic: two orders of summation in float32 part by more than rounding.
@pytest.mark.parametrize(("name", "rtol"), [("sgd", 1e-5), ("momentum", 1e-5), ("adam", 2e-3)])
@pytest.mark.parametrize(("early_stopping", "lanes"), [(1.0, 16), (3.0, 128), (1.5, 1000)])
def test_the_race_finds_what_the_plain_search_finds(name: str, rtol: float, early_stopping: float, lanes: int):
    expected = plain(name, TASK)
    expected = np.where(np.isfinite(expected), expected, np.inf)
    scores = score_draws(
        name, TASK, draws(name), num_steps=STEPS, problems=PROBLEMS, early_stopping=early_stopping, lanes=lanes
    )
    assert np.argmin(scores.meta_objective) == np.argmin(expected)
    kept = np.isfinite(scores.meta_objective)
    np.testing.assert_allclose(scores.meta_objective[kept], expected[kept], rtol=rtol)
    assert (expected[~kept] > early_stopping * expected.min()).all()
    assert (scores.at_least <= expected * (1 + rtol)).all()
    assert (scores.steps[kept] == STEPS).all()
    dropped = ~kept & (scores.steps < STEPS)
    assert (scores.steps[dropped] % BLOCK == 0).all()
    if lanes < DRAWS / 2:
        assert dropped.sum() > DRAWS / 4  # there was something to save


def test_no_draw_is_dropped_where_losses_are_negative():
    """A sum with negative terms still to come is no bound."""
    scores = score_draws("sgd", Sunk(), draws("sgd"), num_steps=STEPS, problems=PROBLEMS, early_stopping=1.0, lanes=16)
    expected = plain("sgd", Sunk())
    finite = np.isfinite(expected)
    np.testing.assert_allclose(scores.meta_objective[finite], expected[finite], rtol=1e-4, atol=1e-4)
    assert (scores.steps[finite] == STEPS).all()


def test_a_race_without_dropping_is_the_plain_search():
    scores = score_draws("momentum", TASK, draws("momentum"), num_steps=STEPS, problems=PROBLEMS, early_stopping=np.inf)
    expected = plain("momentum", TASK)
    finite = np.isfinite(expected)
    np.testing.assert_allclose(scores.meta_objective[finite], expected[finite], rtol=1e-5)
    assert (scores.steps[finite] == STEPS).all()


def test_the_table_and_the_winner_agree():
    ranges = {"learning_rate": Range(low=0.01, high=100.0, scale="log")}
    table, winner = tune("sgd", TASK, ranges, draws=60, problems=8, seed=0, num_steps=STEPS)
    best = table.loc[table["meta_objective"].idxmin()]
    assert winner["meta_objective"] == best["meta_objective"]
    assert winner["hyperparameters"] == {"learning_rate": best["learning_rate"]}
    assert winner["diverged"] == int(np.isinf(table["at_least"]).sum())
    kept = np.isfinite(table["meta_objective"])
    assert winner["dropped"] + winner["diverged"] + kept.sum() == len(table)
    np.testing.assert_array_equal(table.loc[kept, "meta_objective"], table.loc[kept, "at_least"])


def test_a_search_in_which_all_diverge_says_so():
    ranges = {"learning_rate": Range(low=1e8, high=1e9, scale="log")}
    with pytest.raises(ReoptError, match="every draw of sgd diverged"):
        tune("sgd", TASK, ranges, draws=5, problems=4, seed=0, num_steps=STEPS)


@pytest.mark.parametrize(("problems", "num_params"), [(1, 1), (128, 5), (64, 2), (8, 337), (8, 1490), (10**4, 10**4)])
def test_lanes_fill_the_caches_and_no_more(problems: int, num_params: int):
    lanes = lanes_for(problems, num_params)
    size = problems * num_params
    assert 1 <= lanes <= DRAWS_AT_ONCE
    assert lanes == 1 or lanes * size <= NUMBERS_AT_ONCE
    assert lanes == DRAWS_AT_ONCE or (lanes + 1) * size > NUMBERS_AT_ONCE


def test_draws_that_run_one_after_the_other_score_the_same():
    """As problems of very many parameters would."""
    few = {name: values[:6] for name, values in draws("momentum").items()}
    scores = [
        score_draws("momentum", TASK, few, num_steps=STEPS, problems=PROBLEMS, early_stopping=np.inf, lanes=lanes)
        for lanes in (1, None)
    ]
    np.testing.assert_allclose(scores[0].meta_objective, scores[1].meta_objective, rtol=1e-5)
