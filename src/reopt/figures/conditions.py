"""Condition numbers of the problems of a task."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reopt.figures.axes import arrange, keep_outer_labels, log_axis
from reopt.figures.palette import task_title
from reopt.figures.style import styled

QUANTILES = (0.1, 0.5, 0.9)
BINS = 30


def draw_conditions(ax: Axes, table: pd.DataFrame) -> None:
    """Histogram on a logarithmic axis, with marks at the 10, 50 and 90% quantiles."""
    values = table["condition_number"].to_numpy(dtype=float)
    values = values[np.isfinite(values)]
    edges = np.geomspace(values.min(), max(values.max(), values.min() * 1.01), BINS + 1)
    # The ends of geomspace may round past the extremes, which would then be missing from the counts.
    edges[0], edges[-1] = min(edges[0], values.min()), max(edges[-1], values.max())
    counts, _ = np.histogram(values, edges)
    ax.stairs(counts, edges, fill=True, color="#0072B2", alpha=0.65, gid="histogram")
    for share, value in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True):
        ax.axvline(
            value,
            color="black",
            linewidth=1.0 if share == 0.5 else 0.7,
            gid=f"quantile {share}",
            linestyle="-" if share == 0.5 else (0, (3, 2)),
        )
        ax.annotate(
            f"{value:.3g}",
            (value, 1),
            (2, 0),
            xycoords=("data", "axes fraction"),
            va="bottom",
            ha="center",
            textcoords="offset points",
            fontsize=7,
        )
    log_axis(ax, "x")
    ax.set(xlabel="condition number", ylabel="problems")


@styled
def figure(tasks: Mapping[str, pd.DataFrame]) -> Figure:
    """A histogram a task."""
    names = list(tasks)
    drawing, axes = arrange(names, ["conditions"], alone=[["conditions"]], height_alone=2.0, height_each=1.8)
    for name, table in tasks.items():
        draw_conditions(axes[name, "conditions"], table)
        if len(names) > 1:
            axes[name, "conditions"].set_title(task_title(name), fontweight="bold", pad=12)
    keep_outer_labels(axes, names)
    return drawing


def caption(tasks: Mapping[str, pd.DataFrame]) -> str:
    """What the figure shows, with the quantiles in numbers."""
    parts = []
    for name, table in tasks.items():
        values = table["condition_number"].to_numpy(dtype=float)
        finite = values[np.isfinite(values)]
        low, median, high = np.quantile(finite, QUANTILES)
        text = f"{task_title(name)}: {len(values)} problems, 10% {low:.3g}, median {median:.3g}, 90% {high:.3g}"
        if len(finite) < len(values):
            text += f"; {len(values) - len(finite)} without a finite condition number are not drawn"
        parts.append(text + ".")
    return (
        "Condition numbers (largest over smallest eigenvalue of the Hessian, no unit) of the problems the optimizers"
        " are evaluated on; lines mark the 10%, 50% and 90% quantiles. " + " ".join(parts)
    )
