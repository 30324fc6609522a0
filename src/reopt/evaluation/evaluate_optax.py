"""Judging an optax transformation as it is, on the whole parameter vector: one that couples parameters, or looks at
their values (weight decay), has no other true runs."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from reopt.evaluation.evaluate import Evaluation, judge
from reopt.evaluation.unroll import Run, batch_value_and_grad
from reopt.optimizers.optax_bridge import refuse_layouts
from reopt.tasks.base import Problem, Task


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
    """As `reopt.evaluation.evaluate.evaluate`, on the same problems, for an optax transformation as it is.

    **Raises** `NotComponentWise` where it acts by the shapes or names of arrays, which the one vector does not have.
    """
    refuse_layouts(transformation)

    asked = {"name": name, "task_name": task_name, "problems": problems, "seed": seed, "num_steps": num_steps}
    return judge(unroll_optax, transformation, task, **asked)  # type: ignore[arg-type]
