"""Conditions, meta-training, tuning, linearisation, claims, differences, remainders."""

import figure_data
import numpy as np
import pandas as pd
import pytest
from artists import legend_texts, named
from matplotlib.colors import to_hex

from reopt.figures import (
    cells,
    claims,
    conditions,
    difference,
    hyperparameters,
    linearized,
    recipe,
    remainder,
    stability,
    training,
    tuning,
)
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
    assert "33.3% of them are not convex" in conditions.caption({"quadratic": table})


def test_of_problems_none_of_which_is_convex_the_largest_eigenvalues_are_drawn() -> None:
    table = figure_data.conditions()
    table = table.assign(condition_number=np.nan, largest_eigenvalue=table["condition_number"])
    drawn = conditions.figure({"mnist": table})
    (stairs,) = named(drawn, "histogram")
    assert stairs.get_data().values.sum() == len(table)
    assert stairs.axes.get_xlabel() == "largest eigenvalue"
    assert "100% of them are not convex at the start" in conditions.caption({"mnist": table})


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
    assert legend_texts(drawn) == ["GRU-32"]


def test_training_has_a_colour_a_family() -> None:
    drawn = training.figure({"quadratic": figure_data.training(figure_data.MANY)})
    colors = {run: named(drawn, f"validation {run}")[0].get_color() for run in figure_data.MANY}
    assert colors["lstm32-s0"] == colors["lstm32-s2"] != colors["gru32-s0"]
    assert legend_texts(drawn) == ["GRU-256", "GRU-32", "LSTM-32", "Paper's recipe", "Vanilla RNN-32"]


def test_training_caption_counts_skipped_steps() -> None:
    text = training.caption({"quadratic": figure_data.training()})
    assert "GRU-32 (2 seeds) best validation 0.038 to 0.0476, 3 of 800 steps skipped" in text


def test_tuning_shows_the_best_draw_so_far() -> None:
    """After n draws the curve is at the lowest of the first n; draws that diverged leave it where it was."""
    baselines = figure_data.tuning()
    for name, (draws, _) in baselines.items():
        (line,) = named(tuning.figure({"quadratic": baselines}), f"progress {name}")
        seen = draws["meta_objective"].to_numpy()
        for count, best in line.get_xydata():
            assert best == seen[: int(count)].min()
        assert line.get_xdata()[-1] == len(draws)
        assert np.isfinite(line.get_ydata()).all()


def test_tuning_places_the_best_draws_in_their_ranges() -> None:
    """A momentum of 0.99 lies at half of the range 0 to 0.9999: log10(1 - 0.99) = -2 between 0 and -4."""
    assert tuning.position([0.99, 0.0, 0.9999], 0.0, 0.9999, "one_minus_log") == pytest.approx([0.5, 0, 1])
    assert tuning.position([1.0], 0.01, 100.0, "log") == pytest.approx([0.5])
    assert tuning.position([3.0], 2.0, 6.0, "linear") == pytest.approx([0.25])
    baselines = figure_data.tuning()
    drawn = tuning.figure({"quadratic": baselines})
    draws, winner = baselines["momentum"]
    (star,) = named(drawn, "winner momentum momentum")
    (best,) = named(drawn, "best momentum momentum")
    expected = np.log10(1 - np.array(draws.nsmallest(tuning.BEST, "meta_objective")["momentum"])) / -4
    assert best.get_xdata() == pytest.approx(expected, abs=1e-6)
    assert star.get_xdata() == pytest.approx(np.log10(1 - winner["hyperparameters"]["momentum"]) / -4, abs=1e-6)
    colors = [to_hex(named(drawn, f"winner rmsprop {name}")[0].get_color()) for name in ("learning_rate", "eps")]
    assert colors == ["#000000", "#d55e00"]
    assert "at the edge of its range: eps" in tuning.caption({"quadratic": baselines})


def test_linearized_curves_and_problems() -> None:
    data = figure_data.linearized()
    drawn = linearized.figure({"quadratic": data})
    for name in ("learned", "linearized"):
        np.testing.assert_array_equal(named(drawn, name)[0].get_xydata(), data.curves[["step", name]])
    assert len(named(drawn, "problems")[0].get_xdata()) == 79
    (gone,) = named(drawn, "diverged")
    assert gone.get_xydata().tolist() == [[pytest.approx(data.problems["learned"][7]), linearized.TOP]]
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


def test_tuning_of_several_tasks_names_the_rows_once() -> None:
    tasks = {"quadratic": figure_data.tuning(), "mnist": figure_data.tuning()}
    drawn = tuning.figure(tasks)
    left, right = (ax for ax in drawn.axes if ax.get_xlabel() == "place in its range")
    words = [label.get_text() for label in left.get_yticklabels()]
    assert words == ["learning rate", "learning rate", "momentum", "learning rate", "decay", "ε"]
    assert not right.yaxis.get_tick_params()["labelleft"]


def test_hyperparameters_stand_with_those_of_their_role_and_edges_are_marked() -> None:
    winners = figure_data.hyperparameters()
    drawn = hyperparameters.figure({"quadratic": winners})
    (momentum,) = named(drawn, "quadratic momentum momentum")
    expected = 1 - winners["momentum"]["hyperparameters"]["momentum"]
    assert momentum.get_text() == hyperparameters.number(expected)
    (eps,) = named(drawn, "quadratic rmsprop eps")
    assert eps.get_text().endswith("†")
    assert named(drawn, "quadratic sgd eps") == []
    assert [text.get_text() for text in named(drawn, "baseline")] == ["SGD", "Momentum", "RMSProp"]
    assert "ε of RMSProp on Quadratic" in hyperparameters.caption({"quadratic": winners})


def test_recipe_shows_every_candidate_and_the_one_that_was_chosen() -> None:
    table = figure_data.recipe()
    drawn = recipe.figure({"quadratic": table, "mnist": None})
    tried, diverged, chosen = (named(drawn, name) for name in ("tried", "diverged", "chosen"))
    assert len(tried) == len(chosen) == len(recipe.VALUES)
    assert {len(line.get_xdata()) for line in tried} == {9}
    assert {len(line.get_xdata()) for line in diverged} == {2}
    assert {line.get_ydata()[0] for line in chosen} == {table["meta_objective"].min()}
    text = recipe.caption({"quadratic": table, "mnist": None})
    assert "12 candidates, 2 diverged" in text
    assert "Not searched, but given: MNIST." in text


def test_recipe_without_any_search_says_so() -> None:
    drawn = recipe.figure({"quadratic": None})
    assert drawn.axes == []
    assert [text.get_text() for text in drawn.texts] == ["Not searched, but given: Quadratic."]


def test_cells_have_a_point_a_seed_and_a_cross_where_there_is_no_number() -> None:
    table = figure_data.cells()
    drawn = cells.figure({"quadratic": table})
    for quantity in cells.QUANTITIES:
        rows = table[(table["quantity"] == quantity) & table["subject"].str.startswith("gru32")]
        (points,) = named(drawn, f"{quantity} gru32")
        np.testing.assert_array_equal(points.get_ydata(), rows["value"].dropna())
        (crosses,) = named(drawn, f"missing {quantity} gru32")
        assert len(crosses.get_xdata()) == rows["value"].isna().sum()
    assert len(named(drawn, "missing threshold lstm32")[0].get_xdata()) == 1
    ticks = [text.get_text() for text in points.axes.get_xticklabels()]
    assert ticks == ["GRU-256", "GRU-32", "LSTM-32", "Paper's recipe", "Vanilla RNN-32"]


def test_the_papers_recipes_stand_first_and_every_effect_with_its_verdict() -> None:
    table = figure_data.claims_of_many()
    drawn = claims.figure({"any": table})
    assert [text.get_text() for text in named(drawn, "block")] == ["The paper's recipes", "Other recipes"]
    heads = [text.get_text() for text in named(drawn, "task")]
    assert heads == ["Quadratic", "Quadratic", "Rosenbrock", "Two moons", "MNIST"]
    assert named(drawn, "cell")[0].get_text() == "Paper's recipe (1)"
    for _, row in table.iterrows():
        texts = named(drawn, f"{row['claim']} {row['task']} {row['cell']}")
        (text,) = texts
        words = claims.full_text(row) if row["cell"] == "paper" else claims.brief_text(row)
        assert text.get_text() == words[0]
        assert to_hex(text.get_color()) == VERDICTS[row["verdict"]][1].lower()
    for verdict in set(VERDICTS) - {"not testable"}:
        assert len(named(drawn, f"verdict {verdict}")) == (table["verdict"] == verdict).sum() > 0


def test_mechanisms_are_told_apart_by_name() -> None:
    drawn = claims.figure({"any": figure_data.claims()})
    written = [text.get_text() for text in named(drawn, "claim")]
    assert written == ["T1", "T2", "T4", "T5b", "T10a", "adaptation", "remainder"]


def test_a_cell_says_effect_interval_and_seeds() -> None:
    row = figure_data.claims().iloc[1]
    assert claims.share_text(row) == "4/5"
    assert claims.full_text(row) == [".200  4/5", "[.150, .250]"]
    assert claims.brief_text(row) == [".20", "±.05"]
    exact = row.replace({"in part": "holds"}).to_dict() | {"low": 0.2, "high": 0.2, "seeds": 1}
    assert claims.full_text(pd.Series(exact)) == [".200"]
    for verdict, sign in (("not testable", "–"), ("undetermined", "?")):
        assert claims.full_text(pd.Series(row.to_dict() | {"verdict": verdict})) == [sign]
    drawn = claims.figure({"any": figure_data.claims()})
    whole = named(drawn, "verdict holds")[0].get_width()
    shares = [bar.get_width() / whole for bar in named(drawn, "share")]
    by_claim = [group for _, group in figure_data.claims().groupby("claim", sort=False)]
    assert shares == pytest.approx(pd.concat(by_claim)["share"].dropna().to_list())


@pytest.mark.parametrize(
    ("value", "two", "three"),
    [
        (1.0, "1", "1"),
        (-0.0, "0", "0"),
        (0.98, ".98", ".980"),
        (-0.004, ".00", "-.004"),
        (1.234, "1.2", "1.23"),
        (24.3, "24", "24.3"),
        (649.3, "649", "649"),
        (-5432.0, "-5e3", "-5e3"),
        (-1e49, "≪0", "≪0"),
        (np.inf, "≫0", "≫0"),
        (np.nan, "–", "–"),
    ],
)
def test_effects_are_written_in_little_room(value: float, two: str, three: str) -> None:
    assert (claims.number_text(value), claims.number_text(value, 3)) == (two, three)


def test_claims_grow_with_the_rows_and_keep_every_word() -> None:
    table = figure_data.claims()
    longer = table.copy()
    longer.loc[longer["claim"] == "T1", "statement"] = "word " * 60 + "end"
    short, long = claims.figure({"any": table}), claims.figure({"any": longer})
    assert long.get_figheight() > short.get_figheight() + 0.5
    written = " ".join(text.get_text() for text in named(long, "statement"))
    assert written.count("word") == 60
    assert "end" in written.split()


def test_claims_caption_counts_verdicts_of_the_papers_recipes_first() -> None:
    table = figure_data.claims_of_many()
    ours = table["cell"] == "paper"
    text = claims.caption({"any": table})
    for title, rows in (("The paper's recipes", table[ours]), ("Other recipes", table[~ours])):
        counts = rows["verdict"].value_counts().reindex(list(VERDICTS), fill_value=0)
        said = f"{title}: {', '.join(f'{count} {verdict}' for verdict, count in counts.items())}"
        assert said in text
    assert text.index("The paper's recipes") < text.index("Other recipes")


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


def test_an_edge_is_full_where_both_runs_are_as_foretold() -> None:
    data = figure_data.stability()
    drawn = stability.figure({"quadratic": data, "mnist": data._replace(curvatures=None)})
    for row in data.table.dropna(subset=["edge"]).itertuples():
        for mark in named(drawn, f"edge {row.subject}"):
            assert mark.get_xdata() == [row.edge]
            assert (mark.get_markerfacecolor() == "none") != row.agrees
    assert len(named(drawn, "curvatures")) == 1
    assert not named(drawn, "edge rmsprop")
    known = data.table.dropna(subset=["edge"])
    said = stability.caption({"quadratic": data})
    assert f"{len(known)} of {len(data.table)} have such a curvature, {len(known) - 1} of these as foretold" in said
    assert f"for {(known['edge'] < 1).sum()} it is below the largest curvature of the task (1)" in said


def test_the_edge_of_a_table_of_what_is_foretold() -> None:
    told = pd.DataFrame({"what": [stability.EDGE] * 2, "foretold": [0.25] * 2, "agrees": [True, False]})
    assert stability.edge_of(told) == (0.25, False)
    assert stability.edge_of(told.assign(agrees=True)) == (0.25, True)
    assert np.isnan(stability.edge_of(told.assign(what="not foretold"))[0])
