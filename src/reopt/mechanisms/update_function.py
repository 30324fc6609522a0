"""Gradient clipping: the update as a function of the gradient, u(g) = r(F(h, g), g) (arXiv 2011.02159, section 5.2).

An optimizer clips where the slope of u falls as |g| grows. Two gradients tell where, and are not the same number:

- the *threshold* is the gradient at which the straight line through the slope at g = 0 meets the level at which the
  update ends: c for a hard clip at c and for the soft clip c tanh(g / c) alike;
- the *half-slope gradient* is the |g| at which the slope has fallen to half of its value at g = 0, for either sign:
  c for a hard clip, 0.8814 c for the soft one; it is found by bisection on the derivative.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
import pandas as pd
from jaxtyping import Array, Float

from reopt.dynamics.batches import SMALL, argument, pad, padded
from reopt.dynamics.linearization import Linearization
from reopt.dynamics.pca import PCA
from reopt.dynamics.precision import double_precision, to_double
from reopt.dynamics.record import finite_states
from reopt.mechanisms.modes import leading_mode, modes
from reopt.optimizers.base import Optimizer

HALF, ALMOST_ALL, LITTLE = 0.5, 0.9, 0.1  # shares of the slope at 0
NEAREST = 1e-70  # a gradient below that of any regulariser
RISES = 0.01  # slope just inside a corner, in units of (half the update's range) / (half the corner's width)


class Place(NamedTuple):
    """A state of which the update function is examined."""

    place: str  # "initial", "fixed_point", "slow_mode", "pc1".. , "visited"
    shift: float  # standard deviations of the visited states along the direction; for "visited" the step
    state: Float[np.ndarray, " hidden"]


def gradient_limit(gradients: Float[np.ndarray, "..."], *, quantile: float = 0.999, factor: float = 4.0) -> float:
    """`factor` times a quantile of the |gradients| met (finite ones); 1 if there are none but zeros."""
    sizes = np.abs(np.asarray(gradients, np.float64))
    sizes = sizes[np.isfinite(sizes)]
    value = factor * float(np.quantile(sizes, quantile)) if sizes.size else 0.0
    return value if value > 0 else 1.0


def gradient_grid(limit: float, *, linear_limit: float, num_points: int = 201) -> Float[np.ndarray, " gradient"]:
    """Symmetric gradients with 0 in the middle: evenly spaced up to `linear_limit`, log-spaced from there to `limit`.

    About half of the `num_points` (made odd) are in either part; all are evenly spaced if `linear_limit` >= `limit`.
    """
    half = max(num_points // 2, 2)
    if linear_limit >= limit:
        positive = np.linspace(0, limit, half + 1)[1:]
    else:
        inner = half // 2
        positive = np.concatenate(
            [
                np.linspace(0, linear_limit, inner + 1)[1:],
                np.geomspace(linear_limit, limit, half - inner + 1)[1:],
            ]
        )
    return np.concatenate([-positive[::-1], [0.0], positive])


def places(
    optimizer: Optimizer,
    *,
    point: Float[np.ndarray, " hidden"],
    states: Float[np.ndarray, "step problem param hidden"] | None = None,
    pca: PCA | None = None,
    linearization: Linearization | None = None,
    shifts: tuple[float, ...] = (-2.0, -1.0, 1.0, 2.0),
    num_components: int = 4,
    visited_steps: tuple[int, ...] = (),
) -> list[Place]:
    """States worth a look: the initial one, the fixed point, and those shifted from it along some directions.

    **Arguments:** `linearization` gives the direction "slow_mode", the real part of the right eigenvector of the mode
    that carries most of the update; `pca` gives "pc1" to "pc{num_components}". A shift is in standard deviations of
    the visited `states` along the direction. A component that was never negative among them (a second moment) is not
    shifted below zero. "visited" is, at each of `visited_steps`, the state nearest to the median of its step.
    """
    point = np.asarray(point, np.float64)
    with double_precision():
        initial = np.asarray(to_double(optimizer).initial_state(), np.float64)
    found = [Place("initial", 0.0, initial), Place("fixed_point", 0.0, point)]
    rows = np.zeros((0, point.size)) if states is None else finite_states(states).astype(np.float64)
    directions: list[tuple[str, np.ndarray]] = []
    if linearization is not None and point.size:
        found_modes = modes(linearization)
        if found_modes.alpha.size:
            vector = np.real(found_modes.right[:, leading_mode(found_modes)])
            if length := np.linalg.norm(vector):
                directions.append(("slow_mode", vector / length))
    if pca is not None:
        directions += [(f"pc{i + 1}", vector) for i, vector in enumerate(pca.components[:num_components])]
    if len(rows):
        never_negative = (rows >= 0).all(axis=0)
        for name, direction in directions:
            # Along a fixed direction: the sign of an eigenvector is arbitrary.
            direction = direction * np.sign(direction[np.argmax(np.abs(direction))])
            deviation = float(np.std(rows @ direction))
            for shift in shifts:
                state = point + shift * deviation * direction
                state[never_negative] = np.maximum(state[never_negative], 0)
                found.append(Place(name, float(shift), state))
        for step in visited_steps:
            if states is not None and step < len(states) and len(at := finite_states(states[step])):
                here = at.astype(np.float64)
                apart = np.linalg.norm(here - np.median(here, axis=0), axis=1)
                found.append(Place("visited", float(step), here[np.argmin(apart)]))
    return found


@eqx.filter_jit
def _update_and_slope(optimizer: Optimizer, states: Array, gradients: Array) -> tuple[Array, Array]:
    def update(gradient: Array, state: Array) -> Array:
        return optimizer(state, gradient)[1]

    return jax.vmap(jax.vmap(jax.value_and_grad(update), (0, None)))(gradients, states)


def update_and_slope(
    optimizer: Optimizer, states: Float[np.ndarray, "place hidden"], gradients: Float[np.ndarray, "place gradient"]
) -> tuple[Float[np.ndarray, "place gradient"], Float[np.ndarray, "place gradient"]]:
    """u(g) and du/dg in each state; inside `double_precision`."""
    places, count = gradients.shape
    if optimizer.state_size <= SMALL and places and count:  # a program costs more than the places that fill it up
        states, gradients = (pad(part, max(8, padded(places))) for part in (states, gradients))
        gradients = pad(gradients.T, padded(count)).T
    values, slopes = _update_and_slope(optimizer, argument(states), argument(gradients))
    return np.asarray(values)[:places, :count], np.asarray(slopes)[:places, :count]


def evaluate_update_functions(
    optimizer: Optimizer, states: Float[np.ndarray, "place hidden"], grid: Float[np.ndarray, " gradient"]
) -> tuple[Float[np.ndarray, "place gradient"], Float[np.ndarray, "place gradient"]]:
    """u(g) and its derivative by autodiff, for each state, on a grid of gradients."""
    with double_precision():
        gradients = np.broadcast_to(np.asarray(grid, np.float64), (len(states), len(grid)))
        return update_and_slope(to_double(optimizer), np.asarray(states, np.float64), gradients)


def update_functions(optimizer: Optimizer, at: list[Place], grid: Float[np.ndarray, " gradient"]) -> pd.DataFrame:
    """Columns: place, shift, gradient, update, slope."""
    values, slopes = evaluate_update_functions(optimizer, np.stack([item.state for item in at]), grid)
    count = len(grid)
    return pd.DataFrame(
        {
            "place": np.repeat([item.place for item in at], count),
            "shift": np.repeat([item.shift for item in at], count),
            "gradient": np.tile(grid, len(at)),
            "update": values.ravel(),
            "slope": slopes.ravel(),
        }
    )


def clipping(
    optimizer: Optimizer,
    at: list[Place],
    gradients: Float[np.ndarray, "..."],
    *,
    limit: float,
    reach: float | None = None,
    num_brackets: int = 400,
    bisections: int = 50,
) -> pd.DataFrame:
    """How each update function saturates, one row a place.

    **Arguments:** `limit` is the largest |g| of the gradients met, `reach` (default: the same) how far beyond it an
    update function is followed.

    - `slope_at_zero`: du/dg at g = 0; `jump`: u(0+) - u(0-), for inputs that enter by their sign. Where the slope at
      zero is 0 or not finite, or there is a jump, no slope is a share of it: thresholds and the like are NaN.
    - `half_slope_positive`, `half_slope_negative`: |g| where du/dg first falls below half of `slope_at_zero`; NaN if it
      does not within reach. It is bracketed on a fine logarithmic grid, then bisected.
    - `threshold`: where the update levels off, as a gradient: (largest u(g) - smallest u(g)) / (2 |slope at zero|)
      within reach, which is c for a hard clip at c and for c tanh(g / c) alike; NaN where there is no half-slope
      gradient of both signs, for then it still rises.
    - `hardness`: |g| where the slope falls below 10% over that where it falls below 90%, geometric mean of both signs:
      1 is a hard clip, tanh has 5.6; NaN if out of range.
    - `corner`: half the width of the range of g beyond which the slope is exactly 0 on either side, where the update
      still rises just inside (with over `RISES` of its mean slope): a hard clip at c, whatever smooth function follows
      it; NaN without such ends.
    - `asymmetry`: max |u(g) + u(-g) - 2 u(0)| / max |u(g) - u(-g)| over |g| <= `limit`; 0 is odd about u(0).
    - `fraction_beyond_half_slope`: share of the finite `gradients` beyond the half-slope gradient of their sign.
    - `saturation`, `far_saturation`: slope at |g| = `limit` and at `reach` over that at 0, mean of both signs; 1 is a
      straight line.
    """
    states = np.stack([item.state for item in at])
    met = np.asarray(gradients, np.float64).ravel()
    met = met[np.isfinite(met)]
    reach = limit if reach is None else reach
    magnitudes, near = (end * np.logspace(-8, 0, num_brackets) for end in (reach, limit))
    with double_precision():
        system = to_double(optimizer)

        def look(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return update_and_slope(system, states, sizes)

        def everywhere(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return look(np.broadcast_to(sizes, (len(at), len(sizes))))

        centre, slope = (part[:, 0] for part in everywhere(np.zeros(1)))
        up, up_slope = everywhere(magnitudes)
        down, down_slope = everywhere(-magnitudes)
        near_up, near_up_slope = everywhere(near)
        near_down, near_down_slope = everywhere(-near)
        tiny = reach * 1e-13
        beside, _ = everywhere(np.array([tiny, -tiny, 1e-6 * tiny, -1e-6 * tiny]))
        jump, nearer = beside[:, 0] - beside[:, 1], beside[:, 2] - beside[:, 3]
        jump = np.where(np.abs(nearer) > 0.5 * np.abs(jump), jump, 0.0)  # a steep slope shrinks with the distance
        span = np.max(np.abs(up - down), axis=1)
        rounding = 1e-12 * np.abs(centre)
        jump = np.where(np.abs(jump) > 1e-6 * span + rounding, jump, 0.0)
        jump = np.where(_steep(look, jump, slope), 0.0, jump)
        usable = np.isfinite(slope) & (slope != 0) & (jump == 0)

        def crossing(share: float, sign: float) -> np.ndarray:
            """|g| where slope / slope(0) first falls below `share`, per place: in the range met, or else in reach."""
            fine = within(near, near_up_slope if sign > 0 else near_down_slope, share, sign)
            if np.isfinite(fine).all():
                return fine
            far = within(magnitudes, up_slope if sign > 0 else down_slope, share, sign)
            return np.where(np.isfinite(fine), fine, far)

        def within(sizes: np.ndarray, slopes: np.ndarray, share: float, sign: float) -> np.ndarray:
            with np.errstate(divide="ignore", invalid="ignore"):
                below = slopes / slope[:, None] < share
            first = np.argmax(below, axis=1)
            hit = below.any(axis=1) & usable
            low = np.where(first > 0, sizes[np.maximum(first - 1, 0)], 0.0)
            high = sizes[first]
            for _ in range(bisections if hit.any() else 0):
                middle = 0.5 * (low + high)
                _, here = look(sign * middle[:, None])
                with np.errstate(divide="ignore", invalid="ignore"):
                    fallen = here[:, 0] / slope < share
                low, high = np.where(fallen, low, middle), np.where(fallen, middle, high)
            return np.where(hit, high, np.nan)

        half_slope = {sign: crossing(HALF, sign) for sign in (1.0, -1.0)}
        corner = _corner(look, magnitudes, up_slope, down_slope, bisections)
        ratio = np.stack([crossing(LITTLE, sign) / crossing(ALMOST_ALL, sign) for sign in (1.0, -1.0)])
    with np.errstate(divide="ignore", invalid="ignore"):
        reached = np.concatenate([up, down], axis=1)
        threshold = 0.5 * (reached.max(axis=1) - reached.min(axis=1)) / np.abs(slope)
        near_span = np.max(np.abs(near_up - near_down), axis=1)
        uneven = np.max(np.abs(near_up + near_down - 2 * centre[:, None]), axis=1)
        asymmetry = np.where(near_span > 0, uneven / near_span, 0.0)
        saturation = np.where(usable, 0.5 * (near_up_slope[:, -1] + near_down_slope[:, -1]) / slope, np.nan)
        far_saturation = np.where(usable, 0.5 * (up_slope[:, -1] + down_slope[:, -1]) / slope, np.nan)
        known = np.isfinite(ratio)
        logs = np.where(known, np.log(np.where(known, ratio, 1)), 0).sum(axis=0)
        hardness = np.where(known.any(axis=0), np.exp(logs / np.maximum(known.sum(axis=0), 1)), np.nan)
    # A half-slope gradient out of reach is beyond all gradients; NaN compares as that.
    beyond = (met > half_slope[1.0][:, None]) | (met < -half_slope[-1.0][:, None])
    levels_off = np.isfinite(half_slope[1.0]) & np.isfinite(half_slope[-1.0])
    fraction = beyond.mean(axis=1) if met.size else np.zeros(len(at))
    return pd.DataFrame(
        {
            "place": [item.place for item in at],
            "shift": [item.shift for item in at],
            "slope_at_zero": slope,
            "jump": jump,
            "threshold": np.where(levels_off, threshold, np.nan),
            "half_slope_positive": half_slope[1.0],
            "half_slope_negative": half_slope[-1.0],
            "corner": corner,
            "asymmetry": asymmetry,
            "hardness": hardness,
            "fraction_beyond_half_slope": np.where(usable, fraction, np.nan),
            "saturation": saturation,
            "far_saturation": far_saturation,
        }
    )


Look = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def _steep(look: Look, jump: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Whether a jump is a slope so steep that it has levelled off before the nearest gradients looked at (Adam with
    eps = 1e-30): at a thousandth of the distance over which the slope makes the jump, u still follows the slope.
    Nearer than NEAREST a slope is only that of a state moved beside a zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        near = np.where((jump != 0) & (slope != 0) & np.isfinite(slope), 1e-3 * np.abs(jump / slope), 0.0)
        if not near.any():
            return np.zeros(len(jump), bool)
        values, _ = look(near[:, None] * np.array([1.0, -1.0]))
        return (near > NEAREST) & (np.abs((values[:, 0] - values[:, 1]) / (2 * near * slope) - 1) < 0.01)


def _corner(
    look: Look, magnitudes: np.ndarray, up_slope: np.ndarray, down_slope: np.ndarray, bisections: int
) -> Float[np.ndarray, " place"]:
    """Half the distance between the ends of the range in which the slope is not exactly 0; see `clipping`."""
    signed = np.concatenate([-magnitudes[::-1], magnitudes])
    moving = np.concatenate([down_slope[:, ::-1], up_slope], axis=1) != 0
    last = np.where(moving.any(axis=1), moving.shape[1] - 1 - np.argmax(moving[:, ::-1], axis=1), 0)
    first = np.argmax(moving, axis=1)
    ends = []
    for at, out in ((last, 1), (first, -1)):
        inside, outside = signed[at], signed[np.clip(at + out, 0, len(signed) - 1)]
        ended = (inside != outside) & moving.any(axis=1)
        for _ in range(bisections if ended.any() else 0):
            middle = 0.5 * (inside + outside)
            still = look(middle[:, None])[1][:, 0] != 0
            inside, outside = np.where(still, middle, inside), np.where(still, outside, middle)
        ends.append(np.where(ended, inside, np.nan))
    width = 0.5 * (ends[0] - ends[1])
    rises = np.zeros(len(width), bool)
    for end, out in zip(ends, (1, -1), strict=True):
        near = np.where(np.isfinite(width), end - out * 0.01 * width, 0.0)
        _, slope = look(near[:, None])
        whole = np.abs(look(np.nan_to_num(ends[0])[:, None])[0] - look(np.nan_to_num(ends[1])[:, None])[0])[:, 0]
        rises |= np.abs(slope[:, 0]) * width > RISES * 0.5 * whole
    return np.where(np.isfinite(width) & (width > 0) & rises, width, np.nan)


class Level(NamedTuple):
    """Where the update levels off in all states: see `common_level`; NaN for what there is not."""

    threshold: float
    low: float
    high: float
    hardness: float
    fall: float  # 1 - slope far out / slope at zero
    follows: float  # exponent by which the level follows the gradient held; 0 for a clip, 1 for normalisation
    seen_in: str  # "rest", "amplified" or "normalised"


def common_level(looked_at: pd.DataFrame) -> Level:
    """The level at which the update saturates whatever the state, out of a table of `clipping`.

    Rows of place "fixed_point", "initial", "held" (`shift` is the gradient held) and "amplified" are used. Without
    amplified ones: the `threshold` at the fixed point, its interval the range over the others. With them: a
    normalisation hides a clip in front of it at rest, where it saturates first; in states with a huge second moment it
    does not, and the level there is the clip's own.
    """
    held = looked_at[(looked_at["place"] == "held") & (looked_at["shift"] != 0)]
    own = held[np.isfinite(held["threshold"])]
    follows = 0.0
    if len(own) > 2:
        follows = float(np.polyfit(np.log(own["shift"].abs()), np.log(own["threshold"]), 1)[0])
    amplified = looked_at[looked_at["place"] == "amplified"]
    if len(amplified):
        levels = np.where(np.isfinite(amplified["corner"]), amplified["corner"], amplified["threshold"])
        fall = float(1 - amplified["far_saturation"].mean())
        known = np.isfinite(levels).all()
        low, high = (float(levels.min()), float(levels.max())) if known else (np.nan, np.nan)
        hardness = float(amplified["hardness"].median())
        return Level(float(np.median(levels)), low, high, hardness, fall, 0.0 if known else follows, "amplified")
    rest = looked_at[looked_at["place"] == "fixed_point"].iloc[0]
    every = looked_at[looked_at["place"].isin(["initial", "fixed_point", "held"])]["threshold"].to_numpy(float)
    every = every[np.isfinite(every)]
    low, high = (float(every.min()), float(every.max())) if every.size else (np.nan, np.nan)
    fall = float(1 - rest["far_saturation"])
    return Level(float(rest["threshold"]), low, high, float(rest["hardness"]), fall, follows, "rest")


def gradient_density(
    gradients: Float[np.ndarray, "step problem param"], *, num_bins: int = 60, first: int = 10
) -> pd.DataFrame:
    """Histograms of the gradients met, over all steps and over the `first` ones (phase "all", "first{first}").

    Scale "linear": of g, over +- its 99.9% quantile. Scale "log": of |g| > 0, in bins of equal width in log10 |g|, the
    density being per decade. `left` and `right` are gradients in both. Each density integrates to the share of the
    gradients in range.
    """
    everything = np.asarray(gradients, np.float64)
    limit = gradient_limit(everything, factor=1.0)
    sizes = np.abs(everything[np.isfinite(everything) & (everything != 0)])
    low, high = np.quantile(sizes, [0.001, 1.0]) if sizes.size else (0.1, 1.0)
    low = max(low, high * 1e-12)
    if not low < high:
        low = high / 10
    tables = []
    for phase, part in (("all", everything), (f"first{first}", everything[:first])):
        finite = part[np.isfinite(part)]
        linear = np.linspace(-limit, limit, num_bins + 1)
        log = np.geomspace(low, high, num_bins + 1)
        log[-1] = max(log[-1], high)
        for scale, edges, values, width in (
            ("linear", linear, finite, np.diff(linear)),
            ("log", log, np.abs(finite[finite != 0]), np.diff(np.log10(log))),
        ):
            counts = np.histogram(values, edges)[0]
            density = counts / (max(values.size, 1) * width)
            columns = {"scale": scale, "left": edges[:-1], "right": edges[1:], "density": density, "phase": phase}
            tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)
