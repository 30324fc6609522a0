"""An optimizer and a curvature as one linear system: where it is stable, and how fast it goes to rest.

On f(x) = lambda (x - x*)^2 / 2 the gradient is lambda (x - x*). With the linearization dh' = J dh + B dg,
dx = C dh' + D dg of the optimizer where it rests and does not move x, the error x - x* and the state follow

    M(lambda) = [[1 + lambda (C B + D),  C J],
                 [lambda B,              J]],

stable while every |eigenvalue| < 1. For descent the largest stable curvature is 2 / rate, for the heavy ball
2 (1 + beta) / rate. (Linear stability of a map; for the heavy ball Polyak 1964.)
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from reopt.core.errors import ReoptError
from reopt.dynamics.autonomous import FreeSystem
from reopt.dynamics.linearization import Linearization, linearize
from reopt.dynamics.precision import double_precision, to_double
from reopt.optimizers.base import Optimizer

GROWTH = 1.2  # factor between curvatures that are looked at
DECADES = 9.0  # up to this many decades above the curvature of the slowest one looked at
SLOWEST = 1e-6  # lambda times the answer to a constant gradient, of the smallest curvature looked at
BISECTIONS = 60
SMALL = 1e-12  # |spectral radius - 1| that is rounding
HEARD = 1e-3  # share of the residues in x from which on a mode is one of x
NEWTON = 50
AT_REST = 1e-10  # relative residual of a state of rest


class Pace(NamedTuple):
    """How fast x goes to rest: `rate` a step, of the slowest mode that reaches x; `radius` of all modes."""

    rate: float
    radius: float


def free_parts(linear: Linearization) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """J, B, C on the free components, and D."""
    free = np.setdiff1d(np.arange(len(linear.point)), linear.held)
    return linear.jacobian[np.ix_(free, free)], linear.input[free], linear.readout[free], float(linear.direct)


def closed_loop(linear: Linearization, curvature: float) -> Float[np.ndarray, "size size"]:
    """M(lambda), the error in x first."""
    jacobian, drive, readout, direct = free_parts(linear)
    size = len(drive) + 1
    matrix = np.zeros((size, size))
    matrix[0, 0] = 1 + curvature * (readout @ drive + direct)
    matrix[0, 1:], matrix[1:, 0], matrix[1:, 1:] = readout @ jacobian, curvature * drive, jacobian
    return matrix


def eigenvalues(linear: Linearization, curvature: float) -> Complex[np.ndarray, " size"]:
    """Of M(lambda), by falling modulus."""
    found = np.linalg.eigvals(closed_loop(linear, curvature)).astype(complex)
    return found[np.argsort(-np.abs(found), kind="stable")]


def radius(linear: Linearization, curvature: float) -> float:
    """The spectral radius of M(lambda)."""
    return float(np.abs(np.linalg.eigvals(closed_loop(linear, curvature))).max())


def standing_gain(linear: Linearization) -> float:
    """Minus the answer to a constant gradient of 1 when the state has settled."""
    jacobian, drive, readout, direct = free_parts(linear)
    settled = np.linalg.solve(np.eye(len(drive)) - jacobian, drive) if len(drive) else drive
    return -float(readout @ settled + direct)


def largest_stable_curvature(linear: Linearization) -> float:
    """The curvature at which M first ceases to be stable; inf where it does not within `DECADES`.

    **Raises** `ReoptError` where it is stable at no curvature: the state has no stable rest, or x moves uphill.
    """
    jacobian = free_parts(linear)[0]
    own = float(np.abs(np.linalg.eigvals(jacobian)).max(initial=0.0))
    if own >= 1 - SMALL:
        raise ReoptError(f"the state does not come to rest by itself (spectral radius {own:.6g})")
    gain = standing_gain(linear)
    if not gain > 0:
        raise ReoptError(
            "the update has no slope where it rests" if gain == 0 else "a small constant gradient is followed uphill"
        )
    low = SLOWEST / gain
    if radius(linear, low) >= 1:
        raise ReoptError("even the smallest curvature is unstable")
    high, end = low * GROWTH, low * 10.0**DECADES
    while radius(linear, high) < 1:
        low, high = high, high * GROWTH
        if high > end:
            return np.inf
    for _ in range(BISECTIONS):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if radius(linear, middle) < 1 else (low, middle)
    return float(np.sqrt(low * high))


def pace(linear: Linearization, curvature: float) -> Pace:
    """The largest |eigenvalue| among the modes whose residue in x is over `HEARD` of the sum of all.

    The residue of a mode in x is the product of the first components of its right and left eigenvectors (scaled to a
    product of 1): what of a start with the state at rest is in that mode.
    """
    values, right = np.linalg.eig(closed_loop(linear, curvature))
    residues = np.abs(right[0] * np.linalg.lstsq(right, np.eye(len(values))[:, 0], rcond=None)[0])
    heard = residues >= HEARD * residues.sum()
    return Pace(float(np.abs(values[heard]).max()), float(np.abs(values).max()))


def where_it_rests(optimizer: Optimizer, point: Float[np.ndarray, " hidden"], *, clock: float) -> Linearization:
    """The linearization at the state and constant gradient in which neither the state nor x moves.

    From the state of rest without a gradient, by Newton's method on F(h, g) - h = 0 and the update = 0; a learned
    optimizer rests beside the minimum, where the gradient just cancels the update that it has without one.

    **Raises** `ReoptError` where there is none nearby.
    """
    linear = linearize(optimizer, point, clock=clock)
    best, least = linear, np.inf
    for _ in range(NEWTON):
        jacobian, drive, readout, direct = free_parts(linear)
        size = len(drive)
        moved = _moved(optimizer, linear, clock)
        free = np.setdiff1d(np.arange(len(linear.point)), linear.held)
        scale = np.append(np.abs(linear.point[free]), 1.0).max()
        answer = abs(_standing_gain_or_zero(linear)) or 1.0
        rest = max(np.abs(moved).max(initial=0.0) / scale, abs(float(linear.offset)) / answer)
        if not rest < least:  # as close as rounding lets it come
            break
        best, least = linear, rest
        if rest == 0:
            break
        whole = np.zeros((size + 1, size + 1))
        whole[:size, :size], whole[:size, size] = jacobian - np.eye(size), drive
        whole[size, :size], whole[size, size] = readout @ jacobian, readout @ drive + direct
        try:
            step = np.linalg.solve(whole, -np.append(moved, float(linear.offset)))
        except np.linalg.LinAlgError:
            break
        point = linear.point.copy()
        point[free] += step[:size]
        linear = linearize(optimizer, point, float(linear.gradient) + float(step[size]), clock=clock)
    if least <= AT_REST:
        return best
    raise ReoptError("there is no state near that of rest in which x rests as well")


def _standing_gain_or_zero(linear: Linearization) -> float:
    try:
        return standing_gain(linear)
    except np.linalg.LinAlgError:
        return 0.0


def linear_run(linear: Linearization, curvature: float, steps: int) -> Float[np.ndarray, " step"]:
    """The error in x before each step, of a start of 1 with the state at rest, by M(lambda)."""
    matrix, state = closed_loop(linear, curvature), np.eye(len(linear.point) - len(linear.held) + 1)[:, 0]
    errors = np.zeros(steps)
    for step in range(steps):
        errors[step] = state[0]
        state = matrix @ state
    return errors


def _moved(optimizer: Optimizer, linear: Linearization, clock: float) -> np.ndarray:
    """F(h, g) - h on the free components."""
    with double_precision():
        system = FreeSystem(to_double(optimizer), clock)
        at = system.restrict(linear.point)
        return np.asarray(system.step(jnp.asarray(at), jnp.asarray(float(linear.gradient)))) - at


def run(
    optimizer: Optimizer, start: Float[np.ndarray, " hidden"], error: float, curvature: float, *, at: float, steps: int
) -> Float[np.ndarray, " step"]:
    """x - x* along a run of the optimizer itself on that curvature, in float64, the error before each step.

    **Arguments:** the run begins in the state `start`, `error` away from x*, where the gradient is `at`.
    """
    with double_precision():
        state = jnp.asarray(start, jnp.float64)
        values = _run(to_double(optimizer), state, jnp.asarray(error), jnp.asarray(curvature), jnp.asarray(at), steps)
        return np.asarray(values)


@eqx.filter_jit
def _run(optimizer: Optimizer, state: Array, error: Array, curvature: Array, at: Array, steps: int) -> Array:
    def body(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        state, error = carry
        after, update = optimizer(state, at + curvature * error)
        return (after, error + update), error

    return jax.lax.scan(body, (state, error), None, length=steps)[1]


def coasting(optimizer: Optimizer, num_steps: int) -> Float[np.ndarray, "step hidden"]:
    """The states before each of so many steps without a gradient, in float64."""
    with double_precision():
        return np.asarray(_coasting(to_double(optimizer), num_steps))


@eqx.filter_jit
def _coasting(optimizer: Optimizer, num_steps: int) -> Array:
    start, zero = jnp.asarray(optimizer.initial_state(), jnp.float64), jnp.zeros((), jnp.float64)
    return jax.lax.scan(lambda state, _: (optimizer.update(state, zero), state), start, None, length=num_steps)[1]


def relay_cycles(response: Float[np.ndarray, " lag"], longest: int = 200) -> list[int]:
    """Half the periods of the cycles of x <- x - s sign(a), a(t) = sum_k r_k g(t - k), on any curvature.

    In one of n, x is a triangle of n steps down and n steps up, x(t) = s (n / 2 - t) for t = 0 .. n, and the sign of a
    must be that of these steps: a > 0 for t = 0 .. n - 1. The amplitude is s n / 2. There may be several, ascending up
    to `longest`: where a run begins decides between them. (Exact, where a describing function keeps the first harmonic
    alone.)

    **Arguments:** `response` is r_k, 1 at lag 0 (`reopt.mechanisms.sign_updates`); beyond its end it is 0.
    """
    found = []
    for half in range(1, longest + 1):
        wave = half / 2 - np.arange(half)
        period = np.concatenate([wave, -wave])
        times = np.arange(2 * half)
        folded = np.bincount(np.arange(len(response)) % (2 * half), response, 2 * half)
        if (period[(times[:half, None] - times) % (2 * half)] @ folded > 0).all():
            found.append(half)
    return found
