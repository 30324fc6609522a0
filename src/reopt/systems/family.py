"""A family of small classifiers: 2-8-8-1 networks on two moons that differ in their data, their scale and more.

What is drawn with each problem: the noise, rotation and scale of the moons, the activation, the gain of the first
weights, the size of the minibatch, and rho, the scale of the parameters: the network uses rho y where the optimizer
moves y. So no one learning rate suits all problems, and what an optimizer knows of the size of an array's parameters is
worth something. All variants are one program.
"""

from typing import Annotated, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from pydantic import Field

from reopt.core.schema import Section
from reopt.tasks.base import Task
from reopt.tasks.networks import Shape, dense, initial_weights, num_weights, unflatten

POINTS, HELD_OUT = 64, 128
BATCHES = (8, 32)
NOISE = (0.05, 0.35)
SCALE, GAIN = 0.5, 0.3  # decades to either side
ACTIVATIONS = (jnp.tanh, jax.nn.relu, jax.nn.silu)


class Settings(Section):
    """The task's block in the config."""

    units: Annotated[int, Field(ge=1, le=256, description="of each of the two hidden layers")] = 8
    log10_rho: Annotated[
        tuple[float, float], Field(description="decades between which rho, the scale of the parameters, is drawn")
    ] = (-1.0, 1.0)


class FamilyProblem(NamedTuple):
    """Points (of training, then held out) with their moons, where the parameters start, and what else is drawn."""

    points: Float[Array, "2 point"]
    moons: Float[Array, " point"]
    start: Float[Array, " param"]
    rho: Float[Array, ""]
    activation: Int[Array, ""]
    batch: Int[Array, ""]
    minibatches: PRNGKeyArray


class Family(Task):
    """Networks 2 - `units` - `units` - 1; rho is 10 to a power drawn evenly from `log10_rho`."""

    units: int = eqx.field(static=True, default=8)
    log10_rho: tuple[float, float] = eqx.field(static=True, default=(-1.0, 1.0))

    @property
    def shapes(self) -> list[Shape]:
        """Weight and bias of each layer, in the order in which they lie in the parameter vector."""
        return [(2, self.units), (self.units,), (self.units, self.units), (self.units,), (self.units, 1), (1,)]

    @property
    def num_params(self) -> int:
        return num_weights(self.shapes)

    def sample(self, key: Array) -> FamilyProblem:
        keys = iter(jax.random.split(key, 11))
        count = POINTS + HELD_OUT
        moon = jax.random.bernoulli(next(keys), 0.5, (count,)).astype(jnp.float32)
        angle = jax.random.uniform(next(keys), (count,), maxval=np.pi)
        x = jnp.where(moon == 0, jnp.cos(angle), 1 - jnp.cos(angle))
        y = jnp.where(moon == 0, jnp.sin(angle), 0.5 - jnp.sin(angle))
        noise = jax.random.uniform(next(keys), minval=NOISE[0], maxval=NOISE[1])
        points = jnp.stack([x, y]) - jnp.asarray([[0.5], [0.25]]) + noise * jax.random.normal(next(keys), (2, count))
        turn = jax.random.uniform(next(keys), maxval=2 * np.pi)
        rotation = jnp.asarray([[jnp.cos(turn), -jnp.sin(turn)], [jnp.sin(turn), jnp.cos(turn)]])
        size = 10 ** jax.random.uniform(next(keys), minval=-SCALE, maxval=SCALE)
        gain = 10 ** jax.random.uniform(next(keys), minval=-GAIN, maxval=GAIN)
        low, high = self.log10_rho
        rho = 10 ** jax.random.uniform(next(keys), minval=low, maxval=high)
        kinds = jax.random.randint(next(keys), (2,), 0, jnp.asarray([len(ACTIVATIONS), len(BATCHES)]))
        start = gain * initial_weights(next(keys), self.shapes) / rho
        batch = jnp.asarray(BATCHES)[kinds[1]]
        return FamilyProblem(
            size * jnp.matmul(rotation, points, precision="highest"), moon, start, rho, kinds[0], batch, next(keys)
        )

    def initial_params(self, problem: FamilyProblem) -> Array:
        return problem.start

    def logits(self, problem: FamilyProblem, params: Array, x: Float[Array, "2 point"]) -> Float[Array, " point"]:
        """What the network says of points: positive is moon 1."""
        layers = unflatten(problem.rho * params, self.shapes)
        for weight, bias in zip(layers[:-2:2], layers[1:-2:2], strict=True):
            z = dense(x, weight, bias)
            x = jnp.select([problem.activation == i for i in range(len(ACTIVATIONS))], [act(z) for act in ACTIVATIONS])
        return dense(x, *layers[-2:])[0]

    def loss(self, problem: FamilyProblem, params: Array, step: Array) -> Array:
        key = jax.random.fold_in(problem.minibatches, step)
        chosen = jax.random.permutation(key, POINTS)[: max(BATCHES)]
        weight = (jnp.arange(max(BATCHES)) < problem.batch).astype(params.dtype)
        each = self._each(problem, params, chosen)
        return jnp.sum(weight * each) / jnp.sum(weight)

    def validation(self, problem: FamilyProblem, params: Array) -> Float[Array, ""]:
        """The loss on the points that no minibatch has."""
        return jnp.mean(self._each(problem, params, POINTS + jnp.arange(HELD_OUT)))

    def _each(self, problem: FamilyProblem, params: Array, which: Array) -> Array:
        x, moon = problem.points[:, which].astype(params.dtype), problem.moons[which].astype(params.dtype)
        logit = self.logits(problem, params, x)
        return jax.nn.softplus(logit) - moon * logit


def create(settings: Settings) -> Family:
    """The task as its block in the config says."""
    return Family(settings.units, settings.log10_rho)
