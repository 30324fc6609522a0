"""What holds for every figure: legible, nothing clipped or overlapping, arguments left alone, no global state."""

import copy
import itertools
import re

import docutils.core
import figure_catalogue as catalogue
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from reopt.figures.save import settle
from reopt.figures.style import FONT, TEXT_WIDTH, style

MISSING = re.compile(r"\b(nan|inf|none(?! of these))\b", re.IGNORECASE)
SEVERAL = ("performance", "momentum", "clipping", "schedule", "adaptation", "causes", "beyond")
MANY = [(name, catalogue.TASKS) for name in catalogue.NAMES if name not in ("difference", "remainder")]
TWO = [pytest.param((name, ("quadratic", "rosenbrock")), marks=pytest.mark.long) for name in SEVERAL]
CASES = [(name, ("quadratic",)) for name in catalogue.NAMES] + TWO + MANY


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{len(case[1])}")
def drawn(request: pytest.FixtureRequest) -> Figure:
    name, tasks = request.param
    given = catalogue.many(name) if len(tasks) == len(catalogue.TASKS) else catalogue.arguments(name, tasks)
    figure = catalogue.module(name).figure(given)
    with style():
        settle(figure)
        figure.draw_without_rendering()
    return figure


def _hidden_tick_texts(axis: Axis) -> set[Text]:
    low, high = sorted(axis.get_view_interval())
    # On a logarithmic axis, what is nothing beside its end can be decades below its start.
    room = 1e-9 * (low if axis.get_scale() == "log" else high - low)
    ticks = axis.get_major_ticks() + axis.get_minor_ticks()
    return {
        text for tick in ticks for text in (tick.label1, tick.label2) if not low - room <= tick.get_loc() <= high + room
    }


def _texts(figure: Figure) -> list[tuple[Text, Bbox]]:
    """All texts that are seen, with their boxes in pixels."""
    hidden: set[Text] = set()
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            # An axes that is switched off draws no axis, but its own texts.
            hidden |= _hidden_tick_texts(axis) if ax.axison and axis.get_visible() else set(axis.findobj(Text))
    seen = [
        text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip() and text not in hidden
    ]
    return [(text, text.get_window_extent()) for text in seen]


def test_width_is_the_text_width(drawn: Figure) -> None:
    assert drawn.get_figwidth() == TEXT_WIDTH


def test_no_text_below_seven_points(drawn: Figure) -> None:
    assert min(text.get_fontsize() for text, _ in _texts(drawn)) >= 7


def test_all_text_in_the_bundled_font_without_mathtext(drawn: Figure) -> None:
    assert {family for text, _ in _texts(drawn) for family in text.get_fontfamily()} == {FONT}
    assert not [text.get_text() for text, _ in _texts(drawn) if "$" in text.get_text()]


def test_no_text_is_clipped(drawn: Figure) -> None:
    page = drawn.bbox
    outside = [
        text.get_text()
        for text, box in _texts(drawn)
        if box.x0 < page.x0 - 0.5 or box.y0 < page.y0 - 0.5 or box.x1 > page.x1 + 0.5 or box.y1 > page.y1 + 0.5
    ]
    assert outside == []


def test_no_texts_overlap(drawn: Figure) -> None:
    texts = [(text.get_text(), box.padded(-1)) for text, box in _texts(drawn)]
    overlaps = [(one, other) for (one, a), (other, b) in itertools.combinations(texts, 2) if a.overlaps(b)]
    assert overlaps == []


def test_no_missing_value_is_written(drawn: Figure) -> None:
    assert not [text.get_text() for text, _ in _texts(drawn) if MISSING.search(text.get_text())]


@pytest.mark.parametrize("name", catalogue.NAMES)
def test_arguments_and_settings_are_left_alone(name: str) -> None:
    given = catalogue.arguments(name)
    before = copy.deepcopy(given)
    settings = dict(matplotlib.rcParams)
    catalogue.module(name).figure(given)
    catalogue.module(name).caption(given)
    _assert_same(given, before)
    assert dict(matplotlib.rcParams) == settings
    assert plt.get_fignums() == []


def _assert_same(one: object, other: object) -> None:
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other)
    elif isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            _assert_same(one[key], other[key])
    elif isinstance(one, tuple):
        for a, b in zip(one, other, strict=True):
            _assert_same(a, b)
    else:
        assert one == other


@pytest.mark.parametrize("name", catalogue.NAMES)
def test_caption_is_sentences_without_missing_values(name: str) -> None:
    caption = catalogue.module(name).caption(catalogue.arguments(name))
    assert caption.endswith(".")
    assert not MISSING.search(caption)
    assert "  " not in caption
    assert "\n" not in caption


@pytest.mark.parametrize("name", catalogue.NAMES)
def test_caption_is_valid_markup_of_one_paragraph(name: str) -> None:
    """The report reads captions as reStructuredText, in which |x| and x* have a meaning."""
    caption = catalogue.module(name).caption(catalogue.arguments(name))
    document = docutils.core.publish_doctree(caption, settings_overrides={"report_level": 1, "warning_stream": None})
    assert [type(node).__name__ for node in document.children] == ["paragraph"]
    assert document.astext() == caption
