"""Verdicts on fixed points that rounding and units must not change: how many, how stable, whether a continuum."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Array

from reopt.core.errors import ReoptError
from reopt.dynamics.fixed_point_families import find_fixed_points_over
from reopt.dynamics.fixed_points import attractor, find_fixed_points, stability
from reopt.dynamics.linearization import operating_point
from reopt.dynamics.stability import is_stable, judge
from reopt.optimizers.optax_bridge import from_optax

NUMBERS = st.integers(0, 2**32 - 1)


class Filtered(eqx.Module):
    """x' = a x + g, y' = c x': a momentum buffer and the update made of it."""

    decay: Array
    unit: Array

    def __call__(self, state, gradient):
        after = self.decay * state[0] + gradient
        return jnp.stack([after, self.unit * after])


class Rotation(eqx.Module):
    """h' = r R h + g e_1, R a rotation by an angle in two turned coordinates."""

    matrix: Array

    def __call__(self, state, gradient):
        return self.matrix @ state + gradient * jnp.eye(len(state))[0]


class Beside(eqx.Module):
    """x' = x + k (x - x^3 / w^2), y' = y / 2 + c / 2."""

    slope: Array
    width: Array
    centre: Array

    def __call__(self, state, gradient):
        x, y = state
        x, y = x + self.slope * (x - x**3 / self.width**2), 0.5 * (y + self.centre)
        return jnp.stack([x + 0 * gradient, y])


def draws(number, count=24, size=2):
    return np.random.default_rng(number).normal(size=(count, size))


@pytest.mark.parametrize("search", ["one", "many"])
def test_an_update_in_large_units_is_no_continuum(search):
    """x' = x / 2 + g, y' = 1e10 x': det(I - J) = 1/2, so one point, x = 2 g and y = 2e10 g, with slopes 1/2 and 0."""
    system = Filtered(np.asarray(0.5), np.asarray(1e10))
    found = (
        find_fixed_points(system, draws(0), 0.3)
        if search == "one"
        else find_fixed_points_over(system, draws(0), np.array([0.3]))
    )
    np.testing.assert_allclose(found.points, [[0.6, 6e9]], rtol=1e-12)
    assert found.isolated.all()
    assert stability(found) == ["stable"]
    assert found.spectral_radius[0] == pytest.approx(0.5, rel=1e-12)
    np.testing.assert_array_equal(found.members, [24])


@settings(max_examples=15, deadline=None, derandomize=True)
@given(NUMBERS, st.floats(-0.99, 0.999), st.floats(-14, 14), st.floats(-3, 3))
def test_no_unit_of_the_update_makes_a_continuum(number, decay, unit, gradient):
    """x = g / (1 - a), y = c x, whatever c."""
    found = find_fixed_points(Filtered(np.asarray(decay), np.asarray(10.0**unit)), draws(number), gradient)
    assert len(found.points) == 1
    assert found.isolated.all()
    assert stability(found) == ["stable"]
    x = gradient / (1 - decay)
    np.testing.assert_allclose(found.points[0], [x, 10**unit * x], rtol=1e-9, atol=1e-12 * 10 ** max(unit, 0))


@pytest.mark.parametrize("eps", [pytest.param(1e-8, marks=pytest.mark.long), 1e-15])
def test_adam_rests_at_one_point(eps):
    """m = g, v = g^2: slopes 0.9 and 0.999; optax's default rate makes an update of -lr m / (|m| + eps) of them."""
    optimizer = from_optax(optax.adam(1e-3, eps=eps))
    seeds = 0.01 * np.abs(draws(0, 16, optimizer.state_size))
    found = find_fixed_points(optimizer, seeds, 0.3)
    np.testing.assert_allclose(found.points, [[0.3, 0.09, 1e6, -1e-3]], rtol=1e-7)
    for at in (found, find_fixed_points(optimizer, seeds)):
        assert len(at.points) == 1
        assert at.isolated.all()
        assert at.spectral_radius[0] == pytest.approx(0.999)
        np.testing.assert_array_equal(at.members, [16])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(NUMBERS, st.integers(1, 6), st.sampled_from(["stable", "singular", "marginal", "unstable"]), st.floats(0, 12))
def test_a_change_of_units_changes_no_verdict(number, size, kind, decades):
    """J = Q diag Q^-1 has known eigenvalues; D J D^-1 has the same, and its rounding is that of J in other units."""
    rng = np.random.default_rng(number)
    values = rng.uniform(-0.9, 0.9, size)
    values[0] = {"stable": 0.5, "singular": 1.0, "marginal": -1.0, "unstable": 1.5}[kind]
    basis = np.linalg.qr(rng.normal(size=(size, size)))[0]
    units = 10 ** rng.uniform(-decades, decades, size)
    found = judge(((basis * values) @ basis.T)[None] * units[:, None] / units)
    assert found.stable[0] == (kind == "stable")
    assert found.unstable[0] == (kind == "unstable")
    assert found.marginal[0] == (kind in ("singular", "marginal"))
    assert found.kernel[0] == (kind == "singular")


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.floats(0.01, 3.1), st.sampled_from([2, 3, 5]), NUMBERS)
def test_a_rotation_is_neither_stable_nor_unstable(angle, size, number):
    """Two eigenvalues exp(+-i angle) of modulus 1, computed with rounding; the others 1/2; 1e-10 tells them apart."""
    for radius, expected in ((1.0, [0, 2]), (1 - 1e-10, [0, 0]), (1 + 1e-10, [2, 0])):
        matrix = rotated(angle, size, number, radius)
        found = judge(matrix[None])
        assert [found.unstable[0], found.marginal[0]] == expected
        assert found.kernel[0] == 0


def rotated(angle, size, number, radius=1.0):
    block = 0.5 * np.eye(size)
    block[:2, :2] = radius * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    basis = np.linalg.qr(np.random.default_rng(number).normal(size=(size, size)))[0]
    return basis @ block @ basis.T


@pytest.mark.parametrize("angle", [0.1, 0.5, 1.0, 2.0, 3.0])
def test_what_circles_for_ever_has_no_attractor_and_no_members(angle):
    system = Rotation(rotated(angle, 3, 1))
    found = find_fixed_points(system, draws(0, 12, 3), 0.1, max_iterations=128)
    assert stability(found) == ["marginal"]
    np.testing.assert_array_equal(found.members, [0])
    assert not is_stable(found).any()
    with pytest.raises(ReoptError, match="no stable fixed point"):
        attractor(found)
    np.testing.assert_array_equal(operating_point(found), found.points[0])


def test_two_attractors_and_a_saddle_beside_a_large_component():
    """x' = x + 0.3 (x - x^3 / 1e-6): slopes 1 + 0.3 (1 - 3 x^2 / 1e-6), 1.3 at 0 and 0.4 at +-1e-3; y rests at 100."""
    seeds = draws(0, 64) * [1e-3, 100]
    seeds[0] = [1e-12, 100]  # at rest to any tolerance, and still on its way
    system = Beside(np.asarray(0.3), np.asarray(1e-3), np.asarray(100.0))
    found = find_fixed_points(system, seeds)
    order = np.argsort(found.points[:, 0])
    np.testing.assert_allclose(found.points[order], [[-1e-3, 100], [0, 100], [1e-3, 100]], rtol=1e-9, atol=1e-15)
    assert [stability(found)[i] for i in order] == ["stable", "saddle", "stable"]
    assert found.members[order[1]] == 0
    np.testing.assert_array_equal(found.seed_result, led(system, seeds, found, order))


def led(system, seeds, found, order):
    """Where 3,000 plain steps of the first component lead, in numpy; -2 away."""
    x = seeds[:, 0]
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(3000):
            x = x + system.slope * (x - x**3 / system.width**2)
    lost = ~np.isfinite(x) | (abs(x) > 2 * system.width)
    return np.where(lost, -2, np.where(x > 0, order[-1], order[0]))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(NUMBERS, st.floats(0.1, 0.5), st.floats(-6, 2), st.floats(-2, 4))
def test_points_are_told_apart_at_any_distance(number, slope, width, centre):
    """Distances from 1e-6 to 100 beside a component from 0.01 to 1e4: stable, saddle, stable, no members between."""
    width, centre = 10.0**width, 10.0**centre
    seeds = draws(number) * [width, centre]
    seeds[:2, 0] = [-0.5 * width, 0.5 * width]
    system = Beside(np.asarray(slope), np.asarray(width), np.asarray(centre))
    found = find_fixed_points(system, seeds, newton_seeds=24)
    order = np.argsort(found.points[:, 0])
    np.testing.assert_allclose(
        found.points[order], [[-width, centre], [0, centre], [width, centre]], rtol=1e-8, atol=1e-10 * width
    )
    assert [stability(found)[i] for i in order] == ["stable", "saddle", "stable"]
    np.testing.assert_array_equal(found.seed_result, led(system, seeds, found, order))


def test_lines_close_together_are_not_one():
    """z' = z beside x at -1e-3, 0 and 1e-3: three lines, the middle one repels."""

    def lines(state, gradient):
        x, z = state
        return jnp.stack([x + 0.3 * (x - x**3 / 1e-6) + 0 * gradient, z])

    found = find_fixed_points(lines, draws(0, 32) * [6e-4, 1.0], newton_seeds=32)
    np.testing.assert_allclose(np.sort(found.points[:, 0]), [-1e-3, 0, 1e-3], rtol=1e-9, atol=1e-14)
    np.testing.assert_array_equal(found.continuum_dimension, [1, 1, 1])
    assert found.members[np.argmin(abs(found.points[:, 0]))] == 0
    assert found.members.sum() == 32
