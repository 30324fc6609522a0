"""Distillation: the optimizer written out of its mechanisms, and how much of its true updates that explains.

    x_t = phi(g_t)                                     clipping, a function without memory
    v_j <- beta_j v_j + x_t                            momentum, a buffer a mode
    update_t = offset - s_t a_t sum_j Re(alpha_j v_j)  schedule times adaptation

s_t is the effective learning rate at step t of the autonomous trajectory, over that where the modes were read; a_t
the rate at zero at the fixed point of a constant gradient of the size met lately, over that at g = 0, where "lately"
is an exponential average of g^2 with the time constant of the adaptation. A mechanism that was not found is left out
(phi(g) = g, no memory, s = 1, a = 1).

The mechanisms can stand in another order (`Order`): phi, s or a behind the buffers or in front of them, and a driven by
the gradient, by phi(g), or by what the buffers hold. Behind the buffers phi acts on sum_j Re(alpha_j v_j) / A, with A
the response to a gradient at once; a is driven by the buffers through what they hold over its standing value under a
constant gradient. What this cannot see: mechanisms that act on each other in other ways, and anything that depends
on more than the sizes of gradients and the step.
"""

from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float

GRADIENTS = Float[np.ndarray, "step problem param"]


class Order(NamedTuple):
    """Where the mechanisms stand; the default is the first formula above."""

    clip_behind: bool = False  # of the buffers
    schedule_behind: bool = True
    adaptation_behind: bool = True
    adapts_to: str = "gradient"  # "clipped" or "buffered"


class Distilled(NamedTuple):
    """The mechanisms as numbers; None, or no mode, for one that is left out."""

    alpha: Complex[np.ndarray, " mode"]
    beta: Complex[np.ndarray, " mode"]
    direct: float
    offset: float
    clip: tuple[Float[np.ndarray, " knot"], Float[np.ndarray, " knot"]] | None = None  # gradients, phi
    schedule: Float[np.ndarray, " step"] | None = None  # s_t
    adaptation: tuple[Float[np.ndarray, " knot"], Float[np.ndarray, " knot"]] | None = None  # |g|, a
    adaptation_decay: float = 0.0
    order: Order = Order()


def orders(found: Distilled) -> list[Distilled]:
    """`found` in all orders that make a difference, as given first."""
    buffers = len(found.beta) > 0
    clip = (False, True) if found.clip is not None and buffers else (False,)
    scheduled = (True, False) if found.schedule is not None and buffers else (True,)
    adapted = (True, False) if found.adaptation is not None and buffers else (True,)
    drives = ["gradient"]
    if found.adaptation is not None:
        drives += ["clipped"] * (found.clip is not None) + ["buffered"] * buffers
    every = [Order(*choice) for choice in product(clip, scheduled, adapted, drives)]
    # What the buffers hold cannot drive what goes into them.
    return [found._replace(order=order) for order in every if order.adaptation_behind or order.adapts_to != "buffered"]


def distilled_updates(found: Distilled, gradients: GRADIENTS) -> GRADIENTS:
    """The updates of the distilled optimizer on the gradients met, in float64."""
    steps, order = len(gradients), found.order
    velocities = np.zeros((len(found.beta), *gradients.shape[1:]), complex)
    size = np.zeros(gradients.shape[1:])
    updates = np.zeros(gradients.shape)
    shape = (slice(None), *(None,) * (gradients.ndim - 1))
    at_once = float(np.real(found.alpha).sum()) + found.direct
    with np.errstate(divide="ignore", invalid="ignore"):
        standing = float(np.real(found.alpha / (1 - found.beta)).sum()) + found.direct
    decay = found.adaptation_decay
    for t in range(steps):
        g = np.asarray(gradients[t], np.float64)
        clipped = g if found.clip is None else np.interp(g, *found.clip)
        x = g if order.clip_behind else clipped
        scheduled = 1.0 if found.schedule is None else found.schedule[min(t, len(found.schedule) - 1)]
        adapted: np.ndarray | float = 1.0

        def adapt(driver: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            size = decay * size + (1 - decay) * np.square(driver)
            # The rate at zero is read before the average has decayed by the step that is looked at.
            met = np.sqrt(size / max(decay, 1e-12)) if decay > 0 else np.abs(driver)
            return _rate(met, *found.adaptation), size  # type: ignore[misc]

        if found.adaptation is not None and order.adapts_to != "buffered":
            adapted, size = adapt(g if order.adapts_to == "gradient" else clipped, size)
        inner = (1.0 if order.schedule_behind else scheduled) * (1.0 if order.adaptation_behind else adapted)
        velocities = found.beta[shape] * velocities + inner * x
        moved = np.sum(np.real(found.alpha[shape] * velocities), axis=0) + found.direct * (inner * x)
        if order.adapts_to == "buffered" and found.adaptation is not None and standing != 0:
            adapted, size = adapt(moved / standing, size)
        if order.clip_behind and found.clip is not None and at_once != 0:
            moved = at_once * np.interp(moved / at_once, *found.clip)
        outer = (scheduled if order.schedule_behind else 1.0) * (adapted if order.adaptation_behind else 1.0)
        updates[t] = found.offset - outer * moved
    return updates


def _rate(sizes: np.ndarray, knots: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Rates between the knots on a log-log scale; beyond the first and last the power laws of the outer two go on,
    down to a gradient of 0, where the rate is 1."""
    logs = np.log(np.maximum(sizes, 1e-300))
    x, y = np.log(knots), np.log(rates)
    first, last = (y[1] - y[0]) / (x[1] - x[0]), (y[-1] - y[-2]) / (x[-1] - x[-2])
    below, above = y[0] + first * (logs - x[0]), y[-1] + last * (logs - x[-1])
    # On its way to 1, at no gradient, a rate that falls with the gradient passes no higher, one that grows no lower.
    below = np.minimum(below, max(y[0], 0.0)) if first < 0 else np.maximum(below, min(y[0], 0.0))
    return np.exp(np.where(logs > x[-1], above, np.where(logs < x[0], below, np.interp(logs, x, y))))


def explained(
    true: GRADIENTS, distilled: GRADIENTS, *, confidence: float = 0.95, resamples: int = 1000
) -> tuple[float, float, float]:
    """R^2 of the distilled updates: 1 - sum (u - u_distilled)^2 / sum u^2, and its bootstrap interval over problems.

    Every step counts the same: squares are measured in the mean square of the true updates of their step (a step
    at which nothing moves does not count). The reference is no update at all. NaN if the true run is not finite
    in any problem, or never moves.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        wrong = np.sum(np.square(true.astype(np.float64) - distilled), axis=2)
        whole = np.sum(np.square(true.astype(np.float64)), axis=2)
    good = np.isfinite(whole).all(axis=0)
    wrong, whole = wrong[:, good], whole[:, good]
    scale = whole.mean(axis=1, keepdims=True) if good.any() else np.zeros((len(whole), 1))
    moving = scale[:, 0] > 0
    if not moving.any():
        return np.nan, np.nan, np.nan
    wrong = np.where(np.isfinite(wrong), wrong, np.inf)[moving] / scale[moving]
    whole = whole[moving] / scale[moving]
    lost, total = wrong.sum(axis=0), whole.sum(axis=0)
    rng = np.random.default_rng(0)
    picks = rng.integers(0, lost.size, (resamples, lost.size))
    with np.errstate(invalid="ignore"):
        draws = 1 - lost[picks].sum(axis=1) / total[picks].sum(axis=1)
        value = float(1 - lost.sum() / total.sum())
    if not np.isfinite(value):
        return -np.inf, -np.inf, -np.inf
    low, high = np.quantile(draws, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return value, float(low), float(high)


def noise_share(true: GRADIENTS, deviation: float) -> float:
    """1 - R^2 of an optimizer that says all but independent noise of this standard deviation in each update."""
    with np.errstate(all="ignore"):
        square = np.square(true).mean(axis=2)
        square = square[:, np.isfinite(square).all(axis=0)]
        mean = square.mean(axis=1) if square.size else np.zeros(0)
    mean = mean[mean > 0]
    return float(np.minimum(1, deviation**2 / mean).mean()) if mean.size else 0.0
