"""Figures are drawn on two axes, also where the state has one component or none."""

import numpy as np
import pytest

from reopt.dynamics.pca import pca, project
from reopt.figures.summaries import in_the_plane


@pytest.mark.parametrize("size", [0, 1, 2, 4])
def test_the_basis_for_drawing_has_two_components(size: int) -> None:
    states = np.random.default_rng(0).normal(size=(5, 2, 3, size))
    found = pca(states)
    basis = in_the_plane(found)
    count = max(2, size)
    assert basis["components"].shape == (count, size)
    assert basis["explained"].shape == (count,)
    assert basis["projected"].shape == (5, 2, 3, max(2, min(size, 3)))
    np.testing.assert_array_equal(basis["projected"][..., size:2], 0)
    np.testing.assert_allclose(
        project(states, found._replace(components=basis["components"]), 2), basis["projected"][..., :2], atol=1e-6
    )
