"""Persistent evolution strategies (PES): a meta-gradient from short windows that truncation does not bias.

Vicol, Metz & Sohl-Dickstein (2021), "Unbiased gradient estimation in unrolled computation graphs with persistent
evolution strategies", algorithm 2 with antithetic pairs. Each problem runs twice, as a pair of particles that keep
parameters and states of their own from window to window (`reopt.training.windows`). In each window all weights of the
optimizer are moved by +eps and -eps, a fresh eps ~ N(0, deviation^2 I) a pair; xi sums the eps of a pair since its
problem began, this window's included. With m+ and m- the window's share of the meta-objective,

    gradient = mean over pairs of   xi (m+ - m-) / (2 deviation^2).

Summed over the windows of a problem its expectation is the gradient of the expected meta-objective, the weights of
each window moved by a noise of its own: of the loss smoothed by `deviation`, however chaotic the inner problem is, and
no derivative of the unroll is taken. (ES within windows would have eps in place of xi, and the bias of truncation.) The
variance of xi grows with the number of windows. Unbiased are weights that stand still; those that are trained
meanwhile were a little different when the earlier windows were run.

A problem of which a particle is not finite contributes zero and is replaced by a fresh one; so do both begin anew,
with xi = 0.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PRNGKeyArray

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


class Pairs(Windows):
    """The running pairs: `params` and `state` lead with an axis of two, the particles of +eps and of -eps."""

    accumulated: Float[Array, "problem weight"]  # xi, the flat sum of what + was moved by since the problem began


def start(
    optimizer: Optimizer,
    task: Task,
    key: PRNGKeyArray,
    *,
    problems: int,
    num_steps: int,
    window: int,
    deviation: float,
) -> Pairs:
    """Running pairs at all phases, brought there by the present weights, perturbations accumulated on the way.

    **Raises** `ReoptError` where there is no window or no problem, or the deviation is not positive.
    """
    bounds = window_bounds(num_steps, window)
    _refuse(deviation)

    def move(memory: Pairs, key: PRNGKeyArray) -> Pairs:
        return _advance(optimizer, task, memory, key, num_steps, window, deviation)[2]

    over = all_over(optimizer, task, key, problems=problems, num_steps=num_steps, particles=(2,))
    flat, _ = ravel_pytree(optimizer)
    fields = {field.name: getattr(over, field.name) for field in dataclasses.fields(over)}
    return stagger(Pairs(**fields, accumulated=jnp.zeros((problems, flat.size), flat.dtype)), move, key, bounds)


def estimate(
    optimizer: Opt,
    task: Task,
    memory: Pairs,
    key: PRNGKeyArray,
    *,
    num_steps: int,
    window: int,
    deviation: float,
) -> tuple[Float[Array, " problem"], Opt, Pairs]:
    """One window of each pair.

    Returns the window's share of each problem's meta-objective, a mean over its pair (as it comes, finite or not), the
    gradient of their mean with respect to the optimizer, and the pairs at the ends of their windows.

    **Arguments:** `key` draws perturbations and the problems that replace those that are over; a function of its
    arguments alone. `deviation` is that of the perturbation of each weight.

    **Raises** `ReoptError` where there is no window or the deviation is not positive.
    """
    _refuse(deviation)
    shares, good, memory = _advance(optimizer, task, memory, key, num_steps, window, deviation)
    flat, unravel = ravel_pytree(optimizer)
    # Scaled before they are summed, for the square of a small deviation is at the end of what float32 holds; a sum
    # of products and no matmul, whose inputs accelerators would round.
    slope = jnp.where(good, (shares[0] - shares[1]) / (2 * deviation), 0)
    gradient = jnp.mean(slope[:, None] * (memory.accumulated / deviation), axis=0)
    return jnp.mean(shares, axis=0), unravel(gradient.astype(flat.dtype)), memory


def _advance(
    optimizer: Optimizer,
    task: Task,
    memory: Pairs,
    key: PRNGKeyArray,
    num_steps: int,
    window: int,
    deviation: float,
) -> tuple[Float[Array, "two problem"], Bool[Array, " problem"], Pairs]:
    """Shares of both particles, which problems are finite, and the pairs at the ends of their windows."""
    bounds = window_bounds(num_steps, window)
    key_draws, key_noise = jax.random.split(key)
    problems, memory = renew(task, memory, key_draws, num_steps=num_steps)
    begins, end = memory.step == 0, window_ends(memory.step, bounds)
    flat, unravel = ravel_pytree(optimizer)
    noise = deviation * jax.random.normal(key_noise, memory.accumulated.shape, flat.dtype)
    accumulated = jnp.where(begins[:, None], 0, memory.accumulated) + noise

    def particle(sign, noise, problem, params, state, step, end):
        moved = unravel(flat + sign * noise)
        initial = moved.initial_states(params.shape).astype(state.dtype)
        state = jnp.where(step == 0, initial, state)
        return run_window(moved, task, problem, params, state, step, end, bounds)

    pair = jax.vmap(jax.vmap(particle, (None, 0, 0, 0, 0, 0, 0)), (0, None, None, 0, 0, None, None))
    signs = jnp.asarray([1, -1], flat.dtype)
    params, state, total = pair(signs, noise, problems, memory.params, memory.state, memory.step, end)
    shares = total / memory.initial_loss
    good = jnp.all(jax.vmap(finite_problems)(shares, params, state), axis=0)
    memory = dataclasses.replace(memory, accumulated=accumulated)
    return shares, good, keep_finite(memory, params, state, end, ~good, num_steps)


def _refuse(deviation: float) -> None:
    if not (deviation > 0 and math.isfinite(deviation)):
        raise ReoptError(f"perturbations of a deviation of {deviation}: let deviation be positive, such as 0.01")


def make(
    task: Task, training: Any, optimizer: LearnedOptimizer, num_steps: int, devices: Sequence[jax.Device]
) -> Estimator:
    """The estimator as `reopt.training.estimators` takes it; it runs on one device."""
    del optimizer, devices
    window, size = training.estimator.window, {"problems": training.problems, "num_steps": num_steps}
    width = training.estimator.deviation
    return Estimator(
        lambda optimizer, key: start(optimizer, task, key, window=window, deviation=width, **size),
        lambda optimizer: (),
        lambda workspace, optimizer, memory, key: (
            *estimate(optimizer, task, memory, key, window=window, deviation=width, num_steps=num_steps),
            workspace,
        ),
    )
