"""Schedules: planted learning rates read back step by step, and the classification of shapes."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Array

from reopt.dynamics.pca import pca
from reopt.mechanisms.effective_rate import describe_shape, normalises, schedule
from reopt.optimizers.base import Optimizer
from reopt.optimizers.classical import Adam, Momentum, RMSProp
from reopt.optimizers.optax_bridge import from_optax


class Warmup(Optimizer):
    """SGD with a clock: the rate climbs to 1 in ten steps and sinks in a straight line to 0.2 at step 50."""

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("step",)

    @property
    def clock(self) -> int:
        return 0

    def initial_state(self) -> Array:
        return jnp.zeros(1)

    def update(self, state: Array, gradient: Array) -> Array:
        return state + 1

    def readout(self, state: Array, gradient: Array) -> Array:
        return -jnp.interp(state[..., 0] - 1, jnp.array([0.0, 10.0, 50.0]), jnp.array([0.1, 1.0, 0.2])) * gradient


def test_a_scheduled_rate_is_read_back():
    found = schedule(Warmup(), num_steps=51, point=np.array([7.0]))
    expected = np.interp(np.arange(51), [0, 10, 50], [0.1, 1.0, 0.2])
    np.testing.assert_allclose(found.table.effective_learning_rate, expected, rtol=1e-6)
    np.testing.assert_array_equal(found.table.offset, 0)
    np.testing.assert_array_equal(found.table.distance, 0)  # a clock is no distance
    assert found.summary["shape"] == "warmup_then_decay"
    assert found.summary["peak_step"] == 10
    assert found.summary["range"] == pytest.approx(10, rel=1e-5)
    assert found.summary["linear_decay_r2"] == pytest.approx(1)
    assert found.table.pc1.isna().all()


def test_momentum_has_no_schedule():
    states = np.random.default_rng(0).normal(size=(20, 1))
    found = schedule(Momentum(0.3, 0.9), num_steps=30, point=np.zeros(1), pca=pca(states), steady=0.5)
    np.testing.assert_allclose(found.table.effective_learning_rate, 0.3)
    np.testing.assert_allclose(found.table.steady_step, 0.3 * 0.5 * (1 - 0.9 ** np.arange(1, 31)) / (1 - 0.9))
    assert found.summary["steady"]["exponent"] == pytest.approx(1)
    assert not normalises(found.summary)
    np.testing.assert_allclose(found.table.pc1, -states.mean())
    assert found.table.pc2.isna().all()
    assert found.summary["shape"] == "constant"


def test_adam_halves_its_rate():
    """The immediate answer of Adam at rest is lr_t (1 - b1) / (1 - b1^(t+1)) / eps."""
    lr, b1, eps, half_life = 0.1, 0.8, 0.5, 5.0
    found = schedule(Adam(lr, b1, 0.9, eps, half_life), num_steps=40, steady=2.0)
    step = np.arange(40)
    expected = lr * 2 ** (-step / half_life) * (1 - b1) / (1 - b1 ** (step + 1)) / eps
    np.testing.assert_allclose(found.table.effective_learning_rate, expected, rtol=1e-9)
    np.testing.assert_allclose(found.table.steady_step, lr * 2 ** (-step / half_life) * 2.0 / (2.0 + eps))
    assert found.summary["shape"] == found.summary["steady"]["shape"] == "decay"
    assert found.summary["steady"]["exponent"] == pytest.approx(1 - np.log((2 + eps) / (0.02 + eps)) / np.log(100))


def test_a_steady_gradient_shows_the_rate_that_was_set():
    """RMSProp under a gradient g: s_t = (1 - decay^(t + 1)) g², so that the step falls from lr / sqrt(1 - decay) to lr;
    a smaller gradient changes it by the eps under the root alone, most at the first step."""
    size, lr, decay, eps = 0.4, 0.1, 0.75, 1e-10
    found = schedule(RMSProp(lr, decay, eps), num_steps=60, steady=size)
    filled = 1 - decay ** np.arange(1.0, 61)
    np.testing.assert_allclose(found.table.steady_step, lr * size / np.sqrt(filled * size**2 + eps))
    np.testing.assert_allclose(found.table.effective_learning_rate, lr / np.sqrt(eps))
    assert normalises(found.summary)
    first = eps / (1 - decay) / (size / 100) ** 2
    assert found.summary["steady"]["exponent"] == pytest.approx(np.log1p(first) / 2 / np.log(100), rel=1e-2)


def test_a_clip_is_no_normalisation():
    found = schedule(from_optax(optax.chain(optax.clip(0.3), optax.sgd(0.1))), num_steps=5, steady=0.5)
    np.testing.assert_allclose(found.table.steady_step, 0.03)
    assert not normalises(found.summary)


def test_without_a_step_there_is_no_exponent():
    found = schedule(Momentum(0.0, 0.9), num_steps=5, steady=0.5)
    assert found.summary["steady"]["exponent"] is None
    assert not normalises(found.summary)


STEPS = np.arange(60)


@pytest.mark.parametrize(
    ("rates", "shape"),
    [
        (np.full(60, 2.0), "constant"),
        (2 + 0.04 * np.sin(STEPS), "constant"),
        (np.zeros(60), "constant"),
        (np.full(60, -1.0), "constant"),
        (1 - np.exp(-STEPS / 8), "warmup"),
        (np.exp(-STEPS / 8), "decay"),
        (np.exp(-STEPS / 8) + 0.01 * np.sin(3 * STEPS), "decay"),
        (np.interp(STEPS, [0, 20, 59], [0.2, 1, 0.5]), "warmup_then_decay"),
        (np.interp(STEPS, [0, 20, 59], [1, 0.2, 1]), "other"),
        (np.interp(STEPS, [0, 10, 20, 30, 59], [0.2, 1, 0.3, 0.9, 0.1]), "other"),
        (np.array([1.0, np.nan, 1.0]), "other"),
    ],
)
def test_shapes(rates, shape):
    assert describe_shape(rates)["shape"] == shape


@given(st.floats(1e-6, 1e6), st.integers(1, 58), st.floats(0.0, 0.9), st.floats(0.0, 0.9))
def test_shape_does_not_depend_on_units(unit, peak, first, last):
    rates = np.interp(STEPS, [0, peak, 59], [first, 1.0, last])
    one, other = describe_shape(rates), describe_shape(rates * unit)
    assert one["shape"] == other["shape"] == "warmup_then_decay"
    assert one["peak_step"] == other["peak_step"] == peak


def test_settled_step_is_where_the_final_rate_is_reached():
    found = describe_shape(np.interp(STEPS, [0, 40], [1.0, 0.2]))
    assert found["settled_step"] == 38  # 0.2 + 0.02 * 2 <= 0.25
    assert found["final"] == pytest.approx(0.2)
    assert found["lowest"] == pytest.approx(0.2)
