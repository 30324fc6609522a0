"""Optimizers with planted mechanisms whose hyperparameters are arrays: one program for all draws of a kind."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from reopt.optimizers.optax_bridge import FromOptax, from_optax
from reopt.optimizers.wrapper import Delegate


class Drawn(Delegate):
    """`from_optax(build(hyper))`, whose `hyper` may be traced."""

    hyper: Array
    build: Callable[[Array], Any] = eqx.field(static=True)
    leaves: Any = eqx.field(static=True)

    @property
    def state_names(self) -> tuple[str, ...]:
        return self.plan.state_names

    @property
    def clock(self) -> int | None:
        return self.plan.clock

    @property
    def plan(self) -> FromOptax:
        """What the state looks like, without arithmetic on `hyper`."""
        return FromOptax(optax.identity(), self.leaves)

    @property
    def inner(self) -> FromOptax:
        return self.as_type(jnp.zeros(()).dtype)

    def as_type(self, dtype: jnp.dtype) -> FromOptax:
        """With hyperparameters of the type of the state, else the state would take theirs."""
        return FromOptax(self.build(self.hyper.astype(dtype)), self.leaves)

    def update(self, state: Array, gradient: Array) -> Array:
        return self.as_type(state.dtype).update(state, gradient)


def drawn(build: Callable[[Array], optax.GradientTransformation], *hyper: float) -> Drawn:
    """The optimizer of `build(hyper)`, checked once by `from_optax`."""
    leaves = _leaves(build, hyper)
    with jax.enable_x64(True):
        return Drawn(jnp.asarray(np.asarray(hyper, np.float64)), build, leaves)


_checked: dict[Callable[[Array], Any], Any] = {}


def _leaves(build: Callable[[Array], Any], hyper: tuple[float, ...]) -> Any:
    """The leaves of the state, which no value of `hyper` changes."""
    if build not in _checked:
        _checked[build] = from_optax(build(np.asarray(hyper))).leaves
    return _checked[build]
