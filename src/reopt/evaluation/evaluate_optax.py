"""Judging an optax transformation as it is, on parameters in the arrays of the task's network: what couples parameters,
acts by the shapes or names of arrays, or looks at their values (weight decay), has no other true runs.

The arrays are `layer_0/weight`, `layer_0/bias`, `layer_1/weight`, ... of a task with `shapes`, and one vector,
`params`, of any other.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from reopt.evaluation.evaluate import Evaluation, judge
from reopt.evaluation.unroll import Run, batch_value_and_grad
from reopt.optimizers.layouts import dependence, words_in
from reopt.optimizers.optax_steps import needs_more, refuse_odd_steps
from reopt.optimizers.refusals import BY_NAME, NotComponentWise
from reopt.tasks.base import Problem, Task

PARTS = ("weight", "bias")
TRIED = 3  # steps by which it is told whether names are known
SAME = 1e-6  # relative difference of updates that are the same


def names_of(task: Task) -> list[tuple[str, ...]]:
    """The path of each array of the parameters, in the order in which they lie in the vector."""
    shapes = getattr(task, "shapes", None)
    if shapes is None:
        return [("params",)]
    if len(shapes) % 2 == 0 and all(len(bias) == 1 for bias in shapes[1::2]):
        return [(f"layer_{number}", part) for number in range(len(shapes) // 2) for part in PARTS]
    return [(f"array_{number}",) for number in range(len(shapes))]


def arrays_of(task: Task, params: jax.Array) -> dict[str, Any]:
    """The parameter vector as the task's arrays, by layer and part."""
    found: dict[str, Any] = {}
    first = 0
    for path, shape in zip(names_of(task), getattr(task, "shapes", [(task.num_params,)]), strict=True):
        size = int(np.prod(shape))
        inner = found
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
        inner[path[-1]] = params[first : first + size].reshape(shape)
        first += size
    return found


def vector_of(task: Task, arrays: dict[str, Any]) -> jax.Array:
    """The task's arrays as the parameter vector."""
    found = []
    for path in names_of(task):
        inner: Any = arrays
        for name in path:
            inner = inner[name]
        found.append(jnp.ravel(inner))
    return jnp.concatenate(found)


def unroll_optax(transformation: Any, task: Task, problems: Problem, num_steps: int) -> Run:
    """Run the transformation for `num_steps` steps on each problem of the batch, on the task's arrays."""

    def of_each(convert: Callable[[Task, Any], Any], value: Any) -> Any:
        return jax.vmap(lambda one: convert(task, one))(value)

    def body(carry: Any, step: jax.Array) -> tuple[Any, jax.Array]:
        params, state = carry
        losses, gradients = batch_value_and_grad(task, problems, of_each(vector_of, params), step)
        updates, state = jax.vmap(transformation.update)(of_each(arrays_of, gradients), state, params)
        return (optax.apply_updates(params, updates), state), losses

    params = of_each(arrays_of, jax.vmap(task.initial_params)(problems))
    start = (params, jax.vmap(transformation.init)(params))
    (arrays, _), losses = jax.lax.scan(body, start, jnp.arange(num_steps))
    final = of_each(vector_of, arrays)
    return Run(losses, jax.vmap(task.loss, (0, 0, None))(problems, final, jnp.asarray(num_steps)), losses[0], final)


def evaluate_optax(
    transformation: Any, task: Task, *, name: str, task_name: str, problems: int, seed: int, num_steps: int
) -> Evaluation:
    """As `reopt.evaluation.evaluate.evaluate`, on the same problems, for an optax transformation as it is.

    **Raises** `NotComponentWise` where it draws random numbers or needs more than gradients and parameters, or acts by
    names that no array of the task has.
    """
    refuse_odd_steps(transformation)
    try:
        found = dependence(transformation)
        unknown = found is not None and found.kind == BY_NAME and not _knows(transformation, task)
    except NotComponentWise:
        raise
    except Exception as error:  # whatever foreign code raises
        # Labels in the form of the task's own arrays fit no other ones, on which dependence is looked for.
        if not _takes(transformation, task):
            raise needs_more(transformation, error, words_in(transformation)) from error
        unknown = False
    if unknown:
        known = ", ".join("/".join(path) for path in names_of(task)[:4])
        raise NotComponentWise(
            BY_NAME,
            f"this optax transformation {BY_NAME}, and gives those of this task no other updates than any names: they "
            f"are {known}{', ...' if len(names_of(task)) > 4 else ''}; label these",
        )
    asked = {"name": name, "task_name": task_name, "problems": problems, "seed": seed, "num_steps": num_steps}
    return judge(unroll_optax, transformation, task, **asked)  # type: ignore[arg-type]


def _takes(transformation: Any, task: Task) -> bool:
    """Whether it takes steps on the task's arrays."""
    try:
        _steps(transformation, task, renamed=False)
    except Exception:  # whatever foreign code raises
        return False
    return True


def _knows(transformation: Any, task: Task) -> bool:
    """Whether the task's arrays have other updates under other names, or none. Raises what the transformation raises
    under their own."""
    own = _steps(transformation, task, renamed=False)
    try:
        other = _steps(transformation, task, renamed=True)
    except Exception:  # it looks for names that are not there
        return True
    return bool(np.abs(own - other).max() > SAME * np.abs(own).max())


def _steps(transformation: Any, task: Task, *, renamed: bool) -> np.ndarray:
    """A few updates on the task's arrays, under their names or others."""
    drawn = np.random.default_rng(0).normal(size=(TRIED + 1, task.num_params)).astype(np.float32)

    def form(values: np.ndarray) -> Any:
        arrays = arrays_of(task, jnp.asarray(values))
        return _renamed(arrays) if renamed else arrays

    params = form(drawn[0])
    state, steps = transformation.init(params), []
    for gradient in drawn[1:]:
        update, state = transformation.update(form(gradient), state, params)
        steps.append(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(update)]))
    return np.stack(steps)


def _renamed(arrays: dict[str, Any]) -> dict[str, Any]:
    """The same arrays, nested alike, in the same order, under names that say nothing."""
    return {
        f"x{number:03}": _renamed(value) if isinstance(value, dict) else value
        for number, (_, value) in enumerate(sorted(arrays.items()))
    }
