"""The loss around an optimizer's path on one problem: a plane of the parameter space, and the path on it.

The plane goes through the start and the end of the path, so that the loss under both is their own, and along the
principal direction of what the path does beside that line. So any task has one; where a problem has two parameters, it
is their own plane, wide enough for the starts of other problems as well.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float

from reopt.evaluation.evaluate import problem_batches
from reopt.evaluation.unroll import advance, start
from reopt.optimizers.base import Optimizer
from reopt.tasks.base import Problem, Task

BATCHES = 16  # steps, evenly spread over the run, whose minibatches the loss is averaged over
STARTS = 256
MARGIN = 0.15  # beyond the path (and the starts), in their reach
LEAST_REACH = 0.05  # of the shorter side of the plane, in the longer one's


class Landscape(NamedTuple):
    """The loss on a plane and a path on it."""

    grid: pd.DataFrame  # u, v, loss: the last varies as v within u
    path: pd.DataFrame  # step, u, v, distance (from the plane), loss (at the path's point, not at its projection)


def landscape(optimizer: Optimizer, task: Task, seed: int, num_steps: int, grid: int = 41) -> Landscape:
    """The loss of evaluation problem 0 of `seed` on the plane of the path that `optimizer` takes in `num_steps` steps.

    `u` is the coordinate from the start towards the end, `v` that across; of two parameters they are the
    parameters. The loss is the mean over the minibatches of `BATCHES` steps. A path that leaves the numbers ends there.
    """
    problems = next(problem_batches(task, seed=seed, count=1))
    problem = jax.tree.map(lambda part: part[0], problems)
    path = _path(optimizer, task, problems, num_steps)
    path = path[: int(np.argmin(np.append(np.isfinite(path).all(axis=1), False)))]
    if task.num_params == 2:
        origin, directions = np.zeros(2), np.eye(2)
        others = np.concatenate([np.asarray(jax.vmap(task.initial_params)(b)) for b in _starts(task, seed)])
    else:
        origin, others = path[0], path[:1]
        directions = _leading(path)
    points = (path - origin) @ directions.T
    reach = np.concatenate([points, (others - origin) @ directions.T])
    u, v = (np.linspace(low, high, grid) for low, high in _sides(reach))
    across = np.repeat(u, grid), np.tile(v, grid)
    steps = np.unique(np.linspace(0, num_steps - 1, BATCHES).astype(int))

    @jax.jit
    def losses(params: Float[Array, "point param"]) -> Float[Array, " point"]:
        def one(x: Array) -> Array:
            return jnp.mean(jax.vmap(lambda step: task.loss(problem, x, step))(jnp.asarray(steps)))

        return jax.lax.map(one, params)

    def at(params: np.ndarray) -> np.ndarray:
        return np.asarray(losses(jnp.asarray(params, jnp.float32)), np.float64)

    on_plane = origin + np.stack(across, axis=1) @ directions
    distance = np.linalg.norm(path - origin - points @ directions, axis=1)
    return Landscape(
        pd.DataFrame({"u": across[0], "v": across[1], "loss": at(on_plane)}),
        pd.DataFrame(
            {"step": np.arange(len(path)), "u": points[:, 0], "v": points[:, 1], "distance": distance, "loss": at(path)}
        ),
    )


def _starts(task: Task, seed: int):
    return problem_batches(task, seed=seed, count=STARTS)


def _path(optimizer: Optimizer, task: Task, problems: Problem, num_steps: int) -> Float[np.ndarray, "step param"]:
    """Parameters before each step of the only problem, and after the last."""

    @jax.jit
    def run(problems: Problem) -> tuple[Array, Array]:
        def body(carry, step):
            return advance(optimizer, task, problems, carry, step)[0], carry[0][0]

        (last, _), params = jax.lax.scan(body, start(optimizer, task, problems), jnp.arange(num_steps))
        return params, last

    params, last = run(problems)
    return np.concatenate([np.asarray(params), np.asarray(last)]).astype(np.float64)


def _leading(path: Float[np.ndarray, "step param"]) -> Float[np.ndarray, "2 param"]:
    """The direction from start to end, and the principal one of the path across it, on whose side most of it lies."""
    directions = np.zeros((2, path.shape[1]))
    moved = path - path[0]
    length = np.linalg.norm(moved[-1])
    if length > 0:
        directions[0] = moved[-1] / length
    across = moved - np.outer(moved @ directions[0], directions[0])
    found = np.linalg.svd(across, full_matrices=False)[2][0]
    found -= (found @ directions[0]) * directions[0]
    directions[1] = found / max(np.linalg.norm(found), np.finfo(float).tiny)
    directions[1] *= -1.0 if (across @ directions[1]).sum() < 0 else 1.0
    return directions


def _sides(points: Float[np.ndarray, "point 2"]) -> list[tuple[float, float]]:
    """Low and high end of each side of the plane."""
    low, high = points.min(axis=0), points.max(axis=0)
    reach = np.maximum(high - low, LEAST_REACH * np.max(high - low)) + 1e-12
    middle, half = (low + high) / 2, (0.5 + MARGIN) * reach
    return list(zip(middle - half, middle + half, strict=True))
