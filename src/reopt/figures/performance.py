"""How well learned optimizers do beside tuned baselines and the theory (Fig. 1 of arXiv 2011.02159)."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reopt.figures.axes import arrange, keep_outer_labels, legend_below, log_axis
from reopt.figures.palette import is_learned, label, look, order, split_seed, task_title
from reopt.figures.schematic import Schematic, draw
from reopt.figures.style import styled
from reopt.figures.summaries import mean_interval

LEAST = 0.1
"""Bands reach down to this share of the mean at most."""


class Performance(NamedTuple):
    """Evaluation on one task; `subject` is the learned optimizer drawn with its band, other seeds are thin.

    curves: optimizer, step, mean, low, high (loss over initial loss). evaluation: optimizer, problem, meta_objective.
    """

    subject: str
    curves: pd.DataFrame
    evaluation: pd.DataFrame
    schematic: Schematic | None = None


def draw_curves(ax: Axes, data: Performance) -> None:
    """Mean loss over initial loss against the step, with its 95% band; other seeds of learned optimizers thin."""
    top, floor = 1.0, np.inf
    for subject in order(list(data.curves["optimizer"])):
        curve = data.curves[data.curves["optimizer"] == subject].sort_values("step")
        drawn = look(subject)
        minor = is_learned(subject) and subject != data.subject
        ax.plot(
            curve["step"],
            curve["mean"],
            color=drawn.color,
            linestyle=drawn.dashes,
            gid=f"curve {subject}",
            linewidth=0.5 if minor else 1.6 if is_learned(subject) else 1.1,
            alpha=0.6 if minor else 1.0,
            label="_" if minor and split_seed(subject)[0] == split_seed(data.subject)[0] else label(subject),
            zorder=3 if subject == data.subject else 2,
        )
        if not minor:
            # An interval that reaches below zero has no lower end on a logarithmic axis.
            low = np.maximum(curve["low"], LEAST * curve["mean"])
            ax.fill_between(curve["step"], low, curve["high"], color=drawn.color, alpha=0.18, linewidth=0)
        positive = curve["mean"][(curve["mean"] > 0) & np.isfinite(curve["mean"])]
        if len(positive):
            floor, top = min(floor, float(positive.min())), max(top, min(float(positive.max()), 100.0))
    log_axis(ax, "y")
    ax.set(xlabel="step", ylabel="loss / initial loss", ylim=(floor / 2 if np.isfinite(floor) else None, 1.5 * top))
    ax.set_xlim(0, float(data.curves["step"].max()))


def draw_objective(ax: Axes, data: Performance) -> None:
    """Mean meta-objective of each optimizer with its 95% interval over problems; other seeds as open points."""
    summary = mean_interval(data.evaluation, "optimizer", "meta_objective").set_index("optimizer")
    subjects = order(list(summary.index))
    families = list(dict.fromkeys(split_seed(subject)[0] for subject in subjects))
    shown = split_seed(data.subject)[0]
    for subject in subjects:
        mean, low, high = summary.loc[subject, ["mean", "low", "high"]]
        if not np.isfinite(mean):
            continue
        drawn = look(subject)
        family = split_seed(subject)[0]
        row = families.index(family)
        if subject != data.subject and is_learned(subject):
            ax.plot(
                mean,
                row,
                drawn.marker,
                markersize=3,
                markerfacecolor="none",
                markeredgecolor=drawn.color,
                markeredgewidth=0.6,
                alpha=0.8,
                gid=f"seed {subject}",
            )
            continue
        if np.isfinite(low):
            ax.plot([max(low, mean * 1e-2), high], [row, row], color=drawn.color, linewidth=1.2, solid_capstyle="butt")
        ax.plot(
            mean,
            row,
            drawn.marker,
            color=drawn.color,
            markersize=6 if family == "polyak" else 4.5,
            gid=f"objective {subject}",
            zorder=3,
        )
    if data.subject in summary.index and np.isfinite(summary.loc[data.subject, "mean"]):
        ax.axvline(summary.loc[data.subject, "mean"], color=look(shown).color, linewidth=0.5, alpha=0.6, zorder=0)
    log_axis(ax, "x", labels=4)
    ax.set_yticks(range(len(families)), [look(family).label for family in families])
    ax.set(ylim=(len(families) - 0.5, -0.5), xlabel="meta-objective")
    ax.tick_params(axis="y", length=0)


@styled
def figure(tasks: Mapping[str, Performance]) -> Figure:
    """Sketch of each task, loss curves, and meta-objectives."""
    names = list(tasks)
    panels = ["task", "curves", "objective"]
    drawing, axes = arrange(
        names,
        panels,
        alone=[["task", "curves"], ["objective", "curves"]],
        height_alone=3.1,
        height_each=1.7,
        alone_options={"width_ratios": [1, 1.75], "height_ratios": [1.15, 1]},
    )
    for name, data in tasks.items():
        if data.schematic is None:
            axes[name, "task"].set_axis_off()
        else:
            draw(axes[name, "task"], data.schematic)
        draw_curves(axes[name, "curves"], data)
        draw_objective(axes[name, "objective"], data)
    keep_outer_labels(axes, names)
    for name in names[1:]:
        if _rows(axes[name, "objective"]) == _rows(axes[names[0], "objective"]):
            axes[name, "objective"].set_yticklabels([])
    legend_below(drawing, (axes[name, "curves"] for name in names), ncols=4)
    return drawing


def _rows(ax: Axes) -> list[str]:
    return [tick.get_text() for tick in ax.get_yticklabels()]


def caption(tasks: Mapping[str, Performance]) -> str:
    """What the figure shows, with the numbers behind its bands."""
    parts = []
    for name, data in tasks.items():
        summary = mean_interval(data.evaluation, "optimizer", "meta_objective").set_index("optimizer")
        learned = summary.loc[data.subject]
        seeds = [
            subject
            for subject in summary.index
            if is_learned(subject) and split_seed(subject)[0] == split_seed(data.subject)[0]
        ]
        baselines = summary[[not is_learned(subject) and subject != "polyak" for subject in summary.index]]
        best = baselines["mean"].idxmin() if len(baselines) else None
        text = (
            f"{task_title(name)}: {label(data.subject, seed=True)}, meta-objective {learned['mean']:.3g}"
            f" (95% interval {learned['low']:.3g} to {learned['high']:.3g}, {int(learned['count'])} problems)"
        )
        if best is not None:
            text += f"; best tuned baseline {label(best)}, {baselines.loc[best, 'mean']:.3g}"
        text += f"; {len(seeds)} meta-training seed{'s' if len(seeds) != 1 else ''}."
        parts.append(text)
    return (
        "Learned optimizers beside tuned baselines. (a) The task. (b) Loss over initial loss against the optimizer's"
        " step: mean over test problems (lines) and 95% interval of the mean (bands, drawn down to a tenth of the mean"
        " at most); thin lines are other meta-training seeds. (c) Meta-objective, the loss averaged over the run over"
        " the initial loss (no unit): mean and 95% interval over test problems; open points are other seeds. "
        + " ".join(parts)
    )
