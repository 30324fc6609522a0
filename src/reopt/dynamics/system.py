"""Anyone's dynamical system h' = F(h, g) as the one type that the analyses take."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from reopt.core.errors import ReoptError
from reopt.optimizers.base import Optimizer

StateUpdate = Callable[[Float[Array, " hidden"], Float[Array, ""]], Float[Array, " hidden"]]


class DynamicalSystem(Optimizer):
    """h' = F(h, g) of a given size, started at 0; nothing is read out of it."""

    function: StateUpdate
    size: int = eqx.field(static=True)

    @property
    def state_names(self) -> tuple[str, ...]:
        return tuple(f"h{i}" for i in range(self.size))

    def initial_state(self) -> Array:
        return jnp.zeros(self.size)

    def update(self, state: Array, gradient: Array) -> Array:
        one_by_one = self.function
        for _ in range(gradient.ndim):
            one_by_one = jax.vmap(one_by_one)
        return one_by_one(state, gradient)

    def readout(self, state: Array, gradient: Array) -> Array:
        del state
        return jnp.zeros_like(gradient)


def dynamical_system(function: StateUpdate, size: int) -> DynamicalSystem:
    """The system h' = function(h, g), with h of shape [size] and g a number.

    `function` is written in jax and differentiable; one that is an `eqx.Module` has its arrays as parameters, so that
    many systems of one form share a compiled program.

    **Raises** `ReoptError` where `function` does not return a state of shape [size].
    """
    state, gradient = jax.ShapeDtypeStruct((size,), jnp.float32), jax.ShapeDtypeStruct((), jnp.float32)
    after = eqx.filter_eval_shape(function, state, gradient)
    if getattr(after, "shape", None) != (size,):
        raise ReoptError(f"F(h, g) must return a state of shape ({size},), not {getattr(after, 'shape', after)}")
    return DynamicalSystem(function, size)
