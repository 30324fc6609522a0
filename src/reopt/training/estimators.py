"""Estimators of the meta-gradient behind one option: through the whole unroll, truncated, evolution strategies."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, PRNGKeyArray

from reopt.optimizers.learned import LearnedOptimizer
from reopt.tasks.base import Task
from reopt.training import evolution, truncated
from reopt.training.calm import Calm
from reopt.training.meta_gradient import Workspace, make_workspace, meta_gradient_in
from reopt.training.plan import choose_plan

Memory = Any  # of an estimator, from one outer step to the next: a pytree of arrays


class Estimator(NamedTuple):
    """`start(optimizer, key)` makes its first memory, and `workspace(optimizer)` room that means nothing between steps.

    `estimate(workspace, optimizer, memory, key)` returns the meta-objective of each problem, the gradient of their
    mean with respect to the optimizer, the next memory, and the workspace.
    """

    start: Callable[[LearnedOptimizer, PRNGKeyArray], Memory]
    workspace: Callable[[LearnedOptimizer], Workspace]
    estimate: Callable[
        [Workspace, LearnedOptimizer, Memory, PRNGKeyArray],
        tuple[Float[Array, " problem"], LearnedOptimizer, Memory, Workspace],
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
            lambda optimizer: (),
            lambda workspace, optimizer, memory, key: (
                *truncated.estimate(optimizer, task, memory, key, window=window, num_steps=num_steps),
                workspace,
            ),
        )
    if kind == "pes":
        width = training.estimator.deviation
        return Estimator(
            lambda optimizer, key: evolution.start(optimizer, task, key, window=window, deviation=width, **size),
            lambda optimizer: (),
            lambda workspace, optimizer, memory, key: (
                *evolution.estimate(optimizer, task, memory, key, window=window, deviation=width, num_steps=num_steps),
                workspace,
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

    def workspace(optimizer: LearnedOptimizer) -> Workspace:
        problems = jax.eval_shape(lambda: task.sample_batch(jax.random.key(0), training.problems))
        room = make_workspace(optimizer, task, problems, num_steps=num_steps, plan=plan, devices=devices)
        shared = NamedSharding(Mesh(np.asarray(devices), ("device",)), PartitionSpec("device"))
        return jax.lax.with_sharding_constraint(room, shared)

    def whole(workspace: Workspace, optimizer: LearnedOptimizer, memory: Memory, key: PRNGKeyArray) -> Any:
        problems = task.sample_batch(key, training.problems)
        objectives, gradient, workspace = meta_gradient_in(
            workspace, optimizer, task, problems, num_steps=num_steps, calm=calm, plan=plan, devices=devices
        )
        return objectives, gradient, memory, workspace

    return Estimator(lambda optimizer, key: (), workspace, whole)
