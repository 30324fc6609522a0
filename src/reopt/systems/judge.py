"""What became of problems under a system or a rival, and the settings that tuning problems choose.

Every rival's settings are drawn, scored on tuning problems, and the best of them judged on held-out problems: one
setting for all. The best draw of each held-out problem by itself, an oracle and no rival, says how much is to be had.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float

from reopt.core.limits import CEILING
from reopt.evaluation.keys import Purpose, problem_key
from reopt.evaluation.unroll import batch_value_and_grad
from reopt.optimizers.joint import VALIDATED, Joint, layout_of, run_joint
from reopt.systems.schema import Sample, Tuning
from reopt.tasks.base import Problem, Task
from reopt.training.tune import SMALL_SUMS

AT_ONCE = 32  # problems that run side by side with each draw

Build = Callable[[dict[str, Array]], Joint]
Values = dict[str, Float[np.ndarray, "draw problem"]]


def is_score(measure: str) -> bool:
    """Whether more is better."""
    return measure.endswith("score")


def lives(joint: Joint, task: Task, problems: Problem, num_steps: int) -> dict[str, Float[Array, " problem"]]:
    """What became of each problem, by the measures that the task has.

    - `objective`, `last_tenth`: mean of the loss over the run, and over its last tenth, over the first;
    - `validation`, `last_validation`: the same of the loss on held-out data, at every `VALIDATED`-th step, and at the
      last of them;
    - `score`, `last_score`: mean of the score over the run, and over its last fifth.

    What diverges counts as `CEILING`, as does what is above it; a score that is not finite as 0.
    """
    params = jax.vmap(task.initial_params)(problems)
    validation = getattr(task, "validation", None)
    validate = None if validation is None else lambda params: jax.vmap(validation)(problems, params)
    run = run_joint(
        joint,
        layout_of(task),
        params,
        lambda params, step: batch_value_and_grad(task, problems, params, step),
        num_steps,
        keep=True,
        validate=validate if joint.sees_validation else None,
    )
    assert run.params is not None
    found = {"objective": _over_first(run.losses), "last_tenth": _over_first(run.losses, max(num_steps // 10, 1))}
    if validate is not None:
        held_out = jax.lax.map(validate, run.params[::VALIDATED])
        found |= {"validation": _over_first(held_out), "last_validation": _over_first(held_out, 1)}
    if hasattr(task, "score"):
        score = jax.vmap(task.score, (0, 0, None))
        scores = jax.lax.map(lambda at: score(problems, *at), (run.params, jnp.arange(num_steps)))
        scores = jnp.nan_to_num(scores)
        found |= {"score": scores.mean(axis=0), "last_score": scores[-max(num_steps // 5, 1) :].mean(axis=0)}
    return found


def _over_first(losses: Float[Array, "step problem"], last: int = 0) -> Float[Array, " problem"]:
    value = losses[-last:].mean(axis=0) / losses[0]
    return jnp.minimum(jnp.nan_to_num(value, nan=CEILING, posinf=CEILING, neginf=CEILING), CEILING)


def score_draws(
    build: Build,
    draws: Mapping[str, np.ndarray],
    task: Task,
    purpose: Purpose,
    sample: Sample,
    num_steps: int,
    *,
    first: int | None = None,
) -> Values:
    """Measures of each draw on each problem, or on the `first` of them; `build` makes an optimizer of one number a
    setting."""

    @functools.partial(jax.jit, compiler_options=SMALL_SUMS)
    def all_of(settings: dict[str, Array], batch: Problem) -> dict[str, Array]:
        return jax.lax.map(lambda setting: lives(build(setting), task, batch, num_steps), settings)

    settings = {name: jnp.asarray(values, jnp.float32) for name, values in draws.items()}
    whole = task.sample_batch(problem_key(purpose, sample.seed), sample.problems)
    parts = []
    count = sample.problems if first is None else min(first, sample.problems)
    for at in range(0, count, AT_ONCE):
        batch = jax.tree.map(lambda leaf: leaf[at : min(at + AT_ONCE, count)], whole)  # noqa: B023
        parts.append({name: np.asarray(values) for name, values in all_of(settings, batch).items()})
    return {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}


def race(
    build: Build, draws: Mapping[str, np.ndarray], task: Task, tuning: Tuning, num_steps: int
) -> tuple[pd.DataFrame, dict[str, int]]:
    """A row a draw, as `mean_table`, and the best draw by each measure.

    All draws are tried on the first tuning problems. The best by each measure go on to all of them, and the best of
    those is chosen; of the others the means are those of the first problems, as the column `problems` says.
    """
    early = score_draws(build, draws, task, "tuning", tuning, num_steps, first=tuning.first)
    means = {name: values.mean(axis=1) for name, values in early.items()}
    on = best_draws(means, tuning.kept)
    late = score_draws(build, {name: values[on] for name, values in draws.items()}, task, "tuning", tuning, num_steps)
    table = mean_table(early, {name: values.astype(np.float64) for name, values in draws.items()})
    table = table.assign(problems=min(tuning.first, tuning.problems))
    table.loc[on, "problems"] = tuning.problems
    for name, values in late.items():
        table.loc[on, f"mean_{name}"] = values.astype(float).mean(axis=1)
    return table, {name: int(on[at]) for name, at in chosen({n: v.mean(axis=1) for n, v in late.items()}).items()}


def best_draws(means: Mapping[str, Float[np.ndarray, " draw"]], count: int) -> np.ndarray:
    """The `count` best draws by each measure, together, in the order in which they were drawn."""
    signed = [-values if is_score(name) else values for name, values in means.items()]
    return np.unique(np.concatenate([np.argsort(values, kind="stable")[:count] for values in signed]))


def chosen(means: Mapping[str, Float[np.ndarray, " draw"]]) -> dict[str, int]:
    """The best draw by each measure."""
    return {name: int(np.argmax(values) if is_score(name) else np.argmin(values)) for name, values in means.items()}


def problem_table(values: Values, choices: Mapping[str, Mapping[str, int]], *, each: bool = False) -> pd.DataFrame:
    """A row a choice and problem, a column a measure: `values` of the draw that the choice names by that measure.

    With `each`, also rows of the choice "each": the best draw of each problem by itself.
    """
    parts = []
    for choice, draws in choices.items():
        parts.append(pd.DataFrame({name: found[draws[name]] for name, found in values.items()}).assign(choice=choice))
    if each:
        best = {name: found.max(axis=0) if is_score(name) else found.min(axis=0) for name, found in values.items()}
        parts.append(pd.DataFrame(best).assign(choice="each"))
    whole = pd.concat([part.rename_axis("problem").reset_index() for part in parts], ignore_index=True)
    return whole[["choice", "problem", *values]]


def mean_table(values: Values, columns: Mapping[str, Any]) -> pd.DataFrame:
    """A row a draw: its settings, and the mean of each measure over the problems."""
    means = {f"mean_{name}": found.astype(float).mean(axis=1) for name, found in values.items()}
    return pd.DataFrame({"draw": np.arange(len(next(iter(values.values()))))} | dict(columns) | means)
