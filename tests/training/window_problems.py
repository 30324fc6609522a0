"""Small tasks and optimizers for the tests of windowed gradient estimators."""

import jax
import jax.numpy as jnp
import numpy as np

from reopt.optimizers.base import Optimizer
from reopt.optimizers.learned import LearnedOptimizer, create_learned
from reopt.tasks.base import Task


class Waves(Task):
    """f_t(x) = 2 + mean sin(x + 0.3 t + shift) + 0.1 |x|^2 + 0.1 x_0 x_1: it changes with the step."""

    @property
    def num_params(self) -> int:
        return 2

    def sample(self, key):
        return jax.random.normal(key, (2, 2))

    def initial_params(self, problem):
        return problem[0]

    def loss(self, problem, params, step):
        wave = jnp.mean(jnp.sin(params + 0.3 * step + problem[1]))
        return 2 + wave + 0.1 * jnp.sum(jnp.square(params)) + 0.1 * params[0] * params[1]


class Valley(Task):
    """f(x) = 1/2 sum lambda x^2 from x = (1, 10), of a size that is drawn; lambda = (1, 0.01)."""

    @property
    def num_params(self) -> int:
        return 2

    def sample(self, key):
        return jax.random.uniform(key, (), minval=0.5, maxval=2.0)

    def initial_params(self, problem):
        return problem * jnp.asarray(VALLEY_START)

    def loss(self, problem, params, step):
        del problem, step
        return 0.5 * jnp.sum(jnp.asarray(VALLEY_CURVATURE) * jnp.square(params))


VALLEY_START, VALLEY_CURVATURE = (1.0, 10.0), (1.0, 0.01)


class Power(Task):
    """f(x) = scale + x^exponent from x = 1."""

    exponent: int

    @property
    def num_params(self) -> int:
        return 1

    def sample(self, key):
        return jax.random.uniform(key, (), minval=1.0, maxval=3.0)

    def initial_params(self, problem):
        return jnp.ones_like(problem)[None]

    def loss(self, problem, params, step):
        del step
        return problem + params[0] ** self.exponent


class Cliff(Task):
    """f(x) = 1 + x^2 from x = 1, but a problem that is drawn below `share` is 1 + 1e3 x^4."""

    share: float

    @property
    def num_params(self) -> int:
        return 1

    def sample(self, key):
        return jax.random.uniform(key) < self.share

    def initial_params(self, problem):
        return jnp.ones(1)

    def loss(self, problem, params, step):
        del step
        return 1 + jnp.where(problem, 1e3 * params[0] ** 4, params[0] ** 2)


class Descent(Optimizer):
    """dx = -rate g; the rate is an array, so that it can be trained."""

    rate: jax.Array

    @property
    def state_names(self):
        return ("nothing",)

    def initial_state(self):
        return jnp.zeros(1)

    def update(self, state, gradient):
        return state

    def readout(self, state, gradient):
        return -self.rate * gradient


class Drift(Optimizer):
    """dx = pace: the gradient is not heard."""

    pace: jax.Array

    @property
    def state_names(self):
        return ("nothing",)

    def initial_state(self):
        return jnp.zeros(1)

    def update(self, state, gradient):
        return state

    def readout(self, state, gradient):
        return self.pace * jnp.ones_like(gradient)


def learned(units: int = 2, size: float = 0.7, seed: int = 0) -> LearnedOptimizer:
    """A GRU with random weights everywhere, in float64."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(
        lambda: create_learned(jax.random.key(0), cell="gru", units=units, input_scale=0.7, output_scale=0.3)
    )
    return jax.tree.map(lambda leaf: jnp.asarray(size * rng.normal(size=leaf.shape)), shapes)


def flat(tree) -> np.ndarray:
    """All numbers of a pytree."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def draw(task: Task, memory):
    """The running problems of a memory."""
    return jax.vmap(task.sample)(jax.random.wrap_key_data(memory.draws))
