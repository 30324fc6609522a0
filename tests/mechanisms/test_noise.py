"""Noise in the updates, told from the bending of a smooth function."""

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from reopt.examination.calibration import NoisySGD
from reopt.mechanisms.noise import update_noise
from reopt.optimizers.base import Optimizer


class Cancelling(Optimizer):
    """dx = h^2 - 1 - g: near h = 1 a small difference of large numbers, as the readout of a trained network is."""

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("h",)

    def initial_state(self) -> Array:
        return jnp.ones(1)

    def update(self, state: Array, gradient: Array) -> Array:
        del gradient
        return state

    def readout(self, state: Array, gradient: Array) -> Array:
        return state[..., 0] ** 2 - 1 - gradient


@pytest.mark.parametrize("beside", [1e-4, 1e-6, 1e-8])
def test_a_smooth_update_that_nearly_cancels_is_not_noisy(beside: float):
    """With steps s of the state the second difference is 2 s^2, for s = 1e-3 as large as the update 2 `beside` or
    larger; at s / 2 it is a fourth of that."""
    states = 1 + beside * np.linspace(1, 2, 64)[:, None]
    found = update_noise(Cancelling(), states, np.full(64, 1e-12), np.zeros(20))
    assert found.rough == 0


@pytest.mark.parametrize("share", [1e-3, 1e-2, 0.3])
def test_noise_is_measured_beside_it(share: float):
    """Hashed noise of deviation sigma on dx = -g: the estimate is within a fourth of sigma."""
    gradients = np.random.default_rng(0).normal(size=256)
    noisy = NoisySGD(jnp.asarray(1.0), jnp.asarray(share), jnp.asarray(0.3), "bits")
    found = update_noise(noisy, np.zeros((256, noisy.state_size)), gradients, np.zeros(20))
    assert found.rough == pytest.approx(share, rel=0.25)
