"""An optimizer that is another one but for what a subclass changes."""

import equinox as eqx
from jaxtyping import Array

from reopt.optimizers.base import Optimizer


class Delegate(Optimizer):
    """Does what `inner`, a field or a property, does."""

    inner: eqx.AbstractVar[Optimizer]

    @property
    def state_names(self) -> tuple[str, ...]:
        return self.inner.state_names

    @property
    def clock(self) -> int | None:
        return self.inner.clock

    def initial_state(self) -> Array:
        return self.inner.initial_state()

    def update(self, state: Array, gradient: Array) -> Array:
        return self.inner.update(state, gradient)

    def readout(self, state: Array, gradient: Array) -> Array:
        return self.inner.readout(state, gradient)
