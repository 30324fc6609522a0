"""What is below the rounding of the computation that made it is 0, whatever the units: no mechanism is told of it."""

import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reopt.dynamics.linearization import Linearization
from reopt.examination.compare import difference
from reopt.examination.examination import examine
from reopt.mechanisms import momentum
from reopt.mechanisms.modes import modes
from reopt.optimizers.optax_bridge import from_optax
from reopt.tasks.quadratic import Quadratic

SMALL = {"num_steps": 30, "problems": 4}
many = settings(max_examples=60, deadline=None, derandomize=True)


def linear(jacobian, drive, readout, direct: float = 0.0) -> Linearization:
    drive, zero = np.asarray(drive, float), np.float64(0)
    parts = np.zeros(drive.size), np.asarray(jacobian, float), drive, np.asarray(readout, float)
    return Linearization(*parts, np.float64(direct), zero, zero, np.array([], int))


@many
@given(rate=st.floats(-12, 12), beta=st.floats(0.01, 0.999), units=st.tuples(st.floats(-8, 8), st.floats(-8, 8)))
def test_a_heavy_ball_that_keeps_its_update_answers_nothing_at_once(rate: float, beta: float, units: tuple) -> None:
    """v <- beta v + g and u = -lr (beta v + g), kept in the state: modes lr at beta, and 0 at 0, in any units."""
    lr, (one, other) = 10.0**rate, 10.0 ** np.array(units)
    jacobian = np.array([[beta, 0], [-lr * beta, 0]]) * np.array([[1, one / other], [other / one, 1]])
    found = modes(linear(jacobian, [one, -lr * other], [0, 1 / other]))
    assert found.alpha[1] == 0
    np.testing.assert_allclose(found.alpha[0], lr, rtol=1e-12)
    np.testing.assert_allclose(found.beta, [beta, 0], rtol=1e-12)


@many
@given(seed=st.integers(0, 10_000), share=st.floats(-9, 0), size=st.integers(2, 8))
def test_an_alpha_is_within_its_rounding(seed: int, share: float, size: int) -> None:
    """Planted alphas of J = R diag(beta) R^-1, the least of them 10^share of the others: read within the bound."""
    rng = np.random.default_rng(seed)
    beta = np.sort(rng.uniform(0.05, 0.99, size))[::-1]
    vectors, inward = rng.normal(size=(size, size)), rng.uniform(0.5, 2, size)
    alpha = rng.uniform(0.5, 2, size)
    alpha[0] *= 10.0**share
    left = np.linalg.inv(vectors)
    found = modes(linear(vectors @ np.diag(beta) @ left, vectors @ inward, -(alpha / inward) @ left))
    made = 1e-14 * np.linalg.cond(vectors) ** 2 / np.abs(np.diff(beta)).min()  # what the making of J rounds
    error = np.abs(np.sort(found.alpha.real) - np.sort(alpha))
    assert (error <= found.rounding.max() + made).all()
    assert (found.rounding < 1e-6 * np.linalg.cond(vectors) ** 2 / np.abs(np.diff(beta)).min() * size**2).all()


def direct_of(transformation: optax.GradientTransformation) -> tuple[float, float, float]:
    found = examine(from_optax(transformation), Quadratic(), **SMALL)
    (row,) = [row for row in momentum.measure(found, {}).readings if row[0] == "direct"]
    return row[2:5]


@pytest.mark.long
@pytest.mark.parametrize(
    ("transformation", "true"),
    [
        pytest.param(optax.adam(1e-3), 0.0, marks=pytest.mark.long),
        pytest.param(optax.sgd(0.1, momentum=0.9), 0.0, marks=pytest.mark.long),
        (optax.sgd(0.1, momentum=0.9, nesterov=True), 0.1),
    ],
    ids=["adam", "momentum", "nesterov"],
)
def test_the_direct_response_of_optax(transformation: optax.GradientTransformation, true: float) -> None:
    """Adam and the heavy ball answer by their buffers alone: exactly 0; Nesterov's at once by the rate."""
    value, low, high = direct_of(transformation)
    assert value == 0 if true == 0 else value == pytest.approx(true, rel=1e-12)
    assert low <= true <= high


@pytest.mark.long
def test_nesterov_of_optax_is_told_by_what_it_answers_at_once() -> None:
    one, other = (optax.sgd(0.1, momentum=0.9, nesterov=flag) for flag in (False, True))
    said = difference(one, other, Quadratic(), **SMALL).words
    (told,) = [words for words in said if words.startswith("momentum")]
    assert "B alone" in told
    assert "Nesterov" in told


@pytest.mark.long
def test_a_rate_inside_the_velocity_and_outside_is_not_told_by_rounding() -> None:
    """At rest both are one mode of alpha = rate: the same readings of momentum."""
    halved = optax.piecewise_constant_schedule(0.1, {10: 0.5})
    inside = optax.chain(optax.scale_by_schedule(halved), optax.trace(0.9), optax.scale(-1.0))
    outside = optax.chain(optax.trace(0.9), optax.scale_by_schedule(halved), optax.scale(-1.0))
    table = difference(inside, outside, Quadratic(), **SMALL).table
    assert table.loc[table["mechanism"] == "momentum", "same"].all()


def test_parts_of_a_complex_alpha_are_known_to_its_size() -> None:
    """x'' of a rotation by a quarter turn: J = 0.9 [[0, -1], [1, 0]], alpha purely imaginary."""
    found = modes(linear(0.9 * np.array([[0, -1], [1, 0]]), [1, 0], [0, 1]))
    np.testing.assert_allclose(found.alpha, [0.5j, -0.5j], atol=1e-15)
