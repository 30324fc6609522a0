"""The protocol of a task: a distribution of target problems.

A task is sampled with a key; what comes back is one problem, a pytree of arrays that says all about it (data,
starting point, the key of its minibatches), so that problems batch with `jax.vmap`. Parameters are one flat
vector, for a component-wise optimizer sees no more of them.
"""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, Int, PRNGKeyArray

Problem = Any  # a pytree of arrays, the task's own


class Task(eqx.Module):
    """A distribution of optimization problems over flat parameter vectors."""

    @property
    @abstractmethod
    def num_params(self) -> int:
        """Length of the flat parameter vector."""

    @abstractmethod
    def sample(self, key: PRNGKeyArray) -> Problem:
        """One problem, a pytree of arrays."""

    @abstractmethod
    def initial_params(self, problem: Problem) -> Float[Array, " param"]:
        """Where the optimizer starts on this problem."""

    @abstractmethod
    def loss(self, problem: Problem, params: Float[Array, " param"], step: Int[Array, ""]) -> Float[Array, ""]:
        """Loss of `params` at optimizer step `step`; a task with minibatches picks the step's batch."""

    def optimum(self, problem: Problem) -> Float[Array, ""] | None:
        """The smallest possible loss of the problem, or None where it is not known."""
        del problem
        return None

    def accuracy(self, problem: Problem, params: Float[Array, " param"]) -> Float[Array, ""] | None:
        """Share of held-out examples that `params` classify right, or None where nothing is classified."""
        del problem, params
        return None

    def provenance(self) -> dict[str, str]:
        """Digests of the data that the problems are made of, by name; empty where they are made of none."""
        return {}

    def sample_batch(self, key: PRNGKeyArray, count: int) -> Problem:
        """`count` problems, stacked along a leading axis."""
        return jax.vmap(self.sample)(jax.random.split(key, count))
