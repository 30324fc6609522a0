"""Layers against independent implementations, and random subsets against their distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.example_libraries import stax
from scipy import signal, stats

from reopt.tasks.networks import convolution, dense, initial_weights, num_weights, unflatten
from reopt.tasks.subsets import random_subset


def test_unflatten_cuts_in_order():
    shapes = [(2, 3), (3,), (1, 1, 3, 2)]
    first, second, third = unflatten(jnp.arange(15.0), shapes)
    assert num_weights(shapes) == 15
    np.testing.assert_array_equal(first, [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(second, [6, 7, 8])
    np.testing.assert_array_equal(third, np.arange(9, 15).reshape(1, 1, 3, 2))


def test_initial_weights_are_those_of_stax():
    """By distribution, against stax's own layers: a dense one and a convolution."""
    shapes = [(60, 40), (40,), (5, 5, 8, 12), (12,)]
    draw = jax.jit(lambda key: unflatten(initial_weights(key, shapes), shapes))
    networks = [draw(key) for key in jax.random.split(jax.random.key(0), 40)]  # a batch takes longer to compile
    parts = [np.stack(part) for part in zip(*networks, strict=True)]
    _, (weight, _) = stax.Dense(40)[0](jax.random.key(1), (1, 60))
    _, (kernel, _) = stax.Conv(12, (5, 5))[0](jax.random.key(2), (1, 28, 28, 8))
    assert stats.ks_2samp(parts[0].ravel(), np.asarray(weight).ravel()).pvalue > 1e-3
    assert stats.ks_2samp(parts[2].ravel(), np.asarray(kernel).ravel()).pvalue > 1e-3
    assert np.std(parts[0]) == pytest.approx(np.sqrt(2 / 100), rel=0.02)
    assert np.std(parts[2]) == pytest.approx(np.sqrt(2 / (25 * 20)), rel=0.02)
    biases = np.concatenate([parts[1].ravel(), parts[3].ravel()])
    assert stats.kstest(biases, stats.norm(0, 1e-2).cdf).pvalue > 1e-3


def test_dense_is_an_affine_map():
    rng = np.random.default_rng(0)
    x, weight, bias = rng.normal(size=(4, 9)), rng.normal(size=(4, 3)), rng.normal(size=3)
    expected = np.array([[sum(weight[i, o] * x[i, e] for i in range(4)) + bias[o] for e in range(9)] for o in range(3)])
    np.testing.assert_allclose(dense(*(jnp.asarray(a, jnp.float32) for a in (x, weight, bias))), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("side", "kernel", "stride"), [(14, 3, 2), (7, 3, 2), (28, 5, 2), (6, 4, 1), (5, 2, 3), (4, 1, 2)]
)
def test_convolution(side: int, kernel: int, stride: int):
    """Against XLA's convolution, and against scipy's correlation where the stride keeps its alignment."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, side, side, 3)).astype(np.float32)  # channels, rows, columns, images
    weight = rng.normal(size=(kernel, kernel, 2, 4)).astype(np.float32)
    bias = rng.normal(size=4).astype(np.float32)
    ours = np.asarray(jax.jit(convolution, static_argnums=3)(x, weight, bias, stride))
    theirs = jax.lax.conv_general_dilated(
        x, weight, (stride, stride), "SAME", dimension_numbers=("CHWN", "HWIO", "CHWN"), precision="highest"
    )
    np.testing.assert_allclose(ours, theirs + bias[:, None, None, None], atol=1e-5)

    out = ours.shape[1]
    before = max((out - 1) * stride + kernel - side, 0) // 2
    padded = np.pad(x, ((0, 0), (before, kernel), (before, kernel), (0, 0))).astype(np.float64)
    for channel in range(4):
        full = sum(signal.correlate(padded[i, :, :, 1], weight[:, :, i, channel], "valid") for i in range(2))
        expected = full[::stride, ::stride][:out, :out] + bias[channel]
        np.testing.assert_allclose(ours[channel, :, :, 1], expected, atol=1e-5)


def test_random_subsets_are_uniform():
    """Of 5 numbers 3: no repeats, and each of the ten subsets equally often."""
    keys = jax.random.split(jax.random.key(0), 20_000)
    drawn = np.sort(np.asarray(jax.jit(jax.vmap(lambda key: random_subset(key, 5, 3)))(keys)), axis=1)
    assert np.all(np.diff(drawn, axis=1) > 0)
    assert drawn.min() == 0
    assert drawn.max() == 4
    _, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(counts) == 10
    assert stats.chisquare(counts).pvalue > 1e-3


def test_a_subset_may_be_everything():
    assert sorted(np.asarray(random_subset(jax.random.key(3), 7, 7))) == list(range(7))
