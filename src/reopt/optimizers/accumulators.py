"""What STAR, VeLO and their kin keep of the gradients of a parameter, and the features that they make of it.

Own state: momenta and a second moment, and averages of squared gradients over the parameter's row and column, each at
given decays. In a slice what the others contribute to an average over row, column or array is held, and the
parameter's own part enters exactly: of an array with few parameters it is most of the average. What the others feel of
its gradient, through row and column, is held.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from reopt.optimizers.joint import Layout

EPS = 1e-6  # under the root of a second moment
ROOT = 1e-8  # under that of an average of a row or column
TINY = 1e-9  # beside what is divided by
FLOOR = 1e-5  # under the root of a feature's mean square
FEATURES = 28


class Decays(NamedTuple):
    """Of momenta, of the second moment, and of the averages of rows and columns."""

    momentum: Float[Array, " decay"]
    second: Float[Array, ""]
    factored: Float[Array, " decay"]


class Sensed(NamedTuple):
    """What a parameter is told of its array.

    `rest_row` and `rest_column` are the means of squared gradients without its own, times what share of the mean they
    are; `share_row` and `share_column` the share of its own square in them; `rest_mean` is what the other rows
    contribute to the mean over the array of each average of rows, of which its own row is `share_column`;
    `rest_squares` what the others contribute to the mean square of each feature over the array, of which its own is
    `share`; `param` its value.
    """

    rest_row: Float[Array, "*param"]
    rest_column: Float[Array, "*param"]
    share_row: Float[Array, "*param"]
    share_column: Float[Array, "*param"]
    rest_mean: Float[Array, "*param decay"]
    share: Float[Array, "*param"]
    rest_squares: Float[Array, "*param feature"]
    param: Float[Array, "*param"]


class Own(NamedTuple):
    """The state of a parameter, by its parts."""

    momentum: Float[Array, "*param decay"]
    second: Float[Array, "*param"]
    row: Float[Array, "*param decay"]
    column: Float[Array, "*param decay"]


def names(decays: int) -> tuple[str, ...]:
    """Of the components of a state with so many decays."""
    return (
        *(f"momentum[{i}]" for i in range(decays)),
        "second",
        *(f"{name}[{i}]" for name in ("row", "column") for i in range(decays)),
    )


def parts(state: Float[Array, "*param hidden"]) -> Own:
    """The parts of a state."""
    decays = (state.shape[-1] - 1) // 3
    return Own(
        state[..., :decays],
        state[..., decays],
        state[..., decays + 1 : 2 * decays + 1],
        state[..., 2 * decays + 1 :],
    )


def accumulate(state: Array, gradient: Array, told: Sensed, decays: Decays) -> Array:
    """F(h, g): every accumulator a step on."""
    old, square = parts(state), jnp.square(gradient)
    row = told.rest_row + told.share_row * square
    column = told.rest_column + told.share_column * square
    pairs = (
        (old.momentum, decays.momentum, gradient[..., None]),
        (old.second[..., None], decays.second, square[..., None]),
        (old.row, decays.factored, row[..., None]),
        (old.column, decays.factored, column[..., None]),
    )
    moved = []
    for kept, decay, new in pairs:
        share = jnp.asarray(decay, state.dtype)
        moved.append(share * kept + (1 - share) * new)
    return jnp.concatenate(moved, axis=-1)


def features(state: Array, gradient: Array, told: Sensed) -> Float[Array, "*param feature"]:
    """The 28 features that STAR and VeLO share, of the state after the step, before they are divided by their scale.

    The gradient, the value, momenta, second moment, momenta and 1 over its root, gradient and momenta by the factored
    estimate, averages of row and column and 1 over their roots. A vector's factored estimate is its own.
    """
    own = parts(state)
    root = jnp.sqrt(own.second + EPS)[..., None]
    vector = ((told.share_row == 1) & (told.share_column == 1))[..., None]
    mean = told.rest_mean + told.share_column[..., None] * own.row
    estimate = jnp.where(vector, own.row, own.row * own.column / (mean + TINY))
    factored = 1 / jnp.sqrt(estimate + TINY)
    return jnp.concatenate(
        [
            gradient[..., None],
            told.param[..., None],
            own.momentum,
            own.second[..., None],
            own.momentum / root,
            1 / root,
            gradient[..., None] * factored,
            own.row,
            own.column,
            1 / jnp.sqrt(own.row + ROOT),
            1 / jnp.sqrt(own.column + ROOT),
            own.momentum * factored,
        ],
        axis=-1,
    )


def in_units(raw: Float[Array, "*param feature"], told: Sensed) -> Float[Array, "*param feature"]:
    """Features divided by the root of their mean square over the array."""
    return raw / jnp.sqrt(FLOOR + told.rest_squares + told.share[..., None] * jnp.square(raw))


def sense(
    layout: Layout,
    state: Array,
    gradient: Array,
    param: Array,
    decays: Decays,
    made: Callable[[Array, Array, Sensed], Array] = features,
) -> Sensed:
    """What each parameter is told; `made` makes the features of states, gradients and what is told but their scale."""
    square, shape = jnp.square(gradient), gradient.shape
    row, column, array = (
        jnp.broadcast_to(jnp.asarray(1 / count, square.dtype), shape)
        for count in (layout.row_size(), layout.column_size(), np.repeat(layout.sizes, layout.sizes))
    )
    blank = jnp.ones((*shape, len(decays.factored)), square.dtype)
    told = Sensed(
        layout.row_mean(square) - row * square,
        layout.column_mean(square) - column * square,
        row,
        column,
        blank,
        array,
        blank,
        param,
    )
    after = accumulate(state, gradient, told, decays)
    own = parts(after).row
    told = told._replace(rest_mean=_rest(_each(layout.matrix_mean, own), column[..., None] * own))
    squares = jnp.square(made(after, gradient, told))
    return told._replace(rest_squares=_rest(_each(layout.array_mean, squares), array[..., None] * squares))


def _rest(mean: Array, own: Array) -> Array:
    """A mean without its own part; rounding leaves less than nothing of it where the own part is all."""
    return jnp.maximum(mean - own, 0)


def _each(average: Callable[[Array], Array], values: Float[Array, "*param feature"]) -> Array:
    """An average of each feature."""
    return jnp.moveaxis(average(jnp.moveaxis(values, -1, 0)), 0, -1)


def start(decays: int, params: Array) -> Array:
    """Empty accumulators."""
    return jnp.zeros((*params.shape, len(names(decays))), params.dtype)


def with_logs(logs: Array, scale: float) -> Array:
    """The decay that log(1 - decay) / `scale` says."""
    return 1 - jnp.exp(scale * logs)


def logs_of(decays: float | tuple[float, ...], scale: float) -> Array:
    """log(1 - decay) / `scale`."""
    return jnp.asarray(np.log(1 - np.asarray(decays, float)) / scale, jnp.float32)
