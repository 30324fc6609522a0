"""Every figure beside its reference picture, pixel for pixel but for the last bit of a processor's arithmetic.

After a change that is meant: `uv run pytest tests/figures --mpl-generate-path=tests/figures/baseline`, and look.
"""

import figure_catalogue as catalogue
import pytest
from matplotlib.figure import Figure

from reopt.figures.style import RC

pictures = pytest.mark.mpl_image_compare(baseline_dir="baseline", style=RC, savefig_kwargs={"dpi": 80}, tolerance=0.05)


@pytest.mark.parametrize("name", catalogue.NAMES)
@pictures
def test_one_task(name: str) -> Figure:
    return catalogue.module(name).figure(catalogue.arguments(name))


@pytest.mark.parametrize("name", ["clipping", "adaptation", "causes", "beyond"])
@pictures
def test_two_tasks(name: str) -> Figure:
    return catalogue.module(name).figure(catalogue.arguments(name, tasks=("quadratic", "rosenbrock")))


@pytest.mark.parametrize("name", ["performance", "cells", "claims", "tuning", "verdicts"])
@pictures
def test_many_runs(name: str) -> Figure:
    return catalogue.module(name).figure(catalogue.many(name))
