"""Gradient clipping: update functions and the gradients met (Fig. 3 of arXiv 2011.02159)."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reopt.figures.axes import draw_panels, few_ticks, legend_below, log_axis, zero_lines
from reopt.figures.palette import label, look, task_title
from reopt.figures.style import styled

if TYPE_CHECKING:
    from reopt.examination.examination import Examination
    from reopt.figures.view import View

CATEGORY = "Mechanisms"
READS = {"shown": ("update_functions", "clipping", "density", "operating"), "seeds": ("update_functions",)}

PLACES = {"run": "in the run", "initial": "initial state", "fixed_point": "fixed point"}
"""Words for the states at which update functions are drawn."""

DASHES = ((0.0, ()), (0.0, (3.0, 1.5)), (0.0, (1.0, 1.2)))
"""Of the first place that there is, the next, and the last."""

_IN_WORDS = {
    "run": "in the state of a run, halfway and with the signs of the gradients before averaged out",
    "initial": "at the initial state",
    "fixed_point": "at the fixed point",
}

HALVES = ["half_slope_positive", "half_slope_negative"]

PHASES = {"all": ("whole run", "#9A9A9A", True), "first10": ("first 10 steps", "#0072B2", False)}


class Clipping(NamedTuple):
    """Update functions of one optimizer and the gradients it met; fields as the analysis stores them.

    `others` are update functions of other seeds at their initial states, `operating` those of this one in states of
    its runs (step, gradient, update, slope).
    """

    subject: str
    update_functions: pd.DataFrame
    clipping: pd.DataFrame
    gradient_density: pd.DataFrame
    others: Mapping[str, pd.DataFrame] = {}
    operating: pd.DataFrame | None = None


def _function(data: Clipping, place: str) -> pd.DataFrame:
    """The update function at a place; in the run, that at the middle one of the steps that are kept.

    None, beside one in the run, where the slope at zero is that of gradients smaller than any drawn.
    """
    if place != "run":
        function, half_slopes = _at(data.update_functions, place), _at(data.clipping, place)[HALVES].to_numpy()
        sizes = function["gradient"].abs()
        unseen = half_slopes.size and bool((half_slopes < sizes[sizes > 0].min()).all())
        return function.iloc[:0] if unseen and data.operating is not None else function
    if data.operating is None:
        return data.update_functions.iloc[:0]
    steps = np.unique(data.operating["step"])
    return data.operating[data.operating["step"] == steps[len(steps) // 2]].sort_values("gradient")


def _slope_at_zero(data: Clipping, place: str, function: pd.DataFrame) -> float:
    if place == "run":
        return float(function["slope"].iloc[function["gradient"].abs().argmin()])
    summary = _at(data.clipping, place)
    return float(summary["slope_at_zero"].iloc[0]) if len(summary) else np.nan


def _look(data: Clipping, place: str) -> tuple[str, tuple[float, tuple[float, ...]]]:
    """Colour and dashes: those of the subject for the first place that there is."""
    drawn = [one for one in PLACES if one != "run" or data.operating is not None]
    number = drawn.index(place)
    colors = {"initial": "#606060", "fixed_point": "black"}
    return look(data.subject).color if number == 0 else colors[place], DASHES[number]


def _at(table: pd.DataFrame, place: str) -> pd.DataFrame:
    chosen = table[(table["place"] == place) & (table["shift"] == 0)]
    return chosen.sort_values("gradient") if "gradient" in chosen else chosen


def draw_update(ax: Axes, data: Clipping) -> None:
    """Update against gradient, with marks at the half-slope gradients; other seeds thin."""
    for place, words in PLACES.items():
        function = _function(data, place)
        if function.empty:
            continue
        color, dashes = _look(data, place)
        ax.plot(
            function["gradient"], function["update"], color=color, linestyle=dashes, label=words, gid=f"update {place}"
        )
        for _, row in _at(data.clipping, place).iterrows():
            for half_slope in (row["half_slope_positive"], -row["half_slope_negative"]):
                if np.isfinite(half_slope):
                    update = np.interp(half_slope, function["gradient"], function["update"])
                    ax.plot(
                        half_slope,
                        update,
                        "o",
                        color=color,
                        markersize=4,
                        markerfacecolor="white",
                        markeredgewidth=1,
                        gid=f"half slope {place}",
                        zorder=4,
                    )
    for number, (other, table) in enumerate(data.others.items()):
        function = _at(table, "initial")
        ax.plot(
            function["gradient"],
            function["update"],
            color="#808080",
            linewidth=0.5,
            alpha=0.7,
            zorder=1,
            label="other seeds" if number == 0 else "_",
            gid=f"update {other}",
        )
    zero_lines(ax, upright=True)
    reach = float(data.update_functions["gradient"].abs().max())
    ax.set(xlabel="gradient", ylabel="update", xlim=(-reach, reach))
    few_ticks(ax, 5)


def draw_slope(ax: Axes, data: Clipping) -> None:
    """Slope of the update function over that at zero, against |gradient|, for both signs."""
    for place in PLACES:
        function = _function(data, place)
        if function.empty:
            continue
        at_zero = _slope_at_zero(data, place, function)
        color, dashes = _look(data, place)
        for sign in (1, -1):
            side = function[sign * function["gradient"] > 0].assign(size=lambda table: table["gradient"].abs())
            side = side.sort_values("size")
            ax.plot(
                side["size"],
                side["slope"] / at_zero,
                color=color,
                linestyle=dashes,
                alpha=1.0 if sign > 0 else 0.45,
                linewidth=1.2 if sign > 0 else 0.8,
                gid=f"slope {place} {sign:+d}",
            )
    ax.axhline(0.5, color="#808080", linewidth=0.6, linestyle=(0, (1, 1.5)), zorder=0, gid="half")
    log_axis(ax, "x", labels=4)
    low, high = ax.get_ylim()
    ax.set(xlabel="|gradient|", ylabel="slope / slope at 0", ylim=(min(0.0, low), max(1.05, high)))


def draw_density(ax: Axes, data: Clipping, scale: str) -> None:
    """Density of the gradients met, on a linear or logarithmic axis."""
    table = data.gradient_density[data.gradient_density["scale"] == scale]
    for phase, (words, color, filled) in PHASES.items():
        part = table[table["phase"] == phase].sort_values("left")
        if part.empty:
            continue
        edges = np.append(part["left"].to_numpy(), part["right"].to_numpy()[-1])
        ax.stairs(
            part["density"],
            edges,
            fill=filled,
            color=color,
            alpha=0.55 if filled else 1.0,
            linewidth=1.0,
            label=words,
            gid=f"density {scale} {phase}",
        )
    if scale == "log":
        log_axis(ax, "x", labels=4)
        ax.set(xlabel="|gradient|", ylabel="density per decade", ylim=(0, None))
    else:
        log_axis(ax, "y", labels=4)
        ax.set(xlabel="gradient", ylabel="density")


def of(found: "Examination") -> Clipping:
    """What an examination says."""
    functions = found.operating.functions
    return Clipping(found.name, found.update_functions, found.clipping, found.density, operating=functions)


def data(view: "View") -> Clipping:
    """The shown run of one task, and the update functions of its other seeds at their initial states."""
    others = {seed: view.examination(seed).update_functions for seed in view.subjects["seeds"]}
    others = {seed: table[table["place"] == "initial"] for seed, table in others.items()}
    return of(view.examination(view.shown))._replace(others=others)


@styled
def figure(tasks: Mapping[str, Clipping]) -> Figure:
    """Update function and slope above, the gradients met below on the same axes."""
    drawing, axes = draw_panels(
        tasks,
        {
            "update": draw_update,
            "linear": partial(draw_density, scale="linear"),
            "slope": draw_slope,
            "log": partial(draw_density, scale="log"),
        },
        alone=[["update", "slope"], ["linear", "log"]],
        height_alone=3.4,
        height_each=1.5,
        alone_options={"height_ratios": [1.25, 1]},
    )
    for name in tasks:
        axes[name, "linear"].set_xlim(axes[name, "update"].get_xlim())
        axes[name, "slope"].set_xlim(axes[name, "log"].get_xlim())
    legend_below(drawing, (axes[name, panel] for name in tasks for panel in ("update", "linear")), ncols=3)
    return drawing


def places_drawn(found: Iterable[Clipping]) -> tuple[list[str], str]:
    """Keys of `PLACES` whose update function is drawn for any of these, and the same in words."""
    found = list(found)
    drawn = [place for place in PLACES if any(not _function(data, place).empty for data in found)]
    words = [_IN_WORDS[place] for place in drawn]
    return drawn, " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def caption(tasks: Mapping[str, Clipping]) -> str:
    """What the figure shows, with half-slope gradients and shares in numbers."""
    parts = []
    for name, data in tasks.items():
        told = f"{task_title(name)}: {label(data.subject, seed=True)}"
        if _function(data, "initial").empty:
            told += "; at the initial state the slope halves below the smallest gradient drawn"
        else:
            row = _at(data.clipping, "initial").iloc[0]
            half_slopes = ", ".join(
                f"{value:.3g}" if np.isfinite(value) else "beyond the range"
                for value in (row["half_slope_positive"], row["half_slope_negative"])
            )
            told += (
                f"; at the initial state the slope halves at a size of {half_slopes} (positive, negative gradients),"
                f" and {_share(row['fraction_beyond_half_slope'])} of the gradients met lie beyond"
            )
        parts.append(told + (f"; {len(data.others)} other seeds grey." if data.others else "."))
    drawn, listed = places_drawn(tasks.values())
    circles = "; circles mark where the slope has fallen to half of that at zero" if set(drawn) - {"run"} else ""
    return (
        f"Gradient clipping. (a) Update against gradient {listed}{circles}. (b) Density of the gradients met in"
        " the whole run and in its first ten steps. (c) Slope over the slope at zero against the gradient's size"
        " (pale: negative gradients; dotted: one half). (d) Density of the gradient's size, per decade. "
        + " ".join(parts)
    )


def _share(value: float) -> str:
    return f"{value:.1%}" if np.isfinite(value) else "an unknown share"
