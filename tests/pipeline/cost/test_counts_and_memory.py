"""What is counted from sizes against what XLA says of the compiled programs."""

import functools

import jax
import pytest

from reopt.evaluation.unroll import unroll
from reopt.optimizers.learned import create_learned
from reopt.pipeline.cost.counts import Size, cell_flops, meta_gradient_flops, task_cost, unroll_flops
from reopt.tasks.quadratic import Quadratic
from reopt.training.chunking import Plan
from reopt.training.meta_gradient import meta_value_and_grad

TASK, PROBLEMS = Quadratic(), 16
TOLERANCE = 0.1  # of FLOPs: element operations are counted by hand, and XLA fuses some away


def compiled(cell: str, units: int, features: str, num_steps: int, plan: Plan):
    optimizer = create_learned(jax.random.key(0), cell=cell, units=units, features=features)
    problems = TASK.sample_batch(jax.random.key(1), PROBLEMS)
    program = jax.jit(functools.partial(meta_value_and_grad, task=TASK, num_steps=num_steps, plan=plan))
    return program.lower(optimizer, problems=problems).compile()


@pytest.mark.parametrize("features", ["raw", "log1p"])
@pytest.mark.parametrize("cell", ["gru", "lstm", "vanilla"])
def test_flops_of_a_meta_gradient_are_those_of_xla(cell: str, features: str) -> None:
    # One step and segments of one: XLA counts the body of a loop once, whatever its length.
    counted = compiled(cell, 32, features, 1, Plan(segment=1)).cost_analysis()["flops"]
    ours = meta_gradient_flops(Size(cell, 32, features, PROBLEMS, TASK.num_params), 1, task_cost(TASK))
    assert ours == pytest.approx(counted, rel=TOLERANCE)


@pytest.mark.parametrize("cell", ["gru", "lstm", "vanilla"])
def test_flops_of_a_run_are_those_of_xla(cell: str) -> None:
    optimizer = create_learned(jax.random.key(0), cell=cell, units=32)
    problems = TASK.sample_batch(jax.random.key(1), PROBLEMS)
    program = jax.jit(lambda optimizer: unroll(optimizer, TASK, problems, 1)[:2])
    counted = program.lower(optimizer).compile().cost_analysis()["flops"]
    ours = unroll_flops(Size(cell, 32, "raw", PROBLEMS, TASK.num_params), 1, task_cost(TASK))
    assert ours == pytest.approx(counted, rel=TOLERANCE)


def test_a_gru_is_three_matmuls_forward_and_backward_twice() -> None:
    size = Size("gru", 1000, "raw", 1, 1)
    forward, backward, weights = cell_flops(size)
    assert forward == pytest.approx(2 * 3 * 1000**2, rel=0.01)
    assert backward + weights == pytest.approx(2 * forward, rel=0.01)


def test_the_task_is_that_of_a_dense_quadratic() -> None:
    # Products with H and, for differentiation does not know that it is symmetric, with its transpose: 2 n^2 each.
    cost = task_cost(Quadratic(200))
    assert cost.gradient == pytest.approx(4 * 200**2, rel=0.05)
    assert cost.curvature == pytest.approx(4 * 200**2, rel=0.05)


def test_blocks_add_the_forward_pass_of_all_but_the_last() -> None:
    size, cost = Size("gru", 16, "raw", 8, 5), task_cost(TASK)
    whole = meta_gradient_flops(size, 201, cost)
    again = unroll_flops(size, 3 * 51, cost)  # four blocks of 51, 51, 51 and 48 steps
    assert meta_gradient_flops(size, 201, cost, blocks=4) == pytest.approx(whole + again)
