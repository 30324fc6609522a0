"""Rosenbrock's function at points where its derivatives are known, and the box of starting points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import ValidationError
from scipy import optimize, stats

from reopt.tasks.rosenbrock import Rosenbrock, Settings, create


@pytest.mark.parametrize("point", [(1.0, 1.0), (-1.2, 1.0), (0.0, 0.0), (1.7, -0.4)])
def test_value_gradient_and_hessian(point: tuple[float, float]):
    task = Rosenbrock()
    with jax.enable_x64(True):
        x, start, step = jnp.array(point), jnp.zeros(2), jnp.asarray(0)
        value, gradient = jax.jit(jax.value_and_grad(task.loss, argnums=1))(start, x, step)
        hessian = jax.jit(jax.hessian(task.loss, argnums=1))(start, x, step)
    np.testing.assert_allclose(value, optimize.rosen(point), rtol=1e-12)
    np.testing.assert_allclose(gradient, optimize.rosen_der(point), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(hessian, optimize.rosen_hess(np.array(point)), rtol=1e-12)


def test_minimum_is_zero_at_one_one():
    task = Rosenbrock()
    start = task.sample(jax.random.key(0))
    assert task.loss(start, jnp.ones(2), jnp.asarray(0)) == task.optimum(start) == 0
    around = jnp.ones(2) + 1e-2 * jax.random.normal(jax.random.key(1), (100, 2))
    assert jnp.all(jax.vmap(task.loss, (None, 0, None))(start, around, jnp.asarray(0)) > 0)


def test_starts_fill_the_box():
    task = create(Settings(start_x=[-1.5, 0.5], start_y=[2.0, 3.0]))
    problems = task.sample_batch(jax.random.key(1), 4000)
    starts = np.asarray(jax.vmap(task.initial_params)(problems), np.float64)
    assert stats.kstest(starts[:, 0], stats.uniform(-1.5, 2.0).cdf).pvalue > 1e-3
    assert stats.kstest(starts[:, 1], stats.uniform(2.0, 1.0).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(starts.T)[0, 1]) < 4.5 / np.sqrt(4000)


@pytest.mark.parametrize(
    "wrong", [{"start_x": [1.0, 1.0]}, {"start_y": [3.0, -1.0]}, {"start_x": [0.0]}, {"noise": 0.0}]
)
def test_wrong_settings_are_refused(wrong: dict):
    with pytest.raises(ValidationError):
        Settings.model_validate({"start_x": [-2.0, 2.0], "start_y": [-1.0, 3.0]} | wrong)
