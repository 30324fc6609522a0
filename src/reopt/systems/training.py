"""Meta-training of systems: one loop for every way to estimate the meta-gradient.

A run is a pure function of its settings and seed. Its state is written to a file every few seconds, and a run that was
killed goes on from there and ends with the bytes of one that was left alone: the clock says when it is saved, and
nothing else.
"""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from reopt.core.checkpoint import filled_from, named_arrays, read_checkpoint, write_checkpoint
from reopt.core.errors import ReoptError
from reopt.evaluation.keys import problem_key
from reopt.optimizers.joint import Joint
from reopt.systems import pipeline_training
from reopt.systems.judge import is_score, lives
from reopt.systems.kinds import create
from reopt.systems.schema import Measure, Pipeline, SystemEntry, Unrolled
from reopt.tasks.base import Problem, Task
from reopt.training import evolution
from reopt.training.tune import SMALL_SUMS

SAVE_EVERY_SECONDS = 20.0

Report = Callable[[int, int, str], None]


class Log(NamedTuple):
    """An entry an outer step: objective, norm of the gradient, whether it was not finite and so left out, validation.

    `validation` is NaN where there was no look at it; it is a measure of `reopt.systems.judge`, or minus a score.
    """

    objective: Float[Array, " outer"]
    gradient_norm: Float[Array, " outer"]
    skipped: Bool[Array, " outer"]
    validation: Float[Array, " outer"]


class TrainingState(NamedTuple):
    """Everything that a run needs to go on."""

    step: Int[Array, ""]
    joint: Joint
    memory: Any
    best: Joint
    least: Float[Array, ""]
    log: Log
    population: Any  # of the pipeline; () of whole runs


def meta_optimizer(recipe: Unrolled | Pipeline) -> optax.GradientTransformation:
    """Clipping by the norm, then Adam; of whole runs at a rate that warms up and falls by a cosine."""
    clip = optax.clip_by_global_norm(recipe.clip)
    if isinstance(recipe, Pipeline):
        return optax.chain(clip, optax.adam(recipe.rate))
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, recipe.rate, recipe.warm, max(recipe.outer_steps, recipe.warm + 1), recipe.final * recipe.rate
    )
    return optax.chain(clip, optax.adam(schedule, b2=0.99))


def backpropagated(
    joint: Joint, task: Task, key: PRNGKeyArray, *, problems: int, num_steps: int, held_out: bool
) -> tuple[Float[Array, " problem"], Joint]:
    """Objectives of fresh problems, and the derivative of their mean through whole runs.

    A problem whose derivative is not finite counts with a gradient of 0, as one beyond the ceiling of the objective
    does.
    """
    batch = task.sample_batch(key, problems)

    def one(joint: Joint, problem: Any) -> Array:
        alone = jax.tree.map(lambda leaf: leaf[None], problem)
        return evolution.objectives(joint, task, alone, num_steps, held_out=held_out)[0]

    found, each = jax.vmap(jax.value_and_grad(one), (None, 0))(joint, batch)
    finite = functools.reduce(
        jnp.logical_and, (jnp.isfinite(leaf).reshape(problems, -1).all(axis=1) for leaf in jax.tree.leaves(each))
    )

    def mean(leaf: Array) -> Array:
        return jnp.mean(jnp.where(finite.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, 0), axis=0)

    return found, jax.tree.map(mean, each)


def estimator(
    task: Task, recipe: Unrolled | Pipeline, num_steps: int
) -> Callable[[TrainingState, PRNGKeyArray], tuple[Array, Joint, Any]]:
    """(state, key) -> (objectives, meta-gradient, population)."""

    def of_pipeline(state: TrainingState, key: PRNGKeyArray) -> tuple[Array, Joint, Any]:
        assert isinstance(recipe, Pipeline)
        return pipeline_training.estimate(state.joint, task, recipe, state.population, key, state.step, num_steps)

    def of_runs(state: TrainingState, key: PRNGKeyArray) -> tuple[Array, Joint, Any]:
        assert isinstance(recipe, Unrolled)
        sizes: dict[str, Any] = {"problems": recipe.problems, "num_steps": num_steps, "held_out": recipe.held_out}
        if recipe.estimator == "backpropagation":
            return *backpropagated(state.joint, task, key, **sizes), ()
        found = evolution.estimate(state.joint, task, key, deviation=recipe.deviation, sign=recipe.sign, **sizes)
        return *found, ()

    return of_pipeline if isinstance(recipe, Pipeline) else of_runs


def validated_by(recipe: Unrolled | Pipeline, measure: Measure) -> Measure:
    """By which measure weights are chosen: the objective of training, where that is one."""
    if isinstance(recipe, Pipeline):
        return measure
    return "validation" if recipe.held_out else "objective"


class Loop(NamedTuple):
    """A run before its first outer step; (state) -> the state an outer step on; (state) -> it after a look."""

    start: TrainingState
    step: Callable[[TrainingState], TrainingState]
    look: Callable[[TrainingState], TrainingState]


def make_loop(system: SystemEntry, task: Task, num_steps: int, seed: int) -> Loop:
    """The parts of a run."""
    recipe = system.training
    keys = problem_key("training", seed), problem_key("validation", seed)
    held_out = task.sample_batch(keys[1], recipe.validation)
    transform, found_by = meta_optimizer(recipe), estimator(task, recipe, num_steps)
    measure = validated_by(recipe, system.measure)
    sign = -1 if is_score(measure) else 1

    # Keys and problems are arguments, so that one compiled program serves all seeds.
    @functools.partial(jax.jit, compiler_options=SMALL_SUMS)
    def step(state: TrainingState, key: PRNGKeyArray) -> TrainingState:
        objectives, gradient, population = found_by(state, jax.random.fold_in(key, state.step))
        norm = optax.tree.norm(gradient)
        finite = jnp.isfinite(norm)
        updates, memory = transform.update(gradient, state.memory, state.joint)  # type: ignore[arg-type]

        def kept(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)

        entry = Log(jnp.mean(objectives), norm, ~finite, jnp.full((), jnp.nan))
        return state._replace(
            step=state.step + 1,
            joint=kept(optax.apply_updates(state.joint, updates), state.joint),  # type: ignore[arg-type]
            memory=kept(memory, state.memory),
            log=jax.tree.map(lambda column, value: column.at[state.step].set(value), state.log, entry),
            population=population,
        )

    @functools.partial(jax.jit, compiler_options=SMALL_SUMS)
    def look(state: TrainingState, held_out: Problem) -> TrainingState:
        value = sign * jnp.mean(lives(state.joint, task, held_out, num_steps)[measure])
        better = value < state.least
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), state.joint, state.best)
        log = state.log._replace(validation=state.log.validation.at[state.step - 1].set(value))
        return state._replace(best=best, least=jnp.where(better, value, state.least), log=log)

    begin = create(system.kind, system.settings, seed)
    empty = jnp.full(recipe.outer_steps, jnp.nan, jnp.float32)
    population: Any = ()
    if isinstance(recipe, Pipeline):
        population = pipeline_training.born(begin, task, recipe, jax.random.fold_in(keys[0], recipe.outer_steps))
    start = TrainingState(
        jnp.zeros((), jnp.int32),
        begin,
        transform.init(begin),  # type: ignore[arg-type]
        begin,
        jnp.full((), jnp.inf, jnp.float32),
        Log(empty, empty, jnp.zeros(empty.shape, bool), empty),
        population,
    )
    # A Python number's weak type would be lost in the first step, and the second be compiled anew.
    start = jax.tree.map(lambda leaf: leaf if _is_key(leaf) else jnp.asarray(leaf, leaf.dtype), start)
    return Loop(start, lambda state: step(state, keys[0]), lambda state: look(state, held_out))


def train(
    system: SystemEntry,
    task: Task,
    *,
    num_steps: int,
    seed: int,
    state_file: Path | None = None,
    report: Report = lambda done, total, text: None,
) -> TrainingState:
    """Meta-train a system, or go on with the run in `state_file`; `best` of what it returns is chosen in validation.

    **Arguments:** `seed` is that of weights and problems; `report(done, total, text)` is called at each look.

    **Raises** `ReoptError` where no weights were found that do better than standing still, or no step could be taken.
    """
    recipe = system.training
    state, step, look = make_loop(system, task, num_steps, seed)
    identity = {
        "system": system.model_dump(mode="json", exclude={"seeds", "factors"}),
        "seed": seed,
        "steps": num_steps,
    }
    if state_file is not None and state_file.exists():
        try:
            state = _read(state_file, state, identity)
            report(int(state.step), recipe.outer_steps, f"goes on from outer step {int(state.step)}")
        except ReoptError as error:
            report(0, recipe.outer_steps, f"starts over: {error}")
    saved = time.monotonic()
    while (at := int(state.step)) < recipe.outer_steps:
        state = step(state)
        if (at + 1) % recipe.every == 0 or at + 1 == recipe.outer_steps:
            state = look(state)
            report(at + 1, recipe.outer_steps, f"validation {float(state.least):.4f}")
        if state_file is not None and time.monotonic() - saved > SAVE_EVERY_SECONDS:
            _write(state_file, jax.block_until_ready(state), identity)
            saved = time.monotonic()
    if not np.isfinite(float(state.least)) or bool(np.asarray(state.log.skipped).all()):
        raise ReoptError(
            f"meta-training of {system.kind} came to nothing: no outer step had a finite meta-gradient; "
            "try a lower training.rate"
        )
    return state


def log_table(state: TrainingState) -> pd.DataFrame:
    """A row an outer step."""
    columns = {name: np.asarray(column) for name, column in state.log._asdict().items()}
    return pd.DataFrame({"outer_step": np.arange(1, len(state.log.objective) + 1)} | columns)


def _write(path: Path, state: TrainingState, identity: dict[str, Any]) -> None:
    write_checkpoint(path, named_arrays(_plain(state)), identity)


def _read(path: Path, like: TrainingState, identity: dict[str, Any]) -> TrainingState:
    arrays, stored = read_checkpoint(path)
    if stored != identity:
        raise ReoptError(f"{path} is the state of another run")
    plain = filled_from(_plain(like), arrays, path)
    return jax.tree.map(lambda array, old: jax.random.wrap_key_data(array) if _is_key(old) else array, plain, like)


def _plain(state: TrainingState) -> TrainingState:
    """The state with numbers for keys."""
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, state)


def _is_key(leaf: Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
