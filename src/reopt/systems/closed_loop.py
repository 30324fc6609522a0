"""An optimizer whose update also depends on the parameter's value, and a curvature, as one linear system.

`reopt.dynamics.closed_loop` with a slope in x: of dh' = J dh + B dg + G dx and a change C dh' + D dg + E dx of x,

    M(lambda) = [[1 + E + C (lambda B + G) + lambda D,  C J],
                 [lambda B + G,                         J]]

on f(x) = lambda (x - x*)^2 / 2. A weight decay w has E = -w, so that the heavy ball has its edge at
(2 - w) (1 + beta) / rate in place of 2 (1 + beta) / rate. An optimizer here has a field `value`, as
`reopt.systems.slices.ExactSlice` has.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from reopt.core.errors import ReoptError
from reopt.dynamics import closed_loop as without
from reopt.dynamics.autonomous import CLOCK
from reopt.dynamics.linearization import Linearization, linearize
from reopt.dynamics.precision import double_precision, to_double
from reopt.optimizers.base import Optimizer

GROWTH = without.GROWTH
DECADES = (-9, 9)  # of curvatures that are looked at, around one over the size of the answer to a gradient
BISECTIONS = 60


class ValueLinearization(NamedTuple):
    """`linear` at a state, gradient and value; `drive` G = dF/dx and `direct` E = dr/dx, h' held."""

    linear: Linearization
    drive: Float[np.ndarray, " hidden"]
    direct: float


class StableCurvatures(NamedTuple):
    """Where |eigenvalues| < 1: from `low` (0 where it is stable without any curvature) to `high`; inf without an end.

    `best` is the curvature of the grid at which the spectral radius is least, and `radius` that radius.
    """

    low: float
    high: float
    best: float
    radius: float


def linearize_with_value(
    optimizer: Optimizer, point: Float[np.ndarray, " hidden"], gradient: float, *, clock: float = CLOCK
) -> ValueLinearization:
    """The linearization at a state, a gradient and the value that the optimizer has.

    **Raises** `ReoptError` where it has no `value`, no finite derivative by it, or no linearization.
    """
    if getattr(optimizer, "value", None) is None:
        raise ReoptError(f"{type(optimizer).__name__} has no value of its parameter: take an exact slice")
    linear = linearize(optimizer, point, gradient, clock=clock)
    with double_precision():
        drive, direct = _by_value(to_double(optimizer), jnp.asarray(linear.point), jnp.asarray(float(gradient)))
        found = ValueLinearization(linear, np.asarray(drive), float(direct))
    if not (np.isfinite(found.drive).all() and np.isfinite(found.direct)):
        raise ReoptError("the update has no finite derivative by the parameter's value at this point")
    return found


@eqx.filter_jit
def _by_value(optimizer: Optimizer, state: Array, gradient: Array) -> tuple[Array, Array]:
    def at(value: Array) -> Optimizer:
        return eqx.tree_at(lambda one: one.value, optimizer, value)

    value = optimizer.value  # type: ignore[attr-defined]
    after = optimizer.update(state, gradient)
    return (
        jax.jacfwd(lambda x: at(x).update(state, gradient))(value),
        jax.jacfwd(lambda x: at(x).readout(after, gradient))(value),
    )


def closed_loop(found: ValueLinearization, curvature: float) -> Float[np.ndarray, "size size"]:
    """M(lambda), the error in x first."""
    matrix = without.closed_loop(found.linear, curvature)
    free = np.setdiff1d(np.arange(len(found.drive)), found.linear.held)
    matrix[0, 0] += found.direct + found.linear.readout[free] @ found.drive[free]
    matrix[1:, 0] += found.drive[free]
    return matrix


def radius(found: ValueLinearization, curvature: float) -> float:
    """The spectral radius of M(lambda)."""
    return float(np.abs(np.linalg.eigvals(closed_loop(found, curvature))).max())


def stable_curvatures(found: ValueLinearization) -> StableCurvatures:
    """The lowest interval of curvatures in which x and state go to rest, to rounding at both ends.

    **Raises** `ReoptError` where the update has no slope in the gradient, or no curvature that is looked at is stable.
    """
    _, drive, readout, direct = without.free_parts(found.linear)
    answer = abs(float(readout @ drive + direct))
    if answer == 0:
        raise ReoptError("the update has no slope in the gradient")
    count = int(np.ceil((DECADES[1] - DECADES[0]) * np.log(10) / np.log(GROWTH)))
    grid = np.append(0.0, 10.0 ** DECADES[0] * GROWTH ** np.arange(count + 1) / answer)
    radii = np.array([radius(found, curvature) for curvature in grid])
    stable = radii < 1
    if not stable.any():
        raise ReoptError("it is stable at no curvature")
    first = int(np.argmax(stable))
    beyond = first + int(np.argmin(stable[first:])) if not stable[first:].all() else None
    low = 0.0 if first == 0 else _edge(found, grid[first], grid[first - 1])
    high = np.inf if beyond is None else _edge(found, grid[beyond - 1], grid[beyond])
    best = first + int(np.argmin(radii[first:beyond]))
    return StableCurvatures(low, high, float(grid[best]), float(radii[best]))


def _edge(found: ValueLinearization, inside: float, outside: float) -> float:
    for _ in range(BISECTIONS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if radius(found, middle) < 1 else (inside, middle)
    return inside
