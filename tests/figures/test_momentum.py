"""States, modes and the impulse response."""

import figure_data
import numpy as np
import pytest
from artists import legend_texts, named, names

from reopt.figures.momentum import caption, figure


def test_every_visited_state_is_drawn_and_coloured_by_step() -> None:
    data = figure_data.momentum()
    drawn = figure({"quadratic": data})
    (states,) = named(drawn, "states")
    projected = data.pca["projected"]
    steps, problems, params, _ = projected.shape
    assert len(states.get_offsets()) == steps * problems * params
    np.testing.assert_array_equal(states.get_array()[: problems * params], 0)
    np.testing.assert_array_equal(states.get_array()[-problems * params :], steps - 1)
    np.testing.assert_allclose(states.get_offsets()[7], projected[0, 1, 2, :2], rtol=1e-6)


def test_fixed_points_are_projected_and_unstable_ones_open() -> None:
    drawn = figure({"quadratic": figure_data.momentum()})
    stable, unstable = named(drawn, "fixed points")
    assert stable.get_xydata()[0] == pytest.approx([0.0, 0.4])
    assert unstable.get_xydata()[0] == pytest.approx([2.0, 0.8])
    assert unstable.get_markerfacecolor() == "none" != stable.get_markerfacecolor()


def test_no_fixed_point_found_still_gives_a_figure() -> None:
    none = {"points": np.empty((0, 4)), "spectral_radius": np.empty(0)}
    data = figure_data.momentum()._replace(fixed_points=none)
    assert named(figure({"quadratic": data}), "fixed points") == []
    assert "0 fixed points" in caption({"quadratic": data})


def test_update_functions_are_those_of_the_slow_mode() -> None:
    data = figure_data.momentum()
    drawn = figure({"quadratic": data})
    assert sorted(names(drawn, "shift ")) == sorted(f"shift {shift}" for shift in (-2, -1, 0, 1, 2))
    (line,) = named(drawn, "shift 2")
    table = data.update_functions
    expected = table[(table["place"] == "slow_mode") & (table["shift"] == 2)].sort_values("gradient")
    np.testing.assert_array_equal(line.get_ydata(), expected["update"])


def test_every_eigenvalue_stands_in_the_complex_plane_with_the_unit_circle() -> None:
    data = figure_data.momentum()
    drawn = figure({"quadratic": data})
    offsets = np.concatenate(
        [named(drawn, f"eigenvalues {kind}")[0].get_offsets() for kind in ("positive", "negative", "complex")]
    )
    expected = data.modes[["beta_real", "beta_imag"]].to_numpy()
    np.testing.assert_allclose(np.sort(offsets, axis=0), np.sort(expected, axis=0))
    (circle,) = named(drawn, "unit circle")
    np.testing.assert_allclose(np.hypot(*circle.get_data()), 1)
    assert circle.axes.get_aspect() == 1


def test_modes_of_both_signs_and_complex_ones_are_all_there() -> None:
    data = figure_data.momentum()
    drawn = figure({"quadratic": data})
    counts = {kind: len(named(drawn, f"modes {kind}")[0].get_xdata()) for kind in ("positive", "negative", "complex")}
    assert sum(counts.values()) == len(data.modes)
    assert counts["negative"] == ((data.modes["alpha_real"] < 0) & (data.modes["beta_imag"] == 0)).sum() > 0
    markers = {named(drawn, f"modes {kind}")[0].get_marker() for kind in counts}
    assert len(markers) == 3
    assert named(drawn, "modes positive")[0].axes.get_xscale() == "log"


def test_star_stands_at_the_theory_or_nowhere() -> None:
    data = figure_data.momentum()
    on_plane, on_modes = named(figure({"quadratic": data}), "polyak")
    assert on_plane.get_xydata().tolist() == [[figure_data.POLYAK[1], 0.0]]
    assert on_modes.get_xydata().tolist() == [list(figure_data.POLYAK)]
    without = figure({"quadratic": data._replace(polyak=None)})
    assert named(without, "polyak") == []
    assert "Polyak (α*, β*)" not in legend_texts(without)


def test_legend_names_only_kinds_that_are_there() -> None:
    data = figure_data.momentum()
    real = data.modes[(data.modes["beta_imag"] == 0) & (data.modes["alpha_real"] > 0)].reset_index(drop=True)
    texts = legend_texts(figure({"quadratic": data._replace(modes=real)}))
    assert "real, α > 0" in texts
    assert not {"real, α < 0", "complex"} & set(texts)


def test_impulse_response_and_its_modes() -> None:
    data = figure_data.momentum()
    drawn = figure({"quadratic": data})
    for name in ("response", "linear"):
        (line,) = named(drawn, name)
        np.testing.assert_array_equal(line.get_xydata(), data.impulse[["lag", name]])


def test_caption_tells_the_dominant_mode() -> None:
    text = caption({"quadratic": figure_data.momentum()})
    assert "α = 3.55, β = 0.905" in text
    assert "(Polyak: α = 3.76, β = 0.881)" in text
    assert "2 problems of 5 parameters over 60 steps; 2 fixed points" in text
    assert f"{100 * figure_data.modes()['gain'].max():.0f}% of the gain of all" in text


def test_modes_of_other_seeds_are_small_and_grey() -> None:
    data = figure_data.momentum()
    drawn = figure({"quadratic": data})
    for other, modes in data.others.items():
        (plane,), (gains,) = named(drawn, f"eigenvalues {other}"), named(drawn, f"modes {other}")
        np.testing.assert_array_equal(plane.get_xydata(), modes[["beta_real", "beta_imag"]])
        assert len(gains.get_xdata()) == len(modes)
    assert "other seeds" in legend_texts(drawn)
    assert "2 other seeds grey" in caption({"quadratic": data})
    assert "other seeds" not in legend_texts(figure({"quadratic": data._replace(others={})}))
