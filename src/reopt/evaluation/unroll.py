"""Running an optimizer on a batch of problems, and the meta-objective of such a run."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from reopt.optimizers.base import Optimizer
from reopt.tasks.base import Problem, Task


class Run(NamedTuple):
    """An unrolled optimization of a batch of problems."""

    losses: Float[Array, "step problem"]  # before each update
    final_loss: Float[Array, " problem"]  # after the last one
    initial_loss: Float[Array, " problem"]
    final_params: Float[Array, "problem param"]


def batch_value_and_grad(task: Task, problems: Problem, params: Array, step: Array) -> tuple[Array, Array]:
    """Losses `(problem,)` and gradients `(problem, param)` of a batch of problems at one step."""
    return jax.vmap(jax.value_and_grad(task.loss, argnums=1), (0, 0, None))(problems, params, step)


def advance(optimizer: Optimizer, task: Task, problems: Problem, carry: Any, step: Array) -> tuple[Any, Any]:
    """One optimizer step on every problem: the body of every unroll.

    `carry` is (params `(problem, param)`, state `(problem, param, hidden)`); returns the next one and
    (losses, gradients, updates) of this step.
    """
    params, state = carry
    losses, gradients = batch_value_and_grad(task, problems, params, step)
    state, updates = optimizer(state, gradients)
    return (params + updates, state), (losses, gradients, updates)


def start(optimizer: Optimizer, task: Task, problems: Problem) -> tuple[Array, Array]:
    """Initial (params, state) of a batch of problems."""
    params = jax.vmap(task.initial_params)(problems)
    return params, optimizer.initial_states(params.shape).astype(params.dtype)


def unroll(optimizer: Optimizer, task: Task, problems: Problem, num_steps: int) -> Run:
    """Run `optimizer` for `num_steps` steps on each problem of the batch."""

    def body(carry, step):
        carry, (losses, _, _) = advance(optimizer, task, problems, carry, step)
        return carry, losses

    carry, losses = jax.lax.scan(body, start(optimizer, task, problems), jnp.arange(num_steps))
    final_loss = jax.vmap(task.loss, (0, 0, None))(problems, carry[0], jnp.asarray(num_steps))
    return Run(losses, final_loss, losses[0], carry[0])


def meta_objective(losses: Float[Array, "step problem"]) -> Float[Array, " problem"]:
    """Mean loss of the unroll over the initial loss, a number a problem (the paper's meta-objective)."""
    return jnp.mean(losses, axis=0) / losses[0]
