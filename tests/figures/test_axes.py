"""Tick labels that would touch are hidden, whatever the range and the width of the axes."""

import itertools

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings
from matplotlib.figure import Figure

from reopt.figures.axes import log_axis, thin_labels
from reopt.figures.style import style


@settings(max_examples=60, deadline=None)
@given(
    low=st.floats(-8, 3),
    span=st.floats(0.05, 9),
    width=st.floats(0.5, 3.0),
    logarithmic=st.booleans(),
    labels=st.integers(2, 8),
)
def test_no_two_tick_labels_touch_and_one_stays(
    low: float, span: float, width: float, logarithmic: bool, labels: int
) -> None:
    with style():
        figure = Figure(figsize=(width, 1.0))
        ax = figure.add_axes((0.2, 0.3, 0.7, 0.6))
        ax.plot(10.0 ** np.linspace(low, low + span, 7), np.arange(7.0))
        if logarithmic:
            log_axis(ax, "x", labels=labels)
        figure.draw_without_rendering()
        before = seen(ax)
        thin_labels(figure)
        figure.draw_without_rendering()
        boxes = sorted(seen(ax))
    assert all(left[1] < right[0] for left, right in itertools.pairwise(boxes))
    assert bool(boxes) == bool(before)


def seen(ax) -> list[tuple[float, float]]:
    """Where the visible labels of the horizontal axis start and end."""
    low, high = ax.get_xlim()
    ticks = [*ax.xaxis.get_major_ticks(), *ax.xaxis.get_minor_ticks()]
    texts = [
        tick.label1
        for tick in ticks
        if tick.label1.get_visible() and tick.label1.get_text() and low <= tick.get_loc() <= high
    ]
    return [(box.x0, box.x1) for box in (text.get_window_extent() for text in texts)]
