"""What two optimizers do with gradients that are not finite, tiny or huge is compared; a difference has its cause."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reopt.examination.compare import Difference, difference
from reopt.examination.first_difference import first_difference
from reopt.examination.not_finite import compare_not_finite
from reopt.examination.trajectories import (
    NOT_FINITE,
    Componentwise,
    Drive,
    Driven,
    driven,
    not_finite,
    probes,
    trajectories_table,
)
from reopt.optimizers.classical import SGD, Adam, Momentum, Nesterov, RMSProp
from reopt.tasks.quadratic import Quadratic

few = settings(max_examples=4, deadline=None, derandomize=True)
rates, betas = st.floats(1e-3, 1.0), st.floats(0.3, 0.99)


def compare(a, b, **options) -> Difference:
    return difference(a, b, Quadratic(), num_steps=30, problems=2, **options)


def differing(found: Driven) -> set[str]:
    table = trajectories_table([found], 1e-6)
    return set(table.loc[table["difference"] > 1e-6, "family"])


def elementwise(function) -> optax.GradientTransformation:
    return optax.stateless_with_tree_map(lambda gradient, _: function(gradient))


def drawn(kind: str, rate: float, beta: float) -> optax.GradientTransformation:
    makers = {"sgd": optax.sgd(rate), "momentum": optax.sgd(rate, beta), "adam": optax.adam(rate, beta)}
    return makers[kind]


@few
@given(st.sampled_from(["sgd", "momentum", "adam"]), rates, betas, st.integers(1, 9))
def test_apply_if_finite_differs_from_what_it_wraps_exactly_where_a_gradient_is_not_finite(kind, rate, beta, most):
    """It drops such a step, and `most` in a row; a buffer that has met one is lost, and so is each later update."""
    plain = drawn(kind, rate, beta)
    wrapped = optax.apply_if_finite(plain, most)
    assert differing(driven(plain, wrapped, probes(np.array([0.3]), np.array([1.0]), num_steps=300))) == set()
    found = driven(plain, wrapped, not_finite(0.3))
    assert differing(found) == set(NOT_FINITE)
    rows, words = compare_not_finite(found, 1e-6)
    kept = 279 / 280 if kind == "sgd" else 0.0  # of the steps from the 20th to the 299th
    for row in rows:
        np.testing.assert_allclose([row[3], row[6]], [kept, 1.0])
        assert not row[-1]
    assert all("B's update is 0, and all later ones are finite" in sentence for sentence in words)


def test_the_answer_says_what_was_probed_and_is_different_with_exit_code_1(tmp_path):
    same = compare(SGD(0.1), optax.sgd(0.1))
    assert same.equal
    assert same.words[0].startswith("equal to 1e-")
    assert same.words[-1].startswith("probed: ")
    assert "sizes from 3e-308 to 1e+300, and nan or inf or -inf from once to 200 in a row" in same.words[-1]
    found = compare(SGD(0.1), optax.chain(optax.zero_nans(), optax.sgd(0.1)))
    assert not found.equal
    assert found.words[0] == "different, but only where a gradient is not finite; otherwise equal to 1e-16"
    assert found.words[1].startswith("gradients that are not finite (NaN): at the first A's update is nan, ")
    same_of = found.table.set_index("quantity")["same"]
    assert not same_of["nan"]
    assert not same_of["finite_after_nan"]
    assert same_of.drop(["nan", "finite_after_nan"]).all()
    found.write(tmp_path)
    assert (tmp_path / "difference.svg").exists()


@few
@given(st.integers(1, 60), st.integers(1, 60))
def test_how_many_in_a_row_are_dropped_is_told(one: int, more: int):
    """A count above `one` lets the next through: the (one + 1)-th in a row."""
    a, b = (optax.apply_if_finite(optax.sgd(0.1), most) for most in (one, one + more))
    _, words = compare_not_finite(driven(a, b, not_finite(1.0)), 1e-6)
    ends = {1: "st", 2: "nd", 3: "rd"} if (one + 1) % 100 not in (11, 12, 13) else {}
    place = f"at the {one + 1}{ends.get((one + 1) % 10, 'th')} in a row A's update is "
    for value, sentence in zip(("nan", "-inf", "inf"), words, strict=True):
        assert place + value in sentence


@few
@given(st.floats(-300, -17))
def test_what_is_done_with_tiny_gradients_alone_is_found(log_size: float):
    """Signs of gradients, of those below 10^log_size none: the smallest tell, whatever the size."""
    a, b = elementwise(jnp.sign), elementwise(lambda g: jnp.where(jnp.abs(g) < 10.0**log_size, 0.0, jnp.sign(g)))
    assert "extreme" in differing(driven(a, b, probes(np.array([0.3]), np.array([1.0]), num_steps=200)))


@few
@given(st.floats(13, 299))
def test_what_is_done_with_huge_gradients_alone_is_found(log_size: float):
    a, b = elementwise(lambda g: -g), elementwise(lambda g: -jnp.clip(g, -(10.0**log_size), 10.0**log_size))
    assert "extreme" in differing(driven(a, b, probes(np.array([0.3]), np.array([1.0]), num_steps=200)))


PAIRS = {
    "sgd": (SGD(0.1), optax.sgd(0.1)),
    "momentum": (Momentum(0.1, 0.9), optax.sgd(0.1, 0.9)),
    "nesterov": (Nesterov(0.1, 0.9), optax.sgd(0.1, 0.9, nesterov=True)),
    "rmsprop": (RMSProp(0.1, 0.9, 1e-8), optax.rmsprop(0.1, 0.9, 1e-8)),
    "adam": (Adam(0.1), optax.adam(0.1)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_ours_and_those_of_optax_are_equal_there_too(name: str):
    ours, theirs = PAIRS[name]
    for drive in (not_finite(0.3), probes(np.array([0.3]), np.array([1.0]), num_steps=300)):
        assert differing(driven(Componentwise(ours), theirs, drive)) == set()


@pytest.mark.long
@pytest.mark.parametrize("relative", [1e-5, -3e-6])
def test_rates_closer_than_readings_usually_are_read_are_told_as_the_cause(relative: float):
    """SGD's rate is the reading `initial` of its schedule: r against r (1 + d), and the updates differ by d."""
    rate = 0.1
    found = compare(SGD(jnp.asarray(rate)), SGD(jnp.asarray(rate * (1 + relative), jnp.float32)))
    assert not found.equal
    row = found.table.set_index(["mechanism", "quantity"]).loc[("schedule", "initial")]
    assert not row["same"]
    np.testing.assert_allclose(row["b_value"] / row["a_value"] - 1, relative, rtol=0.02)
    assert any(sentence.startswith("schedule: ") and "not the same" in sentence for sentence in found.words)


@pytest.mark.long
@pytest.mark.parametrize("relative", [2e-6])
def test_a_decay_that_amplifies_is_told_as_the_cause(relative: float):
    """Updates of a buffer part by up to 1 / (1 - beta) times more than the decays do, where signs cancel far more."""
    found = compare(optax.sgd(0.1, 0.9), optax.sgd(0.1, 0.9 * (1 + relative)))
    assert not found.equal
    told = next(sentence for sentence in found.words if sentence.startswith("momentum: "))
    assert "not the same" in told
    assert "Nesterov" not in told
    assert not any(sentence.startswith(("clipping", "adaptation", "no reading")) for sentence in found.words)


@few
@given(st.integers(1, 30), st.floats(0.3, 0.99))
def test_where_two_part_first_is_told_with_their_states(step: int, beta: float):
    """m_t = sum of beta^(t - s) g_s, of gradients 1: before step t it is (1 - beta^t) / (1 - beta)."""

    def make(factor):
        rate = optax.scale_by_schedule(lambda count: jnp.where(count == step, factor, -1.0))
        return optax.chain(optax.trace(beta), rate)

    drive = Drive(("ones",), np.ones((40, 1, 1)), np.zeros((40, 1, 1)))
    a, b = make(-1.0), make(-1.5)
    told = first_difference(a, b, [driven(a, b, drive)], 1e-6)
    buffer = (1 - beta**step) / (1 - beta)
    update = -(1 + beta * buffer)
    assert f"at step {step} of ones (sequence 0, parameter 0), at gradient 1" in told
    number = float(told.split("from the state (0.trace ")[1].split(",")[0])
    np.testing.assert_allclose(number, buffer, rtol=1e-5)
    np.testing.assert_allclose(float(told.split("A's update is ")[1].split()[0]), update, rtol=1e-6)
    assert "relative difference 0.333" in told


@pytest.mark.long
def test_one_that_couples_and_cannot_be_examined_still_has_a_first_difference():
    """The norm of one parameter is its size: that norms of several are clipped shows in runs alone."""
    a, b = (optax.chain(clip(0.01), optax.sgd(0.2)) for clip in (optax.clip, optax.clip_by_global_norm))
    found = compare(a, b)
    assert any(sentence.startswith("B cannot be examined: ") for sentence in found.words)
    assert any(sentence.startswith("first of all they differ at step 0 of run of A") for sentence in found.words)
    assert jax.config.jax_enable_x64 is False
