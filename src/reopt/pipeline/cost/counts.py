"""FLOPs of unrolls and meta-gradients, counted from sizes alone.

A product of an (m, k) and a (k, n) matrix is 2 m k n FLOPs; an addition, multiplication or comparison of an element
is one; a sigmoid, tanh or logarithm is none (XLA's convention, which counts them apart). With u units, F features and
G gates (GRU 3, LSTM 4, vanilla 1), a step of one row, that is one parameter of one problem, is

    forward                 2 G u (F + u)  +  e_forward u    +  2 u              cell, its elements, readout
    backward to the state   2 G u (F + u)  +  e_backward u   +  3 u
    weight gradient         2 G u (F + u)  +  e_weights u    +  2 u

so that a meta-gradient is three matmuls of a forward pass, and a fourth in the blocks of steps that run forward
twice. The e are the element operations of `reopt.optimizers.cells`. On top comes the task: value and gradient on the
way forward, the Hessian times a vector on the way back.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from reopt.evaluation.unroll import batch_value_and_grad
from reopt.optimizers.learned import NUM_FEATURES
from reopt.tasks.base import Task

GATES = {"gru": 3, "lstm": 4, "vanilla": 1}
# Element operations a unit: forward, backward to the state, weight gradient (bias totals and what they need).
ELEMENTS = {"gru": (10, 20, 4), "lstm": (15, 24, 4), "vanilla": (2, 4, 1)}


class Size(NamedTuple):
    """What the cost of a step depends on."""

    cell: str
    units: int
    features: str
    problems: int
    params: int

    @property
    def rows(self) -> int:
        """Rows of the cell's batch: parameters of all problems."""
        return self.problems * self.params


class TaskCost(NamedTuple):
    """FLOPs of the task on one problem at one step."""

    gradient: float  # value and gradient
    curvature: float  # Hessian times a vector


def cell_flops(size: Size) -> tuple[float, float, float]:
    """FLOPs of one step of all rows, without the task: (forward, backward to the state, weight gradient)."""
    units, wide = size.units, size.units + NUM_FEATURES[size.features]
    matmul = 2.0 * GATES[size.cell] * units * wide
    forward, backward, weights = (matmul + elements * units for elements in ELEMENTS[size.cell])
    return size.rows * (forward + 2 * units), size.rows * (backward + 3 * units), size.rows * (weights + 2 * units)


def unroll_flops(size: Size, num_steps: int, task: TaskCost) -> float:
    """FLOPs of running a learned optimizer for `num_steps` steps on `size.problems` problems."""
    return num_steps * (cell_flops(size)[0] + size.problems * task.gradient)


def meta_gradient_flops(size: Size, num_steps: int, task: TaskCost, *, blocks: int = 1) -> float:
    """FLOPs of one meta-gradient whose steps are cut into `blocks`, of which all but the last run forward twice."""
    forward, backward, weights = cell_flops(size)
    ahead = forward + size.problems * task.gradient
    length = -(-num_steps // blocks)
    twice = (-(-num_steps // length) - 1) * length
    return num_steps * (ahead + backward + weights + size.problems * task.curvature) + twice * ahead


def tuning_flops(draws: int, problems: int, num_steps: int, task: TaskCost) -> float:
    """FLOPs of the task in a random search none of whose draws is dropped early; the baselines' own are few."""
    return draws * problems * num_steps * task.gradient


def task_cost(task: Task) -> TaskCost:
    """FLOPs of a task's gradient and curvature, as XLA counts the compiled programs.

    A loop inside of a task's loss is counted once, whatever its length: XLA does not multiply by it.
    """
    problems = jax.eval_shape(lambda: task.sample_batch(jax.random.key(0), 2))
    params = jax.ShapeDtypeStruct((2, task.num_params), jnp.float32)
    step = jax.ShapeDtypeStruct((), jnp.int32)

    def gradient(problems, params, step):
        return batch_value_and_grad(task, problems, params, step)

    def curvature(problems, params, step, along):
        return jax.jvp(lambda p: batch_value_and_grad(task, problems, p, step)[1], (params,), (along,))[1]

    counted = [
        (jax.jit(program).lower(*arguments).compile().cost_analysis() or {}).get("flops", 0.0)
        for program, arguments in ((gradient, (problems, params, step)), (curvature, (problems, params, step, params)))
    ]
    return TaskCost(*(max(0.0, float(flops)) / 2 for flops in counted))
