"""Meta-training curves."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reopt.figures.axes import draw_panels, log_axis
from reopt.figures.palette import label, look, order, split_seed, task_title
from reopt.figures.style import styled

if TYPE_CHECKING:
    from reopt.figures.view import View

CATEGORY = "Task and training"
READS = {"learned": ("optimizers/{subject}/training.csv.gz",)}

Runs = Mapping[str, pd.DataFrame]

RUNNING = 50
"""Norms are drawn as running medians over one part in so many of the run, or many runs would hide one another."""


def draw_objective(ax: Axes, runs: Runs) -> None:
    """Meta-objective of each outer step (pale) and validation of the averaged weights (line), a line a run."""
    low = np.inf
    for subject in order(list(runs)):
        table = runs[subject]
        color = look(subject).color
        ax.plot(
            table["outer_step"],
            table["meta_objective"],
            color=color,
            linewidth=0.3,
            alpha=0.12,
            rasterized=True,
            zorder=1,
            gid=f"training {subject}",
        )
        seen = table[table["validation"].notna()]
        ax.plot(
            seen["outer_step"],
            seen["validation"],
            color=color,
            linewidth=0.8,
            alpha=0.85,
            zorder=2,
            gid=f"validation {subject}",
        )
        low = min(low, float(table[["meta_objective", "validation"]].min().min()))
    log_axis(ax, "y", labels=4)
    ax.set(xlabel="outer step", ylabel="meta-objective")
    ax.set_ylim(0.8 * low if np.isfinite(low) and low > 0 else None, None)
    ax.set_xlim(0, 1.01 * max(float(table["outer_step"].max()) for table in runs.values()))


def draw_gradient(ax: Axes, runs: Runs) -> None:
    """Norm of the meta-gradient, by run; skipped steps as marks at the top."""
    for subject in order(list(runs)):
        table = runs[subject]
        norm = table["gradient_norm"].where(np.isfinite(table["gradient_norm"]) & (table["gradient_norm"] > 0))
        middle = norm.rolling(max(1, len(norm) // RUNNING), min_periods=1, center=True).median()
        ax.plot(
            table["outer_step"],
            middle,
            color=look(subject).color,
            linewidth=0.3,
            alpha=0.5,
            rasterized=True,
            gid=f"norm {subject}",
        )
        skipped = table.loc[table["skipped"].astype(bool), "outer_step"]
        if len(skipped):
            ax.plot(
                skipped,
                np.full(len(skipped), 1.0),
                "|",
                color=look(subject).color,
                markersize=6,
                clip_on=False,
                transform=ax.get_xaxis_transform(),
                gid=f"skipped {subject}",
            )
    log_axis(ax, "y", labels=4)
    ax.set(xlabel="outer step", ylabel="norm of meta-gradient")
    ax.set_xlim(0, 1.01 * max(float(table["outer_step"].max()) for table in runs.values()))


def data(view: "View") -> Runs:
    """One task's meta-training curves by run. **Raises** `ReoptError`."""
    return {run: view.table(f"optimizers/{run}/training.csv.gz") for run in view.subjects["learned"]}


@styled
def figure(tasks: Mapping[str, Runs]) -> Figure:
    """Meta-objective and gradient norm against the outer step."""
    draw = {"objective": draw_objective, "gradient": draw_gradient}
    drawing, _ = draw_panels(tasks, draw, alone=[["objective", "gradient"]], height_alone=2.2, height_each=1.7)
    subjects = order([subject for runs in tasks.values() for subject in runs])
    families = dict.fromkeys(split_seed(subject)[0] for subject in subjects)
    # Families of different tasks may look and be called the same.
    looks = dict.fromkeys((look(family).label, look(family).color) for family in families)
    handles = [Line2D([], [], color=color, label=text) for text, color in looks]
    drawing.legend(handles=handles, loc="outside lower center", ncols=4)
    return drawing


def caption(tasks: Mapping[str, Runs]) -> str:
    """What the figure shows, with the best validation and the skipped steps of each family."""
    parts = []
    for name, runs in tasks.items():
        families: dict[str, list[pd.DataFrame]] = {}
        for subject in order(list(runs)):
            families.setdefault(split_seed(subject)[0], []).append(runs[subject])
        said = []
        for family, tables in families.items():
            best = [float(table["validation"].min()) for table in tables]
            reach = f"{min(best):.3g}" if len(best) == 1 else f"{min(best):.3g} to {max(best):.3g}"
            skipped = sum(int(table["skipped"].astype(bool).sum()) for table in tables)
            said.append(
                f"{label(family)} ({len(tables)} seed{'s' if len(tables) != 1 else ''}) best validation {reach},"
                f" {skipped} of {sum(map(len, tables))} steps skipped"
            )
        parts.append(f"{task_title(name)}: " + "; ".join(said) + ".")
    return (
        "Meta-training, a line a run, a colour a family. (a) Meta-objective (no unit) of each outer step on fresh"
        " problems (pale) and of the averaged weights on held-out problems (line). (b) Norm of the meta-gradient"
        " (running median over a fiftieth of the run); marks at the top are skipped steps. " + " ".join(parts)
    )
