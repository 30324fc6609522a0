"""Fixed points h* = F(h*, g) of an optimizer under a constant gradient (arXiv 2011.02159, section 4).

The paper minimises the mean speed of all states together; here every start is followed on its own, in float64:

1. iterate h <- F(h, g), which leads to attractors (and says who belongs to them);
2. finish slow starts by Newton's method; a start counts as a member of a point only if the point is stable, for
   Newton alone may jump to a point where the dynamics never go;
3. run damped Newton directly from some starts, which finds unstable points as well;
4. polish, and merge what is closer than `merge_distance` times the typical norm of the starts.

What does not reach the tolerance is never called a fixed point; it is kept apart as a slow point. A clock is held at
a given value, see `free_system`.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from reopt.dynamics.continuum import continua
from reopt.dynamics.free_system import CLOCK, FreeSystem, beside_zero, jacobians
from reopt.dynamics.precision import double_precision, to_double
from reopt.dynamics.record import finite_states
from reopt.dynamics.root_finding import BLOCK, Search, chord, iterate, newton, residuals
from reopt.dynamics.system import StateUpdate, dynamical_system
from reopt.errors import ReoptError
from reopt.optimizers.base import Optimizer

VISITED, PERTURBED, INITIAL = 0, 1, 2
NOT_CONVERGED, DIVERGED = -1, -2
ISOLATED = 1e-9  # smallest singular value of I - J, relative to the largest, of a point that stands alone


class Seeds(NamedTuple):
    """Starts of a search."""

    states: Float[np.ndarray, "seed hidden"]
    kind: Int[np.ndarray, " seed"]  # VISITED, PERTURBED or INITIAL


class FixedPoints(NamedTuple):
    """The distinct points that were found, and what became of each start.

    `error_bound` is a Newton-Kantorovich bound on the distance to a true fixed point (inf: none could be given), see
    `error_bounds`. `isolated` is False where I - J is singular to rounding: a line or plane of fixed points, given as
    one point (that with the most members); `continuum_dimension` is the dimension of the kernel of I - J there, else 0.
    `seed_result` is the index of the point that a start came to, or NOT_CONVERGED, or DIVERGED; `newton_result` the
    same for the direct Newton runs, which began at the starts `newton_seed`.
    """

    points: Float[np.ndarray, "point hidden"]
    residual: Float[np.ndarray, " point"]  # ||h - F(h, g)||_2
    spectral_radius: Float[np.ndarray, " point"]
    unstable_directions: Int[np.ndarray, " point"]  # eigenvalues of J outside the unit circle
    members: Int[np.ndarray, " point"]  # starts that iteration takes there
    newton_members: Int[np.ndarray, " point"]  # direct Newton runs that ended there
    error_bound: Float[np.ndarray, " point"]
    isolated: Bool[np.ndarray, " point"]
    seed_result: Int[np.ndarray, " seed"]
    seed_residual: Float[np.ndarray, " seed"]
    seed_iterations: Int[np.ndarray, " seed"]
    seed_kind: Int[np.ndarray, " seed"]
    newton_seed: Int[np.ndarray, " newton"]
    newton_result: Int[np.ndarray, " newton"]
    newton_residual: Float[np.ndarray, " newton"]
    slow_points: Float[np.ndarray, "slow hidden"]  # where starts that did not converge got stuck
    slow_residual: Float[np.ndarray, " slow"]
    continuum_dimension: Int[np.ndarray, " point"]  # 0 an isolated point, 1 a line of fixed points, 2 a plane, ...
    free_components: Int[np.ndarray, ""]  # of the state: all but the clock


def stability(found: FixedPoints) -> list[str]:
    """ "stable", "saddle", "unstable" or "marginal" for each point, from the eigenvalues of J.

    All inside the unit circle; some outside; all outside; none outside but one on it (a continuum, a bifurcation),
    to 1e-9.
    """
    inside = np.where(found.spectral_radius < 1 - 1e-9, "stable", "marginal")
    outside = np.where(found.unstable_directions == found.free_components, "unstable", "saddle")
    return list(np.where(found.unstable_directions > 0, outside, inside).tolist())


def search_seeds(
    optimizer: Optimizer,
    states: Float[np.ndarray, "... hidden"],
    *,
    visited: int = 400,
    perturbed: int = 100,
    perturbation: float = 0.5,
    seed: int = 0,
) -> Seeds:
    """Starts: the initial state, states drawn from those visited, and perturbed ones off the trajectories.

    A perturbation is normal noise of `perturbation` times the root mean square of the visited states on every free
    component. A component that was never negative (a second moment) is kept so.
    """
    rows = finite_states(states).astype(np.float64)
    with double_precision():
        initial = np.asarray(to_double(optimizer).initial_state(), np.float64)[None]
    if len(rows) == 0:
        rows = initial
    rng = np.random.default_rng(seed)
    met = rows[rng.choice(len(rows), min(visited, len(rows)), replace=False)]
    far = rows[rng.choice(len(rows), perturbed)]
    free = np.array([i for i in range(rows.shape[1]) if i != optimizer.clock], int)
    scale = np.sqrt(np.mean(np.square(rows[:, free]))) if free.size else 0.0
    far[:, free] += perturbation * (scale if scale > 0 else 1.0) * rng.standard_normal((perturbed, free.size))
    never_negative = (rows >= 0).all(axis=0) & (rows > 0).any(axis=0)
    far[:, never_negative] = np.abs(far[:, never_negative])
    kind = np.repeat([INITIAL, VISITED, PERTURBED], [1, len(met), len(far)])
    return Seeds(np.concatenate([initial, met, far]), kind)


def find_fixed_points(
    optimizer: Optimizer | StateUpdate,
    seeds: Float[np.ndarray, "seed hidden"],
    gradient: float = 0.0,
    *,
    kind: Int[np.ndarray, " seed"] | None = None,
    tolerance: float = 1e-10,
    max_iterations: int = 2048,
    newton_seeds: int = 64,
    newton_iterations: int = 50,
    merge_distance: float = 1e-4,
    diverged_norm: float = 1e8,
    clock: float = CLOCK,
    chunk: int = 32,
) -> FixedPoints:
    """All fixed points under the constant `gradient` that are found from `seeds`.

    **Arguments:**

    - `optimizer`: an `Optimizer`, or any function F(state [hidden], gradient []) -> state [hidden], see
      `reopt.dynamics.system`.
    - `tolerance`: a state h counts as converged when ||h - F(h, g)||_2 <= tolerance max(1, ||h||).
    - `max_iterations`: plain steps a start; `newton_iterations` Newton steps a start.
    - `newton_seeds`: number of starts (evenly spread) from which Newton is run directly as well.
    - `merge_distance`: relative to the median norm of the starts.
    - `diverged_norm`: a start has diverged when its norm passes this times the largest norm of a start (at least 1).
    - `clock`: value at which a clock is held.
    - `chunk`: Jacobians kept in memory at once.

    **Raises** `ReoptError` where a seed is not finite or of the wrong size.
    """
    seeds = np.asarray(seeds, np.float64)
    if not isinstance(optimizer, Optimizer):
        optimizer = dynamical_system(optimizer, seeds.shape[-1] if seeds.ndim else 0)
    if seeds.ndim != 2 or seeds.shape[1] != optimizer.state_size or not len(seeds):
        raise ReoptError(
            f"seeds must be of shape [seed, {optimizer.state_size}] with at least one seed, not {seeds.shape}"
        )
    if not np.isfinite(seeds).all():
        raise ReoptError(f"{int((~np.isfinite(seeds).all(axis=1)).sum())} seeds hold values that are not finite")
    kind = np.full(len(seeds), VISITED) if kind is None else np.array(kind)
    # Norms of rows that run away overflow to infinity, which says what is to be said of them.
    with double_precision(), np.errstate(over="ignore"):
        system = FreeSystem(to_double(optimizer), clock)
        starts = system.restrict(seeds)
        if system.size == 0:
            return _trivial(system, kind)
        norms = np.linalg.norm(starts, axis=1)
        limit = diverged_norm * max(1.0, float(norms.max()))
        radius = merge_distance * (float(np.median(norms[norms > 0])) if norms.any() else 1.0)
        options: dict[str, Any] = {"tolerance": tolerance, "max_iterations": newton_iterations, "chunk": chunk}
        gradients = np.full(len(seeds), float(gradient))

        followed = _follow(system, starts, gradients, max_iterations=max_iterations, limit=limit, options=options)
        slow = np.flatnonzero(~followed.diverged & ~_converged(followed, tolerance))
        finished = newton(system, followed.states[slow], gradients[slow], **options)
        picked = np.unique(np.linspace(0, len(seeds) - 1, min(newton_seeds, len(seeds))).round().astype(int))
        direct = newton(system, starts[picked], gradients[picked], **options)

        candidates = Search(*(np.concatenate(parts) for parts in zip(followed, finished, direct, strict=True)))
        good = np.flatnonzero(_converged(candidates, tolerance) & ~candidates.diverged)
        points, residual, which = _distinct(
            system, candidates.states[good], candidates.residual[good], float(gradient), radius, options
        )
        result = np.full(len(candidates.states), NOT_CONVERGED)
        result[good] = which
        jacobian = _all_jacobians(system, points, float(gradient), chunk)
        if not np.isfinite(jacobian).all():
            raise ReoptError("the optimizer has no finite derivatives at a fixed point: its stability cannot be told")
        bounds = error_bounds(system, points, jacobian, float(gradient))
        singular = np.linalg.svd(np.eye(system.size) - jacobian, compute_uv=False)
        dimension = (singular <= ISOLATED * np.maximum(1, singular[:, :1])).sum(axis=1)
        kept, which = _one_a_continuum(
            system, points, dimension, result, float(gradient), radius=radius, tolerance=tolerance
        )
    points, residual, jacobian, bounds, dimension = (a[kept] for a in (points, residual, jacobian, bounds, dimension))
    result = which[result]
    magnitudes = np.abs(np.linalg.eigvals(jacobian))
    spectral_radius = magnitudes.max(axis=1, initial=0)

    first, second = len(seeds), len(seeds) + len(slow)
    seed_result, by_newton, newton_result = result[:first], result[first:second], result[second:]
    stable = np.append(spectral_radius < 1, False)
    seed_result[slow] = np.where(stable[by_newton], by_newton, NOT_CONVERGED)
    seed_result[followed.diverged] = DIVERGED
    seed_residual = followed.residual.copy()
    seed_residual[slow] = np.where(seed_result[slow] >= 0, finished.residual, seed_residual[slow])
    iterations = followed.iterations.copy()
    iterations[slow] += finished.iterations
    stuck = np.flatnonzero(by_newton == NOT_CONVERGED)
    stuck = stuck[np.isfinite(finished.residual[stuck])]
    count = len(points)
    found = FixedPoints(
        points=system.embed(points),
        residual=residual,
        spectral_radius=spectral_radius,
        unstable_directions=(magnitudes > 1 + 1e-9).sum(axis=1),
        members=np.bincount(seed_result[seed_result >= 0], minlength=count),
        newton_members=np.bincount(newton_result[newton_result >= 0], minlength=count),
        error_bound=bounds,
        isolated=dimension == 0,
        seed_result=seed_result,
        seed_residual=seed_residual,
        seed_iterations=iterations,
        seed_kind=kind,
        newton_seed=picked,
        newton_result=newton_result,
        newton_residual=direct.residual,
        slow_points=system.embed(finished.states[stuck]),
        slow_residual=finished.residual[stuck],
        continuum_dimension=dimension,
        free_components=np.array(system.size),
    )
    return _sorted(found)


def attractor(found: FixedPoints) -> Float[np.ndarray, " hidden"]:
    """The stable point to which most starts came. **Raises** `ReoptError` where there is none."""
    stable = found.spectral_radius < 1
    if not stable.any():
        unsettled, lost = (int(np.sum(found.seed_result == code)) for code in (NOT_CONVERGED, DIVERGED))
        raise ReoptError(
            f"no stable fixed point was found, only {len(found.points)} unstable ones; of {len(found.seed_result)} "
            f"starts {unsettled} did not converge and {lost} diverged; more iterations or other starts may help"
        )
    return found.points[np.argmax(np.where(stable, found.members, -1))]


def error_bounds(
    system: FreeSystem,
    points: Float[np.ndarray, "point free"],
    jacobian: Float[np.ndarray, "point free free"],
    gradient: float | Float[np.ndarray, " point"],
    *,
    probes: int = 12,
) -> Float[np.ndarray, " point"]:
    """Distance within which a true fixed point lies (Newton-Kantorovich theorem); inf where it does not apply.

    With A = I - J at the computed point h, b = ||A^-1||_2, e = b (||h - F(h)|| + rounding) and L a Lipschitz constant
    of J around h, k = b L e <= 1/2 guarantees a fixed point within (1 - sqrt(1 - 2 k)) / (b L) <= 2 e, which is the
    bound. Two parts are estimates, not proofs: the rounding of the residual, taken as eps sqrt(n) (1 + ||J||_F)
    (1 + ||h||); and L, twice the Frobenius norm of the second derivative, averaged over `probes` random directions
    at a distance of max(2 e, 1e-5 (1 + ||h||)). Only inside `double_precision`.
    """
    count, size = points.shape
    if not count:
        return np.zeros(0)
    held = np.array(np.broadcast_to(gradient, count), np.float64)
    residual = residuals(system, points, held)
    rng = np.random.default_rng(0)
    bounds = np.full(count, np.inf)
    for i, (point, matrix) in enumerate(zip(points, jacobian, strict=True)):
        smallest = np.linalg.svd(np.eye(size) - matrix, compute_uv=False)[-1]
        if not smallest > 0:
            continue
        norm = 1 + np.linalg.norm(point)
        rounding = np.finfo(float).eps * np.sqrt(size) * (1 + np.linalg.norm(matrix)) * norm
        inverse = 1 / smallest
        step = inverse * (residual[i] + rounding)
        reach = max(2 * step, 1e-5 * norm)
        directions = rng.standard_normal((probes, size))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        around = jacobians(system, jnp.asarray(point + reach * directions), jnp.full(probes, held[i]))
        change = np.sum(np.square(np.asarray(around) - matrix), axis=(1, 2))
        lipschitz = 2 * np.sqrt(size * np.mean(change)) / reach
        if inverse * lipschitz * step <= 0.5:
            bounds[i] = 2 * step
    return bounds


def _converged(search: Search, tolerance: float) -> np.ndarray:
    return search.residual <= tolerance * np.maximum(1, np.linalg.norm(search.states, axis=1))


def _follow(
    system: FreeSystem, starts: np.ndarray, gradients: np.ndarray, *, max_iterations: int, limit: float, options: dict
) -> Search:
    """Iterate all starts, ever more steps at a time; in between, finish those near an attractor with its Jacobian."""
    tolerance = options["tolerance"]
    search = iterate(system, starts, gradients, tolerance=tolerance, max_iterations=BLOCK, limit=limit)
    done, anchor = BLOCK, None
    while done < max_iterations:
        rest = np.flatnonzero(~search.diverged & ~_converged(search, tolerance))
        if not rest.size:
            break
        part = Search(*(array[rest] for array in search))
        if anchor is None:
            anchor = _stable_point(system, part, gradients[rest], options)
        if anchor is not None:
            part = chord(system, part, gradients[rest], anchor, tolerance=tolerance)
        still = np.flatnonzero(~_converged(part, tolerance))
        steps = min(done, max_iterations - done)
        more = iterate(
            system, part.states[still], gradients[rest][still], tolerance=tolerance, max_iterations=steps, limit=limit
        )
        part.states[still], part.residual[still], part.diverged[still] = more.states, more.residual, more.diverged
        part.iterations[still] += more.iterations
        for whole, changed in zip(search, part, strict=True):
            whole[rest] = changed
        done += steps
    return search


def _stable_point(system: FreeSystem, search: Search, gradients: np.ndarray, options: dict) -> np.ndarray | None:
    """Where Newton leads from the row that moves least, if that is a stable fixed point."""
    row = [np.argmin(search.residual)]
    found = newton(system, search.states[row], gradients[row], **options)
    if not _converged(found, options["tolerance"])[0]:
        return None
    matrix = _all_jacobians(system, found.states, float(gradients[0]), 1)[0]
    return found.states[0] if np.abs(np.linalg.eigvals(matrix)).max() < 1 else None


def _all_jacobians(system: FreeSystem, points: np.ndarray, gradient: float, chunk: int) -> np.ndarray:
    parts = [np.zeros((0, system.size, system.size))]
    for first in range(0, len(points), chunk):
        held = np.full(len(points[first : first + chunk]), gradient)
        part = beside_zero(system, points[first : first + chunk], held)
        parts.append(np.asarray(jacobians(system, jnp.asarray(part), jnp.asarray(held))))
    return np.concatenate(parts)


def _group(states: np.ndarray, residual: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Leaders (best residual first), and for each state the nearest-ranked leader within `radius` of it."""
    which = np.full(len(states), -1)
    leaders: list[int] = []
    for i in np.argsort(residual, kind="stable"):
        if which[i] >= 0:
            continue
        near = (which < 0) & (np.linalg.norm(states - states[i], axis=1) <= radius)
        which[near] = len(leaders)
        leaders.append(i)
    return np.array(leaders, int), which


def _distinct(
    system: FreeSystem, states: np.ndarray, residual: np.ndarray, gradient: float, radius: float, options: dict
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Merge converged states: (points, their residuals, for each state the index of its point)."""
    leaders, which = _group(states, residual, radius)
    best, best_residual = states[leaders], residual[leaders]
    if len(leaders):
        sharp = newton(system, best, np.full(len(best), gradient), polish=True, **options)
        near = np.linalg.norm(sharp.states - best, axis=1) <= radius
        best = np.where(near[:, None], sharp.states, best)
        best_residual = np.where(near, sharp.residual, best_residual)
    again, merged = _group(best, best_residual, radius)
    return best[again], best_residual[again], merged[which] if len(which) else which


def _one_a_continuum(
    system: FreeSystem,
    points: np.ndarray,
    dimension: np.ndarray,
    result: np.ndarray,
    gradient: float,
    *,
    radius: float,
    tolerance: float,
) -> tuple[np.ndarray, np.ndarray]:
    """(indices of the points to keep, new index of each old one; negative codes index themselves)."""
    count = len(points)
    members = np.bincount(result[result >= 0], minlength=count)
    leader = np.arange(count)
    for size in np.unique(dimension[dimension > 0]):
        rows = np.flatnonzero(dimension == size)
        groups = continua(system, points[rows], gradient, radius=radius, tolerance=tolerance)
        for group in range(groups.max() + 1):
            same = rows[groups == group]
            leader[same] = same[np.argmax(members[same])]
    kept = np.unique(leader)
    return kept, np.append(np.searchsorted(kept, leader), [DIVERGED, NOT_CONVERGED])


def _sorted(found: FixedPoints) -> FixedPoints:
    """Points by falling number of members, then of Newton runs."""
    order = np.lexsort((-found.newton_members, -found.members))
    rank = np.append(np.argsort(order), [DIVERGED, NOT_CONVERGED])  # so that -1 and -2 index themselves
    names = ("points", "residual", "spectral_radius", "unstable_directions", "members", "newton_members")
    per_point = {
        name: getattr(found, name)[order] for name in (*names, "error_bound", "isolated", "continuum_dimension")
    }
    return found._replace(**per_point, seed_result=rank[found.seed_result], newton_result=rank[found.newton_result])


def _trivial(system: FreeSystem, kind: np.ndarray) -> FixedPoints:
    """Without free components there is one state, and it stays."""
    seeds, state = len(kind), system.embed(np.zeros((1, 0)))
    one, zero = np.ones(1), np.zeros(1)
    return FixedPoints(
        points=state,
        residual=zero,
        spectral_radius=zero,
        unstable_directions=np.zeros(1, np.int64),
        members=np.array([seeds]),
        newton_members=np.zeros(1, np.int64),
        error_bound=zero,
        isolated=one.astype(bool),
        seed_result=np.zeros(seeds, np.int64),
        seed_residual=np.zeros(seeds),
        seed_iterations=np.zeros(seeds, np.int64),
        seed_kind=kind,
        newton_seed=np.zeros(0, np.int64),
        newton_result=np.zeros(0, np.int64),
        newton_residual=np.zeros(0),
        slow_points=state[:0],
        slow_residual=np.zeros(0),
        continuum_dimension=np.zeros(1, np.int64),
        free_components=np.array(0),
    )
