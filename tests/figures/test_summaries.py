"""What is made of tables before drawing."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reopt.figures.summaries import mean_interval, mode_kind, project


def test_mean_interval_is_the_normal_one() -> None:
    table = pd.DataFrame({"who": ["b", "a", "b", "b"], "x": [1.0, 5.0, 2.0, 6.0]})
    made = mean_interval(table, "who", "x")
    low, high = stats.norm.interval(0.95, loc=3.0, scale=stats.sem([1.0, 2.0, 6.0]))
    assert list(made["who"]) == ["b", "a"]
    assert made.loc[0, ["mean", "low", "high", "count"]].tolist() == pytest.approx([3.0, low, high, 3])
    assert made.loc[1, "mean"] == 5.0
    assert np.isnan(made.loc[1, "low"])


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_diverged_problem_makes_the_mean_infinite(bad: float) -> None:
    made = mean_interval(pd.DataFrame({"who": ["a", "a"], "x": [1.0, bad]}), "who", "x")
    assert made.loc[0, "mean"] == np.inf
    assert np.isnan(made.loc[0, "high"])


def test_project_undoes_the_components() -> None:
    basis, _ = np.linalg.qr(np.vander(np.arange(1.0, 5.0)))
    pca = {"mean": np.array([1.0, -2.0, 0.5, 3.0]), "components": basis[:, :2].T}
    coordinates = np.array([[2.0, -1.0], [0.0, 4.0]])
    points = pca["mean"] + coordinates @ pca["components"]
    np.testing.assert_allclose(project(pca, points), coordinates, atol=1e-12)


def test_mode_kinds() -> None:
    modes = pd.DataFrame(
        {"alpha_real": [1.0, -1.0, -1.0, 2.0], "alpha_imag": [0.0, 0.0, 0.0, 0.1], "beta_imag": [0.0, 0.0, 0.2, 0.0]}
    )
    assert mode_kind(modes).tolist() == ["positive", "negative", "complex", "complex"]
