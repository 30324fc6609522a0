"""The plane of a path, and the loss on it."""

import numpy as np
import pytest

from reopt.optimizers.classical import Momentum
from reopt.tasks.quadratic import Quadratic
from reopt.tasks.rosenbrock import Rosenbrock
from reopt.training.landscape import landscape


@pytest.fixture(scope="module")
def of_quadratic():
    return landscape(Momentum(0.3, 0.5), Quadratic(), 1, 40, grid=11)


def test_tables_have_their_columns_and_rows(of_quadratic) -> None:
    grid, path = of_quadratic
    assert list(grid) == ["u", "v", "loss"]
    assert list(path) == ["step", "u", "v", "distance", "loss"]
    assert len(grid) == 121
    assert path["step"].tolist() == list(range(41))


def test_path_starts_at_the_origin_and_ends_on_the_positive_side(of_quadratic) -> None:
    path = of_quadratic.path
    assert path.loc[0, ["u", "v", "distance"]].tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    assert (path.iloc[-1][["u", "v"]] >= 0).all()
    assert path["loss"].iloc[-1] < path["loss"].iloc[0]


def test_plane_holds_the_whole_path(of_quadratic) -> None:
    grid, path = of_quadratic
    for side in ("u", "v"):
        assert grid[side].min() < path[side].min()
        assert path[side].max() < grid[side].max()


def test_two_parameters_are_their_own_plane() -> None:
    grid, path = landscape(Momentum(1e-4, 0.5), Rosenbrock(), 1, 30, grid=9)
    for table in (grid, path):
        expected = (1 - table["u"]) ** 2 + 100 * (table["v"] - table["u"] ** 2) ** 2
        np.testing.assert_allclose(table["loss"], expected, rtol=1e-3, atol=1e-3)
    assert np.allclose(path["distance"], 0, atol=1e-6)
    assert grid["u"].min() < -1.9
    assert grid["v"].max() > 2.9


def test_a_path_that_leaves_the_numbers_ends_there() -> None:
    grid, path = landscape(Momentum(1.0, 0.9), Rosenbrock(), 1, 30, grid=5)
    assert 0 < len(path) < 31
    assert np.isfinite(path[["u", "v"]]).all(axis=None)
    assert np.isfinite(grid[["u", "v"]]).all(axis=None)
