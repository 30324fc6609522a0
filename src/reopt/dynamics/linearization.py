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

from reopt.core.errors import ReoptError
from reopt.dynamics.autonomous import CLOCK, TINY, FreeSystem, beside_zero
from reopt.dynamics.batches import argument
from reopt.dynamics.fixed_points import FixedPoints, attractor
from reopt.dynamics.precision import double_precision, to_double
from reopt.dynamics.stability import is_stable
from reopt.optimizers.base import Optimizer

FURTHER = 1e6  # times as far from a zero: what has a limit there does not change
SAME = 1e-3


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
    if not len(found.points) or is_stable(found).any():
        return attractor(found)
    return found.points[np.argmin(found.spectral_radius)]


def linearize(
    optimizer: Optimizer, point: Float[np.ndarray, " hidden"], gradient: float = 0.0, *, clock: float = CLOCK
) -> Linearization:
    """Linearize at `point`, with a clock held at `clock`.

    Where a derivative is not finite, it is taken slightly beside those components that are exactly 0: the limit from
    there.

    **Raises** `ReoptError` where it is not finite there either, or follows the distance: the optimizer has no
    linearization.
    """
    point = np.asarray(point, np.float64)
    with double_precision():
        system = FreeSystem(to_double(optimizer), clock)
        at = system.restrict(point)
        near = beside_zero(system, at[None], np.array([float(gradient)]))[0]
        parts = _parts(system, near, float(gradient))
        if not all(np.isfinite(part).all() for part in parts):  # a readout that takes the root of a 0
            parts = _parts(system, np.where(near == 0, TINY, near), float(gradient))
        whole = system.embed(at)
        limit = (near == at).all() or _has_limit(system, np.where(near == at, near, FURTHER * near), gradient, parts)
    if not limit or not all(np.isfinite(part).all() for part in parts):
        raise ReoptError(
            f"the optimizer has no finite derivatives at the point with gradient {gradient:g}: it cannot be "
            "linearized there"
        )
    free, size = np.array(system.free, int), optimizer.state_size
    full, inward, outward = np.zeros((size, size)), np.zeros(size), np.zeros(size)
    full[np.ix_(free, free)], inward[free], outward[free] = parts[:3]
    held = np.array([] if optimizer.clock is None else [optimizer.clock], int)
    return Linearization(whole, full, inward, outward, parts[3], parts[4], np.asarray(float(gradient)), held)


def refuse_other_linearization(found: Linearization, optimizer: Optimizer, where: object) -> None:
    """See that a linearization read from `where` is one of `optimizer`: linearized anew at the same point, it has the
    same derivatives to 1e-4 of the largest. With a clock, whose value is not stored, nothing is compared.

    **Raises** `ReoptError`.
    """
    if optimizer.clock is not None:
        return
    again = linearize(optimizer, found.point, float(found.gradient))
    for name in ("jacobian", "input", "readout", "direct", "offset"):
        made, stored = getattr(again, name), getattr(found, name)
        if not np.allclose(made, stored, rtol=1e-4, atol=1e-4 * np.max(np.abs(made), initial=0.0)):
            raise ReoptError(
                f"{where}: the {name} of the stored linearization is not that of this optimizer at the same point: "
                "it is damaged, or of another optimizer"
            )


def _parts(system: FreeSystem, at: Float[np.ndarray, " free"], gradient: float) -> list[np.ndarray]:
    return [np.asarray(a, np.float64) for a in _derivatives(system, argument(at), jnp.asarray(gradient))]


def _has_limit(system: FreeSystem, further: np.ndarray, gradient: float, parts: list[np.ndarray]) -> bool:
    """Whether the response at once, C B + D, is the same a little further from the zeros."""
    other = _derivatives(system, argument(further), jnp.asarray(float(gradient)))
    one, also = (float(np.asarray(p[2]) @ np.asarray(p[1]) + np.asarray(p[3])) for p in (parts, other))
    return abs(also - one) <= SAME * abs(one)


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
