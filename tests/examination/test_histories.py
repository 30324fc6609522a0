"""What only the past shows is read back from updates: lags, eps by step, momentum by step, spikes; and penalties."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from reopt.examination.compare import difference
from reopt.examination.histories import (
    AFTER,
    BENT_AT,
    LATE,
    PULSED_AT,
    SPIKE,
    compare_histories,
    histories,
)
from reopt.examination.trajectories import Componentwise, driven, probes, weight_decay
from reopt.optimizers import torch_rules as torch
from reopt.tasks.quadratic import Quadratic

USUAL, LARGEST = 0.3, 1e12
STEPS = np.array(BENT_AT)


def read(transformation):
    return histories(transformation, USUAL, LARGEST)


def compared(a, b) -> dict[str, str]:
    probing = driven(a, b, probes(np.array([USUAL, -0.1]), np.array([1.0]), num_steps=600))
    return dict(compare_histories(a, b, probing, usual=USUAL, tolerance=1e-6)[1])


def late(transformation: optax.GradientTransformation, lag: int) -> optax.GradientTransformation:
    """The same updates, `lag` steps after."""

    def init(params):
        return transformation.init(params), jnp.zeros((lag, *jnp.shape(params)))

    def update(gradient, state, params=None):
        inner, waiting = state
        change, inner = transformation.update(gradient, inner, params)
        return waiting[0], (inner, jnp.concatenate([waiting[1:], change[None].astype(waiting.dtype)]))

    return optax.GradientTransformation(init, update)


@pytest.mark.parametrize("lag", [1, 3])
def test_an_answer_that_comes_late_is_told_by_its_lag(lag: int) -> None:
    tx = optax.sgd(0.1, momentum=0.9)
    words = "one step" if lag == 1 else "3 steps"
    assert f"B answers a gradient {words} late: along " in compared(tx, late(tx, lag))["lag"]
    assert f"A answers a gradient {words} late: along " in compared(late(tx, lag), tx)["lag"]
    assert "lag" not in compared(tx, optax.sgd(0.1, momentum=0.8))


def test_a_schedule_that_is_off_by_one_counts_late_and_answers_at_once() -> None:
    schedule = optax.exponential_decay(0.1, 50, 0.5)
    told = compared(optax.sgd(schedule), optax.sgd(lambda count: schedule(jnp.maximum(count - 1, 0))))["lag"]
    assert told.startswith("lag: B counts its steps one step late: along ")
    assert "pulses" not in told


def test_where_eps_stands_is_read_of_a_sum_that_never_settles() -> None:
    """g / (sqrt(n) |g| + eps), and g / sqrt(n g^2 + eps)."""
    eps = 1e-4
    outside = read(Componentwise(torch.Adagrad(0.1, eps=eps))).bends
    inside = read(optax.adagrad(0.1, 0.0, eps)).bends
    np.testing.assert_allclose([one.knee for one in outside], eps / np.sqrt(STEPS), rtol=1e-6)
    np.testing.assert_allclose([one.knee for one in inside], np.sqrt(eps / STEPS), rtol=1e-6)
    np.testing.assert_allclose([one.sharpness for one in outside], 1, rtol=1e-6)
    np.testing.assert_allclose([one.sharpness for one in inside], 2, rtol=1e-6)


def test_an_eps_before_the_bias_is_corrected_is_told_from_one_after_it() -> None:
    eps, decay = 1e-6, 0.98
    one = Componentwise(torch.RAdam(1e-2, (0.9, decay), eps))
    found = [bend for bend, step in zip(read(one).bends, BENT_AT, strict=True) if step > 5]
    np.testing.assert_allclose([bend.knee for bend in found], eps / np.sqrt(1 - decay ** STEPS[1:]), rtol=1e-6)
    told = compared(one, optax.radam(1e-2, 0.9, decay, eps))["constant gradients"]
    assert "it falls as where eps is added before the bias of an average of decay 0.98 is corrected; B" in told
    assert told.count("falls") == 1


def test_a_momentum_that_rises_with_the_step_is_read_step_by_step() -> None:
    """NAdam from rest, below eps: a gradient g gives ((1 - mu_t) / (1 - P_t) + mu_(t+1) (1 - b) / (1 - P_(t+1))) g,
    and one step later mu_(t+2) b (1 - b) / (1 - P_(t+2)) g."""
    b, psi = 0.9, 0.05
    t = np.array(PULSED_AT) + 1
    mu = b * (1 - 0.5 * 0.96 ** (np.arange(1, 600) * psi))
    product = np.cumprod(mu)
    at, after = (lambda k: mu[t + k - 1]), (lambda k: product[t + k - 1])
    first = (1 - at(0)) / (1 - after(0)) + at(1) * (1 - b) / (1 - after(1))
    expected = at(2) * b * (1 - b) / (1 - after(2)) / first
    one = Componentwise(torch.NAdam(1e-2, (b, 0.999), momentum_decay=psi))
    np.testing.assert_allclose(read(one).following, expected, rtol=1e-9)
    assert "momentum by step" in compared(one, optax.nadam(1e-2, b))
    heavy, nesterov = optax.sgd(0.1, momentum=b), optax.sgd(0.1, momentum=b, nesterov=True)
    assert "momentum by step" not in compared(heavy, nesterov)  # one momentum each, whatever the step


@pytest.mark.long
def test_a_first_gradient_is_never_forgotten_where_the_largest_corrected_moment_is_kept() -> None:
    b = 0.999
    before, after = Componentwise(torch.Adam(1e-2, (0.9, b), amsgrad=True)), optax.amsgrad(1e-2, 0.9, b)
    expected = np.sqrt((1 - b ** (AFTER + 1)) / (1 - b)) / SPIKE
    np.testing.assert_allclose([read(before).left[0], read(after).left[0]], [expected, 1 / SPIKE], rtol=1e-4)
    late_spike = (1 - b) * SPIKE**2 + b * (1 - b**LATE)
    np.testing.assert_allclose(read(before).left[1], np.sqrt((1 - b ** (LATE + AFTER + 1)) / late_spike), rtol=1e-4)
    told = compared(before, after)["adaptation"]
    assert told.endswith(
        "(a first gradient counts in full for good, as in a largest average kept after its bias is corrected)"
    )
    assert told.count("in full") == 1


@pytest.mark.parametrize(
    ("subject", "penalty", "share"),
    [
        (torch.Adam(1e-2, weight_decay=0.1), 0.1, np.nan),
        (torch.Adam(1e-2, weight_decay=0.1, maximize=True), -0.1, np.nan),
        (torch.SGD(0.1, 0.9, weight_decay=0.02), 0.02, np.nan),
        (torch.AdamW(1e-2, weight_decay=0.1), np.nan, 1e-3),
        (torch.SGD(0.1, weight_decay=0.02), np.nan, 2e-3),
    ],
)
def test_a_penalty_is_told_from_a_decoupled_decay(subject, penalty: float, share: float) -> None:
    found = weight_decay(subject.transformation, usual=USUAL, num_steps=60)
    np.testing.assert_allclose([found.penalty, found.share], [penalty, share], rtol=1e-9)


@pytest.mark.long
def test_the_answer_names_each_kind_of_weight_decay() -> None:
    subjects = torch.Adam(1e-2, weight_decay=0.1), torch.AdamW(1e-2, weight_decay=0.1)
    found = difference(*subjects, Quadratic(), num_steps=40, problems=4)
    (told,) = [sentence for sentence in found.words if sentence.startswith("weight decay")]
    assert "A's update depends on the parameter's value: an L2 penalty inside the gradient, to which 0.1 of" in told
    assert "B's update depends on the parameter's value: weight decay that takes 0.001 of it" in told
    assert any("where the parameter is 0, they are equal to 1e-" in sentence for sentence in found.words)
