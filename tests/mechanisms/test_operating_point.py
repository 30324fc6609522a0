"""Optimizers where they work: in the states of runs, against closed forms of what the recorded gradients make."""

import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reopt.dynamics.record import Recording
from reopt.examination.examination import examine
from reopt.mechanisms import adaptation, clipping, momentum
from reopt.mechanisms.operating_point import STEPS, operating_point
from reopt.optimizers.base import Optimizer
from reopt.optimizers.optax_bridge import from_optax
from reopt.tasks.quadratic import Quadratic

NUM_STEPS, GRID = 40, np.linspace(-2, 2, 21)
RNG = np.random.default_rng(5)
GRADIENTS = (RNG.normal(size=(NUM_STEPS, 3, 2)) * 10.0 ** RNG.uniform(-1, 1, size=(3, 2))).astype(np.float32)


def met(gradients: np.ndarray = GRADIENTS, hidden: int = 1) -> Recording:
    """A recording of these gradients; its states are not looked at."""
    steps, problems, params = gradients.shape
    states = np.zeros((steps, problems, params, hidden), np.float32)
    return Recording(states, gradients, gradients, gradients[..., 0], np.arange(params))


def in_runs(optimizer: Optimizer, clock: float = 39.0):
    return operating_point(optimizer, met(), GRID, clock=clock)


@settings(max_examples=2, deadline=None, derandomize=True)
@given(st.floats(1e-4, 1.0), st.floats(0.5, 0.98), st.floats(0.5, 0.999), st.floats(1e-8, 1e-2))
def test_adam_has_the_rate_of_its_second_moment(rate: float, b1: float, b2: float, eps: float) -> None:
    """At E_k the first moment is 0, the second v_k = (1 - b2) sum_i b2^(k - 1 - i) g_i^2, and a small gradient at step
    k + 1 is answered by rate (1 - b1) / (1 - b1^(k+1)) / (sqrt(b2 v_k / (1 - b2^(k+1))) + eps); its memory is b1."""
    found = in_runs(from_optax(optax.adam(rate, b1=b1, b2=b2, eps=eps)))
    table = found.table.set_index(["step", "problem", "param"])
    assert len(table) == STEPS * 6
    moment = np.zeros(GRADIENTS.shape[1:])
    for step, gradients in enumerate(GRADIENTS.astype(np.float64)):
        if step in table.index.levels[0]:
            corrected = b2 * moment / (1 - b2 ** (step + 1))
            expected = rate * (1 - b1) / (1 - b1 ** (step + 1)) / (np.sqrt(corrected) + eps)
            np.testing.assert_allclose(table.loc[step, "rate"].to_numpy().reshape(3, 2), expected, rtol=1e-6)
            corrected = b2 * moment / (1 - b2**40)
            expected = rate * (1 - b1) / (1 - b1**40) / (np.sqrt(corrected) + eps)
            np.testing.assert_allclose(table.loc[step, "rate_at_end"].to_numpy().reshape(3, 2), expected, rtol=1e-6)
        moment = b2 * moment + (1 - b2) * gradients**2
    np.testing.assert_allclose(table["memory"], b1, rtol=1e-6)
    np.testing.assert_array_equal(table["met"], GRADIENTS[np.unique(table.index.get_level_values(0))].ravel())


@pytest.mark.parametrize("beta", [0.0, 0.9])
def test_a_clip_saturates_at_the_gradients_beyond_it(beta: float) -> None:
    """Of c = 0.5 in front of a heavy ball: 0 within, 1 beyond; rate and memory are those of the ball in every state."""
    transformation = optax.chain(optax.clip(0.5), optax.sgd(0.2, momentum=beta))
    found = in_runs(from_optax(transformation))
    beyond = np.abs(found.table["met"]) > 0.5
    assert 0.1 < beyond.mean() < 0.9
    np.testing.assert_allclose(found.table["saturation"], beyond, atol=1e-9)
    assert found.saturated == beyond.mean()
    np.testing.assert_allclose(found.table["rate"], 0.2, rtol=1e-12)
    np.testing.assert_allclose(found.table["memory"], beta, rtol=1e-12)
    assert found.range == 0
    assert found.spread("rate") == pytest.approx((0.2, 0.2, 0.2))
    shown = found.functions[found.functions["step"] == found.functions["step"].max()]
    np.testing.assert_allclose(shown["update"], -0.2 * np.clip(GRID, -0.5, 0.5), atol=1e-12)


def test_what_only_has_a_sign_has_no_rate_and_is_saturated() -> None:
    found = in_runs(from_optax(optax.sign_sgd(0.1)))
    assert found.saturated == 1
    assert found.spread("rate") == (0, 0, 0)
    assert np.isnan(found.spread("memory")).all()
    assert np.isnan(found.range)


def test_runs_that_diverged_are_left_out_from_there_on() -> None:
    gradients = GRADIENTS.copy()
    gradients[20:, 0] = np.nan
    found = operating_point(from_optax(optax.rmsprop(0.1)), met(gradients), GRID, clock=0.0)
    lost = (found.table["problem"] == 0) & (found.table["step"] >= 20)
    assert found.table.loc[lost, ["rate", "memory", "saturation"]].isna().all(axis=None)
    assert found.table.loc[~lost, ["rate", "memory", "saturation"]].notna().all(axis=None)


@pytest.mark.long
def test_both_ways_of_reading_say_the_same_of_a_planted_chain() -> None:
    """A clip at 0.1, a buffer of 0.8, no adaptation; of Adam the buffer, and a rate that follows the gradients."""
    clipped = examine(optax.chain(optax.clip(0.1), optax.sgd(0.1, 0.8)), Quadratic(), num_steps=40, problems=4)
    adam = examine(optax.adam(0.01), Quadratic(), num_steps=40, problems=4)
    assert clipped.rest_is_met
    assert not adam.rest_is_met
    for found, mechanism, quantity, expected in (
        (clipped, momentum, "memory_in_runs", 0.8),
        (adam, momentum, "memory_in_runs", 0.9),
        (clipped, adaptation, "range_in_runs", 0.0),
    ):
        told = mechanism.measure(found, {})
        (value,) = (row[2] for row in told.readings if row[0] == quantity)
        assert value == pytest.approx(expected, abs=1e-6)
        if quantity == "memory_in_runs":
            (at_rest,) = (row[2] for row in told.readings if row[0] == "memory")
            assert at_rest == pytest.approx(expected, rel=1e-6)
    told = clipping.measure(clipped, {})
    (share,) = (row[2] for row in told.readings if row[0] == "saturated_in_runs")
    points = clipped.operating.table["met"].abs()
    assert share == (points > 0.1).mean()
    assert adam.operating.range > adaptation.BOUNDS.present


@pytest.mark.long
def test_pictures_of_adam_are_of_where_it_works() -> None:
    """alpha = rate (1 - b1) / sqrt(v) is below 1 there, and 100,000 at rest."""
    found = examine(optax.adam(0.01), Quadratic(), num_steps=40, problems=4)
    modes, functions, impulse = found.at_work()
    leading, at_rest = (table.loc[table["gain"].idxmax()] for table in (modes, found.modes))
    assert leading["beta_real"] == pytest.approx(0.9)
    assert 1e-4 < leading["alpha_real"] < 1
    assert at_rest["alpha_real"] > 1e4
    # The second moment falls by 0.999 a step meanwhile, over 49 steps.
    np.testing.assert_allclose(impulse["response"], impulse["linear"], rtol=0.999**-24.5 - 1 + 1e-3)
    still = functions[functions["place"] == "fixed_point"]
    assert still["update"].abs().max() < 0.011
    assert np.abs(np.diff(still["update"])).max() < 0.1 * np.ptp(still["update"])
