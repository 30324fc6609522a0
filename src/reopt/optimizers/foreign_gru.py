"""Recurrent optimizers saved by other code: the weights of a GRU and its readout in a plain `.npz` file.

    x = features(g),    h' = GRU(x, h),    dx = output_scale (w . h' + b)

Two conventions are in use, told apart by the file's entry `convention`; docs/foreign.md lists the entries of each.

- "paper" (arXiv 2011.02159 and its code): with gates z (update), r (reset) and candidate c, each A x + W h + b,

      z = sigmoid(A_z x + W_z h + b_z),  r = sigmoid(A_r x + W_r h + b_r),  c = tanh(A_c x + W_c (r h) + b_c),
      h' = z h + (1 - z) c.

- "pytorch" or, the same, "cudnn" (torch.nn.GRU): rows of the weights stacked in the order r, z, n, two biases,

      r = sigmoid(W_ir x + b_ir + W_hr h + b_hr),  z = sigmoid(W_iz x + b_iz + W_hz h + b_hz),
      n = tanh(W_in x + b_in + r (W_hn h + b_hn)),  h' = (1 - z) n + z h.

In the first the reset gate acts on h before the matmul, in the second on its result.
"""

from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from reopt.core.errors import ReoptError
from reopt.core.tables import read_arrays
from reopt.optimizers.base import Optimizer
from reopt.optimizers.learned import NUM_FEATURES, Features, featurize

Convention = Literal["paper", "pytorch"]
CONVENTIONS: dict[str, Convention] = {"paper": "paper", "pytorch": "pytorch", "cudnn": "pytorch"}
GATES = ("update_gate", "reset_gate", "cell_state")  # of the paper's code, each with A, W, b


class ForeignGRU(Optimizer):
    """A GRU of either convention with its readout; made by `load_npz`. Gates are stacked in the order r, z, n.

    Weights are numpy arrays, for they keep float64 where jax has it switched off; a step is computed in the state's
    type.
    """

    input: Float[np.ndarray, "feature 3*unit"]
    recurrent: Float[np.ndarray, "unit 3*unit"]
    input_bias: Float[np.ndarray, " 3*unit"]
    recurrent_bias: Float[np.ndarray, " 3*unit"]
    start: Float[np.ndarray, " unit"]
    readout_weight: Float[np.ndarray, " unit"]
    readout_bias: Float[np.ndarray, ""]
    input_scale: float = eqx.field(static=True, default=1.0)
    output_scale: float = eqx.field(static=True, default=1.0)
    features: Features = eqx.field(static=True, default="raw")
    convention: Convention = eqx.field(static=True, default="paper")

    @property
    def state_names(self) -> tuple[str, ...]:
        return tuple(f"h{i}" for i in range(self.recurrent.shape[0]))

    def initial_state(self) -> Array:
        return jnp.asarray(self.start)

    def update(self, state: Array, gradient: Array) -> Array:
        recurrent, bias = jnp.asarray(self.recurrent, state.dtype), jnp.asarray(self.recurrent_bias, state.dtype)
        features = featurize(gradient.astype(state.dtype), self.features, self.input_scale)
        given = features @ jnp.asarray(self.input, state.dtype)
        given = given + jnp.asarray(self.input_bias, state.dtype)
        gates = 2 * state.shape[-1]
        reset, keep = jnp.split(
            jax.nn.sigmoid(given[..., :gates] + state @ recurrent[:, :gates] + bias[:gates]), 2, axis=-1
        )
        if self.convention == "paper":
            recalled = (reset * state) @ recurrent[:, gates:] + bias[gates:]
        else:
            recalled = reset * (state @ recurrent[:, gates:] + bias[gates:])
        new = jnp.tanh(given[..., gates:] + recalled)
        return new + keep * (state - new)

    def readout(self, state: Array, gradient: Array) -> Array:
        del gradient
        weight, bias = (jnp.asarray(part, state.dtype) for part in (self.readout_weight, self.readout_bias))
        return self.output_scale * (jnp.sum(state * weight, axis=-1) + bias)


def load_npz(path: Path | str) -> ForeignGRU:
    """The optimizer in `path`, an `.npz` file without pickled objects, see docs/foreign.md for its entries.

    **Raises** `ReoptError` where an entry is missing, unknown, misshapen, of another type, or not finite.
    """
    arrays = _Entries(path, read_arrays(path))
    convention = arrays.word("convention", tuple(CONVENTIONS))
    features = arrays.word("features", tuple(NUM_FEATURES), "raw")
    seen = NUM_FEATURES[features]
    if CONVENTIONS[convention] == "paper":
        units = arrays.units("update_gate.b", 1)
        by_gate = [
            [arrays.take(f"{gate}.{part}", shape) for gate in ("reset_gate", "update_gate", "cell_state")]
            for part, shape in (("A", (units, seen)), ("W", (units, units)), ("b", (units,)))
        ]
        weight_in, weight_rec, bias_in = (np.concatenate(parts) for parts in by_gate)
        bias_rec = np.zeros_like(bias_in)
    else:
        layer = "_l0" if "weight_hh_l0" in arrays.found else ""
        units = arrays.units(f"weight_hh{layer}", 3)
        weight_in = arrays.take(f"weight_ih{layer}", (3 * units, seen))
        weight_rec = arrays.take(f"weight_hh{layer}", (3 * units, units))
        bias_in = arrays.take(f"bias_ih{layer}", (3 * units,))
        bias_rec = arrays.take(f"bias_hh{layer}", (3 * units,))
    optimizer = ForeignGRU(
        input=weight_in.T,
        recurrent=weight_rec.T,
        input_bias=bias_in,
        recurrent_bias=bias_rec,
        start=arrays.take("initial_state", (units,), np.zeros(units, weight_rec.dtype)),
        readout_weight=arrays.take("readout_weight", (units,), alike=((1, units), (units, 1))),
        readout_bias=arrays.take("readout_bias", (), alike=((1,),)),
        input_scale=float(arrays.take("input_scale", (), np.ones(()), alike=((1,),))),
        output_scale=float(arrays.take("output_scale", (), np.ones(()), alike=((1,),))),
        features=features,
        convention=CONVENTIONS[convention],
    )
    arrays.nothing_left()
    return optimizer


class _Entries:
    """The entries of a file, taken one by one; what is left in the end is unknown."""

    def __init__(self, path: Path | str, found: dict[str, np.ndarray]) -> None:
        self.path, self.found, self.taken = path, found, set[str]()

    def _entry(self, name: str) -> np.ndarray:
        if name not in self.found:
            raise ReoptError(f"{self.path} has no {name!r}; docs/foreign.md lists what a file of weights holds")
        self.taken.add(name)
        return self.found[name]

    def word(self, name: str, allowed: tuple[str, ...], default: str | None = None) -> Any:
        """A text entry, one of `allowed`."""
        if default is not None and name not in self.found:
            return default
        value = self._entry(name)
        word = str(value.reshape(-1)[0]) if value.dtype.kind in "US" and value.size == 1 else None
        word = value.reshape(-1)[0].decode("ascii", "replace") if word and value.dtype.kind == "S" else word
        if word not in allowed:
            raise ReoptError(f"{self.path}: {name!r} must be one of the texts {', '.join(allowed)}")
        return word

    def units(self, name: str, gates: int) -> int:
        """Number of units, from an entry with `gates` rows a unit."""
        shape = self._entry(name).shape
        if not shape or shape[0] == 0 or shape[0] % gates:
            raise ReoptError(f"{self.path}: {name!r} has shape {shape}, but needs {gates} row(s) a unit")
        return shape[0] // gates

    def take(
        self,
        name: str,
        shape: tuple[int, ...],
        default: np.ndarray | None = None,
        alike: tuple[tuple[int, ...], ...] = (),
    ) -> np.ndarray:
        """A floating-point entry of this shape, or of one of those `alike`, finite; at least float32."""
        if default is not None and name not in self.found:
            return default
        value = self._entry(name)
        if value.dtype.kind not in "fiu":
            raise ReoptError(f"{self.path}: {name!r} is of type {value.dtype}, not of numbers")
        if value.shape not in (shape, *alike):
            raise ReoptError(f"{self.path}: {name!r} has shape {value.shape}, but must have {shape}")
        if not np.isfinite(value).all():
            raise ReoptError(f"{self.path}: {name!r} holds values that are not finite")
        wanted = value.dtype if value.dtype in (np.float32, np.float64) else np.dtype(np.float64)
        return value.astype(wanted).reshape(shape)

    def nothing_left(self) -> None:
        """**Raises** `ReoptError` for an entry that nobody asked for: a misspelt optional one, or another layer's."""
        if left := sorted(set(self.found) - self.taken):
            raise ReoptError(f"{self.path} holds {left[0]!r}, which is no entry of this convention")
