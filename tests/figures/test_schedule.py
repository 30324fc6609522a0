"""The autonomous trajectory and its effective learning rate."""

import figure_data
import numpy as np
from artists import named

from reopt.figures.schedule import caption, figure


def test_trajectory_is_the_whole_table_from_start_to_end() -> None:
    data = figure_data.schedule()
    drawn = figure({"quadratic": data})
    (points,) = named(drawn, "trajectory")
    np.testing.assert_allclose(points.get_offsets(), data.schedule[["pc1", "pc2"]])
    np.testing.assert_array_equal(points.get_array(), data.schedule["step"])
    (start,), (end,) = named(drawn, "start"), named(drawn, "end")
    np.testing.assert_array_equal(start.get_xydata()[0], data.schedule.loc[0, ["pc1", "pc2"]])
    np.testing.assert_array_equal(end.get_xydata()[0], data.schedule.iloc[-1][["pc1", "pc2"]])
    assert points.axes.get_xlabel() == "PC 1 (95%)"
    assert points.axes.get_ylabel() == "PC 2 (3.8%)"


def test_rate_with_its_peak_and_other_seeds() -> None:
    data = figure_data.schedule()
    drawn = figure({"quadratic": data})
    (line,), (peak,) = named(drawn, "rate gru32-s0"), named(drawn, "peak")
    np.testing.assert_array_equal(line.get_ydata(), data.schedule["effective_learning_rate"])
    assert peak.get_xydata().tolist() == [[22.0, data.schedule["effective_learning_rate"].max()]]
    other = named(drawn, "rate gru32-s1") + named(drawn, "rate gru32-s2")
    assert len(other) == 2
    assert max(one.get_linewidth() for one in other) < line.get_linewidth()
    assert line.axes.get_ylim()[0] == 0


def test_negative_rates_are_in_view() -> None:
    data = figure_data.schedule()
    table = data.schedule.assign(effective_learning_rate=data.schedule["effective_learning_rate"] - 2)
    (line,) = named(figure({"quadratic": data._replace(schedule=table)}), "rate gru32-s0")
    assert line.axes.get_ylim()[0] < table["effective_learning_rate"].min()


def test_distance_is_logarithmic_and_leaves_out_exact_arrival() -> None:
    data = figure_data.schedule()
    table = data.schedule.copy()
    table.loc[100:, "distance"] = 0.0
    (line,) = named(figure({"quadratic": data._replace(schedule=table)}), "distance")
    assert line.get_xdata().tolist() == list(range(100))
    assert line.axes.get_yscale() == "log"


def test_a_rate_that_is_not_finite_is_told() -> None:
    data = figure_data.schedule()
    table = data.schedule.copy()
    table.loc[3, "effective_learning_rate"] = np.inf
    broken = data._replace(schedule=table, summary={"shape": "other", "finite": False})
    assert len(named(figure({"quadratic": broken}), "peak")[0].get_xdata()) == 0
    assert "the rate is not finite throughout." in caption({"quadratic": broken})


def test_caption_tells_the_schedule() -> None:
    text = caption({"quadratic": figure_data.schedule()})
    assert "warmup then decay: 1.2 at step 0, 4.2 at step 22, 1.39 at the end; 2 other seeds" in text


def test_caption_of_a_decay_tells_its_start_once() -> None:
    data = figure_data.schedule()
    summary = {"shape": "decay", "peak_step": 0, "initial": 3.0, "peak": 3.0, "final": 1.0}
    assert "decay: 3 at step 0, 1 at the end" in caption({"quadratic": data._replace(summary=summary)})
