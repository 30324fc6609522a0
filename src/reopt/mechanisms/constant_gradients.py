"""Learning-rate adaptation: where constant gradients drive the state, and what that does to the learning rate
(arXiv 2011.02159, section 5.4).

For every constant gradient g* in a sweep a fixed point h* = F(h*, g*) is sought; the points form two arms, one a sign.
Each arm is followed from the fixed point at g = 0 outward (the state follows slowly rising gradients), and each point
is sought once more from the initial state: where the two differ, there is hysteresis. Where the state does not come to
rest, the branch of fixed points through the nearest one that was found is continued in g
(`reopt.dynamics.continuation`): it leads to points that attract too slowly, or not at all. In the state h*, with the
update function u(g) = r(F(h*, g), g), three rates are read:

    effective_learning_rate            -u'(g*)      the answer to a change of the gradient that is there
    effective_learning_rate_at_zero    -u'(0)       the answer to a small gradient, had the large one just ended
    mean_rate                          -u(g*) / g*  the average answer

Known cases. Momentum: v = g / (1 - beta), both slopes lr, mean rate lr / (1 - beta), exponent 0. RMSProp: s = g^2,
at zero lr / sqrt(decay g^2 + eps), at g* lr (decay g^2 + eps) / (g^2 + eps)^(3/2): exponent -1 for both beyond the
knee, |g| = sqrt(eps / decay) for the slope at zero. A clock is held.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float
from scipy.special import stdtrit
from threadpoolctl import threadpool_limits

from reopt.dynamics.autonomous import CLOCK, FreeSystem, beside_zero, jacobians_at
from reopt.dynamics.batches import argument, filled
from reopt.dynamics.continuation import follow_branch
from reopt.dynamics.pca import PCA
from reopt.dynamics.precision import double_precision, to_double
from reopt.dynamics.root_finding import iterate, newton, residuals
from reopt.dynamics.stability import judge
from reopt.mechanisms.effective_rate import coordinates
from reopt.mechanisms.update_function import evaluate_update_functions, gradient_grid, update_and_slope
from reopt.optimizers.base import Optimizer

KNEE = 0.5**0.5  # the rate has fallen to this share of that at g = 0: where 1 / sqrt(1 + x^2) has its knee, x = 1
SETTLED, UNSETTLED = 1e-6, 1e-3  # relative change of the rate by the rest of the way: below, at rest; above, not
ROUNDS = 12  # of Newton steps towards rest
NO_CHANGE = 1e-6  # a relative change of the rate, for a change of the gradient by itself, that counts as none
ARMS = {-1.0: "negative", 0.0: "zero", 1.0: "positive"}


class Adaptation(NamedTuple):
    """The sweep, its summary, update functions at some of its points, and the states of all of them."""

    table: pd.DataFrame
    summary: dict[str, Any]
    functions: pd.DataFrame
    states: Float[np.ndarray, "gradient hidden"]


def adaptation(
    optimizer: Optimizer,
    *,
    point: Float[np.ndarray, " hidden"],
    limit: float,
    num_gradients: int = 25,
    decades: float = 4.0,
    pca: PCA | None = None,
    num_functions: int = 5,
    grid_points: int = 101,
    tolerance: float = 1e-10,
    max_iterations: int = 2048,
    clock: float = CLOCK,
    chunk: int = 32,
    from_start: bool = True,
) -> Adaptation:
    """Sweep constant gradients, `num_gradients` a sign, log-spaced over `decades` below `limit`, and 0.

    **Arguments:** `point` is the fixed point at g = 0 from which the arms start; `tolerance` and `max_iterations` are
    as in `find_fixed_points` (every state is polished by Newton's method as well); `num_functions` update functions a
    sign are kept, on grids of `grid_points` gradients; without `from_start` no point is sought from the initial state.

    Columns of the table beside those above: `gradient`, `arm`; `residual`, `converged`; `spectral_radius` of dF/dh at
    the point, `stable` (all eigenvalues inside the unit circle by more than their rounding) and `time_constant` =
    -1 / ln(spectral_radius) in steps (inf if unstable); `rate_time_constant`, that of the mode by which the rate at
    zero follows a change of the gradient (NaN if it does not); `from_start`, the distance to the point found from the
    initial state over the typical norm of the points, and `rate_from_start`, the rate at zero there (both NaN if that
    search did not converge); `pc1`, `pc2`, `pc3`. Rates of points that did not converge are NaN.
    """
    sizes = np.geomspace(limit * 10.0**-decades, limit, num_gradients)
    settings: dict[str, Any] = {"tolerance": tolerance, "max_iterations": max_iterations, "chunk": chunk}
    # Norms of states that run away overflow to infinity, which says what is to be said of them.
    with threadpool_limits(1, "blas"), double_precision(), np.errstate(over="ignore", invalid="ignore"):
        system = FreeSystem(to_double(optimizer), clock)
        gradients = np.concatenate([-sizes[::-1], [0.0], sizes])
        followed = _follow_arms(system, system.restrict(point), sizes, settings)
        initial = system.restrict(np.asarray(system.optimizer.initial_state()))
        fresh, fresh_residual = np.tile(initial, (len(gradients), 1)), np.full(len(gradients), np.inf)
        if from_start:
            fresh, fresh_residual = _settle(system, fresh, gradients, **settings)
        followed = _continue_branches(system, followed, gradients, float(sizes[0]), tolerance)
        followed = beside_zero(system, followed, gradients) if system.size else followed
        followed, at_rest = _at_rest(system, followed, gradients, tolerance, chunk)
        if from_start:
            fresh = beside_zero(system, fresh, gradients) if system.size else fresh
            fresh, fresh_at_rest = _at_rest(system, fresh, gradients, tolerance, chunk)
            fresh_residual = np.where(fresh_at_rest, residuals(system, fresh, gradients), fresh_residual)
        residual, radius, stable = _examine(system, followed, gradients, chunk)
        states = system.embed(followed)
        rate, rate_at_zero, update = _rates(system.optimizer, states, gradients)
        follows = _rate_time_constants(system, followed, gradients, chunk)
        _, fresh_rate, _ = _rates(system.optimizer, system.embed(fresh), gradients)
    norms = np.linalg.norm(followed, axis=1)
    converged = at_rest & (residual <= tolerance * np.maximum(1, norms))
    settled = fresh_residual <= tolerance * np.maximum(1, np.linalg.norm(fresh, axis=1))
    typical = float(np.median(norms[converged])) if converged.any() and norms[converged].any() else 1.0
    apart = np.linalg.norm(fresh - followed, axis=1) / (typical if typical > 0 else 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_rate = np.where(gradients == 0, np.nan, -update / gradients)
        time_constant = np.where(radius < 1, -1 / np.log(radius), np.inf)
    table = pd.DataFrame(
        {
            "gradient": gradients,
            "arm": [ARMS[sign] for sign in np.sign(gradients)],
            "effective_learning_rate": np.where(converged, rate, np.nan),
            "effective_learning_rate_at_zero": np.where(converged, rate_at_zero, np.nan),
            "mean_rate": np.where(converged, mean_rate, np.nan),
            "residual": residual,
            "spectral_radius": radius,
            "converged": converged,
            "stable": stable & converged,
            "time_constant": np.where(radius > 0, time_constant, 0.0),
            "rate_time_constant": np.where(converged, follows, np.nan),
            "from_start": np.where(settled & converged, apart, np.nan),
            "rate_from_start": np.where(settled, fresh_rate, np.nan),
            **coordinates(states, pca),
        }
    )
    chosen = np.unique(np.linspace(0, num_gradients - 1, min(num_functions, num_gradients)).round().astype(int))
    picked = np.concatenate([num_gradients - 1 - chosen[::-1], [num_gradients], num_gradients + 1 + chosen])
    picked = picked[converged[picked]]
    functions = _functions(optimizer, states[picked], gradients[picked], limit, grid_points)
    return Adaptation(table, summarize(table), functions, states)


def _settle(
    system: FreeSystem,
    states: np.ndarray,
    gradients: np.ndarray,
    *,
    tolerance: float,
    max_iterations: int,
    chunk: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Iterate each row, then polish it by Newton: (states, residuals). A row that runs away stays where it was."""
    if system.size == 0:
        return states, np.zeros(len(states))
    beyond = float(np.finfo(float).max ** 0.25)  # only a state that runs away without end gets there
    found = iterate(system, states, gradients, tolerance=tolerance, max_iterations=max_iterations, limit=beyond)
    here = np.flatnonzero(~found.diverged)
    sharp = newton(
        system, found.states[here], gradients[here], tolerance=tolerance, max_iterations=30, chunk=chunk, polish=True
    )
    states, residual = states.copy(), np.full(len(states), np.inf)
    states[here], residual[here] = sharp.states, sharp.residual
    return states, residual


def _at_rest(
    system: FreeSystem, states: np.ndarray, gradients: np.ndarray, tolerance: float, chunk: int
) -> tuple[np.ndarray, np.ndarray]:
    """The states, those of slow dynamics taken to their rest, and which are near enough for their rate to be read.

    A step of a state with a time constant of 1e4 moves it by 1e-4 of the way that is left: a small residual says
    little. The way is (I - J)^-1 (h - F(h)), and what it does to the rate at zero says whether the point is settled.
    Where it is not, h <- F(h - way), a Newton step and a plain one by which what has no memory follows, as long as
    each makes the way ten times shorter and leads to a point that attracts; other rows are left as they were.
    """
    near = np.ones(len(states), bool)
    if not system.size:
        return states, near
    way, change, _ = _way(system, states, gradients, chunk)
    small = residuals(system, states, gradients) <= tolerance * np.maximum(1, np.linalg.norm(states, axis=1))
    near = ~(change > UNSETTLED)
    open_rows = (~small | (change > SETTLED)) & np.isfinite(way).all(axis=1)
    trial, change_now = states.copy(), np.where(np.isnan(change), np.inf, change)
    for _ in range(ROUNDS):
        if not open_rows.any():
            break
        stepped = np.where(open_rows[:, None], trial - way, trial)
        stepped = np.asarray(_step(system, argument(stepped), argument(gradients)))
        trial = np.where(open_rows[:, None] & np.isfinite(stepped), stepped, trial)
        way, shorter, radius = _way(system, trial, gradients, chunk)
        done = open_rows & (shorter <= SETTLED * 1e-3) & np.isfinite(way).all(axis=1) & (radius < 1)
        done &= residuals(system, trial, gradients) <= tolerance * np.maximum(1, np.linalg.norm(trial, axis=1))
        states, near = np.where(done[:, None], trial, states), near | done
        open_rows &= ~done & (shorter <= 0.1 * change_now) & np.isfinite(way).all(axis=1)
        change_now = shorter
    return states, near


@eqx.filter_jit
def _step(system: FreeSystem, states: Array, gradients: Array) -> Array:
    return system.step(states, gradients)


def _way(
    system: FreeSystem, states: np.ndarray, gradients: np.ndarray, chunk: int
) -> tuple[np.ndarray, Float[np.ndarray, " point"], Float[np.ndarray, " point"]]:
    """(I - J)^-1 (h - F(h)) of each row, NaN where there is none, what it changes the rate at zero by, relatively, and
    the spectral radius of J.

    Solved in units of each component's size: a second moment of 1e-16 stands beside an update of 1.
    """
    way, radius = np.full(states.shape, np.nan), np.full(len(states), np.inf)
    after = np.asarray(_step(system, argument(states), argument(gradients)))
    for first in range(0, len(states), chunk):
        part = slice(first, first + chunk)
        matrices = jacobians_at(system, states[part], gradients[part])
        for i, matrix in enumerate(matrices, first):
            sizes = np.maximum(np.abs(states[i]), np.abs(after[i]))
            units = np.where(sizes > 0, sizes, 1.0)
            with np.errstate(over="ignore", invalid="ignore"):
                scaled, gap = matrix * units / units[:, None], (states[i] - after[i]) / units
            if np.isfinite(scaled).all() and np.isfinite(gap).all():
                radius[i] = np.abs(np.linalg.eigvals(scaled)).max()
                way[i] = units * np.linalg.lstsq(np.eye(len(gap)) - scaled, gap, rcond=None)[0]
    with np.errstate(all="ignore"):
        here, there = (_rates(system.optimizer, system.embed(at), gradients)[1] for at in (states, states - way))
        return way, np.where(here == there, 0.0, np.abs(there / here - 1)), radius


def _follow_arms(system: FreeSystem, point: np.ndarray, sizes: np.ndarray, settings: dict) -> np.ndarray:
    """Fixed points for -sizes reversed, 0, sizes: each sought from the next one nearer to 0."""
    start, _ = _settle(system, point[None], np.zeros(1), **settings)
    now, signs = np.repeat(start, 2, axis=0), np.array([-1.0, 1.0])
    arms: list[np.ndarray] = []
    for size in sizes:
        now, _ = _settle(system, now, signs * size, **settings)
        arms.append(now)
    both = np.stack(arms)
    return np.concatenate([both[::-1, 0], start, both[:, 1]])


def _continue_branches(
    system: FreeSystem, states: np.ndarray, gradients: np.ndarray, unit: float, tolerance: float
) -> np.ndarray:
    """The states, those that are no fixed point replaced by that of a branch through one nearer to 0, or one beyond.

    `gradients` rise, 0 in the middle. What no branch leads to stays as it was.
    """
    if system.size == 0:
        return states
    states = states.copy()
    good = residuals(system, states, gradients) <= tolerance * np.maximum(1, np.linalg.norm(states, axis=1))
    middle = len(gradients) // 2
    outward = [np.arange(middle, len(gradients)), np.arange(middle, -1, -1)]
    for order in (*outward, *(arm[::-1] for arm in outward)):
        for before, after in _gaps(good[order]):
            rows = order[before + 1 : after]
            branch = follow_branch(
                system,
                states[order[before]],
                gradients[order[before]],
                gradients[rows].tolist(),
                unit=unit,
                tolerance=tolerance,
            )
            found = rows[np.isfinite(branch.residual)]
            states[found], good[found] = branch.states[: len(found)], True
    return states


def _gaps(good: np.ndarray) -> list[tuple[int, int]]:
    """(index before, index after) each run that is not good and has a good one before it."""
    edges = np.diff(np.concatenate([[True], good, [True]]).astype(int))
    starts, ends = np.flatnonzero(edges == -1), np.flatnonzero(edges == 1)
    return [(int(start) - 1, int(end)) for start, end in zip(starts, ends, strict=True) if start]


def _examine(
    system: FreeSystem, states: np.ndarray, gradients: np.ndarray, chunk: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Residual, spectral radius and stability (by more than rounding) of each point."""
    if system.size == 0:
        return np.zeros(len(states)), np.zeros(len(states)), np.ones(len(states), bool)
    residual = residuals(system, states, gradients)
    radius, stable = [], []
    for first in range(0, len(states), chunk):
        part = (a[first : first + chunk] for a in (states, gradients))
        judged = judge(jacobians_at(system, *part))
        radius.append(judged.magnitudes.max(axis=1))
        stable.append(judged.stable)
    return residual, np.concatenate(radius), np.concatenate(stable)


def _rates(
    optimizer: Optimizer, states: np.ndarray, gradients: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """-u'(g*), -u'(0) and u(g*) in each state."""

    pairs = np.stack([gradients, np.zeros(len(gradients))], axis=1)
    values, slopes = update_and_slope(optimizer, states, pairs)
    return -slopes[:, 0], -slopes[:, 1], values[:, 0]


def _rate_time_constants(
    system: FreeSystem, states: np.ndarray, gradients: np.ndarray, chunk: int
) -> Float[np.ndarray, " gradient"]:
    """-1 / ln|lambda| of the mode of dF/dh through which most of the rate at zero follows a small change of g.

    The point moves by dh = (I - J)^-1 B dg; with J = R diag(lambda) L^T the mode j moves the rate by
    (grad rate . r_j)(l_j . dh), and relaxes as lambda_j^t. A momentum buffer moves the update, not its slope: its
    share is 0. NaN where no mode moves the rate.
    """
    follows = np.full(len(states), np.nan)
    if system.size == 0:
        return follows
    for first in range(0, len(states), chunk):
        part = slice(first, first + chunk)
        at, held = states[part], gradients[part]
        drives, slopes, rates = (np.asarray(a)[: len(at)] for a in _rate_slopes(system, *filled(system.size, at, held)))
        matrices = jacobians_at(system, at, held)
        for i, (matrix, drive, slope, rate) in enumerate(zip(matrices, drives, slopes, rates, strict=True)):
            if not (np.isfinite(matrix).all() and np.isfinite(drive).all() and np.isfinite(slope).all()):
                continue
            values, vectors = np.linalg.eig(matrix)
            moved = np.linalg.lstsq(np.eye(system.size) - matrix, drive, rcond=None)[0]
            shares = np.abs((slope @ vectors) * np.linalg.lstsq(vectors, moved.astype(complex), rcond=None)[0])
            leading = int(np.argmax(shares))
            if shares[leading] * max(abs(gradients[first + i]), 1e-300) > NO_CHANGE * abs(rate):
                magnitude = abs(values[leading])
                with np.errstate(divide="ignore"):
                    follows[first + i] = -1 / np.log(magnitude) if magnitude < 1 else np.inf
    return follows


@eqx.filter_jit
def _rate_slopes(system: FreeSystem, states: Array, gradients: Array) -> tuple[Array, Array, Array]:
    """dF/dg at (h, g), and the gradient and value of the rate at zero, -u'(0), with respect to h; row by row."""

    def rate(state: Array) -> Array:
        return -jax.grad(lambda g: system.advance(state, g)[1])(jnp.zeros((), state.dtype))

    def one(state: Array, gradient: Array) -> tuple[Array, Array, Array]:
        value, slope = jax.value_and_grad(rate)(state)
        return jax.jacfwd(lambda g: system.step(state, g))(gradient), slope, value

    return jax.vmap(one)(states, gradients)


def _functions(
    optimizer: Optimizer, states: np.ndarray, gradients: np.ndarray, limit: float, grid_points: int
) -> pd.DataFrame:
    grid = gradient_grid(limit, linear_limit=0.1 * limit, num_points=grid_points)
    values, slopes = evaluate_update_functions(optimizer, states, grid)
    return pd.DataFrame(
        {
            "gradient_held": np.repeat(gradients, len(grid)),
            "place": np.repeat([ARMS[sign] for sign in np.sign(gradients)], len(grid)),
            "gradient": np.tile(grid, len(gradients)),
            "update": values.ravel(),
            "slope": slopes.ravel(),
        }
    )


def even_part(optimizer: Optimizer, found: Adaptation, *, clock: float = CLOCK, chunk: int = 32) -> Adaptation:
    """The sweep once more, each state replaced by the mean of those under g* and -g*.

    What follows the sign of the gradient (a momentum buffer) cancels in the mean, what follows its size (a second
    moment) stays. So the rates here are those of adaptation alone, where in h* itself a clip behind a buffer that the
    constant gradient has filled looks like it. Columns of the table: `gradient`, `arm`, `converged` (both points are,
    and attract), `effective_learning_rate_at_zero`, `effective_learning_rate`,
    `rate_time_constant`, `from_start` (NaN), `time_constant`. For an optimizer that is not odd in (h, g), as networks
    are, the mean is no state that it ever visits.
    """
    gradients = found.table["gradient"].to_numpy()
    good = found.table["stable"].to_numpy()
    good = good & good[::-1]
    states = 0.5 * (found.states + found.states[::-1])
    with double_precision():
        system = FreeSystem(to_double(optimizer), clock)
        rate, rate_at_zero, _ = _rates(system.optimizer, states, gradients)
        follows = _rate_time_constants(system, system.restrict(states), gradients, chunk)
    table = found.table[["gradient", "arm", "time_constant", "residual", "spectral_radius"]].assign(
        converged=good,
        effective_learning_rate=np.where(good, rate, np.nan),
        effective_learning_rate_at_zero=np.where(good, rate_at_zero, np.nan),
        rate_time_constant=np.where(good, follows, np.nan),
        from_start=np.nan,
    )
    return Adaptation(table, summarize(table) | _far_exponent(table), found.functions, states)


def _far_exponent(table: pd.DataFrame) -> dict[str, Any]:
    """The exponents of `summarize`, fitted as far beyond the knee as the range allows.

    1 / (1 + x), with eps outside the root, has a slope of -1 + 1 / x. Where all rates have fallen the knee lies below
    the smallest gradient, which stands for it.
    """
    sizes = table["gradient"].abs().to_numpy()
    base = summarize(table)["knee"] or sizes[sizes > 0].min(initial=np.inf)
    for beyond in (1000.0, 300.0, 100.0, 30.0, 10.0, 3.0):
        far = table["converged"].to_numpy() & (sizes >= beyond * base)
        if min(int(np.sum(far & (table["arm"] == arm))) for arm in ("negative", "positive")) >= 4:
            summary = summarize(table[far | (table["arm"] == "zero")], beyond_knee=0.0)
            return {
                key: value for key, value in summary.items() if key.startswith("exponent") or key in ("low", "high")
            }
    return {}


def summarize(table: pd.DataFrame, *, beyond_knee: float = 3.0, confidence: float = 0.95) -> dict[str, Any]:
    """What the sweep says of the rate at zero against |g|; numbers that cannot be had are None.

    - `knee`: the |g| at which the rate, a geometric mean over both arms, has fallen to 1/sqrt(2) of that at g = 0,
      interpolated between logarithms; None if it never does.
    - `exponent`, `low`, `high`: slope of log rate against log |g| over both arms beyond `beyond_knee` times the knee
      (over all points if there is no knee, or fewer than four points beyond it), each arm with its own height, with
      its t interval. The points have no noise: the interval tells how far the arms are from a power law.
    - `exponent_negative`, `exponent_positive`: the same for each arm; `exponent_at_gradient`: for the slope at g*.
    - `monotone_positive`, `monotone_negative`: Spearman's rho of the rate against |g|; 0 for a constant rate.
    - `symmetry`: largest |rate(g) - rate(-g)| relative to the larger of the two.
    - `hysteresis`: whether some point reached along an arm is not the one reached from the initial state.
    - `slowest`, `fastest`: largest and smallest time constant (steps); `range`: rate at g = 0 over the lowest rate.
    - `converged`: share of the points.
    """
    arms = {name: table[table["arm"] == name] for name in ("negative", "positive")}
    arms = {name: arm.assign(size=arm["gradient"].abs()).sort_values("size") for name, arm in arms.items()}
    column = "effective_learning_rate_at_zero"
    resting = float(table.loc[table["arm"] == "zero", column].iloc[0])
    knee = _knee(arms, resting, column)
    above = arms
    if knee is not None:
        beyond = {name: arm[arm["size"] >= beyond_knee * knee] for name, arm in arms.items()}
        if min(len(arm) for arm in beyond.values()) >= 4:
            above = beyond
    exponent, low, high = _power(list(above.values()), column, confidence)
    negative, positive = (arms[name][column].to_numpy() for name in ("negative", "positive"))
    larger = np.maximum(np.abs(negative), np.abs(positive))
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = np.where(larger > 0, np.abs(negative - positive) / larger, 0.0)
    good = table[table["converged"]]
    lowest = float(good[column].min()) if len(good) else np.nan
    apart = table["from_start"].to_numpy()
    return {
        "exponent": exponent,
        "low": low,
        "high": high,
        "knee": knee,
        "exponent_negative": _power([above["negative"]], column, confidence)[0],
        "exponent_positive": _power([above["positive"]], column, confidence)[0],
        "exponent_at_gradient": _power(list(above.values()), "effective_learning_rate", confidence)[0],
        "monotone_positive": _monotone(arms["positive"], column),
        "monotone_negative": _monotone(arms["negative"], column),
        "symmetry": _number(np.nanmax(difference)) if np.isfinite(difference).any() else None,
        "hysteresis": bool(np.any(apart[np.isfinite(apart)] > 1e-3)),
        "slowest": _number(good["time_constant"].max()) if len(good) else None,
        "fastest": _number(good["time_constant"].min()) if len(good) else None,
        "range": _number(resting / lowest) if lowest > 0 else None,
        "converged": float(table["converged"].mean()),
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _knee(arms: dict[str, pd.DataFrame], resting: float, column: str) -> float | None:
    rates = [arm[column].to_numpy() for arm in arms.values()]
    sizes = arms["positive"]["size"].to_numpy()
    usable = np.all([np.isfinite(rate) & (rate > 0) for rate in rates], axis=0)
    if not resting > 0 or not usable.any():
        return None
    drop = np.mean([np.log(rate[usable]) for rate in rates], axis=0) - np.log(resting * KNEE)
    fallen = np.flatnonzero(drop < 0)
    if not fallen.size or fallen[0] == 0:
        return None
    i, logs = fallen[0], np.log(sizes[usable])
    share = drop[i - 1] / (drop[i - 1] - drop[i])
    return float(np.exp(logs[i - 1] + share * (logs[i] - logs[i - 1])))


def knee_interval(table: pd.DataFrame, knee: float) -> tuple[float, float]:
    """The gradients held next below and above a knee, between which it was interpolated."""
    sizes = np.unique(table.loc[table["gradient"] > 0, "gradient"].to_numpy())
    return float(sizes[sizes <= knee].max(initial=0.0)), float(sizes[sizes >= knee].min(initial=np.inf))


def _power(arms: list[pd.DataFrame], column: str, confidence: float) -> tuple[float | None, float | None, float | None]:
    """Common slope of log(column) against log|g|, each arm with its own intercept, and its t interval."""
    x, y = [], []
    for arm in arms:
        part = arm[(arm[column] > 0) & np.isfinite(arm[column])]
        if len(part) >= 2:
            logs, values = np.log(part["size"].to_numpy()), np.log(part[column].to_numpy())
            x.append(logs - logs.mean())
            y.append(values - values.mean())
    freedom = sum(len(part) for part in x) - len(x) - 1
    if freedom < 1:
        return None, None, None
    across, along = np.concatenate(x), np.concatenate(y)
    slope = float(across @ along / (across @ across))
    error = np.sqrt(np.sum(np.square(along - slope * across)) / freedom / (across @ across))
    half = float(stdtrit(freedom, 0.5 + confidence / 2) * error)
    return slope, slope - half, slope + half


def _monotone(arm: pd.DataFrame, column: str) -> float | None:
    part = arm[np.isfinite(arm[column])]
    if len(part) < 3:
        return None
    rates = part[column].to_numpy()
    if np.ptp(rates) <= 1e-9 * np.abs(rates).max():
        return 0.0
    from scipy import stats  # takes seconds to import, which most jobs need not spend

    return float(stats.spearmanr(part["size"], rates).statistic)
