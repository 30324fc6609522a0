"""Clipping: thresholds, hardness and fractions of planted clips; the density of gradients."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from reopt.dynamics.linearization import linearize
from reopt.dynamics.pca import pca
from reopt.mechanisms.update_function import (
    Place,
    clipping,
    gradient_density,
    gradient_grid,
    gradient_limit,
    places,
    update_functions,
)
from reopt.optimizers.classical import Adam, Momentum, RMSProp
from reopt.optimizers.learned import LearnedOptimizer, create_learned


class Clipped(Momentum):
    """Momentum of a squashed gradient."""

    squash: callable = eqx.field(static=True, default=jnp.tanh)

    def update(self, state: Array, gradient: Array) -> Array:
        return super().update(state, self.squash(gradient))


def _clipping(optimizer, gradients=(0.0,), limit=10.0, state=(0.0,)):
    return clipping(optimizer, [Place("initial", 0.0, np.array(state))], np.array(gradients), limit=limit).iloc[0]


def test_a_hard_clip_is_read_back():
    threshold = 0.37
    met = np.array([[0.1, 0.36, 0.38], [-0.36, -0.38, -5.0]])
    row = _clipping(Clipped(0.2, 0.9, lambda g: jnp.clip(g, -threshold, threshold)), met)
    assert row.slope_at_zero == pytest.approx(-0.2)
    assert row.threshold == pytest.approx(threshold, rel=1e-12)
    assert row.half_slope_positive == pytest.approx(threshold, rel=1e-9)
    assert row.half_slope_negative == pytest.approx(threshold, rel=1e-9)
    assert row.hardness == pytest.approx(1, rel=1e-9)
    assert row.fraction_beyond_half_slope == pytest.approx(0.5)
    assert row.asymmetry == pytest.approx(0, abs=1e-12)
    assert row.saturation == 0
    assert row.jump == 0


def test_a_soft_clip_is_read_back():
    """The slope of tanh(g / s) is sech^2: half of that at zero at s acosh(sqrt 2); it ends at s times that slope."""
    scale = 0.3
    row = _clipping(Clipped(0.2, 0.9, lambda g: scale * jnp.tanh(g / scale)), [1.0, -1.0, 0.1, 0.1])
    assert row.threshold == pytest.approx(scale, rel=1e-12)
    assert row.half_slope_positive == pytest.approx(scale * np.arccosh(np.sqrt(2)), rel=1e-9)
    assert row.hardness == pytest.approx(np.arccosh(10**0.5) / np.arccosh((10 / 9) ** 0.5), rel=1e-9)
    assert row.fraction_beyond_half_slope == 0.5


def test_the_threshold_is_the_level_however_few_gradients_saturate():
    """With gradients up to s / 2 alone the slope is still 0.786 of that at zero; followed to 100 s the level shows."""
    scale = 0.3
    squash = Clipped(0.2, 0.9, lambda g: scale * jnp.tanh(g / scale))
    at = [Place("initial", 0.0, np.zeros(1))]
    row = clipping(squash, at, np.array([0.1]), limit=scale / 2, reach=100 * scale).iloc[0]
    assert row.threshold == pytest.approx(scale, rel=1e-12)
    assert row.saturation == pytest.approx(1 / np.cosh(0.5) ** 2, rel=1e-12)
    assert row.far_saturation == 0
    assert np.isnan(clipping(squash, at, np.array([0.1]), limit=scale / 2).iloc[0].threshold)


def test_a_lopsided_clip_has_two_half_slope_gradients():
    row = _clipping(Clipped(1.0, 0.9, lambda g: jnp.clip(g, -0.2, 0.5)), [0.3, -0.3, -0.3, 0.6])
    assert row.half_slope_positive == pytest.approx(0.5)
    assert row.half_slope_negative == pytest.approx(0.2)
    assert row.fraction_beyond_half_slope == 0.75
    # u(g) + u(-g) - 2 u(0) reaches -0.3, u(g) - u(-g) reaches 0.7.
    assert row.asymmetry == pytest.approx(0.3 / 0.7)


def test_no_clip_has_no_threshold():
    row = _clipping(Momentum(0.2, 0.9), [1.0, 100.0], state=(2.0,))
    assert np.isnan(row.threshold)
    assert np.isnan(row.half_slope_positive)
    assert np.isnan(row.half_slope_negative)
    assert np.isnan(row.hardness)
    assert row.fraction_beyond_half_slope == 0
    assert row.saturation == pytest.approx(1)
    assert row.asymmetry == pytest.approx(0, abs=1e-12)


def test_a_slope_that_first_rises_is_bracketed_where_it_falls():
    """u' = -(1 + 3 g^2) up to 1, then 0."""
    row = _clipping(Clipped(1.0, 0.9, lambda g: jnp.clip(g, -1, 1) + jnp.clip(g, -1, 1) ** 3))
    assert row.half_slope_positive == pytest.approx(1, rel=1e-9)


def test_an_input_by_sign_is_a_jump_and_no_slope():
    optimizer = create_learned(jax.random.key(0), cell="gru", units=4, features="log1p")
    optimizer = LearnedOptimizer(optimizer.cell, optimizer.start, jnp.ones(4), jnp.float32(0.0), features="log1p")
    row = _clipping(optimizer, state=np.zeros(4))
    assert row.jump != 0
    assert np.isnan(row.half_slope_positive)
    assert np.isnan(row.fraction_beyond_half_slope)


def test_rmsprop_at_rest_divides_by_the_gradient_that_comes():
    """u = -lr g / sqrt((1 - decay) g^2 + eps): slope at half where (1 + q g^2)^(-3/2) = 1/2, q = (1 - decay) / eps."""
    row = _clipping(RMSProp(0.1, 0.9, 1e-2))
    assert row.half_slope_positive == pytest.approx(np.sqrt((2 ** (2 / 3) - 1) / 10), rel=1e-8)


def test_update_functions_and_their_slopes():
    optimizer = Clipped(0.5, 0.9)
    at = [Place("initial", 0.0, np.zeros(1)), Place("pc1", 2.0, np.array([3.0]))]
    grid = np.linspace(-2, 2, 9)
    table = update_functions(optimizer, at, grid)
    assert list(table.columns) == ["place", "shift", "gradient", "update", "slope"]
    np.testing.assert_allclose(table["update"][:9], -0.5 * np.tanh(grid), atol=1e-15)
    np.testing.assert_allclose(table["update"][9:], -0.5 * (2.7 + np.tanh(grid)))
    np.testing.assert_allclose(table["slope"][:9], -0.5 / np.cosh(grid) ** 2)
    assert set(table.place[9:]) == {"pc1"}


@pytest.mark.parametrize("count", [11, 40, 201])
@pytest.mark.parametrize(("limit", "linear"), [(100.0, 0.5), (1.0, 3.0)])
def test_grid_is_symmetric_and_reaches_the_limit(count, limit, linear):
    grid = gradient_grid(limit, linear_limit=linear, num_points=count)
    assert len(grid) == 2 * (count // 2) + 1
    assert 0 in grid
    np.testing.assert_array_equal(grid, -grid[::-1])
    assert np.all(np.diff(grid) > 0)
    assert grid[-1] == pytest.approx(limit)


def test_limit_is_a_quantile_of_finite_sizes():
    gradients = np.concatenate([np.linspace(-1, 1, 2001), [np.nan, np.inf]])
    assert gradient_limit(gradients, quantile=0.5, factor=4.0) == pytest.approx(2.0, rel=1e-2)
    assert gradient_limit(np.zeros(3)) == 1


def test_places_along_directions():
    rng = np.random.default_rng(0)
    states = rng.normal(size=(10, 4, 3, 1)) * 2.0
    linear = linearize(Momentum(0.1, 0.9), np.zeros(1))
    found = places(
        Momentum(0.1, 0.9), point=np.zeros(1), states=states, pca=pca(states), linearization=linear,
        shifts=(-2, 1), visited_steps=(3, 99),
    )  # fmt: skip
    assert [(p.place, p.shift) for p in found] == [
        ("initial", 0), ("fixed_point", 0), ("slow_mode", -2), ("slow_mode", 1), ("pc1", -2), ("pc1", 1),
        ("visited", 3),
    ]  # fmt: skip
    np.testing.assert_allclose([p.state[0] for p in found[2:6]], np.array([-2, 1, -2, 1]) * states.std())
    assert found[6].state[0] in states[3]


def test_places_keep_a_second_moment_at_or_above_zero():
    rng = np.random.default_rng(0)
    states = np.abs(rng.normal(size=(50, 3)))
    states[:, 0] -= 1
    found = places(
        Adam(0.1), point=np.zeros(3), states=states, pca=pca(states, clock=2), shifts=(-2, 2), num_components=2
    )
    assert min(p.state[1] for p in found) == 0
    assert min(p.state[0] for p in found) < 0
    assert np.isfinite(update_functions(Adam(0.1), found, np.array([-1.0, 0, 1.0]))["update"]).all()


def test_density_integrates_to_one_and_knows_its_phases():
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(40, 8, 5))
    gradients[10:] *= 1e-2
    gradients[0, 0, 0] = np.nan
    table = gradient_density(gradients, num_bins=50)
    for (_, scale), part in table.groupby(["phase", "scale"]):
        width = part.right - part.left if scale == "linear" else np.log10(part.right / part.left)
        assert np.sum(part.density * width) == pytest.approx(1, abs=0.02)
    log = table[table.scale == "log"]

    def median(part):
        mass = np.cumsum(part.density * np.log10(part.right / part.left))
        return part.right.to_numpy()[np.searchsorted(mass, 0.5)]

    assert median(log[log.phase == "first10"]) == pytest.approx(0.67, rel=0.4)
    assert median(log[log.phase == "all"]) < 0.03


def test_density_of_no_gradients():
    table = gradient_density(np.zeros((3, 1, 1)), num_bins=5)
    assert np.isfinite(table.density).all()
