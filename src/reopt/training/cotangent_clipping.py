"""Clipping of cotangents in the backward pass: a departure from the paper, biased on purpose.

The meta-gradient of long unrolls is dominated by a few problems whose trajectories are chaotic. At every step of the
reverse pass the cotangent of each problem (its parameters; its states taken together) is cut to `factor` times the
median norm over its group of problems, and one that is not finite becomes zero. The forward pass is untouched.

Groups are part of the recipe, not of how the work is shared out: the same numbers come from any number of devices.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float


class CotangentClipping(NamedTuple):
    """`factor` times the median norm of each `group` of problems; None: of all that are there."""

    factor: float
    group: int | None = None


def clip_cotangent(cotangent: Float[Array, "problem ..."], clipping: CotangentClipping) -> Array:
    """Each problem's cotangent, cut; the number of problems must be a multiple of the group's size."""
    count = cotangent.shape[0]
    group = clipping.group or count
    squared = jnp.sum(jnp.square(cotangent), axis=tuple(range(1, cotangent.ndim)))
    finite = jnp.isfinite(squared)
    norm = jnp.sqrt(jnp.where(finite, squared, 0))
    ordered = jnp.sort(norm.reshape(-1, group), axis=1)
    limit = clipping.factor * 0.5 * (ordered[:, (group - 1) // 2] + ordered[:, group // 2])
    limit = jnp.repeat(limit, group)
    scale = jnp.where(norm > limit, limit / jnp.where(norm > 0, norm, 1), 1)
    each = (count, *(1,) * (cotangent.ndim - 1))
    return jnp.where(finite.reshape(each), cotangent * scale.reshape(each), 0)
