"""Adaptation: the arms of known optimizers in closed form, and a planted hysteresis."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxtyping import Array
from safetensors.numpy import load_file

from reopt.dynamics.pca import pca
from reopt.mechanisms.constant_gradients import adaptation, knee_interval
from reopt.optimizers.base import Optimizer
from reopt.optimizers.classical import SGD, Adam, Momentum, RMSProp
from reopt.optimizers.load import load_learned
from reopt.optimizers.optax_bridge import from_optax


def test_rmsprop_divides_by_the_gradient_it_has_seen():
    lr, decay, eps = 0.1, 0.9, 1e-6
    states = np.random.default_rng(0).uniform(size=(9, 1))
    found = adaptation(
        RMSProp(lr, decay, eps), point=np.zeros(1), limit=10.0, num_gradients=21, decades=6.0, pca=pca(states)
    )
    table, g = found.table, found.table.gradient
    assert table.converged.all()
    at_zero = lr / np.sqrt(decay * g**2 + eps)
    np.testing.assert_allclose(table.effective_learning_rate_at_zero, at_zero, rtol=1e-6)
    np.testing.assert_allclose(
        table.effective_learning_rate, lr * (decay * g**2 + eps) / (g**2 + eps) ** 1.5, rtol=1e-6
    )
    np.testing.assert_allclose(table.mean_rate[g != 0], lr / np.sqrt(g**2 + eps)[g != 0], rtol=1e-6)
    np.testing.assert_allclose(table.pc1, g**2 - states.mean(), atol=1e-8)
    np.testing.assert_allclose(table.time_constant, -1 / np.log(decay))
    summary = found.summary
    assert summary["exponent"] == pytest.approx(-1, abs=0.02)
    assert summary["low"] < summary["exponent"] < summary["high"] < -0.95
    assert summary["exponent_positive"] == pytest.approx(-1, abs=0.02)
    assert summary["knee"] == pytest.approx(np.sqrt(eps / decay), rel=0.1)
    assert (summary["monotone_positive"], summary["monotone_negative"]) == (pytest.approx(-1), pytest.approx(-1))
    assert summary["symmetry"] == pytest.approx(0, abs=1e-6)
    assert summary["hysteresis"] is False
    assert summary["range"] == pytest.approx(np.sqrt(decay * 100 / eps), rel=1e-3)
    assert list(table.arm.value_counts().sort_index()) == [21, 21, 1]


@pytest.mark.parametrize("decay", [0.9999, *(pytest.param(it, marks=pytest.mark.long) for it in (0.99, 0.999999))])
@pytest.mark.parametrize("start", [0.0, 1.0])
def test_slow_states_are_read_at_rest(decay: float, start: float):
    """s = g^2 at rest, from anywhere: rate lr / (sqrt(d) |g| + eps) at zero. After 2,048 steps with d = 0.999999 s has
    come 0.2% of the way, and each step moves it by a millionth of the rest: a residual that looks small."""
    lr, eps = 0.01, 1e-4
    subject = from_optax(optax.rmsprop(lr, decay=decay, eps=eps, initial_scale=start, eps_in_sqrt=False))
    with jax.enable_x64(True):  # else the decay is rounded to a float32
        found = adaptation(subject, point=np.zeros(2), limit=100.0, num_gradients=9, decades=8.0)
    table, sizes = found.table, found.table.gradient.abs()
    assert table.converged.all()
    expected = lr / (np.sqrt(decay) * sizes + eps)
    np.testing.assert_allclose(table.effective_learning_rate_at_zero, expected, rtol=1e-6)
    np.testing.assert_allclose(table.rate_from_start, expected, rtol=1e-6)
    knee = eps * (np.sqrt(2) - 1) / np.sqrt(decay)
    low, high = knee_interval(table, found.summary["knee"])
    assert low <= knee <= high


def test_functions_are_those_of_the_held_states():
    lr, decay, eps = 0.1, 0.9, 1e-6
    found = adaptation(RMSProp(lr, decay, eps), point=np.zeros(1), limit=1.0, num_gradients=7, num_functions=3)
    table = found.functions
    assert len(table.gradient_held.unique()) == 7
    s = decay * table.gradient_held**2 + (1 - decay) * table.gradient**2
    np.testing.assert_allclose(table["update"], -lr * table.gradient / np.sqrt(s + eps), rtol=1e-6, atol=1e-12)
    assert set(table.place) == {"negative", "zero", "positive"}


def test_momentum_does_not_adapt():
    found = adaptation(Momentum(0.3, 0.99), point=np.zeros(1), limit=1e3, num_gradients=9)
    np.testing.assert_allclose(found.table.effective_learning_rate, 0.3)
    np.testing.assert_allclose(found.table.effective_learning_rate_at_zero, 0.3)
    np.testing.assert_allclose(found.table.mean_rate.dropna(), 30)
    assert found.table.converged.all()
    assert found.summary["exponent"] == pytest.approx(0, abs=1e-9)
    assert found.summary["knee"] is None
    assert found.summary["monotone_positive"] == 0


def test_adam_adapts_with_its_clock_held():
    lr, b1, b2, eps = 0.1, 0.9, 0.99, 1e-6
    found = adaptation(Adam(lr, b1, b2, eps), point=np.zeros(3), limit=1.0, num_gradients=9, decades=3.0)
    g = found.table.gradient.to_numpy()
    np.testing.assert_allclose(found.table.mean_rate[g != 0], (lr / (np.abs(g) + eps))[g != 0], rtol=1e-6)
    expected = lr * (1 - b1) / (np.sqrt(b2) * np.abs(g) + eps)
    np.testing.assert_allclose(found.table.effective_learning_rate_at_zero, expected, rtol=1e-5)
    assert found.summary["exponent"] == pytest.approx(-1, abs=0.02)


def test_sgd_has_nothing_that_could_adapt():
    found = adaptation(SGD(0.2), point=np.zeros(0), limit=1.0, num_gradients=5)
    np.testing.assert_allclose(found.table.effective_learning_rate, 0.2)
    assert found.table.converged.all()
    assert found.summary["exponent"] == pytest.approx(0, abs=1e-12)


class Bistable(Optimizer):
    """h' = h + 0.3 (h - h^3 + g), update -h' g: two branches while |g| < 2 / (3 sqrt 3) = 0.385."""

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("h",)

    def initial_state(self) -> Array:
        return jnp.full(1, 0.9)

    def update(self, state: Array, gradient: Array) -> Array:
        return state + 0.3 * (state - state**3 + gradient[..., None])

    def readout(self, state: Array, gradient: Array) -> Array:
        return -state[..., 0] * gradient


def test_hysteresis_is_seen():
    """Followed from h = -1, the positive arm stays below until the fold; from the initial state it is always above."""
    found = adaptation(Bistable(), point=np.array([-1.0]), limit=0.6, num_gradients=12, decades=1.0)
    assert found.summary["hysteresis"] is True
    positive = found.table[found.table.arm == "positive"]
    below = positive.gradient < 2 / (3 * np.sqrt(3))
    assert np.all(positive.from_start[below] > 0.5)
    np.testing.assert_allclose(positive.from_start[~below], 0, atol=1e-6)
    roots = [max(np.roots([-1, 0, 1, g]).real) for g in positive.gradient[below]]
    step = 0.3 * (np.array(roots) - np.array(roots) ** 3)
    np.testing.assert_allclose(positive.rate_from_start[below], np.array(roots) + step, atol=1e-6)


class Runaway(Bistable):
    """h' = 2 h + g: no attractor at all."""

    def update(self, state: Array, gradient: Array) -> Array:
        return 2 * state + gradient[..., None]


def test_points_that_are_lost_are_said_to_be():
    found = adaptation(Runaway(), point=np.array([0.5]), limit=1.0, num_gradients=4, max_iterations=2048)
    assert not found.table.converged.any()
    assert found.table.effective_learning_rate.isna().all()
    assert found.summary["exponent"] is None
    assert found.summary["converged"] == 0
    assert len(found.functions) == 0


class Spiral(Optimizer):
    """About (sin g, g / 10), a rotation that grows by 0.9 + |g| a step: beyond |g| = 0.1 iteration circles."""

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("h0", "h1")

    def initial_state(self) -> Array:
        return jnp.zeros(2)

    def update(self, state: Array, gradient: Array) -> Array:
        centre = jnp.stack([jnp.sin(gradient), 0.1 * gradient], axis=-1)
        turned = (state - centre) @ jnp.array([[0.6, 0.8], [-0.8, 0.6]])
        growth = (0.9 + jnp.abs(gradient)) / jnp.sqrt(1 + jnp.sum(turned**2, axis=-1))
        return centre + growth[..., None] * turned

    def readout(self, state: Array, gradient: Array) -> Array:
        return -(1 + state[..., 1] ** 2) * gradient


def test_points_that_repel_are_found_and_called_unstable():
    found = adaptation(Spiral(), point=np.zeros(2), limit=1.0, num_gradients=9, decades=2.0)
    table, g = found.table, found.table.gradient
    assert table.converged.all()
    np.testing.assert_allclose(found.states, np.stack([np.sin(g), 0.1 * g], axis=1), atol=1e-9)
    np.testing.assert_allclose(table.spectral_radius, 0.9 + np.abs(g), rtol=1e-9)
    assert table.stable.tolist() == (np.abs(g) < 0.1 - 1e-9).tolist()  # at 0.1 it is 1 to rounding


class Fold(Bistable):
    """h' = h - 0.2 (h^2 - 1 + g): a fixed point sqrt(1 - g), none beyond g = 1."""

    def update(self, state: Array, gradient: Array) -> Array:
        return state - 0.2 * (state**2 - 1 + gradient[..., None])


def test_no_point_is_said_to_be_where_there_is_none():
    found = adaptation(Fold(), point=np.array([1.0]), limit=4.0, num_gradients=9, decades=2.0)
    g = found.table.gradient
    assert found.table.converged.tolist() == (g < 1).tolist()
    np.testing.assert_allclose(found.states[g < 1, 0], np.sqrt(1 - g[g < 1]), atol=1e-9)
    assert found.table.effective_learning_rate[g > 1].isna().all()
    assert not found.table.stable[g > 1].any()


def step(weights: dict[str, np.ndarray], scale: float, h: np.ndarray, g: float) -> np.ndarray:
    """One step of the paper's GRU (reset before the recurrent product), by numpy alone."""
    units, g = len(h), scale * g
    gates = h @ weights["cell.recurrent_gates"] + g * weights["cell.input_gates"][0] + weights["cell.bias_gates"]
    keep, reset = 1 / (1 + np.exp(-gates[:units])), 1 / (1 + np.exp(-gates[units:]))
    drive = g * weights["cell.input_candidate"][0] + weights["cell.bias_candidate"]
    return keep * h + (1 - keep) * np.tanh((reset * h) @ weights["cell.recurrent_candidate"] + drive)


TRAINED = {
    "quadratic_gru64": (1.0, 0.000154779594, 1.81705845, [3]),
    "rosenbrock_gru32_s0": (0.03, 0.00111297803, 1009.07221, [1, 3, 47, 49]),
    "rosenbrock_gru32_s1": (0.03, 0.000808379235, 1009.07221, [0, 1, 40, 41, 47, 48, 50]),
    "rosenbrock_gru32_s3": (0.03, 0.00384783302, 1009.07221, [3, 37, 39, *range(42, 51)]),
}
"""Input scale, smallest and largest gradient held, and the 24 rows that iteration and Newton alone miss."""
UNTOLD = {"rosenbrock_gru32_s0": [50]}
"""Rows with a fixed point that saturated gates hold to rounding alone, so that its rate is not settled."""


@pytest.mark.long
@pytest.mark.parametrize("name", TRAINED)
def test_trained_networks_have_a_fixed_point_where_iteration_finds_none(name: str):
    """A map of a box into itself has a fixed point (Brouwer), so no row may be missed."""
    scale, low, high, missed = TRAINED[name]
    path = Path(__file__).parent / "checkpoints" / f"{name}.safetensors"
    optimizer = load_learned(path)
    assert optimizer.input_scale == pytest.approx(scale)
    start = np.asarray(optimizer.initial_state(), np.float64)
    decades = np.log10(high / low)
    found = adaptation(optimizer, point=start, limit=high, num_gradients=25, decades=decades, from_start=False)
    table = found.table
    told = np.setdiff1d(np.arange(len(table)), UNTOLD.get(name, []))
    assert table.converged[told].all()
    weights = {key: array.astype(np.float64) for key, array in load_file(path).items()}
    for row in missed:
        gap = found.states[row] - step(weights, optimizer.input_scale, found.states[row], table.gradient[row])
        assert np.linalg.norm(gap) <= 1e-10 * max(1, np.linalg.norm(found.states[row]))
    assert not table.stable[table.spectral_radius >= 1].any()
