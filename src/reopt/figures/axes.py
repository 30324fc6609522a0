"""Axes of a figure: their arrangement for one task or several, ticks, letters, colour bars."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, FuncNorm, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import Formatter, LogLocator, NullFormatter

from reopt.figures.palette import task_title
from reopt.figures.style import FONT, TEXT_WIDTH

T = TypeVar("T")
NARROW = 3
"""From this many columns on there is no width for colour bars beside the axes."""

_FONT = FontProperties(family=[FONT], size=7)
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def log_text(value: float) -> str:
    """A tick's value in Unicode: plain from 0.001 to 1000, else as 10⁻³ or 2×10⁻³."""
    if value <= 0:
        return ""
    if 0.00099 < value < 1001:
        return f"{value:.6g}"
    exponent = int(np.floor(np.log10(value) + 1e-9))
    mantissa = f"{value / 10.0**exponent:.6g}"
    return ("" if mantissa == "1" else f"{mantissa}×") + "10" + str(exponent).translate(_SUPERSCRIPTS)


class LogTicks(Formatter):
    """Labels of a logarithmic axis: its decades; 2 and 5 as well where fewer than two decades are in view."""

    def __init__(self, *, minor: bool = False) -> None:
        self.minor = minor

    def __call__(self, x: float, pos: int | None = None) -> str:
        del pos
        if not self.minor:
            return log_text(x)
        low, high = sorted(self.axis.get_view_interval()) if self.axis is not None else (0.0, 0.0)
        if low <= 0:
            return ""
        decades = np.floor(np.log10(high) + 1e-9) - np.ceil(np.log10(low) - 1e-9) + 1
        first = round(x / 10.0 ** np.floor(np.log10(x) + 1e-9))
        narrow = np.log10(high / low) < 0.35
        return log_text(x) if decades < 2 and (narrow or first in (2, 5)) else ""


def log_axis(ax: Axes, *names: str, labels: int = 6) -> None:
    """Make the named axes ("x", "y") logarithmic, with at most `labels` labelled decades."""
    for name in names:
        getattr(ax, f"set_{name}scale")("log")
        axis = getattr(ax, f"{name}axis")
        axis.set_major_locator(LogLocator(numticks=labels))
        axis.set_major_formatter(LogTicks())
        axis.set_minor_locator(LogLocator(subs=range(2, 10), numticks=labels))
        axis.set_minor_formatter(LogTicks(minor=True))
        if not np.isfinite(axis.get_minpos()) and min(getattr(ax, f"get_{name}lim")()) <= 0:
            getattr(ax, f"set_{name}lim")(0.1, 10)  # nothing positive is drawn: any decades will do


def arrange(
    tasks: Sequence[str],
    panels: Sequence[str],
    *,
    alone: Sequence[Sequence[Any]],
    height_alone: float,
    height_each: float | Sequence[float],
    alone_options: Mapping[str, Any] | None = None,
) -> tuple[Figure, dict[tuple[str, str], Axes]]:
    """A figure and its axes by (task, panel).

    One task: the panels in the mosaic `alone` (a nested list is a row or block of its own). Several: a
    column a task, a row a panel, the task's name on top. Panels get letters, the same for all tasks. Heights are in
    inches, `height_each` of every row or of each.
    """
    if len(tasks) == 1:
        figure = Figure(figsize=(TEXT_WIDTH, height_alone), layout="constrained")
        mosaic = figure.subplot_mosaic([list(row) for row in alone], **(alone_options or {}))
        axes = {(tasks[0], panel): mosaic[panel] for panel in panels}
    else:
        heights = [height_each] * len(panels) if isinstance(height_each, int | float) else list(height_each)
        figure = Figure(figsize=(TEXT_WIDTH, sum(heights)), layout="constrained")
        grid = figure.subplots(len(panels), len(tasks), squeeze=False, height_ratios=heights)
        axes = {
            (task, panel): grid[row, column] for row, panel in enumerate(panels) for column, task in enumerate(tasks)
        }
        for task in tasks:
            axes[task, panels[0]].set_title(task_title(task), fontweight="bold")
    if len(panels) > 1:
        for letter, panel in zip("abcdefghij", panels, strict=False):
            put_letter(axes[tasks[0], panel], letter)
    return figure, axes


def draw_panels(
    tasks: Mapping[str, T], draw: Mapping[str, Callable[[Axes, T], None]], **layout: Any
) -> tuple[Figure, dict[tuple[str, str], Axes]]:
    """`arrange`, with each panel drawn by its function of the axes and a task's data."""
    names = list(tasks)
    figure, axes = arrange(names, list(draw), **layout)
    for (name, panel), ax in axes.items():
        draw[panel](ax, tasks[name])
    keep_outer_labels(axes, names)
    return figure, axes


def zero_lines(ax: Axes, *, upright: bool = False) -> None:
    """A pale line behind at 0, and one across it if asked for."""
    ax.axhline(0, color="#BBBBBB", linewidth=0.5, zorder=0)
    if upright:
        ax.axvline(0, color="#BBBBBB", linewidth=0.5, zorder=0)


def keep_outer_labels(axes: Mapping[tuple[str, str], Axes], tasks: Sequence[str]) -> None:
    """Of several columns, only the first names its vertical axes, unless another's has a name of its own."""
    for (task, panel), ax in axes.items():
        if task != tasks[0] and ax.get_ylabel() == axes[tasks[0], panel].get_ylabel():
            ax.set_ylabel("")


def legend_below(figure: Figure, axes: Iterable[Axes], *, ncols: int) -> None:
    """One legend for all these axes below the figure, where it can cover nothing."""
    handles: dict[str, Any] = {}
    for ax in axes:
        for handle, text in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(text, handle)
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=ncols)


def thin_labels(figure: Figure, room: float = 1.5) -> None:
    """Hide tick labels that would touch a neighbour of the same axis; call it when the layout is settled.

    Labels of major ticks stay before those of minor ones; of labels that touch, the first along the axis stays. Two
    labels touch where less than `room` points are between them along the axis.
    """
    figure.draw_without_rendering()
    renderer, gap = figure._get_renderer(), room * figure.dpi / 72  # type: ignore[attr-defined]
    for ax in figure.axes:
        for axis, along in ((ax.xaxis, "x"), (ax.yaxis, "y")):
            low, high = sorted(axis.get_view_interval())
            kept: list[tuple[float, float]] = []
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                text = tick.label1
                if not (text.get_visible() and text.get_text() and low <= tick.get_loc() <= high):
                    continue
                box = text.get_window_extent(renderer)
                start, end = (box.x0, box.x1) if along == "x" else (box.y0, box.y1)
                if any(start < other_end + gap and end > other_start - gap for other_start, other_end in kept):
                    text.set_visible(False)
                else:
                    kept.append((start, end))


def put_letter(ax: Axes, letter: str) -> None:
    """The letter of a panel, at the left above its axes."""
    ax.annotate(
        letter,
        (0, 1),
        (-4, 3),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontweight="bold",
        fontsize=9,
        annotation_clip=False,
        gid="letter",
    )


def is_narrow(ax: Axes) -> bool:
    """Whether the axes is one of so many columns that it has no width to spare."""
    place = ax.get_subplotspec()
    return place is not None and place.get_gridspec().ncols >= NARROW


def few_ticks(ax: Axes, count: int) -> None:
    """At most `count` intervals between ticks of linear axes; fewer across where columns are narrow."""
    ax.locator_params(axis="y", nbins=count)
    ax.locator_params(axis="x", nbins=min(count, 3) if is_narrow(ax) else count)


def color_bar(ax: Axes, colors: ScalarMappable, text: str, **options: Any) -> None:
    """A thin colour bar at the right of the axes; of narrow ones below it, where it takes no width."""
    if is_narrow(ax):
        options |= {"location": "bottom", "shrink": 0.9}
    bar = ax.figure.colorbar(colors, ax=ax, fraction=0.05, pad=0.02, aspect=22, **options)
    bar.set_label(text, labelpad=1)
    bar.outline.set_visible(False)
    bar.ax.tick_params(size=2, width=0.5, pad=1.5)
    bar.minorformatter = NullFormatter()  # within a decade they stood side by side


def sequential() -> Colormap:
    """For ordered values: viridis without its palest part, which would vanish on white."""
    return LinearSegmentedColormap.from_list("cut", matplotlib.colormaps["viridis"](np.linspace(0, 0.92, 256)))


def diverging() -> Colormap:
    """For signed values: blue, grey, vermilion."""
    return LinearSegmentedColormap.from_list("signed", ["#0072B2", "#9A9A9A", "#D55E00"])


def scale_colors(values: Any, *, signed: bool = False) -> ScalarMappable:
    """Colours for values: `sequential` between their extremes, or `diverging` around 0."""
    values = np.asarray(values, dtype=float)
    low, high = float(np.min(values)), float(np.max(values))
    if signed:
        reach = max(abs(low), abs(high)) or 1.0
        return ScalarMappable(Normalize(-reach, reach), diverging())
    return ScalarMappable(Normalize(low, high if high > low else low + 1.0), sequential())


def scale_steps(steps: Any) -> ScalarMappable:
    """Colours for steps, by log(1 + step): most happens in the first of them."""
    return ScalarMappable(FuncNorm((np.log1p, np.expm1), 0, max(float(np.max(steps)), 1.0)), sequential())


def step_bar(ax: Axes, colors: ScalarMappable) -> None:
    """A colour bar for steps."""
    chosen = (0, 3, 30, 300, 3000) if is_narrow(ax) else (0, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000)
    ticks = [tick for tick in chosen if tick <= colors.get_clim()[1]]
    color_bar(ax, colors, "step", ticks=ticks, format="%d")


def text_width(text: str) -> float:
    """Width in inches of a text of seven points."""
    return text_to_path.get_text_width_height_descent(text, _FONT, ismath=False)[0] / 72


def pc_label(explained: Any, component: int) -> str:
    """Name of a principal axis (counted from 1) with its share of the variance."""
    share = 100 * float(explained[component - 1])
    return f"PC {component} ({f'{share:.0f}' if share >= 10 else f'{share:.2g}'}%)"
