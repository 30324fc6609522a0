"""TBPTT against the full meta-gradient, closed forms of its bias, and what becomes of problems that end."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from window_problems import (
    VALLEY_CURVATURE,
    VALLEY_START,
    Cliff,
    Descent,
    Valley,
    Waves,
    draw,
    flat,
    learned,
)

from reopt.core.errors import ReoptError
from reopt.evaluation.unroll import meta_objective, unroll
from reopt.training.meta_gradient import meta_value_and_grad
from reopt.training.truncated import estimate, start
from reopt.training.windows import window_bounds


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@functools.partial(jax.jit, static_argnames=("problems", "num_steps", "window"))
def begin(optimizer, task, key, *, problems, num_steps, window):
    return start(optimizer, task, key, problems=problems, num_steps=num_steps, window=window)


@functools.partial(jax.jit, static_argnames=("num_steps", "window"))
def step(optimizer, task, memory, key, *, num_steps, window):
    return estimate(optimizer, task, memory, key, num_steps=num_steps, window=window)


@jax.jit
def full_runs(optimizer, problems):
    return unroll(optimizer, Waves(), problems, 7)


@pytest.mark.parametrize(
    ("num_steps", "window", "lengths"),
    [
        (201, 20, [18] * 8 + [19] * 3),
        (200, 20, [20] * 10),
        (7, 3, [2, 2, 3]),
        (5, 5, [5]),
        (5, 99, [5]),
        (3, 1, [1] * 3),
    ],
)
def test_windows_are_as_equal_as_can_be(num_steps: int, window: int, lengths: list[int]):
    bounds = window_bounds(num_steps, window)
    assert (bounds[0], bounds[-1]) == (0, num_steps)
    assert sorted(np.diff(bounds)) == lengths


def test_a_window_of_the_whole_run_is_the_full_gradient():
    optimizer, task, settings = learned(), Waves(), {"num_steps": 9, "window": 50}
    memory = begin(optimizer, task, jax.random.key(0), problems=6, **settings)
    by_hand = jax.jit(lambda problems: meta_value_and_grad(optimizer, task, problems, num_steps=9))
    for outer in range(2):  # every outer step draws anew
        objectives, gradient, memory = step(optimizer, task, memory, jax.random.key(outer), **settings)
        expected, full = by_hand(draw(task, memory))
        np.testing.assert_allclose(objectives, expected, rtol=1e-12)
        assert np.all(flat(full) != 0)
        np.testing.assert_allclose(flat(gradient), flat(full), rtol=1e-9, atol=1e-13)


def test_the_shares_of_a_run_make_its_meta_objective():
    """Windows of 2, 2 and 3 steps, weighted by their lengths; the runs that go on are those of `unroll`."""
    optimizer, task, settings = learned(), Waves(), {"num_steps": 7, "window": 3}
    memory = begin(optimizer, task, jax.random.key(0), problems=3, **settings)
    # Problem i stands before its window i; a problem before its first window is over, or has not moved.
    np.testing.assert_array_equal(np.asarray(memory.step) % 7, [0, 2, 4])
    shares, steps, draws, losses = [], [], [], []
    for outer in range(6):
        share, _, memory = step(optimizer, task, memory, jax.random.key(outer), **settings)
        shares.append(share)
        steps.append(memory.step)
        draws.append(memory.draws)
        losses.append(full_runs(optimizer, draw(task, memory)).losses)
        np.testing.assert_allclose(memory.initial_loss, losses[-1][0], rtol=1e-13)
    np.testing.assert_array_equal(steps, [[2, 4, 7], [4, 7, 2], [7, 2, 4]] * 2)
    for problem, (first, last) in enumerate([(0, 3), (2, 5), (1, 4)]):
        # Drawn at the first of these outer steps, the same one until the last.
        assert np.all(np.asarray(draws)[first:last, problem] == draws[first][problem])
        if first:
            assert np.any(draws[first - 1][problem] != draws[first][problem])
        share = np.mean([shares[at][problem] for at in range(first, last)])
        np.testing.assert_allclose(share, meta_objective(losses[first])[problem], rtol=1e-12)


def test_problems_of_a_start_have_run_with_the_weights():
    optimizer, task = learned(), Waves()
    memory = begin(optimizer, task, jax.random.key(0), problems=3, num_steps=7, window=3)
    losses = full_runs(optimizer, draw(task, memory)).losses
    for problem, at in [(1, 2), (2, 4)]:
        assert int(memory.step[problem]) == at
        here = task.loss(draw(task, memory)[problem], memory.params[problem], at)
        np.testing.assert_allclose(here, losses[at, problem], rtol=1e-12)


def test_the_same_memory_and_key_give_the_same():
    optimizer, task, settings = learned(), Waves(), {"num_steps": 7, "window": 3}
    memory = begin(optimizer, task, jax.random.key(0), problems=3, **settings)
    again = begin(optimizer, task, jax.random.key(0), problems=3, **settings)
    np.testing.assert_array_equal(flat(memory), flat(again))
    one, other = (flat(step(optimizer, task, memory, jax.random.key(1), **settings)) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert np.any(flat(step(optimizer, task, memory, jax.random.key(2), **settings)) != one)


def valley_gradient(rate: float, num_steps: int, reach: int) -> float:
    """Derivative by the rate of the meta-objective of gradient descent in `Valley`.

    x_k = (1 - rate lambda)^k x_0, and so  df_k = -sum lambda^2 x_0^2 k (1 - rate lambda)^(2k - 1)  where all k updates
    before are counted; of windows of `reach` steps only the k mod reach in the window are.
    """
    curvature, origin = np.asarray(VALLEY_CURVATURE), np.asarray(VALLEY_START)
    k = np.arange(num_steps)[:, None]
    slopes = -((curvature * origin) ** 2) * (k % reach) * (1 - rate * curvature) ** (2.0 * k - 1)
    return float(np.sum(slopes) / num_steps / (0.5 * np.sum(curvature * origin**2)))


def test_truncation_has_the_sign_of_the_short_term():
    """A rate that overshoots in the steep direction: soon bad, in the long run good for the flat one."""
    settings = {"num_steps": 20, "window": 4}
    full, truncated = valley_gradient(1.5, 20, 20), valley_gradient(1.5, 20, 4)
    assert full < -0.01
    assert truncated > 0.01
    optimizer, task = Descent(jnp.asarray(1.5)), Valley()
    memory = begin(optimizer, task, jax.random.key(0), problems=5, **settings)
    for outer in range(3):  # one problem at each phase: the mean is that over all windows, each time
        _, gradient, memory = step(optimizer, task, memory, jax.random.key(outer), **settings)
        assert float(gradient.rate) == pytest.approx(truncated, rel=1e-10)
    problems = task.sample_batch(jax.random.key(0), 5)
    objective = jax.jit(lambda o: jnp.mean(meta_objective(unroll(o, task, problems, 20).losses)))
    assert float(jax.grad(objective)(optimizer).rate) == pytest.approx(full, rel=1e-10)


def test_problems_that_are_not_finite_contribute_nothing_and_end():
    """1e3 x^4 and a rate of 1 leave float64 within the eight steps of a window, forwards; the others stay."""
    optimizer, task, settings = Descent(jnp.asarray(0.9)), Cliff(0.4), {"num_steps": 16, "window": 8}
    memory = begin(optimizer, task, jax.random.key(0), problems=8, **settings)
    objectives, gradient, memory = step(optimizer, task, memory, jax.random.key(1), **settings)
    bad = np.asarray(draw(task, memory))
    assert 0 < np.sum(bad) < 8
    np.testing.assert_array_equal(~np.isfinite(objectives), bad)
    assert np.all(np.isfinite(flat(memory)))
    # Elsewhere x_k = (1 - 2 rate)^k: the windows of steps 0 to 7 and 8 to 15, a problem's phase known by its step.
    first = np.asarray(memory.step) == 8
    assert np.all(np.asarray(memory.step)[bad] == 16)
    k = np.arange(1, 8)
    slope = np.sum(-4 * k * (-0.8) ** (2.0 * k - 1)) / 8 / 2
    share = np.where(bad, 0, np.where(first, slope, slope * 0.8**16))
    assert float(gradient.rate) == pytest.approx(np.mean(share), rel=1e-12)
    # Those that have ended are replaced: by problems at the end of a first window, or bad again.
    before = np.asarray(memory.draws)
    _, _, memory = step(optimizer, task, memory, jax.random.key(2), **settings)
    assert np.all(np.any(np.asarray(memory.draws)[bad] != before[bad], axis=1))
    again = np.asarray(draw(task, memory))
    np.testing.assert_array_equal(np.asarray(memory.step)[bad], np.where(again[bad], 16, 8))


def test_where_no_problem_is_finite_neither_is_the_gradient():
    optimizer, task, settings = Descent(jnp.asarray(0.9)), Cliff(1.1), {"num_steps": 16, "window": 8}
    memory = begin(optimizer, task, jax.random.key(0), problems=8, **settings)
    _, gradient, memory = step(optimizer, task, memory, jax.random.key(1), **settings)
    assert np.all(draw(task, memory))
    assert not np.isfinite(float(gradient.rate))
    np.testing.assert_array_equal(memory.step, 16)


def test_windows_in_which_nothing_can_be_learned_are_refused():
    optimizer, task = learned(), Waves()
    with pytest.raises(ReoptError, match="let window be 2 or more"):
        start(optimizer, task, jax.random.key(0), problems=2, num_steps=5, window=1)
    with pytest.raises(ReoptError, match=r"training\.problems be 1 or more"):
        start(optimizer, task, jax.random.key(0), problems=0, num_steps=5, window=2)
    with pytest.raises(ReoptError, match="let num_steps and window be 1 or more"):
        start(optimizer, task, jax.random.key(0), problems=2, num_steps=0, window=2)
