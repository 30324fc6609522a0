"""Fixed points h* = F(h*, g) of an optimizer under a constant gradient (arXiv 2011.02159, section 4).

The paper minimises the mean speed of all states together; here every start is followed on its own, in float64:

1. iterate h <- F(h, g), which leads to attractors (and says who belongs to them);
2. finish slow starts by Newton's method; a start counts as a member of a point only if the point is stable, and if
   from where its iteration stood the map follows its linearization there, for Newton alone may jump to a point where
   the dynamics never go (where it does not yet, up to 2^DOUBLINGS times as many plain steps are taken to see);
3. run damped Newton directly from some starts, which finds unstable points as well;
4. polish, and merge points whose errors overlap in every component.

All of it is done in units typical of each component, so that a diagonal change of units changes nothing. A start that
comes to rest at a point that does not attract (to the tolerance, beside it or on its stable manifold) is iterated on;
if it stays, it is NOT_CONVERGED, for any rounding may take it away.

What does not reach the tolerance is never called a fixed point; it is kept apart as a slow point. A clock is held at
a given value, see `free_system`.
"""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from threadpoolctl import threadpool_limits

from reopt.core.errors import ReoptError
from reopt.dynamics.autonomous import CLOCK, FreeSystem, beside_zero, jacobians_at, scaled_system
from reopt.dynamics.identity import Located, lead_to, locate, overlap
from reopt.dynamics.manifolds import continua
from reopt.dynamics.precision import double_precision, to_double
from reopt.dynamics.record import finite_states
from reopt.dynamics.root_finding import BLOCK, Search, chord, iterate, newton, residuals
from reopt.dynamics.stability import Stability, is_stable, judge
from reopt.dynamics.system import StateUpdate, dynamical_system
from reopt.optimizers.base import Optimizer

VISITED, PERTURBED, INITIAL = 0, 1, 2
NOT_CONVERGED, DIVERGED = -1, -2
DOUBLINGS = 4  # of the plain steps of a start that Newton alone took to a stable point, to see whether it goes there


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
    same for the direct Newton runs, which began at the starts `newton_seed` (each twice: in the units of the
    search, then in those of the state).
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
    # Eigenvalues of J on the unit circle, to their error; None in what was stored before there was this field.
    marginal_directions: Int[np.ndarray, " point"] = None  # type: ignore[assignment]


def stability(found: FixedPoints) -> list[str]:
    """ "stable", "saddle", "unstable" or "marginal" for each point, from the eigenvalues of J.

    All inside the unit circle; some outside; all outside; none outside but one that cannot be told from one on it (a
    continuum, a bifurcation, a rotation without damping).
    """
    inside = np.where(is_stable(found), "stable", "marginal")
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
    - `merge_distance`: relative distance within which states are first tried as one point; it merges nothing by itself.
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
    with threadpool_limits(1, "blas"), double_precision(), np.errstate(over="ignore", invalid="ignore"):
        plain = FreeSystem(to_double(optimizer), clock)
        if plain.size == 0:
            return _trivial(plain, kind)
        system = scaled_system(plain, plain.restrict(seeds), np.array([float(gradient)]))
        starts = system.restrict(seeds)
        limit = diverged_norm * max(1.0, float(np.linalg.norm(starts, axis=1).max()))
        options: dict[str, Any] = {"tolerance": tolerance, "max_iterations": newton_iterations, "chunk": chunk}
        gradients = np.full(len(seeds), float(gradient))

        followed = _follow(system, starts, gradients, max_iterations=max_iterations, limit=limit, options=options)
        slow = np.flatnonzero(~followed.diverged & ~_converged(followed, tolerance))
        finished = newton(system, followed.states[slow], gradients[slow], **options)
        picked = np.unique(np.linspace(0, len(seeds) - 1, min(newton_seeds, len(seeds))).round().astype(int))
        # Which units the dampings are in decides to which of several points a run leads: both are tried.
        direct = newton(system, starts[picked], gradients[picked], **options)
        other = newton(plain, plain.restrict(seeds)[picked], gradients[picked], **options)
        other = other._replace(states=other.states / np.asarray(system.units))
        other = other._replace(residual=residuals(system, other.states, gradients[picked]))
        direct, picked = (
            Search(*(np.concatenate(parts) for parts in zip(direct, other, strict=True))),
            np.tile(picked, 2),
        )

        candidates = Search(*(np.concatenate(parts) for parts in zip(followed, finished, direct, strict=True)))
        search = partial(_points, system, gradient=float(gradient), merge_distance=merge_distance, options=options)
        known, result = search(candidates)
        resting = np.flatnonzero(np.append(~known.attracts, [False, False])[result[: len(seeds)]])
        if resting.size:  # a little beside its point a start may rest for a while: where does it go in the end?
            further = iterate(
                system,
                candidates.states[resting],
                gradients[resting],
                tolerance=0.0,
                max_iterations=max_iterations,
                limit=limit,
            )
            for whole, part in zip(candidates, further, strict=True):
                whole[resting] = part if whole is not candidates.iterations else whole[resting] + part
            followed = Search(*(part[: len(seeds)] for part in candidates))
            known, result = search(candidates)

        seed_result, by_newton, newton_result = np.split(result, [len(seeds), len(seeds) + len(slow)])
        seed_result = np.where(np.append(known.attracts, [True, True])[seed_result], seed_result, NOT_CONVERGED)
        seed_result[slow] = NOT_CONVERGED
        for index in np.flatnonzero(known.judged.stable):
            rows, steps = slow[by_newton == index], max_iterations
            states = followed.states[rows]
            for doubling in range(1 + DOUBLINGS):
                arrive = lead_to(system, states, gradients[rows], known.located[index])
                seed_result[rows[arrive]] = index
                rows, states = rows[~arrive], states[~arrive]
                if not rows.size or doubling == DOUBLINGS:
                    break
                states = iterate(
                    system, states, gradients[rows], tolerance=0.0, max_iterations=steps, limit=limit
                ).states
                steps *= 2
        seed_result[followed.diverged] = DIVERGED
        stuck = np.flatnonzero((by_newton == NOT_CONVERGED) & np.isfinite(finished.residual))
        ends = followed.states.copy()
        arrived = seed_result[slow] >= 0
        ends[slow[arrived]] = finished.states[arrived]
        points, slow_points = (system.embed(a) for a in (known.states, finished.states[stuck]))
        residual, seed_residual, newton_residual, slow_residual = (
            residuals(plain, plain.restrict(system.embed(states)), np.full(len(states), float(gradient)))
            for states in (known.states, ends, direct.states, finished.states[stuck])
        )
        units = np.asarray(system.units)
        jacobian = known.jacobian * units[:, None] / units
        bounds = error_bounds(plain, plain.restrict(points), jacobian, float(gradient))
    iterations = followed.iterations.copy()
    iterations[slow] += finished.iterations
    count, judged = len(points), known.judged
    found = FixedPoints(
        points=points,
        residual=residual,
        spectral_radius=judged.magnitudes.max(axis=1, initial=0),
        unstable_directions=judged.unstable,
        members=np.bincount(seed_result[seed_result >= 0], minlength=count),
        newton_members=np.bincount(newton_result[newton_result >= 0], minlength=count),
        error_bound=np.where(judged.kernel > 0, np.inf, bounds),
        isolated=judged.kernel == 0,
        seed_result=seed_result,
        seed_residual=seed_residual,
        seed_iterations=iterations,
        seed_kind=kind,
        newton_seed=picked,
        newton_result=newton_result,
        newton_residual=newton_residual,
        slow_points=slow_points,
        slow_residual=slow_residual,
        continuum_dimension=judged.kernel,
        free_components=np.array(system.size),
        marginal_directions=judged.marginal,
    )
    return _sorted(found)


class _Known(NamedTuple):
    """The distinct points, in the units of the search."""

    states: np.ndarray
    jacobian: np.ndarray
    located: list[Located]
    judged: Stability

    @property
    def attracts(self) -> np.ndarray:
        """Whether starts that iteration brings to rest there belong there: stable, or on a continuum that does not
        repel (which draws them in across it)."""
        return self.judged.stable | ((self.judged.unstable == 0) & (self.judged.kernel > 0))

    def take(self, index: np.ndarray) -> "_Known":
        """Some of the points."""
        judged = Stability(*(part[index] for part in self.judged))
        return _Known(self.states[index], self.jacobian[index], [self.located[i] for i in index], judged)


def _points(
    system: FreeSystem, candidates: Search, *, gradient: float, merge_distance: float, options: dict
) -> tuple[_Known, np.ndarray]:
    """The distinct points among the candidates that converged, and for each candidate its point (or NOT_CONVERGED)."""
    good = np.flatnonzero(_converged(candidates, options["tolerance"]) & ~candidates.diverged)
    known, which = _distinct(
        system, candidates.states[good], candidates.residual[good], gradient, merge_distance, options
    )
    result = np.full(len(candidates.states), NOT_CONVERGED)
    result[good] = which
    kept, which = _one_a_continuum(system, known, result, gradient, options["tolerance"])
    return known.take(kept), which[result]


def refuse_other_points(found: FixedPoints, optimizer: Optimizer, where: object) -> None:
    """See that points read from `where` are fixed points of `optimizer`: a step without gradient moves none by 1e-4 of
    its length, and the spectral radius of each is that of its derivative there. With a clock nothing is compared.

    **Raises** `ReoptError`.
    """
    if optimizer.clock is not None or not len(found.points):
        return
    with double_precision():
        system = FreeSystem(to_double(optimizer))
        states, still = np.asarray(found.points, np.float64), np.zeros(len(found.points))
        near = beside_zero(system, states, still)
        moved = residuals(system, states, still)
        slopes = jacobians_at(system, near, still)
    apart = moved / np.maximum(1, np.linalg.norm(states, axis=1))
    radius = np.abs(np.linalg.eigvals(slopes)).max(axis=1, initial=0.0) if np.isfinite(slopes).all() else np.nan
    same = np.isclose(radius, found.spectral_radius, rtol=1e-4, atol=1e-4) | np.isnan(radius)
    if not ((apart < 1e-4).all() and same.all()):
        raise ReoptError(
            f"{where}: the stored fixed points are not those of this optimizer: damaged, or of another optimizer"
        )


def attractor(found: FixedPoints) -> Float[np.ndarray, " hidden"]:
    """The stable point to which most starts came. **Raises** `ReoptError` where there is none."""
    stable = is_stable(found)
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
        around = jacobians_at(system, point + reach * directions, np.full(probes, held[i]))
        change = np.sum(np.square(around - matrix), axis=(1, 2))
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
    matrix = _all_jacobians(system, found.states, float(gradients[0]), 1)
    return found.states[0] if np.isfinite(matrix).all() and judge(matrix).stable[0] else None


def _all_jacobians(system: FreeSystem, points: np.ndarray, gradient: float, chunk: int) -> np.ndarray:
    parts = [np.zeros((0, system.size, system.size))]
    for first in range(0, len(points), chunk):
        held = np.full(len(points[first : first + chunk]), gradient)
        part = beside_zero(system, points[first : first + chunk], held)
        parts.append(jacobians_at(system, part, held))
    return np.concatenate(parts)


def _group(states: np.ndarray, residual: np.ndarray, distance: float) -> tuple[np.ndarray, np.ndarray]:
    """Leaders (best residual first), and for each state the first leader within the relative `distance` of it."""
    which = np.full(len(states), -1)
    leaders: list[int] = []
    for i in np.argsort(residual, kind="stable"):
        if which[i] >= 0:
            continue
        near = (which < 0) & np.all(np.abs(states - states[i]) <= distance * (1 + np.abs(states[i])), axis=1)
        which[near] = len(leaders)
        leaders.append(i)
    return np.array(leaders, int), which


def _distinct(
    system: FreeSystem, states: np.ndarray, residual: np.ndarray, gradient: float, distance: float, options: dict
) -> tuple[_Known, np.ndarray]:
    """Converged states as points: (the points, for each state the index of its point).

    Of states that lie together the best is polished. Others belong to it if Newton steps lead them there; what stays
    elsewhere is another point, however near. Points whose errors overlap are one.
    """
    which = np.full(len(states), -1)
    pending = np.arange(len(states))
    points, residuals_of = [np.zeros((0, system.size))], [np.zeros(0)]
    count = 0
    parts: list[_Known] = [_known(system, points[0], gradient, options["chunk"])]
    while pending.size:
        leaders, group = _group(states[pending], residual[pending], distance)
        best = pending[leaders]
        sharp = newton(system, states[best], np.full(len(best), gradient), polish=True, **options)
        parts.append(_known(system, sharp.states, gradient, options["chunk"]))
        residuals_of.append(sharp.residual)
        for index, point in enumerate(parts[-1].located):
            rows = pending[group == index]
            same = lead_to(system, states[rows], np.full(len(rows), gradient), point)
            which[rows[same | (rows == best[index])]] = count + index
        count += len(best)
        pending = pending[which[pending] < 0]
    whole = _Known(
        np.concatenate([part.states for part in parts]),
        np.concatenate([part.jacobian for part in parts]),
        [point for part in parts for point in part.located],
        Stability(*(np.concatenate(arrays) for arrays in zip(*(part.judged for part in parts), strict=True))),
    )
    kept, merged = _merged(whole.located, np.concatenate(residuals_of))
    return whole.take(kept), merged[which] if len(which) else which


def _known(system: FreeSystem, points: np.ndarray, gradient: float, chunk: int) -> _Known:
    jacobian = _all_jacobians(system, points, gradient, chunk)
    if not np.isfinite(jacobian).all():
        raise ReoptError("the optimizer has no finite derivatives at a fixed point: its stability cannot be told")
    return _Known(points, jacobian, *locate(system, points, jacobian, np.full(len(points), gradient)))


def _merged(located: list[Located], residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(indices of the points to keep, best residual first; for each point the number of the kept one it is)."""
    kept: list[int] = []
    number = np.zeros(len(located), int)
    for i in np.argsort(residual, kind="stable"):
        same = [k for k, other in enumerate(kept) if overlap(located[i], located[other])]
        number[i] = same[0] if same else len(kept)
        if not same:
            kept.append(int(i))
    return np.array(kept, int), number


def _one_a_continuum(
    system: FreeSystem, known: _Known, result: np.ndarray, gradient: float, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """(indices of the points to keep, new index of each old one; negative codes index themselves)."""
    count, dimension = len(known.states), known.judged.kernel
    members = np.bincount(result[result >= 0], minlength=count)
    leader = np.arange(count)
    for size in np.unique(dimension[dimension > 0]):
        rows = np.flatnonzero(dimension == size)
        groups = continua(system, [known.located[i] for i in rows], gradient, tolerance=tolerance)
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
        marginal_directions=np.zeros(1, np.int64),
    )
