"""Linearization of an optimizer at a point (arXiv 2011.02159, section 4):

    dh' = J dh + B dg,    dx = r(h*, g*) + C dh' + D dg
    J = dF/dh,  B = dF/dg,  C = dr/dh',  D = dr/dg (directly, the new state held)

all at (h*, g*) and in float64. A clock is held (see `free_system`): its row and column of J are zero.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from reopt.dynamics.fixed_points import FixedPoints, attractor
from reopt.dynamics.free_system import CLOCK, FreeSystem, beside_zero
from reopt.dynamics.precision import double_precision, to_double
from reopt.errors import ReoptError
from reopt.optimizers.base import Optimizer


class Linearization(NamedTuple):
    """J, B, C, D and the update at rest, at `point` under the constant `gradient`."""

    point: Float[np.ndarray, " hidden"]
    jacobian: Float[np.ndarray, "hidden hidden"]  # [i, j]: dF_i / dh_j
    input: Float[np.ndarray, " hidden"]
    readout: Float[np.ndarray, " hidden"]
    direct: Float[np.ndarray, ""]
    offset: Float[np.ndarray, ""]  # update at the point
    gradient: Float[np.ndarray, ""]
    held: Int[np.ndarray, " held"]  # index of the clock, if there is one


def operating_point(found: FixedPoints) -> Float[np.ndarray, " hidden"]:
    """Where to linearize: the attractor or, where no point is stable, the one with the least spectral radius.

    An optimizer without a stable point may circle around an unstable one. **Raises** `ReoptError` where there is no
    point at all.
    """
    if not len(found.points) or (found.spectral_radius < 1).any():
        return attractor(found)
    return found.points[np.argmin(found.spectral_radius)]


def linearize(
    optimizer: Optimizer, point: Float[np.ndarray, " hidden"], gradient: float = 0.0, *, clock: float = CLOCK
) -> Linearization:
    """Linearize at `point`, with a clock held at `clock`.

    Where a derivative is not finite, it is taken a hair beside those components that are exactly 0.

    **Raises** `ReoptError` where it is not finite there either: the optimizer has no linearization.
    """
    point = np.asarray(point, np.float64)
    with double_precision():
        system = FreeSystem(to_double(optimizer), clock)
        at = system.restrict(point)
        near = beside_zero(system, at[None], np.array([float(gradient)]))[0]
        parts = [
            np.asarray(a, np.float64) for a in _derivatives(system, jnp.asarray(near), jnp.asarray(float(gradient)))
        ]
        whole = system.embed(at)
    if not all(np.isfinite(part).all() for part in parts):
        raise ReoptError(
            f"the optimizer has no finite derivatives at the point with gradient {gradient:g}: it cannot be "
            "linearized there"
        )
    free, size = np.array(system.free, int), optimizer.state_size
    full, inward, outward = np.zeros((size, size)), np.zeros(size), np.zeros(size)
    full[np.ix_(free, free)], inward[free], outward[free] = parts[:3]
    held = np.array([] if optimizer.clock is None else [optimizer.clock], int)
    return Linearization(whole, full, inward, outward, parts[3], parts[4], np.asarray(float(gradient)), held)


@eqx.filter_jit
def _derivatives(system: FreeSystem, at: Float[Array, " free"], gradient: Float[Array, ""]) -> tuple[Array, ...]:
    """J, B, C, D and the update, on the free components."""
    free = jnp.asarray(system.free, int)

    def read(state: Array, slope: Array) -> Array:
        # The clock that a readout sees is the one that F made of the held clock.
        after = system.optimizer.update(system.whole(at), gradient)
        return system.optimizer.readout(after.at[free].set(state), slope)

    def step(state: Array, slope: Array) -> Array:
        return system.step(state, slope)

    state = step(at, gradient)
    jacobian, drive = jax.jacfwd(step, argnums=(0, 1))(at, gradient)
    readout, direct = jax.jacrev(read, argnums=(0, 1))(state, gradient)
    return jacobian, drive, readout, direct, read(state, gradient)


class LinearizedOptimizer(Optimizer):
    """The linear optimizer  dh' = J dh + B g,  dx = offset + C dh' + D g,  which starts at rest, dh = 0."""

    jacobian: Float[Array, "hidden hidden"]
    input: Float[Array, " hidden"]
    weight: Float[Array, " hidden"]
    direct: Float[Array, ""]
    offset: Float[Array, ""]

    @property
    def state_names(self) -> tuple[str, ...]:
        return tuple(f"dh{i}" for i in range(self.input.shape[0]))

    def initial_state(self) -> Array:
        return jnp.zeros_like(self.input)

    def update(self, state: Array, gradient: Array) -> Array:
        # Accelerators would round the inputs of a matmul.
        moved = jnp.matmul(state, self.jacobian.T, precision=jax.lax.Precision.HIGHEST)
        return moved + gradient[..., None] * self.input

    def readout(self, state: Array, gradient: Array) -> Array:
        return self.offset + jnp.sum(state * self.weight, axis=-1) + self.direct * gradient


def linearized_optimizer(linearization: Linearization) -> LinearizedOptimizer:
    """The linear optimizer of a linearization at g* = 0, in jax's default precision at the time of the call.

    **Raises** `ReoptError` for a linearization under another gradient.
    """
    if linearization.gradient != 0:
        raise ReoptError(
            f"only a linearization at gradient 0 is an optimizer of its own, not one at {linearization.gradient:g}"
        )
    names = ("jacobian", "input", "readout", "direct", "offset")
    return LinearizedOptimizer(*(jnp.asarray(getattr(linearization, name), jnp.result_type(float)) for name in names))
