"""Recurrent cells: GRU as in the paper, LSTM, and vanilla RNN.

A cell maps (state, features) to the next state, row by row; only its leading `units` components are read out.
Beside the forward map each cell carries its own reverse pass, split in two so that meta-training can do the
sequential part step by step and the weight gradients of many steps as one large matmul:

    layout             = cell.layout()                             once for many steps
    state', saved      = cell.forward(state, features, layout)
    dstate, dfeatures, deltas = cell.backward(layout, saved, state, dstate')       one step, no weight gradient
    dcell              = cell.weight_gradient(state, features, saved, deltas)  any number of steps at once

`deltas` is the cotangent of the pre-activations. Weights: input weights `(feature, gate*unit)`, recurrent weights
`(unit, gate*unit)`, one bias a gate, which start at zero. Both weights start normal with variance 1 / fan-in. For input
weights the paper's code takes the number of units for the fan-in (it stores them as (unit, feature), and JAX's
variance scaling counts the axis before the last); `input_fan_in="inputs"` takes the number of features, by which they
start sqrt(units / features) times larger.
"""

from abc import abstractmethod
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

Saved = Any  # what the forward pass of a cell keeps for the reverse pass
InputFanIn = Literal["units", "inputs"]


def _dense(key: PRNGKeyArray, inputs: int, units: int, gates: int, fan_in: int) -> Float[Array, "input gate_unit"]:
    return jax.random.normal(key, (inputs, gates * units), jnp.float32) / jnp.sqrt(jnp.float32(fan_in))


def _turned(rows: Float[Array, "*row left"]) -> Float[Array, "left all_rows"]:
    """All rows as columns, laid out so: on a CPU, a matmul of arrays that it has to turn itself is slower."""
    return jax.lax.optimization_barrier(rows.reshape(-1, rows.shape[-1]).T)


def _outer(turned: Float[Array, "left all_rows"], columns: Float[Array, "*row right"]) -> Float[Array, "left right"]:
    """Sum over rows of the outer products: one matmul."""
    return turned @ columns.reshape(-1, columns.shape[-1])


def _total(rows: Float[Array, "*row unit"]) -> Float[Array, " unit"]:
    return jnp.sum(rows.reshape(-1, rows.shape[-1]), axis=0)


class Cell(eqx.Module):
    """A recurrent cell; `units` hidden units are read out, the state may hold more."""

    @property
    @abstractmethod
    def units(self) -> int:
        """Number of units that the readout sees: the leading components of the state."""

    @property
    @abstractmethod
    def state_names(self) -> tuple[str, ...]:
        """A name for each component of the state."""

    @abstractmethod
    def layout(self) -> Any:
        """The recurrent weights as both directions multiply by them."""

    @abstractmethod
    def forward(self, state: Array, features: Array, layout: Any = None) -> tuple[Array, Saved]:
        """The next state, and what `backward` needs of this step."""

    @abstractmethod
    def backward(self, layout: Any, saved: Saved, state: Array, cotangent: Array) -> tuple[Array, Array, Any]:
        """Cotangents of state and features, and of the pre-activations, from that of the next state."""

    @abstractmethod
    def weight_gradient(self, state: Array, features: Array, saved: Saved, deltas: Any) -> "Cell":
        """Gradient with respect to the weights, summed over all leading axes."""


class GRU(Cell):
    """z, r = sigmoid(A x + W h + b);  c = tanh(A_c x + W_c (r h) + b_c);  h' = z h + (1 - z) c.

    As in the paper's code: the reset gate acts on h before the recurrent matmul, unlike cuDNN's GRU.
    """

    input_gates: Float[Array, "feature 2*unit"]
    recurrent_gates: Float[Array, "unit 2*unit"]
    bias_gates: Float[Array, " 2*unit"]
    input_candidate: Float[Array, "feature unit"]
    recurrent_candidate: Float[Array, "unit unit"]
    bias_candidate: Float[Array, " unit"]

    @classmethod
    def create(cls, key: PRNGKeyArray, num_features: int, units: int, input_fan_in: InputFanIn = "units") -> "GRU":
        keys = jax.random.split(key, 4)
        fan_in = units if input_fan_in == "units" else num_features
        return cls(
            input_gates=_dense(keys[0], num_features, units, 2, fan_in),
            recurrent_gates=_dense(keys[1], units, units, 2, units),
            bias_gates=jnp.zeros(2 * units, jnp.float32),
            input_candidate=_dense(keys[2], num_features, units, 1, fan_in),
            recurrent_candidate=_dense(keys[3], units, units, 1, units),
            bias_candidate=jnp.zeros(units, jnp.float32),
        )

    @property
    def units(self) -> int:
        return self.recurrent_candidate.shape[0]

    @property
    def state_names(self) -> tuple[str, ...]:
        return tuple(f"h{i}" for i in range(self.units))

    # The two gates are computed, kept and differentiated apart: joining and parting their arrays at every step costs
    # a small network more than one matmul instead of two saves.

    def layout(self) -> tuple[tuple[Array, Array], tuple[Array, Array, Array]]:
        update, reset = jnp.split(self.recurrent_gates, 2, axis=-1)
        return (update, reset), (update.T, reset.T, self.recurrent_candidate.T)

    def forward(self, state: Array, features: Array, layout: Any = None) -> tuple[Array, Saved]:
        (recurrent_update, recurrent_reset), _ = layout or self.layout()

        def gate(recurrent: Array, part: slice) -> Array:
            return jax.nn.sigmoid(state @ recurrent + features @ self.input_gates[:, part] + self.bias_gates[part])

        update = gate(recurrent_update, slice(None, self.units))
        reset = gate(recurrent_reset, slice(self.units, None))
        candidate = jnp.tanh(
            (reset * state) @ self.recurrent_candidate + features @ self.input_candidate + self.bias_candidate
        )
        return candidate + update * (state - candidate), (update, reset, candidate)

    def backward(self, layout: Any, saved: Saved, state: Array, cotangent: Array) -> tuple[Array, Array, Any]:
        (update, reset, candidate), (_, (recurrent_update, recurrent_reset, recurrent_candidate)) = saved, layout
        input_update, input_reset = jnp.split(self.input_gates, 2, axis=-1)
        d_candidate = cotangent * (1 - update) * (1 - jnp.square(candidate))
        d_update = cotangent * (state - candidate) * update * (1 - update)
        d_reset_state = d_candidate @ recurrent_candidate
        d_reset = d_reset_state * state * reset * (1 - reset)
        d_state = cotangent * update + d_reset_state * reset + d_update @ recurrent_update + d_reset @ recurrent_reset
        d_features = d_candidate @ self.input_candidate.T + d_update @ input_update.T + d_reset @ input_reset.T
        return d_state, d_features, (d_update, d_reset, d_candidate)

    def weight_gradient(self, state: Array, features: Array, saved: Saved, deltas: Any) -> "GRU":
        (_, reset, _), (d_update, d_reset, d_candidate) = saved, deltas

        def both(turned: Array) -> Array:
            return jnp.concatenate([_outer(turned, d_update), _outer(turned, d_reset)], axis=-1)

        return GRU(
            input_gates=both(_turned(features)),
            recurrent_gates=both(_turned(state)),
            bias_gates=jnp.concatenate([_total(d_update), _total(d_reset)]),
            input_candidate=_outer(_turned(features), d_candidate),
            recurrent_candidate=_outer(_turned(reset * state), d_candidate),
            bias_candidate=_total(d_candidate),
        )


class LSTM(Cell):
    """i, f, o = sigmoid, g = tanh of A x + W h + b (f with 1 added);  c' = f c + i g;  h' = o tanh(c').

    The state is h followed by c.
    """

    input: Float[Array, "feature 4*unit"]
    recurrent: Float[Array, "unit 4*unit"]
    bias: Float[Array, " 4*unit"]

    @classmethod
    def create(cls, key: PRNGKeyArray, num_features: int, units: int, input_fan_in: InputFanIn = "units") -> "LSTM":
        keys = jax.random.split(key, 2)
        return cls(
            input=_dense(keys[0], num_features, units, 4, units if input_fan_in == "units" else num_features),
            recurrent=_dense(keys[1], units, units, 4, units),
            bias=jnp.zeros(4 * units, jnp.float32),
        )

    @property
    def units(self) -> int:
        return self.recurrent.shape[0]

    @property
    def state_names(self) -> tuple[str, ...]:
        return tuple(f"{part}{i}" for part in "hc" for i in range(self.units))

    def forward(self, state: Array, features: Array, layout: Array | None = None) -> tuple[Array, Saved]:
        del layout
        hidden, memory = jnp.split(state, 2, axis=-1)
        pre = hidden @ self.recurrent + features @ self.input + self.bias
        i, f, o, g = jnp.split(pre, 4, axis=-1)
        i, f, o, g = jax.nn.sigmoid(i), jax.nn.sigmoid(f + 1), jax.nn.sigmoid(o), jnp.tanh(g)
        memory = f * memory + i * g
        squashed = jnp.tanh(memory)
        return jnp.concatenate([o * squashed, memory], axis=-1), (i, f, o, g, squashed)

    def layout(self) -> Array:
        return self.recurrent.T

    def backward(self, layout: Array, saved: Saved, state: Array, cotangent: Array) -> tuple[Array, Array, Any]:
        i, f, o, g, squashed = saved
        d_hidden, d_memory = jnp.split(cotangent, 2, axis=-1)
        d_memory = d_memory + d_hidden * o * (1 - jnp.square(squashed))
        memory = state[..., self.units :]
        deltas = jnp.concatenate(
            [
                d_memory * g * i * (1 - i),
                d_memory * memory * f * (1 - f),
                d_hidden * squashed * o * (1 - o),
                d_memory * i * (1 - jnp.square(g)),
            ],
            axis=-1,
        )
        d_state = jnp.concatenate([deltas @ layout, d_memory * f], axis=-1)
        return d_state, deltas @ self.input.T, deltas

    def weight_gradient(self, state: Array, features: Array, saved: Saved, deltas: Any) -> "LSTM":
        del saved
        hidden = state[..., : self.units]
        return LSTM(
            input=_outer(_turned(features), deltas), recurrent=_outer(_turned(hidden), deltas), bias=_total(deltas)
        )


class VanillaRNN(Cell):
    """h' = tanh(A x + W h + b)."""

    input: Float[Array, "feature unit"]
    recurrent: Float[Array, "unit unit"]
    bias: Float[Array, " unit"]

    @classmethod
    def create(
        cls, key: PRNGKeyArray, num_features: int, units: int, input_fan_in: InputFanIn = "units"
    ) -> "VanillaRNN":
        keys = jax.random.split(key, 2)
        return cls(
            input=_dense(keys[0], num_features, units, 1, units if input_fan_in == "units" else num_features),
            recurrent=_dense(keys[1], units, units, 1, units),
            bias=jnp.zeros(units, jnp.float32),
        )

    @property
    def units(self) -> int:
        return self.recurrent.shape[0]

    @property
    def state_names(self) -> tuple[str, ...]:
        return tuple(f"h{i}" for i in range(self.units))

    def forward(self, state: Array, features: Array, layout: Array | None = None) -> tuple[Array, Saved]:
        del layout
        state = jnp.tanh(state @ self.recurrent + features @ self.input + self.bias)
        return state, (state,)

    def layout(self) -> Array:
        return self.recurrent.T

    def backward(self, layout: Array, saved: Saved, state: Array, cotangent: Array) -> tuple[Array, Array, Any]:
        del state
        deltas = cotangent * (1 - jnp.square(saved[0]))
        return deltas @ layout, deltas @ self.input.T, deltas

    def weight_gradient(self, state: Array, features: Array, saved: Saved, deltas: Any) -> "VanillaRNN":
        del saved
        recurrent = _outer(_turned(state), deltas)
        return VanillaRNN(input=_outer(_turned(features), deltas), recurrent=recurrent, bias=_total(deltas))


CELLS: dict[str, type[GRU] | type[LSTM] | type[VanillaRNN]] = {"gru": GRU, "lstm": LSTM, "vanilla": VanillaRNN}
