"""Learned optimizers: features, readout, initial state, types."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reopt.optimizers.cells import CELLS
from reopt.optimizers.learned import LearnedOptimizer, cast, create_learned


def trained(cell: str = "gru", **settings) -> LearnedOptimizer:
    """A learned optimizer with random weights everywhere."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: create_learned(jax.random.key(0), cell=cell, units=4, **settings))
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), shapes)


@pytest.mark.parametrize(("cell", "features"), [("gru", "raw"), ("lstm", "log1p"), ("vanilla", "log1p")])
def test_untrained_does_not_move_though_its_state_does(cell: str, features: str):
    optimizer = create_learned(jax.random.key(0), cell=cell, units=4, features=features, output_scale=10.0)
    gradients = jnp.asarray(np.random.default_rng(0).normal(size=(3, 6)), jnp.float32)
    state, updates = jax.lax.scan(lambda h, g: optimizer(h, g), optimizer.initial_states((6,)), gradients)
    np.testing.assert_array_equal(optimizer.initial_state(), 0)
    np.testing.assert_array_equal(updates, 0)
    assert np.all(np.abs(state) > 0)


@pytest.mark.parametrize("cell", CELLS)
def test_reads_the_new_state(cell: str):
    optimizer = trained(cell, input_scale=2.0, output_scale=0.1)
    gradient = jnp.asarray([0.4, -1.0, 3.0])
    state = optimizer.initial_states((3,))
    new, update = optimizer(state, gradient)
    np.testing.assert_array_equal(state, np.tile(optimizer.start, (3, 1)))
    expected_state, _ = optimizer.cell.forward(state, 2 * gradient[:, None])
    np.testing.assert_allclose(new, expected_state, rtol=1e-6)

    def read(state: jax.Array) -> np.ndarray:
        hidden = np.asarray(state)[:, :4]  # of the LSTM's (h, c) only h
        return 0.1 * (hidden @ np.asarray(optimizer.readout_weight) + np.asarray(optimizer.readout_bias))

    by_hand, of_old_state = read(new), read(state)
    np.testing.assert_allclose(update, by_hand, rtol=1e-5, atol=1e-7)
    assert np.all(np.abs(by_hand - of_old_state) > 1e-3)


def test_features():
    gradient = jnp.asarray([0.0, 1e-6, -1.0, 1e6])
    raw = trained(input_scale=3.0)
    np.testing.assert_array_equal(raw.featurize(gradient), 3 * np.asarray(gradient)[:, None])
    log1p = trained(features="log1p", input_scale=3.0)
    expected = np.stack([np.log1p(3 * np.abs(np.asarray(gradient, float))), [0, 1, -1, 1]], axis=-1)
    np.testing.assert_allclose(log1p.featurize(gradient), expected, rtol=1e-6)


def test_scales_commute_with_the_units_of_the_problem():
    """Ten times the gradient and a tenth of the input scale are the same thing, and the update has its own scale."""
    gradient = jnp.asarray([0.3, -0.8])
    one, other = trained(), trained(input_scale=0.1, output_scale=5.0)
    _, update = one(one.initial_states((2,)), gradient)
    _, scaled = other(other.initial_states((2,)), 10 * gradient)
    np.testing.assert_allclose(scaled, 5 * update, rtol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_cast_changes_the_type_alone(cell: str):
    optimizer = trained(cell, features="log1p", input_scale=2.0, output_scale=0.5)
    with jax.enable_x64(True):
        double = cast(optimizer, jnp.float64)
        assert {leaf.dtype for leaf in jax.tree.leaves(double)} == {jnp.dtype("float64")}
        for new, old in zip(jax.tree.leaves(double), jax.tree.leaves(optimizer), strict=True):
            np.testing.assert_array_equal(new, old)
        assert (double.features, double.input_scale, double.output_scale) == ("log1p", 2.0, 0.5)
        gradient = jnp.asarray([0.3, -0.8], jnp.float64)
        state, update = double(double.initial_states((2,)), gradient)
        assert (state.dtype, update.dtype) == (jnp.float64, jnp.float64)
    _, single = optimizer(optimizer.initial_states((2,)), gradient.astype(jnp.float32))
    np.testing.assert_allclose(single, update, rtol=1e-5)


def test_the_key_decides_the_weights():
    def weights(seed: int) -> np.ndarray:
        optimizer = create_learned(jax.random.key(seed), cell="vanilla", units=4)
        return np.concatenate([optimizer.cell.input, optimizer.cell.recurrent])

    np.testing.assert_array_equal(weights(0), weights(0))
    assert np.all(weights(0) != weights(1))
