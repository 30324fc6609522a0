"""Estimators of the meta-gradient behind one option: `training.estimator.kind` names a module of this package.

A module that is an estimator has a function `make(task, training, optimizer, num_steps, devices)`, which gives an
`Estimator`. It is imported by its name, so that a run depends on the source of its own estimator alone.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from reopt.optimizers.learned import LearnedOptimizer
from reopt.tasks.base import Task

Memory = Any  # of an estimator, from one outer step to the next: a pytree of arrays


class Estimator(NamedTuple):
    """`start(optimizer, key)` makes its first memory, and `workspace(optimizer)` room that means nothing between steps.

    `estimate(workspace, optimizer, memory, key)` returns the meta-objective of each problem, the gradient of their
    mean with respect to the optimizer, the next memory, and the workspace.
    """

    start: Callable[[LearnedOptimizer, PRNGKeyArray], Memory]
    workspace: Callable[[LearnedOptimizer], Any]
    estimate: Callable[
        [Any, LearnedOptimizer, Memory, PRNGKeyArray],
        tuple[Float[Array, " problem"], LearnedOptimizer, Memory, Any],
    ]


def make_estimator(
    task: Task, training: Any, optimizer: LearnedOptimizer, num_steps: int, devices: Sequence[jax.Device]
) -> Estimator:
    """The estimator that `training.estimator` names, for an optimizer like this one.

    **Raises** `ReoptError` where it does not fit into `training.memory_mb`.
    """
    module = importlib.import_module(f"reopt.training.{training.estimator.kind}")
    return module.make(task, training, optimizer, num_steps, devices)
