"""Evolution strategies: unbiased where the gradient is known, the sign of its differences, and training that helps."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from reopt.core.errors import ReoptError
from reopt.optimizers.base import Optimizer
from reopt.optimizers.classical import Momentum
from reopt.optimizers.joint import Inputs, Joint, Layout, State
from reopt.systems.family import BATCHES, HELD_OUT, POINTS, Family
from reopt.tasks.quadratic import Quadratic
from reopt.training.evolution import estimate, objectives


class Plain(Joint):
    """A heavy ball as a `Joint` that senses nothing; what is trained is log rate and log (1 - momentum)."""

    numbers: Any

    def start(self, layout: Layout, params: Any) -> State:
        del layout
        return State(jnp.zeros((*params.shape, 1), params.dtype), ())

    def sense(self, layout: Layout, state: State, inputs: Inputs) -> tuple[Any, Any]:
        del layout, state, inputs
        return (), ()

    def one(self, context: Any) -> Optimizer:
        del context
        return Momentum(jnp.exp(self.numbers[0]), 1 - jnp.exp(self.numbers[1]))


BALL = Plain(jnp.log(jnp.asarray([0.3, 0.3])))


def smoothed(
    task: Any, *, problems: int, num_steps: int, deviation: float, draws: int
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient of the objective smoothed by the deviation, the mean of exact gradients at moved weights, and its
    error."""

    def exact(numbers: Any, key: Any) -> Any:
        batch = task.sample_batch(key, problems)
        return jax.grad(lambda n: objectives(Plain(n), task, batch, num_steps).mean())(numbers)

    keys = jax.random.split(jax.random.key(7), draws)
    noise = deviation * jax.random.normal(jax.random.key(8), (draws, 2))
    found = jax.jit(jax.vmap(exact))(BALL.numbers + noise, keys)
    return np.asarray(found.mean(axis=0)), np.asarray(found.std(axis=0)) / np.sqrt(draws)


def test_it_is_unbiased_on_quadratics() -> None:
    task, sizes = Quadratic(3), {"num_steps": 12, "deviation": 0.05}
    keys = jax.random.split(jax.random.key(0), 400)
    every = jax.jit(jax.vmap(lambda key: estimate(BALL, task, key, problems=8, **sizes)[1].numbers))(keys)
    mean, error = np.asarray(every.mean(axis=0)), np.asarray(every.std(axis=0)) / np.sqrt(len(keys))
    truth = smoothed(task, problems=8, draws=400, **sizes)
    truth, its_error = truth
    assert (np.abs(mean - truth) < 4 * np.hypot(error, its_error)).all(), (mean, truth, error)


def test_with_signs_it_points_the_same_way() -> None:
    task = Quadratic(3)
    sizes = {"problems": 512, "num_steps": 12, "deviation": 0.02}
    plain = np.asarray(estimate(BALL, task, jax.random.key(1), **sizes)[1].numbers)
    signs = np.asarray(estimate(BALL, task, jax.random.key(1), sign=True, **sizes)[1].numbers)
    assert plain @ signs / np.linalg.norm(plain) / np.linalg.norm(signs) > 0.9


def test_what_diverges_counts_as_ten() -> None:
    task = Quadratic(3)
    batch = task.sample_batch(jax.random.key(0), 4)
    np.testing.assert_allclose(objectives(Plain(jnp.log(jnp.asarray([1e6, 0.3]))), task, batch, 20), 10.0)


@pytest.mark.long
def test_following_it_finds_a_better_heavy_ball() -> None:
    task, transform = Quadratic(), optax.adam(0.05)

    @jax.jit
    def outer(numbers: Any, memory: Any, key: Any) -> tuple[Any, Any]:
        _, gradient = estimate(Plain(numbers), task, key, problems=32, num_steps=20, deviation=0.02)
        updates, memory = transform.update(gradient.numbers, memory)
        return optax.apply_updates(numbers, updates), memory

    numbers, memory = BALL.numbers, transform.init(BALL.numbers)
    for key in jax.random.split(jax.random.key(0), 60):
        numbers, memory = outer(numbers, memory, key)
    held_out = task.sample_batch(jax.random.key(5), 256)
    before, after = (float(objectives(one, task, held_out, 20).mean()) for one in (BALL, Plain(numbers)))
    assert after < 0.8 * before


@pytest.mark.long
def test_the_objective_may_be_the_loss_on_held_out_data() -> None:
    task = Family(log10_rho=(0.0, 0.0))
    batch = task.sample_batch(jax.random.key(1), 8)
    still = Plain(jnp.log(jnp.asarray([1e-30, 0.3])))
    np.testing.assert_allclose(objectives(still, task, batch, 12, held_out=True), 1.0, rtol=1e-6)
    moving = Plain(jnp.log(jnp.asarray([0.1, 0.3])))
    found, training = (objectives(moving, task, batch, 12, held_out=held) for held in (True, False))
    assert float(found.mean()) < 1
    assert float(jnp.abs(found - training).max()) > 1e-3
    with pytest.raises(ReoptError, match="no held-out data"):
        objectives(BALL, Quadratic(3), Quadratic(3).sample_batch(jax.random.key(0), 2), 4, held_out=True)


@pytest.mark.long
def test_problems_of_the_family_differ_in_what_they_say() -> None:
    task = Family()
    batch = task.sample_batch(jax.random.key(3), 400)
    assert batch.points.shape == (400, 2, POINTS + HELD_OUT)
    assert set(np.unique(batch.batch)) == set(BATCHES)
    assert set(np.unique(batch.activation)) == {0, 1, 2}
    logs = np.log10(batch.rho)
    assert -1 <= logs.min() < -0.8
    assert 0.8 < logs.max() <= 1
    assert 0.4 < float(batch.moons.mean()) < 0.6
    held = jax.vmap(task.validation)(batch, batch.start)
    assert bool(jnp.isfinite(held).all())
    one = jax.tree.map(lambda leaf: leaf[0], batch)
    half = one._replace(rho=one.rho / 2)
    np.testing.assert_allclose(task.loss(half, 2 * one.start, 3), task.loss(one, one.start, 3), rtol=1e-5)
