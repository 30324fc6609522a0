"""Rules that gate, sign or mask are read at finite gradients: the true verdict, or undetermined and why."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Array

from reopt.examination import calibration
from reopt.examination.calibration import GatedRule
from reopt.examination.examination import examine
from reopt.mechanisms.finite_probes import FiniteProbes, probe_sizes
from reopt.mechanisms.sign_updates import switching
from reopt.optimizers.base import Optimizer
from reopt.optimizers.optax_bridge import from_optax
from reopt.tasks.quadratic import Quadratic

few = settings(max_examples=12, deadline=None, derandomize=True)
rates, thresholds, decays = (st.floats(-4, 0), st.floats(-3, 0), st.floats(0.05, 0.99))
MET = np.random.default_rng(0).normal(size=(50, 4, 5))
STEPS = 40


def rule(kind: str, log_rate: float, log_threshold: float, decay: float) -> GatedRule:
    values = {"rate": 10.0**log_rate, "threshold": 10.0**log_threshold, "decay": decay, "unit": 1.0}
    return GatedRule(**{name: jnp.asarray(value) for name, value in values.items()}, rule=kind)


def probes(optimizer: Optimizer) -> FiniteProbes:
    start = np.asarray(optimizer.initial_state(), np.float64)[None]
    return FiniteProbes(optimizer, start, MET, clock=1e6, num_steps=STEPS)


class Rprop(Optimizer):
    """dx = -step sign(g); step grows by 1.2 where the sign is that before, halves where it is not, within bounds.

    The sign before is kept where g = 0, and no step is left out: the state update is piecewise constant.
    """

    first: Array

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("step", "sign")

    def initial_state(self) -> Array:
        return jnp.stack([self.first, jnp.zeros_like(self.first)])

    def update(self, state: Array, gradient: Array) -> Array:
        step, before = state[..., 0], state[..., 1]
        sign = jnp.sign(gradient)
        factor = jnp.where(sign * before > 0, 1.2, jnp.where(sign * before < 0, 0.5, 1.0)).astype(state.dtype)
        return jnp.stack([jnp.clip(step * factor, 1e-6, 50.0), jnp.where(sign == 0, before, sign)], axis=-1)

    def readout(self, state: Array, gradient: Array) -> Array:
        return -state[..., 0] * jnp.sign(gradient)


class ProductRate(Optimizer):
    """dx = -(rate + gain g g') g, g' the gradient before: a rate that follows the agreement, and no buffer."""

    rate: Array
    gain: Array

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("now", "before")

    def initial_state(self) -> Array:
        return jnp.zeros(2)

    def update(self, state: Array, gradient: Array) -> Array:
        return jnp.stack([gradient, state[..., 0]], axis=-1)

    def readout(self, state: Array, gradient: Array) -> Array:
        rate, gain = (jnp.asarray(value, gradient.dtype) for value in (self.rate, self.gain))
        return -(rate + gain * gradient * state[..., 1]) * gradient


@few
@given(rates, thresholds, decays)
def test_the_buffer_behind_a_dead_zone_is_read_with_its_numbers(rate: float, threshold: float, decay: float) -> None:
    """The answer to P > t is rate P decay^k: alpha = rate at beta = decay, and decay^k summed is the memory."""
    seen = probes(rule("dead_zone_momentum", rate, threshold, decay)).memory()
    np.testing.assert_allclose(seen.share, decay, rtol=0.02 if decay > 0.98 else 1e-5)  # of 400 lags
    np.testing.assert_allclose([seen.alpha[0], seen.beta[0]], [10.0**rate, decay], rtol=1e-5)
    assert seen.alpha.size == 1


@few
@given(st.sampled_from(["masked_momentum", "cautious_momentum"]), rates, thresholds, decays)
def test_a_buffer_behind_a_mask_is_told(kind: str, rate: float, threshold: float, decay: float) -> None:
    """Where the gate is open the gradient P adds rate decay P one step later to rate P at once: decay / (1 + decay)."""
    seen = probes(rule(kind, rate, threshold, decay)).memory()
    np.testing.assert_allclose(seen.share[0], decay / (1 + decay), rtol=2e-3)
    assert seen.share[1] <= decay <= seen.share[2]  # what is seen one step later is no more than a part of it


@few
@given(st.sampled_from(["sign_agreement", "masked_rms", "rprop"]), rates, thresholds, decays)
def test_what_gates_or_adapts_is_no_buffer(kind: str, rate: float, threshold: float, decay: float) -> None:
    seen = probes(rule(kind, rate, threshold, decay)).memory()
    assert seen.share == (0, 0, 0)
    assert seen.answers
    assert (seen.other > 0.1) == (kind != "masked_rms")  # a sign that is remembered, and a size that is


@few
@given(rates, st.floats(-3, 2))
def test_a_product_of_gradients_is_no_buffer(rate: float, gain: float) -> None:
    found = probes(ProductRate(jnp.asarray(10.0**rate), jnp.asarray(10.0 ** (rate + gain))))
    assert found.memory().share[0] == 0
    assert found.memory().other > 0.1


@few
@given(st.floats(-5, 0))
def test_the_step_of_rprop_adapts(first: float) -> None:
    """It is min(50, first 1.2^(T - 1)) after T constant gradients, first / 2^(T - 1) after T alternating ones."""
    found = probes(Rprop(jnp.asarray(10.0**first))).rate_change()
    last = STEPS - 1
    largest = min(50.0, 10.0**first * 1.2**last)
    smallest = max(1e-6, 10.0**first * 0.5**last)
    assert found.certain
    np.testing.assert_allclose(found.value, 1 - smallest / largest, rtol=1e-6)


@few
@given(rates, thresholds, decays)
def test_masked_adaptation_is_told_from_masks_alone(rate: float, threshold: float, decay: float) -> None:
    adapts = probes(rule("masked_rms", rate, threshold, decay)).rate_change()
    assert adapts.certain
    assert adapts.value > 0.1
    for kind in ("masked_momentum", "cautious_momentum", "dead_zone_momentum"):
        buffer = probes(rule(kind, rate, threshold, decay)).rate_change()
        assert abs(buffer.value) < 1e-6
        assert buffer.certain
    assert abs(probes(rule("sign_agreement", rate, threshold, decay)).rate_change().value) < 1e-6


@few
@given(rates, thresholds, decays)
def test_schedule_and_clip_behind_a_dead_zone(rate: float, threshold: float, decay: float) -> None:
    """The rate at step k is rate / (1 + (k + 1) / 10) at all sizes above t; the level is 10 t."""
    found = probes(rule("dead_zone_schedule", rate, threshold, decay)).schedule()
    planted = 10.0**rate / (1 + (np.arange(STEPS) + 1) / 10)
    np.testing.assert_allclose(found, np.broadcast_to(planted[:, None], found.shape), rtol=1e-6)
    level = probes(rule("dead_zone_clip", rate, threshold, decay)).saturation()
    assert level is not None
    assert level.low <= 10 * 10.0**threshold <= level.high
    assert level.high < 1.2 * level.low
    np.testing.assert_allclose(level.fall, 1, atol=1e-9)
    none = probes(rule("soft_threshold", rate, threshold, decay)).saturation()
    assert none is not None
    assert none.fall < 1e-9


def test_what_never_moves_is_told_from_a_gate_that_no_gradient_opens() -> None:
    """An update of 0 throughout has nothing to find; a buffer behind a threshold of 1e9 may not be called absent."""
    assert probes(from_optax(optax.set_to_zero())).silent
    closed = probes(rule("dead_zone_momentum", 0.0, 9.0, 0.9))
    assert not closed.silent
    assert not closed.memory().answers


def test_sizes_reach_from_those_met_to_far_beyond() -> None:
    sizes = probe_sizes(np.array([np.nan, 0.0, 0.1, -2.0]))
    np.testing.assert_allclose(sizes[-1], 200, rtol=1e-2)
    assert sizes[0] <= 0.2
    assert probe_sizes(np.zeros(3)).max() == 100


def test_a_step_without_two_levels_has_no_switching_point() -> None:
    """A buffer masked by agreement rises without end, and what comes a step late does not switch at all."""
    found = switching(rule("cautious_momentum", -1, -1, 0.9), np.zeros(1))
    assert np.isnan(found.response).all()
    assert found.alpha.size == 0


@pytest.mark.long
def test_the_examination_of_rprop_has_adaptation_and_no_false_absence() -> None:
    found = examine(Rprop(jnp.asarray(0.01)), Quadratic(), num_steps=60, problems=4)
    told = {finding.mechanism: finding for finding in found.findings}
    assert told["adaptation"].verdict == "present"
    assert told["clipping"].verdict == "present"  # by sign
    assert told["momentum"].verdict == "undetermined"  # a sign that is remembered
    assert "signs of gradients before" in told["momentum"].why
    assert told["schedule"].verdict == "absent"


@pytest.mark.long
@pytest.mark.parametrize("kind", calibration.RULES)
def test_no_verdict_on_drawn_rules_is_false(kind: str) -> None:
    table = calibration.verdicts(4, seed=11, num_steps=60, problems=4, kinds=(kind,))
    assert table["false"].sum() == 0, table[table["false"] == 1]
