"""Recurrent cells against their equations in numpy, and their reverse pass against autodiff."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reopt.optimizers.cells import CELLS, GRU, LSTM, Cell, InputFanIn, VanillaRNN

UNITS, FEATURES, STEPS, ROWS = 5, 2, 3, 4


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def random_cell(name: str) -> Cell:
    """A cell in float64, biases and all at random."""
    rng = np.random.default_rng(4)
    shapes = jax.eval_shape(lambda: CELLS[name].create(jax.random.key(3), FEATURES, UNITS))
    return jax.tree.map(lambda leaf: jnp.asarray(0.7 * rng.normal(size=leaf.shape)), shapes)


def random_inputs(cell: Cell) -> tuple[jax.Array, jax.Array, jax.Array]:
    """State, features and a cotangent of the next state, each `(STEPS, ROWS, ...)`."""
    rng = np.random.default_rng(5)
    size = len(cell.state_names)
    state, features, cotangent = (jnp.asarray(rng.normal(size=(STEPS, ROWS, n))) for n in (size, FEATURES, size))
    return state, features, cotangent


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def numpy_step(cell: Cell, state: np.ndarray, features: np.ndarray) -> np.ndarray:
    """The next state of one row, gate by gate, from the equations."""
    if isinstance(cell, GRU):
        a, w, b = cell.input_gates, cell.recurrent_gates, cell.bias_gates
        update = sigmoid(features @ a[:, :UNITS] + state @ w[:, :UNITS] + b[:UNITS])
        reset = sigmoid(features @ a[:, UNITS:] + state @ w[:, UNITS:] + b[UNITS:])
        a, w, b = cell.input_candidate, cell.recurrent_candidate, cell.bias_candidate
        candidate = np.tanh(features @ a + (reset * state) @ w + b)
        return update * state + (1 - update) * candidate
    a, w, b = cell.input, cell.recurrent, cell.bias
    if isinstance(cell, VanillaRNN):
        return np.tanh(features @ a + state @ w + b)
    hidden, memory = state[:UNITS], state[UNITS:]
    gates = features @ a + hidden @ w + b
    i, f, o, g = gates[:UNITS], gates[UNITS : 2 * UNITS], gates[2 * UNITS : 3 * UNITS], gates[3 * UNITS :]
    memory = sigmoid(f + 1) * memory + sigmoid(i) * np.tanh(g)
    return np.concatenate([sigmoid(o) * np.tanh(memory), memory])


@pytest.mark.parametrize("name", CELLS)
def test_forward_equals_the_equations(name: str):
    cell = random_cell(name)
    state, features, _ = random_inputs(cell)
    following, _ = jax.jit(type(cell).forward)(cell, state, features)
    cell, state, features, following = jax.tree.map(np.asarray, (cell, state, features, following))
    for index in np.ndindex(STEPS, ROWS):
        expected = numpy_step(cell, state[index], features[index])
        np.testing.assert_allclose(following[index], expected, rtol=1e-13, atol=1e-14)


def test_gru_resets_the_state_before_the_matmul():
    """PyTorch's and cuDNN's GRU multiplies W_c h by the reset gate; with these weights the two differ by far."""
    zeros = {"input_gates": jnp.zeros((1, 4)), "bias_candidate": jnp.zeros(2), "input_candidate": jnp.zeros((1, 2))}
    cell = GRU(
        recurrent_gates=jnp.zeros((2, 4)),
        bias_gates=jnp.asarray([-50.0, -50.0, 50.0, -50.0]),  # update 0; reset 1 for the first unit, 0 for the other
        recurrent_candidate=jnp.asarray([[0.0, 1.0], [1.0, 0.0]]),
        **zeros,
    )
    following, _ = cell.forward(jnp.asarray([0.3, 0.7]), jnp.zeros(1))
    # c = tanh(W_c (r h)) with r h = (0.3, 0): the second unit takes 0.3 from the first. The other convention,
    # tanh(r (W_c h)), would give (tanh 0.7, 0).
    np.testing.assert_allclose(following, [0.0, np.tanh(0.3)], atol=1e-15)


def test_gru_keeps_its_state_where_the_update_gate_is_open():
    cell = random_cell("gru")
    state, features, _ = random_inputs(cell)
    held = GRU(**{**vars(cell), "bias_gates": cell.bias_gates.at[:UNITS].set(100.0)})
    np.testing.assert_allclose(held.forward(state, features)[0], state, atol=1e-14)


def test_lstm_forgets_little_at_first():
    cell = jax.tree.map(jnp.zeros_like, LSTM.create(jax.random.key(0), 1, 1))
    following, _ = cell.forward(jnp.asarray([0.0, 1.0]), jnp.zeros(1))
    forget = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(following, [0.5 * np.tanh(forget), forget], rtol=1e-12)


@pytest.mark.parametrize("name", CELLS)
def test_reverse_pass_equals_autodiff(name: str):
    cell = random_cell(name)
    state, features, cotangent = random_inputs(cell)

    @jax.jit
    def by_autodiff(cell, state, features):
        return jax.vjp(lambda c, s, f: c.forward(s, f)[0], cell, state, features)[1](cotangent)

    @jax.jit
    def by_hand(cell, state, features):
        _, saved = cell.forward(state, features)
        d_state, d_features, deltas = cell.backward(cell.layout(), saved, state, cotangent)
        return cell.weight_gradient(state, features, saved, deltas), d_state, d_features

    expected, own = by_autodiff(cell, state, features), by_hand(cell, state, features)
    assert jax.tree.structure(own) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13), own, expected)


@pytest.mark.parametrize("input_fan_in", ["units", "inputs"])
@pytest.mark.parametrize("name", CELLS)
def test_weights_start_with_variance_one_over_fan_in(name: str, input_fan_in: InputFanIn):
    """By the paper's code the fan-in of input weights is the number of units, as that of recurrent weights."""
    units, features = 200, 3
    cell = jax.jit(lambda key: CELLS[name].create(key, features, units, input_fan_in))(jax.random.key(6))
    for field, value in vars(jax.tree.map(np.asarray, cell)).items():
        assert value.dtype == jnp.float32
        if field.startswith("bias"):
            np.testing.assert_array_equal(value, 0)
            continue
        rows = {"input": features, "recurrent": units}[field.split("_")[0]]
        assert value.shape[0] == rows
        fan_in = units if input_fan_in == "units" else rows
        # The variance of n normal draws is off by sqrt(2 / n), here 6% at most; 5 of that is still far from
        # a fan-out or a Glorot scaling.
        spread = 5 * np.sqrt(2 / value.size)
        assert np.mean(np.square(value)) * fan_in == pytest.approx(1, abs=spread)
        assert abs(np.mean(value)) < 5 / np.sqrt(value.size * fan_in)


@pytest.mark.parametrize("name", CELLS)
def test_state_has_a_name_each_and_its_units_come_first(name: str):
    cell = random_cell(name)
    names = cell.state_names
    assert len(set(names)) == len(names) == (2 * UNITS if name == "lstm" else UNITS)
    assert names[: cell.units] == tuple(f"h{i}" for i in range(UNITS))
