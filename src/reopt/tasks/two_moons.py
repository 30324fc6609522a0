"""Two moons: a small classifier on scikit-learn's two interleaved half circles; a problem is an initialisation.

    f(w) = mean_i [log(1 + exp(z_i)) - y_i z_i] + penalty ||w||_2,   z = network(x; w), one logit a point

The network is fully connected with tanh units; the penalty is the norm, not its square, over weights and biases.
The data are always the same 1,024 points (`make_moons`, noise 0.1, random state 0), and the gradient is of all points
of the problem at every step.
"""

import dataclasses
import functools
import hashlib
import itertools
from typing import Annotated, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from pydantic import Field

from reopt.core.schema import Section
from reopt.tasks.base import Task
from reopt.tasks.networks import Shape, dense, initial_weights, num_weights, unflatten
from reopt.tasks.subsets import random_subset

POINTS = 1024
NOISE = 0.1


class Settings(Section):
    """The task's block in the config."""

    hidden: Annotated[
        list[Annotated[int, Field(ge=1, le=1024)]],
        Field(min_length=1, max_length=8, description="units of each hidden layer"),
    ]
    points: Annotated[
        int, Field(ge=1, le=POINTS, description="points of a problem, drawn anew for each; 1024 is all of them")
    ]
    penalty: Annotated[float, Field(ge=0, le=1e3, description="times the norm of the parameters")]


@functools.cache
def moons() -> tuple[Float[np.ndarray, "point 2"], Int[np.ndarray, " point"]]:
    """The points and the moon, 0 or 1, that each lies on."""
    from sklearn.datasets import make_moons  # takes a second, which only this task has to spend

    return make_moons(POINTS, noise=NOISE, random_state=0)


@functools.cache
def _arrays() -> tuple[Float[Array, "2 point"], Float[Array, " point"]]:
    """Coordinates and moons on the device, once a process; never tracers, whoever asks first."""
    points, moon = moons()
    with jax.ensure_compile_time_eval():
        return jnp.asarray(points.T, jnp.float32), jnp.asarray(moon, jnp.float32)


class TwoMoonsProblem(NamedTuple):
    """A starting point and, where a problem has not all points, which it has."""

    start: Float[Array, " param"]
    points: Int[Array, " point"] | None


class TwoMoons(Task):
    """A network 2 - `hidden` - 1, trained on `points` of the 1,024 points, drawn for each problem."""

    hidden: tuple[int, ...] = eqx.field(static=True, default=(16, 16))
    points: int = eqx.field(static=True, default=POINTS)
    penalty: float = eqx.field(static=True, default=5e-3)

    @property
    def shapes(self) -> list[Shape]:
        """Weight and bias of each layer, in the order in which they lie in the parameter vector."""
        widths = (2, *self.hidden, 1)
        return [shape for pair in itertools.pairwise(widths) for shape in (pair, pair[1:])]

    @property
    def num_params(self) -> int:
        return num_weights(self.shapes)

    def sample(self, key: Array) -> TwoMoonsProblem:
        key_start, key_points = jax.random.split(key)
        points = None if self.points == POINTS else random_subset(key_points, POINTS, self.points)
        return TwoMoonsProblem(initial_weights(key_start, self.shapes), points)

    def initial_params(self, problem: TwoMoonsProblem) -> Array:
        return problem.start

    def logits(self, params: Float[Array, " param"], x: Float[Array, "2 point"]) -> Float[Array, " point"]:
        """What the network says of points: positive is moon 1."""
        layers = unflatten(params, self.shapes)
        for weight, bias in zip(layers[:-2:2], layers[1:-2:2], strict=True):
            x = jnp.tanh(dense(x, weight, bias))
        return dense(x, *layers[-2:])[0]

    def loss(self, problem: TwoMoonsProblem, params: Array, step: Array) -> Array:
        del step
        x, moon = _arrays()
        if problem.points is not None:
            x, moon = x[:, problem.points], moon[problem.points]
        logit = self.logits(params, x.astype(params.dtype))
        loss = jnp.mean(jax.nn.softplus(logit) - moon.astype(params.dtype) * logit)
        # The norm has no derivative at 0, which times a penalty of 0 would still be NaN.
        return loss + self.penalty * jnp.sqrt(jnp.sum(jnp.square(params))) if self.penalty else loss

    def judged(self) -> "TwoMoons":
        """The task on which its optimizers are judged: all points."""
        return dataclasses.replace(self, points=POINTS)

    def provenance(self) -> dict[str, str]:
        """Digest (sha256) of the data, as float32."""
        points, moon = moons()
        return {"data": hashlib.sha256(points.astype("<f4").tobytes() + moon.astype("u1").tobytes()).hexdigest()}


def create(settings: Settings) -> TwoMoons:
    """The task as its block in the config says."""
    return TwoMoons(tuple(settings.hidden), settings.points, settings.penalty)
