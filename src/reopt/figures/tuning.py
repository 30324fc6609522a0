"""Tuning of the baselines: how the search went on, and where in the ranges its best draws lie."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reopt.figures.axes import draw_panels, log_axis
from reopt.figures.palette import label, look, order, parameter_words, task_title
from reopt.figures.style import styled

if TYPE_CHECKING:
    from reopt.figures.view import View

CATEGORY = "Task and training"
READS = {"baselines": ("baselines/{subject}.csv.gz", "baselines/{subject}.json")}

BEST = 5
"""Draws that are shown in their ranges."""
AT_EDGE = "#D55E00"
TOP = 2.0
"""Meta-objectives above this are not shown: the first draws of a search."""


class Tuning(NamedTuple):
    """The draws of one baseline, and its winner with the ranges that were searched."""

    draws: pd.DataFrame
    winner: Mapping[str, Any]


def position(values: Any, low: float, high: float, scale: str) -> np.ndarray:
    """Where values lie in a range, 0 at its lower edge and 1 at its upper, on the scale that was drawn on."""
    values, edges = np.asarray(values, dtype=float), np.array([low, high])
    if scale == "one_minus_log":
        values, edges = np.log(1 - values), np.log(1 - edges)
    elif scale == "log":
        values, edges = np.log(values), np.log(edges)
    return (values - edges[0]) / (edges[1] - edges[0])


def best_so_far(draws: pd.DataFrame) -> np.ndarray:
    """The lowest meta-objective of the first n draws, infinite before the first that is finite."""
    return np.fmin.accumulate(draws["meta_objective"].fillna(np.inf).to_numpy(dtype=float))


def draw_progress(ax: Axes, baselines: Mapping[str, Tuning]) -> None:
    """Best meta-objective so far against the number of draws, a line a baseline."""
    for name in order(list(baselines)):
        best, seen = best_so_far(baselines[name].draws), look(name)
        known = np.isfinite(best)
        count = np.arange(1, len(best) + 1)
        ax.step(count[known], best[known], where="post", color=seen.color, linewidth=1.0, gid=f"progress {name}")
    log_axis(ax, "x", "y", labels=3)
    ax.set_ylim(top=min(ax.get_ylim()[1], TOP))
    ax.set_xlabel("draws")
    ax.set_ylabel("best meta-objective")


def draw_ranges(ax: Axes, baselines: Mapping[str, Tuning]) -> None:
    """A row a hyperparameter, from the lower edge of its range to the upper: the best draws, and the winner."""
    names, row = [], 0.0
    for name in order(list(baselines)):
        data, color = baselines[name], look(name).color
        best = data.draws[np.isfinite(data.draws["meta_objective"])].nsmallest(BEST, "meta_objective")
        for parameter in parameters(data):
            low, high, scale = data.winner["ranges"][parameter]
            ax.plot([0, 1], [row, row], color="#D0D0D0", linewidth=0.6, zorder=0)
            places = position(best[parameter], low, high, scale)
            ax.plot(places, np.full(len(best), row), "o", color=color, markersize=3, alpha=0.5, markeredgewidth=0,
                    gid=f"best {name} {parameter}")  # fmt: skip
            ax.plot(
                position(data.winner["hyperparameters"][parameter], low, high, scale),
                row,
                "*",
                markersize=7,
                color=AT_EDGE if parameter in data.winner["at_edge"] else "black",
                markeredgecolor="white",
                markeredgewidth=0.4,
                zorder=4,
                gid=f"winner {name} {parameter}",
            )
            names.append((row, parameter_words(parameter), color))
            row += 1
        row += 0.6
    ax.set_ylim(row - 0.9, -0.7)
    ax.set_yticks([place for place, _, _ in names], [words for _, words, _ in names])
    for tick, (_, _, color) in zip(ax.get_yticklabels(), names, strict=True):
        tick.set_color(color)
    ax.set_xlim(-0.06, 1.06)
    ax.set_xticks([0, 1], ["low", "high"])
    ax.set_xlabel("place in its range")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)


def parameters(data: Tuning) -> list[str]:
    """Hyperparameters of a baseline, the learning rate first."""
    return sorted(data.winner["ranges"], key=lambda name: (name != "learning_rate", name))


def data(view: "View") -> dict[str, Tuning]:
    """The draws and the winner of each baseline of one task. **Raises** `ReoptError`."""
    return {
        name: Tuning(view.table(f"baselines/{name}.csv.gz"), view.json(f"baselines/{name}.json"))
        for name in view.subjects["baselines"]
    }


@styled
def figure(tasks: Mapping[str, Mapping[str, Tuning]]) -> Figure:
    """(a) The best draw so far against the number of draws; (b) the best draws in the ranges of hyperparameters."""
    drawing, axes = draw_panels(
        tasks,
        {"progress": draw_progress, "ranges": draw_ranges},
        alone=[["progress", "ranges"]],
        height_alone=2.6,
        height_each=(1.5, 3.0),
    )
    rows = {task: [text.get_text() for text in axes[task, "ranges"].get_yticklabels()] for task in tasks}
    for task in list(tasks)[1:]:
        if rows[task] == rows[next(iter(tasks))]:
            axes[task, "ranges"].tick_params(axis="y", labelleft=False)
    names = order([name for baselines in tasks.values() for name in baselines])
    star: dict[str, Any] = {"linestyle": "none", "marker": "*", "markersize": 7, "markeredgecolor": "white"}
    handles = [Line2D([], [], color=look(name).color, label=label(name)) for name in names]
    handles += [
        Line2D([], [], color="#808080", linestyle="none", marker="o", markersize=3, label=f"best {BEST}"),
        Line2D([], [], color="black", label="winner", **star),
        Line2D([], [], color=AT_EDGE, label="winner, at an edge", **star),
    ]
    drawing.legend(handles=handles, loc="outside lower center", ncols=4)
    return drawing


def caption(tasks: Mapping[str, Mapping[str, Tuning]]) -> str:
    """What the figure shows, with the winners in numbers."""
    parts = []
    for task, baselines in tasks.items():
        said = []
        for name in order(list(baselines)):
            draws, winner = baselines[name]
            settings = ", ".join(f"{key} {winner['hyperparameters'][key]:.4g}" for key in parameters(baselines[name]))
            text = (
                f"{label(name)} {winner['meta_objective']:.3g} at {settings} (best of {len(draws)} draws,"
                f" {winner['diverged']} diverged, {winner['dropped']} dropped"
            )
            if winner["at_edge"]:
                text += f"; at the edge of its range: {', '.join(winner['at_edge'])}"
            said.append(text + ")")
        parts.append(f"{task_title(task)}: " + "; ".join(said) + ".")
    return (
        "Tuning of the baselines by random search. (a) The lowest meta-objective (no unit) on the tuning problems"
        f" against the number of draws. (b) The {BEST} best draws and the winner (star) in the range of each"
        " hyperparameter, on the scale on which it is drawn (rates and ε by their logarithm, β and decays by that of"
        " 1 − β); a vermilion star lies at the edge of its range. " + " ".join(parts)
    )
