"""Conditions, meta-training, tuning, linearisation, claims, differences, remainders."""

import figure_data
import numpy as np
import pandas as pd
import pytest
from artists import legend_texts, named, names
from matplotlib.colors import to_hex

from reopt.figures import claims, conditions, difference, linearized, remainder, training, tuning
from reopt.figures.palette import VERDICTS


def test_histogram_counts_every_problem_and_marks_quantiles() -> None:
    table = figure_data.conditions()
    drawn = conditions.figure({"quadratic": table})
    (stairs,) = named(drawn, "histogram")
    assert stairs.get_data().values.sum() == len(table)
    assert stairs.axes.get_xscale() == "log"
    for share in conditions.QUANTILES:
        (line,) = named(drawn, f"quantile {share}")
        assert line.get_xdata()[0] == pytest.approx(table["condition_number"].quantile(share))


def test_equal_and_infinite_condition_numbers_are_survived_and_told() -> None:
    table = pd.DataFrame({"condition_number": [10.0, 10.0, np.inf]})
    drawn = conditions.figure({"quadratic": table})
    assert named(drawn, "histogram")[0].get_data().values.sum() == 2
    assert "1 without a finite condition number" in conditions.caption({"quadratic": table})


def test_training_draws_objective_validation_norm_and_skipped_steps() -> None:
    runs = figure_data.training()
    drawn = training.figure({"quadratic": runs})
    for subject, table in runs.items():
        assert len(named(drawn, f"training {subject}")[0].get_xdata()) == len(table)
        seen = table[table["validation"].notna()]
        np.testing.assert_array_equal(
            named(drawn, f"validation {subject}")[0].get_xydata(), seen[["outer_step", "validation"]]
        )
        assert named(drawn, f"norm {subject}")[0].axes.get_yscale() == "log"
    assert list(named(drawn, "skipped gru32-s0")[0].get_xdata()) == [60, 61, 250]
    assert named(drawn, "skipped gru32-s1") == []
    assert legend_texts(drawn) == ["GRU-32 (seed 0)", "GRU-32 (seed 1)"]
    first, second = (named(drawn, f"validation {subject}")[0] for subject in runs)
    assert first.get_color() != second.get_color()
    assert first.get_linestyle() != second.get_linestyle()


def test_training_caption_counts_skipped_steps() -> None:
    text = training.caption({"quadratic": figure_data.training()})
    assert "GRU-32 (seed 0) best validation 0.038, 3 of 400 steps skipped" in text


def test_tuning_shows_every_draw_once_in_each_panel() -> None:
    baselines = figure_data.tuning()
    drawn = tuning.figure({"quadratic": baselines})
    draws, diverged, winners = (named(drawn, name) for name in ("draws", "diverged", "winner"))
    assert len(draws) == len(diverged) == len(winners) == 1 + 2 + 3
    for shown, gone in zip(draws, diverged, strict=True):
        assert len(shown.get_xdata()) + len(gone.get_xdata()) == 150
    assert max(line.get_ydata().max() for line in draws) <= tuning.CEILING


def test_tuning_marks_winner_edges_and_a_winner_at_an_edge() -> None:
    baselines = figure_data.tuning()
    drawn = tuning.figure({"quadratic": baselines})
    axes = {(ax.get_subplotspec().rowspan.start, ax.get_xlabel()): ax for ax in drawn.axes}
    assert sorted(label for row, label in axes if row == 2) == ["1 − decay", "learning rate", "ε"]
    winner = baselines["momentum"].winner
    (star,) = [line for line in axes[1, "1 − momentum"].lines if line.get_gid() == "winner"]
    assert star.get_xdata() == pytest.approx(1 - winner["hyperparameters"]["momentum"])
    edges = [line.get_xdata()[0] for line in axes[1, "1 − momentum"].lines if line.get_gid() == "edge"]
    assert edges == pytest.approx([1.0, 1e-4])
    colors = {
        label: to_hex(next(line for line in axes[2, label].lines if line.get_gid() == "winner").get_color())
        for label in ("learning rate", "ε")
    }
    assert colors == {"learning rate": "#000000", "ε": "#d55e00"}
    assert "at the edge of its range: eps" in tuning.caption({"quadratic": baselines})


def test_linearized_curves_and_problems() -> None:
    data = figure_data.linearized()
    drawn = linearized.figure({"quadratic": data})
    for name in ("learned", "linearized"):
        np.testing.assert_array_equal(named(drawn, name)[0].get_xydata(), data.curves[["step", name]])
    assert len(named(drawn, "problems")[0].get_xdata()) == 79
    (gone,) = named(drawn, "diverged")
    assert gone.get_xydata().tolist() == [[pytest.approx(data.problems["learned"][7]), linearized.CEILING]]
    text = linearized.caption({"quadratic": data})
    medians = data.problems[["learned", "linearized"]].median()
    assert f"{medians['learned']:.3g} learned and {medians['linearized']:.3g} linearised" in text
    assert "diverged or above 2: 0 learned, 1 linearised" in text


def test_a_linearisation_that_explodes_leaves_the_scale_alone() -> None:
    data = figure_data.linearized()
    curves = data.curves.assign(linearized=np.minimum(1.5 ** data.curves["step"], 1e38))
    problems = data.problems.assign(linearized=np.nan)
    drawn = linearized.figure({"quadratic": data._replace(curves=curves, problems=problems)})
    assert named(drawn, "learned")[0].axes.get_ylim()[1] <= 10
    assert len(named(drawn, "diverged")[0].get_xdata()) == len(problems)
    text = linearized.caption({"quadratic": data._replace(problems=problems)})
    assert "infinite linearised; diverged or above 2: 0 learned, 80 linearised" in text


def test_claims_have_a_row_each_with_verdict_by_symbol_word_and_colour() -> None:
    table = figure_data.claims()
    drawn = claims.figure(table)
    assert names(drawn, "claim") == ["claim"] * len(table)
    verdicts = named(drawn, "verdict")
    words = " ".join(text.get_text() for text in verdicts)
    assert words == "✔ holds ✔ holds ✘ fails ✔ holds – not testable"
    for text in verdicts:
        word = "not testable" if "not" in text.get_text() or "testable" in text.get_text() else text.get_text()[2:]
        assert to_hex(text.get_color()) == VERDICTS[word][1].lower()


def test_claims_write_value_interval_and_seeds() -> None:
    row = figure_data.claims().iloc[0]
    assert claims.value_text(row) == "0.91\n[0.86, 0.97]\n5 seeds"
    assert claims.value_text(row.replace({5: 1})) == "0.91\n1 seed", "one seed has no interval over seeds"
    assert claims.value_text(figure_data.claims().iloc[4]) == "–"
    assert claims.number(-0.001234) == "−0.00123"
    assert claims.number(np.inf) == "∞"


def test_claims_grow_with_the_rows_and_keep_every_word() -> None:
    table = figure_data.claims()
    longer = pd.concat([table, table], ignore_index=True)
    longer.loc[0, "statement"] = "word " * 60 + "end"
    short, long = claims.figure(table), claims.figure(longer)
    assert long.get_figheight() > short.get_figheight() + 1
    written = " ".join(text.get_text() for text in named(long, "statement"))
    assert written.count("word") == 60
    assert "end" in written.split()


def test_claims_caption_counts_verdicts() -> None:
    assert "(3 holds, 1 fails, 1 not testable)" in claims.caption(figure_data.claims())


def test_both_updates_are_drawn_in_every_panel_of_a_difference() -> None:
    data = figure_data.difference()
    drawn = difference.figure(data)
    for panel in difference.PANELS:
        table = data.updates[data.updates["panel"] == panel]
        for side in ("a", "b"):
            (line,) = named(drawn, f"{panel} {side}")
            if panel == "ramp":
                np.testing.assert_array_equal(line.get_xdata(), table["gradient"])
                np.testing.assert_array_equal(line.get_ydata(), table[side].abs())
                assert (line.axes.get_xscale(), line.axes.get_yscale()) == ("log", "log")
            else:
                np.testing.assert_array_equal(line.get_xydata(), table[["step", side]])
    assert legend_texts(drawn) == ["A: momentum", "B: adam"]
    assert "along which they differ most: flips of sign." in difference.caption(data)


def test_updates_of_zero_and_beyond_numbers_are_left_out_of_the_ramp() -> None:
    data = figure_data.difference()
    ramp = data.updates.index[data.updates["panel"] == "ramp"]
    data.updates.loc[ramp[0], "a"] = 0.0
    data.updates.loc[ramp[-1], "a"] = -np.inf
    drawn = difference.figure(data)
    assert [len(named(drawn, f"ramp {side}")[0].get_xdata()) for side in "ab"] == [58, 60]


def test_true_and_explained_updates_are_drawn_over_each_other() -> None:
    data = figure_data.remainder()
    drawn = remainder.figure(data)
    for column in ("true", "explained"):
        (line,) = named(drawn, column)
        np.testing.assert_array_equal(line.get_xydata(), data.updates[["step", column]])
    assert legend_texts(drawn) == ["gru32-s0", "by the mechanisms found"]
    assert "R² = 0.973" in remainder.caption(data)
