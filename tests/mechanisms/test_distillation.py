"""The distilled optimizer against closed forms, and the share that it explains against known shares."""

import numpy as np

from reopt.mechanisms.distillation import Distilled, distilled_updates, explained

RNG = np.random.default_rng(0)
GRADIENTS = RNG.standard_normal((30, 6, 3))
NONE = np.zeros(0, complex)


def test_momentum_is_the_sum_of_its_buffers():
    found = Distilled(np.array([0.2, 0.5j]), np.array([0.9, 0.3 + 0.4j]), 0.1, 0.03)
    velocity, turning = np.zeros((6, 3)), np.zeros((6, 3), complex)
    for gradient, update in zip(GRADIENTS, distilled_updates(found, GRADIENTS), strict=True):
        velocity = 0.9 * velocity + gradient
        turning = (0.3 + 0.4j) * turning + gradient
        np.testing.assert_allclose(update, 0.03 - 0.2 * velocity - np.real(0.5j * turning) - 0.1 * gradient)


def test_clipping_acts_before_the_memory_and_the_schedule_after_it():
    knots = np.array([-10.0, -0.5, 0.5, 10.0])
    clip = (knots, np.clip(knots, -0.5, 0.5))
    schedule = 1 / (1 + np.arange(30.0))
    found = Distilled(np.array([1.0 + 0j]), np.array([0.8 + 0j]), 0.0, 0.0, clip, schedule)
    velocity = np.zeros((6, 3))
    for t, update in enumerate(distilled_updates(found, GRADIENTS)):
        velocity = 0.8 * velocity + np.clip(GRADIENTS[t], -0.5, 0.5)
        np.testing.assert_allclose(update, -velocity / (1 + t))


def test_adaptation_with_rmsprops_own_law_is_rmsprop():
    decay, eps, rate = 0.9, 1e-6, 0.1
    sizes = np.geomspace(1e-6, 1e2, 2000)
    law = np.sqrt(eps) / np.sqrt(decay * sizes**2 + eps)  # the rate at zero, over that at rest
    found = Distilled(NONE, NONE, rate / np.sqrt(eps), 0.0, adaptation=(sizes, law), adaptation_decay=decay)
    moment = np.zeros((6, 3))
    for gradient, update in zip(GRADIENTS, distilled_updates(found, GRADIENTS), strict=True):
        moment = decay * moment + (1 - decay) * gradient**2
        np.testing.assert_allclose(update, -rate * gradient / np.sqrt(moment + eps), rtol=1e-4)


def test_the_share_explained_counts_every_step_the_same():
    true = GRADIENTS * np.geomspace(1, 1e-6, 30)[:, None, None]
    assert explained(true, true) == (1, 1, 1)
    np.testing.assert_allclose(explained(true, np.zeros_like(true)), 0, atol=1e-12)
    np.testing.assert_allclose(explained(true, 0.9 * true), 0.99)
    half = true.copy()
    half[15:] = 0  # the later half of the steps is tiny, yet half of the whole
    value, low, high = explained(true, half)
    assert abs(value - 0.5) < 1e-12
    assert low <= value <= high


def test_runs_that_never_move_or_leave_the_numbers_have_no_share():
    assert np.isnan(explained(np.zeros((4, 3, 2)), np.zeros((4, 3, 2)))).all()
    wild = GRADIENTS.copy()
    wild[5:, 0] = np.inf
    np.testing.assert_allclose(explained(wild, np.where(np.isfinite(wild), wild, 0)), 1)
    assert explained(GRADIENTS, np.full_like(GRADIENTS, np.nan))[0] == -np.inf
