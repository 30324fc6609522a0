"""Meta-training by evolution strategies: optimizers of any kind, through whole unrolls that need no derivative.

Each problem runs twice, with the weights moved by +e and by -e, e ~ N(0, deviation^2 I) drawn for it, and

    gradient = mean over problems of  e (m+ - m-) / (2 deviation^2)

is, in expectation, that of the meta-objective smoothed by the deviation (Salimans et al. 2017; antithetic pairs as in
Vicol, Metz and Sohl-Dickstein 2021). With `sign`, the sign of m+ - m- takes its place, as VeLO was trained (Metz et al.
2022, arXiv 2211.09760).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

from reopt.core.limits import CEILING
from reopt.evaluation.keys import problem_key
from reopt.evaluation.unroll import Run, batch_value_and_grad
from reopt.optimizers.joint import Joint, layout_of, run_joint
from reopt.tasks.base import Problem, Task

Report = Callable[[int, int, str], None]


class Recipe(NamedTuple):
    """How it is meta-trained: Adam at `rate` after a warm-up, falling by a cosine to `final` of it."""

    outer_steps: int = 400
    problems: int = 32
    deviation: float = 0.02
    rate: float = 0.005
    warm: int = 10
    final: float = 0.05
    sign: bool = False
    validation: int = 128
    every: int = 25


class Trained(NamedTuple):
    """The weights with the best validation, their objective there, and that at every look."""

    joint: Joint
    validation: float
    seen: Float[np.ndarray, " look"]


def unroll_joint(joint: Joint, task: Task, problems: Problem, num_steps: int) -> Run:
    """Run a `Joint` for `num_steps` steps on each problem of the batch, as `reopt.evaluation.unroll.unroll` does."""
    params = jax.vmap(task.initial_params)(problems)

    def both(params: Array, step: Array) -> tuple[Array, Array]:
        return batch_value_and_grad(task, problems, params, step)

    validation = getattr(task, "validation", None) if joint.sees_validation else None
    validate = None if validation is None else lambda params: jax.vmap(validation)(problems, params)
    run = run_joint(joint, layout_of(task), params, both, num_steps, validate=validate)
    final = jax.vmap(task.loss, (0, 0, None))(problems, run.final_params, jnp.asarray(num_steps))
    return Run(run.losses, final, run.losses[0], run.final_params)


def objectives(joint: Joint, task: Task, problems: Problem, num_steps: int) -> Float[Array, " problem"]:
    """Mean loss over initial loss of each problem; what diverges, or is above it, counts as `CEILING`."""
    run = unroll_joint(joint, task, problems, num_steps)
    value = jnp.mean(run.losses, axis=0) / run.losses[0]
    return jnp.minimum(jnp.nan_to_num(value, nan=CEILING, posinf=CEILING), CEILING)


def estimate(
    joint: Joint, task: Task, key: PRNGKeyArray, *, problems: int, num_steps: int, deviation: float, sign: bool = False
) -> tuple[Float[Array, " problem"], Joint]:
    """Objectives of fresh problems, a mean over each pair, and the estimate of the gradient of their mean."""
    key_draws, key_noise = jax.random.split(key)
    batch = task.sample_batch(key_draws, problems)
    flat, unravel = ravel_pytree(joint)
    noise = jax.random.normal(key_noise, (problems, flat.size), flat.dtype)

    def one(direction: Array, noise: Array, problem: Problem) -> Array:
        moved = unravel(flat + direction * deviation * noise)
        return objectives(moved, task, jax.tree.map(lambda leaf: leaf[None], problem), num_steps)[0]

    pair = jax.vmap(jax.vmap(one, (None, 0, 0)), (0, None, None))
    found = pair(jnp.asarray([1.0, -1.0], flat.dtype), noise, batch)
    difference = found[0] - found[1]
    slope = jnp.sign(difference) if sign else difference / (2 * deviation)
    return jnp.mean(found, axis=0), unravel(jnp.mean(slope[:, None] * noise, axis=0).astype(flat.dtype))


def train_joint(
    begin: Joint,
    task: Task,
    recipe: Recipe,
    *,
    num_steps: int,
    seed: int,
    report: Report = lambda done, total, text: None,
) -> Trained:
    """Meta-train a `Joint` by evolution strategies; a pure function of its arguments."""
    keys = problem_key("training", seed), problem_key("validation", seed)
    held_out = task.sample_batch(keys[1], recipe.validation)
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, recipe.rate, recipe.warm, recipe.outer_steps, recipe.final * recipe.rate
    )
    transform = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule, b2=0.99))

    @jax.jit
    def outer(joint: Any, memory: Any, at: Array) -> tuple[Any, Any]:
        key = jax.random.fold_in(keys[0], at)
        sizes = {"problems": recipe.problems, "num_steps": num_steps, "deviation": recipe.deviation}
        _, gradient = estimate(joint, task, key, sign=recipe.sign, **sizes)  # type: ignore[arg-type]
        updates, memory = transform.update(gradient, memory, joint)
        return optax.apply_updates(joint, updates), memory

    validate = jax.jit(functools.partial(_mean_objective, task=task, problems=held_out, num_steps=num_steps))
    joint, memory = begin, transform.init(begin)  # type: ignore[arg-type]
    best, least, seen = joint, float(validate(joint)), []
    for at in range(recipe.outer_steps):
        joint, memory = outer(joint, memory, jnp.asarray(at))
        if (at + 1) % recipe.every == 0 or at + 1 == recipe.outer_steps:
            seen.append(float(validate(joint)))
            if seen[-1] < least:
                best, least = joint, seen[-1]
            report(at + 1, recipe.outer_steps, f"validation {least:.4f}")
    return Trained(best, least, np.array(seen))


def _mean_objective(joint: Joint, *, task: Task, problems: Problem, num_steps: int) -> Float[Array, ""]:
    return jnp.mean(objectives(joint, task, problems, num_steps))
