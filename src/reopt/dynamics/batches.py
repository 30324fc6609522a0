"""Batches of rows filled up to a few sizes, so that few programs are compiled."""

from typing import cast

import numpy as np
from jaxtyping import Array

SMALL = 8  # components up to which a compiled program costs more than the rows that fill up a batch
ROWS = 32  # to which the batches of small systems are filled up at least


def padded(count: int, most: int | None = None, *, factor: int = 8) -> int:
    """The next power of `factor` (at most `most`)."""
    size = 1
    while size < count:
        size *= factor
    return size if most is None else min(size, most)


def pad(rows: np.ndarray, size: int) -> np.ndarray:
    """`rows` with its last row repeated up to `size` rows."""
    return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])


def argument(rows: np.ndarray) -> Array:
    """Rows as an argument of a program, as they are: `jnp.asarray` would compile a program for each new shape."""
    return cast(Array, rows)


def filled(size: int, *parts: np.ndarray) -> tuple[Array, ...]:
    """Arguments of as many rows each: filled up if a system of `size` components is small, else as they are."""
    count = len(parts[0])
    if size <= SMALL and count:
        parts = tuple(pad(part, ROWS if count <= ROWS else padded(count)) for part in parts)
    return tuple(argument(part) for part in parts)
