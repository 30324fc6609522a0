"""Meta-training curves."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reopt.figures.axes import arrange, keep_outer_labels, log_axis
from reopt.figures.palette import label, look, order, split_seed, task_title
from reopt.figures.style import styled

Runs = Mapping[str, pd.DataFrame]

DASHES = ["-", (0, (4, 1.2)), (0, (1.5, 1)), (0, (4, 1, 1, 1)), (0, (6, 1, 1, 1, 1, 1))]
"""Line styles of the seeds, in turn."""

SHADES = [0.0, -0.55, 0.45, -0.3, 0.22]
"""Their shades: towards white (positive) or black (negative)."""


def _color(subject: str) -> str:
    """The family's colour, a different shade for each seed."""
    amount = SHADES[(split_seed(subject)[1] or 0) % len(SHADES)]
    target = 1.0 if amount > 0 else 0.0
    red, green, blue = (part + abs(amount) * (target - part) for part in to_rgb(look(subject).color))
    return to_hex((red, green, blue))


def _dashes(subject: str) -> Any:
    return DASHES[(split_seed(subject)[1] or 0) % len(DASHES)]


def draw_objective(ax: Axes, runs: Runs) -> None:
    """Meta-objective of each outer step (pale) and validation of the averaged weights (line), by run."""
    low = np.inf
    for subject in order(list(runs)):
        table = runs[subject]
        color = _color(subject)
        ax.plot(
            table["outer_step"],
            table["meta_objective"],
            color=color,
            linewidth=0.4,
            alpha=0.3,
            zorder=1,
            gid=f"training {subject}",
        )
        seen = table[table["validation"].notna()]
        ax.plot(
            seen["outer_step"],
            seen["validation"],
            color=color,
            linestyle=_dashes(subject),
            linewidth=1.2,
            zorder=2,
            marker="o" if len(seen) <= 30 else None,
            markersize=2.2,
            gid=f"validation {subject}",
        )
        low = min(low, float(table[["meta_objective", "validation"]].min().min()))
    log_axis(ax, "y")
    ax.set(xlabel="outer step", ylabel="meta-objective")
    ax.set_ylim(0.8 * low if np.isfinite(low) and low > 0 else None, None)
    ax.set_xlim(0, 1.01 * max(float(table["outer_step"].max()) for table in runs.values()))


def draw_gradient(ax: Axes, runs: Runs) -> None:
    """Norm of the meta-gradient, by run; skipped steps as marks at the top."""
    for subject in order(list(runs)):
        table = runs[subject]
        norm = table["gradient_norm"].where(np.isfinite(table["gradient_norm"]) & (table["gradient_norm"] > 0))
        ax.plot(table["outer_step"], norm, color=_color(subject), linewidth=0.5, alpha=0.6, gid=f"norm {subject}")
        skipped = table.loc[table["skipped"].astype(bool), "outer_step"]
        if len(skipped):
            ax.plot(
                skipped,
                np.full(len(skipped), 1.0),
                "|",
                color=_color(subject),
                markersize=6,
                clip_on=False,
                transform=ax.get_xaxis_transform(),
                gid=f"skipped {subject}",
            )
    log_axis(ax, "y")
    ax.set(xlabel="outer step", ylabel="norm of meta-gradient")
    ax.set_xlim(0, 1.01 * max(float(table["outer_step"].max()) for table in runs.values()))


@styled
def figure(tasks: Mapping[str, Runs]) -> Figure:
    """Meta-objective and gradient norm against the outer step."""
    names = list(tasks)
    drawing, axes = arrange(
        names, ["objective", "gradient"], alone=[["objective", "gradient"]], height_alone=2.2, height_each=1.7
    )
    for name, runs in tasks.items():
        draw_objective(axes[name, "objective"], runs)
        draw_gradient(axes[name, "gradient"], runs)
    keep_outer_labels(axes, names)
    subjects = order([subject for runs in tasks.values() for subject in runs])
    handles = [
        Line2D([], [], color=_color(subject), linestyle=_dashes(subject), label=label(subject, seed=True))
        for subject in subjects
    ]
    drawing.legend(handles=handles, loc="outside lower center", ncols=4)
    return drawing


def caption(tasks: Mapping[str, Runs]) -> str:
    """What the figure shows, with the best validation and the skipped steps of each run."""
    parts = []
    for name, runs in tasks.items():
        said = []
        for subject in order(list(runs)):
            table = runs[subject]
            skipped = int(table["skipped"].astype(bool).sum())
            said.append(
                f"{label(subject, seed=True)} best validation {table['validation'].min():.3g},"
                f" {skipped} of {len(table)} steps skipped"
            )
        parts.append(f"{task_title(name)}: " + "; ".join(said) + ".")
    return (
        "Meta-training. (a) Meta-objective (no unit) of each outer step on fresh problems (pale) and of the averaged"
        " weights on held-out problems (line). (b) Norm of the meta-gradient; marks at the top are skipped steps. "
        + " ".join(parts)
    )
