"""Linearization: derivatives against finite differences and closed forms; the linear optimizer in a run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reopt.core.errors import ReoptError
from reopt.dynamics.linearization import linearize, linearized_optimizer
from reopt.evaluation.unroll import unroll
from reopt.optimizers.classical import SGD, Adam, Momentum, Nesterov, RMSProp
from reopt.optimizers.learned import cast, create_learned
from reopt.tasks.quadratic import Quadratic


@pytest.fixture(scope="module")
def gru():
    optimizer = create_learned(jax.random.key(0), cell="gru", units=6, output_scale=0.5)
    weight = jax.random.normal(jax.random.key(1), (6,))
    return type(optimizer)(optimizer.cell, optimizer.start, weight, jnp.float32(0.3), output_scale=0.5)


def test_derivatives_of_a_gru_against_finite_differences(gru):
    rng = np.random.default_rng(0)
    point, gradient, step = rng.normal(size=6), 0.7, 1e-5
    linear = linearize(gru, point, gradient)
    with jax.enable_x64(True):
        exact = cast(gru, jnp.float64)

        def f(h, g):
            return np.asarray(exact.update(jnp.asarray(h), jnp.asarray(g)))

        def r(h, g):
            return float(exact.readout(jnp.asarray(h), jnp.asarray(g)))

        columns = [(f(point + step * e, gradient) - f(point - step * e, gradient)) / (2 * step) for e in np.eye(6)]
        drive = (f(point, gradient + step) - f(point, gradient - step)) / (2 * step)
        after = f(point, gradient)
        readout = [(r(after + step * e, gradient) - r(after - step * e, gradient)) / (2 * step) for e in np.eye(6)]
        offset = r(after, gradient)
    np.testing.assert_allclose(linear.jacobian, np.stack(columns, axis=1), atol=1e-9)
    np.testing.assert_allclose(linear.input, drive, atol=1e-9)
    np.testing.assert_allclose(linear.readout, readout, atol=1e-9)
    assert linear.direct == 0
    assert linear.offset == pytest.approx(offset, abs=1e-14)
    assert linear.jacobian.dtype == np.float64


def test_momentum_and_nesterov_are_read_back():
    plain = linearize(Momentum(0.2, 0.9), np.zeros(1))
    assert (plain.jacobian, plain.input, plain.readout, plain.direct) == (0.9, 1, -0.2, 0)
    nesterov = linearize(Nesterov(0.2, 0.9), np.zeros(1))
    assert nesterov.readout[0] == pytest.approx(-0.18)
    assert nesterov.direct == pytest.approx(-0.2)


def test_rmsprop_at_a_constant_gradient():
    lr, decay, eps, g = 0.1, 0.95, 1e-3, 0.4
    linear = linearize(RMSProp(lr, decay, eps), np.array([g**2]), g)
    assert linear.jacobian[0, 0] == pytest.approx(decay)
    assert linear.input[0] == pytest.approx(2 * (1 - decay) * g)
    assert linear.readout[0] == pytest.approx(0.5 * lr * g * (g**2 + eps) ** -1.5)
    assert linear.direct == pytest.approx(-lr / np.sqrt(g**2 + eps))
    assert linear.offset == pytest.approx(-lr * g / np.sqrt(g**2 + eps))


def test_a_clock_has_no_row_and_no_column_and_is_seen_by_the_readout():
    lr, half_life, clock = 0.1, 50.0, 100.0
    linear = linearize(Adam(lr, 0.9, 0.99, 1e-2, half_life), np.array([0, 0, 3.0]), clock=clock)
    np.testing.assert_allclose(linear.jacobian, np.diag([0.9, 0.99, 0]), atol=1e-15)
    np.testing.assert_allclose(linear.input, [0.1, 0, 0])
    np.testing.assert_array_equal(linear.held, [2])
    assert linear.point[2] == clock
    rate = lr * 2 ** -(clock / half_life) / (1 - 0.9 ** (clock + 1)) / 1e-2
    np.testing.assert_allclose(linear.readout, [-rate, 0, 0], rtol=1e-12)


def test_an_optimizer_without_state_is_its_direct_term():
    linear = linearize(SGD(0.3), np.zeros(0))
    assert linear.jacobian.shape == (0, 0)
    assert linear.direct == -0.3


def test_the_linearization_of_momentum_runs_like_momentum():
    task = Quadratic()
    problems = task.sample_batch(jax.random.key(0), 4)
    momentum = Nesterov(1.5, 0.8)
    linear = linearized_optimizer(linearize(momentum, np.zeros(1)))
    assert linear.jacobian.dtype == jnp.float32
    ours, true = (unroll(o, task, problems, 30).losses for o in (linear, momentum))
    np.testing.assert_allclose(ours, true, rtol=2e-3)


def test_the_linear_optimizer_keeps_the_update_at_rest(gru):
    point = np.asarray(np.random.default_rng(0).normal(size=6))
    linear = linearize(gru, point)
    _, update = linearized_optimizer(linear)(jnp.zeros(6), jnp.zeros(()))
    assert float(update) == pytest.approx(float(linear.offset), rel=1e-6)


def test_only_a_linearization_at_zero_gradient_is_an_optimizer():
    with pytest.raises(ReoptError, match="gradient 0"):
        linearized_optimizer(linearize(RMSProp(0.1, 0.9), np.array([0.04]), 0.2))


def test_a_point_without_derivatives_is_refused():
    with pytest.raises(ReoptError, match="linearized"):
        linearize(RMSProp(0.1, 0.9, 0.0), np.zeros(1))
