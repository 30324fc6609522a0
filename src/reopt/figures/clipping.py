"""Gradient clipping: update functions and the gradients met (Fig. 3 of arXiv 2011.02159)."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reopt.figures.axes import arrange, few_ticks, keep_outer_labels, legend_below, log_axis
from reopt.figures.palette import label, look, task_title
from reopt.figures.style import styled

PLACES = {"initial": ("initial state", (0.0, ())), "fixed_point": ("fixed point", (0.0, (3.0, 1.5)))}
"""Words and dashes for the states at which update functions are drawn."""

PHASES = {"all": ("whole run", "#9A9A9A", True), "first10": ("first 10 steps", "#0072B2", False)}


class Clipping(NamedTuple):
    """Update functions of one optimizer and the gradients it met; fields as the analysis stores them.

    `others` are update functions of other seeds at their initial states.
    """

    subject: str
    update_functions: pd.DataFrame
    clipping: pd.DataFrame
    gradient_density: pd.DataFrame
    others: Mapping[str, pd.DataFrame] = {}


def _at(table: pd.DataFrame, place: str) -> pd.DataFrame:
    chosen = table[(table["place"] == place) & (table["shift"] == 0)]
    return chosen.sort_values("gradient") if "gradient" in chosen else chosen


def draw_update(ax: Axes, data: Clipping) -> None:
    """Update against gradient, with marks at the thresholds where the slope has fallen to half; other seeds thin."""
    for place, (words, dashes) in PLACES.items():
        function = _at(data.update_functions, place)
        if function.empty:
            continue
        color = look(data.subject).color if place == "initial" else "black"
        ax.plot(
            function["gradient"], function["update"], color=color, linestyle=dashes, label=words, gid=f"update {place}"
        )
        for _, row in _at(data.clipping, place).iterrows():
            for threshold in (row["threshold_positive"], -row["threshold_negative"]):
                if np.isfinite(threshold):
                    update = np.interp(threshold, function["gradient"], function["update"])
                    ax.plot(
                        threshold,
                        update,
                        "o",
                        color=color,
                        markersize=4,
                        markerfacecolor="white",
                        markeredgewidth=1,
                        gid=f"threshold {place}",
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
    ax.axhline(0, color="#BBBBBB", linewidth=0.5, zorder=0)
    ax.axvline(0, color="#BBBBBB", linewidth=0.5, zorder=0)
    reach = float(data.update_functions["gradient"].abs().max())
    ax.set(xlabel="gradient", ylabel="update", xlim=(-reach, reach))
    few_ticks(ax, 5)


def draw_slope(ax: Axes, data: Clipping) -> None:
    """Slope of the update function over that at zero, against |gradient|, for both signs."""
    for place, (_, dashes) in PLACES.items():
        function = _at(data.update_functions, place)
        summary = _at(data.clipping, place)
        if function.empty or summary.empty:
            continue
        at_zero = float(summary["slope_at_zero"].iloc[0])
        color = look(data.subject).color if place == "initial" else "black"
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


@styled
def figure(tasks: Mapping[str, Clipping]) -> Figure:
    """Update function and slope above, the gradients met below on the same axes."""
    names = list(tasks)
    drawing, axes = arrange(
        names,
        ["update", "linear", "slope", "log"],
        alone=[["update", "slope"], ["linear", "log"]],
        height_alone=3.4,
        height_each=1.5,
        alone_options={"height_ratios": [1.25, 1]},
    )
    for name, data in tasks.items():
        draw_update(axes[name, "update"], data)
        draw_density(axes[name, "linear"], data, "linear")
        draw_slope(axes[name, "slope"], data)
        draw_density(axes[name, "log"], data, "log")
        axes[name, "linear"].set_xlim(axes[name, "update"].get_xlim())
        axes[name, "slope"].set_xlim(axes[name, "log"].get_xlim())
    keep_outer_labels(axes, names)
    legend_below(drawing, (axes[name, panel] for name in names for panel in ("update", "linear")), ncols=3)
    return drawing


def caption(tasks: Mapping[str, Clipping]) -> str:
    """What the figure shows, with thresholds and shares in numbers."""
    parts = []
    for name, data in tasks.items():
        row = _at(data.clipping, "initial").iloc[0]
        thresholds = ", ".join(
            f"{value:.3g}" if np.isfinite(value) else "beyond the range"
            for value in (row["threshold_positive"], row["threshold_negative"])
        )
        parts.append(
            f"{task_title(name)}: {label(data.subject, seed=True)}; at the initial state the slope halves at a"
            f" size of {thresholds} (positive, negative gradients), and {_share(row['fraction_beyond'])} of the"
            " gradients met lie beyond" + (f"; {len(data.others)} other seeds grey." if data.others else ".")
        )
    return (
        "Gradient clipping. (a) Update against gradient at the initial state and at the fixed point; circles mark where"
        " the slope has fallen to half of that at zero. (b) Density of the gradients met in the whole run and in its"
        " first ten steps. (c) Slope over the slope at zero against the gradient's size (pale: negative gradients;"
        " dotted: one half). (d) Density of the gradient's size, per decade. " + " ".join(parts)
    )


def _share(value: float) -> str:
    return f"{100 * value:.2g}%" if np.isfinite(value) else "an unknown share"
