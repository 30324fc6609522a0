"""Learned optimizers: a recurrent cell and a linear readout, applied to every parameter (arXiv 2011.02159, s. 3).

    h' = cell(h, features(g)),    dx = output_scale (w^T h' + b)

The initial state h0 is trained; w and b start at zero, so that an untrained optimizer does not move.
"""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from reopt.optimizers.base import Optimizer
from reopt.optimizers.cells import CELLS, Cell, InputFanIn

Features = Literal["raw", "log1p"]
NUM_FEATURES: dict[str, int] = {"raw": 1, "log1p": 2}


class LearnedOptimizer(Optimizer):
    """A cell, its trained initial state, and its readout.

    `features` is "raw": the gradient times `input_scale`, or "log1p": (log(1 + |s g|), sign g).
    """

    cell: Cell
    start: Float[Array, " hidden"]
    readout_weight: Float[Array, " unit"]
    readout_bias: Float[Array, ""]
    input_scale: float = eqx.field(static=True, default=1.0)
    output_scale: float = eqx.field(static=True, default=1.0)
    features: Features = eqx.field(static=True, default="raw")

    @property
    def state_names(self) -> tuple[str, ...]:
        return self.cell.state_names

    def initial_state(self) -> Array:
        return self.start

    def featurize(self, gradient: Float[Array, "*param"]) -> Float[Array, "*param feature"]:
        """What the cell is shown of a gradient."""
        return featurize(gradient, self.features, self.input_scale)

    def update(self, state: Array, gradient: Array) -> Array:
        return self.cell.forward(state, self.featurize(gradient))[0]

    def readout(self, state: Array, gradient: Array) -> Array:
        del gradient
        # A sum of products: on accelerators a matmul would round its inputs.
        read = jnp.sum(state[..., : self.cell.units] * self.readout_weight, axis=-1)
        return self.output_scale * (read + self.readout_bias)


def featurize(gradient: Float[Array, "*param"], features: Features, scale: float) -> Float[Array, "*param feature"]:
    """s g ("raw"), or log(1 + |s g|) and sign g ("log1p"), with s the scale."""
    scaled = scale * gradient
    if features == "raw":
        return scaled[..., None]
    return jnp.stack([jnp.log1p(jnp.abs(scaled)), jnp.sign(scaled)], axis=-1)


def create_learned(
    key: PRNGKeyArray,
    *,
    cell: str,
    units: int,
    input_scale: float = 1.0,
    output_scale: float = 1.0,
    features: Features = "raw",
    input_fan_in: InputFanIn = "units",
) -> LearnedOptimizer:
    """An untrained learned optimizer, float32.

    **Arguments:** `cell` is a name in `CELLS`; `units` its number of hidden units; the scales and `features` as in
    `LearnedOptimizer`; `input_fan_in` as in `reopt.optimizers.cells`.
    """
    recurrent = CELLS[cell].create(key, NUM_FEATURES[features], units, input_fan_in)
    return LearnedOptimizer(
        cell=recurrent,
        start=jnp.zeros(len(recurrent.state_names), jnp.float32),
        readout_weight=jnp.zeros(units, jnp.float32),
        readout_bias=jnp.zeros((), jnp.float32),
        input_scale=input_scale,
        output_scale=output_scale,
        features=features,
    )


def cast(optimizer: Optimizer, dtype: jnp.dtype) -> Optimizer:
    """The same optimizer with its floating-point arrays in `dtype` (float64 for analysis)."""

    def convert(leaf):
        return leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf

    return jax.tree.map(convert, optimizer)
