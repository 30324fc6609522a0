"""Judging optimizers on held-out problems."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from scipy import stats

from reopt.optimizers.base import Optimizer
from reopt.tasks.base import Problem, Task
from reopt.training.problem_keys import problem_key
from reopt.training.unroll import Run, meta_objective, unroll

PROBLEMS_AT_ONCE = 256
PARAMS_AT_ONCE = 2**16  # of all problems that run side by side


def problems_at_once(task: Task) -> int:
    """How many problems run side by side: of many parameters fewer, for each has states of its own."""
    return max(1, min(PROBLEMS_AT_ONCE, PARAMS_AT_ONCE // task.num_params))


class Evaluation(NamedTuple):
    """One optimizer's runs on held-out problems."""

    table: pd.DataFrame  # optimizer, task, seed, problem, meta_objective, final_loss; accuracy where there is one
    curves: pd.DataFrame  # optimizer, step, mean, low, high, median of loss / initial loss over problems


def mean_interval(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean over the first axis and its normal-approximation confidence interval: (mean, low, high)."""
    mean = np.mean(values, axis=0)
    half = stats.norm.ppf(0.5 + confidence / 2) * np.std(values, axis=0, ddof=1) / np.sqrt(len(values))
    return mean, mean - half, mean + half


def problem_batches(task: Task, *, seed: int, count: int) -> Iterator[Any]:
    """Evaluation problems 0 .. count - 1 of a seed, in batches; a larger count begins with the same problems."""
    key = problem_key("evaluation", seed)
    size = problems_at_once(task)
    sample = jax.jit(jax.vmap(lambda number: task.sample(jax.random.fold_in(key, number))))
    for first in range(0, count, size):
        numbers = jnp.arange(first, min(first + size, count))
        yield sample(numbers)


def evaluate(
    optimizer: Optimizer, task: Task, *, name: str, task_name: str, problems: int, seed: int, num_steps: int
) -> Evaluation:
    """Run `optimizer` on `problems` held-out problems of `seed` for `num_steps` steps each."""

    def unrolled(optimizer: Optimizer, batch: Problem) -> Run:
        return unroll(optimizer, task, batch, num_steps)

    return judge(unrolled, optimizer, task, name=name, task_name=task_name, problems=problems, seed=seed)


def judge(
    unrolled: Callable[[Any, Problem], Run],
    optimizer: Any,
    task: Task,
    *,
    name: str,
    task_name: str,
    problems: int,
    seed: int,
) -> Evaluation:
    """What becomes of held-out problems; `unrolled` runs the optimizer on a batch of them.

    The optimizer is an argument of the compiled program: others of its kind find that program in the cache.
    """

    @eqx.filter_jit
    def run(optimizer: Any, batch: Problem) -> tuple[Run, Any]:
        run = unrolled(optimizer, batch)
        return run, jax.vmap(task.accuracy)(batch, run.final_params)

    losses, finals, accuracies = [], [], []
    for batch in problem_batches(task, seed=seed, count=problems):
        part, accuracy = jax.tree.map(np.asarray, run(optimizer, batch))
        losses.append(part.losses)
        finals.append(part.final_loss)
        accuracies.append(accuracy)
    every = np.concatenate(losses, axis=1).astype(np.float64)
    table = pd.DataFrame(
        {
            "optimizer": name,
            "task": task_name,
            "seed": seed,
            "problem": np.arange(problems),
            "meta_objective": np.asarray(meta_objective(jnp.asarray(every)), np.float64),
            "final_loss": np.concatenate(finals).astype(np.float64),
        }
    )
    if accuracies[0] is not None:
        table["accuracy"] = np.concatenate(accuracies).astype(np.float64)
    relative = (every / every[0]).T
    mean, low, high = mean_interval(relative)
    curves = {"optimizer": name, "step": np.arange(len(every)), "mean": mean, "low": low, "high": high}
    return Evaluation(table, pd.DataFrame(curves | {"median": np.median(relative, axis=0)}))
