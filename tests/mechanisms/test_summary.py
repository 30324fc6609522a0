"""The mechanisms of a run in a number each."""

import numpy as np
import pandas as pd
import pytest

from reopt.mechanisms.clipping import gradient_density
from reopt.mechanisms.summary import summary

MODES = pd.DataFrame({"gain": [0.2, 0.7, 0.1], "magnitude": [0.99, 0.9, 0.1]})
CLIPPING = pd.DataFrame(
    {"place": ["initial", "fixed_point"], "threshold_positive": [4.0, 1.0], "threshold_negative": [-3.0, 1.0]}
)


def _values(clipping: pd.DataFrame = CLIPPING, **adaptation: float | None) -> dict[str, float]:
    sizes = np.random.default_rng(0).lognormal(size=(50, 20, 10))
    table = summary(MODES, clipping, gradient_density(sizes), {"initial": 2.0, "peak": 5.0}, adaptation)
    return dict(zip(table["quantity"], table["value"], strict=True))


def test_each_quantity_is_read_off() -> None:
    found = _values(exponent=-0.5)
    assert (found["momentum"], found["rise"], found["exponent"]) == (0.9, 2.5, -0.5)
    quantile = np.exp(2.3263)  # 99% of the lognormal distribution
    assert found["threshold"] == pytest.approx(3.0 / quantile, rel=0.1)


def test_what_is_not_determined_is_no_number() -> None:
    found = _values(CLIPPING.assign(threshold_positive=np.nan, threshold_negative=np.nan), exponent=None)
    assert np.isnan(found["exponent"])
    assert np.isnan(found["threshold"])
