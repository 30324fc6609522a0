"""The search for a task's recipe: how short meta-trainings did with each value."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reopt.figures.axes import log_axis
from reopt.figures.palette import task_title
from reopt.figures.style import TEXT_WIDTH, styled

if TYPE_CHECKING:
    from reopt.figures.view import View

CATEGORY = "Task and training"
READS = {"searched": ("recipe.csv",)}

VALUES = {
    "features": "features",
    "input_scale": "input scale",
    "output_scale": "output scale",
    "learning_rate": "learning rate",
}


def draw_value(ax: Axes, table: pd.DataFrame, name: str) -> None:
    """Meta-objective of every candidate against one value; the chosen one is a star, diverged ones tick the top."""
    values = sorted(table[name].unique())
    place = table[name].map({value: number for number, value in enumerate(values)}).to_numpy(dtype=float)
    objective = table["meta_objective"].to_numpy(dtype=float)
    finite = np.isfinite(objective)
    best = int(np.argmin(np.where(finite, objective, np.inf)))
    rest = finite & (np.arange(len(table)) != best)
    # Candidates of the same value stand side by side, in the order in which they were tried.
    place = place + np.linspace(-0.18, 0.18, len(table))
    ax.plot(place[rest], objective[rest], "o", color="#0072B2", markersize=3, markeredgewidth=0, alpha=0.7, gid="tried")
    if not finite.all():  # an empty line beyond the axes would spoil the layout
        ax.plot(
            place[~finite],
            np.ones((~finite).sum()),
            "|",
            color="#808080",
            markersize=6,
            clip_on=False,
            transform=ax.get_xaxis_transform(),
            gid="diverged",
        )
    ax.plot(
        place[best], objective[best], "*", color="black", markersize=8, markeredgecolor="white", zorder=3, gid="chosen"
    )
    log_axis(ax, "y", labels=4)
    ax.set_ylim(0.75 * objective[best], 1.3 * float(objective[finite].max()))
    words = [value if isinstance(value, str) else f"{value:g}" for value in values]
    ax.set_xticks(range(len(values)), words)
    ax.set(xlim=(-0.5, len(values) - 0.5), xlabel=VALUES[name])


def _searched(tasks: Mapping[str, pd.DataFrame | None]) -> dict[str, pd.DataFrame]:
    return {task: table for task, table in tasks.items() if table is not None}


def _given(tasks: Mapping[str, pd.DataFrame | None]) -> str:
    return ", ".join(task_title(task) for task, table in tasks.items() if table is None)


def data(view: "View") -> pd.DataFrame | None:
    """The candidates of one task's search; None where there was none. **Raises** `ReoptError`."""
    return view.table("recipe.csv") if view.subjects["searched"] else None


@styled
def figure(tasks: Mapping[str, pd.DataFrame | None]) -> Figure:
    """A row a task that was searched, a column a value; a sentence where no task was."""
    searched = _searched(tasks)
    if not searched:
        drawing = Figure(figsize=(TEXT_WIDTH, 0.5))
        drawing.text(0.5, 0.5, f"Not searched, but given: {_given(tasks)}.", ha="center", va="center")
        return drawing
    drawing = Figure(figsize=(TEXT_WIDTH, 1.3 * len(searched) + 0.3), layout="constrained")
    grid = drawing.subplots(len(searched), len(VALUES), squeeze=False, sharey="row")
    for line, (task, table) in zip(grid, searched.items(), strict=True):
        for ax, name in zip(line, VALUES, strict=True):
            draw_value(ax, table, name)
            if task != list(searched)[-1]:
                ax.set_xlabel("")
        line[0].set_ylabel(task_title(task), fontweight="bold")
    drawing.supylabel("meta-objective", fontsize=8)
    handles = [
        Line2D([], [], color="black", marker="*", markersize=8, linestyle="none", label="chosen"),
        Line2D([], [], color="#0072B2", marker="o", markersize=3, linestyle="none", label="tried"),
        Line2D([], [], color="#808080", marker="|", markersize=6, linestyle="none", label="diverged"),
    ]
    drawing.legend(handles=handles, loc="outside lower center", ncols=3)
    return drawing


def caption(tasks: Mapping[str, pd.DataFrame | None]) -> str:
    """What the figure shows, with the chosen recipes in numbers."""
    searched = _searched(tasks)
    parts = []
    for task, table in searched.items():
        best = table.loc[table["meta_objective"].astype(float).idxmin()]
        values = ", ".join(
            f"{words} {best[name] if isinstance(best[name], str) else format(best[name], 'g')}"
            for name, words in VALUES.items()
        )
        diverged = int((~np.isfinite(table["meta_objective"].astype(float))).sum())
        parts.append(
            f"{task_title(task)}: {values}, {best['meta_objective']:.3g} in validation ({len(table)} candidates,"
            f" {diverged} diverged)."
        )
    if given := _given(tasks):
        parts.append(f"Not searched, but given: {given}.")
    return (
        "Search for the recipe: best meta-objective in validation (no unit) of short meta-trainings against each value"
        " that was searched; a point a candidate, the star the one that was chosen, for all cells of the task. "
        + " ".join(parts)
    )
