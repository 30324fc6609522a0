"""Fixed points from many seeds under many constant gradients at once, for large states.

For each gradient every seed is followed, as in `fixed_points`, but the work is shared:

1. plain steps of all rows (seed x gradient) in float32, which only have to lead near an attractor;
2. the row of each gradient that moves least is finished by Newton in float64: an anchor, kept if it is stable;
3. all rows of a gradient take Newton steps with its anchor's Jacobian (chord steps, float64). One arrives if every
   step at least halves its distance to the anchor, until its own residual is below the tolerance; others take more
   plain steps, twice as many each time;
4. damped Newton from some seeds at some gradients finds unstable points, and these are continued along the ordered
   gradients to all others.

Every point is polished in float64; rows that do not arrive are counted and returned as such.
"""

from itertools import pairwise
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from reopt.dynamics.fixed_points import DIVERGED, ISOLATED, NOT_CONVERGED, error_bounds
from reopt.dynamics.free_system import CLOCK, FreeSystem, jacobians
from reopt.dynamics.precision import double_precision, to_double
from reopt.dynamics.root_finding import _newton_step, _norm, _pad, _padded, residuals
from reopt.dynamics.system import StateUpdate, dynamical_system
from reopt.errors import ReoptError
from reopt.optimizers.base import Optimizer
from reopt.optimizers.learned import cast

BLOCK = 16  # plain steps before the first look
ROWS = 4096  # rows stepped at once, so that they stay in the cache
CHORDS = 40
SQUARINGS = 20  # ||J^(2^20)|| < 1 shows a spectral radius below 1


class FixedPointsOver(NamedTuple):
    """The distinct fixed points under each gradient; those of one gradient lie together.

    `seed_result` is the index of the point that iteration takes a seed to, or NOT_CONVERGED, or DIVERGED;
    `seed_residual` the last ||h - F(h, g)||_2 of the row itself. Other fields as in `FixedPoints`.
    """

    points: Float[np.ndarray, "point hidden"]
    gradient: Int[np.ndarray, " point"]  # index of the gradient under which the point is fixed
    residual: Float[np.ndarray, " point"]
    spectral_radius: Float[np.ndarray, " point"]
    unstable_directions: Int[np.ndarray, " point"]
    members: Int[np.ndarray, " point"]
    error_bound: Float[np.ndarray, " point"]
    isolated: Bool[np.ndarray, " point"]
    seed_result: Int[np.ndarray, "gradient seed"]
    seed_residual: Float[np.ndarray, "gradient seed"]
    free_components: Int[np.ndarray, ""]


def find_fixed_points_over(
    optimizer: Optimizer | StateUpdate,
    seeds: Float[np.ndarray, "seed hidden"],
    gradients: Float[np.ndarray, " gradient"],
    *,
    tolerance: float = 1e-10,
    max_iterations: int = 2048,
    newton_seeds: int = 16,
    newton_gradients: int = 4,
    newton_iterations: int = 50,
    merge_distance: float = 1e-4,
    diverged_norm: float = 1e8,
    clock: float = CLOCK,
) -> FixedPointsOver:
    """Fixed points under each of `gradients` that are found from `seeds`.

    **Arguments:** as for `find_fixed_points`; Newton runs for unstable points start from `newton_seeds` seeds at
    `newton_gradients` evenly spread gradients.

    **Raises** `ReoptError` where seeds or gradients are not finite or of the wrong shape.
    """
    seeds, gradients = np.asarray(seeds, np.float64), np.array(gradients, np.float64)
    if not isinstance(optimizer, Optimizer):
        optimizer = dynamical_system(optimizer, seeds.shape[-1] if seeds.ndim else 0)
    if seeds.ndim != 2 or seeds.shape[1] != optimizer.state_size or not len(seeds) or not np.isfinite(seeds).all():
        raise ReoptError(f"seeds must be finite, of shape [seed, {optimizer.state_size}] with at least one seed")
    if gradients.ndim != 1 or not len(gradients) or not np.isfinite(gradients).all():
        raise ReoptError("gradients must be finite, of shape [gradient] with at least one gradient")
    with double_precision():
        system = FreeSystem(to_double(optimizer), clock)
        if system.size == 0:
            raise ReoptError("the optimizer has no state: there are no fixed points to search")
        starts = system.restrict(seeds)
        norms = np.linalg.norm(starts, axis=1)
        search = _Search(
            system=system,
            gradients=gradients,
            tolerance=tolerance,
            radius=merge_distance * (float(np.median(norms[norms > 0])) if norms.any() else 1.0),
            limit=diverged_norm * max(1.0, float(norms.max())),
            newton_iterations=newton_iterations,
        )
        result, residual = search.follow(starts, max_iterations)
        search.unstable(starts, newton_seeds, newton_gradients)
        return search.collect(result, residual)


class _Search:
    """The points known so far, a list for each gradient, and how they are added to."""

    def __init__(
        self,
        system: FreeSystem,
        gradients: np.ndarray,
        tolerance: float,
        radius: float,
        limit: float,
        newton_iterations: int,
    ) -> None:
        self.system, self.gradients, self.tolerance, self.radius = system, gradients, tolerance, radius
        self.limit, self.newton_iterations = limit, newton_iterations
        self.known: list[list[np.ndarray]] = [[] for _ in gradients]

    def small(self, states: np.ndarray, residual: np.ndarray) -> np.ndarray:
        return residual <= self.tolerance * np.maximum(1, np.linalg.norm(states, axis=-1))

    def add(self, number: int, point: np.ndarray) -> int:
        """The index of `point` among those known under gradient `number`."""
        for index, old in enumerate(self.known[number]):
            if np.linalg.norm(old - point) <= self.radius:
                return index
        self.known[number].append(point)
        return len(self.known[number]) - 1

    def newton(self, states: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Damped Newton from `states` under the gradients `numbers`, down to rounding: (states, converged)."""
        states, held = np.array(states, np.float64), self.gradients[numbers]
        residual = residuals(self.system, states, held)
        active = np.flatnonzero(np.isfinite(residual))
        for _ in range(self.newton_iterations):
            if not active.size:
                break
            going = []
            for first in range(0, active.size, 32):
                rows = active[first : first + 32]
                size = _padded(rows.size, 32)
                args = (jnp.asarray(_pad(a[rows], size)) for a in (states, held))
                new, new_residual = (np.array(a)[: rows.size] for a in _quick_step(self.system, *args))
                slow = np.flatnonzero((new_residual > 0.7 * residual[rows]) & ~self.small(states[rows], residual[rows]))
                if slow.size:
                    args = (jnp.asarray(_pad(a[rows[slow]], _padded(slow.size, 32))) for a in (states, held))
                    better, better_residual = (np.asarray(a)[: slow.size] for a in _newton_step(self.system, *args))
                    new[slow], new_residual[slow] = better, better_residual
                gain = np.where(self.small(new, new_residual), 0.5, 0.99)
                going.append(new_residual < gain * residual[rows])
                take = new_residual < residual[rows]
                states[rows[take]], residual[rows[take]] = new[take], new_residual[take]
            active = active[np.concatenate(going)]
        return states, self.small(states, residual) & np.isfinite(residual)

    def follow(self, starts: np.ndarray, max_iterations: int) -> tuple[np.ndarray, np.ndarray]:
        """Steps 1 to 3: (seed_result by the index within a gradient, seed_residual)."""
        seeds, count = len(starts), len(self.gradients)
        number = np.repeat(np.arange(count), seeds)
        fast = FreeSystem(cast(self.system.optimizer, jnp.dtype("float32")), self.system.clock_value)
        states = np.tile(starts.astype(np.float32), (count, 1))
        result = np.full(count * seeds, NOT_CONVERGED)
        residual = np.full(count * seeds, np.inf)
        rest, done, steps = np.arange(count * seeds), 0, BLOCK
        while rest.size and done < max_iterations:
            steps = min(steps, max_iterations - done)
            states[rest], residual[rest] = _plain_steps(fast, states[rest], self.gradients[number[rest]], steps)
            done, steps = done + steps, done + steps
            lost = ~(np.linalg.norm(states[rest], axis=1) <= self.limit) | ~np.isfinite(residual[rest])
            result[rest[lost]] = DIVERGED
            rest = rest[~lost]
            self._anchor(states, residual, number, rest)
            for which in np.unique(number[rest]):
                rows = rest[number[rest] == which]
                for index, point in enumerate(self.known[which]):
                    rows = rows[result[rows] == NOT_CONVERGED]
                    if rows.size:
                        arrived, at = self._chord(states[rows], which, point)
                        result[rows[arrived]], residual[rows[arrived]] = index, at[arrived]
            rest = rest[result[rest] == NOT_CONVERGED]
        return result.reshape(count, seeds), residual.reshape(count, seeds)

    def _anchor(self, states: np.ndarray, residual: np.ndarray, number: np.ndarray, rest: np.ndarray) -> None:
        """Finish the slowest row of each gradient; keep where it leads if that is stable."""
        first: dict[int, int] = {}
        for row in rest[np.argsort(residual[rest], kind="stable")]:
            first.setdefault(int(number[row]), int(row))
        if not first:
            return
        which, rows = np.array(list(first)), np.array(list(first.values()))
        points, converged = self.newton(states[rows], which)
        which, points = which[converged], points[converged]
        for index, stable in enumerate(self._stable(points, which)):
            if stable:
                self.add(int(which[index]), points[index])

    def _stable(self, points: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        stable = np.zeros(len(points), bool)
        for first in range(0, len(points), 32):
            part = slice(first, first + 32)
            size = _padded(len(points[part]), 32)
            held = jnp.asarray(_pad(self.gradients[numbers[part]], size))
            powers = _contracts(self.system, jnp.asarray(_pad(points[part], size)), held)
            stable[part] = np.asarray(powers)[: len(points[part])]
        return stable

    def _chord(self, states: np.ndarray, which: int, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(rows that arrive at `point`, residual of each row there)."""
        held = jnp.asarray(self.gradients[which : which + 1])
        matrix = np.eye(self.system.size) - np.asarray(jacobians(self.system, jnp.asarray(point[None]), held))[0]
        try:
            inverse = np.linalg.inv(matrix)
        except np.linalg.LinAlgError:
            return np.zeros(len(states), bool), np.full(len(states), np.inf)
        size = min(_padded(len(states)), -(-len(states) // 1024) * 1024)
        padded = jnp.asarray(_pad(states.astype(np.float64), size))
        arrived, residual = _chords(
            self.system,
            padded,
            jnp.asarray(held[0]),
            jnp.asarray(inverse),
            jnp.asarray(point),
            self.tolerance,
            self.radius,
        )
        return np.asarray(arrived)[: len(states)], np.asarray(residual)[: len(states)]

    def unstable(self, starts: np.ndarray, newton_seeds: int, newton_gradients: int) -> None:
        """Step 4: Newton from seeds at some gradients; what it finds is continued to the others, both ways."""
        if newton_seeds < 1 or newton_gradients < 1:
            return
        count = len(self.gradients)
        order = np.argsort(self.gradients, kind="stable")
        picked = np.unique(np.linspace(0, len(starts) - 1, min(newton_seeds, len(starts))).round().astype(int))
        at = order[np.unique(np.linspace(0, count - 1, min(newton_gradients, count)).round().astype(int))]
        points, converged = self.newton(np.tile(starts[picked], (len(at), 1)), np.repeat(at, len(picked)))
        fresh: list[list[np.ndarray]] = [[] for _ in self.gradients]
        self._keep(points[converged], np.repeat(at, len(picked))[converged], fresh)
        found = [list(new) for new in fresh]
        for way in (order, order[::-1]):
            carried = [list(new) for new in found]
            for here, there in pairwise(way):
                if carried[here]:
                    points, converged = self.newton(np.array(carried[here]), np.full(len(carried[here]), there))
                    fresh = [[] for _ in self.gradients]
                    self._keep(points[converged], np.full(int(converged.sum()), there), fresh)
                    carried[there] += fresh[there]

    def _keep(self, points: np.ndarray, numbers: np.ndarray, fresh: list[list[np.ndarray]]) -> None:
        """Add points; those that are new and unstable are listed in `fresh` as well."""
        new = []
        for index, (point, number) in enumerate(zip(points, numbers, strict=True)):
            before = len(self.known[number])
            if self.add(int(number), point) == before:
                new.append(index)
        chosen = np.array(new, int)
        for index, stable in zip(chosen, self._stable(points[chosen], numbers[chosen]), strict=True):
            if not stable:
                fresh[numbers[index]].append(points[index])

    def collect(self, result: np.ndarray, residual: np.ndarray) -> FixedPointsOver:
        system, size = self.system, self.system.size
        counts = np.array([len(points) for points in self.known])
        number = np.repeat(np.arange(len(counts)), counts)
        points = np.array([point for points in self.known for point in points]).reshape(-1, size)
        held = self.gradients[number]
        matrices = [np.zeros((0, size, size))]
        for first in range(0, len(points), 32):
            part, padded = slice(first, first + 32), _padded(len(points[first : first + 32]), 32)
            args = (jnp.asarray(_pad(a[part], padded)) for a in (points, held))
            matrices.append(np.asarray(jacobians(system, *args))[: len(points[part])])
        jacobian = np.concatenate(matrices)
        magnitudes = np.abs(np.linalg.eigvals(jacobian))
        singular = np.linalg.svd(np.eye(size) - jacobian, compute_uv=False)
        firsts = np.cumsum(counts) - counts
        whole = np.where(result >= 0, result + firsts[:, None], result)
        return FixedPointsOver(
            points=system.embed(points),
            gradient=number,
            residual=residuals(system, points, held) if len(points) else np.zeros(0),
            spectral_radius=magnitudes.max(axis=1, initial=0),
            unstable_directions=(magnitudes > 1 + 1e-9).sum(axis=1),
            members=np.bincount(whole[whole >= 0], minlength=len(points)),
            error_bound=error_bounds(system, points, jacobian, held),
            isolated=singular[:, -1] > ISOLATED * np.maximum(1, singular[:, 0]),
            seed_result=whole,
            seed_residual=residual,
            free_components=np.array(size),
        )


@eqx.filter_jit
def _block(system: FreeSystem, states: Array, gradients: Array, steps: Array) -> tuple[Array, Array]:
    def step(_, states):
        return system.step(states, gradients).astype(states.dtype)  # constants of F may be float64

    states = jax.lax.fori_loop(0, steps - 1, step, states)
    after = step(0, states)
    return after, _norm(after - states)


def _plain_steps(system: FreeSystem, states: np.ndarray, gradients: np.ndarray, steps: int) -> tuple:
    """`steps` plain float32 steps of all rows: (states, length of the last step)."""
    parts = []
    for first in range(0, len(states), ROWS):
        part = slice(first, first + ROWS)
        rows = len(states[part])
        size = min(_padded(rows), ROWS)
        padded, held = (jnp.asarray(_pad(a[part].astype(np.float32), size)) for a in (states, gradients))
        parts.append([np.asarray(a)[:rows] for a in _block(system, padded, held, jnp.asarray(steps))])
    return tuple(np.concatenate(pieces) for pieces in zip(*parts, strict=True))


@eqx.filter_jit
def _quick_step(system: FreeSystem, states: Array, gradients: Array) -> tuple[Array, Array]:
    """The best of shortened Newton steps."""
    matrix = jnp.eye(states.shape[-1]) - jacobians(system, states, gradients)
    gap = states - system.step(states, gradients)
    step = jnp.linalg.solve(matrix, gap[..., None])[..., 0]
    stacked = states - jnp.array([1.0, 0.5, 0.25, 0.1, 0.03])[:, None, None] * step
    residual = _norm(stacked - system.step(stacked, jnp.broadcast_to(gradients, stacked.shape[:-1])))
    residual = jnp.where(jnp.isfinite(residual), residual, jnp.inf)
    best, index = jnp.argmin(residual, axis=0), jnp.arange(states.shape[0])
    return stacked[best, index], residual[best, index]


@eqx.filter_jit
def _contracts(system: FreeSystem, states: Array, gradients: Array) -> Array:
    """Whether a power of J is below 1 in norm: then the spectral radius is."""

    def square(_, power):
        power = power @ power
        norm = jnp.sqrt(jnp.sum(jnp.square(power), axis=(-2, -1), keepdims=True))
        return jnp.where(norm < 1e-100, 0.0, power)

    power = jax.lax.fori_loop(0, SQUARINGS, square, jacobians(system, states, gradients))
    return jnp.sqrt(jnp.sum(jnp.square(power), axis=(-2, -1))) < 1


@eqx.filter_jit
def _chords(
    system: FreeSystem, states: Array, gradient: Array, inverse: Array, point: Array, tolerance: float, radius: float
) -> tuple[Array, Array]:
    """Newton steps with the inverse of I - J at `point`: (arrived there, residual)."""
    held = jnp.broadcast_to(gradient, states.shape[:1])

    def body(carry):
        step, states, distance, residual, running, arrived = carry
        gap = states - system.step(states, held)
        residual = jnp.where(running, _norm(gap), residual)
        here = running & (residual <= tolerance * jnp.maximum(1, _norm(states))) & (distance <= radius)
        running = running & ~here
        after = states - gap @ inverse.T
        nearer = _norm(after - point)
        # Near the point, halving ends at rounding.
        running = running & ((nearer <= 0.5 * distance) | (nearer <= 1e-3 * radius))
        states = jnp.where(running[:, None], after, states)
        return step + 1, states, jnp.where(running, nearer, distance), residual, running, arrived | here

    rows = states.shape[0]
    start = (
        jnp.zeros((), int),
        states,
        _norm(states - point),
        jnp.full(rows, jnp.inf),
        jnp.ones(rows, bool),
        jnp.zeros(rows, bool),
    )
    end = jax.lax.while_loop(lambda carry: (carry[0] < CHORDS) & jnp.any(carry[4]), body, start)
    return end[5], end[3]
