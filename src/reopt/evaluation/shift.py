"""Beyond the training distribution: longer runs, rescaled losses, other condition numbers, other tasks.

Each axis changes one thing and leaves the problems as they are (but for their eigenvalues, or the task itself):

    horizon     the run goes on to `value` times the steps of meta-training; all values are one run
    scale       the loss is multiplied by `value`
    condition   eigenvalues of the Hessian spread over `value` decades below the largest; of tasks with
                `log10_eigenvalues` in their settings
    task        the optimizer runs on the task called `value`, over that task's steps (`transfer`)

The values at home (1, 1, the decades of the task) are among them.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Bool, Float

from reopt.core.limits import CEILING
from reopt.evaluation.evaluate import mean_interval, problem_batches
from reopt.evaluation.rescaled import Rescaled
from reopt.evaluation.unroll import unroll
from reopt.optimizers.base import Optimizer
from reopt.tasks.base import Problem, Task
from reopt.tasks.registry import task_module

HORIZONS = (1, 2, 5, 10)
SCALES = tuple(10.0**k for k in range(-3, 4))
DECADES = (1.0, 2.0, 3.0, 4.0, 5.0)
EIGENVALUES = "log10_eigenvalues"
WORSE = 1.1
"""Worse is what is over this many times the value at home."""
TAIL = 10
"""The final loss is the mean over so many steps (a tenth of a shorter run's): one minibatch says little."""
PARAMS_IN_ALL, LEAST, MOST = 2**15, 16, 256  # problems times parameters; least and most problems
CURVE_POINTS = 200

COLUMNS = ("subject", "axis", "value", "meta_objective", "low", "high", "diverged", "final", "problems", "worse")


class Setup(NamedTuple):
    """A task's block in the config: its settings, and the steps of a run."""

    problem: Mapping[str, Any]
    num_steps: int


class Change(NamedTuple):
    """A value on an axis, and the task that it makes; `home` where that is the task as it was trained on."""

    axis: str
    value: float
    task: Task
    num_steps: int
    home: bool


class Beyond(NamedTuple):
    """How an optimizer fares away from home."""

    table: pd.DataFrame  # COLUMNS
    curve: pd.DataFrame  # subject, step, mean, low, high, median: loss over initial loss, to the longest horizon


def build(name: str, problem: Mapping[str, Any]) -> Task:
    """The task called `name` with these settings."""
    module = task_module(name)
    return module.create(module.Settings.model_validate(dict(problem)))


def scales(task: Task, num_steps: int) -> Iterator[Change]:
    """The task with its loss times each of `SCALES`."""
    for factor in SCALES:
        yield Change("scale", factor, Rescaled(task, jnp.asarray(factor, jnp.float32)), num_steps, factor == 1)


def conditions(name: str, setup: Setup) -> Iterator[Change]:
    """The task with eigenvalues over each of `DECADES`, and over its own; none where it has no such setting."""
    if EIGENVALUES not in setup.problem:
        return
    low, high = setup.problem[EIGENVALUES]
    for decades in sorted({*DECADES, float(high - low)}):
        changed = build(name, {**setup.problem, EIGENVALUES: [high - decades, high]})
        yield Change("condition", decades, changed, setup.num_steps, decades == high - low)


def problems_for(task: Task, most: int) -> int:
    """How many problems of a task are run: of many parameters fewer, `most` at most."""
    return min(most, max(LEAST, min(MOST, PARAMS_IN_ALL // task.num_params)))


@eqx.filter_jit
def _losses(optimizer: Optimizer, task: Task, batch: Problem, num_steps: int) -> Float[Array, "step problem"]:
    return unroll(optimizer, task, batch, num_steps).losses


def run(
    optimizer: Optimizer, task: Task, *, problems: int, seed: int, num_steps: int
) -> Float[np.ndarray, "step problem"]:
    """Losses before each update on the evaluation problems of `seed`, float64; states are not kept."""
    batches = problem_batches(task, seed=seed, count=problems)
    parts = [np.asarray(_losses(optimizer, task, batch, num_steps), np.float64) for batch in batches]
    return np.concatenate(parts, axis=1)


class Score(NamedTuple):
    """What became of each problem of a run."""

    meta_objective: Float[np.ndarray, " problem"]  # at most CEILING
    final: Float[np.ndarray, " problem"]  # mean loss of the last steps over the initial one, at most CEILING
    diverged: Bool[np.ndarray, " problem"]


def score(losses: Float[np.ndarray, "step problem"]) -> Score:
    """The meta-objective and the final loss of each problem."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        whole = np.mean(losses, axis=0) / losses[0]
        last = np.mean(losses[-max(1, min(TAIL, len(losses) // 10)) :], axis=0) / losses[0]
    return Score(_capped(whole), _capped(last), ~(whole < CEILING))  # NaN is below nothing


def _capped(values: np.ndarray) -> np.ndarray:
    return np.minimum(np.where(np.isnan(values), CEILING, values), CEILING)


def is_worse(values: Float[np.ndarray, " problem"], home: Float[np.ndarray, " problem"]) -> bool:
    """Whether the mean is over `WORSE` times that at home, and more than chance over problems (95%) makes it so.

    The problems are the same, or drawn with the same keys: their differences are compared.
    """
    _, surely, _ = mean_interval(values - home)
    return bool(np.mean(values) > WORSE * np.mean(home) and surely > 0)


def _row(subject: str, axis: str, value: float | str, found: Score, worse: bool) -> dict[str, Any]:
    mean, low, high = mean_interval(found.meta_objective)
    numbers = (mean, low, high, found.diverged.mean(), found.final.mean(), len(found.final), worse)
    return dict(zip(COLUMNS, (subject, axis, value, *numbers), strict=True))


def transfer(optimizer: Optimizer, setup: Setup, *, subject: str, onto: str, problems: int, seed: int) -> pd.DataFrame:
    """A row of the table of `beyond` for a run on another task, called `onto`.

    Other tasks are not as hard as that at home: worse is here worse than standing still, a meta-objective over 1.
    """
    task = build(onto, setup.problem)
    count = problems_for(task, problems)
    found = score(run(optimizer, task, problems=count, seed=seed, num_steps=setup.num_steps))
    return pd.DataFrame([_row(subject, "task", onto, found, bool(found.meta_objective.mean() > 1))])


def beyond(optimizer: Optimizer, setup: Setup, *, subject: str, home: str, problems: int, seed: int) -> Beyond:
    """Run `optimizer`, trained or tuned on the task `home`, along every axis, on evaluation problems of `seed`.

    **Arguments:** `setup` is the task's; `problems` is the most that are run.

    The table has a row a value: the mean `meta_objective` over `problems` problems with its 95% interval (`low`,
    `high`), the share that `diverged`, and the mean `final` loss over the initial one, all with a diverged problem at
    `CEILING`. `worse`: whether the meta-objective is over `WORSE` times that at home (see `is_worse`). A longer run
    averages the loss over more steps, which hides what comes late: on the axis `horizon` it is the final loss that must
    be over `WORSE` times that at the end of the training horizon.
    """
    task = build(home, setup.problem)
    count = problems_for(task, problems)
    long = run(optimizer, task, problems=count, seed=seed, num_steps=max(HORIZONS) * setup.num_steps)
    at_home = score(long[: setup.num_steps])
    rows: list[dict[str, Any]] = []

    def add(axis: str, value: float, found: Score, worse: bool) -> None:
        rows.append(_row(subject, axis, value, found, worse))

    for times in HORIZONS:
        found = score(long[: times * setup.num_steps])
        add("horizon", float(times), found, is_worse(found.final, at_home.final))
    for change in (*scales(task, setup.num_steps), *conditions(home, setup)):
        found = at_home if change.home else _scored(optimizer, change, count, seed)
        add(change.axis, change.value, found, is_worse(found.meta_objective, at_home.meta_objective))
    return Beyond(pd.DataFrame(rows, columns=list(COLUMNS)), _curve(subject, long))


def _scored(optimizer: Optimizer, change: Change, problems: int, seed: int) -> Score:
    return score(run(optimizer, change.task, problems=problems, seed=seed, num_steps=change.num_steps))


def _curve(subject: str, losses: Float[np.ndarray, "step problem"]) -> pd.DataFrame:
    """Loss over initial loss at steps that are even in the logarithm; what is over `CEILING` counts as that."""
    steps = np.unique(np.geomspace(1, len(losses), CURVE_POINTS).round().astype(int)) - 1
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        relative = _capped(losses[steps] / losses[0]).T
    mean, low, high = mean_interval(relative)
    columns = {"subject": subject, "step": steps, "mean": mean, "low": low, "high": high}
    return pd.DataFrame(columns | {"median": np.median(relative, axis=0)})
