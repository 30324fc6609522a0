"""Judging optimizers on held-out problems."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from scipy import stats

from reopt.optimizers.base import Optimizer
from reopt.tasks.base import Task
from reopt.training.problem_keys import problem_key
from reopt.training.unroll import meta_objective, unroll

PROBLEMS_AT_ONCE = 256


class Evaluation(NamedTuple):
    """One optimizer's runs on held-out problems."""

    table: pd.DataFrame  # optimizer, task, seed, problem, meta_objective, final_loss
    curves: pd.DataFrame  # optimizer, step, mean, low, high, median of loss / initial loss over problems


def mean_interval(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean over the first axis and its normal-approximation confidence interval: (mean, low, high)."""
    mean = np.mean(values, axis=0)
    half = stats.norm.ppf(0.5 + confidence / 2) * np.std(values, axis=0, ddof=1) / np.sqrt(len(values))
    return mean, mean - half, mean + half


def problem_batches(task: Task, *, seed: int, count: int) -> Iterator[Any]:
    """Evaluation problems 0 .. count - 1 of a seed, in batches; a larger count begins with the same problems."""
    key = problem_key("evaluation", seed)
    for first in range(0, count, PROBLEMS_AT_ONCE):
        numbers = jnp.arange(first, min(first + PROBLEMS_AT_ONCE, count))
        yield jax.vmap(lambda number: task.sample(jax.random.fold_in(key, number)))(numbers)


def evaluate(
    optimizer: Optimizer, task: Task, *, name: str, task_name: str, problems: int, seed: int, num_steps: int
) -> Evaluation:
    """Run `optimizer` on `problems` held-out problems of `seed` for `num_steps` steps each."""
    run = jax.jit(lambda batch: unroll(optimizer, task, batch, num_steps))
    runs = [jax.tree.map(np.asarray, run(batch)) for batch in problem_batches(task, seed=seed, count=problems)]
    losses = np.concatenate([part.losses for part in runs], axis=1).astype(np.float64)
    final = np.concatenate([part.final_loss for part in runs]).astype(np.float64)
    table = pd.DataFrame(
        {
            "optimizer": name,
            "task": task_name,
            "seed": seed,
            "problem": np.arange(problems),
            "meta_objective": np.asarray(meta_objective(jnp.asarray(losses)), np.float64),
            "final_loss": final,
        }
    )
    relative = (losses / losses[0]).T
    mean, low, high = mean_interval(relative)
    curves = pd.DataFrame(
        {
            "optimizer": name,
            "step": np.arange(num_steps),
            "mean": mean,
            "low": low,
            "high": high,
            "median": np.median(relative, axis=0),
        }
    )
    return Evaluation(table, curves)
