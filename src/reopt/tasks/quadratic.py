"""Random convex quadratics: the sampler of the paper's released config ("quadratic").

    f(x) = 1/2 x^T H x + v^T x + c,   H = Q diag(lambda) Q^T,   c such that min f = 0,

with log10(lambda) uniform, Q Haar orthogonal, v and the starting point standard normal. The gradient is exact.
"""

from typing import Annotated, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from pydantic import Field, model_validator

from reopt.core.schema import Section
from reopt.tasks.base import Task


class Settings(Section):
    """The task's block in the config."""

    dimension: Annotated[int, Field(ge=1, le=1000, description="number of parameters")]
    log10_eigenvalues: Annotated[
        list[Annotated[float, Field(ge=-8, le=8)]],
        Field(min_length=2, max_length=2, description="range of log10 of the Hessian's eigenvalues: [low, high]"),
    ]

    @model_validator(mode="after")
    def _ordered(self) -> "Settings":
        if self.log10_eigenvalues[0] > self.log10_eigenvalues[1]:
            raise ValueError("log10_eigenvalues must be [low, high] with low <= high")
        return self


class QuadraticProblem(NamedTuple):
    """One quadratic, written around its minimiser: f(x) = 1/2 (x - x*)^T H (x - x*).

    The form 1/2 x^T H x + v^T x + c is the same function, but near the minimum it is a small difference of
    numbers of up to 1/lambda_min, which float32 cannot hold.
    """

    hessian: Float[Array, "param param"]
    minimizer: Float[Array, " param"]
    start: Float[Array, " param"]
    eigenvalues: Float[Array, " param"]


class Quadratic(Task):
    """`dimension` parameters; eigenvalues of the Hessian between 10^low and 10^high, log-uniform."""

    dimension: int = eqx.field(static=True, default=5)
    log10_eigenvalues: tuple[float, float] = eqx.field(static=True, default=(-3.0, 0.0))

    @property
    def num_params(self) -> int:
        return self.dimension

    def sample(self, key: Array) -> QuadraticProblem:
        key_eig, key_basis, key_linear, key_start = jax.random.split(key, 4)
        low, high = self.log10_eigenvalues
        eigenvalues = 10.0 ** jax.random.uniform(key_eig, (self.dimension,), minval=low, maxval=high)
        basis = jax.random.orthogonal(key_basis, self.dimension)
        linear = jax.random.normal(key_linear, (self.dimension,))
        # Sums of products, not matmuls: an accelerator would round matmuls to TF32 or bfloat16.
        hessian = jnp.sum(basis[:, None, :] * eigenvalues * basis[None, :, :], axis=-1)
        projected = jnp.sum(basis * linear[:, None], axis=0)
        minimizer = -jnp.sum(basis * (projected / eigenvalues), axis=-1)
        return QuadraticProblem(hessian, minimizer, jax.random.normal(key_start, (self.dimension,)), eigenvalues)

    def initial_params(self, problem: QuadraticProblem) -> Array:
        return problem.start

    def loss(self, problem: QuadraticProblem, params: Array, step: Array) -> Array:
        del step
        offset = params - problem.minimizer
        return 0.5 * jnp.sum(offset * jnp.sum(problem.hessian * offset, axis=-1))

    def optimum(self, problem: QuadraticProblem) -> Array:
        return jnp.zeros_like(problem.start[0])


def create(settings: Settings) -> Quadratic:
    """The task as its block in the config says."""
    low, high = settings.log10_eigenvalues
    return Quadratic(settings.dimension, (low, high))
