"""Each classical optimizer against its optax twin."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from reopt.optimizers.base import Optimizer
from reopt.optimizers.classical import BASELINES, SGD, Adam, Momentum, Nesterov, RMSProp

TWINS: dict[str, tuple[Optimizer, optax.GradientTransformation]] = {
    "sgd": (SGD(0.3), optax.sgd(0.3)),
    "momentum": (Momentum(0.2, 0.93), optax.sgd(0.2, momentum=0.93)),
    "nesterov": (Nesterov(0.2, 0.93), optax.sgd(0.2, momentum=0.93, nesterov=True)),
    "rmsprop": (RMSProp(0.05, 0.97, 1e-4), optax.rmsprop(0.05, decay=0.97, eps=1e-4)),
    "adam": (Adam(0.1), optax.adam(0.1)),
    "adam, other betas": (Adam(3.0, 0.6, 0.95, 0.2), optax.adam(3.0, b1=0.6, b2=0.95, eps=0.2)),
    "adam_decay": (
        Adam(0.1, 0.8, 0.99, 1e-6, half_life=30.0),
        optax.adam(lambda count: 0.1 * 0.5 ** (count.astype(float) / 30), b1=0.8, b2=0.99, eps=1e-6),
    ),
}


def hard_gradients(num_steps: int) -> np.ndarray:
    """Gradients `(step, param)` over ten orders of magnitude, with zeros: at first, always, and now and then."""
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(num_steps, 6)) * 10.0 ** rng.uniform(-8, 2, size=(num_steps, 6))
    gradients[:50, 1] = 0
    gradients[:, 2] = 0
    gradients[100:120] = 0
    gradients[:2] = 0
    return gradients


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize(("double", "rtol"), [(True, 1e-12), (False, 2e-4)])
def test_equals_its_optax_twin(name: str, double: bool, rtol: float):
    ours, twin = TWINS[name]
    with jax.enable_x64(double):
        gradients = jnp.asarray(hard_gradients(200))
        start = ours.initial_states((6,)).astype(gradients.dtype)
        _, updates = jax.lax.scan(lambda h, g: ours(h, g), start, gradients)

        def step(state, gradient):
            update, state = twin.update(gradient, state)
            return state, update

        _, expected = jax.lax.scan(step, twin.init(jnp.zeros(6)), gradients)
        assert updates.dtype == (jnp.float64 if double else jnp.float32)
        updates, expected = np.asarray(updates), np.asarray(expected)
    # Sums of terms of both signs are exact to rounding of the terms, not of the sum.
    np.testing.assert_allclose(updates, expected, rtol=rtol, atol=1e-3 * rtol * np.abs(expected).max())
    assert np.all(updates[:, 2] == 0)
    assert np.abs(updates[-1, 0]) > 0


def test_every_baseline_names_its_hyperparameters_and_state():
    for name, kind in BASELINES.items():
        values = dict.fromkeys(kind.hyperparameters, 0.5)
        optimizer = kind(**values)
        assert len(optimizer.state_names) == optimizer.state_size == optimizer.initial_state().shape[0], name
        for hyperparameter in kind.hyperparameters:
            assert getattr(optimizer, hyperparameter) == 0.5


def test_the_clock_of_adam_counts_steps_and_nothing_else_does():
    adam = Adam(0.1)
    gradients = jnp.tile(jnp.asarray([1.0, -2.0, 0.0]), (7, 1))
    state, _ = jax.lax.scan(lambda h, g: adam(h, g), adam.initial_states((3,)), gradients)
    assert adam.clock is not None
    np.testing.assert_array_equal(state[:, adam.clock], [7, 7, 7])
    assert adam.state_names[adam.clock] == "step"
    assert [kind(0.1, 0.9).clock for kind in (Momentum, Nesterov, RMSProp)] == [None, None, None]


@pytest.mark.parametrize("name", TWINS)
def test_derivatives_are_finite_where_no_gradient_has_come_yet(name: str):
    ours, _ = TWINS[name]

    def update(state, gradient):
        return ours(state, gradient)[1]

    state = ours.initial_state()
    slopes = jax.jit(jax.jacobian(update, argnums=(0, 1)))(state, jnp.zeros(()))
    assert all(np.all(np.isfinite(slope)) for slope in slopes)


def test_the_half_life_halves_the_rate():
    steady, falling = Adam(0.1, eps=1e-12), Adam(0.1, eps=1e-12, half_life=10.0)
    state = jnp.stack([jnp.ones(41), jnp.ones(41), jnp.arange(41) + 1.0], axis=-1)
    ratio = falling.readout(state, jnp.ones(41)) / steady.readout(state, jnp.ones(41))
    np.testing.assert_allclose(ratio, 2 ** (-np.arange(41) / 10), rtol=1e-5)
    decay = optax.exponential_decay(1.0, 10, 0.5)
    np.testing.assert_allclose(ratio, [decay(step) for step in range(41)], rtol=1e-5)
