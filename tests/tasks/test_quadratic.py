"""The random quadratics: their algebra, their distribution, and what classical optimizers reach on them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from reopt.evaluation.unroll import meta_objective, unroll
from reopt.optimizers.base import Optimizer
from reopt.optimizers.classical import SGD, Momentum
from reopt.tasks.quadratic import Quadratic, QuadraticProblem, Settings, create

TASKS = [Quadratic(), Quadratic(1, (-1.0, -1.0)), Quadratic(8, (-2.0, 2.0))]


@functools.cache
def compiled(task: Quadratic):
    """Problem, value, gradient and Hessian at a point, by autodiff, from a key and an offset from the start."""

    @jax.jit
    def examine(seed, offset):
        problem = task.sample(jax.random.key(seed))
        x = task.initial_params(problem) + offset
        value, gradient = jax.value_and_grad(task.loss, argnums=1)(problem, x, jnp.asarray(3))
        curvature = jax.hessian(task.loss, argnums=1)(problem, x, jnp.asarray(3))
        bottom = task.loss(problem, problem.minimizer, jnp.asarray(3))
        return problem, x, value, gradient, curvature, bottom, task.optimum(problem)

    return examine


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(TASKS), st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
def test_is_the_quadratic_it_claims_to_be(task: Quadratic, seed: int, offset_seed: int):
    with jax.enable_x64(True):
        offset = np.random.default_rng(offset_seed).normal(size=task.dimension)
        out = compiled(task)(seed, offset)
        problem, x, value, gradient, curvature, bottom, optimum = jax.tree.map(np.asarray, out)
    low, high = (10.0**bound for bound in task.log10_eigenvalues)
    assert task.num_params == x.size == task.dimension
    np.testing.assert_allclose(problem.hessian, problem.hessian.T, rtol=0, atol=1e-14 * high)
    np.testing.assert_allclose(
        np.linalg.eigvalsh(problem.hessian), np.sort(problem.eigenvalues), rtol=1e-9, atol=1e-13 * high
    )
    assert np.all((problem.eigenvalues >= low * (1 - 1e-12)) & (problem.eigenvalues <= high * (1 + 1e-12)))
    # f(x) = 1/2 x^T H x + v^T x + c with v = -H x*, and c such that the minimum is 0.
    h, linear = problem.hessian, -problem.hessian @ problem.minimizer
    constant = 0.5 * problem.minimizer @ h @ problem.minimizer
    np.testing.assert_allclose(value, 0.5 * x @ h @ x + linear @ x + constant, rtol=1e-9, atol=1e-12 * constant)
    np.testing.assert_allclose(gradient, h @ (x - problem.minimizer), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(curvature, h, rtol=1e-9, atol=1e-12 * high)
    assert bottom == optimum == 0
    assert value > 0


@pytest.fixture(scope="module")
def problems() -> QuadraticProblem:
    """Many problems of the paper's task, in float64."""
    with jax.enable_x64(True):
        batch = jax.jit(lambda key: Quadratic().sample_batch(key, 4000))(jax.random.key(11))
        return jax.tree.map(np.asarray, batch)


def test_eigenvalues_are_log_uniform(problems: QuadraticProblem):
    exponents = np.log10(problems.eigenvalues).ravel()
    assert stats.kstest(exponents, stats.uniform(-3, 3).cdf).pvalue > 1e-3
    correlations = np.corrcoef(np.log10(problems.eigenvalues).T)[np.triu_indices(5, 1)]
    assert np.all(np.abs(correlations) < 4.5 / np.sqrt(4000))


def test_start_and_linear_term_are_standard_normal(problems: QuadraticProblem):
    linear = -np.einsum("bij,bj->bi", problems.hessian, problems.minimizer)
    for sample in (linear, problems.start):
        assert stats.kstest(sample.ravel(), stats.norm.cdf).pvalue > 1e-3
    both = np.concatenate([linear, problems.start], axis=1)
    correlations = np.corrcoef(both.T)[np.triu_indices(10, 1)]
    assert np.all(np.abs(correlations) < 4.5 / np.sqrt(4000))


def test_basis_is_haar(problems: QuadraticProblem):
    """Every squared entry of a Haar orthogonal matrix is Beta(1/2, (n - 1)/2), whatever the eigenvalue."""
    _, basis = np.linalg.eigh(problems.hessian)
    for column in (0, 2, 4):
        for row in (0, 3):
            assert stats.kstest(basis[:, row, column] ** 2, stats.beta(0.5, 2).cdf).pvalue > 1e-4
    # Within a column the products of two entries average to 0: no preferred direction.
    products = np.mean(basis[:, 0] * basis[:, 1], axis=0)
    assert np.all(np.abs(products) < 4.5 * np.sqrt(1 / (5 * 7) / 4000))


def test_keys_give_problems_of_their_own():
    sample = jax.jit(lambda seed: Quadratic().sample_batch(jax.random.key(seed), 50))
    first, again, other = sample(1), sample(1), sample(2)
    assert first.hessian.shape == (50, 5, 5)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.any(a == b) for a, b in zip(first, other, strict=True))
    assert np.unique(first.start).size == np.unique(first.eigenvalues).size == 250


@jax.jit
def objectives(optimizer: Optimizer, seed: int) -> jax.Array:
    task = Quadratic()
    return meta_objective(unroll(optimizer, task, task.sample_batch(jax.random.key(seed), 8192), 201).losses)


@pytest.mark.parametrize(
    ("optimizer", "mean", "deviation", "median"),
    [
        # Mean, standard deviation and median over 262,144 problems, simulated in numpy in the eigenbasis.
        (SGD(2 / (1 + 1e-3)), 0.2970, 0.188, 0.2842),
        (Momentum(4 / (1 + 1e-3**0.5) ** 2, ((1 - 1e-3**0.5) / (1 + 1e-3**0.5)) ** 2), 0.04675, 0.041, 0.0411),
    ],
    ids=["gradient descent", "Polyak's momentum"],
)
def test_calibration(optimizer: Optimizer, mean: float, deviation: float, median: float):
    values = np.asarray(objectives(optimizer, 12), np.float64)
    assert values.mean() == pytest.approx(mean, abs=4 * deviation / np.sqrt(values.size))
    assert np.median(values) == pytest.approx(median, rel=0.04)


def test_settings_make_the_task():
    task = create(Settings(dimension=3, log10_eigenvalues=[-2.0, 1.0]))
    assert (task.dimension, task.log10_eigenvalues) == (3, (-2.0, 1.0))
    for wrong in (
        {"dimension": 0, "log10_eigenvalues": [-1.0, 0.0]},
        {"dimension": 3, "log10_eigenvalues": [0.0, -1.0]},
        {"dimension": 3, "log10_eigenvalues": [0.0]},
        {"dimension": 3, "log10_eigenvalues": [float("nan"), 0.0]},
        {"dimension": 3, "log10_eigenvalues": [-1.0, 0.0], "noise": 1.0},
    ):
        with pytest.raises(ValidationError):
            Settings.model_validate(wrong)
