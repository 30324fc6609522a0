"""An optimizer and a curvature as one linear system: closed forms of the largest stable curvature and of rates."""

from typing import Any

import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reopt.core.errors import ReoptError
from reopt.dynamics.autonomous import CLOCK
from reopt.dynamics.closed_loop import (
    closed_loop,
    largest_stable_curvature,
    linear_run,
    pace,
    radius,
    relay_cycles,
    run,
    where_it_rests,
)
from reopt.dynamics.linearization import Linearization
from reopt.optimizers.base import Optimizer
from reopt.optimizers.classical import Momentum
from reopt.optimizers.optax_bridge import from_optax

rates = st.floats(1e-3, 10.0)
decays = st.floats(0.1, 0.99)


def rest_of(optimizer: Any) -> Linearization:
    """At a state of zeros, where all of these rest."""
    optimizer = optimizer if isinstance(optimizer, Optimizer) else from_optax(optimizer)
    return where_it_rests(optimizer, np.zeros(optimizer.state_size), clock=CLOCK)


@settings(max_examples=1, deadline=None, derandomize=True)
@given(rates, decays, st.floats(1e-6, 1e-2))
def test_the_edge_of_classical_optimizers(rate: float, beta: float, eps: float) -> None:
    """With M of the heavy ball an eigenvalue is -1 where 2 (1 + beta) = rate lambda; without beta at 2; with Nesterov's
    direct answer at 2 (1 + beta) / (1 + 2 beta); Adam at rest is the heavy ball of rate (1 - b1) rate / eps."""
    adaptive = rate * (1 - beta) / eps
    for optimizer, edge in (
        (optax.sgd(rate), 2 / rate),
        (optax.sgd(rate, momentum=beta), 2 * (1 + beta) / rate),
        (optax.sgd(rate, momentum=beta, nesterov=True), 2 * (1 + beta) / rate / (1 + 2 * beta)),
        (optax.rmsprop(rate, decay=beta, eps=eps, eps_in_sqrt=False), 2 * eps / rate),
        (optax.adam(rate, b1=beta, eps=eps), 2 * (1 + beta) / adaptive),
        (optax.nadam(rate, b1=beta, eps=eps), 2 * (1 + beta) / adaptive / (1 + 2 * beta)),
    ):
        assert largest_stable_curvature(rest_of(optimizer)) == pytest.approx(edge, rel=1e-6)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(rates, decays, st.floats(0.01, 0.99))
def test_the_pace_of_a_heavy_ball(rate: float, beta: float, share: float) -> None:
    """|eigenvalue| = sqrt(beta) where they are complex, (1 - sqrt(beta))^2 < rate lambda < (1 + sqrt(beta))^2."""
    least, most = (1 - np.sqrt(beta)) ** 2 / rate, (1 + np.sqrt(beta)) ** 2 / rate
    curvature = least + share * (most - least)
    linear = rest_of(Momentum(np.float64(rate), np.float64(beta)))
    found = pace(linear, curvature)
    assert found.rate == pytest.approx(np.sqrt(beta), rel=1e-6)
    assert radius(linear, curvature) == found.radius
    assert np.linalg.det(closed_loop(linear, curvature)) == pytest.approx(beta, rel=1e-6)


def test_a_mode_that_does_not_reach_x_is_passed_over() -> None:
    """Adam's second moment decays by 0.999 at rest, and the update does not depend on it to first order."""
    linear = rest_of(optax.adam(0.01, eps=0.1))
    found = pace(linear, 100.0)
    assert found.radius == pytest.approx(0.999)
    assert found.rate == pytest.approx(np.sqrt(0.9))


def test_a_run_is_the_matrix_where_the_optimizer_is_linear() -> None:
    optimizer = Momentum(np.float64(0.3), np.float64(0.8))
    linear = rest_of(optimizer)
    seen = run(optimizer, np.zeros(1), 2.0, 1.7, at=0.0, steps=50)
    np.testing.assert_allclose(seen, 2.0 * linear_run(linear, 1.7, 50), rtol=1e-10)


def test_what_rests_beside_the_minimum_is_linearized_there() -> None:
    """Of u = 0.01 - 0.3 g + 0.05 g^2 the update is 0 at g = (0.3 - sqrt(0.09 - 0.002)) / 0.1."""

    class Offset(Momentum):
        def readout(self, state, gradient):
            return 0.01 - 0.3 * gradient + 0.05 * gradient**2

    linear = rest_of(Offset(np.float64(0.3), np.float64(0.0)))
    at = (0.3 - np.sqrt(0.09 - 0.002)) / 0.1
    assert float(linear.gradient) == pytest.approx(at, rel=1e-12)
    assert largest_stable_curvature(linear) == pytest.approx(2 / (0.3 - 0.1 * at), rel=1e-9)


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (optax.sgd(-0.1), "followed uphill"),
        (optax.chain(optax.trace(1.0), optax.scale(-0.1)), "does not come to rest by itself"),
    ],
)
def test_what_is_stable_nowhere_says_why(optimizer, words: str) -> None:
    with pytest.raises(ReoptError, match=words):
        largest_stable_curvature(rest_of(optimizer))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.floats(0.0, 0.95), st.floats(0.0, 3.0))
def test_the_cycle_behind_a_sign_is_that_of_a_run(beta: float, weight: float) -> None:
    """x <- x - s sign(x_t + weight sum_k beta^k x_(t-k)): after a while it goes n steps down and n up, for
    one of the n in which it can."""
    response = np.append(1.0, weight * beta ** np.arange(1, 400))
    possible = relay_cycles(response)
    x, memory, path = 40.5, 0.0, []
    for _ in range(6000):
        argument = x + weight * memory
        memory = beta * (memory + x)
        x -= np.sign(argument)
        path.append(x)
    seen = np.ptp(path[-2000:])
    assert seen in possible
