"""The meta-gradient through the whole unroll: exact, or with clipped cotangents."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PRNGKeyArray

from reopt.optimizers.learned import LearnedOptimizer
from reopt.tasks.base import Task
from reopt.training.chunking import choose_plan
from reopt.training.cotangent_clipping import CotangentClipping
from reopt.training.estimators import Estimator, Memory
from reopt.training.meta_gradient import Workspace, make_workspace, meta_gradient_in


def make(
    task: Task, training: Any, optimizer: LearnedOptimizer, num_steps: int, devices: Sequence[jax.Device]
) -> Estimator:
    """The estimator, for an optimizer like this one. **Raises** `ReoptError` where `memory_mb` is too small."""
    asked = training.cotangent_clipping
    clipping = CotangentClipping(asked.factor, asked.group) if asked else None
    plan = choose_plan(
        optimizer,
        num_params=task.num_params,
        problems=training.problems,
        num_steps=num_steps,
        memory_mb=training.memory_mb,
        devices=len(devices),
        group=clipping.group or 1 if clipping else 1,
    )

    def workspace(optimizer: LearnedOptimizer) -> Workspace:
        problems = jax.eval_shape(lambda: task.sample_batch(jax.random.key(0), training.problems))
        room = make_workspace(optimizer, task, problems, num_steps=num_steps, plan=plan, devices=devices)
        shared = NamedSharding(Mesh(np.asarray(devices), ("device",)), PartitionSpec("device"))
        return jax.lax.with_sharding_constraint(room, shared)

    def whole(workspace: Workspace, optimizer: LearnedOptimizer, memory: Memory, key: PRNGKeyArray) -> Any:
        problems = task.sample_batch(key, training.problems)
        objectives, gradient, workspace = meta_gradient_in(
            workspace,
            optimizer,
            task,
            problems,
            num_steps=num_steps,
            cotangent_clipping=clipping,
            plan=plan,
            devices=devices,
        )
        return objectives, gradient, memory, workspace

    return Estimator(lambda optimizer, key: (), workspace, whole)
