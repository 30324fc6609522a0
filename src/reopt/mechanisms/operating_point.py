"""The operating point: an optimizer in the states that its runs meet, without the signs of their gradients.

At rest and at zero gradient an optimizer can be in a regime that no run enters: Adam's second moment is 0 there, and
its slope holds for gradients below its eps. So it is also looked at where it works. From the initial state the recorded
gradients g_0 .. g_k of a parameter are given once, and once with the opposite sign. Of the two states that follow, h
and h', the mean

    E_k = (h + h') / 2

keeps what follows the size of gradients (a second moment, a step size that is adapted) and the clock, and loses what
follows their sign (a momentum buffer). In E_k, held, and at zero gradient,

    rate_k       -du/dg, the answer at once to a small gradient
    memory_k     sum_{j >= 1} |r_j| / sum_{j >= 0} |r_j| of the impulse response r of the linearization there

and, for the gradient g that the run met at that step,

    saturation_k    1 - g u'(g) / [u(g) - u(0)]: 0 where twice the gradient gives twice the answer, 1 where it gives the
                    same, as beyond a clip.

For an optimizer that is not odd in (h, g), as networks are, the mean is a state beside those of the run.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float

from reopt.dynamics.batches import argument
from reopt.dynamics.precision import double_precision, to_double
from reopt.dynamics.record import Recording
from reopt.optimizers.base import Optimizer

STEPS = 16  # of the runs, at which it is looked
SHOWN = 3  # of these steps, at which the whole update function is kept
LAGS = 1000  # of the impulse response
FADED = 1e-6  # the last tenth of the lags has less than this share of the whole response: then it has ended
QUANTILES = (0.05, 0.95)  # of the points, the range given beside a median
HALF = 0.5  # saturation from which on an update has levelled off


class OperatingPoint(NamedTuple):
    """`table` has a row a point, `functions` the update functions at the median point of a few steps, whose `states`
    are not stored."""

    table: pd.DataFrame  # met, step, problem, param, rate, memory, saturation, rate_at_end
    functions: pd.DataFrame  # gradient, step, update, slope
    states: Float[np.ndarray, "shown hidden"]

    def spread(self, quantity: str) -> tuple[float, float, float]:
        """Median, and the range that holds 90% of the points at which it could be read; NaN where there is none."""
        known = self.table[quantity].to_numpy(float)
        known = known[np.isfinite(known)]
        if not known.size:
            return np.nan, np.nan, np.nan
        low, median, high = (float(np.quantile(known, level)) for level in (QUANTILES[0], 0.5, QUANTILES[1]))
        return median, low, high

    @property
    def saturated(self) -> float:
        """Share of the gradients met at which the update has levelled off; NaN where none could be read."""
        known = self.table["saturation"].dropna()
        return float((known > HALF).mean()) if len(known) else np.nan

    @property
    def range(self) -> float:
        """(highest - lowest) / highest |rate| over the middle 90% of the points, a clock held."""
        _, low, high = self.spread("rate_at_end")
        largest = max(abs(low), abs(high))
        return (high - low) / largest if largest > 0 else np.nan


def operating_point(
    optimizer: Optimizer, runs: Recording, grid: Float[np.ndarray, " gradient"], *, clock: float
) -> OperatingPoint:
    """The optimizer at `STEPS` steps of the runs whose states were recorded.

    **Arguments:** `grid` are the gradients of the update functions, in units of the gradient.

    Of the table, `met` is the gradient of the run at that step, and `rate_at_end` the rate with a clock held at
    `clock`, so that a schedule is not in it.
    """
    num_steps, few = runs.gradients.shape[0], runs.states.shape[1]
    steps = np.unique(np.linspace(min(1, num_steps - 1), num_steps - 1, STEPS).round().astype(int))
    series = runs.gradients[:, :few].reshape(num_steps, -1).astype(np.float64)
    with double_precision():
        system = to_double(optimizer)
        states = np.asarray(_even_states(system, argument(np.nan_to_num(series))))[steps]
        met = series[steps]
        rows = [np.asarray(a) for a in _look(system, states, met)]
        at_end = states.copy()
        if optimizer.clock is not None:
            at_end[..., optimizer.clock] = clock
        rate_at_end = np.asarray(_slopes(system, at_end, np.zeros_like(met))[1])
        shown = _median_points(rows[0])
        chosen = states[shown[:, 0], shown[:, 1]]
        drawn = [np.asarray(a) for a in _functions(system, chosen, argument(np.asarray(grid, np.float64)))]
    names = np.stack(np.meshgrid(steps, np.arange(few), runs.params, indexing="ij"), axis=-1).reshape(-1, 3)
    table = pd.DataFrame(
        {"met": series[steps].ravel(), **dict(zip(("step", "problem", "param"), names.T, strict=True))}
    ).assign(
        rate=-rows[0].ravel(),
        memory=rows[1].ravel(),
        saturation=rows[2].ravel(),
        rate_at_end=-rate_at_end.ravel(),
    )
    values = ["rate", "memory", "saturation", "rate_at_end"]
    table[values] = table[values].where(np.isfinite(table["met"]))
    functions = pd.DataFrame(
        {
            "gradient": np.tile(grid, len(shown)),
            "step": np.repeat(steps[shown[:, 0]], len(grid)),
            "update": drawn[0].ravel(),
            "slope": drawn[1].ravel(),
        }
    )
    return OperatingPoint(table, functions, chosen)


def even_state_at_end(optimizer: Optimizer, runs: Recording) -> Float[np.ndarray, " hidden"]:
    """E_k before the last step, of the recorded series with the largest sum of squared gradients that is finite."""
    series = runs.gradients[:, : runs.states.shape[1]].reshape(len(runs.gradients), -1).astype(np.float64)
    sizes = np.square(series).sum(axis=0)
    chosen = series[:, [int(np.argmax(np.where(np.isfinite(sizes), sizes, -1.0)))]]
    with double_precision():
        states = _even_states(to_double(optimizer), argument(np.nan_to_num(chosen)))
    return np.asarray(states[-1, 0])


def _median_points(rates: Float[np.ndarray, "step series"]) -> np.ndarray:
    """(step, series) of the points with the median rate at an early, a middle and the last step."""
    chosen = np.unique(np.linspace(0, len(rates) - 1, SHOWN).round().astype(int))
    return np.array([(step, np.argsort(rates[step])[rates.shape[1] // 2]) for step in chosen])


@eqx.filter_jit
def _even_states(optimizer: Optimizer, gradients: Float[Array, "step series"]) -> Float[Array, "step series hidden"]:
    """E_k before each step."""
    first = jnp.asarray(optimizer.initial_state(), gradients.dtype)
    first = jnp.broadcast_to(first, (2, gradients.shape[1], first.size))

    def body(states: Array, gradient: Array) -> tuple[Array, Array]:
        return optimizer.update(states, jnp.stack([gradient, -gradient])), states.mean(axis=0)

    return jax.lax.scan(body, first, gradients)[1]


@eqx.filter_jit
def _slopes(optimizer: Optimizer, states: Array, gradients: Array) -> tuple[Array, Array]:
    """u(g) and du/dg in each state."""
    one = jax.value_and_grad(lambda gradient, state: optimizer(state, gradient)[1])
    return jax.vmap(jax.vmap(one))(gradients, states)


@eqx.filter_jit
def _functions(optimizer: Optimizer, states: Array, grid: Array) -> tuple[Array, Array]:
    one = jax.value_and_grad(lambda gradient, state: optimizer(state, gradient)[1])
    return jax.vmap(lambda state: jax.vmap(one, (0, None))(grid, state))(states)


@eqx.filter_jit
def _look(optimizer: Optimizer, states: Array, gradients: Array) -> tuple[Array, Array, Array]:
    """Slope at zero gradient, memory, and saturation at the gradient met."""
    zero = jnp.zeros((), states.dtype)

    def held(state: Array, before: Array) -> Array:
        """A clock does not run on."""
        return state if optimizer.clock is None else state.at[optimizer.clock].set(before[optimizer.clock])

    def response(state: Array) -> Array:
        def step(at: Array, gradient: Array) -> tuple[Array, Array]:
            after, update = optimizer(at, gradient)
            return held(after, at), update

        _, (moved, at_once) = jax.jvp(lambda gradient: step(state, gradient), (zero,), (jnp.ones_like(zero),))

        def later(tangent: Array, _: None) -> tuple[Array, Array]:
            return jax.jvp(lambda at: step(at, zero), (state,), (tangent,))[1]

        return jnp.append(at_once, jax.lax.scan(later, moved, None, length=LAGS)[1])

    def one(state: Array, gradient: Array) -> tuple[Array, Array, Array]:
        size = jnp.abs(response(state))
        whole, tail = size.sum(), size[-LAGS // 10 :].sum()
        ended = jnp.isfinite(whole) & (whole > 0) & (tail <= FADED * whole)
        memory = jnp.where(ended, size[1:].sum() / whole, jnp.where(whole > 0, 1.0, jnp.nan))
        slope = jax.grad(lambda g: optimizer(state, g)[1])(zero)
        update, there = jax.value_and_grad(lambda g: optimizer(state, g)[1])(gradient)
        answer = update - optimizer(state, zero)[1]
        saturation = 1 - gradient * there / jnp.where(answer == 0, jnp.nan, answer)
        return slope, memory, saturation

    return jax.vmap(jax.vmap(one))(states, gradients)
