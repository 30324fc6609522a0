"""Tuning the classical optimizers by random search, scored by the meta-objective of the learned ones.

Most draws are bad, and most bad ones are seen to be so early: losses are not negative, so the part of the
meta-objective that is already summed up bounds the whole from below. A draw is dropped once its bound lies above
`early_stopping` times the best finished draw, and the next one takes its place in the compiled batch. That cannot
change the winner, and every draw within that factor of it keeps its score.
"""

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int

from reopt.core.errors import ReoptError
from reopt.evaluation.keys import problem_key
from reopt.evaluation.unroll import advance, batch_value_and_grad, start
from reopt.optimizers.classical import BASELINES
from reopt.optimizers.load import build_baseline
from reopt.tasks.base import Task

if TYPE_CHECKING:
    from reopt.core.schema import Range

EDGE = 0.05  # a draw in the outer 5% of a range, on the range's own scale, sits at its edge
DRAWS_AT_ONCE = 128
NUMBERS_AT_ONCE = 2**19  # parameters of all problems of all draws that run side by side
BLOCK = 16  # steps between two looks at who is out of the race
EARLY_STOPPING = 3.0
# jaxlib 0.10 hands large batches of small sums to a library that takes twenty times as long as XLA's own loops.
SMALL_SUMS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"}


def _from_unit(unit: np.ndarray, span: "Range") -> np.ndarray:
    """Map numbers in [0, 1] onto a range, on its scale."""
    if span.scale == "linear":
        return span.low + unit * (span.high - span.low)
    if span.scale == "log":
        return span.low * (span.high / span.low) ** unit
    return 1 - (1 - span.low) * ((1 - span.high) / (1 - span.low)) ** unit


def lanes_for(problems: int, num_params: int) -> int:
    """How many draws run side by side: what fits the caches, for problems of many parameters fewer."""
    return max(1, min(DRAWS_AT_ONCE, NUMBERS_AT_ONCE // (problems * num_params)))


class Scores(NamedTuple):
    """What became of each draw: it ran `steps` steps, and its meta-objective is at least `at_least`.

    `meta_objective` is infinite where the draw diverged or was dropped.
    """

    meta_objective: Float[np.ndarray, " draw"]
    at_least: Float[np.ndarray, " draw"]
    steps: Int[np.ndarray, " draw"]


class _Race(NamedTuple):
    """The draws that are running, one in each lane of the batch."""

    params: Float[Array, "lane problem param"]
    state: Float[Array, "lane problem param hidden"]
    step: Int[Array, " lane"]
    total: Float[Array, " lane"]  # of loss / initial loss, over steps; mean over problems
    lowest: Float[Array, ""]  # loss met


def score_draws(
    name: str,
    task: Task,
    draws: dict[str, np.ndarray],
    *,
    num_steps: int,
    problems: Any,
    early_stopping: float = EARLY_STOPPING,
    lanes: int | None = None,
) -> Scores:
    """Mean meta-objective of each draw on the same problems.

    **Arguments:** `draws` holds an array `(draw,)` a hyperparameter. A draw is dropped when its meta-objective is sure
    to be above `early_stopping` times the best (infinite: none is), which needs losses that are never negative: as
    soon as one is met, no more are dropped. `lanes` draws run side by side, `lanes_for` the size of the problems if
    none are named.

    The memory is that of `lanes` runs, whatever the number of draws.
    """
    count = len(next(iter(draws.values())))
    lanes = min(lanes or lanes_for(len(jax.tree.leaves(problems)[0]), task.num_params), count)

    def fresh(values: dict[str, Array]) -> tuple[Array, Array]:
        return start(build_baseline(name, values), task, problems)

    def one(values: dict[str, Array], params: Array, state: Array, step: Array) -> tuple[Array, Array, Array]:
        optimizer = build_baseline(name, values)
        (params, state), (losses, _, _) = advance(optimizer, task, problems, (params, state), step)
        return params, state, losses

    @functools.partial(jax.jit, compiler_options=SMALL_SUMS)
    def run(values: dict[str, Array], race: _Race, enter: Array) -> _Race:
        """Start the lanes in `enter` anew, then take BLOCK steps in all; a lane at its end stays there."""
        new = jax.vmap(fresh)(values)
        initial = batch_value_and_grad(task, problems, new[0][0], jnp.zeros((), int))[0]

        def entered(old: Array, value: Array) -> Array:
            return jnp.where(enter.reshape(-1, *[1] * (old.ndim - 1)), value, old)

        race = race._replace(
            params=entered(race.params, new[0]),
            state=entered(race.state, new[1]),
            step=entered(race.step, jnp.zeros_like(race.step)),
            total=entered(race.total, jnp.zeros_like(race.total)),
        )

        def body(_: Any, race: _Race) -> _Race:
            params, state, losses = jax.vmap(one)(values, race.params, race.state, race.step)
            running = race.step < num_steps
            total = race.total + jnp.where(running, jnp.mean(losses / initial, axis=-1), 0)
            lowest = jnp.minimum(race.lowest, jnp.nanmin(losses))
            return _Race(params, state, race.step + running, total, lowest)

        return jax.lax.fori_loop(0, BLOCK, body, race)

    values = {key: np.asarray(value, np.float32) for key, value in draws.items()}
    objective, at_least, steps = np.full(count, np.inf), np.zeros(count), np.zeros(count, int)
    lane = np.arange(lanes)  # the draw in each lane; -1: none
    waiting, enter = lanes, np.ones(lanes, bool)
    params, state = jax.eval_shape(jax.vmap(fresh), {key: value[lane] for key, value in values.items()})
    race = _Race(
        params=jnp.zeros(params.shape, params.dtype),
        state=jnp.zeros(state.shape, state.dtype),
        step=jnp.zeros(lanes, int),
        total=jnp.zeros(lanes),
        lowest=jnp.asarray(np.inf),
    )
    while (lane >= 0).any():
        # An empty lane reruns some draw unseen: shapes must not change.
        race = run({key: jnp.asarray(value[lane]) for key, value in values.items()}, race, jnp.asarray(enter))
        taken, total = np.asarray(race.step), np.asarray(race.total, float) / num_steps
        busy = lane >= 0
        at_least[lane[busy]], steps[lane[busy]] = total[busy], taken[busy]
        diverged = ~np.isfinite(total)
        finished = busy & (taken >= num_steps) & ~diverged
        objective[lane[finished]] = total[finished]
        bounded = float(race.lowest) >= 0
        out = busy & (finished | diverged | (bounded & (total > early_stopping * objective.min())))
        enter = np.zeros(lanes, bool)
        for place in np.flatnonzero(out):
            enter[place] = waiting < count
            lane[place], waiting = (waiting, waiting + 1) if enter[place] else (-1, waiting)
    return Scores(objective, np.where(np.isfinite(at_least), at_least, np.inf), steps)


def draw_hyperparameters(
    name: str, ranges: dict[str, "Range"], *, draws: int, seed: int
) -> tuple[Float[np.ndarray, "draw hyperparameter"], dict[str, np.ndarray]]:
    """Draws of baseline `name` as places in their ranges, each in [0, 1] and in the order of names, and as values."""
    names = sorted(ranges)
    # A key of its own for each baseline, so that one more baseline changes no other's draws.
    key = jax.random.fold_in(jax.random.key(seed), sorted(BASELINES).index(name))
    unit = np.asarray(jax.random.uniform(key, (draws, len(names)), jnp.float32), np.float64)
    # float32, as they are used: the table then holds exactly what was scored.
    values = {key: _from_unit(unit[:, column], ranges[key]).astype(np.float32) for column, key in enumerate(names)}
    return unit, values


class EveryDrawDiverged(ReoptError):
    """No hyperparameters of a baseline came to an end."""


def tune(
    name: str,
    task: Task,
    ranges: dict[str, "Range"],
    *,
    draws: int,
    problems: int,
    seed: int,
    num_steps: int,
    early_stopping: float = EARLY_STOPPING,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Random search over the hyperparameters of baseline `name`.

    Returns the table of all draws (`draw`, the hyperparameters, `meta_objective`, `at_least` and `steps` as in
    `Scores`, `at_edge`: hyperparameters in the outer 5% of their range, joined by ";"), and the winner with its ranges.

    **Raises** `EveryDrawDiverged` when every draw diverges.
    """
    unit, values = draw_hyperparameters(name, ranges, draws=draws, seed=seed)
    names = sorted(ranges)
    batch = task.sample_batch(problem_key("tuning", seed), problems)
    scores = score_draws(name, task, values, num_steps=num_steps, problems=batch, early_stopping=early_stopping)
    edges = (unit < EDGE) | (unit > 1 - EDGE)
    at_edge = [[key for key, is_edge in zip(names, row, strict=True) if is_edge] for row in edges]
    table = pd.DataFrame(
        {"draw": np.arange(draws)}
        | {key: value.astype(np.float64) for key, value in values.items()}
        | scores._asdict()
        | {"at_edge": [";".join(row) for row in at_edge]}
    )
    best = int(np.argmin(scores.meta_objective))
    diverged = ~np.isfinite(scores.at_least)
    if diverged.all():
        raise EveryDrawDiverged(
            f"every draw of {name} diverged; lower the range of learning_rate in baselines.ranges.{name}"
        )
    winner = {
        "baseline": name,
        "hyperparameters": {key: float(value[best]) for key, value in values.items()},
        "meta_objective": float(scores.meta_objective[best]),
        "at_edge": at_edge[best],
        "ranges": {key: [ranges[key].low, ranges[key].high, ranges[key].scale] for key in names},
        "draws": draws,
        "diverged": int(diverged.sum()),
        "dropped": int(np.sum(~diverged & (scores.steps < num_steps))),
        "early_stopping": early_stopping,
    }
    return table, winner
