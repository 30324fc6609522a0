"""Effects by which claims are judged: numbers read from stored parts of an examination, over the gradients that it met.

Each is a property of one optimizer. What cannot be had is NaN: it says nothing, neither for a claim nor against it.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import optimize, stats

from reopt.dynamics.linearization import Linearization
from reopt.dynamics.record import Recording

DELAYED = 5  # lags of the pulse response from which on it counts as delayed
QUARTER = 0.25  # of a run: what is near the fixed point comes after it
GONE = 0.1  # of the initial loss is left when 90% is gone
COLUMNS = ["pc1", "pc2", "pc3"]
RATE = "effective_learning_rate_at_zero"
EDGE = 1e-6  # of a gradient in a table, which is rounded: the last one held is within its own range


class Effect(NamedTuple):
    """A number and its interval over problems; both ends are the number where it is exact."""

    value: float
    low: float
    high: float


class Met(NamedTuple):
    """Quantiles of the |gradients| met on all recorded problems, at all steps."""

    g50: float
    g90: float
    g99: float
    g999: float


class OneMode(NamedTuple):
    """A single momentum buffer fitted to a pulse response: update = -alpha v, v <- beta v + g."""

    alpha: float
    beta: float
    r2: float


def exactly(value: float) -> Effect:
    """A number without sampling error."""
    return Effect(float(value), float(value), float(value))


def gradients_met(recording: Recording) -> Met:
    """The range of gradients that claims are judged in; NaN where none is finite."""
    sizes = np.abs(recording.gradients.astype(np.float64))
    sizes = sizes[np.isfinite(sizes)]
    return Met(*(np.quantile(sizes, [0.5, 0.9, 0.99, 0.999]) if sizes.size else np.full(4, np.nan)).tolist())


def ratio(parts: Float[np.ndarray, " problem"], wholes: Float[np.ndarray, " problem"], confidence: float) -> Effect:
    """sum(parts) / sum(wholes), not negative, with its interval over problems (Cochran, Sampling Techniques, 1977,
    section 6.4)."""
    whole = wholes.sum()
    if not whole > 0:
        return exactly(np.nan)
    value, count = parts.sum() / whole, len(parts)
    if count < 2:
        return exactly(value)
    error = np.sqrt(count / (count - 1) * np.sum(np.square(parts - value * wholes))) / whole
    half = stats.t.ppf(0.5 + confidence / 2, count - 1) * error
    return Effect(float(value), max(0.0, float(value - half)), float(value + half))


def linear_update(recording: Recording, linearization: Linearization, confidence: float) -> Effect:
    """R² of updates by one step of the linearization from the state met, after a quarter of the run.

    The update from state h under g is foretold as offset + C (J (h - h*) + B g) + D g.
    """
    count, first = recording.states.shape[1], int(QUARTER * len(recording.states))
    states = recording.states[first:].astype(np.float64) - linearization.point
    gradients, updates = (part[first:, :count].astype(np.float64) for part in (recording.gradients, recording.updates))
    with np.errstate(invalid="ignore", over="ignore"):
        through_state = states @ (linearization.readout @ linearization.jacobian)
        direct = linearization.readout @ linearization.input + linearization.direct
        foretold = linearization.offset + through_state + direct * gradients
        known = np.isfinite(foretold) & np.isfinite(updates)
        mean = updates[known].mean() if known.any() else np.nan
        missed = np.where(known, np.square(updates - foretold), 0).sum(axis=(0, 2))
        whole = np.where(known, np.square(updates - mean), 0).sum(axis=(0, 2))
    lost = ratio(missed, whole, confidence)
    return Effect(1 - lost.value, 1 - lost.high, 1 - lost.low)


def delayed_response(impulse: pd.DataFrame) -> float:
    """Share of the linear pulse response, in absolute value, that comes `DELAYED` steps after the pulse or later."""
    response = np.abs(impulse.sort_values("lag")["linear"].to_numpy())
    return float(response[DELAYED:].sum() / response.sum()) if response.sum() > 0 else np.nan


def one_mode(impulse: pd.DataFrame) -> OneMode:
    """The buffer alpha beta^lag that is nearest to minus the linear pulse response, by least squares.

    alpha >= 0, 0 <= beta < 1. For each beta the best alpha is known, so beta alone is searched, from a fine grid.
    """
    response = -impulse.sort_values("lag")["linear"].to_numpy()
    lags = np.arange(len(response))

    def fitted(beta: float) -> tuple[float, float]:
        decay = beta**lags
        alpha = max(0.0, float(decay @ response / (decay @ decay)))
        return alpha, float(np.sum(np.square(response - alpha * decay)))

    grid = np.linspace(0, 0.9999, 400)
    best = int(np.argmin([fitted(beta)[1] for beta in grid]))
    ends = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, len(grid) - 1)])
    found = optimize.minimize_scalar(lambda beta: fitted(beta)[1], bounds=ends, options={"xatol": 1e-10})
    alpha, missed = fitted(float(found.x))
    whole = np.sum(np.square(response - response.mean()))
    return OneMode(alpha, float(found.x), float(1 - missed / whole) if whole > 0 else np.nan)


def vertical_shift(functions: pd.DataFrame, clipping: pd.DataFrame, place: str, size: float) -> tuple[float, float]:
    """(largest relative change of the slope at zero, largest shift of the update at zero) for states along `place`.

    The shift is in units of the slope at the fixed point times `size`, a gradient.
    """
    slope = float(clipping.loc[clipping["place"] == "fixed_point", "slope_at_zero"].iloc[0])
    moved = clipping[clipping["place"] == place]
    if moved.empty or not np.isfinite(slope) or slope == 0 or not size > 0:
        return np.nan, np.nan
    change = np.max(np.abs(moved["slope_at_zero"].to_numpy() - slope)) / abs(slope)
    rest = _at(functions[functions["place"] == "fixed_point"], "update", 0.0)
    along = functions[functions["place"] == place]
    offsets = [abs(_at(part, "update", 0.0) - rest) for _, part in along.groupby("shift")]
    return float(change), float(max(offsets, default=np.nan) / (abs(slope) * size))


def _at(function: pd.DataFrame, column: str, gradient: float) -> float:
    function = function.sort_values("gradient")
    return float(np.interp(gradient, function["gradient"], function[column]))


def slope_ratio(functions: pd.DataFrame, place: str, size: float) -> float:
    """Slope of the update at |gradient| = `size`, mean of both signs, over that at zero."""
    function = functions[functions["place"] == place]
    slope = _at(function, "slope", 0.0)
    if not np.isfinite(slope) or slope == 0 or not np.isfinite(size):
        return np.nan
    return 0.5 * (_at(function, "slope", size) + _at(function, "slope", -size)) / slope


def asymmetry(functions: pd.DataFrame, place: str, size: float) -> float:
    """max |u(g) + u(-g) - 2 u(0)| / max |u(g) - u(-g)| over |g| <= `size`; 0 is odd about u(0)."""
    function = functions[functions["place"] == place]
    if not np.isfinite(size):
        return np.nan
    sizes = np.linspace(0, size, 201)[1:]
    up, down, rest = (np.array([_at(function, "update", g) for g in part]) for part in (sizes, -sizes, [0.0]))
    span = np.max(np.abs(up - down))
    return float(np.max(np.abs(up + down - 2 * rest)) / span) if span > 0 else np.nan


def beyond_while_losing(recording: Recording, row: pd.Series, confidence: float) -> Effect:
    """Share of the gradients beyond the half-slope gradient of their sign until 90% of the loss is gone.

    `row` is one of the table of clipping; where no half-slope gradient is in reach, none is beyond it.
    """
    if not np.isfinite(row["fraction_beyond_half_slope"]):
        return exactly(np.nan)
    losses, gradients = recording.losses.astype(np.float64), recording.gradients.astype(np.float64)
    with np.errstate(invalid="ignore"):
        early = np.logical_and.accumulate(losses > GONE * losses[0], axis=0)
        beyond = (gradients > row["half_slope_positive"]) | (gradients < -row["half_slope_negative"])
    counted = early[..., None] & np.isfinite(gradients)
    share = ratio((counted & beyond).sum(axis=(0, 2)), counted.sum(axis=(0, 2)), confidence)
    return share._replace(high=min(1.0, share.high))


def threshold_quartiles(clipping: pd.DataFrame) -> tuple[float, float]:
    """(upper over lower quartile of the half-slope gradients of both signs over states, share that have none).

    The states are the initial one, the fixed point, those along the slow mode, and visited ones.
    """
    rows = clipping[clipping["place"].isin(["initial", "fixed_point", "slow_mode", "visited"])]
    sizes = rows[["half_slope_positive", "half_slope_negative"]].to_numpy(float).ravel()
    there = sizes[np.isfinite(sizes)]
    if not sizes.size:
        return np.nan, np.nan
    low, high = np.quantile(there, [0.25, 0.75]) if there.size else (np.nan, np.nan)
    return float(high / low) if low > 0 else np.nan, float(1 - there.size / sizes.size)


def arms(adaptation: pd.DataFrame, within: float) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """(negative arm, zero, positive arm) of constant gradients up to |g| = `within`, a column `size` of |g| added.

    The arms are by rising size, row by row the same sizes.
    """
    table = adaptation.assign(size=adaptation["gradient"].abs()).sort_values("size", kind="stable")
    table = table[table["size"] <= within * (1 + EDGE)]
    return tuple(table[table["arm"] == name].reset_index(drop=True) for name in ("negative", "zero", "positive"))


def stable(table: pd.DataFrame) -> np.ndarray:
    """Which fixed points attract, by more than their rounding."""
    return table["stable"].to_numpy(bool)


class Curve(NamedTuple):
    """Fixed points of constant gradients as a curve in the first three components."""

    found: float  # share of the gradients that have one
    cosine: float  # median, between the ways to the points under g and -g from that at 0
    jump: float  # longest step from one point to the next over the length of the curve


def curve(adaptation: pd.DataFrame, met: Met) -> Curve:
    """The curve within the gradients met; the cosine over gradients above their median."""
    negative, zero, positive = arms(adaptation, met.g999)
    line = pd.concat([negative[::-1], zero, positive])
    found = float(line["converged"].mean()) if len(line) else np.nan
    spots = line.loc[line["converged"].to_numpy(bool), COLUMNS].fillna(0.0).to_numpy()
    steps = np.linalg.norm(np.diff(spots, axis=0), axis=1)
    jump = float(steps.max() / steps.sum()) if steps.size and steps.sum() > 0 else np.nan
    if not len(zero) or not zero["converged"].iloc[0]:
        return Curve(found, np.nan, jump)
    both = (negative["converged"] & positive["converged"] & (positive["size"] > met.g50)).to_numpy(bool)
    ways = [part.loc[both, COLUMNS].fillna(0.0).to_numpy() for part in (negative, positive)]
    one, other = (way - zero[COLUMNS].fillna(0.0).to_numpy() for way in ways)
    with np.errstate(invalid="ignore"):
        cosines = np.sum(one * other, axis=1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))
    known = cosines[np.isfinite(cosines)]
    return Curve(found, float(np.median(known)) if known.size else np.nan, jump)


def rate_fall(adaptation: pd.DataFrame, met: Met) -> tuple[float, float]:
    """Rate at the 99.9% gradient over that at the median one, in the negative and in the positive arm.

    The rate is interpolated in log |g| between points that were found; NaN where these end below half of g99.9.
    """
    negative, _, positive = arms(adaptation, np.inf)
    return _fall(negative, met), _fall(positive, met)


def _fall(arm: pd.DataFrame, met: Met) -> float:
    arm = arm[arm["converged"].to_numpy(bool) & np.isfinite(arm[RATE])]
    if len(arm) < 2 or not arm["size"].max() >= 0.5 * met.g999 or not met.g50 > 0:
        return np.nan
    before, after = np.interp(np.log([met.g50, met.g999]), np.log(arm["size"]), arm[RATE])
    return float(after / before) if before > 0 else np.nan


def arm_difference(adaptation: pd.DataFrame, met: Met) -> float:
    """Median of |rate(g) - rate(-g)| over the larger of the two, for gradients met above their median."""
    negative, _, positive = arms(adaptation, met.g999)
    here = (positive["size"] >= met.g50).to_numpy(bool)
    one, other = negative.loc[here, RATE].to_numpy(), positive.loc[here, RATE].to_numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = np.abs(one - other) / np.maximum(np.abs(one), np.abs(other))
    known = difference[np.isfinite(difference)]
    return float(np.median(known)) if known.size else np.nan


def far_exponent(adaptation: pd.DataFrame, met: Met) -> Effect:
    """Slope of log rate against log |g| beyond the 90% gradient: mean of both arms, which are its interval."""
    negative, _, positive = arms(adaptation, np.inf)
    slopes = [_slope(arm[arm["size"] >= met.g90]) for arm in (negative, positive)]
    return Effect(float(np.mean(slopes)), float(min(slopes)), float(max(slopes)))


def _slope(arm: pd.DataFrame) -> float:
    arm = arm[(arm[RATE] > 0).to_numpy(bool)]
    return float(np.polyfit(np.log(arm["size"]), np.log(arm[RATE]), 1)[0]) if len(arm) >= 3 else np.nan
