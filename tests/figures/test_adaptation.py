"""Fixed points under constant gradients and the rates there."""

import figure_data
import numpy as np
import pytest
from artists import legend_texts, named, names

from reopt.figures.adaptation import RATE, caption, figure


def test_every_fixed_point_is_drawn_on_its_arm() -> None:
    data = figure_data.adaptation()
    drawn = figure({"quadratic": data})
    counts = {name: len(named(drawn, name)[0].get_xdata()) for name in names(drawn, "arm ")}
    assert counts == {"arm negative True": 14, "arm zero True": 1, "arm positive True": 13, "arm positive False": 1}
    assert sum(counts.values()) == len(data.adaptation)


def test_points_that_did_not_converge_are_open() -> None:
    drawn = figure({"quadratic": figure_data.adaptation()})
    assert named(drawn, "arm positive False")[0].get_markerfacecolor() == "none"
    assert named(drawn, "arm positive True")[0].get_markerfacecolor() != "none"


def test_update_functions_are_those_of_one_arm() -> None:
    drawn = figure({"quadratic": figure_data.adaptation()})
    assert sorted(names(drawn, "held ")) == ["held 0", "held 0.01", "held 0.1", "held 1"]


def test_rates_of_both_arms_and_of_rmsprop_over_those_at_rest_on_logarithmic_axes() -> None:
    """The rates are 3.5 (1 + |g| / 0.05)^-0.6, so 3.5 at rest; RMSProp's axis is that of the shown run."""
    data = figure_data.adaptation()
    drawn = figure({"quadratic": data})
    for arm in ("negative", "positive"):
        (line,) = named(drawn, f"rate {arm}")
        size, rate = line.get_data()
        np.testing.assert_allclose(rate, (1 + size / 0.05) ** -0.6)
        assert np.all(np.diff(size) > 0)
    (line,) = named(drawn, "rate rmsprop")
    rates = data.rmsprop[data.rmsprop["arm"] == "positive"].sort_values("gradient")[RATE].to_numpy()
    np.testing.assert_allclose(line.get_ydata()[1:] / line.get_ydata()[0], rates[1:] / rates[0])
    assert (line.axes.get_xscale(), line.axes.get_yscale()) == ("log", "log")
    assert legend_texts(drawn) == ["g < 0", "g = 0", "g > 0", "RMSProp"]


def test_knee_is_marked_where_there_is_one() -> None:
    data = figure_data.adaptation()
    assert list(named(figure({"quadratic": data}), "knee")[0].get_xdata()) == [0.05, 0.05]
    for knee in (None, np.nan):
        without = data._replace(summary={**data.summary, "knee": knee})
        assert named(figure({"quadratic": without}), "knee") == []


def test_without_rmsprop_and_other_seeds() -> None:
    data = figure_data.adaptation()._replace(rmsprop=None, rmsprop_summary=None, others={})
    drawn = figure({"quadratic": data})
    assert legend_texts(drawn) == ["g < 0", "g = 0", "g > 0"]
    assert names(drawn, "rate gru32") == []
    assert "RMSProp" not in caption({"quadratic": data})


@pytest.mark.parametrize(("low", "said"), [(-0.62, "−0.58 (95% interval −0.62 to −0.54)"), (np.nan, "not determined")])
def test_caption_tells_the_slope_or_that_there_is_none(low: float, said: str) -> None:
    data = figure_data.adaptation()
    text = caption({"quadratic": data._replace(summary={**data.summary, "low": low})})
    assert f"log-log slope {said}" in text
    assert "28 of 29 fixed points converged" in text
