"""Analysis in float64: trained optimizers are float32, fixed points and Jacobians want more digits."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax
import jax.numpy as jnp

from reopt.optimizers.base import Optimizer
from reopt.optimizers.learned import cast


@contextmanager
def double_precision() -> Iterator[None]:
    """Inside, jax knows float64 on this thread; outside, the caller's setting is as it was.

    Results must leave as numpy arrays: jax arrays of a type that is switched off are a trap.
    """
    with jax.enable_x64(True):
        yield


def to_double(optimizer: Optimizer) -> Optimizer:
    """The optimizer with float64 arrays; only inside `double_precision`."""
    return cast(optimizer, jnp.dtype("float64"))
