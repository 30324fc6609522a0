"""Learning-rate adaptation: fixed points under constant gradients (Fig. 5 of arXiv 2011.02159)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from reopt.figures.axes import (
    LogTicks,
    color_bar,
    draw_panels,
    few_ticks,
    legend_below,
    log_axis,
    pc_label,
    sequential,
    zero_lines,
)
from reopt.figures.palette import NEGATIVE, NEUTRAL, POSITIVE, label, look, task_title
from reopt.figures.style import styled
from reopt.figures.summaries import in_the_plane

if TYPE_CHECKING:
    from reopt.examination.examination import Examination
    from reopt.figures.view import View

CATEGORY = "Mechanisms"
READS = {"shown": ("adaptation", "pca"), "seeds": ("adaptation",), "rmsprop": ("adaptation",)}

ARMS = {
    "negative": (NEGATIVE, "v", "g < 0"),
    "zero": (NEUTRAL, "o", "g = 0"),
    "positive": (POSITIVE, "^", "g > 0"),
}
"""Colour, marker and words of the arms."""

RATE = "effective_learning_rate_at_zero"
FAR = 1e-3  # a rate below this share of that at rest has nothing to do with it
ROOM = 2.5  # factor by which the axis of rates goes beyond those of the shown run


class Adaptation(NamedTuple):
    """Fixed points of one optimizer under constant gradients, beside RMSProp's and other seeds'."""

    subject: str
    adaptation: pd.DataFrame
    functions: pd.DataFrame
    summary: Mapping[str, Any]
    pca: Mapping[str, np.ndarray]
    rmsprop: pd.DataFrame | None = None
    rmsprop_summary: Mapping[str, Any] | None = None
    others: Mapping[str, pd.DataFrame] = {}


def draw_arms(ax: Axes, data: Adaptation) -> None:
    """The fixed points on the first two principal axes; those that did not converge are open."""
    table = data.adaptation.sort_values("gradient")
    ax.plot(table["pc1"], table["pc2"], color="#BBBBBB", linewidth=0.7, zorder=1)
    for arm, (color, marker, words) in ARMS.items():
        part = table[table["arm"] == arm]
        for converged, face in ((True, color), (False, "none")):
            chosen = part[part["converged"].astype(bool) == converged]
            if len(chosen):
                ax.plot(
                    chosen["pc1"],
                    chosen["pc2"],
                    marker,
                    linestyle="none",
                    markersize=3.5,
                    markerfacecolor=face,
                    markeredgecolor=color,
                    markeredgewidth=0.6,
                    zorder=3 if arm == "zero" else 2,
                    label=words if converged else "_",
                    gid=f"arm {arm} {converged}",
                )
    ax.set(xlabel=pc_label(data.pca["explained"], 1), ylabel=pc_label(data.pca["explained"], 2))
    ax.margins(0.08)
    few_ticks(ax, 4)


def draw_functions(ax: Axes, data: Adaptation) -> None:
    """Update functions in the states that constant positive gradients lead to."""
    table = data.functions[data.functions["gradient_held"] >= 0]
    held = np.unique(table["gradient_held"])
    sizes = held[held > 0]
    low, high = (sizes.min(), sizes.max()) if len(sizes) else (1.0, 10.0)
    colors = ScalarMappable(LogNorm(low, high if high > low else 10 * low), sequential())
    for value in held:
        function = table[table["gradient_held"] == value].sort_values("gradient")
        color = "#9A9A9A" if value == 0 else colors.to_rgba(value)
        ax.plot(
            function["gradient"],
            function["update"],
            color=color,
            linewidth=1.1,
            gid=f"held {value:.6g}",
            linestyle=(0, (2, 1)) if value == 0 else "-",
        )
    zero_lines(ax, upright=True)
    ax.set(xlabel="gradient", ylabel="update")
    few_ticks(ax, 5)
    color_bar(ax, colors, "gradient held", format=LogTicks(), ticks=LogLocator(numticks=3))


def relative(table: pd.DataFrame) -> pd.DataFrame:
    """The table with rates over that without a gradient, or, where there is none or no gradient held comes near it,
    that of the smallest gradient."""
    known = table[table[RATE] > 0]
    rest = known.loc[known["gradient"].abs().sort_values().index, RATE]
    rest = rest.iloc[1:] if _far_from_rest(table) else rest
    return table.assign(**{RATE: table[RATE] / rest.iloc[0]}) if len(rest) else table


def _far_from_rest(table: pd.DataFrame) -> bool:
    """Whether all rates under a gradient are below `FAR` of that without one."""
    known = table[table[RATE] > 0]
    held, rest = known.loc[known["gradient"] != 0, RATE], known.loc[known["gradient"] == 0, RATE]
    return bool(len(held) and len(rest) and held.max() < FAR * rest.iloc[0])


def draw_rates(ax: Axes, data: Adaptation) -> None:
    """Effective learning rate over that at rest against |constant gradient|: both arms, RMSProp's, other seeds'."""
    learned, far = relative(data.adaptation), _far_from_rest(data.adaptation)
    learned = learned[learned["arm"] != "zero"] if far else learned
    for other, table in data.others.items():
        table = relative(table)
        table = table[table[RATE] > 0].assign(size=lambda rows: rows["gradient"].abs()).sort_values("size")
        for _, part in table[table["arm"] != "zero"].groupby("arm"):
            ax.plot(part["size"], part[RATE], color="#808080", linewidth=0.5, alpha=0.6, gid=f"rate {other}")
    for arm in ("negative", "positive"):
        color, marker, words = ARMS[arm]
        part = learned[(learned["arm"] == arm) & (learned[RATE] > 0)]
        part = part.assign(size=part["gradient"].abs()).sort_values("size")
        # Where the arms agree, the wide pale line of the one shows beneath the other.
        wide = arm == "negative"
        ax.plot(
            part["size"],
            part[RATE],
            color=color,
            linewidth=3.2 if wide else 1.0,
            alpha=0.45 if wide else 1.0,
            gid=f"rate {arm}",
        )
        ax.plot(
            part["size"],
            part[RATE],
            marker,
            color=color,
            markersize=4 if wide else 2.5,
            markeredgewidth=0,
            alpha=0.45 if wide else 1.0,
            label=words,
            gid=f"points {arm}",
        )
    if data.rmsprop is not None:
        probe = relative(data.rmsprop)
        part = probe[(probe["arm"] == "positive") & (probe[RATE] > 0)].sort_values("gradient")
        drawn = look("rmsprop")
        ax.plot(
            part["gradient"],
            part[RATE],
            color=drawn.color,
            linestyle=drawn.dashes,
            label=drawn.label,
            gid="rate rmsprop",
            zorder=1,
        )
    knee = data.summary.get("knee")
    if knee is not None and np.isfinite(knee):
        ax.axvline(knee, color="#808080", linewidth=0.6, linestyle=(0, (1, 1.5)), zorder=0, gid="knee")
    log_axis(ax, "x", labels=3)
    log_axis(ax, "y", labels=4)
    seen = learned.loc[learned[RATE] > 0, RATE]
    if len(seen):  # RMSProp's falls by decades: it may leave below
        ax.set_ylim(min(float(seen.min()), 1) / ROOM, max(float(seen.max()), 1) * ROOM)
    ax.set(xlabel="|gradient held|", ylabel="rate / rate at smallest" if far else "rate / rate at 0")


def of(found: "Examination") -> Adaptation:
    """What an examination says."""
    held = found.adaptation
    return Adaptation(found.name, held.table, held.functions, held.summary, in_the_plane(found.pca))


def data(view: "View") -> Adaptation:
    """The shown run of one task, its other seeds, and RMSProp where it is examined."""
    others = {seed: view.examination(seed).adaptation.table for seed in view.subjects["seeds"]}
    drawn = of(view.examination(view.shown))._replace(others=others)
    for name in view.subjects["rmsprop"]:
        probe = view.examination(name).adaptation
        drawn = drawn._replace(rmsprop=probe.table, rmsprop_summary=probe.summary)
    return drawn


@styled
def figure(tasks: Mapping[str, Adaptation]) -> Figure:
    """S-curve of fixed points, update functions along an arm, effective learning rate along both."""
    drawing, axes = draw_panels(
        tasks,
        {"arms": draw_arms, "functions": draw_functions, "rates": draw_rates},
        alone=[["arms", "functions", "rates"]],
        height_alone=2.2,
        height_each=1.6,
        alone_options={"width_ratios": [1, 1.2, 1]},
    )
    legend_below(drawing, (axes[name, panel] for name in tasks for panel in ("arms", "rates")), ncols=4)
    return drawing


def caption(tasks: Mapping[str, Adaptation]) -> str:
    """What the figure shows, with the fitted exponents in numbers."""
    parts = []
    for name, data in tasks.items():
        summary = data.summary
        converged = int(data.adaptation["converged"].astype(bool).sum())
        text = (
            f"{task_title(name)}: {label(data.subject, seed=True)}; {converged} of {len(data.adaptation)} fixed points"
            f" converged; log-log slope {_slope(summary)}"
        )
        if data.rmsprop_summary is not None:
            text += f" (RMSProp: {_slope(data.rmsprop_summary)})"
        parts.append(text + (f"; {len(data.others)} other seeds grey." if data.others else "."))
    leaves = " RMSProp's leaves the view." if any(data.rmsprop_summary is not None for data in tasks.values()) else ""
    return (
        "Learning-rate adaptation. (a) Fixed points under constant gradients g on the first two principal axes of the"
        " visited states (open: not converged). (b) Update against gradient in the states that positive constant"
        " gradients lead to (grey dashes: g = 0). (c) Effective learning rate, minus the slope of those functions at"
        f" zero gradient, over that at g = 0, against the size of g; dotted: the knee.{leaves} The slope is fitted to"
        " the fixed points of both signs of g beyond three times the knee, or to all of them where fewer than four of a"
        " sign lie beyond it. " + " ".join(parts)
    )


def _slope(summary: Mapping[str, Any]) -> str:
    values = [summary.get(key) for key in ("exponent", "low", "high")]
    if any(value is None or not np.isfinite(value) for value in values):
        return "not determined"
    return f"{values[0]:.2f} (95% interval {values[1]:.2f} to {values[2]:.2f})".replace("-", "−")
