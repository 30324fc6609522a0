"""Update functions, thresholds, and the gradients met."""

import figure_data
import numpy as np
import pytest
from artists import legend_texts, named

from reopt.figures.clipping import caption, figure

THRESHOLD = 2 * np.arccosh(np.sqrt(2))


def test_update_functions_at_the_initial_state_and_the_fixed_point() -> None:
    data = figure_data.clipping()
    drawn = figure({"quadratic": data})
    for place in ("initial", "fixed_point"):
        (line,) = named(drawn, f"update {place}")
        table = data.update_functions[data.update_functions["place"] == place].sort_values("gradient")
        np.testing.assert_array_equal(line.get_xydata(), table[["gradient", "update"]])
    assert legend_texts(drawn) == ["initial state", "fixed point", "other seeds", "whole run", "first 10 steps"]


def test_half_slope_marks_lie_on_the_curve_and_missing_ones_are_left_out() -> None:
    drawn = figure({"quadratic": figure_data.clipping()})
    above, below = named(drawn, "half slope initial")
    assert above.get_xdata()[0] == pytest.approx(THRESHOLD)
    assert below.get_xdata()[0] == pytest.approx(-THRESHOLD)
    value, _ = figure_data.update(np.array([THRESHOLD]), 0.3, 1.0)
    assert above.get_ydata()[0] == pytest.approx(value[0], abs=0.02)
    assert len(named(drawn, "half slope fixed_point")) == 1


def test_relative_slope_starts_at_one_and_is_half_at_the_half_slope_gradient() -> None:
    drawn = figure({"quadratic": figure_data.clipping()})
    for sign in ("+1", "-1"):
        (line,) = named(drawn, f"slope initial {sign}")
        size, slope = line.get_data()
        assert slope[0] == pytest.approx(1, abs=1e-3)
        assert np.interp(THRESHOLD, size, slope) == pytest.approx(0.5, abs=0.01)
        assert line.axes.get_xscale() == "log"


@pytest.mark.parametrize("scale", ["linear", "log"])
@pytest.mark.parametrize("phase", ["all", "first10"])
def test_densities_are_drawn_on_their_edges(scale: str, phase: str) -> None:
    data = figure_data.clipping()
    (stairs,) = named(figure({"quadratic": data}), f"density {scale} {phase}")
    values, edges, _ = stairs.get_data()
    table = data.gradient_density[(data.gradient_density["scale"] == scale) & (data.gradient_density["phase"] == phase)]
    np.testing.assert_array_equal(values, table["density"])
    np.testing.assert_array_equal(edges, [*table["left"], table["right"].iloc[-1]])
    assert stairs.axes.get_xscale() == ("log" if scale == "log" else "linear")


def test_function_and_density_share_their_axis() -> None:
    drawn = figure({"quadratic": figure_data.clipping()})
    (update,), (density,) = named(drawn, "update initial"), named(drawn, "density linear all")
    assert update.axes.get_xlim() == density.axes.get_xlim() == (-4, 4)


def test_caption_tells_half_slope_gradients_and_share() -> None:
    data = figure_data.clipping()
    assert "size of 1.76, 1.76" in caption({"quadratic": data})
    assert "1.2% of the gradients met" in caption({"quadratic": data})
    unknown = data.clipping.assign(fraction_beyond_half_slope=np.nan)
    assert "an unknown share of the gradients" in caption({"quadratic": data._replace(clipping=unknown)})
    never = data.clipping.assign(half_slope_positive=np.nan)
    assert "beyond the range, 1.76" in caption({"quadratic": data._replace(clipping=never)})


def test_the_caption_names_the_places_that_are_drawn() -> None:
    """At the start Adam's slope holds for gradients of its eps, smaller than any on the grid: not drawn, not named."""
    data = figure_data.clipping()
    assert "gradient at the initial state and at the fixed point; circles mark" in caption({"quadratic": data})
    sizes = data.update_functions["gradient"].abs()
    unseen = data.clipping.assign(
        half_slope_positive=1e-9 * sizes.max(), half_slope_negative=1e-9 * sizes.max(), shift=0.0
    )
    curve = data.update_functions.query("place == 'initial' and shift == 0")
    running = data._replace(clipping=unseen, operating=curve.assign(step=7))
    told = caption({"quadratic": running})
    assert "in the state of a run, halfway" in told
    assert "the slope halves below the smallest gradient drawn" in told
    assert not any(words in told for words in ("at the fixed point", "circles", "size of"))
    assert not named(figure({"quadratic": running}), "update initial")


def test_other_seeds_are_thin_and_grey() -> None:
    data = figure_data.clipping()
    drawn = figure({"quadratic": data})
    for other, table in data.others.items():
        (line,) = named(drawn, f"update {other}")
        np.testing.assert_array_equal(line.get_xydata(), table[["gradient", "update"]])
        assert line.get_linewidth() < named(drawn, "update initial")[0].get_linewidth()
    assert "2 other seeds grey" in caption({"quadratic": data})
    assert "other seeds" not in legend_texts(figure({"quadratic": data._replace(others={})}))
