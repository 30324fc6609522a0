"""An optimizer as an autonomous system: its state under a constant gradient, the clock held.

A clock counts steps and has no fixed point. The free components (all others) can have one, so they are looked at
with the clock held at a value c:  F_c(h, g) = F((h, clock = c), g) without its clock. A readout still sees the clock
that F made of c (c + 1), as it would in a run.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from reopt.dynamics.batches import argument, filled
from reopt.optimizers.base import Optimizer

CLOCK = 1e6  # a clock's value long after the start, when bias corrections are over


class FreeSystem(eqx.Module):
    """The dynamics of an optimizer on its free components; use inside `double_precision`."""

    optimizer: Optimizer
    clock_value: float = CLOCK

    @property
    def free(self) -> tuple[int, ...]:
        """Indices of the free components in the whole state."""
        clock = self.optimizer.clock
        return tuple(i for i in range(self.optimizer.state_size) if i != clock)

    @property
    def size(self) -> int:
        """Number of free components."""
        return len(self.free)

    def restrict(self, states: np.ndarray) -> np.ndarray:
        """The free components of whole states, a float64 copy."""
        return np.array(np.asarray(states)[..., list(self.free)], np.float64)

    def embed(self, states: Float[np.ndarray, "*point free"]) -> Float[np.ndarray, "*point hidden"]:
        """Whole states, the clock at its held value."""
        states = np.asarray(states, np.float64)
        whole = np.full((*states.shape[:-1], self.optimizer.state_size), self.clock_value, np.float64)
        whole[..., list(self.free)] = states
        return whole

    def whole(self, state: Float[Array, "*point free"]) -> Float[Array, "*point hidden"]:
        """As `embed`, for traced arrays."""
        if self.optimizer.clock is None:
            return state
        at = self.optimizer.clock
        held = jnp.full((*state.shape[:-1], 1), self.clock_value, state.dtype)
        return jnp.concatenate([state[..., :at], held, state[..., at:]], axis=-1)

    def advance(self, state: Float[Array, "*point free"], gradient: Float[Array, "*point"]) -> tuple[Array, Array]:
        """One step: (free components of F(h, g), update)."""
        after = self.optimizer.update(self.whole(state), gradient)
        return self.drop_clock(after), self.optimizer.readout(after, gradient)

    def drop_clock(self, whole: Float[Array, "*point hidden"]) -> Float[Array, "*point free"]:
        """The free components of traced whole states."""
        if self.optimizer.clock is None:
            return whole
        at = self.optimizer.clock
        return jnp.concatenate([whole[..., :at], whole[..., at + 1 :]], axis=-1)

    def step(self, state: Float[Array, "*point free"], gradient: Float[Array, "*point"]) -> Array:
        """Free components of F(h, g)."""
        return self.drop_clock(self.optimizer.update(self.whole(state), gradient))


class ScaledSystem(FreeSystem):
    """The same dynamics with each free component in a unit of its own: u = h / units."""

    units: Array = eqx.field(kw_only=True)

    def restrict(self, states: np.ndarray) -> np.ndarray:
        return super().restrict(states) / np.asarray(self.units)

    def embed(self, states: Float[np.ndarray, "*point free"]) -> Float[np.ndarray, "*point hidden"]:
        return super().embed(np.asarray(states, np.float64) * np.asarray(self.units))

    def step(self, state: Float[Array, "*point free"], gradient: Float[Array, "*point"]) -> Array:
        units = jnp.asarray(self.units, state.dtype)
        return super().step(state * units, gradient) / units


def scaled_system(
    system: FreeSystem, starts: Float[np.ndarray, "seed free"], gradients: Float[np.ndarray, " gradient"]
) -> ScaledSystem:
    """`system` in units that are typical of the starts and of where one step takes them; inside `double_precision`.

    The unit of a component is the median of its sizes there that are not 0, to the next power of 2 (so that scaling
    rounds nothing), or 1 if all are.
    """
    after = [
        np.asarray(_one_step(system, argument(starts), argument(np.full(len(starts), gradient))))
        for gradient in np.unique(np.quantile(gradients, [0.0, 0.5, 1.0]))
    ]
    sizes = np.abs(np.concatenate([starts, *after]))
    units = np.ones(starts.shape[1])
    for i, column in enumerate(sizes.T):
        known = column[np.isfinite(column) & (column > TINY)]
        units[i] = np.exp2(np.round(np.log2(np.median(known)))) if known.size else 1.0
    return ScaledSystem(system.optimizer, system.clock_value, units=jnp.asarray(units))


@eqx.filter_jit
def _one_step(system: FreeSystem, states: Array, gradients: Array) -> Array:
    return system.step(states, gradients)


@eqx.filter_jit
def jacobians(system: FreeSystem, states: Float[Array, "point free"], gradients: Float[Array, " point"]) -> Array:
    """dF/dh on the free components, for a batch of points: [point, free, free]."""
    return jax.vmap(jax.jacfwd(lambda state, gradient: system.step(state, gradient)))(states, gradients)


def jacobians_at(
    system: FreeSystem, states: Float[np.ndarray, "point free"], gradients: Float[np.ndarray, " point"]
) -> Float[np.ndarray, "point free free"]:
    """As `jacobians`, outside of programs."""
    return np.asarray(jacobians(system, *filled(system.size, states, gradients)))[: len(states)]


TINY = 1e-30  # what is smaller says nothing of the unit of a component
BESIDE = (1e-300, 1e-200, 1e-100, 1e-30)  # beside an exact 0, where a root has no derivative; the nearest that has one
# The fourth root of 1e-300 is still far below the square of any regulariser in use.


def beside_zero(
    system: FreeSystem, states: Float[np.ndarray, "point free"], gradients: Float[np.ndarray, " point"]
) -> Float[np.ndarray, "point free"]:
    """The states, a tiny number added to components that are exactly 0 and by which F or r has no finite derivative.

    A second moment of 0 under a square root is such a component; what F does slightly beside it is what it does there.
    The number is the smallest of BESIDE with which all derivatives by the state are finite: a root of it stands
    beside a regulariser that may itself be tiny (eps = 1e-30), and must not be seen there.
    """
    states = np.asarray(states, np.float64)
    rooted = ~_finite_by_component(system, states, gradients) & (states == 0)
    if not rooted.any():
        return states
    lifted, open_rows = states, rooted.any(axis=1)
    for offset in BESIDE:
        lifted = np.where(rooted & open_rows[:, None], offset, lifted)
        open_rows = open_rows & ~_finite_by_component(system, lifted, gradients).all(axis=1)
        if not open_rows.any():
            break
    return lifted


def _finite_by_component(system: FreeSystem, states: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """[point, free]: whether F and r have finite derivatives by this component."""
    slopes = np.asarray(_slopes(system, *filled(system.size, states, np.asarray(gradients))))[: len(states)]
    return np.isfinite(slopes).all(axis=1)


@eqx.filter_jit
def _slopes(system: FreeSystem, states: Float[Array, "point free"], gradients: Float[Array, " point"]) -> Array:
    """d(F, r)/dh: [point, free + 1, free]."""

    def both(state: Array, gradient: Array) -> Array:
        after, update = system.advance(state, gradient)
        return jnp.append(after, update)

    return jax.vmap(jax.jacfwd(both))(states, gradients)
