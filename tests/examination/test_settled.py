"""Constants under constant gradients are those of the settled state, however slow the state or its correction is."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from reopt.examination.settled import settled_answers
from reopt.examination.trajectories import Componentwise, Steady, steady
from reopt.optimizers.classical import Adam

few = settings(max_examples=5, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
log_eps = st.floats(-20, -3)
log_rest = st.floats(-5, -1)  # of 1 - decay: up to 100,000 steps
log_rate = st.floats(-4, 0)


def assert_read(found: Steady, *truth: float) -> None:
    """Level, knee and sharpness to 1e-6, and within the error that is told."""
    read = np.array(found[:3])
    np.testing.assert_allclose(read, truth, rtol=1e-6)
    assert (np.abs(read / truth - 1) <= max(10 * found.error, 1e-9)).all()


@few
@given(log_rate, log_rest, log_eps, st.booleans(), st.sampled_from([0.0, 1e-6, 1.0, 100.0]))
def test_rmsprop_whatever_its_decay_and_its_start(rate: float, rest: float, power: float, inside: bool, start: float):
    """s rests at g^2: lr g / sqrt(g^2 + eps) inside the root, lr g / (|g| + eps) outside.

    With decay 0.99 and s_0 = 1, s falls below eps^2 = 1e-16 after 3,666 steps, with 0.9999 after 368,000.
    """
    level, eps = 10.0**rate, 10.0**power
    subject = optax.rmsprop(level, decay=1 - 10.0**rest, eps=eps, initial_scale=start, eps_in_sqrt=inside)
    assert_read(steady(subject), level, eps**0.5 if inside else eps, 2 if inside else 1)


class EpsBeforeCorrection(eqx.Module):
    """Adam in the efficient form of its paper: lr_t = lr sqrt(1 - b2^t) / (1 - b1^t), -lr_t m / (sqrt v + eps)."""

    rate: float
    b1: float
    b2: float
    eps: float

    def init(self, params):
        return jnp.zeros_like(params), jnp.zeros_like(params), jnp.zeros((), jnp.int32)

    def update(self, gradient, state, params=None):
        del params
        m, v, t = state
        m, v, t = self.b1 * m + (1 - self.b1) * gradient, self.b2 * v + (1 - self.b2) * gradient**2, t + 1
        rate = self.rate * jnp.sqrt(1 - self.b2**t) / (1 - self.b1**t)
        return -rate * m / (jnp.sqrt(v) + self.eps), (m, v, t)


@few
@given(log_rate, st.floats(0.0, 0.99), log_rest, log_eps)
def test_an_eps_before_the_bias_correction_is_read_without_it(rate: float, b1: float, rest: float, power: float):
    """At step t the knee is eps / sqrt(1 - b2^t): 1.2576 eps at step 1,000 with b2 = 0.999. Its limit is eps."""
    subject = EpsBeforeCorrection(10.0**rate, b1, 1 - 10.0**rest, 10.0**power)
    assert_read(steady(subject), 10.0**rate, 10.0**power, 1)


def test_a_schedule_multiplies_the_level_alone():
    """Adam with a rate that halves every 200 steps: at step 999 the level is lr 2^(-999 / 200), its knee eps."""
    subject = optax.adam(optax.exponential_decay(0.01, 200, 0.5), eps=1e-6)
    assert_read(steady(subject), 0.01 * 2 ** (-999 / 200), 1e-6, 1)


def test_a_level_that_no_limit_tells_is_not_told():
    """One count for correction and schedule: at step 999, 1 - 0.999^1000 = 0.632 of v would be taken for all of it;
    the ratios of the answers have a limit."""
    found = steady(Componentwise(Adam(0.01, 0.9, 0.999, 1e-8, 300.0)))
    assert np.isnan(found.level)
    np.testing.assert_allclose(found[1:3], [1e-8, 1], rtol=1e-6)
    assert "vanishes before it has settled" in found.why


@pytest.mark.parametrize(
    ("subject", "why"),
    [
        (optax.adagrad(0.1), "no rest"),  # s grows by g^2 at every step
        (optax.sgd(0.1, momentum=1.0), "no rest"),  # v grows by g
        (optax.adadelta(0.1), "under a constant"),  # at rest it answers g with g, after (g^2 + eps) / eps steps
        (optax.sgd(0.1, momentum=0.9), "level off"),
        (optax.sign_sgd(0.1), "in proportion"),
    ],
)
def test_what_does_not_settle_or_level_off_is_said_to(subject, why: str):
    found = steady(subject)
    assert np.isnan(found[:3]).all()
    assert why in found.why


def test_an_answer_at_rest_is_that_of_a_run_that_goes_on():
    """RMSProp with momentum, from s = 1: after 4,000 steps s has fallen to 0.99^4000 = 3e-18 beside g^2 >= 1e-6."""
    subject, gradients = optax.rmsprop(0.01, decay=0.99, initial_scale=1.0, momentum=0.8), np.array([1e-3, 0.1])

    def advance(state, _):
        change, after = subject.update(jnp.asarray(gradients, jnp.float32), state)
        return after, change

    changes = jax.lax.scan(advance, subject.init(jnp.zeros(2)), None, length=4000)[1]
    np.testing.assert_allclose(settled_answers(subject, gradients).answers, -np.asarray(changes[-1]), rtol=1e-4)
