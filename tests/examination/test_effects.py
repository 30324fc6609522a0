"""Effects that claims are judged by: closed forms, and values found by other means."""

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

from reopt.dynamics.linearization import Linearization
from reopt.dynamics.record import Recording
from reopt.examination import effects

GENERATOR = np.random.default_rng(0)


def recording(states: np.ndarray, gradients: np.ndarray, updates: np.ndarray, losses: np.ndarray) -> Recording:
    return Recording(states, gradients, updates, losses, np.arange(gradients.shape[2]))


def impulse(response: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"lag": range(len(response)), "linear": response})


def test_a_ratio_of_means_has_the_interval_of_its_residuals():
    """Parts 1, 2, 3 of wholes 2, 4, 12: 1/3, with residuals 1/3, 2/3, -1; s = sqrt(3/2 * 14/9) / 18."""
    parts, wholes = np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 12.0])
    found = effects.ratio(parts, wholes, 0.95)
    half = 4.302652729696142 * np.sqrt(3 / 2 * 14 / 9) / 18
    assert found == pytest.approx((1 / 3, max(0, 1 / 3 - half), 1 / 3 + half))
    assert effects.ratio(parts[:1], wholes[:1], 0.95) == (0.5, 0.5, 0.5)
    assert np.isnan(effects.ratio(parts, 0 * wholes, 0.95)).all()


def test_a_ratio_lies_in_its_interval_as_often_as_it_says():
    inside = 0
    for _ in range(400):
        wholes = GENERATOR.uniform(1, 3, 12)
        found = effects.ratio(0.5 * wholes + GENERATOR.uniform(-0.4, 0.4, 12), wholes, 0.9)
        inside += found.low <= 0.5 <= found.high
    assert stats.binomtest(inside, 400, 0.9).pvalue > 1e-3


def linear_run(noise: float) -> tuple[Recording, Linearization]:
    """A linear optimizer of three components with a direct term, at work on random gradients."""
    jacobian, drive, readout = 0.3 * GENERATOR.normal(size=(3, 3)), *GENERATOR.normal(size=(2, 3))
    point, direct, offset = GENERATOR.normal(size=3), 0.7, 0.1
    states, gradients = np.zeros((40, 2, 2, 3)), GENERATOR.normal(size=(40, 5, 2))
    states[0] = point
    for k in range(39):
        states[k + 1] = point + (states[k] - point) @ jacobian.T + gradients[k, :2, :, None] * drive
    after = (states - point) @ jacobian.T + gradients[:, :2, :, None] * drive
    updates = np.zeros((40, 5, 2))
    updates[:, :2] = offset + after @ readout + direct * gradients[:, :2]
    updates[:, :2] += noise * updates[:, :2].std() * GENERATOR.normal(size=(40, 2, 2))
    updates[:5] = 99.0  # the first quarter does not count
    zero = np.zeros(())
    parts = Linearization(
        point, jacobian, drive, readout, np.asarray(direct), np.asarray(offset), zero, np.zeros(0, int)
    )
    return recording(states, gradients, updates, np.ones((40, 5))), parts


def test_one_step_of_the_linearization_explains_a_linear_optimizer():
    assert effects.linear_update(*linear_run(0.0), 0.95) == pytest.approx((1, 1, 1), abs=1e-12)
    noisy = effects.linear_update(*linear_run(1.0), 0.95)
    assert noisy.value == pytest.approx(0.5, abs=0.15)
    assert noisy.low < noisy.value < noisy.high <= 1


def test_runs_that_diverged_are_left_out_of_the_linear_update():
    runs, parts = linear_run(0.0)
    runs.updates[20:, 1] = np.nan
    runs.states[20:, 1] = np.inf
    assert effects.linear_update(runs, parts, 0.95).value == pytest.approx(1)


def test_the_fitted_mode_is_that_of_least_squares():
    response = -3.0 * 0.9 ** np.arange(50) + 0.3 * GENERATOR.normal(size=50)
    found = effects.one_mode(impulse(response))
    lags = np.arange(50)
    best = optimize.least_squares(lambda p: p[0] * p[1] ** lags + response, [2.0, 0.5], xtol=1e-14, ftol=1e-14)
    assert (found.alpha, found.beta) == pytest.approx(tuple(best.x), rel=1e-5)
    assert found.r2 == pytest.approx(1 - np.sum(best.fun**2) / np.sum((response - response.mean()) ** 2))
    exact = effects.one_mode(impulse(-3.6 * 0.91 ** np.arange(50)))
    assert exact == pytest.approx((3.6, 0.91, 1.0), rel=1e-6)
    assert effects.one_mode(impulse(2.0 * 0.5 ** np.arange(50))).alpha == 0, "a buffer that climbs is none"


def test_a_buffer_gives_its_beta_to_the_fifth_power_after_five_lags():
    share = effects.delayed_response(impulse(-2.0 * 0.8 ** np.arange(400)))
    assert share == pytest.approx(0.8**5)


def test_gradients_count_until_the_loss_has_first_gone():
    """Four steps of a problem, ten of another: 2 of 4 and 10 of 10 beyond 1; a later rise of the loss is late."""
    losses = np.ones((12, 2))
    losses[4:, 0], losses[6, 0], losses[10:, 1] = 0.05, 0.5, 0.1
    gradients = np.full((12, 2, 1), 5.0)
    gradients[2:, 0] = 0.5
    gradients[:, 1] *= -1
    row = pd.Series({"half_slope_positive": 1.0, "half_slope_negative": 2.0, "fraction_beyond_half_slope": 0.5})
    runs = recording(np.zeros((12, 1, 1, 1)), gradients, gradients, losses)
    assert effects.beyond_while_losing(runs, row, 0.95).value == pytest.approx(12 / 14)
    assert effects.beyond_while_losing(runs, row.replace(1.0, np.nan), 0.95).value == pytest.approx(10 / 14)
    assert np.isnan(effects.beyond_while_losing(runs, row.replace(0.5, np.nan), 0.95).value)


def test_ranges_are_quantiles_of_the_gradients_met():
    gradients = np.resize(np.linspace(-1, 1, 2001), (2001, 1, 1))
    runs = recording(np.zeros((2001, 1, 1, 1)), gradients, gradients, np.ones((2001, 1)))
    assert effects.gradients_met(runs) == pytest.approx((0.5, 0.9, 0.99, 0.999), abs=1e-3)
    nothing = runs._replace(gradients=np.full((2001, 1, 1), np.nan))
    assert np.isnan(effects.gradients_met(nothing)).all()


def arms(rate) -> pd.DataFrame:
    sizes = np.geomspace(1e-3, 10, 41)
    gradients = np.concatenate([-sizes[::-1], [0.0], sizes])
    arm = np.array(["negative", "zero", "positive"])[np.sign(gradients).astype(int) + 1]
    points = {"pc1": np.tanh(gradients), "pc2": np.abs(gradients) / 100, "pc3": np.nan}
    table = pd.DataFrame({"gradient": gradients, "arm": arm, effects.RATE: rate(gradients), **points})
    return table.assign(converged=True, spectral_radius=0.9)


def test_rmsprop_falls_by_the_power_minus_one_and_both_arms_alike():
    table = arms(lambda g: 1 / np.sqrt(1e-4 + g**2))
    met = effects.Met(0.1, 1.0, 3.0, 10.0)
    assert effects.far_exponent(table, met) == pytest.approx((-1, -1, -1), abs=1e-3)
    rate = 1 / np.sqrt(1e-4 + np.array([10.0, 0.1]) ** 2)
    assert effects.rate_fall(table, met) == pytest.approx((rate[0] / rate[1],) * 2, rel=1e-3)
    assert effects.arm_difference(table, met) == pytest.approx(0, abs=1e-12)
    bent = arms(lambda g: np.where(g > 0, 0.8, 1.0))
    assert effects.arm_difference(bent, met) == pytest.approx(0.2)


def test_a_saturating_curve_is_an_s_with_opposite_arms():
    found = effects.curve(arms(np.abs), effects.Met(0.1, 1.0, 3.0, 10.0))
    assert found.found == 1
    assert found.cosine < -0.95
    table = arms(np.abs)
    spots = table[["pc1", "pc2"]].to_numpy()
    steps = np.linalg.norm(np.diff(spots, axis=0), axis=1)
    assert found.jump == pytest.approx(steps.max() / steps.sum())
