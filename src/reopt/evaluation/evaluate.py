"""Judging optimizers on held-out problems."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Int, PRNGKeyArray
from scipy.special import ndtri

from reopt.evaluation.keys import problem_key
from reopt.evaluation.unroll import Run, meta_objective, unroll
from reopt.optimizers import classical
from reopt.optimizers.base import Optimizer
from reopt.tasks.base import Problem, Task

PROGRAMS = 16
"""Compiled programs that are kept: each takes some megabytes."""
_AN_ARRAY = object()
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
    with np.errstate(all="ignore"):  # of runs that left the numbers
        mean = np.mean(values, axis=0)
        half = ndtri(0.5 + confidence / 2) * np.std(values, axis=0, ddof=1) / np.sqrt(len(values))
        return mean, mean - half, mean + half


def problem_batches(task: Task, *, seed: int, count: int) -> Iterator[Any]:
    """Evaluation problems 0 .. count - 1 of a seed, in batches; a larger count begins with the same problems."""
    key = problem_key("evaluation", seed)
    size = problems_at_once(task)
    for first in range(0, count, size):
        yield _sample(task, key, jnp.arange(first, min(first + size, count)))


@eqx.filter_jit
def _sample(task: Task, key: PRNGKeyArray, numbers: Int[Array, " problem"]) -> Problem:
    """The problems of these numbers; one program for all seeds, for drawing takes longer to compile than to do."""
    return jax.vmap(lambda number: task.sample(jax.random.fold_in(key, number)))(numbers)


def evaluate(
    optimizer: Optimizer, task: Task, *, name: str, task_name: str, problems: int, seed: int, num_steps: int
) -> Evaluation:
    """Run `optimizer` on `problems` held-out problems of `seed` for `num_steps` steps each."""
    asked = {"name": name, "task_name": task_name, "problems": problems, "seed": seed, "num_steps": num_steps}
    return judge(unroll, optimizer, task, **asked)  # type: ignore[arg-type]


Unroll = Callable[[Any, Task, Problem, int], Run]


@lru_cache(maxsize=PROGRAMS)
def _program(unrolled: Unroll, structure: Any, rest: tuple, num_steps: int) -> Callable[[list[Array], Problem], Any]:
    """The compiled run of an optimizer on a task, given as arrays; their structure and other leaves are part of it.

    A program that is not kept any more is freed.
    """

    @jax.jit
    def run(arrays: list[Array], batch: Problem) -> tuple[Run, Any]:
        given = iter(arrays)
        leaves = [next(given) if leaf is _AN_ARRAY else leaf for leaf in rest]
        optimizer, task = jax.tree.unflatten(structure, leaves)
        run = unrolled(optimizer, task, batch, num_steps)
        return run, jax.vmap(task.accuracy)(batch, run.final_params)

    return run


def compiled(unrolled: Unroll, optimizer: Any, task: Task, num_steps: int) -> Callable[[Problem], tuple[Run, Any]]:
    """A function that gives (run, accuracies) of a batch of problems.

    One compiled program serves all optimizers and tasks that differ in the numbers of their arrays alone, and all
    hyperparameters of a classical optimizer; the last `PROGRAMS` are kept.
    """
    if type(optimizer).__module__ == classical.__name__:
        optimizer = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32) if isinstance(x, float) else x, optimizer)
    leaves, structure = jax.tree.flatten((optimizer, task))
    arrays = [leaf for leaf in leaves if eqx.is_array(leaf)]
    rest = tuple(_AN_ARRAY if eqx.is_array(leaf) else leaf for leaf in leaves)
    try:
        program = _program(unrolled, structure, rest, num_steps)
    except TypeError:  # a leaf or a static field that has no hash
        program = _program.__wrapped__(unrolled, structure, rest, num_steps)
    return lambda batch: program(arrays, batch)


def judge(
    unrolled: Unroll,
    optimizer: Any,
    task: Task,
    *,
    name: str,
    task_name: str,
    problems: int,
    seed: int,
    num_steps: int,
) -> Evaluation:
    """What becomes of held-out problems; `unrolled` runs the optimizer on a batch of them."""
    run = compiled(unrolled, optimizer, task, num_steps)
    losses, finals, accuracies = [], [], []
    for batch in problem_batches(task, seed=seed, count=problems):
        part, accuracy = jax.tree.map(np.asarray, run(batch))
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
    with np.errstate(all="ignore"):
        relative = (every / every[0]).T
    mean, low, high = mean_interval(relative)
    curves = {"optimizer": name, "step": np.arange(len(every)), "mean": mean, "low": low, "high": high}
    return Evaluation(table, pd.DataFrame(curves | {"median": np.median(relative, axis=0)}))
