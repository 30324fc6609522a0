"""Judging an optax transformation as it is, on the whole parameter vector: one that couples parameters, or looks at
their values (weight decay), has no other true runs."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from reopt.tasks.base import Problem, Task
from reopt.training.evaluate import Evaluation, judge
from reopt.training.unroll import Run, batch_value_and_grad


def unroll_optax(transformation: Any, task: Task, problems: Problem, num_steps: int) -> Run:
    """Run the transformation for `num_steps` steps on each problem of the batch, its parameters one vector."""
    params = jax.vmap(task.initial_params)(problems)

    def body(carry: Any, step: jax.Array) -> tuple[Any, jax.Array]:
        params, state = carry
        losses, gradients = batch_value_and_grad(task, problems, params, step)
        updates, state = jax.vmap(transformation.update)(gradients, state, params)
        return (optax.apply_updates(params, updates), state), losses

    start = (params, jax.vmap(transformation.init)(params))
    (params, _), losses = jax.lax.scan(body, start, jnp.arange(num_steps))
    return Run(losses, jax.vmap(task.loss, (0, 0, None))(problems, params, jnp.asarray(num_steps)), losses[0], params)


def evaluate_optax(
    transformation: Any, task: Task, *, name: str, task_name: str, problems: int, seed: int, num_steps: int
) -> Evaluation:
    """As `reopt.training.evaluate.evaluate`, on the same problems, for an optax transformation as it is."""

    def unrolled(optimizer: None, batch: Problem) -> Run:
        del optimizer  # functions, which no compiled program takes as an argument
        return unroll_optax(transformation, task, batch, num_steps)

    return judge(unrolled, None, task, name=name, task_name=task_name, problems=problems, seed=seed)
