"""Momentum behind a step function: what the sign of an optimizer's update is the sign of.

The update of sign-SGD or Lion has no slope, so it has no linear response; but the point at which it switches has one.
Let the argument of the step be a(t) = sum_k c_k g_{t-k}. At rest one gradient P is given, then k - 1 zeros, then a
probe x: the update switches where c_k P + c_0 x = 0, so

    r_k = c_k / c_0 = -x_k / P,    r_0 = 1,

the impulse response of the argument in units of its direct response. x_k is bracketed and bisected to rounding.
The scale of the argument cannot be seen behind a step, only these ratios.

If the argument has no memory (r_k = 0), the buffers may stand after the step (a sign, then a trace). Then the response
of the update to the one pulse, over that at lag 0, is their impulse response.

A response r_k = sum_j alpha_j beta_j^k, k >= 1, is taken apart by the eigenvalues of its Hankel matrices (Ho and
Kalman 1966); its number of modes is the rank of the Hankel matrix. Lion, m <- b2 m + (1 - b2) g, sign(b1 m +
(1 - b1) g): beta = b2, alpha = b1 (1 - b2) / (b2 (1 - b1)), and direct 1 - alpha.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from reopt.dynamics.autonomous import CLOCK, FreeSystem
from reopt.dynamics.precision import double_precision, to_double
from reopt.optimizers.base import Optimizer

FARTHEST = 1e6  # the largest |r_k| that is looked for
BISECTIONS = 150
RANK = 1e-9  # singular values of the Hankel matrix below this share of the largest are rounding
LEVEL = 1e-3  # share of its jump by which a step may still rise far out
NOTHING = 1e-12  # an |r_k| that is none


class Switching(NamedTuple):
    """The response (1 at lag 0) and its modes; `behind` says that the buffers stand behind the step, not after it."""

    response: Float[np.ndarray, " lag"]
    alpha: Complex[np.ndarray, " mode"]
    beta: Complex[np.ndarray, " mode"]
    direct: float
    behind: bool


def switching(
    optimizer: Optimizer,
    point: Float[np.ndarray, " hidden"],
    *,
    pulse: float = 1.0,
    num_lags: int = 41,
    clock: float = CLOCK,
) -> Switching:
    """The experiment above on an optimizer whose update jumps at zero gradient, at its state of rest `point`.

    **Arguments:** `pulse` is P, in units of the gradient; a clock is held at `clock`.

    The response is NaN where at some lag no probe makes the update switch, or it does not stay on two levels.

    What it cannot see: the scale of the argument; modes weaker than `RANK` times the strongest, or more than
    `num_lags` // 2 of them; a step of more than two levels.
    """
    with double_precision():
        system = FreeSystem(to_double(optimizer), clock)
        start = jnp.asarray(system.restrict(np.asarray(point, np.float64)[None])[0])
        switches, after = (np.asarray(a) for a in _switches(system, start, jnp.asarray(float(pulse)), num_lags))
    response = np.append(1.0, -switches / pulse)
    if not np.isfinite(response).all():
        return Switching(np.full(num_lags, np.nan), np.zeros(0, complex), np.zeros(0, complex), np.nan, False)
    behind = bool(np.abs(response[1:]).max() > NOTHING)
    if not behind:
        response = after / after[0] if after[0] != 0 else np.eye(1, num_lags)[0]
    response = np.where(np.abs(response) > NOTHING, response, 0.0)
    alpha, beta = response_modes(response[1:])
    return Switching(response, alpha, beta, float(1 - np.real(alpha).sum()), behind)


@eqx.filter_jit
def _switches(system: FreeSystem, start: Array, pulse: Array, num_lags: int) -> tuple[Array, Array]:
    """x_k for k = 1 .. num_lags - 1, and the update after the pulse less that at rest for k = 0 .. num_lags - 1."""
    zero = jnp.zeros((), start.dtype)

    def wait(state: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
        return system.step(state, zero), (state, system.advance(state, zero)[1])

    first, at_once = system.advance(start, pulse)
    _, (states, updates) = jax.lax.scan(wait, first, None, length=num_lags - 1)
    resting = system.advance(start, zero)[1]

    def probe(sizes: Array) -> Array:
        return jax.vmap(system.advance)(states, sizes)[1]

    far = jnp.full(num_lags - 1, FARTHEST * jnp.abs(pulse))
    top, bottom = probe(far), probe(-far)
    middle, rising = 0.5 * (top + bottom), jnp.sign(top - bottom)

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        half = 0.5 * (low + high)
        above = (probe(half) - middle) * rising > 0
        return jnp.where(above, low, half), jnp.where(above, half, high)

    low, high = jax.lax.fori_loop(0, BISECTIONS, halve, (-far, far))
    nearer, nearer_bottom = probe(0.5 * far), probe(-0.5 * far)
    levels = jnp.maximum(jnp.abs(top - nearer), jnp.abs(bottom - nearer_bottom)) <= LEVEL * jnp.abs(top - bottom)
    switches = jnp.where((rising != 0) & levels, 0.5 * (low + high), jnp.nan)
    return switches, jnp.append(at_once, updates) - resting


def response_modes(
    response: Float[np.ndarray, " lag"],
) -> tuple[Complex[np.ndarray, " mode"], Complex[np.ndarray, " mode"]]:
    """alpha, beta of response[i] = sum_j alpha_j beta_j^(i + 1), by falling |beta|; none where it is 0 throughout."""
    half = len(response) // 2
    index = np.add.outer(np.arange(half), np.arange(half))
    left, values, right = np.linalg.svd(response[index])
    rank = int(np.sum(values > RANK * values[0])) if values[0] > 0 else 0
    if rank == 0:
        return np.zeros(0, complex), np.zeros(0, complex)
    scale = 1 / np.sqrt(values[:rank])
    shifted = scale[:, None] * (left[:, :rank].T @ response[index + 1] @ right[:rank].T) * scale
    beta = np.linalg.eigvals(shifted).astype(complex)
    powers = beta[None, :] ** np.arange(1, len(response) + 1)[:, None]
    alpha = np.linalg.lstsq(powers, response.astype(complex), rcond=None)[0]
    order = np.argsort(-np.abs(beta), kind="stable")
    return alpha[order], beta[order]
