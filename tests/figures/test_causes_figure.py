"""The figure of causes: every cost and combination where it belongs."""

import figure_data
import numpy as np
import pytest
from artists import named

from reopt.figures import causes


def test_every_cost_is_drawn_at_its_value_within_its_interval() -> None:
    data = figure_data.causes()
    drawn = causes.figure({"quadratic": data})
    for mechanism in causes.MECHANISMS:
        for quantity in causes.QUANTITIES:
            (point,) = named(drawn, f"worth {mechanism} {quantity}")
            row = data.worth[(data.worth["mechanism"] == mechanism) & (data.worth["quantity"] == quantity)].iloc[0]
            assert point.get_xdata()[0] == row["value"]
    low, high = named(drawn, "interval alone")[0].get_xdata()
    assert (low, high) == pytest.approx((0.072, 0.108))
    assert len(named(drawn, "other lstm32-s0")) == 4
    left, right = drawn.axes[0].get_xlim()
    assert left < -0.002 < 0.2 < right


def test_combinations_are_named_by_what_they_keep_and_ordered_by_number() -> None:
    data = figure_data.causes()
    drawn = causes.figure({"quadratic": data})
    (points,) = named(drawn, "combinations")
    labels = [text.get_text() for text in points.axes.get_yticklabels()]
    assert labels[0] == "M C S A"
    assert labels[-1] == "· · · ·"
    assert [label.count("·") for label in labels] == [0] + [1] * 4 + [2] * 6 + [3] * 4 + [4]
    at = labels.index("· · S A")
    assert points.get_xdata()[at] == pytest.approx(0.041 + 0.09 + 0.02 + 0.11)
    for variant, value in (("linearised", 0.12), ("input_clipped", 0.0415), ("tuned_momentum", 0.047)):
        np.testing.assert_allclose(named(drawn, variant)[0].get_xdata(), value)


def test_caption_tells_costs_and_their_sum() -> None:
    text = causes.caption({"quadratic": figure_data.causes()})
    assert "momentum 0.09 and 0.145" in text
    assert "adaptation −0.002 and −0.002" in text
    assert "without all four 0.224, of which 0.114 is the sum" in text
