"""Learned optimizers beside tuned baselines."""

import figure_data
import numpy as np
import pytest
from artists import legend_texts, named, names
from matplotlib.colors import to_hex

from reopt.figures.palette import look
from reopt.figures.performance import caption, figure
from reopt.figures.schematic import quadratic_schematic


def test_one_curve_a_subject_in_its_colour_and_dashes() -> None:
    drawn = figure({"quadratic": figure_data.performance()})
    subjects = [*figure_data.RATES, *figure_data.LEARNED]
    assert sorted(names(drawn, "curve ")) == sorted(f"curve {subject}" for subject in subjects)
    for subject in subjects:
        (line,) = named(drawn, f"curve {subject}")
        assert to_hex(line.get_color()) == look(subject).color.lower()
        assert line.axes.get_yscale() == "log"
    assert named(drawn, "curve gru32-s0")[0].get_linestyle() == "-"
    assert named(drawn, "curve sgd")[0].is_dashed()


def test_curve_shows_the_means_and_the_band_their_interval() -> None:
    data = figure_data.performance()
    drawn = figure({"quadratic": data})
    (line,) = named(drawn, "curve adam")
    table = data.curves[data.curves["optimizer"] == "adam"]
    np.testing.assert_array_equal(line.get_ydata(), table["mean"])
    reach = [band.get_datalim(band.axes.transData) for band in line.axes.collections]
    assert len(reach) == len(figure_data.RATES) + 1, "a band for each baseline, the theory, and the seed shown"
    assert any(
        box.ymin == pytest.approx(table["low"].min()) and box.ymax == pytest.approx(table["high"].max())
        for box in reach
    )


def test_band_of_an_interval_below_zero_ends_at_a_tenth_of_the_mean() -> None:
    data = figure_data.performance()
    drawn = figure({"quadratic": data._replace(curves=data.curves.assign(low=-1.0))})
    (line,) = named(drawn, "curve sgd")
    lowest = min(band.get_datalim(band.axes.transData).ymin for band in line.axes.collections)
    assert lowest == pytest.approx(0.1 * data.curves.loc[data.curves["optimizer"] == "gru32-s0", "mean"].min())


def test_other_seeds_are_thin_and_stand_in_the_legend_once() -> None:
    drawn = figure({"quadratic": figure_data.performance()})
    shown, other = (named(drawn, f"curve gru32-s{seed}")[0] for seed in (0, 1))
    assert other.get_linewidth() < shown.get_linewidth() / 2
    assert legend_texts(drawn) == ["SGD", "Momentum", "RMSProp", "Adam", "Adam, decayed", "Polyak (theory)", "GRU-32"]


def test_meta_objectives_stand_at_their_means() -> None:
    data = figure_data.performance()
    drawn = figure({"quadratic": data})
    means = data.evaluation.groupby("optimizer")["meta_objective"].mean()
    for subject in (*figure_data.RATES, "gru32-s0"):
        (point,) = named(drawn, f"objective {subject}")
        assert point.get_xdata()[0] == pytest.approx(means[subject])
    assert sorted(names(drawn, "seed ")) == ["seed gru32-s1", "seed gru32-s2"]
    rows = [text.get_text() for text in point.axes.get_yticklabels()]
    assert rows == ["SGD", "Momentum", "RMSProp", "Adam", "Adam, decayed", "Polyak (theory)", "GRU-32"]


def test_a_diverged_optimizer_has_a_row_but_no_point() -> None:
    data = figure_data.performance()
    table = data.evaluation.copy()
    table.loc[table["optimizer"] == "adam", "meta_objective"] = np.inf
    drawn = figure({"quadratic": data._replace(evaluation=table)})
    assert named(drawn, "objective adam") == []
    (point,) = named(drawn, "objective sgd")
    assert "Adam" in [text.get_text() for text in point.axes.get_yticklabels()]


def test_a_column_a_task() -> None:
    drawn = figure(
        {"quadratic": figure_data.performance(), "two_moons": figure_data.performance()._replace(schematic=None)}
    )
    assert [ax.get_title() for ax in drawn.axes if ax.get_title()] == ["Quadratic", "Two moons"]
    assert len(named(drawn, "curve sgd")) == 2


def test_schematic_has_the_condition_number() -> None:
    sketch = quadratic_schematic(50.0)
    curvature = np.linalg.eigvalsh(_hessian(sketch))
    assert curvature[1] / curvature[0] == pytest.approx(50.0)
    assert sketch.text == "condition number 50"


def _hessian(sketch: object) -> np.ndarray:
    """Second derivatives at the centre, by finite differences (exact for a quadratic)."""
    loss, step = sketch.loss, sketch.x[1] - sketch.x[0]
    row, column = 60, 60
    across = (loss[row, column + 1] - 2 * loss[row, column] + loss[row, column - 1]) / step**2
    up = (loss[row + 1, column] - 2 * loss[row, column] + loss[row - 1, column]) / step**2
    mixed = (
        loss[row + 1, column + 1] - loss[row + 1, column - 1] - loss[row - 1, column + 1] + loss[row - 1, column - 1]
    )
    return np.array([[across, mixed / (4 * step**2)], [mixed / (4 * step**2), up]])


def test_caption_counts_problems_and_seeds_and_names_the_best_baseline() -> None:
    data = figure_data.performance()
    means = data.evaluation.groupby("optimizer")["meta_objective"].mean()
    text = caption({"quadratic": data})
    assert f"meta-objective {means['gru32-s0']:.3g}" in text
    assert "60 problems" in text
    assert f"best tuned baseline Momentum, {means['momentum']:.3g}" in text
    assert "3 meta-training seeds." in text
