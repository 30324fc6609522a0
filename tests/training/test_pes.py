"""PES: exact where the loss is linear, of known mean where it is smoothed, without the bias that windows have alone.

Means of samples are compared with what they should be in standard errors; samples and bounds are fixed.
"""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from test_truncated import valley_gradient
from window_problems import Cliff, Descent, Drift, Power, Valley, Waves, draw, flat, learned

from reopt.core.errors import ReoptError
from reopt.evaluation.unroll import meta_objective, unroll
from reopt.training.meta_gradient import meta_value_and_grad
from reopt.training.pes import Pairs, estimate, start
from reopt.training.truncated import estimate as truncated_estimate
from reopt.training.truncated import start as truncated_start
from reopt.training.windows import window_bounds


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@functools.partial(jax.jit, static_argnames=("problems", "num_steps", "window", "deviation"))
def begin(optimizer, task, key, *, problems, **settings):
    return start(optimizer, task, key, problems=problems, **settings)


@functools.partial(jax.jit, static_argnames=("num_steps", "window", "deviation"))
def step(optimizer, task, memory, key, **settings):
    return estimate(optimizer, task, memory, key, **settings)


def samples(optimizer, task, count: int, *, problems: int, persistent: bool = True, **settings) -> np.ndarray:
    """Gradients `(sample, weight)` of outer steps that have nothing to do with each other."""

    def sample(key):
        keys = jax.random.split(key)
        memory = start(optimizer, task, keys[0], problems=problems, **settings)
        if not persistent:  # evolution strategies within windows: what was accumulated is forgotten
            memory = dataclasses.replace(memory, accumulated=jnp.zeros_like(memory.accumulated))
        return ravel_pytree(estimate(optimizer, task, memory, keys[1], **settings)[1])[0]

    keys = jax.random.split(jax.random.key(7), count)
    return np.asarray(jax.jit(lambda keys: jax.lax.map(sample, keys, batch_size=count // 4))(keys))


def in_errors(values: np.ndarray, expected: np.ndarray | float) -> np.ndarray:
    """How many standard errors the mean of each column lies from what is expected."""
    error = np.std(values, axis=0, ddof=1) / np.sqrt(len(values))
    return (np.mean(values, axis=0) - expected) / error


def test_in_one_window_a_linear_loss_is_differentiated_along_the_perturbation():
    """f = s + x and x_k = 1 + k (pace + eps): (m+ - m-) / 2 = eps mean(k) / f(x_0), whatever the deviation."""
    settings = {"num_steps": 5, "window": 5, "deviation": 0.3}
    optimizer, task = Drift(jnp.asarray(0.1)), Power(1)
    memory = begin(optimizer, task, jax.random.key(0), problems=6, **settings)
    objectives, gradient, memory = step(optimizer, task, memory, jax.random.key(1), **settings)
    initial = 1 + np.asarray(draw(task, memory))
    np.testing.assert_allclose(memory.initial_loss, initial, rtol=1e-14)
    np.testing.assert_allclose(objectives, 1 + 0.1 * 2 / initial, rtol=1e-12)
    eps = np.asarray(memory.accumulated)[:, 0]
    assert float(gradient.pace) == pytest.approx(np.mean((eps / 0.3) ** 2 * 2 / initial), rel=1e-11)


def power_gradient(pace: float, exponent: int, deviation: float) -> float:
    """Gradient by the pace of the expected meta-objective in `Power`, of 7 steps in windows of 2, 2 and 3.

    x_k is normal with mean 1 + k pace and variance deviation^2 sum n^2, n the steps that each window's noise has
    acted; and E x^e = mu^e + e (e - 1) / 2 mu^(e - 2) var for exponents up to 3. 1 / f(x_0) = 1 / (1 + s) has
    mean log(2) / 2 for s between 1 and 3.
    """
    k, bounds = np.arange(7), window_bounds(7, 3)
    steps = [np.clip(k - low, 0, high - low) for low, high in itertools.pairwise(bounds)]
    variance = deviation**2 * np.sum(np.square(steps), axis=0)
    mean = 1 + k * pace
    slope = k * exponent * mean ** (exponent - 1)
    if exponent == 3:
        slope += 3 * k * variance
    return float(np.mean(slope) * np.log(2) / 2)


@pytest.mark.parametrize("exponent", [2, 3])
def test_the_mean_is_the_gradient_of_the_smoothed_loss(exponent: int):
    """Of a square it is the gradient itself, of a cube it is larger by a known amount."""
    optimizer, task = Drift(jnp.asarray(0.1)), Power(exponent)
    settings = {"num_steps": 7, "window": 3, "deviation": 0.3}
    values = samples(optimizer, task, 8000, problems=6, **settings)
    assert abs(in_errors(values, power_gradient(0.1, exponent, 0.3))[0]) < 3
    if exponent == 3:
        assert in_errors(values, power_gradient(0.1, 3, 0.0))[0] > 20


@pytest.mark.long
def test_no_bias_where_truncation_has_the_wrong_sign():
    """Gradient descent that overshoots in the steep direction: windows of 4 steps of 20, five pairs, one a phase."""
    optimizer, task = Descent(jnp.asarray(1.5)), Valley()
    settings = {"num_steps": 20, "window": 4, "deviation": 1e-3}
    full, truncated = valley_gradient(1.5, 20, 20), valley_gradient(1.5, 20, 4)
    values = samples(optimizer, task, 8000, problems=5, **settings)
    assert abs(in_errors(values, full)[0]) < 3
    assert in_errors(values, truncated)[0] < -10
    forgetful = samples(optimizer, task, 8000, problems=5, persistent=False, **settings)
    assert abs(in_errors(forgetful, truncated)[0]) < 3
    assert in_errors(forgetful, full)[0] > 10


@pytest.mark.long
def test_no_bias_in_any_weight_of_a_recurrent_network():
    """Against the full gradient: PES within chance in all weights, truncation and ES within windows far outside."""
    optimizer, task, settings = learned(), Waves(), {"num_steps": 12, "window": 3}
    problems = task.sample_batch(jax.random.key(1), 20_000)
    full = flat(jax.jit(lambda p: meta_value_and_grad(optimizer, task, p, num_steps=12)[1])(problems))
    unbiased = samples(optimizer, task, 4000, problems=4, deviation=0.01, **settings)
    forgetful = samples(optimizer, task, 2000, problems=4, deviation=0.01, persistent=False, **settings)

    def truncated_sample(key):
        keys = jax.random.split(key)
        memory = truncated_start(optimizer, task, keys[0], problems=400, **settings)
        return ravel_pytree(truncated_estimate(optimizer, task, memory, keys[1], **settings)[1])[0]

    keys = jax.random.split(jax.random.key(2), 20)
    truncated = np.asarray(jax.jit(lambda keys: jax.lax.map(truncated_sample, keys))(keys))
    # 29 weights: the largest of as many normal numbers is beyond 4 once in 500 times; their mean square, were they
    # independent, beyond 2 once in 1,000.
    for values, expected in [(unbiased, full), (forgetful, np.mean(truncated, axis=0))]:
        scores = in_errors(values, expected)
        assert np.max(np.abs(scores)) < 4
        assert np.mean(np.square(scores)) < 2
    for biased in (truncated, forgetful):
        assert np.max(np.abs(in_errors(biased, full))) > 20
    assert np.max(np.abs(in_errors(unbiased, np.mean(truncated, axis=0)))) > 6


def test_pairs_run_on_and_begin_anew():
    """Windows of 2, 2 and 3 steps; with a small deviation both particles are where `unroll` is."""
    optimizer, task = learned(), Waves()
    settings = {"num_steps": 7, "window": 3, "deviation": 1e-9}
    memory = begin(optimizer, task, jax.random.key(0), problems=3, **settings)
    np.testing.assert_array_equal(np.asarray(memory.step) % 7, [0, 2, 4])
    shares, kept = [], [memory]
    for outer in range(6):
        share, _, memory = step(optimizer, task, memory, jax.random.key(outer), **settings)
        shares.append(share)
        kept.append(memory)
    np.testing.assert_array_equal([m.step for m in kept[1:]], [[2, 4, 7], [4, 7, 2], [7, 2, 4]] * 2)
    runs = jax.jit(lambda problems: unroll(optimizer, task, problems, 7).losses)
    for problem, (first, last) in enumerate([(0, 3), (2, 5), (1, 4)]):
        losses = runs(draw(task, kept[first + 1]))
        np.testing.assert_allclose(kept[first + 1].initial_loss[problem], losses[0, problem], rtol=1e-12)
        share = np.mean([shares[at][problem] for at in range(first, last)])
        np.testing.assert_allclose(share, meta_objective(losses)[problem], rtol=1e-6)
        # The perturbations are summed from the problem's first window on: as a random walk, from zero.
        walk = np.asarray([m.accumulated[problem] for m in kept[first + 1 : last + 1]]) / 1e-9
        steps = np.concatenate([walk[:1], np.diff(walk, axis=0)])
        assert np.all(np.abs(np.sqrt(np.mean(steps**2, axis=1)) - 1) < 0.45)  # of 29 normal numbers: sd 0.13
        assert np.max(np.abs(np.corrcoef(steps) - np.eye(3))) < 0.6  # sd 0.19


def test_the_same_memory_and_key_give_the_same():
    optimizer, task = learned(), Waves()
    settings = {"num_steps": 7, "window": 3, "deviation": 1e-9}
    memory = begin(optimizer, task, jax.random.key(0), problems=3, **settings)
    again = begin(optimizer, task, jax.random.key(0), problems=3, **settings)
    np.testing.assert_array_equal(flat(memory), flat(again))
    one, other = (flat(step(optimizer, task, memory, jax.random.key(1), **settings)) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert np.any(flat(step(optimizer, task, memory, jax.random.key(2), **settings)) != one)


def test_problems_that_are_not_finite_contribute_nothing_and_end():
    """The pairs on 1e3 x^4 leave float64; the rest gives the gradient, and accumulates afresh once they are gone."""
    settings = {"num_steps": 16, "window": 8, "deviation": 0.01}
    optimizer, task = Descent(jnp.asarray(0.9)), Cliff(0.4)
    memory = begin(optimizer, task, jax.random.key(0), problems=8, **settings)
    objectives, gradient, memory = step(optimizer, task, memory, jax.random.key(1), **settings)
    assert isinstance(memory, Pairs)
    bad = np.asarray(draw(task, memory))
    assert 0 < np.sum(bad) < 8
    np.testing.assert_array_equal(~np.isfinite(objectives), bad)
    assert np.all(np.isfinite(flat(memory)))
    assert np.all(np.asarray(memory.step)[bad] == 16)
    # x_k = (1 - 2 rate)^k in a problem's first window, rates of plus and minus known by what is accumulated; those
    # in their second one have the earlier window's noise in them too, so first windows are looked at alone.
    first = dataclasses.replace(memory, step=jnp.full(8, 16, jnp.int32))
    _, gradient, memory = step(optimizer, task, first, jax.random.key(5), **settings)
    bad, eps = np.asarray(draw(task, memory)), np.asarray(memory.accumulated)[:, 0]
    assert 0 < np.sum(bad) < 8
    plus, minus = (np.mean((1 - 2 * (0.9 + s * eps)) ** (2 * np.arange(8)[:, None]), axis=0) / 2 for s in (1, -1))
    expected = np.mean(np.where(bad, 0, eps * (plus - minus) / (2 * 0.01**2)))
    assert float(gradient.rate) == pytest.approx(expected, rel=1e-10)
    assert np.all(np.abs(eps) < 0.04)


def test_deviations_that_are_not_positive_are_refused():
    for deviation in (0.0, -0.1, float("nan"), float("inf")):
        with pytest.raises(ReoptError, match="let deviation be positive"):
            start(learned(), Waves(), jax.random.key(0), problems=2, num_steps=5, window=2, deviation=deviation)
