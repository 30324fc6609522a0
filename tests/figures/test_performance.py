"""Learned optimizers beside tuned baselines."""

import figure_data
import numpy as np
import pytest
from artists import legend_texts, named, names
from matplotlib.colors import to_hex

from reopt.figures.palette import look
from reopt.figures.performance import caption, figure
from reopt.figures.summaries import family_interval


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


def test_a_row_a_family_with_its_mean_over_seeds_and_an_open_point_a_seed() -> None:
    data = figure_data.performance()
    drawn = figure({"quadratic": data})
    means = data.evaluation.groupby("optimizer")["meta_objective"].mean()
    for subject in figure_data.RATES:
        (point,) = named(drawn, f"objective {subject}")
        assert point.get_xdata()[0] == pytest.approx(means[subject])
    (point,) = named(drawn, "objective gru32")
    assert point.get_xdata()[0] == pytest.approx(means[list(figure_data.LEARNED)].mean())
    assert sorted(names(drawn, "seed ")) == [f"seed {subject}" for subject in figure_data.LEARNED]
    for subject in figure_data.LEARNED:
        (seed,) = named(drawn, f"seed {subject}")
        assert seed.get_xdata()[0] == pytest.approx(means[subject])
        assert seed.get_markerfacecolor() == "none"
        assert seed.get_ydata()[0] == point.get_ydata()[0]
    rows = [text.get_text() for text in point.axes.get_yticklabels()]
    assert rows == ["SGD", "Momentum", "RMSProp", "Adam", "Adam, decayed", "Polyak (theory)", "GRU-32"]


def test_tasks_share_their_rows_also_where_one_lacks_a_family() -> None:
    few, many = figure_data.performance(), figure_data.performance(runs=figure_data.MANY)
    drawn = figure({"quadratic": many, "mnist": few})
    first, second = named(drawn, "objective gru32")
    assert first.get_ydata()[0] == second.get_ydata()[0]
    assert len(named(drawn, "objective lstm32")) == 1
    assert [text.get_text() for text in second.axes.get_yticklabels()] == [""] * 11


def test_other_families_are_thinner_than_other_seeds_and_have_a_colour_each() -> None:
    drawn = figure({"quadratic": figure_data.performance(runs=figure_data.MANY)})
    widths = [named(drawn, f"curve {run}")[0].get_linewidth() for run in ("gru32-s0", "gru32-s1", "lstm32-s0")]
    assert widths[0] > widths[1] > widths[2]
    assert named(drawn, "curve lstm32-s0")[0].get_color() == named(drawn, "curve lstm32-s2")[0].get_color()


def test_interval_of_a_family_is_over_problems_of_the_mean_over_seeds() -> None:
    data = figure_data.performance()
    made = family_interval(data.evaluation)
    part = data.evaluation[data.evaluation["optimizer"].isin(list(figure_data.LEARNED))]
    problems = part.groupby("problem")["meta_objective"].mean()
    half = 1.96 * problems.std() / np.sqrt(len(problems))
    assert made.loc["gru32", ["mean", "high"]].tolist() == pytest.approx(
        [problems.mean(), problems.mean() + half], rel=1e-4
    )


def test_a_diverged_optimizer_has_a_row_but_no_point() -> None:
    data = figure_data.performance()
    table = data.evaluation.copy()
    table.loc[table["optimizer"] == "adam", "meta_objective"] = np.inf
    drawn = figure({"quadratic": data._replace(evaluation=table)})
    assert named(drawn, "objective adam") == []
    (point,) = named(drawn, "objective sgd")
    assert "Adam" in [text.get_text() for text in point.axes.get_yticklabels()]


def test_a_run_that_diverges_counts_as_the_ceiling() -> None:
    data = figure_data.performance()
    table = data.evaluation.copy()
    rows = table.index[table["optimizer"] == "adam"]
    table.loc[rows, "meta_objective"] = 0.5
    table.loc[rows[0], "meta_objective"] = 1e9
    (point,) = named(figure({"quadratic": data._replace(evaluation=table)}), "objective adam")
    assert point.get_xdata()[0] == pytest.approx((10 + 0.5 * (len(rows) - 1)) / len(rows))


def test_a_column_a_task() -> None:
    drawn = figure(
        {"quadratic": figure_data.performance(), "two_moons": figure_data.performance()._replace(landscape=None)}
    )
    assert [ax.get_title() for ax in drawn.axes if ax.get_title()] == ["Quadratic", "Two moons"]
    assert len(named(drawn, "curve sgd")) == 2


def test_the_path_lies_on_the_loss_around_it() -> None:
    data = figure_data.performance()
    drawn = figure({"quadratic": data})
    (path,) = named(drawn, "path")
    np.testing.assert_array_equal(path.get_xydata(), data.landscape.path[["u", "v"]])
    (start,), (end,) = named(drawn, "start"), named(drawn, "end")
    assert start.get_xydata()[0].tolist() == path.get_xydata()[0].tolist()
    assert end.get_xydata()[0].tolist() == path.get_xydata()[-1].tolist()
    assert path.axes.get_xlim() == path.axes.get_ylim() == (-1, 1)


def test_a_loss_that_is_flat_or_leaves_the_numbers_is_survived() -> None:
    data = figure_data.performance()
    grid = data.landscape.grid
    for loss in (grid["loss"] * 0 + 1, grid["loss"].where(grid["u"] < 0.5, np.inf)):
        changed = data._replace(landscape=data.landscape._replace(grid=grid.assign(loss=loss)))
        assert len(named(figure({"quadratic": changed}), "path")) == 1


def test_caption_counts_problems_and_seeds_and_names_the_best_baseline() -> None:
    data = figure_data.performance()
    means = data.evaluation.groupby("optimizer")["meta_objective"].mean()
    text = caption({"quadratic": data})
    assert f"meta-objective {means['gru32-s0']:.3g}" in text
    assert "60 problems" in text
    assert f"best tuned baseline Momentum, {means['momentum']:.3g}" in text
    assert "3 meta-training seeds." in text


def test_caption_of_an_optimizer_that_nobody_trained_speaks_of_no_seeds() -> None:
    data = figure_data.performance()
    kept = data.evaluation[data.evaluation["optimizer"].isin(["gru32-s0", "momentum"])]
    own = kept.replace({"optimizer": {"gru32-s0": "adam(1e-2)"}})
    text = caption({"quadratic": data._replace(subject="adam(1e-2)", evaluation=own)})
    assert text.startswith("The optimizer beside tuned baselines.")
    assert "seed" not in text
