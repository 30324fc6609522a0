"""Which random problems serve which purpose: no two purposes ever share one."""

from typing import Literal

import jax
from jaxtyping import PRNGKeyArray

Purpose = Literal["training", "validation", "tuning", "evaluation", "recording", "running", "theory"]
_ORDER: tuple[Purpose, ...] = ("training", "validation", "tuning", "evaluation", "recording", "running", "theory")


def problem_key(purpose: Purpose, seed: int) -> PRNGKeyArray:
    """Key of the problems of one purpose and seed."""
    return jax.random.fold_in(jax.random.key(seed), _ORDER.index(purpose))
