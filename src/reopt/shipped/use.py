"""Whether a task and a number of steps are what a shipped optimizer was trained for."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from reopt.evaluation.keys import problem_key
from reopt.evaluation.unroll import batch_value_and_grad
from reopt.optimizers.base import Optimizer
from reopt.shipped.cards import Card, out_of_range
from reopt.tasks.base import Task

PROBLEMS = 16  # whose gradients of the first step are looked at


def first_gradients(task: Task, *, seed: int) -> Float[np.ndarray, "problem param"]:
    """Gradients where the first evaluation problems of a seed begin."""
    numbers = jnp.arange(PROBLEMS)

    @eqx.filter_jit  # a task may hold what is no array
    def gradients(task: Task) -> Array:
        key = problem_key("evaluation", seed)
        problems = jax.vmap(lambda number: task.sample(jax.random.fold_in(key, number)))(numbers)
        params = jax.vmap(task.initial_params)(problems)
        return batch_value_and_grad(task, problems, params, jnp.zeros((), int))[1]

    return np.asarray(gradients(task))


def task_out_of_range(optimizer: Optimizer, task: Task, *, num_steps: int, seed: int = 0) -> list[str]:
    """What of runs on a task lies far outside the card of an optimizer, see `reopt.shipped.cards.out_of_range`.

    It costs a gradient of a few problems, and nothing where the optimizer has no card.
    """
    if not isinstance(getattr(optimizer, "card", None), Card):
        return []
    return out_of_range(optimizer, first_gradients(task, seed=seed), num_steps=num_steps)
