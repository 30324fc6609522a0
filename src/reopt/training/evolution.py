"""Meta-gradients by evolution strategies: of optimizers of any kind, through whole unrolls that need no derivative.

Each problem runs twice, with the weights moved by +e and by -e, e ~ N(0, deviation^2 I) drawn for it, and

    gradient = mean over problems of  e (m+ - m-) / (2 deviation^2)

is, in expectation, that of the meta-objective smoothed by the deviation (Salimans et al. 2017; antithetic pairs as in
Vicol, Metz and Sohl-Dickstein 2021). With `sign`, the sign of m+ - m- takes its place, as in the training of VeLO (Metz
et al. 2022, arXiv 2211.09760), whose m is the last loss; here it is the mean.
"""

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

from reopt.core.errors import ReoptError
from reopt.core.limits import CEILING
from reopt.evaluation.unroll import Run, batch_value_and_grad
from reopt.optimizers.joint import VALIDATED, Joint, layout_of, run_joint
from reopt.tasks.base import Problem, Task


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


def objectives(
    joint: Joint, task: Task, problems: Problem, num_steps: int, *, held_out: bool = False
) -> Float[Array, " problem"]:
    """Mean loss over initial loss of each problem; what diverges, or is above it, counts as `CEILING`.

    With `held_out` it is the loss on the task's held-out data, at every `VALIDATED`-th step. Losses are taken to be
    above 0. **Raises** `ReoptError` where the task has none.
    """
    if held_out:
        losses = _held_out_losses(joint, task, problems, num_steps)
    else:
        losses = unroll_joint(joint, task, problems, num_steps).losses
    value = jnp.mean(losses, axis=0) / losses[0]
    return jnp.minimum(jnp.nan_to_num(value, nan=CEILING, posinf=CEILING, neginf=CEILING), CEILING)


def _held_out_losses(joint: Joint, task: Task, problems: Problem, num_steps: int) -> Float[Array, "look problem"]:
    validation = getattr(task, "validation", None)
    if validation is None:
        raise ReoptError(f"{type(task).__name__} has no held-out data")

    def validate(params: Array) -> Array:
        return jax.vmap(validation)(problems, params)

    run = run_joint(
        joint,
        layout_of(task),
        jax.vmap(task.initial_params)(problems),
        lambda params, step: batch_value_and_grad(task, problems, params, step),
        num_steps,
        keep=True,
        validate=validate if joint.sees_validation else None,
    )
    return jax.lax.map(validate, run.params[::VALIDATED])  # type: ignore[index]


def estimate(
    joint: Joint,
    task: Task,
    key: PRNGKeyArray,
    *,
    problems: int,
    num_steps: int,
    deviation: float,
    sign: bool = False,
    held_out: bool = False,
) -> tuple[Float[Array, " problem"], Joint]:
    """Objectives of fresh problems, a mean over each pair, and the estimate of the gradient of their mean."""
    key_draws, key_noise = jax.random.split(key)
    batch = task.sample_batch(key_draws, problems)
    flat, unravel = ravel_pytree(joint)
    noise = jax.random.normal(key_noise, (problems, flat.size), flat.dtype)

    def one(direction: Array, noise: Array, problem: Problem) -> Array:
        moved = unravel(flat + direction * deviation * noise)
        alone = jax.tree.map(lambda leaf: leaf[None], problem)
        return objectives(moved, task, alone, num_steps, held_out=held_out)[0]

    pair = jax.vmap(jax.vmap(one, (None, 0, 0)), (0, None, None))
    found = pair(jnp.asarray([1.0, -1.0], flat.dtype), noise, batch)
    difference = found[0] - found[1]
    slope = jnp.sign(difference) if sign else difference / (2 * deviation)
    return jnp.mean(found, axis=0), unravel(jnp.mean(slope[:, None] * noise, axis=0).astype(flat.dtype))
