"""Momentum modes: planted momenta read back with their numbers, and the identity with the impulse response."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reopt.dynamics.fixed_points import find_fixed_points
from reopt.dynamics.linearization import Linearization, linearize
from reopt.evaluation.evaluate import evaluate
from reopt.mechanisms.modes import (
    impulse_memory,
    impulse_response,
    leading_mode,
    linear_response,
    linearized_runs,
    modal_response,
    modes,
    modes_table,
)
from reopt.optimizers.classical import SGD, Adam, Momentum, Nesterov, RMSProp
from reopt.optimizers.learned import LearnedOptimizer, create_learned
from reopt.tasks.quadratic import Quadratic


def _linear(jacobian, drive, readout, direct=0.0):
    size = len(drive)
    zero = np.float64(0)
    return Linearization(
        np.zeros(size), np.array(jacobian, float), np.array(drive, float), np.array(readout, float),
        np.float64(direct), zero, zero, np.array([], int),
    )  # fmt: skip


def test_momentum_is_one_mode_with_its_rates():
    table = modes_table(modes(linearize(Momentum(0.2, 0.9), np.zeros(1))))
    assert len(table) == 1
    row = table.iloc[0]
    assert (row.alpha_real, row.beta_real) == (pytest.approx(0.2), pytest.approx(0.9))
    assert (row.alpha_imag, row.beta_imag) == (0, 0)
    assert row.timescale == pytest.approx(-1 / np.log(0.9))
    assert (row.participation, row.gain) == (1, 1)


def test_nesterov_has_a_direct_term_beside_its_mode():
    table = modes_table(modes(linearize(Nesterov(0.2, 0.9), np.zeros(1))))
    assert list(table.kind) == ["mode", "direct"]
    np.testing.assert_allclose(table.alpha_real, [0.18, 0.2])
    np.testing.assert_allclose(table.beta_real, [0.9, 0])
    np.testing.assert_allclose(table.gain, [1.8 / 2.0, 0.2 / 2.0])
    assert table.timescale[1] == 0


def test_sgd_and_rmsprop_are_direct_terms_only():
    sgd = modes_table(modes(linearize(SGD(0.3), np.zeros(0))))
    assert list(sgd.kind) == ["direct"]
    assert sgd.alpha_real[0] == 0.3
    rmsprop = modes_table(modes(linearize(RMSProp(0.3, 0.9, 0.01), np.zeros(1))))
    np.testing.assert_allclose(rmsprop.alpha_real, [0, 3.0], atol=1e-12)
    np.testing.assert_allclose(rmsprop.participation, [0, 1])


def test_adams_clock_is_no_mode():
    found = modes(linearize(Adam(0.1, 0.9, 0.99, 1e-2), np.zeros(3)))
    np.testing.assert_allclose(found.beta, [0.99, 0.9])
    np.testing.assert_allclose(found.alpha, [0, 0.1 * 0.1 / 1e-2], atol=1e-12)
    assert leading_mode(found) == 1
    assert found.right.shape == (3, 2)


def test_a_rotation_gives_a_conjugate_pair():
    angle, radius = 0.3, 0.8
    rotation = radius * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    found = modes(_linear(rotation, [1, 0], [-1, 0.5]))
    np.testing.assert_allclose(found.beta, radius * np.exp([1j * angle, -1j * angle]))
    np.testing.assert_allclose(found.alpha[0], np.conj(found.alpha[1]))
    lags = np.arange(20)
    # C J^k B = radius^k (-cos k angle + 0.5 sin k angle)
    expected = radius**lags * (-np.cos(lags * angle) + 0.5 * np.sin(lags * angle))
    np.testing.assert_allclose(modal_response(found, 20), expected, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 8), st.floats(0.1, 1.5), st.booleans())
def test_modes_give_the_impulse_response_of_the_matrices(number, size, radius, singular):
    rng = np.random.default_rng(number)
    jacobian = rng.normal(size=(size, size))
    jacobian *= radius / max(np.abs(np.linalg.eigvals(jacobian)).max(), 1e-3)
    if singular:
        jacobian[:, 0] = 0
    linear = _linear(jacobian, rng.normal(size=size), rng.normal(size=size), rng.normal())
    found = modes(linear)
    state, expected = linear.input, []
    for lag in range(12):
        expected.append(linear.readout @ state + (linear.direct if lag == 0 else 0))
        state = jacobian @ state
    np.testing.assert_allclose(linear_response(linear, 12), expected)
    scale = max(1, np.abs(expected).max())
    np.testing.assert_allclose(modal_response(found, 12), expected, atol=1e-12 * found.condition * scale)
    table = modes_table(found)
    assert table.magnitude.iloc[:size].is_monotonic_decreasing or np.all(np.diff(table.magnitude.iloc[:size]) < 1e-9)
    assert table.participation.sum() == pytest.approx(1)


def test_a_defective_jacobian_is_told_by_its_condition():
    found = modes(_linear([[0.9, 1.0], [0.0, 0.9]], [0, 1], [1, 0]))
    assert found.condition > 1e8
    assert np.isfinite(found.alpha).all()
    np.testing.assert_allclose(linear_response(_linear([[0.9, 1], [0, 0.9]], [0, 1], [1, 0]), 4), [0, 1, 1.8, 2.43])


def test_an_integrator_does_not_break_the_table():
    table = modes_table(modes(_linear(np.diag([1.0, 0.5]), [1, 1], [-1, -1])))
    assert np.isinf(table.timescale[0])
    assert table.gain[0] == pytest.approx(1)
    assert not table.drop(columns="kind").isna().to_numpy().any()


@pytest.fixture(scope="module")
def gru() -> LearnedOptimizer:
    optimizer = create_learned(jax.random.key(0), cell="gru", units=8)
    weight = jax.random.normal(jax.random.key(1), (8,))
    return LearnedOptimizer(optimizer.cell, optimizer.start, weight, jnp.float32(0.1))


def test_small_pulses_of_a_gru_get_the_linear_answer(gru):
    point = find_fixed_points(gru, np.zeros((2, 8)), newton_seeds=0).points[0]
    linear = linearize(gru, point)
    table = impulse_response(gru, linear, num_lags=15, pulse=1e-5)
    scale = np.abs(table.linear).max()
    assert scale > 0.01
    np.testing.assert_allclose(table.response, table.linear, atol=1e-4 * scale)
    np.testing.assert_allclose(table.modes, table.linear, atol=1e-10 * scale)
    large = impulse_response(gru, linear, num_lags=15, pulse=10.0)
    assert np.abs(large.response - large.linear).max() > 0.1 * scale  # a saturating input is not linear


def test_the_pulse_of_an_optimizer_with_a_clock_uses_the_clock_of_its_point():
    linear = linearize(Adam(0.1, 0.9, 0.99, 1.0, 10.0), np.zeros(3), clock=20.0)
    table = impulse_response(Adam(0.1, 0.9, 0.99, 1.0, 10.0), linear, num_lags=4, pulse=1e-6)
    np.testing.assert_allclose(table.response, table.linear, rtol=1e-5)
    assert abs(table.linear[0]) == pytest.approx(0.1 * 0.25 * 0.1 / (1 - 0.9**21))


def test_linearized_runs_of_momentum_are_its_own_on_the_evaluation_problems():
    task, momentum = Quadratic(), Momentum(1.0, 0.8)
    runs = linearized_runs(momentum, linearize(momentum, np.zeros(1)), task, seed=1, num_steps=20, problems=6)
    np.testing.assert_allclose(runs.problems.linearized, runs.problems.learned, rtol=1e-3)
    np.testing.assert_allclose(runs.curves.linearized, runs.curves.learned, rtol=1e-3, atol=1e-6)
    judged = evaluate(momentum, task, name="m", task_name="quadratic", problems=6, seed=1, num_steps=20)
    np.testing.assert_allclose(runs.problems.learned, judged.table.meta_objective, rtol=1e-5)
    np.testing.assert_array_equal(runs.curves.step, np.arange(20))


def test_linearized_runs_call_a_diverged_run_infinite():
    fast = Momentum(1e6, 0.9)
    runs = linearized_runs(fast, linearize(fast, np.zeros(1)), Quadratic(), seed=1, num_steps=20, problems=2)
    assert np.isposinf(runs.problems.learned).all()


@pytest.mark.parametrize("beta", [0.0, 0.5, -0.9, 0.99, 0.999, 0.99999, 1 - 1e-9, 1.0])
@pytest.mark.parametrize("nesterov", [False, True])
def test_memory_is_that_of_the_whole_response(beta: float, nesterov: bool):
    """r_k = beta^k: |beta| of the response comes later. With Nesterov's direct term r_0 = 1 + beta, r_k = beta^(k + 1)
    beyond: b^2 / (1 - b) over 1 + beta + b^2 / (1 - b), b = |beta|. A sum over 400 lags has 0.997 for beta = 0.999."""
    with jax.enable_x64(True):
        subject = (Nesterov if nesterov else Momentum)(jnp.asarray(0.3), jnp.asarray(beta))
    size, rest = abs(beta), max(1 - abs(beta), 1e-300)
    expected = size
    if nesterov:
        expected = size**2 / rest / (1 + beta + size**2 / rest)
    np.testing.assert_allclose(impulse_memory(linearize(subject, np.zeros(1))), expected, rtol=1e-9, atol=1e-300)
    np.testing.assert_allclose(1 - impulse_memory(linearize(subject, np.zeros(1))), 1 - expected, rtol=1e-4, atol=1e-13)


@pytest.mark.parametrize("beta", [1 + 1e-9, 1.0001, -1.2, 3.0, 1e200])
def test_memory_of_a_response_that_grows_is_all_of_it(beta: float):
    """r_k = beta^k with |beta| > 1: the share that comes later has the limit 1."""
    one, zero = np.ones(1), np.zeros(())
    growing = Linearization(0 * one, np.array([[beta]]), one, one, zero, zero, zero, np.zeros(0, int))
    assert impulse_memory(growing) == pytest.approx(1, abs=1e-9)
