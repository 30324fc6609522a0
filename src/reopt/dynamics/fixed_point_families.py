"""Fixed points from many seeds under many constant gradients at once, for large states.

For each gradient every seed is followed, as in `fixed_points`, but the work is shared:

1. plain steps of all rows (seed x gradient) in float32, which only have to lead near an attractor;
2. the row of each gradient that moves least is finished by Newton: an anchor, kept if it is stable;
3. rows take Newton steps with the Jacobian of the nearest anchor (chord steps), as far as these lead in float32, then
   in float64. One arrives if every step at least halves its distance to the anchor, until its own float64 residual is
   below the tolerance; others take more plain steps, in longer and longer rounds. Where no row of a gradient has
   arrived after PATIENCE steps, PILOTS of them go on alone, and the others once one of these arrives or runs away: a
   map that leads nowhere is not iterated in all rows;
4. damped Newton from some seeds at some gradients finds unstable points, and these are continued along the ordered
   gradients to all others.

Every point is polished in float64; rows that do not arrive are counted and returned as such.

One jax device is used whatever their number: its matmuls of many rows already run on all cores. LAPACK works on
several matrices at once, one a core; on one matrix of this size several threads gain nothing.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from threadpoolctl import threadpool_limits

from reopt.core.errors import ReoptError
from reopt.dynamics.autonomous import CLOCK, FreeSystem, ScaledSystem, jacobians, scaled_system
from reopt.dynamics.batches import pad, padded
from reopt.dynamics.fixed_points import DIVERGED, NOT_CONVERGED, error_bounds
from reopt.dynamics.identity import Located, lead_to, locate
from reopt.dynamics.precision import double_precision, to_double
from reopt.dynamics.root_finding import _norm, residuals
from reopt.dynamics.system import StateUpdate, dynamical_system
from reopt.optimizers.base import Optimizer
from reopt.optimizers.learned import cast

BLOCK, GROWTH = 16, 1.5  # plain steps before each look: BLOCK, and GROWTH times those before the last look
ROWS = 1024  # rows worked on at once, so that they stay in the cache
POINTS = 32  # Jacobians held at once
PATIENCE, PILOTS = 16, 16
CHORDS = 40
LENGTHS = np.array([1.0, 0.5, 0.25, 0.1, 0.03])[:, None, None]  # of a shortened Newton step
NEAR = 1e-5  # relative residual to which float32 chord steps lead
CLOSE = 1e-3  # relative residual below which a poor Newton step may be the rounding of a float32 Jacobian


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
    marginal_directions: Int[np.ndarray, " point"]


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
    `newton_gradients` evenly spread gradients. `max_iterations` is the most plain steps of a row; where none of the
    rows that go on alone arrives, the others have had PATIENCE or more of them, and are NOT_CONVERGED.

    **Raises** `ReoptError` where seeds or gradients are not finite or of the wrong shape.
    """
    seeds, gradients = np.asarray(seeds, np.float64), np.array(gradients, np.float64)
    if not isinstance(optimizer, Optimizer):
        optimizer = dynamical_system(optimizer, seeds.shape[-1] if seeds.ndim else 0)
    if seeds.ndim != 2 or seeds.shape[1] != optimizer.state_size or not len(seeds) or not np.isfinite(seeds).all():
        raise ReoptError(f"seeds must be finite, of shape [seed, {optimizer.state_size}] with at least one seed")
    if gradients.ndim != 1 or not len(gradients) or not np.isfinite(gradients).all():
        raise ReoptError("gradients must be finite, of shape [gradient] with at least one gradient")
    # Rows that run away overflow: they are counted, not warned of.
    with np.errstate(over="ignore", invalid="ignore"), double_precision(), threadpool_limits(1, "blas"):
        plain = FreeSystem(to_double(optimizer), clock)
        if plain.size == 0:
            raise ReoptError("the optimizer has no state: there are no fixed points to search")
        system = scaled_system(plain, plain.restrict(seeds), gradients)
        starts = system.restrict(seeds)
        norms = np.linalg.norm(starts, axis=1)
        search = _Search(
            system=system,
            gradients=gradients,
            tolerance=tolerance,
            distance=merge_distance,
            radius=merge_distance * (float(np.median(norms[norms > 0])) if norms.any() else 1.0),
            limit=diverged_norm * max(1.0, float(norms.max())),
            newton_iterations=newton_iterations,
        )
        result, residual = search.follow(starts, max_iterations)
        search.unstable(starts, newton_seeds, newton_gradients)
        return search.collect(plain, result, residual)


class _Point(NamedTuple):
    located: Located
    magnitudes: np.ndarray  # |eigenvalues| of J
    verdict: np.ndarray  # unstable and marginal directions, dimension of the kernel of I - J

    @property
    def state(self) -> np.ndarray:
        return self.located.state


class _Search:
    """The points known so far, a list for each gradient, and how they are added to."""

    def __init__(
        self,
        system: ScaledSystem,
        gradients: np.ndarray,
        tolerance: float,
        distance: float,
        radius: float,
        limit: float,
        newton_iterations: int,
    ) -> None:
        self.system, self.gradients, self.tolerance = system, gradients, tolerance
        self.distance, self.radius = distance, radius
        self.fast = ScaledSystem(cast(system.optimizer, jnp.dtype("float32")), system.clock_value, units=system.units)
        self.limit, self.newton_iterations = limit, newton_iterations
        self.known: list[list[_Point]] = [[] for _ in gradients]
        self.tried = np.full(len(gradients), np.inf)  # the least residual from which Newton was tried for an anchor

    def small(self, states: np.ndarray, residual: np.ndarray) -> np.ndarray:
        return residual <= self.tolerance * np.maximum(1, np.linalg.norm(states, axis=-1))

    def add(self, points: np.ndarray, numbers: np.ndarray, *, unstable: bool) -> np.ndarray:
        """Note the points that are new (without `unstable` only stable ones): indices of the new and unstable ones."""
        new = [i for i, (point, which) in enumerate(zip(points, numbers, strict=True)) if not self._known(point, which)]
        if not new:
            return np.zeros(0, int)
        chosen = np.array(new)
        held = self.gradients[numbers[chosen]]
        located, judged = locate(self.system, points[chosen], self.jacobians(points[chosen], numbers[chosen]), held)
        verdicts = np.stack([judged.unstable, judged.marginal, judged.kernel], axis=1)
        noted = []
        for i, *parts, stable in zip(chosen, located, judged.magnitudes, verdicts, judged.stable, strict=True):
            # Of points new to the list some may be one.
            if (stable or unstable) and not self._known(points[i], numbers[i]):
                self.known[numbers[i]].append(_Point(*parts))
                noted += [] if stable else [i]
            elif not unstable:
                noted += [i]
        return np.array(noted, int)

    def _known(self, point: np.ndarray, number: int) -> bool:
        """Whether the point is a known one under the gradient `number`."""
        held = self.gradients[[number]]
        for old in self.known[number]:
            near = np.all(np.abs(point - old.state) <= self.distance * (1 + np.abs(old.state)))
            regular = old.located.inverse is not None
            if (near or regular) and lead_to(self.system, point[None], held, old.located)[0]:
                return True
        return False

    def jacobians(self, points: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        parts = [np.zeros((0, self.system.size, self.system.size))]
        for part, states, held in _batches(POINTS, points, self.gradients[numbers]):
            parts.append(np.asarray(jacobians(self.system, states, held))[: len(part)])
        whole = np.concatenate(parts)
        if not np.isfinite(whole).all():
            raise ReoptError("the optimizer has no finite derivatives at a fixed point: its stability cannot be told")
        return whole

    def newton(self, states: np.ndarray, numbers: np.ndarray, *, damped: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Newton from `states` under the gradients `numbers`, down to rounding: (states, converged).

        Jacobians are in float32, residuals in float64; close to a point where I - J is so ill-conditioned that this
        gains little, Jacobians are in float64 too. `damped` helps a row whose shortened steps gain too little by
        Levenberg and Marquardt's; else it is given up.
        """
        states, held = np.array(states, np.float64), self.gradients[numbers]
        residual = residuals(self.system, states, held)
        active = np.flatnonzero(np.isfinite(residual))
        for _ in range(self.newton_iterations):
            if not active.size:
                break
            going = []
            for part, *args in _batches(POINTS, states[active], held[active]):
                rows = active[part]
                new, new_residual = (a[: rows.size] for a in self._shortened(self.fast, *args))
                close = residual[rows] <= CLOSE * np.maximum(1, np.linalg.norm(states[rows], axis=1))
                rounded = np.flatnonzero(close & (new_residual > 0.1 * residual[rows]))
                for few, *args in _batches(POINTS, states[rows[rounded]], held[rows[rounded]]):
                    new[rounded[few]], new_residual[rounded[few]] = (
                        a[: len(few)] for a in self._shortened(self.system, *args)
                    )
                slow = (new_residual > 0.7 * residual[rows]) & ~self.small(states[rows], residual[rows])
                slow = np.flatnonzero(slow & damped)
                for few, *args in _batches(POINTS, states[rows[slow]], held[rows[slow]]):
                    new[slow[few]], new_residual[slow[few]] = (a[: len(few)] for a in self._damped(*args))
                gain = np.where(self.small(new, new_residual), 0.5, 0.9)  # what creeps has no point near
                going.append(new_residual < gain * residual[rows])
                take = new_residual < residual[rows]
                states[rows[take]], residual[rows[take]] = new[take], new_residual[take]
            active = active[np.concatenate(going)]
        return states, self.small(states, residual) & np.isfinite(residual)

    def _shortened(self, rough: FreeSystem, states: Array, gradients: Array) -> tuple[np.ndarray, np.ndarray]:
        """The best of shortened Newton steps, with the Jacobian of `rough`, in the precision of its weights."""
        gap, matrix = _linear_equation(self.system, rough, states, gradients)
        step = _solve(np.asarray(matrix), np.asarray(gap).astype(matrix.dtype)).astype(gap.dtype)
        return self._best(gradients, states - LENGTHS * step)

    def _damped(self, states: Array, gradients: Array) -> tuple[np.ndarray, np.ndarray]:
        """The best of shortened Newton steps, steps by Levenberg and Marquardt, and one plain step."""
        gap, matrix = _linear_equation(self.system, self.system, states, gradients)
        matrices, sides = _normal_equations(gap, matrix)
        solved = _solve(np.asarray(matrices), np.asarray(sides))
        candidates = (states[None], states[None] - gap, states - LENGTHS * solved[0], states - solved[1:])
        return self._best(gradients, jnp.concatenate(candidates))

    def _best(self, gradients: Array, candidates: Array) -> tuple[np.ndarray, np.ndarray]:
        best, residual = _least(self.system, gradients, candidates)
        return np.array(best), np.array(residual)

    def follow(self, starts: np.ndarray, max_iterations: int) -> tuple[np.ndarray, np.ndarray]:
        """Steps 1 to 3: (seed_result by the index within a gradient, seed_residual)."""
        seeds, count = len(starts), len(self.gradients)
        number = np.repeat(np.arange(count), seeds)
        states = np.tile(starts.astype(np.float32), (count, 1))
        result = np.full(count * seeds, NOT_CONVERGED)
        residual = np.full(count * seeds, np.inf)
        taken = np.zeros(count * seeds, int)
        waiting = np.zeros(count * seeds, bool)
        rest = np.arange(count * seeds)
        while rest.size:
            goal = np.minimum((GROWTH * taken[rest]).astype(int) + BLOCK, max_iterations)
            self._step(states, residual, number, rest, goal - taken[rest])
            taken[rest] = goal
            lost = ~(np.linalg.norm(states[rest], axis=1) <= self.limit) | ~np.isfinite(residual[rest])
            result[rest[lost]] = DIVERGED
            led = np.unique(number[rest[lost]]).tolist()  # gradients under which some row was led somewhere
            rest = rest[~lost]
            self._anchor(states, residual, number, rest)
            for which in np.unique(number[rest]):
                rows, anchors = rest[number[rest] == which], self.known[which]
                distances = [np.linalg.norm(states[rows] - anchor.state, axis=1) for anchor in anchors]
                nearest = np.argmin(distances, axis=0) if anchors else np.full(len(rows), NOT_CONVERGED)
                for index in np.unique(nearest[nearest >= 0]):
                    near = rows[nearest == index]
                    arrived, at = self._chord(states[near], which, index)
                    result[near[arrived]], residual[near[arrived]] = index, at[arrived]
                if (result[rows] != NOT_CONVERGED).any():
                    led.append(which)
                    self.tried[which] = np.inf  # the others may be on their way elsewhere
                elif which not in led:
                    waiting[rows[PILOTS:][taken[rows[PILOTS:]] >= PATIENCE]] = True
            waiting[np.isin(number, led)] = False
            rest = np.flatnonzero((result == NOT_CONVERGED) & ~waiting & (taken < max_iterations))
        left = np.flatnonzero(result < 0)
        residual[left] = self._plain_residual(states[left], number[left])
        return result.reshape(count, seeds), residual.reshape(count, seeds)

    def _plain_residual(self, states: np.ndarray, number: np.ndarray) -> np.ndarray:
        """||h - F(h, g)||_2 of each row in the units of the state."""
        found = np.zeros(len(states))
        for part, *args in _batches(ROWS, states.astype(np.float64), self.gradients[number]):
            found[part] = np.asarray(_gap_norm(self.system, *args))[: len(part)]
        return found

    def _step(
        self, states: np.ndarray, residual: np.ndarray, number: np.ndarray, rows: np.ndarray, steps: np.ndarray
    ) -> None:
        """Plain steps of some rows, each its own number of them; states and residuals change in place."""
        for count in np.unique(steps):
            same = rows[steps == count]
            for part, at, held in _batches(ROWS, states[same], self.gradients[number[same]].astype(np.float32)):
                after = _plain_steps(self.fast, at, held, jnp.asarray(count))
                states[same[part]], residual[same[part]] = (np.asarray(a)[: len(part)] for a in after)

    def _anchor(self, states: np.ndarray, residual: np.ndarray, number: np.ndarray, rest: np.ndarray) -> None:
        """Finish the slowest row of each gradient; keep where it leads if that is stable.

        After a failure a row has to be twice as slow before Newton is tried again.
        """
        order = rest[np.argsort(residual[rest], kind="stable")]
        which, first = np.unique(number[order], return_index=True)
        slower = residual[order[first]] < 0.5 * self.tried[which]
        which, first = which[slower], first[slower]
        self.tried[which] = residual[order[first]]
        points, converged = self.newton(states[order[first]], which, damped=False)
        self.add(points[converged], which[converged], unstable=False)

    def _chord(self, states: np.ndarray, which: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """(rows that arrive at the known point `index`, residual of each row there)."""
        arrived, residual = np.zeros(len(states), bool), np.full(len(states), np.inf)
        point = self.known[which][index].located
        if point.inverse is None:
            return arrived, residual
        fixed = self.gradients[which], point.inverse, point.state
        # A residual below the tolerance is no ground to take a row for this point if its own may lie nearer.
        near = 2 * np.linalg.norm(point.inverse, 2) * self.tolerance * max(1.0, float(np.linalg.norm(point.state)))
        reach = min(self.radius, near + float(np.linalg.norm(point.error)))
        for part, rows in _batches(ROWS, states):
            single = (jnp.asarray(a, jnp.float32) for a in (*fixed, self.radius, NEAR))
            closer, _, _, taken = (np.asarray(a)[: len(part)] for a in _chords(self.fast, rows, *single))
            part, closer = part[taken > 0], closer[taken > 0]
            for few, rows in _batches(ROWS, closer.astype(np.float64)):
                double = (jnp.asarray(a) for a in (*fixed, reach, self.tolerance))
                end = _chords(self.system, rows, *double)
                arrived[part[few]], residual[part[few]] = (np.asarray(a)[: len(few)] for a in end[1:3])
        return arrived, residual

    def unstable(self, starts: np.ndarray, newton_seeds: int, newton_gradients: int) -> None:
        """Step 4: Newton from seeds at some gradients; what it finds is continued to the others, both ways."""
        if newton_seeds < 1 or newton_gradients < 1:
            return
        count = len(self.gradients)
        order = np.argsort(self.gradients, kind="stable")
        picked = np.unique(np.linspace(0, len(starts) - 1, min(newton_seeds, len(starts))).round().astype(int))
        at = order[np.unique(np.linspace(0, count - 1, min(newton_gradients, count)).round().astype(int))]
        numbers = np.repeat(at, len(picked))
        points, converged = self.newton(np.tile(starts[picked], (len(at), 1)), numbers)
        points, numbers = points[converged], numbers[converged]
        found = self.add(points, numbers, unstable=True)
        ways = [[[points[i] for i in found if numbers[i] == number] for number in range(count)] for _ in range(2)]
        for pairs in zip(pairwise(order), pairwise(order[::-1]), strict=True):
            # Both ways at once: a batch of few rows costs hardly more than one row.
            moving = [
                (way, there, point) for way, (here, there) in zip(ways, pairs, strict=True) for point in way[here]
            ]
            if moving:
                numbers = np.array([there for _, there, _ in moving])
                points, converged = self.newton(np.array([point for _, _, point in moving]), numbers)
                index = np.flatnonzero(converged)
                for i in index[self.add(points[index], numbers[index], unstable=True)]:
                    moving[i][0][numbers[i]].append(points[i])

    def collect(self, plain: FreeSystem, result: np.ndarray, residual: np.ndarray) -> FixedPointsOver:
        system, size = self.system, self.system.size
        counts = np.array([len(points) for points in self.known])
        number = np.repeat(np.arange(len(counts)), counts)
        known = [point for points in self.known for point in points]
        points = system.embed(np.array([point.state for point in known]).reshape(-1, size))
        at, held, units = plain.restrict(points), self.gradients[number], np.asarray(system.units)
        jacobian = np.eye(size) - np.array([point.located.matrix for point in known]).reshape(-1, size, size)
        magnitudes = np.array([point.magnitudes for point in known]).reshape(-1, size)
        unstable, marginal, kernel = np.array([point.verdict for point in known], int).reshape(-1, 3).T
        firsts = np.cumsum(counts) - counts
        whole = np.where(result >= 0, result + firsts[:, None], result)
        bounds = error_bounds(plain, at, jacobian * units[:, None] / units, held)
        return FixedPointsOver(
            points=points,
            gradient=number,
            residual=residuals(plain, at, held) if len(points) else np.zeros(0),
            spectral_radius=magnitudes.max(axis=1, initial=0),
            unstable_directions=unstable,
            members=np.bincount(whole[whole >= 0], minlength=len(points)),
            error_bound=np.where(kernel > 0, np.inf, bounds),
            isolated=kernel == 0,
            seed_result=whole,
            seed_residual=residual,
            free_components=np.array(size),
            marginal_directions=marginal,
        )


def _batches(most: int, *arrays: np.ndarray) -> Iterator[tuple]:
    """(indices, those rows of each array, the last repeated up to one of few sizes), at most `most` rows at once."""
    for first in range(0, len(arrays[0]), most):
        part = np.arange(first, min(first + most, len(arrays[0])))
        yield part, *(jnp.asarray(pad(array[part], _rounded(len(part), most))) for array in arrays)


def _rounded(count: int, most: int) -> int:
    """The next larger of few sizes: what is compiled for one costs time, and so do rows that only fill it up."""
    quarter = max(1, most // 4)
    small = padded(count)
    return small if small <= quarter else -(-count // quarter) * quarter


@eqx.filter_jit
def _plain_steps(system: FreeSystem, states: Array, gradients: Array, steps: Array) -> tuple[Array, Array]:
    """(states, length of the last step)."""

    def step(_, states):
        return system.step(states, gradients).astype(states.dtype)  # constants of F may be float64

    states = jax.lax.fori_loop(0, steps - 1, step, states)
    after = step(0, states)
    return after, _norm(after - states)


@eqx.filter_jit
def _linear_equation(system: FreeSystem, rough: FreeSystem, states: Array, gradients: Array) -> tuple[Array, Array]:
    """(h - F(h, g), I - J) of each row, the latter by `rough`, in the precision of its weights."""
    weights = jax.tree.leaves(eqx.filter(rough.optimizer, eqx.is_inexact_array))
    dtype = jnp.result_type(*weights) if weights else states.dtype
    jacobian = jacobians(rough, states.astype(dtype), gradients.astype(dtype))
    return states - system.step(states, gradients), jnp.eye(states.shape[-1], dtype=dtype) - jacobian.astype(dtype)


@jax.jit
def _normal_equations(gap: Array, matrix: Array) -> tuple[Array, Array]:
    """(matrices, right sides) of a Newton step and of steps by Levenberg and Marquardt with four dampings."""
    eye = jnp.eye(matrix.shape[-1])
    square = jnp.einsum("pki,pkj->pij", matrix, matrix)
    slope = jnp.einsum("pki,pk->pi", matrix, gap)
    size = jnp.mean(jnp.square(matrix), axis=(-2, -1))[:, None, None] * matrix.shape[-1]
    damping = jnp.array([1e-8, 1e-4, 1e-2, 1.0])[:, None, None, None]
    sides = jnp.concatenate([gap[None], jnp.broadcast_to(slope, (len(damping), *slope.shape))])
    return jnp.concatenate([matrix[None], square + damping * size * eye]), sides


@eqx.filter_jit
def _least(system: FreeSystem, gradients: Array, candidates: Array) -> tuple[Array, Array]:
    """Of candidates [candidate, row, hidden], that of the least residual for each row, and this."""
    residual = _norm(candidates - system.step(candidates, jnp.broadcast_to(gradients, candidates.shape[:-1])))
    residual = jnp.where(jnp.isfinite(residual), residual, jnp.inf)
    best, index = jnp.argmin(residual, axis=0), jnp.arange(candidates.shape[1])
    return candidates[best, index], residual[best, index]


def _solve(
    matrices: Float[np.ndarray, "*row hidden hidden"], sides: Float[np.ndarray, "*row hidden"]
) -> Float[np.ndarray, "*row hidden"]:
    """Solutions of systems of linear equations; NaN where a matrix is singular."""
    size = sides.shape[-1]
    found = _on_cores(_solved, matrices.reshape(-1, size, size), sides.reshape(-1, size, 1))
    return found.reshape(sides.shape)


def _solved(matrices: np.ndarray, sides: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.solve(matrices, sides)
    except np.linalg.LinAlgError:
        if len(matrices) == 1:
            return np.full_like(sides, np.nan)
        return np.concatenate([_solved(one[None], side[None]) for one, side in zip(matrices, sides, strict=True)])


def _on_cores(work: Callable[..., np.ndarray], *arrays: np.ndarray) -> np.ndarray:
    """`work` on arrays of matrices, a share of them on each core: numpy lets other threads run meanwhile."""
    shares = min(os.cpu_count() or 1, len(arrays[0]))
    if shares < 2:
        return work(*arrays)
    with ThreadPoolExecutor(shares) as pool:
        return np.concatenate(list(pool.map(work, *(np.array_split(array, shares) for array in arrays))))


@eqx.filter_jit
def _gap_norm(system: ScaledSystem, states: Array, gradients: Array) -> Array:
    return _norm((states - system.step(states, gradients)) * system.units)


@eqx.filter_jit
def _chords(
    system: ScaledSystem, states: Array, gradient: Array, inverse: Array, point: Array, radius: Array, tolerance: Array
) -> tuple[Array, Array, Array, Array]:
    """Newton steps with the inverse of I - J at `point`: (states, arrived there, residual in plain units, steps)."""
    held = jnp.broadcast_to(gradient, states.shape[:1])

    def body(carry):
        step, states, distance, residual, running, arrived, taken = carry
        gap = states - system.step(states, held).astype(states.dtype)
        units = system.units.astype(states.dtype)
        plain = _norm(gap * units)
        residual = jnp.where(running, plain, residual)
        small = _norm(gap) <= tolerance * jnp.maximum(1, _norm(states))
        here = running & small & (plain <= tolerance * jnp.maximum(1, _norm(states * units))) & (distance <= radius)
        after = states - gap @ inverse.T
        nearer = _norm(after - point)
        # Near the point, halving ends at rounding.
        running = running & ~here & ((nearer <= 0.5 * distance) | (nearer <= 1e-3 * radius))
        states = jnp.where(running[:, None], after, states)
        distance = jnp.where(running, nearer, distance)
        return step + 1, states, distance, residual, running, arrived | here, taken + (running | here)

    rows = states.shape[0]
    start = (
        jnp.zeros((), int),
        states,
        _norm(states - point),
        jnp.full(rows, jnp.inf, states.dtype),
        jnp.ones(rows, bool),
        jnp.zeros(rows, bool),
        jnp.zeros(rows, int),
    )
    end = jax.lax.while_loop(lambda carry: (carry[0] < CHORDS) & jnp.any(carry[4]), body, start)
    _, states, _, residual, _, arrived, taken = end
    return states, arrived, residual, taken
