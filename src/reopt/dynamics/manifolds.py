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

from reopt.dynamics.autonomous import FreeSystem
from reopt.dynamics.batches import pad, padded
from reopt.dynamics.identity import ROUNDING, Located, gaps, noise

STEPS, STRIDE, CORRECTIONS = 64, 8, 8  # of a walk; a step is at most the distance / STRIDE
KERNEL = 1e-7  # singular values below this share of the largest are the kernel, along a walk


@eqx.filter_jit
def _walk(system: FreeSystem, starts: Array, goals: Array, gradient: Array) -> tuple[Array, Array]:
    """(end, largest residual on the way) of each walk."""

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
            for _ in range(CORRECTIONS):  # back on the continuum, by the Jacobian of the step's start
                gap = left.T @ (state - system.step(state, gradient))
                state = state - right.T @ jnp.where(kernel, 0, gap / jnp.where(kernel, 1, values))
            return state, jnp.maximum(worst, jnp.linalg.norm(state - system.step(state, gradient)))

        state, worst = jax.lax.fori_loop(0, STEPS, step, (start, jnp.zeros(())))
        return state, worst

    return jax.vmap(one)(starts, goals)


def continua(
    system: FreeSystem, located: list[Located], gradient: float, *, tolerance: float
) -> Int[np.ndarray, " point"]:
    """The number of the continuum on which each of the (singular) points lies; inside `double_precision`.

    Walks are tried along the shortest edges that join all points. A walk fails if it does not end at its goal, to what
    rounding makes of that across the kernel, or leaves the fixed points (residual above 100 `tolerance`).
    """
    count = len(located)
    if count < 2:
        return np.zeros(count, np.int64)
    points = np.array([point.state for point in located])
    distances = cdist(points, points)
    # A distance of 0 is no edge.
    tree = minimum_spanning_tree(np.where(distances > 0, distances, np.finfo(float).tiny)).tocoo()
    size = padded(len(tree.row), factor=2)
    starts, goals = points[tree.row], points[tree.col]
    walked = _walk(system, jnp.asarray(pad(starts, size)), jnp.asarray(pad(goals, size)), jnp.asarray(gradient))
    ends, worst = (np.asarray(part)[: len(goals)] for part in walked)
    left = np.abs(ends - goals)
    allowed = np.array([_across(system, located[i], gradient) for i in tree.col])
    passed = (left <= allowed).all(axis=1) & (worst <= 100 * tolerance * max(1.0, float(abs(points).max())))
    joined = np.eye(count, dtype=bool)
    joined[tree.row[passed], tree.col[passed]] = True
    return connected_components(joined, directed=False)[1].astype(np.int64)


def _across(system: FreeSystem, point: Located, gradient: float) -> Float[np.ndarray, " free"]:
    """How far the point may be off its continuum in each component."""
    inverse = np.abs(np.linalg.pinv(point.matrix, rcond=KERNEL))
    gap = np.abs(gaps(system, point.state[None], np.array([gradient])))[0]
    return 16 * (inverse @ (gap + noise(point.state, point.matrix)) + ROUNDING * (1 + np.abs(point.state)))
