"""Condition numbers of the problems of a task."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reopt.figures.axes import arrange, keep_outer_labels, log_axis
from reopt.figures.palette import task_title
from reopt.figures.style import styled

if TYPE_CHECKING:
    from reopt.figures.view import View

CATEGORY = "Task and training"
READS = {"task": ("conditions.csv",)}

QUANTILES = (0.1, 0.5, 0.9)
BINS = 30
NARROWEST = 4.0
"""Axes of a smaller reach (high over low) are widened, or no two ticks of theirs could be told apart."""


def _values(table: pd.DataFrame) -> tuple[np.ndarray, str]:
    """What is drawn of a task and its name: of problems none of which is convex at the start, largest eigenvalues."""
    finite = table["condition_number"].to_numpy(dtype=float)
    finite = finite[np.isfinite(finite)]
    if finite.size or "largest_eigenvalue" not in table:
        return finite, "condition number"
    largest = table["largest_eigenvalue"].to_numpy(dtype=float)
    return largest[np.isfinite(largest) & (largest > 0)], "largest eigenvalue"


def draw_conditions(ax: Axes, table: pd.DataFrame) -> None:
    """Histogram on a logarithmic axis, with marks at the 10, 50 and 90% quantiles."""
    values, name = _values(table)
    ax.set(xlabel=name, ylabel="problems")
    if not values.size:
        log_axis(ax, "x")
        return
    edges = np.geomspace(values.min(), max(values.max(), values.min() * 1.01), min(BINS, max(values.size, 5)) + 1)
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
    log_axis(ax, "x", labels=4)
    low, high = ax.get_xlim()
    if high < NARROWEST * low:
        ax.set_xlim(low / np.sqrt(NARROWEST), high * np.sqrt(NARROWEST))


def data(view: "View") -> pd.DataFrame:
    """The condition numbers of one task's problems. **Raises** `ReoptError`."""
    return view.table("conditions.csv")


@styled
def figure(tasks: Mapping[str, pd.DataFrame]) -> Figure:
    """A histogram a task."""
    names = list(tasks)
    drawing, axes = arrange(names, ["conditions"], alone=[["conditions"]], height_alone=2.0, height_each=1.8)
    for name, table in tasks.items():
        draw_conditions(axes[name, "conditions"], table)
    keep_outer_labels(axes, names)
    return drawing


def caption(tasks: Mapping[str, pd.DataFrame]) -> str:
    """What the figure shows, with the quantiles in numbers and the share of problems that are not convex."""
    parts = []
    for name, table in tasks.items():
        values, drawn = _values(table)
        finite = np.isfinite(table["condition_number"].to_numpy(dtype=float))
        text = f"{task_title(name)}: {len(table)} problems"
        if values.size:
            low, median, high = np.quantile(values, QUANTILES)
            text += f", {drawn} 10% {low:.3g}, median {median:.3g}, 90% {high:.3g}"
        if not finite.all():
            share = 100 * (1 - finite.mean())
            text += f"; {share:.3g}% of them are not convex at the start and have no condition number"
        parts.append(text + ".")
    return (
        "Condition numbers (largest over smallest eigenvalue of the Hessian at the start, no unit) of problems the"
        " optimizers are evaluated on; where no problem of a task is convex there, the largest eigenvalues instead."
        " Lines mark the 10%, 50% and 90% quantiles. " + " ".join(parts)
    )
