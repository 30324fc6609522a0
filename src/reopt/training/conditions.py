"""How hard the problems of a task are: Hessian eigenvalues, condition numbers and initial losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from reopt.tasks.base import Task
from reopt.training.evaluate import problem_batches


def conditions(task: Task, *, problems: int, seed: int) -> pd.DataFrame:
    """A row an evaluation problem: `problem, condition_number, largest_eigenvalue, smallest_eigenvalue,
    initial_loss`; the Hessian is taken at the starting point, in float64."""
    with jax.enable_x64(True):

        @jax.jit
        def measure(problem):
            params = task.initial_params(problem)

            def loss(x):
                return task.loss(problem, x, jnp.zeros((), jnp.int32))

            return jnp.linalg.eigvalsh(jax.hessian(loss)(params)), loss(params)

        parts = [
            jax.tree.map(np.asarray, jax.vmap(measure)(batch))
            for batch in problem_batches(task, seed=seed, count=problems)
        ]
    eigenvalues = np.concatenate([part[0] for part in parts])
    return pd.DataFrame(
        {
            "problem": np.arange(problems),
            "condition_number": eigenvalues[:, -1] / eigenvalues[:, 0],
            "largest_eigenvalue": eigenvalues[:, -1],
            "smallest_eigenvalue": eigenvalues[:, 0],
            "initial_loss": np.concatenate([part[1] for part in parts]),
        }
    )
