"""Estimators of the meta-gradient behind one option: through the whole unroll, truncated, evolution strategies."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from reopt.optimizers.learned import LearnedOptimizer
from reopt.tasks.base import Task
from reopt.training import evolution, truncated
from reopt.training.calm import Calm
from reopt.training.meta_gradient import meta_value_and_grad
from reopt.training.plan import choose_plan

Memory = Any  # of an estimator, from one outer step to the next: a pytree of arrays


class Estimator(NamedTuple):
    """`start(optimizer, key)` makes its first memory; `estimate(optimizer, memory, key)` returns the meta-objective of
    each problem, the gradient of their mean with respect to the optimizer, and the next memory."""

    start: Callable[[LearnedOptimizer, PRNGKeyArray], Memory]
    estimate: Callable[
        [LearnedOptimizer, Memory, PRNGKeyArray], tuple[Float[Array, " problem"], LearnedOptimizer, Memory]
    ]


def make_estimator(
    task: Task, training: Any, optimizer: LearnedOptimizer, num_steps: int, devices: Sequence[jax.Device]
) -> Estimator:
    """The estimator that `training.estimator` names, for an optimizer like this one.

    **Raises** `ReoptError` where it does not fit into `training.memory_mb`.
    """
    size = {"problems": training.problems, "num_steps": num_steps}
    kind, window = training.estimator.kind, getattr(training.estimator, "window", num_steps)
    if kind == "truncated":
        return Estimator(
            lambda optimizer, key: truncated.start(optimizer, task, key, window=window, **size),
            lambda optimizer, memory, key: truncated.estimate(
                optimizer, task, memory, key, window=window, num_steps=num_steps
            ),
        )
    if kind == "pes":
        width = training.estimator.deviation
        return Estimator(
            lambda optimizer, key: evolution.start(optimizer, task, key, window=window, deviation=width, **size),
            lambda optimizer, memory, key: evolution.estimate(
                optimizer, task, memory, key, window=window, deviation=width, num_steps=num_steps
            ),
        )
    calm = Calm(training.calm.factor, training.calm.group) if training.calm else None
    plan = choose_plan(
        optimizer,
        num_params=task.num_params,
        problems=training.problems,
        num_steps=num_steps,
        memory_mb=training.memory_mb,
        devices=len(devices),
        group=calm.group or 1 if calm else 1,
    )

    def whole(optimizer: LearnedOptimizer, memory: Memory, key: PRNGKeyArray) -> Any:
        problems = task.sample_batch(key, training.problems)
        objectives, gradient = meta_value_and_grad(
            optimizer, task, problems, num_steps=num_steps, calm=calm, plan=plan, devices=devices
        )
        return objectives, gradient, memory

    return Estimator(lambda optimizer, key: (), whole)
