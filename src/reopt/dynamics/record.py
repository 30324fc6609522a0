"""Recording an optimizer at work: hidden states, gradients, updates and losses of runs on fresh problems.

These are the states from which fixed points are sought and low-dimensional pictures made (arXiv 2011.02159, s. 4).
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from reopt.core.errors import ReoptError
from reopt.evaluation.keys import problem_key
from reopt.evaluation.unroll import advance, start
from reopt.optimizers.base import Optimizer
from reopt.tasks.base import Task

UPDATE_PROBLEMS = 64  # of whose problems updates are kept; gradients, whose tails are judged, are kept of all


class Recording(NamedTuple):
    """What happened; `problem_s` and `problem_u` are the first problems of `problem`. A run that diverged holds inf or
    NaN."""

    states: Float[np.ndarray, "step problem_s param hidden"]  # h_t before step t
    gradients: Float[np.ndarray, "step problem param"]
    updates: Float[np.ndarray, "step problem_u param"]
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

    **Arguments:** states are kept for the first `state_problems` problems, updates for the first `UPDATE_PROBLEMS` (and
    for those whose states are kept), gradients and losses for all; of problems with more than `max_params`
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
    moved = max(state_problems, UPDATE_PROBLEMS)

    def body(carry, step):
        states = carry[1][:state_problems, kept]
        carry, (losses, gradients, updates) = advance(optimizer, task, batch, carry, step)
        return carry, (states, gradients[:, kept], updates[:moved, kept], losses)

    return jax.lax.scan(body, start(optimizer, task, batch), jnp.arange(num_steps))[1]


def refuse_other_recording(runs: Recording, optimizer: Optimizer, where: object) -> None:
    """See that a recording read from `where` is one of `optimizer`: its own steps lead from each state to the next.

    Three steps are taken anew from recorded states and gradients; what follows must agree to 1% in 99 of 100 numbers
    (a recording is rounded otherwise, and a sign may turn). Where a run diverged, NaN agrees with NaN.

    **Raises** `ReoptError`, also where no gradient is a finite number other than 0.
    """
    if not (np.isfinite(runs.gradients) & (runs.gradients != 0)).any():
        raise ReoptError(
            f"{where}: the recording has no gradient that is finite and not 0: nothing can be read from it"
        )
    count, last = runs.states.shape[1], len(runs.states) - 2
    for step in sorted({0, last // 2, last} - {-1}):
        state, update = optimizer(jnp.asarray(runs.states[step]), jnp.asarray(runs.gradients[step, :count]))
        if step == 0 and not np.isfinite(runs.states[0]).all():
            raise ReoptError(f"{where}: the recorded runs begin in states that are not finite: it is damaged")
        for what, made, found, every in (
            ("states", state, runs.states[step + 1], runs.states),
            ("updates", update, runs.updates[step, :count], runs.updates),
        ):
            if _share_alike(np.asarray(made), found, every) < 0.99:
                raise ReoptError(
                    f"{where}: the recorded {what} do not follow from this optimizer at step {step}: it is damaged, or "
                    "of another optimizer"
                )


def _share_alike(one: np.ndarray, other: np.ndarray, every: np.ndarray) -> float:
    """The share of numbers that agree, to 1% or to a small share of the largest of `every` one recorded (late updates
    are small differences of large numbers, and mostly rounding); what has left the numbers agrees with what will.
    """
    if not one.size:
        return 1.0
    scale = np.max(np.abs(every), initial=0.0, where=np.isfinite(every))
    alike = np.isclose(one, other, rtol=1e-2, atol=1e-4 * scale, equal_nan=True)
    return float(np.mean(alike | ~np.isfinite(one)))


def finite_states(states: Float[np.ndarray, "... hidden"]) -> Float[np.ndarray, "row hidden"]:
    """Recorded states as rows, without those of runs that left the finite numbers."""
    states = np.asarray(states)
    rows = states.reshape(int(np.prod(states.shape[:-1])), states.shape[-1])
    return rows[np.isfinite(rows).all(axis=1)]
