"""Recording an optimizer at work: hidden states, gradients, updates and losses of runs on fresh problems.

These are the states from which fixed points are sought and low-dimensional pictures made (arXiv 2011.02159, s. 4).
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from reopt.errors import ReoptError
from reopt.optimizers.base import Optimizer
from reopt.tasks.base import Task
from reopt.training.problem_keys import problem_key
from reopt.training.unroll import advance, start


class Recording(NamedTuple):
    """What happened; `problem_s` are the first problems of `problem`. A run that diverged holds inf or NaN."""

    states: Float[np.ndarray, "step problem_s param hidden"]  # h_t before step t
    gradients: Float[np.ndarray, "step problem param"]
    updates: Float[np.ndarray, "step problem param"]
    losses: Float[np.ndarray, "step problem"]  # before the update
    params: Int[np.ndarray, " param"]  # which parameters of the problem are kept


def record(
    optimizer: Optimizer,
    task: Task,
    *,
    seed: int,
    num_steps: int,
    problems: int,
    state_problems: int,
    max_params: int | None = None,
) -> Recording:
    """Run `optimizer` for `num_steps` steps on `problems` problems of `seed` that serve no other purpose.

    **Arguments:** states are kept for the first `state_problems` problems; of problems with more than `max_params`
    parameters, `max_params` evenly spread ones are kept. The run is float32, as in training.

    **Raises** `ReoptError` if more `state_problems` are asked for than `problems`.
    """
    if not 1 <= state_problems <= problems:
        raise ReoptError(
            f"state_problems is {state_problems}, but must be at least 1 and at most problems ({problems})"
        )
    count = task.num_params if max_params is None else min(max_params, task.num_params)
    kept = np.unique(np.linspace(0, task.num_params - 1, count).round().astype(np.int64))

    key = problem_key("recording", seed)
    sizes = (num_steps, problems, state_problems)
    parts = _run(optimizer, task, key, jnp.asarray(kept), *sizes)
    states, gradients, updates, losses = (np.asarray(a) for a in parts)
    return Recording(states, gradients, updates, losses, kept)


@eqx.filter_jit
def _run(
    optimizer: Optimizer, task: Task, key: Array, kept: Array, num_steps: int, problems: int, state_problems: int
) -> tuple[Array, ...]:
    """States, gradients, updates and losses; compiled once for all hyperparameters that are arrays."""
    batch = task.sample_batch(key, problems)

    def body(carry, step):
        states = carry[1][:state_problems, kept]
        carry, (losses, gradients, updates) = advance(optimizer, task, batch, carry, step)
        return carry, (states, gradients[:, kept], updates[:, kept], losses)

    return jax.lax.scan(body, start(optimizer, task, batch), jnp.arange(num_steps))[1]


def finite_states(states: Float[np.ndarray, "... hidden"]) -> Float[np.ndarray, "row hidden"]:
    """Recorded states as rows, without those of runs that left the finite numbers."""
    states = np.asarray(states)
    rows = states.reshape(int(np.prod(states.shape[:-1])), states.shape[-1])
    return rows[np.isfinite(rows).all(axis=1)]
