"""How hard the problems of a task are: Hessian eigenvalues, condition numbers and initial losses."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from reopt.evaluation.evaluate import problem_batches
from reopt.tasks.base import Task

WORK = 1e10
LEAST_PROBLEMS = 8
MANY_PARAMS = 32  # from here on one problem at a time: Hessians of all side by side do not fit the memory


def conditions(task: Task, *, problems: int, seed: int) -> pd.DataFrame:
    """A row an evaluation problem: `problem, condition_number, largest_eigenvalue, smallest_eigenvalue,
    initial_loss`; the Hessian is taken at the starting point, in float64.

    Where it is not positive definite there is no condition number (NaN). The whole Hessian of a network takes its time:
    of tasks with many parameters the first problems alone are measured, so that problems times parameters cubed stays
    below `WORK`.
    """
    problems = max(min(problems, LEAST_PROBLEMS), min(problems, int(WORK / task.num_params**3)))
    # Drawn in float32, as they are judged: the same key gives other numbers in float64.
    every = [jax.tree.map(_widened, batch) for batch in problem_batches(task, seed=seed, count=problems)]
    with jax.enable_x64(True):

        def measure(problem):
            params = task.initial_params(problem)

            def loss(x):
                return task.loss(problem, x, jnp.zeros((), jnp.int32))

            return jnp.linalg.eigvalsh(jax.hessian(loss)(params)), loss(params)

        run = jax.vmap(measure) if task.num_params <= MANY_PARAMS else lambda batch: jax.lax.map(measure, batch)
        parts = [jax.tree.map(np.asarray, jax.jit(run)(batch)) for batch in every]
    eigenvalues = np.concatenate([part[0] for part in parts])
    return pd.DataFrame(
        {
            "problem": np.arange(problems),
            "condition_number": np.where(eigenvalues[:, 0] > 0, eigenvalues[:, -1] / eigenvalues[:, 0], np.nan),
            "largest_eigenvalue": eigenvalues[:, -1],
            "smallest_eigenvalue": eigenvalues[:, 0],
            "initial_loss": np.concatenate([part[1] for part in parts]),
        }
    )


def _widened(leaf: Any) -> Any:
    """Numbers in float64; others (keys of minibatches, indices) as they are."""
    with jax.enable_x64(True):
        return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
