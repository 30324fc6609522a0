"""Fixed-point search: planted points, each of which must be found, and systems that have none."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Array

from reopt.core.errors import ReoptError
from reopt.dynamics.autonomous import FreeSystem
from reopt.dynamics.fixed_points import (
    DIVERGED,
    INITIAL,
    NOT_CONVERGED,
    PERTURBED,
    VISITED,
    attractor,
    find_fixed_points,
    search_seeds,
)
from reopt.dynamics.linearization import operating_point
from reopt.dynamics.precision import double_precision, to_double
from reopt.dynamics.root_finding import _newton_step
from reopt.optimizers.base import Optimizer
from reopt.optimizers.classical import SGD, Adam, Momentum, RMSProp
from reopt.optimizers.learned import create_learned


class Planar(Optimizer):
    """Two components under a map that is given; the gradient is added to the first."""

    map: callable = eqx.field(static=True)

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("x", "y")

    def initial_state(self) -> Array:
        return jnp.zeros(2)

    def update(self, state: Array, gradient: Array) -> Array:
        x, y = self.map(state[..., 0], state[..., 1])
        return jnp.stack([x + gradient, y], axis=-1)

    def readout(self, state: Array, gradient: Array) -> Array:
        return -state[..., 0]


class Affine(Optimizer):
    """h' = A h + b + g."""

    matrix: Array
    shift: Array

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("a", "b", "c")

    def initial_state(self) -> Array:
        return jnp.zeros(3)

    def update(self, state: Array, gradient: Array) -> Array:
        return state @ self.matrix.T + self.shift + gradient[..., None]

    def readout(self, state: Array, gradient: Array) -> Array:
        return state[..., 0]


GRID = np.stack(np.meshgrid(np.linspace(-2, 2, 9), np.linspace(-1, 1, 3)), axis=-1).reshape(-1, 2)


def pitchfork(x, y):
    return x + 0.3 * (x - x**3), 0.5 * y


def test_finds_both_attractors_and_the_saddle_of_a_pitchfork():
    """x' = x + 0.3 (x - x^3) rests at -1, 0 and 1, with slopes 0.4, 1.3 and 0.4; the other slope is 0.5."""
    found = find_fixed_points(Planar(pitchfork), GRID)
    order = np.argsort(found.points[:, 0])
    np.testing.assert_allclose(found.points[order], [[-1, 0], [0, 0], [1, 0]], atol=1e-9)
    np.testing.assert_allclose(found.spectral_radius[order], [0.5, 1.3, 0.5], atol=1e-8)
    np.testing.assert_array_equal(found.unstable_directions[order], [0, 1, 0])
    # Seeds with x = 0 sit on the saddle's stable line, and belong to no attractor; |x| = 2 jumps over 0: 2 + 0.3
    # (2 - 8) = 0.2.
    side = GRID[:, 0] != 0
    np.testing.assert_allclose(found.points[found.seed_result[side]][:, 0], np.sign(GRID[side, 0]), atol=1e-9)
    np.testing.assert_array_equal(found.seed_result[~side], NOT_CONVERGED)
    np.testing.assert_array_equal(found.members[order], [12, 0, 12])
    assert found.isolated.all()
    assert np.all(found.error_bound < 1e-12)
    assert np.all(np.linalg.norm(found.points[order] - [[-1, 0], [0, 0], [1, 0]], axis=1) <= found.error_bound[order])


def test_the_saddle_is_found_by_newton_when_no_start_lies_on_it():
    seeds = GRID[GRID[:, 0] != 0]
    found = find_fixed_points(Planar(pitchfork), seeds, newton_seeds=len(seeds))
    saddle = np.flatnonzero(found.unstable_directions)
    assert len(saddle) == 1
    assert found.members[saddle[0]] == 0
    assert found.newton_members[saddle[0]] > 0
    without = find_fixed_points(Planar(pitchfork), seeds, newton_seeds=0)
    assert len(without.points) == 2
    assert without.members.sum() == len(seeds)


def test_attractor_is_the_stable_point_with_most_members():
    seeds = np.array([[0.5, 0], [0.7, 0], [0.9, 0.2], [-0.4, 0], [0, 0], [0, 0.1], [0, 0.2], [0, 0.3]])
    found = find_fixed_points(Planar(pitchfork), seeds)
    for chosen in (attractor, operating_point):
        np.testing.assert_allclose(chosen(found), [1, 0], atol=1e-9)


def test_starts_on_a_limit_cycle_do_not_belong_to_the_unstable_point_inside():
    def swirl(x, y):
        growth = 1.2 - 0.2 * (x**2 + y**2)
        return growth * (0.6 * x - 0.8 * y), growth * (0.8 * x + 0.6 * y)

    seeds = np.random.default_rng(0).normal(size=(20, 2))
    found = find_fixed_points(Planar(swirl), seeds, max_iterations=256)
    np.testing.assert_array_equal(found.seed_result, NOT_CONVERGED)
    np.testing.assert_allclose(found.points, [[0, 0]], atol=1e-9)
    assert found.unstable_directions[0] == 2
    assert found.spectral_radius[0] == pytest.approx(1.2)
    with pytest.raises(ReoptError, match="20 did not converge"):
        attractor(found)
    np.testing.assert_allclose(operating_point(found), [0, 0], atol=1e-9)


def test_runaway_is_labelled_and_its_unstable_point_still_found():
    found = find_fixed_points(Planar(lambda x, y: (2 * x + 1, 0.5 * y)), GRID[:5] + 0.1)
    np.testing.assert_array_equal(found.seed_result, DIVERGED)
    np.testing.assert_allclose(found.points, [[-1, 0]], atol=1e-9)
    assert np.isfinite(found.seed_residual).all()


def test_overflow_within_a_few_steps_leaves_no_nan():
    found = find_fixed_points(Planar(lambda x, y: (jnp.exp(x * x), y / 2)), np.full((3, 2), 5.0), newton_seeds=0)
    np.testing.assert_array_equal(found.seed_result, DIVERGED)
    assert found.points.shape == (0, 2)
    for name, array in found._asdict().items():
        assert not np.isnan(array).any(), name


def test_a_drift_without_fixed_point_gives_slow_points_only():
    found = find_fixed_points(Planar(lambda x, y: (x + 1e-3, 0.5 * y)), GRID[:4], max_iterations=128)
    assert len(found.points) == 0
    np.testing.assert_array_equal(found.seed_result, NOT_CONVERGED)
    np.testing.assert_allclose(found.slow_residual, 1e-3, rtol=1e-3)
    assert len(found.slow_points) == 4
    for chosen in (attractor, operating_point):
        with pytest.raises(ReoptError, match="no stable fixed point"):
            chosen(found)


def test_a_line_of_fixed_points_is_not_isolated():
    found = find_fixed_points(Planar(lambda x, y: (x, 0.5 * y)), GRID)
    assert len(found.points) == 1  # not one for each x of the grid
    np.testing.assert_array_equal(found.continuum_dimension, [1])
    np.testing.assert_array_equal(found.members, [len(GRID)])
    assert not found.isolated.any()
    assert np.isinf(found.error_bound).all()


def test_slow_contraction_is_finished_by_newton():
    """With a multiplier of 1 - 1e-6 plain iteration is still far away when its steps are used up."""
    found = find_fixed_points(Planar(lambda x, y: (x - 1e-6 * (x - 3), 0.5 * y)), GRID, max_iterations=64)
    np.testing.assert_allclose(found.points, [[3, 0]], atol=1e-7)
    np.testing.assert_array_equal(found.members, [len(GRID)])
    assert found.error_bound[0] >= abs(found.points[0, 0] - 3)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 0.95), st.floats(-2, 2))
def test_affine_contractions_rest_where_linear_algebra_says(number, radius, gradient):
    rng = np.random.default_rng(number)
    matrix = rng.normal(size=(3, 3))
    matrix *= radius / np.linalg.norm(matrix, 2)
    shift = rng.normal(size=3)
    found = find_fixed_points(Affine(matrix, shift), rng.normal(size=(4, 3)), gradient, newton_seeds=2)
    true = np.linalg.solve(np.eye(3) - matrix, shift + gradient)
    np.testing.assert_allclose(found.points, [true], atol=1e-9)
    assert found.spectral_radius[0] == pytest.approx(np.abs(np.linalg.eigvals(matrix)).max())
    assert np.linalg.norm(found.points[0] - true) <= found.error_bound[0] < 1e-9


def test_momentum_under_a_constant_gradient():
    found = find_fixed_points(Momentum(0.1, 0.9), np.array([[0.0], [3.0], [-50.0]]), 0.3)
    np.testing.assert_allclose(found.points, [[0.3 / (1 - 0.9)]], rtol=1e-12)
    np.testing.assert_array_equal(found.seed_result, 0)


def test_rmsprop_second_moment_is_the_squared_gradient():
    found = find_fixed_points(RMSProp(0.1, 0.99), np.array([[0.0], [0.5]]), 0.2)
    np.testing.assert_allclose(found.points, [[0.04]], rtol=1e-10)


def test_a_clock_is_held():
    found = find_fixed_points(Adam(0.1), np.array([[0.3, 0.2, 5.0], [0, 0, 90.0]]), 0.5, clock=77.0)
    np.testing.assert_allclose(found.points, [[0.5, 0.25, 77.0]], rtol=1e-9)
    assert found.spectral_radius[0] == pytest.approx(0.999)


def test_an_optimizer_without_state_has_one_trivial_point():
    found = find_fixed_points(SGD(0.1), np.zeros((4, 0)))
    assert found.points.shape == (1, 0)
    np.testing.assert_array_equal(found.seed_result, 0)
    np.testing.assert_array_equal(found.members, [4])
    assert found.spectral_radius[0] == 0


@pytest.fixture(scope="module")
def gru():
    """A random GRU with a non-trivial attractor (its biases are not zero)."""
    optimizer = create_learned(jax.random.key(3), cell="gru", units=12)
    keys = jax.random.split(jax.random.key(4), 2)
    return eqx.tree_at(
        lambda o: (o.cell.bias_gates, o.cell.bias_candidate),
        optimizer,
        (jax.random.normal(keys[0], (24,)), jax.random.normal(keys[1], (12,))),
    )


def _gru_longdouble(optimizer, state, gradient):
    """The GRU in extended precision, from its definition."""
    cell = jax.tree.map(lambda a: np.asarray(a).astype(np.longdouble), optimizer.cell)
    x = np.full((1,), gradient, np.longdouble)
    gates = 1 / (1 + np.exp(-(state @ cell.recurrent_gates + x @ cell.input_gates + cell.bias_gates)))
    z, r = np.split(gates, 2)
    candidate = np.tanh((r * state) @ cell.recurrent_candidate + x @ cell.input_candidate + cell.bias_candidate)
    return z * state + (1 - z) * candidate


def test_attractor_of_a_gru_lies_within_its_error_bound(gru):
    seeds = np.random.default_rng(0).normal(size=(40, 12))
    found = find_fixed_points(gru, seeds, 0.2, newton_seeds=8)
    assert found.residual[0] < 1e-13
    assert found.members[0] == 40
    refined = found.points[0].astype(np.longdouble)
    for _ in range(3000):
        refined = _gru_longdouble(gru, refined, np.longdouble(0.2))
    assert np.linalg.norm(refined - _gru_longdouble(gru, refined, np.longdouble(0.2))) < 1e-17
    assert 0 < found.error_bound[0] < 1e-11
    assert float(np.linalg.norm(refined - found.points[0])) <= found.error_bound[0]


def test_search_leaves_the_callers_world_alone(gru):
    seeds = np.random.default_rng(0).normal(size=(40, 12)).astype(np.float32)
    before = seeds.copy()
    seeds.setflags(write=False)
    find_fixed_points(gru, seeds, newton_seeds=8)
    np.testing.assert_array_equal(seeds, before)
    assert jnp.zeros(1).dtype == jnp.float32


def test_an_unreachable_tolerance_calls_nothing_a_fixed_point(gru):
    seeds = np.random.default_rng(0).normal(size=(3, 12))
    found = find_fixed_points(gru, seeds, tolerance=1e-300, max_iterations=64, newton_seeds=0)
    # A residual of exactly 0 is met in the units of the search; in others it is one of rounding.
    assert (found.residual <= 1e-15).all()
    assert np.all(found.seed_residual[found.seed_result >= 0] <= 1e-15)
    assert len(found.slow_points) == np.sum(found.seed_result == NOT_CONVERGED)


@pytest.mark.parametrize("seeds", [np.zeros((2, 3)), np.zeros(2), np.zeros((0, 2)), np.full((1, 2), np.nan)])
def test_refuses_seeds_that_are_none(seeds):
    with pytest.raises(ReoptError, match="seed"):
        find_fixed_points(Planar(pitchfork), seeds)


def test_seeds_are_the_initial_state_visited_and_perturbed_ones():
    rng = np.random.default_rng(1)
    states = np.concatenate([rng.normal(size=(50, 1)), rng.uniform(1, 2, (50, 1)), np.arange(50.0)[:, None]], axis=1)
    states[7, 0] = np.nan
    seeds = search_seeds(Adam(0.1), states, visited=20, perturbed=30, perturbation=2.0, seed=0)
    assert seeds.states.shape == (51, 3)
    np.testing.assert_array_equal(np.bincount(seeds.kind), [20, 30, 1])
    np.testing.assert_array_equal(seeds.states[seeds.kind == INITIAL], [[0, 0, 0]])
    known = {tuple(row) for row in states}
    assert all(tuple(row) in known for row in seeds.states[seeds.kind == VISITED])
    perturbed = seeds.states[seeds.kind == PERTURBED]
    assert not any(tuple(row) in known for row in perturbed)
    assert np.all(perturbed[:, 1] >= 0)  # a second moment stays one
    assert np.all(np.isin(perturbed[:, 2], states[:, 2]))  # the clock is not perturbed
    again = search_seeds(Adam(0.1), states, visited=20, perturbed=30, perturbation=2.0, seed=0)
    np.testing.assert_array_equal(again.states, seeds.states)


def test_a_newton_step_waits_for_one_factorisation_at_a_time(gru):
    # Two batched ones that run at once have been seen to block all of XLA's threads for ever.
    with double_precision():
        system = FreeSystem(to_double(gru))
        states, gradients = jnp.zeros((4, system.size)), jnp.zeros(4)
        program = _newton_step.lower(system, states, gradients).as_text()
    assert program.count("@lapack_dgetrf") == 1
