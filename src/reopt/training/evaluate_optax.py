"""Judging an optax transformation as it is, on the whole parameter vector: one that couples parameters, or looks at
their values (weight decay), has no other true runs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd

from reopt.tasks.base import Problem, Task
from reopt.training.evaluate import Evaluation, mean_interval, problem_batches
from reopt.training.unroll import Run, batch_value_and_grad, meta_objective


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
    run = jax.jit(lambda batch: unroll_optax(transformation, task, batch, num_steps))
    runs = [jax.tree.map(np.asarray, run(batch)) for batch in problem_batches(task, seed=seed, count=problems)]
    losses = np.concatenate([part.losses for part in runs], axis=1).astype(np.float64)
    table = pd.DataFrame(
        {
            "optimizer": name,
            "task": task_name,
            "seed": seed,
            "problem": np.arange(problems),
            "meta_objective": np.asarray(meta_objective(jnp.asarray(losses)), np.float64),
            "final_loss": np.concatenate([part.final_loss for part in runs]).astype(np.float64),
        }
    )
    relative = (losses / losses[0]).T
    mean, low, high = mean_interval(relative)
    median = np.median(relative, axis=0)
    curves = {"optimizer": name, "step": np.arange(num_steps), "mean": mean, "low": low, "high": high}
    return Evaluation(table, pd.DataFrame(curves | {"median": median}))
