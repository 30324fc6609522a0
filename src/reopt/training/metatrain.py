"""Meta-training: gradient descent on the meta-objective of a learned optimizer (arXiv 2011.02159, section 3).

At each outer step a fresh batch of problems is drawn, the optimizer is unrolled on it, and its weights follow the
meta-gradient (exact, or with clipped cotangents) of  mean_problems meta_objective + l2_penalty ||weights||.

A run is a pure function of its settings. Its whole state (weights, meta-optimizer, averaged and best weights, step,
log) is written to a state file at least once a minute; a run that is killed goes on from there and ends with the
bytes of one that was left alone. The clock says when the state is saved and how many steps the compiled loop takes at
once, and nothing else: whether a run has diverged is judged at fixed outer steps.
"""

import functools
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from reopt.core.checkpoint import filled_from, named_arrays, read_checkpoint, write_checkpoint
from reopt.core.errors import ReoptError
from reopt.core.limits import CEILING
from reopt.evaluation.keys import problem_key
from reopt.evaluation.unroll import meta_objective, unroll
from reopt.optimizers.learned import LearnedOptimizer, create_learned
from reopt.tasks.base import Task
from reopt.training.chunking import devices_for, over_devices
from reopt.training.estimators import make_estimator

if TYPE_CHECKING:
    from reopt.pipeline.config import LearnedConfig

SAVE_EVERY_SECONDS = 20.0
CHUNK_SECONDS = 4.0  # how long the compiled loop runs before Python looks at it again
# At every JUDGED_EVERY-th outer step and the last one, whatever the clock says, a run is judged: it is given up when,
# over the last WINDOW outer steps, more than half of the meta-gradients were not finite or the median meta-objective
# stood above CEILING (an optimizer that does nothing has 1).
JUDGED_EVERY = 50
WINDOW = 100


class Log(NamedTuple):
    """One entry an outer step; NaN in `validation` where none was made."""

    meta_objective: Float[Array, " outer"]  # median and mean over the batch of problems
    meta_objective_median: Float[Array, " outer"]
    gradient_norm: Float[Array, " outer"]
    skipped: Bool[Array, " outer"]  # the meta-gradient was not finite, so no step was taken
    validation: Float[Array, " outer"]  # mean meta-objective of the averaged weights on held-out problems


class TrainingState(NamedTuple):
    """Everything a run needs to go on."""

    step: Int[Array, ""]
    weights: LearnedOptimizer
    meta_optimizer: Any
    average: LearnedOptimizer
    best: LearnedOptimizer
    best_validation: Float[Array, ""]
    log: Log
    running: Any  # what the estimator of the meta-gradient keeps; () where it keeps nothing


class _Diverged(ReoptError):
    """The run in the state file had been given up."""


Report = Callable[[int, int, str], None]


def learning_rate_schedule(training: Any) -> optax.Schedule:
    """The meta-optimizer's learning rate against outer step."""
    rate, schedule = training.learning_rate, training.schedule
    if schedule.kind == "exponential":
        return optax.exponential_decay(rate, schedule.every, schedule.factor)
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=rate,
        warmup_steps=schedule.warmup_steps,
        decay_steps=training.outer_steps,
        end_value=rate * schedule.final_fraction,
    )


def meta_optimizer(training: Any) -> optax.GradientTransformation:
    """Clipping, then Adam."""
    clip = {"element": optax.clip, "norm": optax.clip_by_global_norm}[training.clip.kind](training.clip.value)
    adam = optax.scale_by_adam(b1=training.beta1, b2=training.beta2, eps=training.eps)
    return optax.chain(clip, adam, optax.scale_by_learning_rate(learning_rate_schedule(training)))


def initial_weights(settings: "LearnedConfig", seed: int) -> LearnedOptimizer:
    """An optimizer before meta-training."""
    return create_learned(
        jax.random.fold_in(jax.random.key(seed), 0),
        cell=settings.cell,
        units=settings.units,
        features=settings.features,
        input_scale=settings.input_scale,
        output_scale=settings.output_scale,
        input_fan_in=settings.input_fan_in,
    )


def initial_state(settings: "LearnedConfig", seed: int, running: Any = ()) -> TrainingState:
    """A run's state before its first outer step."""
    weights = initial_weights(settings, seed)
    empty = jnp.full(settings.training.outer_steps, jnp.nan, jnp.float32)
    state = TrainingState(
        step=jnp.zeros((), jnp.int32),
        weights=weights,
        meta_optimizer=meta_optimizer(settings.training).init(eqx.filter(weights, eqx.is_inexact_array)),
        average=weights,
        best=weights,
        best_validation=jnp.full((), jnp.inf, jnp.float32),
        log=Log(empty, empty, empty, jnp.zeros(empty.shape, bool), empty),
        running=running,
    )
    return jax.tree.map(jnp.array, state)  # copies: the loop is given its state's buffers, and none twice


class Loop(NamedTuple):
    """A run's state before its first outer step, and the compiled loop: (state, last) -> that at outer step `last`."""

    start: TrainingState
    run_to: Callable[[TrainingState, Int[Array, ""]], TrainingState]


def make_loop(task: Task, training_task: Task, num_steps: int, settings: "LearnedConfig", seed: int) -> Loop:
    """The loop of outer steps on problems of `training_task`, validated on those of `task`, over all devices."""
    training = settings.training
    transform = meta_optimizer(training)
    training_key = problem_key("training", seed)
    validation_key = problem_key("validation", training.validation.seed)
    weights = initial_weights(settings, seed)
    devices = devices_for(training.problems, training.cotangent_clipping.group if training.cotangent_clipping else 1)
    estimator = make_estimator(training_task, training, weights, num_steps, devices)
    judges = [device for device in devices_for(training.validation.problems) if device in devices]

    def validate(weights: LearnedOptimizer) -> Array:
        problems = task.sample_batch(validation_key, training.validation.problems)

        def objectives(weights: LearnedOptimizer, problems: Any) -> Array:
            return meta_objective(unroll(weights, task, problems, num_steps).losses)

        shared = over_devices(objectives, devices, (False, True), True) if judges == devices else objectives
        return jnp.mean(shared(weights, problems))

    def outer_step(_, carry: tuple[TrainingState, Any]) -> tuple[TrainingState, Any]:
        state, workspace = carry
        key = jax.random.fold_in(training_key, state.step)
        objectives, gradient, running, workspace = estimator.estimate(workspace, state.weights, state.running, key)
        if training.l2_penalty:
            size = optax.tree.norm(state.weights)
            pull = training.l2_penalty / jnp.where(size > 0, size, 1)
            gradient = jax.tree.map(lambda g, w: g + pull * w, gradient, state.weights)
        norm = optax.tree.norm(gradient)
        # The norm can overflow where every element is finite; clipping by element can still use such a gradient.
        finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(gradient)]))
        if training.clip.kind == "norm":
            finite &= jnp.isfinite(norm)
        updates, stepped = transform.update(gradient, state.meta_optimizer, state.weights)
        keep = functools.partial(jax.tree.map, lambda new, old: jnp.where(finite, new, old))
        weights = keep(optax.apply_updates(state.weights, updates), state.weights)
        average = jax.tree.map(lambda a, w: training.average * a + (1 - training.average) * w, state.average, weights)
        done = state.step + 1
        due = (done % training.validation.every == 0) | (done == training.outer_steps)
        validation = jax.lax.cond(due, validate, lambda _: jnp.full((), jnp.nan, jnp.float32), average)
        better = validation < state.best_validation
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), average, state.best)
        entry = Log(jnp.mean(objectives), jnp.median(objectives), norm, ~finite, validation)
        log = jax.tree.map(lambda column, value: column.at[state.step].set(value), state.log, entry)
        best_validation = jnp.where(better, validation, state.best_validation)
        memory = keep(stepped, state.meta_optimizer)
        return TrainingState(done, weights, memory, average, best, best_validation, log, running), workspace

    @functools.partial(jax.jit, donate_argnums=0)
    def run_to(state: TrainingState, last: Int[Array, ""]) -> TrainingState:
        begin = (state, estimator.workspace(state.weights))
        return jax.lax.fori_loop(state.step, last, outer_step, begin)[0]

    start = initial_state(settings, seed, jax.jit(estimator.start)(weights, problem_key("running", seed)))
    # Where the loop leaves it: else the second call would find its arguments elsewhere, and compile again.
    everywhere = NamedSharding(Mesh(np.asarray(devices), ("device",)), PartitionSpec())
    return Loop(jax.device_put(start, everywhere), run_to)


def _part(state: TrainingState, name: str) -> dict[str, np.ndarray]:
    prefix = f"{name}."
    return {path.removeprefix(prefix): a for path, a in named_arrays(state).items() if path.startswith(prefix)}


def describe_optimizer(settings: "LearnedConfig") -> dict[str, Any]:
    """The part of a checkpoint's description that rebuilds the optimizer."""
    names = ("cell", "units", "features", "input_scale", "output_scale")
    return {name: getattr(settings, name) for name in names}


def _give_up(state: TrainingState) -> str | None:
    """A sentence if the run is found to have diverged; a run shorter than the window is judged at its end."""
    step, total = int(state.step), len(state.log.skipped)
    window = min(WINDOW, total)
    if step < window or (step % JUDGED_EVERY and step < total):
        return None
    recent = slice(step - window, step)
    skipped = int(np.sum(np.asarray(state.log.skipped)[recent]))
    objective = float(np.median(np.nan_to_num(np.asarray(state.log.meta_objective)[recent], nan=np.inf)))
    clipping = "training.cotangent_clipping: {factor: 4.0, group: 16}"
    advice = f"try {clipping}, a lower training.learning_rate or a smaller training.clip.value"
    if 2 * skipped > window:
        return (
            f"meta-training diverged by outer step {step}: {skipped} of the last {window} meta-gradients were not "
            f"finite; {advice}"
        )
    if not objective <= CEILING:
        return (
            f"meta-training diverged by outer step {step}: the median meta-objective of the last {window} steps "
            f"is {objective:.3g} (1 is an optimizer that does not move); {advice}"
        )
    return None


def _learned(state: TrainingState) -> bool:
    """Whether weights were found that do better than an optimizer that does not move."""
    return float(state.best_validation) < 1


def _ended(
    state: TrainingState, description: dict[str, Any], problem: str, report: Report
) -> tuple[TrainingState, dict[str, Any]]:
    """A run that diverged, kept with the weights it had found."""
    step = int(state.step)
    report(step, len(state.log.skipped), f"{problem}; its best weights are kept")
    return state, description | {"diverged": step}


def metatrain(
    task: Task,
    settings: "LearnedConfig",
    *,
    task_name: str,
    num_steps: int,
    seed: int,
    state_file: Path,
    training_task: Task | None = None,
    start_over: bool = True,
    keep_diverged: bool = False,
    report: Report = lambda done, total, text: None,
) -> tuple[TrainingState, dict[str, Any]]:
    """Meta-train an optimizer, or go on with the run in `state_file`; returns its last state and its description.

    **Arguments:** `settings` is the optimizer's entry in the config; `seed` starts weights and training problems;
    `training_task` makes these problems, where they are not those of `task`, on which the run is validated;
    `start_over` says what becomes of a `state_file` that is damaged or of another run: it is overwritten, or refused;
    `keep_diverged` makes a run that diverges after it had learned something (a validation below 1) end there, with
    its best weights and `diverged`, the outer step, in its description; `report(done, total, text)` is called every
    few seconds.

    **Raises** `ReoptError` when the run diverges and is not kept, or the state file is refused.
    """
    training = settings.training
    description = {
        "optimizer": describe_optimizer(settings),
        "task": task_name,
        "num_steps": num_steps,
        "seed": seed,
        "training": training.model_dump(mode="json"),
    }
    state, run_to = make_loop(task, training_task or task, num_steps, settings, seed)
    if state_file.exists():
        try:
            arrays, stored = read_checkpoint(state_file)
            if stored != description:
                raise ReoptError(f"{state_file} is the state of another run")
            state = jax.device_put(filled_from(state, arrays, state_file), jax.tree.map(lambda a: a.sharding, state))
            report(int(state.step), training.outer_steps, f"goes on from outer step {int(state.step)}")
            if problem := _give_up(state):
                if keep_diverged and _learned(state):
                    return _ended(state, description, problem, report)
                raise _Diverged(f"{problem}; its state is {state_file}, remove it to start over")
        except _Diverged:
            raise
        except ReoptError as error:
            if not start_over:
                raise ReoptError(f"{error}; remove it or name another state file") from error
            report(0, training.outer_steps, f"starts over: {error}")
    total, chunk, saved = training.outer_steps, 1, time.monotonic()
    while (step := int(state.step)) < total:
        began, end = time.monotonic(), min(step + chunk, step - step % JUDGED_EVERY + JUDGED_EVERY, total)
        state = jax.block_until_ready(run_to(state, jnp.asarray(end, jnp.int32)))
        took = (time.monotonic() - began) / (end - step)
        if step:  # the first chunk also compiled
            chunk = max(1, min(int(CHUNK_SECONDS / took), 2 * chunk, JUDGED_EVERY))
        if problem := _give_up(state):
            write_checkpoint(state_file, named_arrays(state), description)
            if keep_diverged and _learned(state):
                return _ended(state, description, problem, report)
            raise ReoptError(problem)
        recent = np.asarray(state.log.meta_objective)[max(0, int(state.step) - 20) : int(state.step)]
        text = f"meta-objective {np.nanmean(recent):.4f}"
        if math.isfinite(best := float(state.best_validation)):
            text += f", best validation {best:.4f}"
        if skips := int(np.sum(np.asarray(state.log.skipped))):
            text += f", {skips} meta-gradients skipped"
        report(int(state.step), total, text)
        if time.monotonic() - saved > SAVE_EVERY_SECONDS and int(state.step) < total:
            write_checkpoint(state_file, named_arrays(state), description)
            saved = time.monotonic()
    return state, description


def write_best(path: Path | str, state: TrainingState, description: dict[str, Any]) -> None:
    """The averaged weights that did best in validation, with what rebuilds the optimizer."""
    value = {"validation_meta_objective": float(state.best_validation)}
    write_checkpoint(path, _part(state, "best"), description | value)


def write_last(path: Path | str, state: TrainingState, description: dict[str, Any]) -> None:
    """The weights of the last outer step, not averaged, with what rebuilds the optimizer."""
    write_checkpoint(path, _part(state, "weights"), description)


def write_state(path: Path | str, state: TrainingState, description: dict[str, Any]) -> None:
    """Everything needed to go on with the run."""
    write_checkpoint(path, named_arrays(state), description)


def log_columns(state: TrainingState) -> dict[str, np.ndarray]:
    """The training log, a column a quantity, a row an outer step that was taken."""
    step = int(state.step)
    columns = {name: np.asarray(column)[:step] for name, column in state.log._asdict().items()}
    return {"outer_step": np.arange(1, step + 1)} | columns
