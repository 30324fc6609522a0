"""Optim4RL: the form of RMSProp with two recurrent networks in it (Lan, Mahmood, Yan and Xu 2023, arXiv 2302.01470).

    dx = -lr sign(g) exp(o1) / sqrt(exp(o2) + 1e-8)

with o1 and o2 linear in the states of two GRUs, of which one is fed g and the other g^2; no derivative goes through g.
It is component-wise. With `log_inputs` both are fed (log(|g| + 1e-8) + 8) / 3 in their place, for gradients far below
1.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from reopt.optimizers.base import Optimizer
from reopt.optimizers.cells import CELLS, Cell

EPS = 1e-8
UNITS = 8
SHIFT, WIDTH = 8.0, 3.0  # of the logarithm


class Optim4RL(Optimizer):
    """The optimizer; `first` makes o1, `second` o2, both from empty states."""

    first: Cell
    second: Cell
    first_readout: Float[Array, " unit"]
    second_readout: Float[Array, " unit"]
    biases: Float[Array, " two"]
    learning_rate: float = eqx.field(static=True, default=0.01)
    log_inputs: bool = eqx.field(static=True, default=False)

    @property
    def state_names(self) -> tuple[str, ...]:
        return tuple(f"{cell}[{i}]" for cell in ("first", "second") for i in range(self.first.units))

    def initial_state(self) -> Array:
        return jnp.zeros(len(self.state_names))

    def update(self, state: Array, gradient: Array) -> Array:
        gradient = jax.lax.stop_gradient(gradient)
        if self.log_inputs:
            shown = [(jnp.log(jnp.abs(gradient) + EPS) + SHIFT) / WIDTH] * 2
        else:
            shown = [gradient, jnp.square(gradient)]
        states = jnp.split(state, 2, axis=-1)
        cells = (self.first, self.second)
        moved = [cell.forward(h, x[..., None])[0] for cell, h, x in zip(cells, states, shown, strict=True)]
        return jnp.concatenate(moved, axis=-1)

    def readout(self, state: Array, gradient: Array) -> Array:
        # Sums of products: on accelerators a matmul would round its inputs.
        first, second = (
            jnp.sum(part * weight, axis=-1)
            for part, weight in zip(
                jnp.split(state, 2, axis=-1), (self.first_readout, self.second_readout), strict=True
            )
        )
        size = jnp.exp(first + self.biases[0]) / jnp.sqrt(jnp.exp(second + self.biases[1]) + EPS)
        return -self.learning_rate * jnp.sign(jax.lax.stop_gradient(gradient)) * size


def create_optim4rl(key: PRNGKeyArray, *, learning_rate: float = 0.01, log_inputs: bool = False) -> Optim4RL:
    """Optim4RL before meta-training: sign descent at `learning_rate`, for its readouts are 0.

    Published, the readouts begin at random, and the cells reset after their matrix product, not before.
    """
    keys = jax.random.split(key, 2)
    first, second = (CELLS["gru"].create(one, 1, UNITS, "inputs") for one in keys)
    return Optim4RL(first, second, jnp.zeros(UNITS), jnp.zeros(UNITS), jnp.zeros(2), learning_rate, log_inputs)
