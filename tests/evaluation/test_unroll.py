"""Unrolls in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reopt.evaluation.unroll import meta_objective, start, unroll
from reopt.optimizers.classical import SGD, Adam, Momentum
from reopt.tasks.base import Task
from reopt.tasks.quadratic import Quadratic, QuadraticProblem


class Moving(Task):
    """f_k(x) = 1/2 (x - k)^2: the minimum moves with the step, so that the step an optimizer is given shows."""

    @property
    def num_params(self) -> int:
        return 1

    def sample(self, key):
        return jax.random.normal(key, (1,))

    def initial_params(self, problem):
        return problem

    def loss(self, problem, params, step):
        del problem
        return 0.5 * jnp.sum(jnp.square(params - step))


def random_problems() -> QuadraticProblem:
    """Six quadratics in five dimensions with eigenvalues between 0.01 and 1."""
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.normal(size=(6, 5, 5)))
    eigenvalues = 10 ** rng.uniform(-2, 0, size=(6, 5))
    hessian = np.einsum("bij,bj,bkj->bik", basis, eigenvalues, basis)
    minimizer, start = rng.normal(size=(2, 6, 5))
    return QuadraticProblem(*(jnp.asarray(leaf) for leaf in (hessian, minimizer, start, eigenvalues)))


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def test_gradient_descent_on_quadratics():
    """Along an eigenvector, x_k - x* = (1 - lr lambda)^k (x_0 - x*)."""
    task, rate, num_steps = Quadratic(), 1.3, 20
    problems = random_problems()
    run = jax.jit(lambda p: unroll(SGD(rate), task, p, num_steps))(problems)
    values, basis = np.linalg.eigh(problems.hessian)
    offset = np.einsum("bij,bi->bj", basis, problems.start - problems.minimizer)
    powers = (1 - rate * values) ** np.arange(num_steps + 1)[:, None, None]
    expected = 0.5 * np.sum(values * (powers * offset) ** 2, axis=-1)
    np.testing.assert_allclose(run.losses, expected[:-1], rtol=1e-9)
    np.testing.assert_allclose(run.final_loss, expected[-1], rtol=1e-9)
    np.testing.assert_allclose(run.initial_loss, expected[0], rtol=1e-9)


def test_momentum_on_a_quadratic_with_one_eigenvalue():
    """x_{k+1} = (1 + beta - lr lambda) x_k - beta x_{k-1}: a recurrence of order two in x alone."""
    task, rate, beta = Quadratic(1), 0.8, 0.7
    start, minimizer = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, 1)))
    problems = QuadraticProblem(jnp.full((3, 1, 1), 0.1), minimizer, start, jnp.full((3, 1), 0.1))
    run = jax.jit(lambda p: unroll(Momentum(rate, beta), task, p, 15))(problems)
    x = [np.asarray(problems.start - problems.minimizer)[:, 0]]
    x.append((1 - rate * 0.1) * x[0])
    while len(x) < 15:
        x.append((1 + beta - rate * 0.1) * x[-1] - beta * x[-2])
    np.testing.assert_allclose(run.losses, 0.05 * np.square(x), rtol=1e-9)


def test_the_loss_is_that_of_the_step():
    task = Moving()
    problems = jnp.asarray(np.random.default_rng(2).normal(size=(4, 1)))
    run = jax.jit(lambda p: unroll(SGD(1.0), task, p, 6))(problems)
    # With rate 1 each step lands on the minimum of its own step: x_k = k - 1, one away from the next.
    np.testing.assert_allclose(run.losses[1:], 0.5, rtol=1e-12)
    np.testing.assert_allclose(run.losses[0], 0.5 * np.square(problems[:, 0]), rtol=1e-12)
    np.testing.assert_allclose(run.final_loss, 0.5, rtol=1e-12)


def test_start_is_the_problems_own_and_of_its_type():
    task, problems = Quadratic(), random_problems()
    params, state = start(Adam(0.1), task, problems)
    np.testing.assert_array_equal(params, problems.start)
    np.testing.assert_array_equal(state, np.zeros((6, 5, 3)))
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), problems)
    assert [a.dtype for a in start(Adam(0.1), task, single)] == [jnp.float32, jnp.float32]


def test_meta_objective_is_the_mean_loss_over_the_first():
    losses = jnp.asarray([[2.0, 10.0], [1.0, 30.0], [0.0, 20.0]])
    np.testing.assert_allclose(meta_objective(losses), [0.5, 2.0], rtol=1e-15)


def test_an_optimizer_that_does_not_move_has_meta_objective_one():
    run = jax.jit(lambda p: unroll(SGD(0.0), Quadratic(), p, 7))(random_problems())
    np.testing.assert_allclose(meta_objective(run.losses), 1, rtol=1e-15 * 7)
    assert run.losses.shape == (7, 6)
