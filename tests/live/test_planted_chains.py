"""Chains of which every reading is known in closed form, in float64 to 1e-9 or better, in float32 to 1e-6."""

from collections.abc import Iterator

import chains
import jax
import numpy as np
import optax
import pytest
from chains import known_gradients, readings, reasons, values

MEASURED = np.arange(0, chains.STEPS, 20)
EXACT = {"rtol": 1e-9, "atol": 1e-12}


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def cosine(step: np.ndarray, rate: float = 0.1, length: int = 100) -> np.ndarray:
    return rate * (1 + np.cos(np.pi * np.minimum(step, length) / length)) / 2


def test_descent_with_a_cosine_schedule_is_its_schedule_and_nothing_else() -> None:
    table = readings(optax.sgd(optax.cosine_decay_schedule(0.1, 110)))
    for group in chains.SHAPES:
        for quantity in ("learning_rate", "secant_rate"):
            np.testing.assert_allclose(values(table, quantity, group), cosine(MEASURED, length=110), **EXACT)
        for column in ("low", "high"):
            np.testing.assert_allclose(
                values(table, "learning_rate", group, column), cosine(MEASURED, length=110), **EXACT
            )
        for quantity in ("memory", "clipped"):
            np.testing.assert_array_equal(values(table, quantity, group), 0)
        np.testing.assert_allclose(values(table, "saturation", group), 0, atol=1e-12)
    np.testing.assert_allclose(values(table, "adaptation"), 0, atol=1e-12)
    assert table["step"].unique().tolist() == MEASURED.tolist()
    assert set(table[table["group"] == "a"]["elements"]) == {42}


@pytest.mark.parametrize(("nesterov", "rate"), [(False, 0.05), (True, 0.05 * 1.9)])
def test_a_heavy_ball_has_the_memory_of_its_momentum(nesterov: bool, rate: float) -> None:
    table = readings(optax.sgd(0.05, momentum=0.9, nesterov=nesterov))
    np.testing.assert_allclose(values(table, "memory"), 0.9, **EXACT)
    np.testing.assert_allclose(values(table, "learning_rate"), rate, **EXACT)
    np.testing.assert_allclose(values(table, "secant_rate"), rate, **EXACT)


def test_a_penalty_in_the_gradient_is_neither_rate_nor_memory() -> None:
    table = readings(optax.chain(optax.add_decayed_weights(0.3), optax.trace(0.8), optax.scale(-0.05)))
    np.testing.assert_allclose(values(table, "memory"), 0.8, **EXACT)
    np.testing.assert_allclose(values(table, "secant_rate"), 0.05, **EXACT)


def adam_by_hand(gradients: np.ndarray, rate=1e-2, b1=0.9, b2=0.999, eps=1e-8) -> dict[str, list[float]]:
    """Readings of Adam at the steps measured after the first, from its formulas."""
    g = gradients.reshape(len(gradients), -1)
    m, v = np.zeros(g.shape[1]), np.zeros(g.shape[1])
    found: dict[str, list[float]] = {"learning_rate": [], "low": [], "secant_rate": [], "memory": [], "adaptation": []}

    def update(m: np.ndarray, v: np.ndarray, t: int) -> np.ndarray:
        return -rate * m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)

    for t, now in enumerate(g, start=1):
        before = b1 * m, b2 * v
        m, v = b1 * m + (1 - b1) * now, b2 * v + (1 - b2) * now**2
        if t - 1 not in MEASURED[1:]:
            continue
        mean, root = m / (1 - b1**t), np.sqrt(v / (1 - b2**t))
        slope_of_root = (1 - b2) * now / (1 - b2**t) / root
        derivative = rate * ((1 - b1) / (1 - b1**t) / (root + eps) - mean / (root + eps) ** 2 * slope_of_root)
        response = update(m, v, t) - update(*before, t)
        one, two = update(b1 * m, b2 * v, t + 1), update(b1**2 * m, b2**2 * v, t + 2)
        positive = derivative > 0
        found["learning_rate"].append(np.median(derivative))
        found["low"].append(np.quantile(derivative, 0.25))
        found["secant_rate"].append(-response @ now / (now @ now))
        found["memory"].append(two @ one / (one @ one))
        found["adaptation"].append(np.polyfit(np.log(np.abs(now[positive])), np.log(derivative[positive]), 1)[0])
    return found


def test_adam_is_read_as_its_formulas_have_it() -> None:
    gradients = known_gradients()
    table = readings(optax.adam(1e-2), gradients=gradients)
    truth = adam_by_hand(gradients["a"])
    for quantity in ("learning_rate", "secant_rate", "memory", "adaptation"):
        np.testing.assert_allclose(values(table, quantity)[1:], truth[quantity], rtol=1e-8)
    np.testing.assert_allclose(values(table, "learning_rate", column="low")[1:], truth["low"], rtol=1e-8)
    np.testing.assert_array_equal(values(table, "clipped")[1:], 0)


def test_decoupled_weight_decay_is_no_reading_at_all() -> None:
    """Whatever the decay, AdamW reads as Adam."""
    adam, adamw = readings(optax.adam(1e-2)), readings(optax.adamw(1e-2, weight_decay=0.5))
    assert adam["reason"].equals(adamw["reason"])
    np.testing.assert_allclose(adamw["value"], adam["value"], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("then", ["descent", "momentum", "adam"])
def test_the_share_clipped_is_that_of_a_full_count(then: str) -> None:
    after = {"descent": optax.sgd(0.1), "momentum": optax.sgd(0.1, momentum=0.9), "adam": optax.adam(0.1)}[then]
    gradients = known_gradients()
    table = readings(optax.chain(optax.clip(0.3), after), gradients=gradients, first=1)
    for group, given in gradients.items():
        counted = [(np.abs(given[step]) > 0.3).mean() for step in MEASURED[:-1] + 1]
        np.testing.assert_array_equal(values(table, "clipped", group), counted)
    assert 0.1 < values(table, "clipped").mean() < 0.9
    if then != "adam":
        np.testing.assert_allclose(values(table, "learning_rate"), 0.1, **EXACT)
        np.testing.assert_allclose(values(table, "adaptation"), 0, atol=1e-12)
        given = gradients["a"][MEASURED[:-1] + 1]
        secant = 0.1 * np.sum(np.clip(given, -0.3, 0.3) * given, axis=(1, 2)) / np.sum(given**2, axis=(1, 2))
        np.testing.assert_allclose(values(table, "secant_rate"), secant, **EXACT)


def test_a_clip_behind_momentum_is_counted_where_the_sum_is_clipped() -> None:
    gradients = known_gradients()
    table = readings(optax.chain(optax.trace(0.9), optax.clip(0.3), optax.scale(-0.1)), gradients=gradients)
    trace, counted = np.zeros(chains.SHAPES["a"]), []
    for step, gradient in enumerate(gradients["a"]):
        trace = 0.9 * trace + gradient
        if step in MEASURED:
            counted.append((np.abs(trace) > 0.3).mean())
    np.testing.assert_array_equal(values(table, "clipped"), counted)


def test_clip_momentum_and_schedule_are_told_apart_in_one_chain() -> None:
    schedule = optax.cosine_decay_schedule(0.1, 110)
    gradients = known_gradients()
    table = readings(
        optax.chain(optax.clip(0.3), optax.trace(0.9), optax.scale_by_learning_rate(schedule)), gradients=gradients
    )
    np.testing.assert_allclose(values(table, "learning_rate"), cosine(MEASURED, length=110), **EXACT)
    counted = [(np.abs(gradients["a"][step]) > 0.3).mean() for step in MEASURED]
    np.testing.assert_array_equal(values(table, "clipped"), counted)
    memory = 0.9 * cosine(MEASURED + 2, length=110) / cosine(MEASURED + 1, length=110)
    np.testing.assert_allclose(values(table, "memory"), memory, **EXACT)


def test_all_clipped_is_said_and_the_share_is_one() -> None:
    gradients = {name: np.sign(g) * (1 + np.abs(g)) for name, g in known_gradients().items()}
    table = readings(optax.chain(optax.clip(0.01), optax.sgd(0.1)), gradients=gradients)
    np.testing.assert_array_equal(values(table, "clipped"), 1)
    assert set(reasons(table, "learning_rate")) == {"every element is clipped"}
    np.testing.assert_allclose(values(table, "saturation"), 1, atol=1e-12)


def test_in_float32_derivatives_hold_six_digits() -> None:
    """Rates and shares are products of few float32 numbers; a secant, a difference, loses as many digits as momentum is
    larger than the gradient."""
    with jax.enable_x64(False):
        schedule = optax.cosine_decay_schedule(0.1, 110)
        table = readings(optax.chain(optax.clip(0.3), optax.trace(0.9), optax.scale_by_learning_rate(schedule)))
        ball = readings(optax.sgd(0.05, momentum=0.9))
    np.testing.assert_allclose(values(table, "learning_rate"), cosine(MEASURED, length=110), rtol=1e-6)
    np.testing.assert_allclose(values(ball, "learning_rate"), 0.05, rtol=1e-6)
    np.testing.assert_allclose(values(ball, "memory"), 0.9, rtol=1e-6)
    np.testing.assert_allclose(values(ball, "secant_rate"), 0.05, rtol=1e-5)
    gradients = known_gradients()["a"].astype(np.float32)
    counted = [(np.abs(gradients[step]) > np.float32(0.3)).mean() for step in MEASURED]
    np.testing.assert_allclose(values(table, "clipped"), counted, rtol=1e-6)
