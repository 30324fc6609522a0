"""What is drawn of runs away from home."""

import figure_data
import numpy as np
from artists import legend_texts, named

from reopt.figures import beyond


def test_every_value_of_every_optimizer_is_drawn() -> None:
    data = figure_data.beyond()
    drawn = beyond.figure({"quadratic": data, "rosenbrock": figure_data.beyond(home="rosenbrock")})
    for subject in ("gru32-s0", "momentum", "adam"):
        for axis in ("scale", "condition"):  # of the first row
            rows = data.table[(data.table["axis"] == axis) & (data.table["subject"] == subject)]
            line = named(drawn, f"{axis} {subject}")[0]
            np.testing.assert_array_equal(line.get_xydata(), rows[["value", "meta_objective"]].astype(float))
        assert len(named(drawn, f"transfer {subject}")[0].get_xdata()) == 2
    (curve, _) = named(drawn, "horizon gru32-s0")
    assert curve.get_xdata()[-1] == 10


def test_marks_of_what_breaks_first_and_its_numbers_in_the_caption() -> None:
    data = figure_data.beyond()
    drawn = beyond.figure({"quadratic": data})
    assert [line.get_xdata()[0] for line in named(drawn, "first scale")] == [10.0, 0.1]
    assert {"first: clipping", "first: adaptation", "first: none of these"} <= set(legend_texts(drawn))
    text = beyond.caption({"quadratic": data})
    assert "first worse at loss times 10 (clipping, 0.31 over a limit of 0.11)" in text
    assert "0.002 at the end of the horizon and 0.0002 at 10 times it" in text


def test_a_task_without_eigenvalues_has_no_such_panel() -> None:
    data, less = figure_data.beyond(), figure_data.beyond(home="mnist")
    assert len(beyond.figure({"mnist": less}).axes) == 2
    assert "eigenvalues spread" not in beyond.caption({"mnist": less})
    both = beyond.figure({"quadratic": data, "mnist": less})
    assert [ax.axison for ax in both.axes].count(False) == 1
