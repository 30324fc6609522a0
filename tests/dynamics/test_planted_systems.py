"""Planted systems: their fixed points come back exactly, no more and no fewer, with the right stability.

240 draws in all. Systems are modules with array parameters and few sizes, so that draws share compiled programs.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Array

from reopt.core.errors import ReoptError
from reopt.dynamics.fixed_point_families import _solve, find_fixed_points_over
from reopt.dynamics.fixed_points import find_fixed_points, stability
from reopt.dynamics.system import dynamical_system
from reopt.optimizers.learned import create_learned

SEEDS = st.integers(0, 2**32 - 1)


def rotation(rng, size):
    return np.linalg.qr(rng.normal(size=(size, size)))[0]


class Linear(eqx.Module):
    """h' = A h + b."""

    matrix: Array
    shift: Array

    def __call__(self, state, gradient):
        return self.matrix @ state + self.shift + gradient


class Turned(eqx.Module):
    """y' = (map(y_0), a_1 y_1, ...) in the coordinates y = Q^T (h - c), sheared: y_0 also feeds the others."""

    basis: Array
    centre: Array
    factors: Array
    shear: Array

    def map(self, x):
        raise NotImplementedError

    def __call__(self, state, gradient):
        y = self.basis.T @ (state - self.centre)
        first = self.map(y[0])
        after = jnp.concatenate([first[None], self.factors * y[1:] + self.shear * (first - y[0])])
        return self.centre + self.basis @ after + gradient

    def at(self, x):
        """The states of the fixed points whose first coordinates are x: there the shear feeds nothing."""
        along = np.zeros((len(x), len(self.centre)))
        along[:, 0] = x
        return np.asarray(self.centre) + along @ np.asarray(self.basis).T


class Cubic(Turned):
    """x' = x + k x (1 - (x / w)^2): fixed at -w, 0 and w, slopes 1 - 2 k and 1 + k."""

    slope: Array
    width: Array

    def map(self, x):
        return x + self.slope * x * (1 - (x / self.width) ** 2)


class Zigzag(Turned):
    """Piecewise linear, through (knot, value)."""

    knots: Array
    values: Array

    def map(self, x):
        return jnp.interp(x, self.knots, self.values, left="extrapolate", right="extrapolate")


class Resting(Turned):
    """x' = x: every (x, 0, ..., 0) is fixed."""

    def map(self, x):
        return x


class Ring(eqx.Module):
    """A circle of fixed points of radius r in the first two of three turned coordinates."""

    basis: Array
    radius: Array

    def __call__(self, state, gradient):
        y = self.basis.T @ state
        length = jnp.sqrt(y[0] ** 2 + y[1] ** 2)
        y = jnp.stack([*(y[:2] * (1 + 0.5 * (self.radius - length) / length)), 0.3 * y[2]])
        return self.basis @ y + gradient


def turned(rng, size, unstable=0):
    """Rotation, centre, factors of the other coordinates (the first `unstable` of them above 1), shear."""
    factors = rng.uniform(-0.9, 0.9, size - 1)
    factors[:unstable] = rng.uniform(1.1, 2, unstable)
    return rotation(rng, size), rng.normal(size=size), factors, 0.3 * rng.normal(size=size - 1)


def seeds_along(rng, system, low, high, count=48):
    states = system.at(np.linspace(low, high, count))
    return states + 0.1 * rng.normal(size=states.shape)


def check(found, true, unstable, size):
    """The points are `true`, each once, with these numbers of unstable directions."""
    assert len(found.points) == len(true)
    distance = np.linalg.norm(found.points[:, None] - true, axis=-1)
    nearest = distance.argmin(axis=0)
    assert sorted(nearest) == list(range(len(true)))
    assert distance[nearest, np.arange(len(true))].max() < 1e-8
    assert found.isolated.all()
    np.testing.assert_array_equal(found.unstable_directions[nearest], unstable)
    names = {0: "stable", size: "unstable"}
    assert [stability(found)[i] for i in nearest] == [names.get(k, "saddle") for k in unstable]
    assert (found.residual < 1e-10).all()


@settings(max_examples=8, deadline=None, derandomize=True)
@given(SEEDS, st.sampled_from([1, 2, 5, 16]), st.sampled_from(["stable", "spiral", "saddle", "non-normal"]))
def test_a_linear_system_has_one(number, size, kind):
    rng = np.random.default_rng(number)
    matrix = rng.normal(size=(size, size))
    matrix *= {"stable": 0.9, "spiral": 0.95, "saddle": 1.5, "non-normal": 1}[kind] / np.abs(
        np.linalg.eigvals(matrix)
    ).max()
    if kind == "spiral" and size > 1:
        angle = rng.uniform(0.1, 3)
        matrix[:2, :] = 0
        matrix[:2, :2] = 1.05 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if kind == "non-normal":
        matrix = np.triu(3 * rng.normal(size=(size, size)), 1) + np.diag(rng.uniform(-0.8, 0.8, size))
    values = np.linalg.eigvals(matrix)
    shift = rng.normal(size=size)
    point = np.linalg.solve(np.eye(size) - matrix, shift + 0.3)
    if np.linalg.cond(np.eye(size) - matrix) > 1e5 or np.any(np.abs(np.abs(values) - 1) < 1e-3):
        return  # its point lies beyond the tolerance's reach, or its stability is not to be told
    found = find_fixed_points(Linear(matrix, shift), point + rng.normal(size=(8, size)), 0.3)
    check(found, point[None], [int((np.abs(values) > 1).sum())], size)
    assert found.continuum_dimension[0] == 0


@settings(max_examples=8, deadline=None, derandomize=True)
@given(SEEDS, st.sampled_from([1, 3, 8]), st.floats(0.1, 0.9), st.floats(0.3, 3), st.integers(0, 1))
def test_a_cubic_system_has_three(number, size, slope, width, saddles):
    rng = np.random.default_rng(number)
    saddles = min(saddles, size - 1)
    system = Cubic(*turned(rng, size, saddles), np.asarray(slope), np.asarray(width))
    seeds = seeds_along(rng, system, -1.3 * width, 1.3 * width)
    found = find_fixed_points(system, seeds)
    check(found, system.at(np.array([-width, 0, width])), [saddles, saddles + 1, saddles], size)


@pytest.mark.long
@settings(max_examples=12, deadline=None, derandomize=True)
@given(SEEDS, st.sampled_from([1, 3, 8]), st.sampled_from([3, 11]))
def test_a_piecewise_linear_system_has_three_or_eleven(number, size, count):
    """x - map(x) changes sign at `count` places, by straight pieces that meet between them."""
    rng = np.random.default_rng(number)
    true = np.cumsum(rng.uniform(0.8, 1.2, count))
    true -= true.mean()
    # Kinks half way between the points, and beyond the ends; map - x is +a, -a, ... on them.
    kinks = np.concatenate([[true[0] - 0.4], (true[1:] + true[:-1]) / 2, [true[-1] + 0.4]])
    heights = np.empty(count + 1)
    heights[0] = rng.uniform(0.1, 0.35)
    for i in range(count):  # so that the piece from kink i to i + 1 crosses 0 at the point
        heights[i + 1] = -heights[i] * (kinks[i + 1] - true[i]) / (true[i] - kinks[i])
    system = Zigzag(*turned(rng, size), np.asarray(kinks), np.asarray(kinks + heights))
    slopes = 1 + np.diff(heights) / np.diff(kinks)
    seeds = seeds_along(rng, system, kinks[0], kinks[-1], 96)
    found = find_fixed_points(system, seeds, newton_seeds=96)
    check(found, system.at(true), (np.abs(slopes) > 1).astype(int), size)
    assert (found.unstable_directions > 0).sum() == count // 2


@pytest.mark.long
@settings(max_examples=6, deadline=None, derandomize=True)
@given(SEEDS, st.sampled_from([2, 3, 8]))
def test_a_line_is_said_to_be_one(number, size):
    rng = np.random.default_rng(number)
    system = Resting(*turned(rng, size))
    found = find_fixed_points(system, seeds_along(rng, system, -3, 3))
    np.testing.assert_array_equal(found.continuum_dimension, [1])
    assert not found.isolated[0]
    assert stability(found) == ["marginal"]
    assert found.members[0] == 48
    off = (found.points[0] - system.centre) @ system.basis
    np.testing.assert_allclose(off[1:], 0, atol=1e-8)


@pytest.mark.long
@settings(max_examples=10, deadline=None, derandomize=True)
@given(SEEDS, st.floats(0.5, 2))
def test_a_ring_is_one_continuum(number, radius):
    rng = np.random.default_rng(number)
    found = find_fixed_points(Ring(rotation(rng, 3), np.asarray(radius)), radius * rng.normal(size=(60, 3)))
    np.testing.assert_array_equal(found.continuum_dimension, [1])
    assert found.members.sum() == 60


def test_two_parallel_lines_are_two():
    """x' = x; y rests at -1 and 1 (stable) and at 0 (not)."""
    grid = np.stack(np.meshgrid(np.linspace(-2, 2, 8), np.linspace(-1.5, 1.5, 8)), axis=-1).reshape(-1, 2)
    found = find_fixed_points(lambda h, g: jnp.stack([h[0], h[1] + 0.3 * (h[1] - h[1] ** 3)]) + 0 * g, grid)
    np.testing.assert_allclose(np.sort(found.points[:, 1]), [-1, 0, 1], atol=1e-8)
    np.testing.assert_array_equal(found.continuum_dimension, [1, 1, 1])


def test_a_plane_is_two_dimensional():
    seeds = np.random.default_rng(0).normal(size=(30, 3))
    found = find_fixed_points(lambda h, g: h * jnp.array([1.0, 1.0, 0.5]) + 0 * g, seeds)
    np.testing.assert_array_equal(found.continuum_dimension, [2])


def test_a_function_must_return_a_state():
    with pytest.raises(ReoptError, match=r"shape \(2,\), not \(1,\)"):
        dynamical_system(lambda h, g: h[:1] + g, 2)


def bistable_gru(units, weight=3.0):
    """Update gates near 1/2, reset gates near 1, h_0 drives itself by `weight`, the others follow h_0 or decay."""
    optimizer = create_learned(jax.random.key(0), cell="gru", units=units)
    recurrent = np.zeros((units, units))
    recurrent[0] = 0.25  # exact in float32
    recurrent[0, 0] = weight
    cell = optimizer.cell
    return eqx.tree_at(
        lambda o: (o.cell.recurrent_gates, o.cell.input_gates, o.cell.bias_gates, o.cell.recurrent_candidate),
        optimizer,
        (
            jnp.zeros_like(cell.recurrent_gates),
            jnp.zeros_like(cell.input_gates),
            jnp.concatenate([jnp.zeros(units), jnp.full(units, 40.0)]),
            jnp.asarray(recurrent, jnp.float32),
        ),
    )


@pytest.mark.long
def test_a_planted_bistable_gru_under_many_gradients_at_once():
    """h_0 = tanh(3 h_0 + a g) has three solutions for a small a g, one for a large one; the rest follow from h_0."""
    units = 24
    optimizer = bistable_gru(units)
    inputs = np.asarray(optimizer.cell.input_candidate, np.float64)[0]
    gradients = np.linspace(-2, 2, 9) / abs(inputs[0])
    seeds = np.random.default_rng(0).normal(size=(96, units))
    before = seeds.copy()
    found = find_fixed_points_over(optimizer, seeds, gradients, newton_gradients=9)
    np.testing.assert_array_equal(seeds, before)
    grid = np.linspace(-1.01, 1.01, 100_000)  # without 0, a root itself
    for number, gradient in enumerate(gradients):
        drive = inputs[0] * gradient
        gap = np.tanh(3 * grid + drive) - grid
        true = grid[:-1][np.sign(gap[:-1]) != np.sign(gap[1:])]
        here = found.gradient == number
        assert here.sum() == len(true), gradient
        order = np.argsort(found.points[here, 0])
        np.testing.assert_allclose(found.points[here, 0][order], true, atol=1e-4)
        # J of the one that drives itself: 1/2 + 1/2 * 3 (1 - h^2).
        np.testing.assert_array_equal(found.unstable_directions[here][order], (0.5 + 1.5 * (1 - true**2) > 1) * 1)
        others = np.tanh(0.25 * found.points[here, :1] + inputs[1:] * gradient)
        np.testing.assert_allclose(found.points[here, 1:], others, atol=1e-9)
        # Where iteration, done plainly, takes each seed.
        state = seeds[:, 0]
        for _ in range(400):
            state = 0.5 * state + 0.5 * np.tanh(3 * state + drive)
        np.testing.assert_allclose(found.points[found.seed_result[number], 0], state, atol=1e-6)
    assert (found.residual < 1e-10).all()
    assert (found.seed_residual < 1e-9).all()
    assert {len(true) for true in [np.flatnonzero(found.gradient == n) for n in range(9)]} == {1, 3}


@pytest.mark.long
def test_a_random_gru_with_one_attractor_has_one_point():
    optimizer = create_learned(jax.random.key(5), cell="gru", units=64)
    seeds = np.random.default_rng(1).normal(size=(64, 64))
    found = find_fixed_points_over(optimizer, seeds, np.array([0.0, 0.5, -0.5]), newton_seeds=8)
    np.testing.assert_array_equal(found.gradient, [0, 1, 2])
    np.testing.assert_array_equal(found.members, [64, 64, 64])
    assert (found.residual < 1e-10).all()
    assert (found.error_bound < 1e-9).all()


SIZE, SLOPE, WIDTH = 64, 0.4, 1.5
PUSHES = np.array([-1.5, -0.9, -0.5, 0.0, 0.3, 0.8, 1.3])  # of what leaves a cubic with one root


class Cycling(Cubic):
    """A cubic of which y_1 and y_2 rotate, out to a circle where y_0 is well above 0, else inwards."""

    def __call__(self, state, gradient):
        after = super().__call__(state, gradient)
        x, y, z = (self.basis.T @ (state - self.centre))[:3]
        growth = 0.5 + (0.7 - 0.2 * (y**2 + z**2)) * jax.nn.sigmoid(10 * x)
        c, s = growth * jnp.cos(1.0), growth * jnp.sin(1.0)
        return after + self.basis[:, 1:3] @ jnp.stack([c * y - s * z, s * y + c * z])


def driven(number, kind=Cubic, unstable=0, still=0):
    """A system of 64 components, gradients that push its cubic by PUSHES, and for each gradient its roots."""
    rng = np.random.default_rng(number)
    basis, centre, factors, shear = turned(rng, SIZE, unstable)
    factors[:still], shear[:still] = 0, 0
    system = kind(basis, centre, factors, shear, np.asarray(SLOPE), np.asarray(WIDTH))
    along = basis.T @ np.ones(SIZE)
    pushes = PUSHES * 2 * SLOPE * WIDTH / 3**1.5
    roots = []
    for push in pushes:
        found = np.roots([-SLOPE / WIDTH**2, 0, SLOPE, push])
        roots.append(np.sort(found[abs(found.imag) < 1e-9].real))
    states = seeds_along(rng, system, -1.3 * WIDTH, 1.3 * WIDTH, 64)
    return system, states, pushes / along[0], roots


def state_at(system, x, gradient):
    """The fixed points whose first coordinates are x: y_i = a_i y_i + s_i (F_0 - y_0) + g (Q^T 1)_i."""
    along = gradient * (system.basis.T @ np.ones(SIZE))
    rest = (along[1:] - system.shear * along[0]) / (1 - system.factors)
    return np.concatenate([x[:, None], np.tile(rest, (len(x), 1))], axis=1) @ system.basis.T + system.centre


def led(system, states, push):
    """First coordinates after 3,000 plain steps."""
    x = (states - system.centre) @ system.basis[:, 0]
    for _ in range(3000):
        x = x + SLOPE * x * (1 - (x / WIDTH) ** 2) + push
    return x


def check_over(found, system, gradients, roots, more):
    """Each root once, with `more(x)` unstable directions beside that of the cubic."""
    assert [int((found.gradient == number).sum()) for number in range(len(gradients))] == [len(x) for x in roots]
    labels = np.array(stability(found))
    for number, (gradient, x) in enumerate(zip(gradients, roots, strict=True)):
        here = np.flatnonzero(found.gradient == number)
        here = here[np.argsort((found.points[here] - system.centre) @ system.basis[:, 0])]
        np.testing.assert_allclose(found.points[here], state_at(system, x, gradient), atol=1e-8)
        unstable = (abs(1 + SLOPE * (1 - 3 * (x / WIDTH) ** 2)) > 1) + more(x)
        np.testing.assert_array_equal(found.unstable_directions[here], unstable)
        assert list(labels[here]) == ["saddle" if count else "stable" for count in unstable]
    assert {len(x) for x in roots} == {1, 3}
    assert (found.residual < 1e-10).all()
    assert (found.error_bound < 1e-9).all()
    assert found.isolated.all()


@pytest.mark.long
@pytest.mark.parametrize("number", [0, 1])
def test_attractors_and_saddles_of_a_driven_cubic_in_64_dimensions(number):
    system, seeds, gradients, roots = driven(number)
    found = find_fixed_points_over(system, seeds, gradients)
    check_over(found, system, gradients, roots, lambda x: 0)
    for here, push in zip(found.seed_result, PUSHES * 2 * SLOPE * WIDTH / 3**1.5, strict=True):
        assert (here >= 0).all()
        x = (found.points[here] - system.centre) @ system.basis[:, 0]
        np.testing.assert_allclose(x, led(system, seeds, push), atol=1e-6)
    assert (found.seed_residual < 1e-10 * np.linalg.norm(found.points, axis=1).max()).all()
    np.testing.assert_array_equal(found.members, np.bincount(found.seed_result.ravel(), minlength=len(found.points)))


@pytest.mark.long
def test_where_every_point_is_a_saddle_all_seeds_run_away():
    system, seeds, gradients, roots = driven(2, unstable=1)
    found = find_fixed_points_over(system, seeds, gradients)
    check_over(found, system, gradients, roots, lambda x: 1)
    np.testing.assert_array_equal(found.seed_result, -2)
    np.testing.assert_array_equal(found.members, 0)


@pytest.mark.long
def test_many_gradients_agree_with_the_search_under_one():
    system, seeds, gradients, _ = driven(3)
    over = find_fixed_points_over(system, seeds, gradients[4:5])
    one = find_fixed_points(system, seeds, float(gradients[4]))
    order = np.linalg.norm(over.points[:, None] - one.points, axis=-1).argmin(axis=0)
    assert sorted(order) == list(range(len(over.points)))
    np.testing.assert_allclose(over.points[order], one.points, atol=1e-9)
    for name in ("unstable_directions", "members", "isolated"):
        np.testing.assert_array_equal(getattr(over, name)[order], getattr(one, name))
    np.testing.assert_allclose(over.spectral_radius[order], one.spectral_radius, atol=1e-8)
    np.testing.assert_array_equal(over.seed_result[0], order[one.seed_result])


@pytest.mark.long
def test_seeds_on_a_cycle_are_counted_and_those_beside_it_are_not():
    """Above the middle root y_1 and y_2 end on a circle, below it at rest."""
    system, seeds, _, roots = driven(4, Cycling, still=2)
    roots = roots[3:4]  # without a push: the pushes of other gradients would reach what rotates
    found = find_fixed_points_over(system, seeds, np.zeros(1), max_iterations=256)
    np.testing.assert_array_equal(found.gradient, [0, 0, 0])
    order = np.argsort((found.points - system.centre) @ system.basis[:, 0])
    np.testing.assert_allclose(found.points[order], system.at(roots[0]), atol=1e-8)
    np.testing.assert_array_equal(found.unstable_directions[order], [0, 1, 2])  # growth 0.5, 0.85, 1.2
    above = led(system, seeds, 0.0) > 0
    np.testing.assert_array_equal(found.seed_result[0] == -1, above)
    assert (found.seed_result[0][~above] == order[0]).all()
    assert 0 < above.sum() < len(seeds)
    assert (found.seed_residual[0][above] > 1e-2).all()


def test_what_never_settles_is_counted_as_such():
    """A rotation by 1 radian, expanding inside the unit circle; g shifts a third, contracting component."""

    def swirl(state, gradient):
        x, y, z = state
        growth = 1.2 - 0.2 * (x**2 + y**2)
        c, s = np.cos(1), np.sin(1)
        return jnp.stack([growth * (c * x - s * y), growth * (s * x + c * y), 0.5 * z + gradient])

    seeds = np.random.default_rng(0).normal(size=(20, 3))
    seeds[:3, :2] *= 1e3  # jump out of reach
    found = find_fixed_points_over(swirl, seeds, np.array([0.0, 1.0]), max_iterations=256)
    np.testing.assert_array_equal(found.seed_result[:, :3], -2)
    np.testing.assert_array_equal(found.seed_result[:, 3:], -1)
    np.testing.assert_allclose(found.points, [[0, 0, 0], [0, 0, 2]], atol=1e-9)
    np.testing.assert_array_equal(found.members, 0)
    np.testing.assert_array_equal(found.unstable_directions, 2)


@pytest.mark.parametrize(
    ("seeds", "gradients"),
    [(np.zeros((2, 3)), np.zeros(0)), (np.full((2, 3), np.nan), np.zeros(2)), (np.zeros(3), np.zeros(2))],
)
def test_refuses_what_is_no_search(seeds, gradients):
    with pytest.raises(ReoptError, match=r"seeds|gradients"):
        find_fixed_points_over(lambda h, g: 0.5 * h + g, seeds, gradients)


def test_a_singular_matrix_spoils_its_own_row_alone():
    matrices = np.array([[[2.0, 1], [0, 4]], [[1, 2], [2, 4]], [[0, 1], [1, 0]]])
    found = _solve(np.stack([matrices, matrices]), np.stack([[[4.0, 8]] * 3, [[2.0, 4]] * 3]))
    expected = [[[1, 2], [np.nan, np.nan], [8, 4]], [[0.5, 1], [np.nan, np.nan], [4, 2]]]
    np.testing.assert_allclose(found, expected, rtol=1e-15)
