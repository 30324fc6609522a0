"""How an optimizer mixes what its linear accumulators keep of the gradient.

A component of the state is a linear accumulator where h' = b h + c g in the state that was met. The readout's slope k
by it says how far the update follows it, and k c / (1 - b) what it adds to the update in the long run for a gradient
that stays at 1; the slope by the gradient itself is what is added at once. Each is given as a share of the sum of the
sizes of all, with its sign, so that a share of 1 / 3 of each of three accumulators is their mean. Contexts are held.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float

from reopt.optimizers.joint import Inputs, Joint, Layout, State, slice_of

DIRECT = "direct"
LINEAR = 1e-9  # share of a slope that counts as rounding


class Slopes(eqx.Module):
    """Of points: of the state after the step by that before and by the gradient, and of the update by both."""

    state: Float[Array, "point hidden hidden"]
    gradient: Float[Array, "point hidden"]
    mirrored: Float[Array, "point hidden"]  # h'(h, g) + h'(-h, -g), 0 of what is linear
    readout: Float[Array, "point hidden"]
    direct: Float[Array, " point"]
    size: Float[Array, "point hidden"]


@eqx.filter_jit
def _slopes(joint: Joint, layout: Layout, states: State, inputs: Inputs, params: Array) -> Slopes:
    def at(given: tuple[State, Inputs, Array]) -> Slopes:
        state, one, param = given
        context, _ = joint.sense(layout, state, one)
        alone = joint.one(slice_of(context, (0, param)))
        h, g = state.own[0, param], one.gradient[0, param]
        after = alone.update(h, g)
        by_state, by_gradient = jax.jacfwd(alone.update, (0, 1))(h, g)
        readout, direct = jax.jacfwd(alone.readout, (0, 1))(after, g)
        return Slopes(by_state, by_gradient, after + alone.update(-h, -g), readout, direct, jnp.abs(after))

    return jax.lax.map(at, (states, inputs, params))


def _names(joint: Joint, layout: Layout, states: State, inputs: Inputs) -> tuple[str, ...]:
    """Of the components of a parameter's state."""
    state, one = jax.tree.map(lambda leaf: leaf[0], (states, inputs))
    return eqx.filter_eval_shape(lambda: joint.one(slice_of(joint.sense(layout, state, one)[0], (0, 0)))).state_names


def read_mixture(
    joint: Joint, layout: Layout, states: State, inputs: Inputs, params: Array, steps: np.ndarray
) -> pd.DataFrame:
    """A row a step and accumulator: step, accumulator, decay, share, low, high (median and quartiles over points).

    Empty where no component of the state is a linear accumulator at all points.

    **Arguments:** of each point the problem's state and what it was given, each with an axis of 1 behind that of the
    points, which parameter it is, and the step.
    """
    nothing = pd.DataFrame(columns=["step", "accumulator", "decay", "share", "low", "high"])
    names = _names(joint, layout, states, inputs)
    if not names:
        return nothing
    found = _slopes(joint, layout, states, inputs, params)
    by_state, by_gradient = np.asarray(found.state), np.asarray(found.gradient)
    own = np.diagonal(by_state, axis1=1, axis2=2)
    others = np.abs(by_state - own[:, :, None] * np.eye(own.shape[1])).max(axis=2)
    fixed = np.abs(np.asarray(found.mirrored)) <= LINEAR * np.asarray(found.size)
    linear = (others <= LINEAR * np.abs(own)) & fixed & (by_gradient != 0) & (np.abs(own) < 1)
    chosen = np.flatnonzero(linear.all(axis=0))
    if not chosen.size:
        return nothing
    decays = own[:, chosen]
    long_run = np.asarray(found.readout)[:, chosen] * by_gradient[:, chosen] / (1 - decays)
    gains = -np.concatenate([long_run, np.asarray(found.direct)[:, None]], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = gains / np.abs(gains).sum(axis=1, keepdims=True)
    rows = []
    for step in np.unique(steps):
        here = shares[steps == step]
        here = here[np.isfinite(here).all(axis=1)]
        if not len(here):
            continue
        low, middle, high = np.quantile(here, [0.25, 0.5, 0.75], axis=0)
        for i, name in enumerate([*(names[j] for j in chosen), DIRECT]):
            decay = float(np.median(decays[steps == step, i])) if name != DIRECT else np.nan
            rows.append((int(step), name, decay, middle[i], low[i], high[i]))
    return pd.DataFrame(rows, columns=["step", "accumulator", "decay", "share", "low", "high"])
