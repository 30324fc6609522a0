"""The optimizer replaced by its linearisation around the fixed point: how much of its work that does."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reopt.figures.axes import draw_panels, legend_below, log_axis
from reopt.figures.palette import label, look, task_title
from reopt.figures.style import styled

if TYPE_CHECKING:
    from reopt.figures.view import View

CATEGORY = "Mechanisms"
READS = {"shown": ("linearized",)}

TOP = 2.0
"""Meta-objectives above this are drawn at it, as diverged ones are: they are worse than not moving."""


class Linearized(NamedTuple):
    """Runs of an optimizer and of its linearisation on the same problems."""

    subject: str
    curves: pd.DataFrame
    problems: pd.DataFrame


def draw_curves(ax: Axes, data: Linearized) -> None:
    """Mean loss over initial loss, learned and linearised."""
    table = data.curves.sort_values("step")
    ax.plot(
        table["step"], table["learned"], color=look(data.subject).color, linewidth=1.6, label="learned", gid="learned"
    )
    ax.plot(
        table["step"],
        table["linearized"],
        color="black",
        linewidth=1.1,
        linestyle=(0, (4, 1.5)),
        label="linearised",
        gid="linearized",
    )
    log_axis(ax, "y")
    ax.set(xlabel="step", ylabel="loss / initial loss", xlim=(0, float(table["step"].max())))
    learned = table["learned"][table["learned"] > 0]
    ax.set_ylim(float(learned.min()) / 2, TOP * 5)


def draw_problems(ax: Axes, data: Linearized) -> None:
    """Meta-objective of the linearisation against that of the optimizer, a point a problem; diverged at the top."""
    both = _meta_objectives(data)
    fine = (both <= TOP).all(axis=1)
    color = look(data.subject).color
    low = 0.8 * float(both.min())
    shown = np.minimum(both, TOP)
    ax.plot(
        shown[fine, 0],
        shown[fine, 1],
        "o",
        color=color,
        markersize=2.5,
        markeredgewidth=0,
        alpha=0.5,
        rasterized=True,
        gid="problems",
    )
    (gone,) = ax.plot(
        shown[~fine, 0],
        shown[~fine, 1],
        "^",
        markerfacecolor="none",
        markeredgecolor=color,
        markersize=3.5,
        markeredgewidth=0.6,
        alpha=0.7,
        clip_on=False,
        rasterized=True,
        gid="diverged",
    )
    gone.set_in_layout(False)  # the layout would keep room for markers that are not clipped
    high = TOP if not fine.all() else 1.25 * float(both.max())
    ax.plot([low, high], [low, high], color="#808080", linewidth=0.7, zorder=0, gid="equal")
    log_axis(ax, "x", "y", labels=4)
    ax.set(xlim=(low, high), ylim=(low, high), xlabel="meta-objective", ylabel="linearised")


def _meta_objectives(data: Linearized) -> np.ndarray:
    """Learned and linearised, a row a problem; what is not a number is infinite."""
    both = data.problems[["learned", "linearized"]].to_numpy(dtype=float)
    return np.where(np.isnan(both), np.inf, both)


def data(view: "View") -> Linearized:
    """The shown run of one task, and its linearisation. **Raises** `ReoptError`."""
    runs = view.examination(view.shown).linearized
    return Linearized(view.shown, runs.curves, runs.problems)


@styled
def figure(tasks: Mapping[str, Linearized]) -> Figure:
    """Loss curves, and meta-objectives problem by problem."""
    drawing, axes = draw_panels(
        tasks,
        {"curves": draw_curves, "problems": draw_problems},
        alone=[["curves", "problems"]],
        height_alone=2.2,
        height_each=1.7,
        alone_options={"width_ratios": [1.5, 1]},
    )
    legend_below(drawing, axes.values(), ncols=2)
    return drawing


def caption(tasks: Mapping[str, Linearized]) -> str:
    """What the figure shows, with the mean meta-objectives in numbers."""
    parts = []
    for name, data in tasks.items():
        both = _meta_objectives(data)
        learned, linearized = np.median(both, axis=0)
        gone = (both > TOP).sum(axis=0)
        text = (
            f"{task_title(name)}: {label(data.subject, seed=True)}, {len(both)} problems, median meta-objective"
            f" {learned:.3g} learned and {_number(linearized)} linearised; diverged or above {TOP:g}: {gone[0]}"
            f" learned, {gone[1]} linearised (open triangles)"
        )
        parts.append(text + ".")
    return (
        "The optimizer beside its linearisation around the fixed point, run on the same problems. (a) Mean over"
        " problems of loss over initial loss against the step. (b) Meta-objective (no unit) of each problem; on the"
        " line both are equal. " + " ".join(parts)
    )


def _number(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "infinite"
