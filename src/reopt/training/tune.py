"""Tuning the classical optimizers by random search, scored by the meta-objective of the learned ones."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float

from reopt.errors import ReoptError
from reopt.optimizers.base import Optimizer
from reopt.optimizers.classical import BASELINES
from reopt.tasks.base import Task
from reopt.training.problem_keys import problem_key
from reopt.training.unroll import meta_objective, unroll

if TYPE_CHECKING:
    from reopt.config import Range

EDGE = 0.05  # a draw in the outer 5% of a range, on the range's own scale, sits at its edge
DRAWS_AT_ONCE = 128


def _from_unit(unit: np.ndarray, span: "Range") -> np.ndarray:
    """Map numbers in [0, 1] onto a range, on its scale."""
    if span.scale == "linear":
        return span.low + unit * (span.high - span.low)
    if span.scale == "log":
        return span.low * (span.high / span.low) ** unit
    return 1 - (1 - span.low) * ((1 - span.high) / (1 - span.low)) ** unit


def build_baseline(name: str, hyperparameters: dict[str, Any]) -> Optimizer:
    """A classical optimizer from its name and hyperparameters. **Raises** `ReoptError`."""
    try:
        return BASELINES[name](**hyperparameters)
    except (KeyError, TypeError) as error:
        raise ReoptError(f"no baseline {name!r} with hyperparameters {sorted(hyperparameters)}") from error


def score_draws(
    name: str, task: Task, draws: dict[str, np.ndarray], *, num_steps: int, problems: Any
) -> Float[np.ndarray, " draw"]:
    """Mean meta-objective of each draw on the same problems; infinite where a run diverged."""

    @jax.jit
    def score(hyperparameters: dict[str, Array]) -> Array:
        def one(values: dict[str, Array]) -> Array:
            run = unroll(build_baseline(name, values), task, problems, num_steps)
            return jnp.mean(meta_objective(run.losses))

        return jax.lax.map(one, hyperparameters, batch_size=DRAWS_AT_ONCE)

    scores = np.asarray(score({key: jnp.asarray(value, jnp.float32) for key, value in draws.items()}))
    return np.where(np.isfinite(scores), scores, np.inf)


def tune(
    name: str, task: Task, ranges: dict[str, "Range"], *, draws: int, problems: int, seed: int, num_steps: int
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Random search over the hyperparameters of baseline `name`.

    Returns the table of all draws (`draw`, the hyperparameters, `meta_objective`, `at_edge`: hyperparameters in the
    outer 5% of their range, joined by ";"), and the winner with its ranges.

    **Raises** `ReoptError` when every draw diverges.
    """
    names = sorted(ranges)
    # A key of its own for each baseline, so that one more baseline changes no other's draws.
    key = jax.random.fold_in(jax.random.key(seed), sorted(BASELINES).index(name))
    unit = np.asarray(jax.random.uniform(key, (draws, len(names)), jnp.float32), np.float64)
    # float32, as they are used: the table then holds exactly what was scored.
    values = {key: _from_unit(unit[:, column], ranges[key]).astype(np.float32) for column, key in enumerate(names)}
    batch = task.sample_batch(problem_key("tuning", seed), problems)
    scores = score_draws(name, task, values, num_steps=num_steps, problems=batch)
    edges = (unit < EDGE) | (unit > 1 - EDGE)
    at_edge = [[key for key, is_edge in zip(names, row, strict=True) if is_edge] for row in edges]
    table = pd.DataFrame(
        {"draw": np.arange(draws)}
        | {key: value.astype(np.float64) for key, value in values.items()}
        | {"meta_objective": scores.astype(np.float64), "at_edge": [";".join(row) for row in at_edge]}
    )
    best = int(np.argmin(scores))
    if not np.isfinite(scores[best]):
        raise ReoptError(f"every draw of {name} diverged; lower the range of learning_rate in baselines.ranges.{name}")
    winner = {
        "baseline": name,
        "hyperparameters": {key: float(value[best]) for key, value in values.items()},
        "meta_objective": float(scores[best]),
        "at_edge": at_edge[best],
        "ranges": {key: [ranges[key].low, ranges[key].high, ranges[key].scale] for key in names},
        "draws": draws,
        "diverged": int(np.sum(~np.isfinite(scores))),
    }
    return table, winner
