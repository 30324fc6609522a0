"""Meta-training in windows: inner problems that run on from outer step to outer step, a window of steps at a time.

A run of T inner steps is cut into W = ceil(T / window) windows that are as equal as can be, from step floor(kT / W)
to floor((k + 1)T / W): none is longer than `window`, and the steps that a shorter one lacks are masked. A window's
share of the meta-objective M = 1/T sum_t f(x_t) / f(x_0) is

    m_k = W/T  sum of f(x_t) over the window / f(x_0),    so that    M = mean over k of m_k,

which for windows of one length is the mean loss of the window over the initial loss. A problem whose last window is
done, or that is not finite, is replaced by a fresh one at the beginning of the next outer step.

A running problem is kept as the key it is drawn with, for it is a pure function of it: fresh problems are to be drawn
for the whole batch in any case, and arrays of keys fit into a checkpoint.
"""

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt32

from reopt.core.errors import ReoptError
from reopt.evaluation.unroll import advance
from reopt.optimizers.base import Optimizer
from reopt.tasks.base import Problem, Task


class Windows(eqx.Module):
    """The running inner problems, all arrays. A leading axis before `problem` is that of an estimator's particles.

    A problem at step `num_steps` is over; what is kept of it, apart from its step, is of no use any more.
    """

    draws: UInt32[Array, "problem word"]  # data of the key that each problem is drawn with
    params: Float[Array, "*particle problem param"]
    state: Float[Array, "*particle problem param hidden"]
    step: Int[Array, " problem"]  # own inner step of each: the first one of its next window
    initial_loss: Float[Array, " problem"]


Memory = TypeVar("Memory", bound=Windows)


def window_bounds(num_steps: int, window: int) -> Int[np.ndarray, " window_and_one"]:
    """Where the windows of a run begin, and its end.

    **Raises** `ReoptError` where there is no step or no window.
    """
    if num_steps < 1 or window < 1:
        raise ReoptError(
            f"{num_steps} inner steps cannot be cut into windows of {window}: let num_steps and window be 1 or more"
        )
    count = -(-num_steps // window)
    return np.arange(count + 1) * num_steps // count


def all_over(
    optimizer: Optimizer,
    task: Task,
    key: PRNGKeyArray,
    *,
    problems: int,
    num_steps: int,
    particles: tuple[int, ...] = (),
) -> Windows:
    """As many problems as there will be, each of them over.

    **Raises** `ReoptError` where there are none.
    """
    if problems < 1:
        raise ReoptError(f"meta-training on {problems} problems: let training.problems be 1 or more")
    params = jax.eval_shape(lambda: task.initial_params(task.sample(key)))
    draws = jax.random.key_data(jax.random.split(key, problems))
    shape = (*particles, problems, *params.shape)
    return Windows(
        draws=jnp.zeros_like(draws),
        params=jnp.zeros(shape, params.dtype),
        state=jnp.zeros((*shape, optimizer.state_size), params.dtype),
        step=jnp.full(problems, num_steps, jnp.int32),
        initial_loss=jnp.ones(problems, params.dtype),
    )


def renew(task: Task, memory: Memory, key: PRNGKeyArray, *, num_steps: int) -> tuple[Problem, Memory]:
    """The problems, each that was over replaced by a fresh one at its step 0.

    The state of a problem at step 0 is left to the caller, for it is the optimizer's initial one.
    """
    over = memory.step >= num_steps
    fresh = jax.random.key_data(jax.random.split(key, over.shape[0]))
    draws = jnp.where(over[:, None], fresh, memory.draws)
    problems = jax.vmap(task.sample)(jax.random.wrap_key_data(draws, impl=jax.random.key_impl(key)))
    step = jnp.where(over, 0, memory.step)
    begins = step == 0
    origin = jax.vmap(task.initial_params)(problems)
    loss = jax.vmap(task.loss, (0, 0, None))(problems, origin, jnp.zeros((), jnp.int32))
    return problems, dataclasses.replace(
        memory,
        draws=draws,
        params=jnp.where(begins[:, None], origin, memory.params),
        step=step,
        initial_loss=jnp.where(begins, loss, memory.initial_loss).astype(memory.initial_loss.dtype),
    )


def window_ends(step: Int[Array, " problem"], bounds: np.ndarray) -> Int[Array, " problem"]:
    """Step at which the window that holds `step` ends."""
    ends = jnp.asarray(bounds, step.dtype)
    return ends[jnp.searchsorted(ends, step, side="right")]


def run_window(
    optimizer: Optimizer,
    task: Task,
    problem: Problem,
    params: Float[Array, " param"],
    state: Float[Array, "param hidden"],
    step: Int[Array, ""],
    end: Int[Array, ""],
    bounds: np.ndarray,
) -> tuple[Float[Array, " param"], Float[Array, "param hidden"], Float[Array, ""]]:
    """One problem from `step` to `end`: its parameters and state there, and W/T times the sum of the losses."""
    one = jax.tree.map(lambda leaf: leaf[None], problem)
    lengths = np.diff(bounds)
    masked = bool(np.any(lengths != lengths[0]))

    def body(carry, offset):
        # A masked step repeats the window's last one, whose index every task knows.
        at = jnp.minimum(step + offset, end - 1) if masked else step + offset
        moved, (losses, _, _) = advance(optimizer, task, one, carry, at)
        if not masked:
            return moved, losses[0]
        inside = step + offset < end
        moved = jax.tree.map(lambda new, old: jnp.where(inside, new, old), moved, carry)
        return moved, jnp.where(inside, losses[0], 0)

    offsets = jnp.arange(lengths.max(), dtype=step.dtype)
    (params, state), losses = jax.lax.scan(body, (params[None], state[None]), offsets)
    return params[0], state[0], jnp.sum(losses) * (len(lengths) / int(bounds[-1]))


def keep_finite(
    memory: Memory,
    params: Array,
    state: Array,
    end: Int[Array, " problem"],
    bad: Bool[Array, " problem"],
    num_steps: int,
) -> Memory:
    """The memory after a window; a problem that is `bad` is over, and leaves no value that is not finite."""
    return dataclasses.replace(
        memory,
        params=jnp.where(bad[:, None], 0, params),
        state=jnp.where(bad[:, None, None], 0, state),
        step=jnp.where(bad, num_steps, end),
    )


def finite_problems(*arrays: Float[Array, "problem ..."]) -> Bool[Array, " problem"]:
    """Of which problems every element is finite."""
    checks = [jnp.all(jnp.isfinite(a), axis=tuple(range(1, a.ndim))) for a in arrays]
    return jnp.all(jnp.stack(checks), axis=0)


def stagger(
    memory: Memory, move: Callable[[Memory, PRNGKeyArray], Memory], key: PRNGKeyArray, bounds: np.ndarray
) -> Memory:
    """Problems at all phases: problem i of B stands before its window floor(i W / B).

    They are brought there by `move`, a window at a time with the present weights, as if meta-training had been going
    on for long: a problem is begun anew as many moves before the last as windows are to lie behind it. So each outer
    step sees the windows of all phases, in equal number where W divides B.
    """
    count, num_steps = len(bounds) - 1, int(bounds[-1])
    problems = memory.step.shape[0]
    begins = count - jnp.asarray(np.arange(problems) * count // problems)

    def body(at, memory):
        memory = dataclasses.replace(memory, step=jnp.where(at == begins, num_steps, memory.step))
        return move(memory, jax.random.fold_in(key, at))

    # With one window each problem is at its beginning: nothing to do.
    return jax.lax.fori_loop(0, count, body, memory) if count > 1 else memory
