"""Scores and who is better, held against planted numbers."""

import math
from pathlib import Path

import numpy as np
import pytest
from planted_results import CONFIG, SCORES, plant

from reopt.core.errors import ReoptError
from reopt.report.scores import contest, score_text, scores


def test_the_best_stands_first_and_what_diverges_last(tmp_path: Path) -> None:
    found = scores(CONFIG, "bowl", plant(tmp_path, SCORES | {"adam": [0.01, 0.01, 0.01, math.inf]}))
    assert [score.subject for score in found] == ["gru4-s0", "gru4-s1", "momentum", "adam"]
    assert [score.lost for score in found] == [0, 0, 0, 1]
    assert [score.learned for score in found] == [True, True, False, False]
    assert found[0].mean == pytest.approx(0.25)
    half = 1.959964 * np.std(SCORES["gru4-s0"], ddof=1) / 2
    assert (found[0].low, found[0].high) == pytest.approx((0.25 - half, 0.25 + half))
    assert found[3].interval == "[0.0100, 0.0100], but diverges on 1 of them, left out here"


def test_the_run_that_was_best_in_validation_meets_the_best_baseline(tmp_path: Path) -> None:
    """Not the run that is best on the held-out problems: it would be chosen by what it is judged by."""
    found = contest(CONFIG, "bowl", plant(tmp_path))
    assert (found.learned.subject, found.rival.subject, found.problems) == ("gru4-s1", "adam", 4)
    gains = np.array([0.1, 0.1, 0.1, 0.0])
    half = 1.959964 * np.std(gains, ddof=1) / 2
    assert (found.gain, found.low, found.high) == pytest.approx((0.075, 0.075 - half, 0.075 + half))
    assert found.better == "learned"


@pytest.mark.parametrize(
    ("values", "better"),
    [
        ([0.1, 0.2, 0.3, 0.4], "baseline"),
        ([0.1, 0.4, 0.4, 0.5], "neither"),
        ([0.3, 0.4, 0.5, 0.6], "learned"),  # by the same small gain on every problem, far below their spread
    ],
)
def test_who_is_better_goes_by_differences_on_the_same_problems(
    values: list[float], better: str, tmp_path: Path
) -> None:
    assert contest(CONFIG, "bowl", plant(tmp_path, SCORES | {"adam": values})).better == better


def test_a_run_that_diverges_decides_nothing(tmp_path: Path) -> None:
    found = contest(CONFIG, "bowl", plant(tmp_path, SCORES | {"gru4-s1": [0.1, 0.1, 0.1, math.nan]}))
    assert found.better == "undetermined"


def test_missing_results_are_named(tmp_path: Path) -> None:
    folder = plant(tmp_path)
    (folder / "bowl/evaluation/adam.csv").unlink()
    with pytest.raises(ReoptError, match=r"evaluation/adam\.csv"):
        contest(CONFIG, "bowl", folder)


def test_nothing_to_compare_with_is_one_line(tmp_path: Path) -> None:
    folder = plant(tmp_path)
    alone = CONFIG | {"baselines": {"ranges": {}}}
    with pytest.raises(ReoptError, match="no baseline that gru4-s1"):
        contest(alone, "bowl", folder)
    fewer = {"bowl": CONFIG["tasks"]["bowl"] | {"optimizers": {"gru4": {"seeds": [0]}}}}
    with pytest.raises(ReoptError, match="gru4-s1 is of no run of the config"):
        contest(CONFIG | {"tasks": fewer}, "bowl", folder)


def test_scores_in_words() -> None:
    assert [score_text(value) for value in (0.02684, 12.3, 123456.0)] == ["0.0268", "12.3000", "1.2e+05"]
