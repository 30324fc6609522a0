"""Learning-rate schedules: what an optimizer does by itself while no gradient comes (arXiv 2011.02159, section 5.3).

Along the autonomous trajectory h_{k+1} = F(h_k, 0) from the initial state h_0, the effective learning rate is

    eta_k = - d r(F(h_k, g), g) / dg  at g = 0,

the immediate answer to a first gradient at step k. Where the update is no straight line near zero (Adam, inputs that
enter by their sign or logarithm) this slope says little; the secant over a gradient of usual size then says more.
Where the update jumps at g = 0 and its slope is 0 throughout (sign-SGD, Lion), eta_k is half the jump, in units of the
update: the size of the step that a sign decides.
A clock runs here, for what depends on it is a schedule.
"""

from collections.abc import Callable
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
    probe: float | None = None,
    flat: float = 0.05,
) -> Schedule:
    """The autonomous trajectory for `num_steps` steps.

    **Arguments:** `point` is the fixed point from which `distance` is measured (without the clock), `pca` the basis of
    the columns pc1 to pc3, `probe` the |gradient| of the column `secant_learning_rate`,
    -(u(probe) - u(-probe)) / (2 probe); each may be missing, and its columns are then NaN. `flat` is the tolerance of
    `describe_shape`.
    """
    with double_precision():
        system = to_double(optimizer)
        size = np.nan if probe is None else float(probe)
        states, offset, slope, secant, jump = (np.asarray(a) for a in _coast(system, jnp.asarray(size), num_steps))
    free = np.array([i for i in range(optimizer.state_size) if i != optimizer.clock], int)
    distance = np.full(num_steps, np.nan)
    if point is not None:
        distance = np.linalg.norm(states[:, free] - np.asarray(point)[free], axis=1)
    rates = -0.5 * jump if np.any(jump != 0) and np.all(slope == 0) else -slope
    table = pd.DataFrame(
        {
            "step": np.arange(num_steps),
            "effective_learning_rate": rates,
            "secant_learning_rate": -secant,
            "offset": offset,
            "distance": distance,
            **coordinates(states, pca),
        }
    )
    return Schedule(table, describe_shape(rates, flat=flat))


@eqx.filter_jit
def _coast(optimizer: Optimizer, probe: Float[Array, ""], num_steps: int) -> tuple[Array, ...]:
    """States, updates at g = 0, slopes there, and secants, along the autonomous trajectory."""

    def update(state: Array, gradient: Array) -> Array:
        return optimizer(state, gradient)[1]

    def body(state: Array, _: None) -> tuple[Array, tuple[Array, ...]]:
        zero = jnp.zeros((), state.dtype)
        offset, slope = jax.value_and_grad(update, argnums=1)(state, zero)
        secant = (update(state, probe) - update(state, -probe)) / (2 * probe)
        return optimizer.update(state, zero), (state, offset, slope, secant, jump_at_zero(update, state))

    start = jnp.asarray(optimizer.initial_state(), jnp.float64)
    return jax.lax.scan(body, start, None, length=num_steps)[1]


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
