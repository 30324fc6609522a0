"""Learning-rate schedules: what an optimizer does by itself while no gradient comes (arXiv 2011.02159, section 5.3).

Along the autonomous trajectory h_{k+1} = F(h_k, 0) from the initial state h_0, the effective learning rate is

    eta_k = - d r(F(h_k, g), g) / dg  at g = 0,

the immediate answer to a first gradient at step k. Where the update is no straight line near zero (Adam, inputs that
enter by their sign or logarithm) this slope is that of gradients that no run meets. So a second trajectory goes with
it, under a steady gradient g of the size met most: its step s_k = [u_k(-g) - u_k(g)] / 2, in units of the update, and
the exponent d ln s / d ln |g|: 1 where the step is proportional to the gradient, 0 where the optimizer normalises its
gradients, and s is the learning rate that one set (Adam's from the first step on, by its bias correction).
Where the update jumps at g = 0 and its slope is 0 throughout (sign-SGD, Lion), eta_k is half the jump, in units of the
update: the size of the step that a sign decides.
A clock runs here, for what depends on it is a schedule.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float

from reopt.dynamics.pca import PCA, project
from reopt.dynamics.precision import double_precision, to_double
from reopt.optimizers.base import Optimizer

COORDINATES = ("pc1", "pc2", "pc3")
SMALLER = 100.0  # times, the gradient that a steady one is compared with
NORMALISED = 0.01  # |exponent| below which the step does not depend on the size of the gradient


class Schedule(NamedTuple):
    """The trajectory step by step, and its shape in words and numbers."""

    table: pd.DataFrame
    summary: dict[str, Any]


def coordinates(states: Float[np.ndarray, "row hidden"], basis: PCA | None) -> dict[str, np.ndarray]:
    """Columns pc1, pc2, pc3 of states; NaN where there is no such component."""
    columns = np.full((len(states), len(COORDINATES)), np.nan)
    if basis is not None:
        projected = project(states, basis, len(COORDINATES))
        columns[:, : projected.shape[1]] = projected
    return dict(zip(COORDINATES, columns.T, strict=True))


def schedule(
    optimizer: Optimizer,
    *,
    num_steps: int,
    point: Float[np.ndarray, " hidden"] | None = None,
    pca: PCA | None = None,
    steady: float | None = None,
    flat: float = 0.05,
) -> Schedule:
    """The autonomous trajectory for `num_steps` steps.

    **Arguments:** `point` is the fixed point from which `distance` is measured (without the clock), `pca` the basis of
    the columns pc1 to pc3, `steady` the |gradient| of the column `steady_step`; each may be missing, and its columns
    are then NaN. `flat` is the tolerance of `describe_shape`. The summary describes the effective learning rate; under
    "steady", with the keys "gradient" and "exponent", the steps under that gradient.
    """
    with double_precision():
        system = to_double(optimizer)
        size = np.nan if steady is None else float(steady)
        states, offset, slope, jump, steps = (np.asarray(a) for a in _coast(system, jnp.asarray(size), num_steps))
    free = np.array([i for i in range(optimizer.state_size) if i != optimizer.clock], int)
    distance = np.full(num_steps, np.nan)
    if point is not None:
        distance = np.linalg.norm(states[:, free] - np.asarray(point)[free], axis=1)
    rates = -0.5 * jump if np.any(jump != 0) and np.all(slope == 0) else -slope
    table = pd.DataFrame(
        {
            "step": np.arange(num_steps),
            "effective_learning_rate": rates,
            "steady_step": steps[:, 0],
            "offset": offset,
            "distance": distance,
            **coordinates(states, pca),
        }
    )
    summary = describe_shape(rates, flat=flat)
    if steady is not None:
        told = {"gradient": size, "exponent": _exponent(steps)}
        summary["steady"] = told | describe_shape(steps[:, 0], flat=flat)
    return Schedule(table, summary)


def normalises(summary: Mapping[str, Any]) -> bool:
    """Whether the step under a steady gradient does not depend on that gradient's size."""
    exponent = summary.get("steady", {}).get("exponent")
    return exponent is not None and abs(exponent) < NORMALISED


def _exponent(steps: Float[np.ndarray, "step 2"]) -> float | None:
    """d ln |s| / d ln |g| between a gradient and one `SMALLER` times smaller, the largest in size over steps that move.

    A clip, which is flat as well where gradients are large, is not between these.
    """
    taken = steps != 0
    if not np.isfinite(steps).all() or not taken.any() or (taken[:, 0] != taken[:, 1]).any():
        return None
    each = np.log(np.abs(steps[taken[:, 0], 0] / steps[taken[:, 0], 1])) / np.log(SMALLER)
    return float(each[np.argmax(np.abs(each))])


@eqx.filter_jit
def _coast(optimizer: Optimizer, steady: Float[Array, ""], num_steps: int) -> tuple[Array, ...]:
    """States, updates at g = 0, slopes and jumps there, along the autonomous trajectory; and the steps under a steady
    gradient and one `SMALLER` times smaller, [step, 2]."""
    gradients = steady * jnp.array([[-1.0, 1.0], [-1 / SMALLER, 1 / SMALLER]])

    def update(state: Array, gradient: Array) -> Array:
        return optimizer(state, gradient)[1]

    def body(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
        state, pushed = carry
        zero = jnp.zeros((), state.dtype)
        offset, slope = jax.value_and_grad(update, argnums=1)(state, zero)
        after, updates = optimizer(pushed, gradients)
        seen = (state, offset, slope, jump_at_zero(update, state), (updates[:, 0] - updates[:, 1]) / 2)
        return (optimizer.update(state, zero), after), seen

    start = jnp.asarray(optimizer.initial_state(), jnp.float64)
    pushed = jnp.broadcast_to(start, (*gradients.shape, start.size))
    return jax.lax.scan(body, (start, pushed), None, length=num_steps)[1]


def jump_at_zero(update: Callable[[Array, Array], Array], state: Array) -> Float[Array, ""]:
    """u(0+) - u(0-): the difference over +-1e-100, if it is the same over +-1e-50, where a slope would make it 1e50
    times larger; else 0."""
    near, far = (update(state, jnp.asarray(e)) - update(state, jnp.asarray(-e)) for e in (1e-100, 1e-50))
    return jnp.where((jnp.abs(far) < 2 * jnp.abs(near)) & jnp.isfinite(near), near, 0.0)


def describe_shape(rates: Float[np.ndarray, " step"], *, flat: float = 0.05, wiggle: float = 0.1) -> dict[str, Any]:
    """The shape of a schedule.

    All rates are measured in units of the largest |rate|. With m the highest rate, a rise is m - initial, a fall is
    m - final; either counts if it is more than `flat`:

    - "constant": highest and lowest rate differ by no more than `flat`;
    - "warmup", "decay", "warmup_then_decay": a rise, a fall, or both, and apart from setbacks of at most `wiggle`
      times (highest - lowest) the rates climb up to the peak and sink after it;
    - "other": everything else (a dip, several peaks, rates that are not finite).

    Also: `initial`, `peak`, `final`, `lowest`; `peak_step`; `range`, peak / lowest (None if that is not positive);
    `settled_step`, the first step from which on the rate stays within `flat` of the final one; `linear_decay_r2`, how
    well a straight line fits the rates from the peak to there (None if fewer than four steps).
    """
    rates = np.asarray(rates, float)
    if not rates.size or not np.isfinite(rates).all():
        return {"shape": "other", "finite": False}
    unit = np.abs(rates).max()
    scaled = rates / unit if unit > 0 else rates
    peak = int(np.argmax(scaled))
    if scaled[peak] - scaled[0] <= flat:
        peak = 0 if scaled[peak] - scaled[0] <= wiggle * np.ptp(scaled) else peak
    settled = np.abs(scaled - scaled[-1]) > flat
    settled_step = int(np.flatnonzero(settled)[-1]) + 1 if settled.any() else 0
    before, after = scaled[: peak + 1], scaled[peak:]
    allowed = wiggle * np.ptp(scaled)
    orderly = (
        np.max(np.maximum.accumulate(before) - before) <= allowed
        and np.max(after - np.minimum.accumulate(after)) <= allowed
    )
    rise, fall = scaled[peak] - scaled[0] > flat, scaled[peak] - scaled[-1] > flat
    shapes = {(True, True): "warmup_then_decay", (True, False): "warmup", (False, True): "decay"}
    if np.ptp(scaled) <= flat:
        shape = "constant"
    else:
        shape = shapes.get((bool(rise), bool(fall)), "other") if orderly else "other"
    lowest = float(rates.min())
    return {
        "shape": shape,
        "finite": True,
        "initial": float(rates[0]),
        "peak": float(rates[peak]),
        "final": float(rates[-1]),
        "lowest": lowest,
        "peak_step": peak,
        "range": float(rates[peak]) / lowest if lowest > 0 else None,
        "settled_step": settled_step,
        "linear_decay_r2": _straightness(rates[peak : max(settled_step, peak) + 1]),
    }


def _straightness(values: np.ndarray) -> float | None:
    """R^2 of a straight line through `values`."""
    if len(values) < 4 or np.ptp(values) == 0:
        return None
    steps = np.arange(len(values))
    rest = values - np.polyval(np.polyfit(steps, values, 1), steps)
    return float(1 - rest.var() / values.var())
