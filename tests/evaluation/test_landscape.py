"""The plane of a path, and the loss on it."""

import numpy as np
import pytest

from reopt.evaluation.evaluate import problem_batches
from reopt.evaluation.landscape import _path, landscape
from reopt.optimizers.classical import Momentum
from reopt.tasks.quadratic import Quadratic
from reopt.tasks.rosenbrock import Rosenbrock


@pytest.fixture(scope="module")
def of_quadratic():
    return landscape(Momentum(0.3, 0.5), Quadratic(), 1, 40, grid=11)


def test_tables_have_their_columns_and_rows(of_quadratic) -> None:
    grid, path = of_quadratic
    assert list(grid) == ["u", "v", "loss"]
    assert list(path) == ["step", "u", "v", "distance", "loss"]
    assert len(grid) == 121
    assert path["step"].tolist() == list(range(41))


def test_start_and_end_lie_on_the_plane_and_most_of_the_path_on_its_positive_side(of_quadratic) -> None:
    path = of_quadratic.path
    length = path["u"].iloc[-1]
    assert path.loc[0, ["u", "v", "distance"]].tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    assert path.iloc[-1][["v", "distance"]].tolist() == pytest.approx([0, 0], abs=1e-6 * length)
    assert length > 0
    assert path["v"].sum() >= 0
    assert path["loss"].iloc[-1] < path["loss"].iloc[0]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_plane_is_the_one_nearest_to_the_path_of_those_through_both_ends(seed) -> None:
    """By the closed form: squared distances to a plane through a line are the part across it beside the largest
    singular value's, which no other direction across can beat."""
    path = landscape(Momentum(0.3, 0.5), Quadratic(), seed, 40, grid=3).path
    rng = np.random.default_rng(seed)
    points = _path(Momentum(0.3, 0.5), Quadratic(), next(problem_batches(Quadratic(), seed=seed, count=1)), 40)
    line = points[-1] - points[0]
    across = (points - points[0]) - np.outer((points - points[0]) @ line, line) / (line @ line)
    least = np.sum(path["distance"] ** 2)
    for direction in rng.normal(size=(50, 5)):
        direction -= (direction @ line) * line / (line @ line)
        direction /= np.linalg.norm(direction)
        assert np.sum(across**2) - np.sum((across @ direction) ** 2) >= least * (1 - 1e-9)


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
