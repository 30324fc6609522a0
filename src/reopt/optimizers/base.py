"""The one type of optimizer: a dynamical system that is applied to every parameter separately.

    h' = F(h, g)        state update
    dx = r(h', g)       update of the parameter; it acts on the new state (arXiv 2011.02159, section 3)

Learned optimizers, momentum, RMSProp and Adam are all of this type. Whatever follows (unrolling, recording,
fixed points, linearization) is written against it and never asks which optimizer it holds.
"""

from abc import abstractmethod

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float


class Optimizer(eqx.Module):
    """A component-wise optimizer: `update` is F, `readout` is r; both act on any number of leading axes."""

    @property
    @abstractmethod
    def state_names(self) -> tuple[str, ...]:
        """A name for each component of the state of one parameter; their number is the state's size."""

    @property
    def clock(self) -> int | None:
        """Index of the component that only counts steps, or None. A clock is no hidden state: it has no
        fixed point, and what depends on it is a schedule."""
        return None

    @abstractmethod
    def initial_state(self) -> Float[Array, " hidden"]:
        """State of one parameter before the first gradient."""

    @abstractmethod
    def update(self, state: Float[Array, "*param hidden"], gradient: Float[Array, "*param"]) -> Array:
        """F(h, g): the next state, shaped like `state`."""

    @abstractmethod
    def readout(self, state: Float[Array, "*param hidden"], gradient: Float[Array, "*param"]) -> Array:
        """r(h', g): the change to add to the parameter, shaped like `gradient`."""

    @property
    def state_size(self) -> int:
        """Number of state components a parameter."""
        return len(self.state_names)

    def initial_states(self, shape: tuple[int, ...]) -> Float[Array, "*param hidden"]:
        """The initial state, repeated for parameters laid out in `shape`."""
        state = self.initial_state()
        return jnp.broadcast_to(state, (*shape, state.shape[0]))

    def __call__(self, state: Array, gradient: Array) -> tuple[Array, Array]:
        """One step: (h, g) -> (h', dx)."""
        state = self.update(state, gradient)
        return state, self.readout(state, gradient)
