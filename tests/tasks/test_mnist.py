"""MNIST: real images, a disjoint split, minibatches without repeats, derivatives, and a network that learns."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from pydantic import ValidationError

from reopt.tasks import mnist
from reopt.tasks.mnist import MNIST, Settings, create, images, split

SMALL = {"channels": (2, 3), "kernels": (3, 3), "strides": (2, 2), "batch": 8}
GIVEN = {
    "pixels": 14,
    "channels": [4, 8, 8],
    "kernels": [3, 3, 3],
    "strides": [2, 2, 2],
    "activation": "elu",
    "batch": 32,
    "test_per_digit": 100,
    "split_seed": 0,
}


def test_images_are_the_known_ones():
    pixels, digits = images()
    assert pixels.shape == (5000, 28, 28)
    assert np.bincount(digits).tolist() == [500] * 10
    known = "1b845fda528288bf79346626fdf2fff6549f0170890dc9174bc1ef609807bbfa"  # each row: its pixels, then its digit
    rows = np.concatenate([pixels.reshape(5000, 784), digits[:, None]], axis=1)
    assert hashlib.sha256(rows.tobytes()).hexdigest() == known
    assert 0.12 < pixels.mean() / 255 < 0.14  # of all 60,000 MNIST images: 0.1307
    assert len(np.unique(rows, axis=0)) == 5000


def test_split_is_disjoint_and_has_the_same_share_of_each_digit():
    parts = split(100, 0)
    assert np.bincount(parts.test.digits).tolist() == [100] * 10
    assert np.bincount(parts.training.digits).tolist() == [400] * 10
    np.testing.assert_array_equal(parts.test.pixels, images().pixels[parts.test_index])
    both = np.concatenate([parts.training.pixels, parts.test.pixels]).reshape(5000, -1)
    assert len(np.unique(both, axis=0)) == len(np.unique(images().pixels.reshape(5000, -1), axis=0)) == 5000
    assert not np.array_equal(parts.test_index, split(100, 1).test_index)


def test_provenance_names_the_split():
    assert MNIST().provenance() == MNIST(pixels=28, channels=(1,), kernels=(1,), strides=(1,)).provenance()
    assert not set(MNIST().provenance().values()) & set(MNIST(split_seed=1).provenance().values())
    assert len(MNIST().provenance()["test"]) == 64


def test_pooled_pixels_are_means_of_four():
    expected = split(100, 0).test.pixels[17].astype(float)
    expected = (expected[::2, ::2] + expected[1::2, ::2] + expected[::2, 1::2] + expected[1::2, 1::2]) / (4 * 255)
    np.testing.assert_allclose(mnist._arrays("test", 14, 100, 0).pixels[17], expected, atol=1e-6)


def test_parameter_counts():
    assert MNIST().num_params == (9 * 4 + 4) + (9 * 4 * 8 + 8) + (9 * 8 * 8 + 8) + (2 * 2 * 8 * 10 + 10) == 1250
    deep = MNIST(pixels=28, channels=(32, 16, 16), kernels=(5, 3, 3), strides=(2, 2, 2))
    assert deep.num_params == (25 * 32 + 32) + (9 * 32 * 16 + 16) + (9 * 16 * 16 + 16) + (4 * 4 * 16 * 10 + 10)


def test_minibatches_differ_by_step_and_problem_and_have_no_repeats():
    task = MNIST()
    problems = jax.lax.map(task.sample, jax.random.split(jax.random.key(0), 6))  # a batch takes longer to compile
    draw = jax.jit(jax.vmap(jax.vmap(task.minibatch, (None, 0)), (0, None)))
    drawn = np.asarray(draw(problems, jnp.arange(5))).reshape(30, 32)
    assert all(len(set(batch)) == 32 for batch in drawn)
    assert drawn.min() >= 0
    assert drawn.max() < 4000
    assert len({tuple(sorted(batch)) for batch in drawn}) == 30
    np.testing.assert_array_equal(drawn, np.asarray(draw(problems, jnp.arange(5))).reshape(30, 32))


@pytest.mark.parametrize("activation", ["relu", "elu"])
def test_loss_equals_a_forward_pass_of_xlas_own_layers(activation: str):
    task = MNIST(activation=activation, **SMALL)
    problem = jax.jit(task.sample)(jax.random.key(1))
    params = np.random.default_rng(0).normal(scale=0.4, size=task.num_params).astype(np.float32)
    seen = np.asarray(jax.jit(task.minibatch)(problem, jnp.asarray(9)))
    training = split(100, 0).training
    x = training.pixels[seen].reshape(8, 14, 2, 14, 2).mean(axis=(2, 4))[..., None].astype(np.float32) / 255
    first = 0
    for depth, channels in ((1, 2), (2, 3)):
        kernel = params[first : first + 9 * depth * channels].reshape(3, 3, depth, channels)
        first += kernel.size
        x = jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = np.asarray(x) + params[first : first + channels]
        first += channels
        x = np.where(x > 0, x, 0 if activation == "relu" else np.expm1(np.minimum(x, 0)))
    flat = x.transpose(0, 3, 1, 2).reshape(8, -1)  # channels first, as the task lays them out
    logits = flat @ params[first:-10].reshape(-1, 10) + params[-10:]
    chance = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = -np.mean(np.log(chance[np.arange(8), training.digits[seen]]))
    found = jax.jit(task.loss)(problem, jnp.asarray(params), jnp.asarray(9))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("activation", ["relu", "elu"])
def test_derivatives_equal_finite_differences(activation: str):
    """Gradient of the loss and Hessian-vector product as the meta-gradient takes it, jvp of the gradient."""
    task = MNIST(activation=activation, **SMALL)
    with jax.enable_x64(True):
        problem = jax.jit(task.sample)(jax.random.key(2))
        gradient = jax.jit(lambda x: jax.value_and_grad(task.loss, argnums=1)(problem, x, jnp.asarray(3)))
        rng = np.random.default_rng(0)
        params = jnp.asarray(rng.normal(scale=0.4, size=task.num_params))
        direction = jnp.asarray(rng.normal(size=task.num_params))
        _, (slope, product) = jax.jit(lambda x, v: jax.jvp(gradient, (x,), (v,)))(params, direction)
        above, below = (gradient(params + sign * 1e-6 * direction) for sign in (1, -1))
    (above, high), (below, low) = ([np.asarray(part) for part in side] for side in (above, below))
    np.testing.assert_allclose(slope, (above - below) / 2e-6, rtol=1e-6)
    expected = (high - low) / 2e-6
    np.testing.assert_allclose(product, expected, atol=1e-6 * np.abs(expected).max())


def test_a_network_learns_and_is_judged_on_test_images():
    """Adam, 300 minibatches: far above the chance of 0.1. A linear classifier reaches about 0.88 on such data."""
    task = MNIST()
    problem = jax.jit(task.sample)(jax.random.key(0))
    adam = optax.adam(0.01)

    @jax.jit
    def trained(problem):
        def step(carry, k):
            params, state = carry
            updates, state = adam.update(jax.grad(task.loss, argnums=1)(problem, params, k), state)
            return (optax.apply_updates(params, updates), state), None

        start = (problem.start, adam.init(problem.start))
        params = jax.lax.scan(step, start, jnp.arange(300))[0][0]
        return params, task.accuracy(problem, problem.start), task.accuracy(problem, params)

    params, before, after = trained(problem)
    assert before < 0.3
    assert after > 0.8
    parts = mnist._arrays("test", 14, 100, 0)
    named = np.argmax(np.asarray(jax.jit(task.logits)(params, parts.pixels)), axis=0)
    assert float(after) == pytest.approx(np.mean(named == split(100, 0).test.digits), abs=1e-6)


def test_settings_make_the_task():
    assert create(Settings.model_validate(GIVEN)) == MNIST()
    for wrong in (
        {"pixels": 7},
        {"channels": [4, 8]},
        {"strides": [2, 2, 0]},
        {"activation": "tanh"},
        {"batch": 1001},
        {"test_per_digit": 500},
        {"split_seed": -1},
        {"dropout": 0.1},
    ):
        with pytest.raises(ValidationError):
            Settings.model_validate(GIVEN | wrong)
