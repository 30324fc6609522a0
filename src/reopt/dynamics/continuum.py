"""Lines and planes of fixed points: which of the points found lie on one continuum.

Where I - J has a kernel, a fixed point may be one of a continuum. Two such points are on the same one if a walk from
one to the other stays on fixed points: each step goes along the kernel towards the goal, then a least-norm Newton
step leads back.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from scipy.spatial.distance import cdist

from reopt.dynamics.free_system import FreeSystem

STEPS, STRIDE = 64, 8  # of a walk; a step is at most the distance / STRIDE
KERNEL = 1e-7  # singular values below this share of the largest are the kernel, along a walk


@eqx.filter_jit
def _walk(system: FreeSystem, starts: Array, goals: Array, gradient: Array) -> tuple[Array, Array]:
    """(distance to the goal at the end, largest residual on the way) of each walk."""

    def one(start, goal):
        longest = jnp.linalg.norm(goal - start) / STRIDE

        def step(_, carry):
            state, worst = carry
            matrix = jnp.eye(state.size) - jax.jacfwd(lambda h: system.step(h, gradient))(state)
            left, values, right = jnp.linalg.svd(matrix)
            kernel = values <= KERNEL * jnp.maximum(1, values[0])
            along = right.T @ (kernel * (right @ (goal - state)))
            length = jnp.linalg.norm(along)
            state = state + along * jnp.minimum(1, longest / jnp.where(length > 0, length, 1))
            for _ in range(3):  # back on the continuum, by the Jacobian of the step's start
                gap = left.T @ (state - system.step(state, gradient))
                state = state - right.T @ jnp.where(kernel, 0, gap / jnp.where(kernel, 1, values))
            return state, jnp.maximum(worst, jnp.linalg.norm(state - system.step(state, gradient)))

        state, worst = jax.lax.fori_loop(0, STEPS, step, (start, jnp.zeros(())))
        return jnp.linalg.norm(goal - state), worst

    return jax.vmap(one)(starts, goals)


def continua(
    system: FreeSystem, points: Float[np.ndarray, "point free"], gradient: float, *, radius: float, tolerance: float
) -> Int[np.ndarray, " point"]:
    """The number of the continuum on which each of the (singular) points lies; inside `double_precision`.

    Walks are tried along the shortest edges that join all points. A walk fails if it does not end within `radius` of
    its goal, or leaves the fixed points (residual above 100 `tolerance`).
    """
    count = len(points)
    if count < 2:
        return np.zeros(count, np.int64)
    distances = cdist(points, points)
    tree = minimum_spanning_tree(distances).tocoo()
    size = 8
    while size < len(tree.row):
        size *= 8
    pad = np.arange(size) % len(tree.row)
    starts, goals = points[tree.row], points[tree.col]
    left, worst = _walk(system, jnp.asarray(starts[pad]), jnp.asarray(goals[pad]), jnp.asarray(gradient))
    passed = (np.asarray(left) <= radius) & (np.asarray(worst) <= 100 * tolerance * max(1.0, float(abs(points).max())))
    passed = passed[: len(tree.row)]
    joined = np.eye(count, dtype=bool)
    joined[tree.row[passed], tree.col[passed]] = True
    return connected_components(joined, directed=False)[1].astype(np.int64)
