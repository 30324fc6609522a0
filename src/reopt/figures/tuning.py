"""Tuning of the baselines: meta-objective against each hyperparameter."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reopt.figures.axes import log_axis
from reopt.figures.palette import label, look, order, parameter_words, task_title
from reopt.figures.style import TEXT_WIDTH, styled

CEILING = 2.0
"""Meta-objectives above this are drawn at it, as those of diverged and dropped draws are."""


ROW_ALONE, ROW_OF_SEVERAL = 1.05, 0.5
"""Height of a row in inches, where there is one task and where there are several."""


class Tuning(NamedTuple):
    """The draws of one baseline, and its winner with the ranges that were searched."""

    draws: pd.DataFrame
    winner: Mapping[str, Any]


def _place(values: Any, scale: str) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    return 1 - values if scale == "one_minus_log" else values


def draw_landscape(ax: Axes, name: str, baseline: str, data: Tuning, ceiling: float = CEILING) -> None:
    """Meta-objective of all draws against one hyperparameter; range edges dotted, winner as a star."""
    low, high, scale = data.winner["ranges"][name]
    color = look(baseline).color
    objective = data.draws["meta_objective"].to_numpy(dtype=float)
    fine = np.isfinite(objective) & (objective <= ceiling)
    x = _place(data.draws[name], scale)
    ax.plot(
        x[fine],
        objective[fine],
        ".",
        color=color,
        markersize=2.2,
        markeredgewidth=0,
        alpha=0.55,
        gid="draws",
        rasterized=True,
    )
    ax.plot(
        x[~fine],
        np.full((~fine).sum(), ceiling),
        "|",
        color="#9A9A9A",
        markersize=3,
        markeredgewidth=0.4,
        gid="diverged",
        rasterized=True,
    )
    log_axis(ax, "y", *([] if scale == "linear" else ["x"]), labels=3)
    for edge in _place([low, high], scale):
        ax.axvline(edge, color="#808080", linewidth=0.6, linestyle=(0, (1, 1.5)), zorder=0, gid="edge")
    at_edge = name in data.winner["at_edge"]
    ax.plot(
        _place(data.winner["hyperparameters"][name], scale),
        data.winner["meta_objective"],
        "*",
        markersize=8,
        color="#D55E00" if at_edge else "black",
        markeredgecolor="white",
        markeredgewidth=0.5,
        zorder=4,
        gid="winner",
    )
    words = parameter_words(name)
    ax.set_xlabel(f"1 − {words}" if scale == "one_minus_log" else words)


def _reach(name: str, several: list[Tuning]) -> tuple[float, float]:
    """Limits of an axis that show the ranges of all these searches."""
    scale = several[0].winner["ranges"][name][2]
    edges = np.concatenate([_place(data.winner["ranges"][name][:2], scale) for data in several])
    low, high = float(edges.min()), float(edges.max())
    if scale == "linear" or low <= 0:
        return low - 0.05 * (high - low), high + 0.05 * (high - low)
    room = (high / low) ** 0.05
    return low / room, high * room


def _parameters(data: Tuning) -> list[str]:
    """Hyperparameters in the order of columns: the learning rate first."""
    return sorted(data.winner["ranges"], key=lambda name: (name != "learning_rate", name))


@styled
def figure(tasks: Mapping[str, Mapping[str, Tuning]]) -> Figure:
    """A row a baseline and task, a column a hyperparameter; a baseline's tasks stand together, on the same axes."""
    baselines = order([name for task in tasks.values() for name in task])
    groups = {name: [task for task in tasks if name in tasks[task]] for name in baselines}
    rows = [(task, name) for name, group in groups.items() for task in group]
    most = max(len(tasks[task][name].winner["ranges"]) for task, name in rows)
    height = ROW_ALONE if len(tasks) == 1 else ROW_OF_SEVERAL
    drawing = Figure(figsize=(TEXT_WIDTH, height * len(rows) + 0.3 * len(groups) + 0.25), layout="constrained")
    grid = drawing.subplots(len(rows), most, squeeze=False, sharey="row")
    span: dict[str, tuple[float, float]] = {}  # of what is drawn as points, by task
    for task, tunings in tasks.items():
        objective = pd.concat([data.draws["meta_objective"] for data in tunings.values()])
        reached = objective[objective <= CEILING].to_numpy()
        span[task] = float(objective.min()), min(CEILING, 1.25 * float(reached.max()) if reached.size else CEILING)
    for line, (task, name) in zip(grid, rows, strict=True):
        data = tasks[task][name]
        group = groups[name]
        for ax, parameter in zip(line, _parameters(data), strict=False):
            draw_landscape(ax, parameter, name, data, span[task][1])
            ax.set_ylim(0.7 * span[task][0], 1.15 * span[task][1])
            if len(group) > 1:
                ax.set_xlim(_reach(parameter, [tasks[other][name] for other in group]))
            if task != group[-1]:
                ax.set_xlabel("")
                ax.tick_params(axis="x", which="both", labelbottom=False)
        for ax in line[len(data.winner["ranges"]) :]:
            ax.remove()
        if len(tasks) == 1:
            line[0].set_ylabel(label(name), fontweight="bold", color=look(name).color)
        else:
            line[0].set_ylabel(task_title(task), rotation=0, ha="right", va="center")
            if task == group[0]:
                line[0].set_title(label(name), loc="left", fontweight="bold", color=look(name).color)
    drawing.supylabel("meta-objective", fontsize=8)
    star: dict[str, Any] = {
        "linestyle": "none",
        "marker": "*",
        "markersize": 8,
        "markeredgecolor": "white",
        "markeredgewidth": 0.5,
    }
    handles = [
        Line2D([], [], color="black", label="winner", **star),
        Line2D([], [], color="#D55E00", label="winner, at an edge", **star),
        Line2D([], [], color="#808080", linewidth=0.6, linestyle=(0, (1, 1.5)), label="range"),
        Line2D(
            [],
            [],
            color="#9A9A9A",
            linestyle="none",
            marker="|",
            markersize=4,
            label=f"dropped, diverged or above {CEILING:g}",
        ),
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
            settings = ", ".join(f"{key} {winner['hyperparameters'][key]:.4g}" for key in _parameters(baselines[name]))
            text = (
                f"{label(name)} {winner['meta_objective']:.3g} at {settings} (best of {len(draws)} draws,"
                f" {winner['diverged']} diverged, {winner['dropped']} dropped"
            )
            if winner["at_edge"]:
                text += f"; at the edge of its range: {', '.join(winner['at_edge'])}"
            said.append(text + ")")
        parts.append(f"{task_title(task)}: " + "; ".join(said) + ".")
    return (
        "Tuning of the baselines by random search: meta-objective (no unit) on the tuning problems against each"
        " hyperparameter; each point is a draw, the star the winner (vermilion where the hyperparameter sits at the"
        f" edge of its range), dotted lines the range; ticks at the top are draws that diverged, ended above"
        f" {CEILING:g}, or were dropped early for being sure to end above a multiple of the best. " + " ".join(parts)
    )
