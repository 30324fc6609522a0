"""Searches for h = F(h, g), many starts at once: plain iteration, and damped Newton steps.

Both work on batches of rows, each with its own gradient and its own stop; rows that are done leave the batch, whose
size is padded to powers of eight so that few programs are compiled. The residual of a row is ||h - F(h, g)||_2.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from reopt.dynamics.autonomous import FreeSystem, jacobians, jacobians_at
from reopt.dynamics.batches import SMALL, argument, pad, padded

BLOCK = 64  # plain steps between two looks at who is done
FEW = 8  # rows worked on at once at least


class Search(NamedTuple):
    """Where each start was led."""

    states: Float[np.ndarray, "row free"]
    residual: Float[np.ndarray, " row"]
    iterations: Int[np.ndarray, " row"]
    diverged: Bool[np.ndarray, " row"]


def _norm(rows: Array) -> Array:
    return jnp.sqrt(jnp.sum(jnp.square(rows), axis=-1))


@eqx.filter_jit
def _residual(system: FreeSystem, states: Array, gradients: Array) -> Array:
    return _norm(states - system.step(states, gradients))


def residuals(
    system: FreeSystem, states: Float[np.ndarray, "row free"], gradients: Float[np.ndarray, " row"]
) -> Float[np.ndarray, " row"]:
    """||h - F(h, g)||_2 of each row."""
    count = len(states)
    if not count:
        return np.zeros(0)
    if system.size <= SMALL:
        states, gradients = (pad(np.asarray(part), max(64, padded(count))) for part in (states, gradients))
    return np.array(_residual(system, argument(states), argument(gradients)))[:count]


@eqx.filter_jit
def _block(system: FreeSystem, states: Array, gradients: Array, tolerance: float, limit: Array) -> tuple:
    """Up to BLOCK plain steps; a row stops where its residual is small enough, or beyond `limit`."""

    def unfinished(carry):
        step, _, _, _, running = carry
        return (step < BLOCK) & jnp.any(running)

    def body(carry):
        step, states, residual, taken, running = carry
        after = system.step(states, gradients)
        residual = jnp.where(running, _norm(states - after), residual)
        lost = ~(_norm(after) <= limit)
        running = running & ~lost & ~(residual <= tolerance * jnp.maximum(1, _norm(states)))
        states = jnp.where((running | lost)[:, None] & jnp.isfinite(after), after, states)
        return step + 1, states, residual, taken + running, running & ~lost

    everyone = jnp.ones(states.shape[0], bool)
    start = (0, states, jnp.full(states.shape[0], jnp.inf), jnp.zeros(states.shape[0], int), everyone)
    _, states, residual, taken, _ = jax.lax.while_loop(unfinished, body, start)
    return states, residual, taken


def iterate(
    system: FreeSystem,
    states: Float[np.ndarray, "row free"],
    gradients: Float[np.ndarray, " row"],
    *,
    tolerance: float,
    max_iterations: int,
    limit: float,
) -> Search:
    """Iterate h <- F(h, g) from each row until its residual is at most tolerance max(1, ||h||).

    A row whose norm passes `limit`, or stops being finite, has diverged and keeps its last finite state. The steps
    are counted out in blocks of `BLOCK`.
    """
    states = np.array(states, np.float64)
    rows = len(states)
    residual, taken = np.full(rows, np.inf), np.zeros(rows, np.int64)
    diverged = ~(np.linalg.norm(states, axis=1) <= limit)
    active = np.flatnonzero(~diverged)
    done_steps = 0
    while active.size and done_steps < max_iterations:
        size = padded(active.size)
        part = _block(
            system,
            argument(pad(states[active], size)),
            argument(pad(gradients[active], size)),
            tolerance,
            jnp.asarray(limit),
        )
        new, new_residual, new_taken = (np.asarray(a)[: active.size] for a in part)
        states[active], residual[active] = new, new_residual
        taken[active] += new_taken
        done_steps += BLOCK
        norms = np.linalg.norm(new, axis=1)
        lost = ~(np.isfinite(new_residual) & (norms <= limit))
        diverged[active[lost]] = True
        active = active[~lost & ~(new_residual <= tolerance * np.maximum(1, norms))]
    if active.size:  # the last step of these has not been looked at
        residual[active] = residuals(system, states[active], gradients[active])
    return Search(states, residual, taken, diverged)


@eqx.filter_jit
def _newton_step(system: FreeSystem, states: Array, gradients: Array) -> tuple[Array, Array]:
    """The best of a fan of candidates: shortened Newton steps, Levenberg-Marquardt steps, one plain step."""
    eye = jnp.eye(states.shape[-1])
    matrix = eye - jacobians(system, states, gradients)
    after = system.step(states, gradients)
    gap = states - after
    square = jnp.einsum("pki,pkj->pij", matrix, matrix)
    slope = jnp.einsum("pki,pk->pi", matrix, gap)
    size = jnp.mean(jnp.square(matrix), axis=(-2, -1))[:, None, None] * states.shape[-1]
    lengths = jnp.array([1.0, 0.5, 0.25, 0.1, 0.03, 0.01])[:, None, None]
    damping = jnp.array([1e-8, 1e-4, 1e-2, 1.0])[:, None, None, None]
    # One solve for all: two that do not wait for each other can block all of XLA's threads, each waiting for a worker.
    matrices = jnp.concatenate([matrix[None], square + damping * size * eye])
    sides = jnp.concatenate([gap[None], jnp.broadcast_to(slope, (len(damping), *slope.shape))])
    solved = jnp.linalg.solve(matrices, sides[..., None])[..., 0]
    stacked = jnp.concatenate([states[None], after[None], states - lengths * solved[0], states - solved[1:]])
    residual = _norm(stacked - system.step(stacked, jnp.broadcast_to(gradients, stacked.shape[:-1])))
    residual = jnp.where(jnp.isfinite(residual), residual, jnp.inf)
    best = jnp.argmin(residual, axis=0)
    index = jnp.arange(states.shape[0])
    return stacked[best, index], residual[best, index]


def newton(
    system: FreeSystem,
    states: Float[np.ndarray, "row free"],
    gradients: Float[np.ndarray, " row"],
    *,
    tolerance: float,
    max_iterations: int,
    chunk: int,
    polish: bool = False,
) -> Search:
    """Damped Newton on h - F(h, g) from each row; the residual never grows.

    A row stops where its residual is at most tolerance max(1, ||h||), or when a step gains less than 1%: then it is
    stuck at a slow point. With `polish` it goes on while a step at least halves the residual, down to rounding.
    `chunk` rows are worked on at once, which bounds the memory for their Jacobians.
    """
    states = np.array(states, np.float64)
    if states.size == 0:
        return Search(states, np.zeros(len(states)), np.zeros(len(states), np.int64), np.zeros(len(states), bool))
    residual, taken = residuals(system, states, gradients), np.zeros(len(states), np.int64)
    diverged = ~np.isfinite(residual)
    active = np.flatnonzero(~diverged)
    for _ in range(max_iterations):
        if not polish:
            small = tolerance * np.maximum(1, np.linalg.norm(states[active], axis=1))
            active = active[residual[active] > small]
        active = active[residual[active] > 0]
        if not active.size:
            break
        stuck = []
        for first in range(0, active.size, chunk):
            rows = active[first : first + chunk]
            # Products for few rows are cut within their sums, into as many parts as there are cores.
            size = chunk if system.size <= SMALL else max(FEW, padded(rows.size, chunk))
            args = (argument(pad(a[rows], size)) for a in (states, gradients))
            new, new_residual = (np.asarray(a)[: rows.size] for a in _newton_step(system, *args))
            small = new_residual <= tolerance * np.maximum(1, np.linalg.norm(new, axis=1))
            gain = np.where(small, 0.5, 0.99) if polish else 0.99
            stuck.append(~(new_residual < gain * residual[rows]))
            better = new_residual < residual[rows]
            states[rows[better]], residual[rows[better]] = new[better], new_residual[better]
            taken[rows] += 1
        active = active[~np.concatenate(stuck)]
    return Search(states, residual, taken, diverged)


@eqx.filter_jit
def _chord(system: FreeSystem, states: Array, gradients: Array, inverse: Array) -> tuple[Array, Array]:
    after = states - (states - system.step(states, gradients)) @ inverse.T
    return after, _norm(after - system.step(after, gradients))


def chord(
    system: FreeSystem,
    search: Search,
    gradients: Float[np.ndarray, " row"],
    anchor: Float[np.ndarray, " free"],
    *,
    tolerance: float,
    max_iterations: int = 40,
) -> Search:
    """Finish rows that are already near the point `anchor`, by Newton steps that share its Jacobian.

    A row is taken there only if each step at least halves its residual until it is below the tolerance: then the map
    is close to its linearization at `anchor` all along the way. Other rows are left as they were.
    """
    matrix = np.eye(system.size) - jacobians_at(system, np.asarray(anchor)[None], gradients[:1])[0]
    try:
        inverse = np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        return search
    states, residual = search.states.copy(), search.residual.copy()
    norms = np.linalg.norm(states, axis=1)
    running = ~search.diverged & (residual > tolerance * np.maximum(1, norms))
    arrived, taken = np.zeros(len(states), bool), search.iterations.copy()
    size = padded(len(states))
    shared = argument(pad(gradients, size)), argument(inverse)
    for _ in range(max_iterations):
        if not running.any():
            break
        stepped = _chord(system, argument(pad(states, size)), *shared)
        new, new_residual = (np.asarray(part)[: len(states)] for part in stepped)
        running &= new_residual <= 0.5 * residual
        states[running], residual[running] = new[running], new_residual[running]
        taken += running
        done = running & (residual <= tolerance * np.maximum(1, np.linalg.norm(states, axis=1)))
        arrived |= done
        running &= ~done
    keep = arrived[:, None]
    return Search(
        np.where(keep, states, search.states),
        np.where(arrived, residual, search.residual),
        np.where(arrived, taken, search.iterations),
        search.diverged,
    )
