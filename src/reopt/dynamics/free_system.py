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


@eqx.filter_jit
def jacobians(system: FreeSystem, states: Float[Array, "point free"], gradients: Float[Array, " point"]) -> Array:
    """dF/dh on the free components, for a batch of points: [point, free, free]."""
    return jax.vmap(jax.jacfwd(lambda state, gradient: system.step(state, gradient)))(states, gradients)


TINY = 1e-30  # beside an exact 0, where a root has no derivative


def beside_zero(
    system: FreeSystem, states: Float[np.ndarray, "point free"], gradients: Float[np.ndarray, " point"]
) -> Float[np.ndarray, "point free"]:
    """The states, with a hair added to components that are exactly 0 and by which F has no finite derivative there.

    A second moment of 0 under a square root is such a component; what F does a hair beside it is what it does there.
    """
    states = np.asarray(states, np.float64)
    bad = ~np.isfinite(np.asarray(jacobians(system, jnp.asarray(states), jnp.asarray(gradients)))).all(axis=1)
    return np.where(bad & (states == 0), TINY, states)
