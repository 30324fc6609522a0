"""Random subsets: which points or images a problem, or a step of it, sees."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray


def random_subset(key: PRNGKeyArray, total: int, count: int) -> Int[Array, " count"]:
    """`count` different numbers below `total`; every subset is equally likely.

    Floyd's algorithm (Bentley and Floyd, CACM 30(9), 1987): the j-th draw is below total - count + j + 1, and where it
    was taken before, the largest number it could have been is taken instead. A draw costs nothing that grows with
    `total`; a permutation of 4,000 numbers for a minibatch of 32 takes a hundred times as long, at every step.
    """
    largest = jnp.arange(total - count, total, dtype=jnp.int32)
    draws = jax.random.randint(key, (count,), 0, largest + 1, dtype=jnp.int32)

    def take(j: Array, taken: Array) -> Array:
        return taken.at[j].set(jnp.where(jnp.any(taken == draws[j]), largest[j], draws[j]))

    return jax.lax.fori_loop(0, count, take, jnp.full(count, -1, jnp.int32))
