"""Captions in parts: nothing of a caption is lost, and the figures of the shipped style come in a reader's order."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from reopt.report.captions import FIRST, ordered_figures, split_caption

TITLES = ["Quadratic", "Two moons"]
WORDS = st.lists(st.sampled_from(["(a)", "the rate,", "0.5", "falls:", "Quadratic", "(b)", "moons"]), min_size=1)


def test_a_title_that_is_a_sentence_is_not_said_again() -> None:
    caption = split_caption("Schedules. (a) The rate. Quadratic: 3.2 at step 0. Two moons: decay: 4.1.\n", TITLES)
    assert caption.title == "Schedules"
    assert caption.text == "(a) The rate."
    assert caption.tasks == (("Quadratic", "3.2 at step 0."), ("Two moons", "decay: 4.1."))


def test_a_title_that_is_part_of_a_sentence_leaves_it_whole() -> None:
    for text in (
        "Condition numbers (no unit) of problems.",
        "Tuning: the best of all.",
        "Meta-training, a line a run.",
    ):
        caption = split_caption(text, TITLES)
        assert text.startswith(caption.title)
        assert len(caption.title) < len(text) - 1
        assert caption.text == text


def test_a_task_that_is_only_mentioned_begins_no_part() -> None:
    caption = split_caption("At the edge. On Quadratic: none, on the Two moons: one.", TITLES)
    assert caption.tasks == ()
    assert caption.text == "On Quadratic: none, on the Two moons: one."


@given(lead=WORDS, parts=st.lists(st.tuples(st.sampled_from(TITLES), WORDS), max_size=3))
def test_no_word_is_lost(lead: list[str], parts: list[tuple[str, list[str]]]) -> None:
    text = " ".join(["Rates.", *lead]) + "." + "".join(f" {name}: {' '.join(words)}." for name, words in parts)
    caption = split_caption(text, TITLES)
    joined = [caption.title + ".", caption.text, *(f"{name}: {words}" for name, words in caption.tasks)]
    assert " ".join(joined).split() == text.split()


def test_without_tasks_a_caption_is_whole() -> None:
    assert split_caption("Rates. Quadratic: 1.", []).text == "Quadratic: 1."


def test_figures_that_a_reader_asks_for_come_first(tmp_path: Path) -> None:
    for name in ("tuning", "cells", "another", *FIRST[::-1]):
        (tmp_path / f"{name}.svg").touch()
    assert [path.stem for path in ordered_figures(tmp_path)] == [*FIRST, "another", "tuning"]
