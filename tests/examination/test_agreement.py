"""Readings of one table that imply each other agree, over optimizers of optax; where they do not, none is a claim."""

import functools

import numpy as np
import optax
import pytest
from drawn import drawn
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from jaxtyping import Array

from reopt.examination.agreement import Pair, checked, pairs
from reopt.examination.examination import Examination, examine
from reopt.examination.settings import Settings
from reopt.mechanisms.base import UNDETERMINED, Finding
from reopt.tasks.quadratic import Quadratic

STEPS = 60
SMALL = Settings(
    num_steps=STEPS, problems=4, state_problems=2, visited_seeds=12, perturbed_seeds=4, gradients=9, grid=51
)
OPTIMIZERS = {
    "sgd": optax.sgd(0.1),
    "heavy ball": optax.sgd(0.1, momentum=0.9),
    "nesterov": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "two traces": optax.chain(optax.trace(0.5), optax.trace(0.9), optax.scale(-0.01)),
    "clip": optax.chain(optax.clip(0.5), optax.trace(0.7), optax.scale(-0.1)),
    "cosine": optax.sgd(optax.cosine_decay_schedule(0.1, 2 * STEPS), momentum=0.8),
    "exponential": optax.sgd(optax.exponential_decay(0.1, 20, 0.5)),
    "adam, eps 1e-15": optax.adam(0.01, eps=1e-15),
    "adam, eps 1e-30": optax.adam(0.01, b2=0.9, eps=1e-30),
    "nadam": optax.nadam(0.01),
    "adamax": optax.adamax(0.01),
    "rmsprop": optax.rmsprop(0.01, momentum=0.5),
}


def small(subject) -> Examination:
    return examine(subject, Quadratic(), SMALL)


@functools.cache
def of_heavy_ball() -> Examination:
    return small(OPTIMIZERS["heavy ball"])


def values(finding: Finding, quantity: str) -> np.ndarray:
    return np.array([row[2] for row in finding.readings if row[0] == quantity])


def agree(found: Examination) -> dict[str, Finding]:
    """The findings, none of which contradicts another."""
    findings = {one.mechanism: one for one in found.findings}
    for pair in pairs(found, findings):
        assert pair.agree, pair
    assert not any("disagree" in one.why for one in findings.values())
    return findings


QUICK = ("clip",)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.long) for name in OPTIMIZERS]
)
def test_what_is_read_in_two_ways_is_the_same(name: str):
    """The sum of alpha is the slope of the update at rest and the last rate of the schedule; memory is
    sum_{k >= 1} |r_k| / sum_k |r_k| with r_k = sum_j alpha_j beta_j^k."""
    found = small(OPTIMIZERS[name])
    findings = agree(found)
    alpha = values(findings["momentum"], "alpha_real")
    np.testing.assert_allclose(alpha.sum(), values(findings["clipping"], "slope"), rtol=1e-9)
    np.testing.assert_allclose(alpha.sum(), values(findings["schedule"], "final"), rtol=1e-9)
    beta = values(findings["momentum"], "beta_real")
    response = np.abs(beta[None, :] ** np.arange(2000)[:, None] @ alpha)
    np.testing.assert_allclose(values(findings["momentum"], "memory"), 1 - response[0] / response.sum(), atol=1e-9)


def adam(h: Array) -> optax.GradientTransformation:
    return optax.chain(optax.scale_by_adam(h[1], h[2], eps=h[3], eps_root=h[4]), optax.scale(-h[0]))


def rms(h: Array) -> optax.GradientTransformation:
    return optax.chain(optax.scale_by_rms(h[1], h[2], h[3], eps_in_sqrt=False), optax.trace(h[4]), optax.scale(-h[0]))


few = settings(max_examples=6, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
rates = st.floats(-4, 0).map(lambda power: 10.0**power)
rests = st.floats(-4, -0.1).map(lambda power: 10.0**power)
regularisers = st.floats(-30, -4).map(lambda power: 10.0**power)


@pytest.mark.long
@few
@given(rates, rests, rests, regularisers, st.booleans())
def test_alpha_of_adam_whatever_its_regulariser(rate: float, one: float, two: float, eps: float, inside: bool):
    """At rest v = 0: alpha = lr (1 - b1) / (1 - b1^t) / e with t = STEPS, e = eps outside the root, sqrt(eps) inside.

    An offset of 1e-30 under the root would be seen as 1e-15 beside e."""
    b1, b2 = 1 - one, 1 - two
    found = small(drawn(adam, rate, b1, b2, *((0.0, eps) if inside else (eps, 0.0))))
    expected = rate * one / (1 - b1**STEPS) / (eps**0.5 if inside else eps)
    leading = found.modes[found.modes["alpha_real"].abs() > 1e-9 * expected]
    np.testing.assert_allclose(leading["alpha_real"], [expected], rtol=1e-9)
    np.testing.assert_allclose(leading["beta_real"], [b1], rtol=1e-9)
    np.testing.assert_allclose(found.schedule.table["effective_learning_rate"].iloc[-1], expected, rtol=1e-9)


@pytest.mark.long
@few
@given(rates, rests, regularisers, st.sampled_from([0.0, 1e-3, 1.0]), st.floats(0.1, 0.99))
def test_alpha_of_rmsprop_from_any_start(rate: float, rest: float, eps: float, start: float, beta: float):
    """s falls to 0 from wherever it starts, however slowly: at rest alpha = lr / eps, one buffer of beta."""
    found = small(drawn(rms, rate, 1 - rest, eps, start, beta))
    leading = found.modes[found.modes["alpha_real"].abs() > 1e-9 * rate / eps]
    np.testing.assert_allclose(leading["alpha_real"], [rate / eps], rtol=1e-9)
    np.testing.assert_allclose(leading["beta_real"], [beta], rtol=1e-9)


@pytest.mark.long
def test_a_rate_that_has_not_settled_is_said_to_be_on_its_way():
    """s = 0.99^t from 1: at step 59 the rate is lr / (0.99^30 + eps) = 0.01 / 0.7407; at rest it is lr / eps = 10."""
    found = small(optax.rmsprop(0.01, decay=0.99, eps=1e-3, initial_scale=1.0, eps_in_sqrt=False))
    findings = agree(found)
    assert "has not come to rest, where the rate is 10 (the last is 0.0135007)" in findings["schedule"].why


@pytest.mark.long
def test_a_tiny_second_moment_that_decides_the_rate_is_seen_to_be_on_its_way():
    """AdaBelief without gradients: s_t = e (1 - b2^t) / (1 - b2), e = 1e-16, rests at e / (1 - b2), both divided by
    1 - b2^t. With the clock at t the rate at rest is lr (1 - b1) / (1 - b1^t) / sqrt(1e-13 / (1 - b2^t))."""
    findings = agree(small(optax.adabelief(0.01)))
    numerator = 0.01 * 0.1 / (1 - 0.9**STEPS)
    rest = numerator / np.sqrt(1e-13 / (1 - 0.999**STEPS))
    np.testing.assert_allclose(values(findings["momentum"], "alpha_real").sum(), rest, rtol=1e-6)
    np.testing.assert_allclose(values(findings["schedule"], "final"), numerator / np.sqrt(1e-13), rtol=1e-6)
    assert f"has not come to rest, where the rate is {rest:.6g}" in findings["schedule"].why


@pytest.mark.parametrize(
    ("mechanism", "quantity", "also"),
    [("momentum", "alpha_real", "clipping"), ("momentum", "memory", "momentum"), ("clipping", "slope", "momentum")],
)
def test_readings_that_contradict_each_other_say_nothing(mechanism: str, quantity: str, also: str):
    """A reading 1% off, as a bias of the regulariser makes it, is beyond every interval."""
    found = of_heavy_ball()
    findings = {one.mechanism: one for one in found.findings}
    rows = [
        (name, index, *(1.01 * number for number in numbers), unit)
        if name == quantity
        else (name, index, *numbers, unit)
        for name, index, *numbers, unit in findings[mechanism].readings
    ]
    findings[mechanism] = findings[mechanism]._replace(readings=rows)
    told = {one.mechanism: one for one in checked(found, list(findings.values()))}
    for name in (mechanism, also):
        assert told[name].verdict == UNDETERMINED
        assert "two ways to one number disagree" in told[name].why
    assert told["adaptation"].verdict == findings["adaptation"].verdict


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        ((1.0, 0.9, 1.1), (1.15, 1.05, 1.2), True),
        ((1.0, 0.9, 1.1), (1.3, 1.2, 1.4), False),
        ((1.0, 1.0, 1.0), (1.001, 1.001, 1.001), True),  # within the slack
        ((np.nan, np.nan, np.nan), (1.0, 1.0, 1.0), True),  # what is not known contradicts nothing
    ],
)
def test_a_pair_agrees_where_its_intervals_overlap(one, other, agree: bool):
    assert Pair("", (), one, other, 0.002).agree == agree
