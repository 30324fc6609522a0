"""Adaptation: the arms of known optimizers in closed form, and a planted hysteresis."""

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from reopt.dynamics.pca import pca
from reopt.mechanisms.adaptation import adaptation
from reopt.optimizers.base import Optimizer
from reopt.optimizers.classical import SGD, Adam, Momentum, RMSProp


def test_rmsprop_divides_by_the_gradient_it_has_seen():
    lr, decay, eps = 0.1, 0.9, 1e-6
    states = np.random.default_rng(0).uniform(size=(9, 1))
    found = adaptation(
        RMSProp(lr, decay, eps), point=np.zeros(1), limit=10.0, num_gradients=21, decades=6.0, pca=pca(states)
    )
    table, g = found.table, found.table.gradient
    assert table.converged.all()
    at_zero = lr / np.sqrt(decay * g**2 + eps)
    np.testing.assert_allclose(table.effective_learning_rate_at_zero, at_zero, rtol=1e-6)
    np.testing.assert_allclose(
        table.effective_learning_rate, lr * (decay * g**2 + eps) / (g**2 + eps) ** 1.5, rtol=1e-6
    )
    np.testing.assert_allclose(table.mean_rate[g != 0], lr / np.sqrt(g**2 + eps)[g != 0], rtol=1e-6)
    np.testing.assert_allclose(table.pc1, g**2 - states.mean(), atol=1e-8)
    np.testing.assert_allclose(table.time_constant, -1 / np.log(decay))
    summary = found.summary
    assert summary["exponent"] == pytest.approx(-1, abs=0.02)
    assert summary["low"] < summary["exponent"] < summary["high"] < -0.95
    assert summary["exponent_positive"] == pytest.approx(-1, abs=0.02)
    assert summary["knee"] == pytest.approx(np.sqrt(eps / decay), rel=0.1)
    assert (summary["monotone_positive"], summary["monotone_negative"]) == (pytest.approx(-1), pytest.approx(-1))
    assert summary["symmetry"] == pytest.approx(0, abs=1e-6)
    assert summary["hysteresis"] is False
    assert summary["range"] == pytest.approx(np.sqrt(decay * 100 / eps), rel=1e-3)
    assert list(table.arm.value_counts().sort_index()) == [21, 21, 1]


def test_functions_are_those_of_the_held_states():
    lr, decay, eps = 0.1, 0.9, 1e-6
    found = adaptation(RMSProp(lr, decay, eps), point=np.zeros(1), limit=1.0, num_gradients=7, num_functions=3)
    table = found.functions
    assert len(table.gradient_held.unique()) == 7
    s = decay * table.gradient_held**2 + (1 - decay) * table.gradient**2
    np.testing.assert_allclose(table["update"], -lr * table.gradient / np.sqrt(s + eps), rtol=1e-6, atol=1e-12)
    assert set(table.place) == {"negative", "zero", "positive"}


def test_momentum_does_not_adapt():
    found = adaptation(Momentum(0.3, 0.99), point=np.zeros(1), limit=1e3, num_gradients=9)
    np.testing.assert_allclose(found.table.effective_learning_rate, 0.3)
    np.testing.assert_allclose(found.table.effective_learning_rate_at_zero, 0.3)
    np.testing.assert_allclose(found.table.mean_rate.dropna(), 30)
    assert found.table.converged.all()
    assert found.summary["exponent"] == pytest.approx(0, abs=1e-9)
    assert found.summary["knee"] is None
    assert found.summary["monotone_positive"] == 0


def test_adam_adapts_with_its_clock_held():
    lr, b1, b2, eps = 0.1, 0.9, 0.99, 1e-6
    found = adaptation(Adam(lr, b1, b2, eps), point=np.zeros(3), limit=1.0, num_gradients=9, decades=3.0)
    g = found.table.gradient.to_numpy()
    np.testing.assert_allclose(found.table.mean_rate[g != 0], (lr / (np.abs(g) + eps))[g != 0], rtol=1e-6)
    expected = lr * (1 - b1) / (np.sqrt(b2) * np.abs(g) + eps)
    np.testing.assert_allclose(found.table.effective_learning_rate_at_zero, expected, rtol=1e-5)
    assert found.summary["exponent"] == pytest.approx(-1, abs=0.02)


def test_sgd_has_nothing_that_could_adapt():
    found = adaptation(SGD(0.2), point=np.zeros(0), limit=1.0, num_gradients=5)
    np.testing.assert_allclose(found.table.effective_learning_rate, 0.2)
    assert found.table.converged.all()
    assert found.summary["exponent"] == pytest.approx(0, abs=1e-12)


class Bistable(Optimizer):
    """h' = h + 0.3 (h - h^3 + g), update -h' g: two branches while |g| < 2 / (3 sqrt 3) = 0.385."""

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("h",)

    def initial_state(self) -> Array:
        return jnp.full(1, 0.9)

    def update(self, state: Array, gradient: Array) -> Array:
        return state + 0.3 * (state - state**3 + gradient[..., None])

    def readout(self, state: Array, gradient: Array) -> Array:
        return -state[..., 0] * gradient


def test_hysteresis_is_seen():
    """Followed from h = -1, the positive arm stays below until the fold; from the initial state it is always above."""
    found = adaptation(Bistable(), point=np.array([-1.0]), limit=0.6, num_gradients=12, decades=1.0)
    assert found.summary["hysteresis"] is True
    positive = found.table[found.table.arm == "positive"]
    below = positive.gradient < 2 / (3 * np.sqrt(3))
    assert np.all(positive.from_start[below] > 0.5)
    np.testing.assert_allclose(positive.from_start[~below], 0, atol=1e-6)
    roots = [max(np.roots([-1, 0, 1, g]).real) for g in positive.gradient[below]]
    step = 0.3 * (np.array(roots) - np.array(roots) ** 3)
    np.testing.assert_allclose(positive.rate_from_start[below], np.array(roots) + step, atol=1e-6)


class Runaway(Bistable):
    """h' = 2 h + g: no attractor at all."""

    def update(self, state: Array, gradient: Array) -> Array:
        return 2 * state + gradient[..., None]


def test_points_that_are_lost_are_said_to_be():
    found = adaptation(Runaway(), point=np.array([0.5]), limit=1.0, num_gradients=4, max_iterations=2048)
    assert not found.table.converged.any()
    assert found.table.effective_learning_rate.isna().all()
    assert found.summary["exponent"] is None
    assert found.summary["converged"] == 0
    assert len(found.functions) == 0
