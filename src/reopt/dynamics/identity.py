"""Which computed fixed points are one: those that the errors of their positions do not tell apart.

All in the units of the system given (see `scaled_system`), component by component; inside `double_precision`.
"""

from typing import NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Array, Bool, Float

from reopt.dynamics.autonomous import FreeSystem, jacobians_at
from reopt.dynamics.batches import argument, pad, padded
from reopt.dynamics.stability import Stability, equilibrate, judge

ROUNDING = 16 * np.finfo(float).eps  # of F, relative to what goes into a component
STEPS = 60  # of a test whether a state leads to a known point
PROBES = 4
FAR = 1e-3  # relative distance at which the change of J is looked at at most


class Located(NamedTuple):
    """A point, the inverse of I - J there (None: singular), and how far in each component the true point may be."""

    state: Float[np.ndarray, " free"]
    matrix: Float[np.ndarray, "free free"]  # I - J
    inverse: Float[np.ndarray, "free free"] | None
    error: Float[np.ndarray, " free"]


def locate(
    system: FreeSystem,
    points: Float[np.ndarray, "point free"],
    jacobian: Float[np.ndarray, "point free free"],
    gradients: Float[np.ndarray, " point"],
) -> tuple[list[Located], Stability]:
    """Twice the Newton step from each point, |(I - J)^-1| (|h - F(h)| + rounding): in regular points the distance to a
    true one, by the Newton-Kantorovich theorem; infinite where I - J is singular. And what that leaves of J."""
    found = []
    for point, jac, gap in zip(points, jacobian, np.abs(gaps(system, points, gradients)), strict=True):
        matrix = np.eye(len(point)) - jac
        inverse = scaled_inverse(matrix)
        step = np.inf if inverse is None else np.abs(inverse) @ (gap + noise(point, matrix))
        found.append(Located(point, matrix, inverse, np.full(len(point), 2.0) * step))
    judged = judge(jacobian, _change_within_error(system, found, jacobian, gradients))
    nowhere = np.full(system.size, np.inf)
    return [
        point._replace(inverse=None, error=nowhere) if kernel else point
        for point, kernel in zip(found, judged.kernel, strict=True)
    ], judged


def noise(point: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The rounding of F in each component, from what goes into it (1 stands for constants, in these units)."""
    return ROUNDING * (np.eye(len(point)) + np.abs(np.eye(len(point)) - matrix)) @ (1 + np.abs(point))


def scaled_inverse(matrix: Float[np.ndarray, "free free"]) -> Float[np.ndarray, "free free"] | None:
    """The inverse by way of the matrix with rows and columns of like size; None if there is none."""
    sizes = np.abs(matrix)
    rows, columns = equilibrate(np.where(sizes > 0, sizes, np.finfo(float).tiny))
    try:
        inverse = columns[:, None] * np.linalg.inv(rows[:, None] * matrix * columns) * rows
    except np.linalg.LinAlgError:
        return None
    return inverse if np.isfinite(inverse).all() else None


def _change_within_error(
    system: FreeSystem,
    located: list[Located],
    jacobian: Float[np.ndarray, "point free free"],
    gradients: Float[np.ndarray, " point"],
) -> Float[np.ndarray, "point free free"]:
    """How much each entry of J may change within the errors of the points: the largest of PROBES looks at random
    corners of the box of the errors (of one of FAR, if that is smaller)."""
    corners = np.random.default_rng(0).choice([-1.0, 1.0], (PROBES, system.size))
    changes = np.zeros_like(jacobian)
    for i, (point, matrix) in enumerate(zip(located, jacobian, strict=True)):
        size = 1 + np.abs(point.state)
        reach = np.clip(point.error, 1e-6 * size, FAR * size)
        states = point.state + corners * reach
        around = jacobians_at(system, states, np.full(PROBES, gradients[i]))
        within = min(1.0, float(np.max(point.error / reach)))
        changes[i] = within * np.abs(np.where(np.isfinite(around), around, matrix) - matrix).max(axis=0)
    return changes


@eqx.filter_jit
def _gap(system: FreeSystem, states: Array, gradients: Array) -> Array:
    return states - system.step(states, gradients)


def gaps(system: FreeSystem, states: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """h - F(h, g) of each row."""
    if not len(states):
        return np.zeros_like(states)
    size = padded(len(states))
    return np.asarray(_gap(system, *(argument(pad(rows, size)) for rows in (states, gradients))))[: len(states)]


def lead_to(
    system: FreeSystem, states: Float[np.ndarray, "row free"], gradients: Float[np.ndarray, " row"], point: Located
) -> Bool[np.ndarray, " row"]:
    """Which of the states are `point` to rounding, or led there by Newton steps with its inverse, of which each at
    least halves the largest distance in units of the error of the point. A state at another fixed point stays there.

    Where I - J is singular, those that are fixed and differ by a vector of its kernel, to rounding.
    """
    if not len(states):
        return np.zeros(0, bool)
    if point.inverse is None:
        apart = np.abs((states - point.state) @ point.matrix.T)
        return np.all(apart <= 4 * noise(point.state, point.matrix) + np.abs(gaps(system, states, gradients)), axis=1)
    apart = _apart(states, point)
    running = apart > 1
    for _ in range(STEPS):
        if not running.any():
            break
        after = states - gaps(system, states, gradients) @ point.inverse.T
        nearer = _apart(after, point)
        running &= nearer <= 0.5 * apart
        states, apart = np.where(running[:, None], after, states), np.where(running, nearer, apart)
        running &= apart > 1
    return apart <= 1


def _apart(states: np.ndarray, point: Located) -> np.ndarray:
    """Largest distance to the point, in units of twice its error."""
    return (np.abs(states - point.state) / (2 * point.error)).max(axis=-1, initial=0)


def overlap(first: Located, second: Located) -> bool:
    """Whether the errors of two points overlap in every component; what is singular has no error of its own."""
    errors = [np.where(np.isfinite(point.error), point.error, 0.0) for point in (first, second)]
    return bool((np.abs(first.state - second.state) <= errors[0] + errors[1]).all())
