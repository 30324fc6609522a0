"""GRU weights saved by other code: each convention against its own equations, written in numpy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Array

from reopt.core.errors import ReoptError
from reopt.mechanisms.update_function import evaluate_update_functions
from reopt.optimizers.base import Optimizer
from reopt.optimizers.cells import GRU
from reopt.optimizers.foreign_gru import load_npz
from reopt.optimizers.learned import LearnedOptimizer
from reopt.pipeline.subjects import resolve
from reopt.tasks.quadratic import Quadratic

UNITS = 7
SCALES = ((0.3, 0.7), (2.6, 0.013))  # of input and output; few, for each is a compiled program of its own


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def features_of(gradient: float, entries: dict) -> np.ndarray:
    scaled = float(entries.get("input_scale", 1.0)) * gradient
    if entries.get("features", "raw") == "raw":
        return np.array([scaled])
    return np.array([np.log1p(np.abs(scaled)), np.sign(scaled)])


def paper_step(entries: dict, h: np.ndarray, x: np.ndarray) -> np.ndarray:
    def gate(name: str, h: np.ndarray) -> np.ndarray:
        return entries[f"{name}.A"] @ x + entries[f"{name}.W"] @ h + entries[f"{name}.b"]

    z, r = sigmoid(gate("update_gate", h)), sigmoid(gate("reset_gate", h))
    return z * h + (1 - z) * np.tanh(gate("cell_state", r * h))


def pytorch_step(entries: dict, h: np.ndarray, x: np.ndarray) -> np.ndarray:
    (w_ir, w_iz, w_in), (w_hr, w_hz, w_hn), (b_ir, b_iz, b_in), (b_hr, b_hz, b_hn) = (
        np.split(entries[name], 3) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    r = sigmoid(w_ir @ x + b_ir + w_hr @ h + b_hr)
    z = sigmoid(w_iz @ x + b_iz + w_hz @ h + b_hz)
    n = np.tanh(w_in @ x + b_in + r * (w_hn @ h + b_hn))
    return (1 - z) * n + z * h


STEPS = {"paper": paper_step, "pytorch": pytorch_step, "cudnn": pytorch_step}


def drawn(convention: str, features: str, seed: int, dtype: type) -> dict:
    rng = np.random.default_rng(seed)
    seen = 1 if features == "raw" else 2
    if convention == "paper":
        shapes = {
            f"{gate}.{part}": shape
            for gate in ("update_gate", "reset_gate", "cell_state")
            for part, shape in (("A", (UNITS, seen)), ("W", (UNITS, UNITS)), ("b", (UNITS,)))
        }
    else:
        shapes = {
            "weight_ih": (3 * UNITS, seen),
            "weight_hh": (3 * UNITS, UNITS),
            "bias_ih": (3 * UNITS,),
            "bias_hh": (3 * UNITS,),
        }
    shapes |= {"initial_state": (UNITS,), "readout_weight": (1, UNITS), "readout_bias": (1,)}
    entries = {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}
    seen_scale, step = SCALES[rng.integers(len(SCALES))]
    scales = {"input_scale": dtype(seen_scale), "output_scale": dtype(step)}
    return entries | scales | {"convention": convention, "features": features}


@eqx.filter_jit
def updates_of(optimizer: Optimizer, start: Array, gradients: Array) -> Array:
    return jax.lax.scan(lambda h, g: optimizer(h, g), start, gradients)[1]


def own_update(entries: dict, h: np.ndarray, gradient: float) -> tuple[np.ndarray, float]:
    h = STEPS[entries["convention"]](entries, h, features_of(gradient, entries))
    return h, float(entries["output_scale"]) * (entries["readout_weight"] @ h + entries["readout_bias"]).item()


@pytest.mark.parametrize("convention", ["paper", "pytorch", "cudnn"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(max_examples=8, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), features=st.sampled_from(["raw", "log1p"]))
def test_updates_and_update_functions_are_those_of_its_own_code(tmp_path_factory, convention, dtype, seed, features):
    entries = drawn(convention, features, seed, dtype)
    path = tmp_path_factory.mktemp("weights") / "w.npz"
    np.savez(path, **entries)
    optimizer = load_npz(path)
    double = {
        name: np.float64(value) if np.ndim(value) or name.endswith("scale") else value
        for name, value in entries.items()
    }
    gradients = np.random.default_rng(seed).normal(size=12) * np.geomspace(1e-3, 10, 12)
    h, states, updates = double["initial_state"], [], []
    for gradient in gradients:
        states.append(h)
        h, update = own_update(double, h, gradient)
        updates.append(update)
    with jax.enable_x64(True):
        start = jnp.asarray(optimizer.start, jnp.float64)
        found = updates_of(optimizer, start, jnp.asarray(gradients))
        np.testing.assert_allclose(found, updates, rtol=1e-9, atol=1e-12)
    start = optimizer.initial_state().astype(jnp.float32)
    single = updates_of(optimizer, start, jnp.asarray(gradients, jnp.float32))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, updates, rtol=1e-4, atol=3e-5 * np.abs(updates).max())
    grid = np.linspace(-5, 5, 11)
    values, slopes = evaluate_update_functions(optimizer, np.stack(states[::4]), grid)
    expected = [[own_update(double, state, gradient)[1] for gradient in grid] for state in states[::4]]
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-9)
    near = [
        [own_update(double, state, g + 1e-6)[1] - own_update(double, state, g - 1e-6)[1] for g in grid]
        for state in states[::4]
    ]
    away = np.abs(grid) > 0.5  # a feature's sign has no slope at 0
    np.testing.assert_allclose(slopes[:, away], np.array(near)[:, away] / 2e-6, rtol=1e-4, atol=1e-7)


def test_the_paper_convention_is_that_of_our_own_cell(tmp_path):
    entries = drawn("paper", "raw", 5, np.float32)
    np.savez(tmp_path / "w.npz", **entries)
    gates = ("update_gate", "reset_gate")
    ours = LearnedOptimizer(
        cell=GRU(
            jnp.concatenate([entries[f"{gate}.A"].T for gate in gates], axis=1),
            jnp.concatenate([entries[f"{gate}.W"].T for gate in gates], axis=1),
            jnp.concatenate([entries[f"{gate}.b"] for gate in gates]),
            jnp.asarray(entries["cell_state.A"].T),
            jnp.asarray(entries["cell_state.W"].T),
            jnp.asarray(entries["cell_state.b"]),
        ),
        start=jnp.asarray(entries["initial_state"]),
        readout_weight=jnp.asarray(entries["readout_weight"][0]),
        readout_bias=jnp.asarray(entries["readout_bias"][0]),
        input_scale=float(entries["input_scale"]),
        output_scale=float(entries["output_scale"]),
    )
    gradients = jnp.asarray(np.random.default_rng(0).normal(size=(10, 3)), jnp.float32)
    runs = [updates_of(each, each.initial_states((3,)), gradients) for each in (ours, load_npz(tmp_path / "w.npz"))]
    np.testing.assert_allclose(*runs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"convention": None}, "has no 'convention'"),
        ({"convention": "keras"}, "must be one of the texts paper, pytorch, cudnn"),
        ({"convention": 3}, "must be one of the texts"),
        ({"weight_hh": None}, "has no 'weight_hh'"),
        ({"bias_hh": np.zeros(UNITS)}, r"'bias_hh' has shape \(7,\), but must have \(21,\)"),
        ({"weight_hh": np.zeros((20, UNITS))}, r"needs 3 row\(s\) a unit"),
        ({"weight_ih": np.zeros((3 * UNITS, 2))}, "'weight_ih' has shape"),
        ({"bias_ih": np.full(3 * UNITS, np.nan)}, "not finite"),
        ({"bias_ih": np.full(3 * UNITS, "x")}, "not of numbers"),
        ({"readout_bias": np.array([None], object)}, "not a readable npz file"),
        ({"inital_state": np.zeros(UNITS)}, "holds 'inital_state', which is no entry"),
        ({"readout_weight": np.zeros(UNITS + 1)}, "'readout_weight' has shape"),
        ({"features": "log"}, "raw, log1p"),
    ],
)
def test_a_file_that_is_not_as_documented_is_refused_in_one_line(tmp_path, change, said):
    entries = drawn("pytorch", "raw", 0, np.float32) | change
    np.savez(tmp_path / "w.npz", **{name: value for name, value in entries.items() if value is not None})
    with pytest.raises(ReoptError, match=said) as caught:
        resolve(str(tmp_path / "w.npz"), task=Quadratic(), task_name="quadratic", results=tmp_path)
    assert "\n" not in str(caught.value)


def test_names_of_a_state_dict_and_defaults(tmp_path):
    entries = drawn("pytorch", "raw", 1, np.float64)
    kept = {f"{name}_l0" if name[:4] in ("weig", "bias") else name: value for name, value in entries.items()}
    for name in ("initial_state", "input_scale", "output_scale", "features"):
        del kept[name]
    np.savez(tmp_path / "mine.npz", **kept)
    name, optimizer = resolve(str(tmp_path / "mine.npz"), task=Quadratic(), task_name="quadratic", results=tmp_path)
    assert name == "mine"
    double = entries | {"initial_state": np.zeros(UNITS), "input_scale": 1.0, "output_scale": 1.0}
    expected = own_update(double, np.zeros(UNITS), 0.3)[1]
    np.testing.assert_allclose(optimizer(optimizer.initial_state(), jnp.asarray(0.3))[1], expected, rtol=1e-5)


def test_no_such_file_is_said(tmp_path):
    with pytest.raises(ReoptError, match="there is no file"):
        resolve(str(tmp_path / "none.npz"), task=Quadratic(), task_name="quadratic", results=tmp_path)
