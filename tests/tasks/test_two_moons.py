"""Two moons: the data, the loss against numpy, the penalty, and the points of a problem."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.datasets import make_moons

from reopt.tasks.two_moons import Settings, TwoMoons, create, moons


def test_data_are_scikit_learns():
    points, moon = moons()
    expected, labels = make_moons(n_samples=1024, shuffle=True, noise=0.1, random_state=0)
    np.testing.assert_array_equal(points, expected)
    np.testing.assert_array_equal(moon, labels)
    assert np.bincount(moon).tolist() == [512, 512]


def by_hand(params: np.ndarray, widths: list[int], index: np.ndarray | slice, penalty: float) -> float:
    """Logistic loss and penalty, in float64, point by point along rows."""
    points, moon = (part[index] for part in moons())
    x, first = points, 0
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
        weight = params[first : first + fan_in * fan_out].reshape(fan_in, fan_out)
        first += fan_in * fan_out
        x = x @ weight + params[first : first + fan_out]
        first += fan_out
        x = np.tanh(x) if layer < len(widths) - 2 else x
    assert first == len(params)
    probability = 1 / (1 + np.exp(-x[:, 0]))
    cross_entropy = -np.mean(np.where(moon == 1, np.log(probability), np.log(1 - probability)))
    return cross_entropy + penalty * np.linalg.norm(params)


@pytest.mark.parametrize(("hidden", "points"), [((16, 16), 1024), ((7, 3, 5), 100), ((4,), 1)])
def test_loss_equals_a_forward_pass_in_numpy(hidden: tuple[int, ...], points: int):
    task = TwoMoons(hidden, points, 5e-3)
    problem = jax.jit(task.sample)(jax.random.key(4))
    params = np.random.default_rng(0).normal(size=task.num_params)
    index = slice(None) if problem.points is None else np.asarray(problem.points)
    expected = by_hand(params, [2, *hidden, 1], index, 5e-3)
    found = jax.jit(task.loss)(problem, jnp.asarray(params, jnp.float32), jnp.asarray(3))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_penalty_is_the_norm_not_its_square():
    params = jnp.asarray(np.random.default_rng(1).normal(size=TwoMoons().num_params), jnp.float32)
    problem = jax.jit(TwoMoons().sample)(jax.random.key(0))
    losses = [jax.jit(TwoMoons(penalty=penalty).loss)(problem, params, jnp.asarray(0)) for penalty in (0.0, 2.0)]
    np.testing.assert_allclose(losses[1] - losses[0], 2 * np.linalg.norm(params), rtol=1e-5)
    free = TwoMoons(penalty=0.0)
    gradient = jax.jit(jax.grad(free.loss, argnums=1))(problem, jnp.zeros(free.num_params), jnp.asarray(0))
    assert np.all(np.isfinite(gradient))


def test_parameter_counts():
    assert TwoMoons((16, 16)).num_params == 2 * 16 + 16 + 16 * 16 + 16 + 16 + 1 == 337
    assert TwoMoons((64, 64, 64)).num_params == 8577


def test_each_problem_has_points_of_its_own():
    task = TwoMoons(points=128)
    points = np.sort(np.asarray(jax.jit(lambda key: task.sample_batch(key, 50))(jax.random.key(0)).points), axis=1)
    assert np.all(np.diff(points, axis=1) > 0)
    assert len(np.unique(points, axis=0)) == 50
    assert len(np.unique(points)) > 1000  # together they cover nearly all 1,024
    assert TwoMoons().sample(jax.random.key(0)).points is None


def test_judged_on_all_points_from_the_same_start():
    task = TwoMoons((5,), 64, 1e-3)
    assert task.judged() == TwoMoons((5,), 1024, 1e-3)
    key = jax.random.key(7)
    np.testing.assert_array_equal(*(jax.jit(each.sample)(key).start for each in (task, task.judged())))


def test_settings_make_the_task():
    given = {"hidden": [16, 16], "points": 128, "penalty": 5e-3}
    assert create(Settings.model_validate(given)) == TwoMoons((16, 16), 128, 5e-3)
    for wrong in ({"hidden": []}, {"hidden": [0]}, {"points": 0}, {"points": 1025}, {"penalty": -1.0}, {"noise": 0.1}):
        with pytest.raises(ValidationError):
            Settings.model_validate(given | wrong)
