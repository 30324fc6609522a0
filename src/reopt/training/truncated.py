"""Truncated backpropagation through time (TBPTT): the meta-gradient within windows, nothing across their starts.

Problems run on from outer step to outer step (`reopt.training.windows`); the gradient is that of the mean over
problems of the window's share of the meta-objective,

    d/dtheta  mean_i  W/T  sum of f(x_t) over the window of i / f(x_0),

exact within the window, second-order terms and all, with the parameters and states at its start held fixed. The
initial state of the optimizer is trained by the problems that begin in this window. What weights do to losses after
the window is left out, which biases the estimate towards the short term (Wu, Ren, Liao & Grosse 2018, "Understanding
short-horizon bias in stochastic meta-optimization"); a step's loss is taken before its update, so the last update of
a window, too, has no gradient. With a window of `num_steps` or more it is the full meta-gradient.

A problem whose window is not finite, forwards or backwards, contributes zero and is replaced by a fresh one. (If
none is finite, the gradient is not.)
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from reopt.core.errors import ReoptError
from reopt.optimizers.base import Optimizer
from reopt.optimizers.learned import LearnedOptimizer
from reopt.tasks.base import Task
from reopt.training.estimators import Estimator
from reopt.training.windows import (
    Windows,
    all_over,
    finite_problems,
    keep_finite,
    renew,
    run_window,
    stagger,
    window_bounds,
    window_ends,
)

Opt = TypeVar("Opt", bound=Optimizer)


def _refuse(window: int) -> None:
    if window < 2:
        raise ReoptError(
            f"a truncated window of {window} inner step has no gradient, for a step's loss is taken before its "
            "update: let window be 2 or more"
        )


def start(
    optimizer: Optimizer, task: Task, key: PRNGKeyArray, *, problems: int, num_steps: int, window: int
) -> Windows:
    """Running problems at all phases, brought there by the present weights (`reopt.training.windows.stagger`).

    **Raises** `ReoptError` where the window is shorter than two steps, or there is no problem.
    """
    _refuse(window)
    bounds = window_bounds(num_steps, window)

    def move(memory: Windows, key: PRNGKeyArray) -> Windows:
        inputs, memory = _begin(optimizer, task, memory, key, num_steps)
        end = window_ends(memory.step, bounds)
        params, state, total = _run(optimizer, task, *inputs, end, bounds)
        bad = ~finite_problems(params, state, total)
        return keep_finite(memory, params, state, end, bad, num_steps)

    memory = all_over(optimizer, task, key, problems=problems, num_steps=num_steps)
    return stagger(memory, move, key, bounds)


def estimate(
    optimizer: Opt, task: Task, memory: Windows, key: PRNGKeyArray, *, num_steps: int, window: int
) -> tuple[Float[Array, " problem"], Opt, Windows]:
    """One window of each problem.

    Returns the window's share of each problem's meta-objective (as it comes, finite or not), the gradient of their
    mean with respect to the optimizer, and the problems at the ends of their windows.

    **Arguments:** `key` draws the problems that replace those that are over; a function of its arguments alone.

    **Raises** `ReoptError` where the window is shorter than two steps.
    """
    _refuse(window)
    bounds = window_bounds(num_steps, window)
    inputs, memory = _begin(optimizer, task, memory, key, num_steps)
    end = window_ends(memory.step, bounds)
    batch = end.shape[0]

    def attempt(inputs: Any, used: Array) -> Any:
        (problems, params, state, step), end, initial_loss = inputs

        def objective(optimizer, params, state):
            params, state, total = _run(optimizer, task, problems, params, state, step, end, bounds)
            shares = total / initial_loss
            return jnp.sum(used * shares) / batch, (shares, params, state)

        (_, reached), gradient = jax.value_and_grad(objective, argnums=(0, 1, 2), has_aux=True)(
            optimizer, params, state
        )
        return reached, gradient

    inputs = (inputs, end, memory.initial_loss)
    (shares, params, state), gradient = attempt(inputs, jnp.ones(batch, memory.initial_loss.dtype))
    good = finite_problems(shares, params, state, *gradient[1:])

    def without_bad() -> Any:
        # A factor of zero would not do, for zero times a derivative that is not finite is NaN: a good problem
        # takes the place of each bad one, and then the factor.
        rows = jnp.where(good, jnp.arange(batch), jnp.argmax(good))
        return attempt(jax.tree.map(lambda leaf: leaf[rows], inputs), good.astype(memory.initial_loss.dtype))[1]

    d_optimizer, _, d_state = jax.lax.cond(jnp.all(good), lambda: gradient, without_bad)
    # With its initial state the optimizer has a share in the state of the problems that begin.
    begins = (memory.step == 0)[:, None, None]
    _, pull_back = jax.vjp(lambda o: o.initial_states(params.shape).astype(state.dtype), optimizer)
    (d_start,) = pull_back(jnp.where(begins, d_state, 0))
    total = jax.tree.map(jnp.add, d_optimizer, d_start)
    return shares, total, keep_finite(memory, params, state, end, ~good, num_steps)


def _begin(optimizer: Optimizer, task: Task, memory: Windows, key: PRNGKeyArray, num_steps: int) -> tuple[Any, Windows]:
    """Problems, parameters, states and steps at the start of the window; and the memory with no problem over."""
    problems, memory = renew(task, memory, key, num_steps=num_steps)
    initial = optimizer.initial_states(memory.params.shape).astype(memory.state.dtype)
    state = jnp.where((memory.step == 0)[:, None, None], initial, memory.state)
    return (problems, memory.params, state, memory.step), memory


def _run(optimizer: Optimizer, task: Task, *inputs: Any) -> tuple[Array, Array, Array]:
    """`run_window` on a batch of problems; the last of `inputs` is that of all."""
    *each, bounds = inputs

    def run(problem: Any, params: Array, state: Array, step: Array, end: Array) -> tuple[Array, Array, Array]:
        return run_window(optimizer, task, problem, params, state, step, end, bounds)

    return jax.vmap(run)(*each)


def make(
    task: Task, training: Any, optimizer: LearnedOptimizer, num_steps: int, devices: Sequence[jax.Device]
) -> Estimator:
    """The estimator as `reopt.training.estimators` takes it; it runs on one device."""
    del optimizer, devices
    window, size = training.estimator.window, {"problems": training.problems, "num_steps": num_steps}
    return Estimator(
        lambda optimizer, key: start(optimizer, task, key, window=window, **size),
        lambda optimizer: (),
        lambda workspace, optimizer, memory, key: (
            *estimate(optimizer, task, memory, key, window=window, num_steps=num_steps),
            workspace,
        ),
    )
