"""Judging on held-out problems: accuracy where a task classifies, and how hard the problems are."""

from typing import ClassVar

import jax
import numpy as np
import optax
import pytest

from reopt.evaluation import conditioning as stage
from reopt.evaluation.conditioning import LEAST_PROBLEMS, WORK, conditions
from reopt.evaluation.evaluate import (
    PARAMS_AT_ONCE,
    PROBLEMS_AT_ONCE,
    PROGRAMS,
    _program,
    evaluate,
    problem_batches,
    problems_at_once,
)
from reopt.evaluation.evaluate_optax import evaluate_optax
from reopt.evaluation.unroll import unroll
from reopt.optimizers.classical import SGD, Momentum
from reopt.optimizers.learned import create_learned
from reopt.tasks.base import Task
from reopt.tasks.mnist import MNIST
from reopt.tasks.quadratic import Quadratic
from reopt.tasks.rosenbrock import Rosenbrock

DIGITS = MNIST(channels=(2,), kernels=(3,), strides=(4,), batch=4)
COLUMNS = ["optimizer", "task", "seed", "problem", "meta_objective", "final_loss"]


@pytest.mark.long
def test_the_table_has_the_accuracy_of_the_last_parameters_where_a_task_classifies():
    asked = {"name": "sgd", "task_name": "mnist", "problems": 3, "seed": 4, "num_steps": 3}
    table = evaluate(SGD(0.1), DIGITS, **asked).table
    assert list(table.columns) == [*COLUMNS, "accuracy"]
    (batch,) = problem_batches(DIGITS, seed=4, count=3)
    final = unroll(SGD(0.1), DIGITS, batch, 3).final_params
    for number in range(3):
        problem = jax.tree.map(lambda leaf: leaf[number], batch)  # noqa: B023
        expected = DIGITS.accuracy(problem, final[number])
        np.testing.assert_allclose(table["accuracy"][number], expected, atol=2e-3)  # an image in a thousand may tip
    other = evaluate_optax(optax.sgd(0.1), DIGITS, **asked).table
    np.testing.assert_allclose(other["accuracy"], table["accuracy"], atol=2e-3)
    np.testing.assert_allclose(other["meta_objective"], table["meta_objective"], rtol=1e-4)


def test_the_table_has_no_accuracy_where_nothing_is_classified():
    result = evaluate(SGD(0.1), Quadratic(2), name="sgd", task_name="quadratic", problems=2, seed=0, num_steps=3)
    assert list(result.table.columns) == COLUMNS


@pytest.mark.parametrize("task", [Quadratic(5), DIGITS, Quadratic(1000)], ids=["5", "mnist", "1000"])
def test_as_many_problems_run_side_by_side_as_fit(task: Task):
    count = problems_at_once(task)
    assert 1 <= count <= PROBLEMS_AT_ONCE
    assert count * task.num_params <= PARAMS_AT_ONCE
    assert count == PROBLEMS_AT_ONCE or (count + 1) * task.num_params > PARAMS_AT_ONCE


def test_rosenbrock_has_a_condition_number_where_its_hessian_is_positive_definite():
    """H = [[2 - 400 (y - 3 x²), -400 x], [-400 x, 200]]: positive definite where det H = 400 - 80,000 (y - x²) > 0."""
    table = conditions(Rosenbrock(), problems=64, seed=0)
    (starts,) = problem_batches(Rosenbrock(), seed=0, count=64)
    x, y = np.asarray(starts, np.float64).T
    hessians = np.moveaxis(np.array([[2 - 400 * (y - 3 * x**2), -400 * x], [-400 * x, np.full_like(x, 200)]]), -1, 0)
    values = np.linalg.eigvalsh(hessians)
    definite = 400 - 80_000 * (y - x**2) > 0
    assert 5 < definite.sum() < 59  # both kinds are there
    np.testing.assert_array_equal(np.isfinite(table["condition_number"]), definite)
    np.testing.assert_allclose(table["condition_number"][definite], (values[:, 1] / values[:, 0])[definite], rtol=1e-6)
    np.testing.assert_allclose(table["smallest_eigenvalue"], values[:, 0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(table["largest_eigenvalue"], values[:, 1], rtol=1e-6)


def test_of_many_parameters_the_first_problems_alone_are_measured(monkeypatch: pytest.MonkeyPatch):
    assert int(WORK / DIGITS.num_params**3) > LEAST_PROBLEMS  # this one is small
    every = conditions(Quadratic(40), problems=12, seed=3)
    monkeypatch.setattr(stage, "WORK", 10.5 * 40**3)
    table = conditions(Quadratic(40), problems=12, seed=3)
    assert list(table["problem"]) == list(range(10))
    np.testing.assert_allclose(table["condition_number"], every["condition_number"][:10], rtol=1e-6)
    monkeypatch.setattr(stage, "WORK", 1.0)
    assert len(conditions(Quadratic(40), problems=12, seed=3)) == LEAST_PROBLEMS
    assert len(conditions(Quadratic(40), problems=3, seed=3)) == 3


def test_many_parameters_are_measured_one_problem_at_a_time_with_the_same_result(monkeypatch: pytest.MonkeyPatch):
    one = conditions(Quadratic(stage.MANY_PARAMS + 1), problems=4, seed=5)
    monkeypatch.setattr(stage, "MANY_PARAMS", 100)
    side_by_side = conditions(Quadratic(33), problems=4, seed=5)
    np.testing.assert_allclose(one, side_by_side, rtol=1e-9)


class Counting(Task):
    """Quadratics that count how often their loss is traced: once for each time it is compiled."""

    task: Quadratic
    traced: ClassVar[list[int]] = []

    @property
    def num_params(self) -> int:
        return self.task.num_params

    def sample(self, key):
        return self.task.sample(key)

    def initial_params(self, problem):
        return self.task.initial_params(problem)

    def loss(self, problem, params, step):
        self.traced.append(1)
        return self.task.loss(problem, params, step)


@pytest.mark.long
def test_a_program_is_compiled_once_for_all_parameters_and_not_kept_for_ever():
    asked = {"name": "it", "task_name": "quadratic", "problems": 3, "seed": 0}

    def traces(optimizer, num_steps: int = 3, how=evaluate) -> int:
        Counting.traced.clear()
        how(optimizer, Counting(Quadratic(2)), **asked, num_steps=num_steps)
        return len(Counting.traced)

    first = traces(Momentum(0.1, 0.9))
    assert first > 0
    assert [traces(Momentum(rate, beta)) for rate in (0.1, 0.2) for beta in (0.5, 0.9)] == [0] * 4
    cells = [create_learned(jax.random.key(k), cell="gru", units=2) for k in range(3)]
    assert [traces(cell) for cell in cells] == [first, 0, 0]
    assert traces(Momentum(0.1, 0.9), num_steps=4) == first
    adam = optax.adam(0.1)
    assert [traces(adam, how=evaluate_optax) > 0 for _ in range(3)] == [True, False, False]
    for num_steps in range(5, 5 + PROGRAMS):
        traces(SGD(0.1), num_steps)
    assert _program.cache_info().currsize == PROGRAMS
    assert traces(Momentum(0.1, 0.9)) == first  # which was dropped
