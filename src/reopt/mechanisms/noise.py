"""Noise in the updates: what of an update no smooth function of state, gradient and step can say.

Two estimates of its standard deviation, in units of the update, both by second differences, which a smooth function
does not have: for independent noise of deviation sigma the median of |u(-1) - 2 u(0) + u(1)| is 0.6745 sqrt(6) sigma.

- `rough`: along a line through (state, gradient) with steps of 1e-6 and 1e-3 of both. A smooth function that bends has
  second differences too, but half the step makes them a fourth, and those of noise stay as they are: what falls below
  `STAYS` of itself is no noise. Where `rough` is not 0, derivatives of the update mean nothing.
- `restless`: along the autonomous trajectory, step by step. This is noise that a clock or the state itself makes.

Medians, so that corners (a clip) and single steps (a piecewise schedule) do not count. What it cannot see: noise that
is the same in neighbouring states and steps, and how much of fast regular motion (a mode with beta near -1 that rings
by itself) is noise.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from reopt.dynamics.batches import argument
from reopt.dynamics.precision import double_precision, to_double
from reopt.optimizers.base import Optimizer

PER_SIGMA = 0.6745 * 6**0.5
STAYS = 0.5  # share of the second differences that noise keeps, at least, when the step is halved; bending keeps 1/4
SCALES = {1e-6: 1e-5, 1e-3: 1e-4}  # relative step: share of the update's size from which on it counts as noise


# The median of n absolute second differences of independent normal noise: var(sigma) = 1.36 sigma^2 / n for independent
# ones, and half as much again for their correlation. Of sigma^2, two standard errors are this over sqrt(n).
TWO_ERRORS = 4 * (1.5 * 1.36) ** 0.5


class Noise(NamedTuple):
    """Standard deviations in units of the update; `size` is the median |update| in the places looked at.

    `error` is twice the relative standard error of the variance, from the number of differences it was estimated from.
    """

    rough: float
    restless: float
    size: float
    error: float = 0.0

    @property
    def level(self) -> float:
        """The larger of the two."""
        return max(self.rough, self.restless)


def update_noise(
    optimizer: Optimizer,
    states: Float[np.ndarray, "row hidden"],
    gradients: Float[np.ndarray, " row"],
    offsets: Float[np.ndarray, " step"],
) -> Noise:
    """The noise at the `gradients` in the `states`, and in the updates at zero gradient (`offsets`), step by step."""
    free = np.array([i != optimizer.clock for i in range(states.shape[1])], float)
    rough = size = 0.0
    with double_precision():
        double = to_double(optimizer)
        for step, bound in SCALES.items():
            lines = argument(states), argument(free), argument(gradients), jnp.asarray(step)
            values = np.asarray(_line(double, *lines))
            size = float(np.median(np.abs(values[1])))
            found = _deviation(values[0] - 2 * values[1] + values[2])
            if found > bound * size:
                halved = np.asarray(_line(double, *lines[:-1], lines[-1] / 2))
                stays = _deviation(halved[0] - 2 * halved[1] + halved[2]) > STAYS * found
                rough = max(rough, found if stays else 0.0)
    late = np.asarray(offsets, float)[len(offsets) // 10 :]
    restless = _deviation(late[:-2] - 2 * late[1:-1] + late[2:]) if len(late) > 4 else 0.0
    count = max(len(gradients) if rough >= restless else len(late) - 2, 1)
    return Noise(rough, restless, size, TWO_ERRORS / count**0.5)


def _deviation(differences: np.ndarray) -> float:
    finite = np.abs(differences[np.isfinite(differences)])
    return float(np.median(finite)) / PER_SIGMA if finite.size else 0.0


@eqx.filter_jit
def _line(optimizer: Optimizer, states: Array, free: Array, gradients: Array, step: Array) -> Array:
    """Updates at (1 - step), 1 and (1 + step) times states and gradients: [3, row]."""
    factors = 1 + step * jnp.array([-1.0, 0.0, 1.0])
    return jax.vmap(lambda f: optimizer(states * (1 + (f - 1) * free), gradients * f)[1])(factors)
