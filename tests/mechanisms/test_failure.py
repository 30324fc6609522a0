"""Mechanisms that are planted break where they must."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from reopt.dynamics.record import Recording, record
from reopt.evaluation.shift import Setup, beyond, build
from reopt.mechanisms.failure import (
    MARGIN,
    NONE,
    Recipe,
    breaking,
    diagnostics,
    first_to_break,
    home_of,
    spectral_radii,
    values_at_home,
)
from reopt.optimizers.classical import Adam, Momentum

SETUP = Setup({"dimension": 3, "log10_eigenvalues": [-2.0, 0.0]}, 30)
RECIPE = Recipe(0, 6, 2, 3)
TASK = build("quadratic", SETUP.problem)
CLIP = 0.5


class Clipped(Momentum):
    """Momentum of gradients that are clipped at `CLIP`."""

    def update(self, state, gradient):
        return super().update(state, jnp.clip(gradient, -CLIP, CLIP))


def at_home(optimizer) -> Recording:
    return record(optimizer, TASK, num_steps=SETUP.num_steps, **RECIPE._asdict())


def test_shares_count_what_is_planted():
    states = np.zeros((2, 1, 4, 1), np.float32)
    states[:, 0, :, 0] = [[0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0]]
    gradients = np.array([[[-2.0, -0.4, 0.2, 3.0]], [[0.1, 0.3, 0.6, 0.7]]], np.float32)
    optimizer = Momentum(0.1, 0.9)
    runs = Recording(states, gradients, gradients, np.ones((2, 1), np.float32), np.arange(4))
    home = home_of(optimizer, runs, positive=2.5, negative=1.0, low_quantile=0.3)._replace(small=0.25)
    away = runs._replace(states=2 * states - 1.5)  # -1.5, 0.5, 2.5, 4.5 of a range 0 to 3
    shares = diagnostics(optimizer, away, home)
    assert shares == pytest.approx({"clipping": 2 / 8, "adaptation": 2 / 8, "states": 0.5, "momentum": 0.0})
    lost = away._replace(states=np.full_like(states, np.nan), gradients=np.full_like(gradients, np.nan))
    assert diagnostics(optimizer, lost, home) == {"clipping": 1, "adaptation": 0, "states": 1, "momentum": 1}
    unclipped = home._replace(positive=np.nan, negative=np.nan)
    assert diagnostics(optimizer, lost, unclipped)["clipping"] == 0


@pytest.mark.parametrize("beta", [0.9, 1.01])
def test_spectral_radius_is_that_of_the_velocity(beta: float):
    optimizer = Momentum(1e-3, beta)
    np.testing.assert_allclose(spectral_radii(optimizer, at_home(optimizer)), beta, rtol=1e-6)


def test_spectral_radius_of_adam_leaves_its_clock_out():
    np.testing.assert_allclose(spectral_radii(Adam(0.1, 0.9, 0.99), at_home(Adam(0.1, 0.9, 0.99))), 0.99, rtol=1e-6)


@pytest.mark.long
def test_planted_clipping_is_the_first_to_break():
    """At home it settles to 1e-15; under a large loss, clipped steps of one size jump to and fro across the minimum."""
    optimizer, setup = Clipped(0.8, 0.1), Setup({"dimension": 3, "log10_eigenvalues": [-0.3, 0.0]}, 30)
    runs = record(optimizer, build("quadratic", setup.problem), num_steps=setup.num_steps, **RECIPE._asdict())
    home = home_of(optimizer, runs, positive=CLIP, negative=CLIP, low_quantile=0.3)
    table = breaking(optimizer, setup, runs, home, name="quadratic", recipe=RECIPE)
    assert set(table["axis"]) == {"horizon", "scale", "condition"}
    own = table[(table["axis"] == "scale") & (table["value"] == 1)]
    np.testing.assert_allclose(own["limit"] - own["diagnostic"], MARGIN)
    assert not own["crossed"].any()
    clips = table[(table["axis"] == "scale") & (table["mechanism"] == "clipping")]
    assert clips["diagnostic"].is_monotonic_increasing
    found = beyond(optimizer, setup, subject="clipped", home="quadratic", problems=32, seed=0)
    first = first_to_break(found.table, table, home=values_at_home("quadratic", setup))
    larger = first[(first["axis"] == "scale") & (first["direction"] == "larger")].iloc[0]
    assert larger["mechanism"] == "clipping"
    assert larger["diagnostic"] > larger["limit"]


def test_the_first_is_the_farthest_over_its_limit_at_the_mildest_worse_value():
    away = pd.DataFrame(
        {
            "axis": "scale",
            "value": ["0.01", "0.1", "1.0", "10.0", "100.0"],
            "worse": [True, True, False, False, True],
            "meta_objective": [0.9, 0.5, 0.1, 0.1, 2.0],
            "final": 0.0,
        }
    )
    rows = [
        ("scale", 0.01, "states", 0.9, 0.1, True),
        ("scale", 0.1, "clipping", 0.3, 0.1, True),
        ("scale", 0.1, "adaptation", 0.8, 0.4, True),
        ("scale", 100.0, "clipping", 0.05, 0.1, False),
    ]
    table = pd.DataFrame(rows, columns=["axis", "value", "mechanism", "diagnostic", "limit", "crossed"])
    first = first_to_break(away, table, home={"scale": 1.0}).set_index("direction")
    assert first["value"].to_dict() == {"larger": 100.0, "smaller": 0.1}
    assert first["mechanism"].to_dict() == {"larger": NONE, "smaller": "adaptation"}
    assert first["meta_objective"].to_dict() == {"larger": 2.0, "smaller": 0.5}
