"""What holds for every optimizer: one table, one battery."""

import functools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from reopt.optimizers.base import Optimizer
from reopt.optimizers.classical import SGD, Adam, Momentum, Nesterov, RMSProp
from reopt.optimizers.learned import create_learned
from reopt.optimizers.optax_bridge import from_optax


def moving(optimizer: Optimizer, seed: int = 0) -> Optimizer:
    """The optimizer with noise on all its arrays, so that an untrained one moves too."""
    arrays, rest = eqx.partition(optimizer, eqx.is_inexact_array)
    leaves, structure = jax.tree.flatten(arrays)
    keys = jax.random.split(jax.random.key(seed), len(leaves) + 1)[1:]
    noisy = [leaf + 0.3 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return eqx.combine(jax.tree.unflatten(structure, noisy), rest)


def learned(cell: str, features: str) -> Optimizer:
    return moving(create_learned(jax.random.key(1), cell=cell, units=5, features=features, output_scale=0.5))


TABLE: dict[str, Callable[[], Optimizer]] = {
    "sgd": lambda: SGD(0.3),
    "momentum": lambda: Momentum(0.2, 0.9),
    "nesterov": lambda: Nesterov(0.2, 0.9),
    "rmsprop": lambda: RMSProp(0.1, 0.9),
    "adam": lambda: Adam(0.1),
    "adam_decay": lambda: Adam(0.1, half_life=5.0),
    "gru": lambda: learned("gru", "raw"),
    "lstm": lambda: learned("lstm", "log1p"),
    "vanilla": lambda: learned("vanilla", "raw"),
    "optax adam": lambda: from_optax(optax.adam(0.1)),
    "optax lion": lambda: from_optax(optax.lion(0.1, weight_decay=0.0)),
}


@functools.cache
def made(name: str) -> Optimizer:
    return TABLE[name]()


@pytest.fixture(params=TABLE)
def optimizer(request: pytest.FixtureRequest) -> Optimizer:
    return made(request.param)


@jax.jit
def run(optimizer: Optimizer, gradients: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Last state and all updates `(step, *param)`."""
    return jax.lax.scan(lambda h, g: optimizer(h, g), optimizer.initial_states(gradients.shape[1:]), gradients)


def gradients_of(*shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(2), shape)


def test_keeps_type_and_shape(optimizer: Optimizer):
    gradients = gradients_of(4, 6)
    state, updates = run(optimizer, gradients)
    assert (state.shape, state.dtype) == ((6, optimizer.state_size), jnp.float32)
    assert (updates.shape, updates.dtype) == ((4, 6), jnp.float32)
    assert np.all(np.isfinite(updates))
    assert np.all(np.asarray(updates) != 0)


def test_names_its_state(optimizer: Optimizer):
    names = optimizer.state_names
    assert len(set(names)) == len(names) == optimizer.initial_state().size
    assert optimizer.clock is None or names[optimizer.clock] == "step"


def test_permuted_parameters_give_permuted_updates(optimizer: Optimizer):
    gradients = gradients_of(4, 6)
    order = np.asarray([3, 0, 5, 1, 4, 2])
    state, updates = run(optimizer, gradients)
    state_of_permuted, updates_of_permuted = run(optimizer, gradients[:, order])
    np.testing.assert_allclose(updates_of_permuted, updates[:, order], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state_of_permuted, state[order], rtol=1e-5, atol=1e-6)


def test_one_parameter_knows_nothing_of_another(optimizer: Optimizer):
    gradients = gradients_of(4, 6)
    _, updates = run(optimizer, gradients)
    _, others = run(optimizer, gradients.at[:, 0].multiply(-50))
    np.testing.assert_allclose(others[:, 1:], updates[:, 1:], rtol=1e-6, atol=0)
    assert np.all(np.asarray(others[:, 0]) != np.asarray(updates[:, 0]))


def test_any_number_of_leading_axes(optimizer: Optimizer):
    gradients = gradients_of(4, 6)
    state, updates = run(optimizer, gradients)
    state_of_grid, updates_of_grid = run(optimizer, gradients.reshape(4, 3, 2))
    np.testing.assert_allclose(updates_of_grid.reshape(4, 6), updates, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state_of_grid.reshape(6, -1), state, rtol=1e-5, atol=1e-6)
    state_of_one, updates_of_one = run(optimizer, gradients[:, 4])
    np.testing.assert_allclose(updates_of_one, updates[:, 4], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state_of_one, state[4], rtol=1e-5, atol=1e-6)


def test_is_compiled_once(optimizer: Optimizer):
    traces = []

    @jax.jit
    def step(optimizer: Optimizer, state: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
        traces.append(None)
        return optimizer(state, gradient)

    # Strong types, as in a carry: the initial state of some is made of weakly typed Python numbers.
    state = jnp.asarray(np.asarray(optimizer.initial_states((6,))))
    for gradient in gradients_of(3, 6):
        state, _ = step(optimizer, state, gradient)
        optimizer = jax.tree.map(lambda leaf: leaf * 0.9, optimizer)  # other values, same program
    assert len(traces) == 1


def test_state_is_updated_before_it_is_read(optimizer: Optimizer):
    state, gradient = optimizer.initial_states((6,)), gradients_of(6)
    new, update = optimizer(state, gradient)
    np.testing.assert_array_equal(new, optimizer.update(state, gradient))
    np.testing.assert_array_equal(update, optimizer.readout(new, gradient))
