"""Learning-rate schedule: what an optimizer does of itself, without gradients (Fig. 4 of arXiv 2011.02159)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from reopt.figures.axes import draw_panels, few_ticks, log_axis, pc_label, scale_steps, step_bar
from reopt.figures.palette import label, look, task_title
from reopt.figures.style import styled
from reopt.figures.summaries import in_the_plane
from reopt.mechanisms.effective_rate import normalises

if TYPE_CHECKING:
    from reopt.examination.examination import Examination
    from reopt.figures.view import View

CATEGORY = "Mechanisms"
READS = {"shown": ("schedule", "pca"), "seeds": ("schedule",)}


class Schedule(NamedTuple):
    """The autonomous trajectory of one optimizer, and the schedules of `others` (other seeds), drawn thin."""

    subject: str
    schedule: pd.DataFrame
    summary: Mapping[str, Any]
    pca: Mapping[str, np.ndarray]
    others: Mapping[str, pd.DataFrame] = {}


def draw_trajectory(ax: Axes, data: Schedule) -> None:
    """The states h(k+1) = F(h(k), 0) on the first two principal axes, coloured by step."""
    table = data.schedule.sort_values("step")
    colors = scale_steps(table["step"])
    ax.plot(table["pc1"], table["pc2"], color="#BBBBBB", linewidth=0.7, zorder=1)
    ax.scatter(
        table["pc1"],
        table["pc2"],
        c=table["step"],
        cmap=colors.cmap,
        norm=cast(Normalize, colors.norm),
        s=7,
        linewidths=0,
        zorder=2,
        gid="trajectory",
    )
    first, last = table.iloc[0], table.iloc[-1]
    ax.plot(
        first["pc1"],
        first["pc2"],
        "o",
        markersize=5.5,
        markerfacecolor="white",
        markeredgecolor="black",
        markeredgewidth=0.9,
        zorder=3,
        label="initial state",
        linestyle="none",
        gid="start",
    )
    ax.plot(
        last["pc1"],
        last["pc2"],
        "*",
        markersize=9,
        color="#D55E00",
        markeredgecolor="white",
        markeredgewidth=0.5,
        zorder=4,
        label=f"step {int(last['step'])}",
        linestyle="none",
        gid="end",
    )
    ax.set(xlabel=pc_label(data.pca["explained"], 1), ylabel=pc_label(data.pca["explained"], 2))
    ax.margins(0.12)
    few_ticks(ax, 4)
    step_bar(ax, colors)


def _drawn(data: Schedule) -> tuple[str, Mapping[str, Any]]:
    """The column that shows the rate one set, and its summary: of steps where gradients are normalised."""
    if normalises(data.summary):
        return "steady_step", data.summary["steady"]
    return "effective_learning_rate", data.summary


def draw_rate(ax: Axes, data: Schedule) -> None:
    """Effective learning rate along that trajectory, its peak marked; other seeds grey. Where gradients are normalised,
    the step under a steady gradient."""
    column, summary = _drawn(data)
    for other, table in data.others.items():
        ax.plot(
            table["step"],
            table[column],
            color="#808080",
            linewidth=0.6,
            alpha=0.7,
            gid=f"rate {other}",
        )
    table = data.schedule.sort_values("step")
    color = look(data.subject).color
    ax.plot(table["step"], table[column], color=color, linewidth=1.6, gid=f"rate {data.subject}")
    peak = table[table["step"] == summary.get("peak_step")]
    ax.plot(
        peak["step"],
        peak[column],
        "o",
        color=color,
        markerfacecolor="white",
        markersize=4.5,
        markeredgewidth=1,
        clip_on=False,
        gid="peak",
        zorder=4,
    )
    words = "eff. learning rate" if column == "effective_learning_rate" else "step, steady gradient"
    ax.set(xlabel="step", ylabel=words, xlim=(0, float(table["step"].max())))
    low, high = ax.get_ylim()
    ax.set_ylim(min(0.0, low), max(0.0, high))
    few_ticks(ax, 5)


def draw_distance(ax: Axes, data: Schedule) -> None:
    """Distance of the state from the fixed point; other seeds grey."""
    for other, table in data.others.items():
        table = table[table["distance"] > 0]
        ax.plot(table["step"], table["distance"], color="#808080", linewidth=0.6, alpha=0.7, gid=f"distance {other}")
    table = data.schedule.sort_values("step")
    table = table[table["distance"] > 0]
    ax.plot(table["step"], table["distance"], color=look(data.subject).color, linewidth=1.4, gid="distance")
    log_axis(ax, "y", labels=5)
    ax.set(xlabel="step", ylabel="distance", xlim=(0, float(data.schedule["step"].max())))


def of(found: "Examination") -> Schedule:
    """What an examination says."""
    return Schedule(found.name, found.schedule.table, found.schedule.summary, in_the_plane(found.pca))


def data(view: "View") -> Schedule:
    """The shown run of one task, and the schedules of its other seeds."""
    others = {seed: view.examination(seed).schedule.table for seed in view.subjects["seeds"]}
    return of(view.examination(view.shown))._replace(others=others)


@styled
def figure(tasks: Mapping[str, Schedule]) -> Figure:
    """Autonomous trajectory, effective learning rate, distance to the fixed point."""
    drawing, _ = draw_panels(
        tasks,
        {"trajectory": draw_trajectory, "rate": draw_rate, "distance": draw_distance},
        alone=[["trajectory", "rate", "distance"]],
        height_alone=1.9,
        height_each=1.6,
        alone_options={"width_ratios": [1.2, 1, 1]},
    )
    return drawing


def caption(tasks: Mapping[str, Schedule]) -> str:
    """What the figure shows, with the schedule in numbers."""
    parts = []
    for name, data in tasks.items():
        column, summary = _drawn(data)
        if not summary.get("finite", True):
            parts.append(f"{task_title(name)}: {label(data.subject, seed=True)}; the rate is not finite throughout.")
            continue
        at = int(summary["peak_step"])
        peak = f" {summary['peak']:.3g} at step {at}," if at else ""
        text = (
            f"{task_title(name)}: {label(data.subject, seed=True)}; "
            f"{'steps under a steady gradient, ' * (column == 'steady_step')}{summary['shape'].replace('_', ' ')}:"
            f" {summary['initial']:.3g} at step 0,{peak}"
            f" {summary['final']:.3g} at the end"
        )
        parts.append(text + (f"; {len(data.others)} other seeds grey." if data.others else "."))
    normalised = ""
    if any(normalises(data.summary) for data in tasks.values()):
        normalised = "; where gradients are normalised, the step under a steady gradient of the size met most"
    return (
        "Learning-rate schedule. (a) The state without gradients, h ← F(h, 0) from the initial state (circle) to the"
        " last step (star), on the first two principal axes of the visited states, coloured by step. (b) Effective"
        " learning rate, minus the slope of the update function at zero gradient (parameter change per unit of"
        f" gradient), along that trajectory{normalised}; circle: peak. (c) Euclidean distance of the state to"
        " the fixed point. " + " ".join(parts)
    )
