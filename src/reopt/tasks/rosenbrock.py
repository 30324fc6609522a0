"""Rosenbrock's function, one fixed surface; a problem is a starting point.

    f(x, y) = (1 - x)^2 + 100 (y - x^2)^2,   minimum 0 at (1, 1)

Rosenbrock, The Computer Journal 3, 1960. Starting points are uniform on a box.
"""

from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from pydantic import Field, model_validator

from reopt.core.schema import Section
from reopt.tasks.base import Task

_Bounds = Annotated[list[Annotated[float, Field(ge=-100, le=100)]], Field(min_length=2, max_length=2)]


class Settings(Section):
    """The task's block in the config."""

    start_x: Annotated[_Bounds, Field(description="range of the starting points' x: [low, high]")]
    start_y: Annotated[_Bounds, Field(description="range of the starting points' y: [low, high]")]

    @model_validator(mode="after")
    def _ordered(self) -> "Settings":
        for name in ("start_x", "start_y"):
            low, high = getattr(self, name)
            if not low < high:
                raise ValueError(f"{name} must be [low, high] with low < high")
        return self


class Rosenbrock(Task):
    """Two parameters, (x, y)."""

    start_x: tuple[float, float] = eqx.field(static=True, default=(-2.0, 2.0))
    start_y: tuple[float, float] = eqx.field(static=True, default=(-1.0, 3.0))

    @property
    def num_params(self) -> int:
        return 2

    def sample(self, key: Array) -> Float[Array, "2"]:
        low, high = jnp.array([self.start_x, self.start_y]).T
        return jax.random.uniform(key, (2,), minval=low, maxval=high)

    def initial_params(self, problem: Float[Array, "2"]) -> Array:
        return problem

    def loss(self, problem: Float[Array, "2"], params: Array, step: Array) -> Array:
        del problem, step
        x, y = params
        return jnp.square(1 - x) + 100 * jnp.square(y - jnp.square(x))

    def optimum(self, problem: Float[Array, "2"]) -> Array:
        return jnp.zeros_like(problem[0])


def create(settings: Settings) -> Rosenbrock:
    """The task as its block in the config says."""
    (x_low, x_high), (y_low, y_high) = settings.start_x, settings.start_y
    return Rosenbrock((x_low, x_high), (y_low, y_high))
