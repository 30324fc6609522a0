"""Beyond the training distribution: longer runs, rescaled losses, other condition numbers, other tasks."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reopt.core.limits import CEILING
from reopt.figures.axes import arrange, keep_outer_labels, legend_below, log_axis
from reopt.figures.palette import label, look, order, task_title
from reopt.figures.style import styled

if TYPE_CHECKING:
    from reopt.figures.view import View

CATEGORY = "Generalisation"
READS = {
    "away": (
        "beyond/{subject}/beyond.csv",
        "beyond/{subject}/horizon.csv",
        "beyond/{subject}/{other}/transfer.csv",
    ),
    "shown": ("beyond/{subject}/first_to_break.csv",),
}

NAMES = {"scale": "loss times", "condition": "decades of eigenvalues"}
MARKS = {"clipping": "o", "adaptation": "s", "states": "D", "momentum": "^", "none of these": "v"}
"""Open marks of the mechanisms that break first."""
APART = 0.22  # rows of a task, between optimizers


class Beyond(NamedTuple):
    """The learned optimizer of a task, `subject`, and baselines, away from home."""

    subject: str
    table: pd.DataFrame  # subject, axis, value, meta_objective, low, high, diverged, final, problems, worse; of all
    horizon: pd.DataFrame  # subject, step, mean, low, high, median; of all
    first: pd.DataFrame  # axis, direction, value, mechanism, diagnostic, limit, meta_objective, final; of `subject`
    num_steps: int
    decades: float | None = None  # of eigenvalues at home, where the task has them


def draw_horizon(ax: Axes, data: Beyond) -> None:
    """Mean loss over initial loss against the step, in training horizons, with its 95% band."""
    floor = np.inf
    for subject in order(list(data.horizon["subject"])):
        curve = data.horizon[data.horizon["subject"] == subject].sort_values("step")
        drawn, x = look(subject), (curve["step"] + 1) / data.num_steps
        ax.plot(
            x,
            curve["mean"],
            color=drawn.color,
            linestyle=drawn.dashes,
            linewidth=1.6 if subject == data.subject else 1.1,
            zorder=3 if subject == data.subject else 2,
            label=label(subject),
            gid=f"horizon {subject}",
        )
        low = np.maximum(curve["low"], 0.1 * curve["mean"])
        ax.fill_between(x, low, curve["high"], color=drawn.color, alpha=0.18, linewidth=0)
        positive = curve["mean"][curve["mean"] > 0]
        floor = min(floor, float(positive.min())) if len(positive) else floor
    ax.axvline(1, color="#808080", linewidth=0.6, linestyle=(0, (2, 2)), zorder=0, gid="home horizon")
    log_axis(ax, "x", "y", labels=4)
    last = (float(data.horizon["step"].max()) + 1) / data.num_steps
    ax.set(xlim=(last / 1000, last), ylim=(floor / 2 if np.isfinite(floor) else None, 1.5 * CEILING))
    ax.set(xlabel="training horizons", ylabel="loss / initial loss")


def draw_axis(ax: Axes, data: Beyond, axis: str) -> None:
    """Mean meta-objective against the value of an axis; open marks where the learned optimizer first gets worse."""
    table = _values(data, axis)
    for subject in order(list(table["subject"])):
        rows, drawn = table[table["subject"] == subject].sort_values("value"), look(subject)
        ax.plot(
            rows["value"],
            rows["meta_objective"],
            drawn.marker,
            color=drawn.color,
            linestyle=drawn.dashes,
            linewidth=1.6 if subject == data.subject else 1.1,
            markersize=3,
            zorder=3 if subject == data.subject else 2,
            label=label(subject),
            gid=f"{axis} {subject}",
        )
        low = np.maximum(rows["low"], 0.1 * rows["meta_objective"])
        ax.fill_between(rows["value"], low, rows["high"], color=drawn.color, alpha=0.18, linewidth=0)
    for row in data.first[data.first["axis"] == axis].itertuples():
        ax.plot(
            [float(row.value)],
            [float(row.meta_objective)],
            MARKS[str(row.mechanism)],
            markersize=8,
            markerfacecolor="none",
            markeredgecolor="black",
            markeredgewidth=0.8,
            linestyle="none",
            zorder=4,
            label=f"first: {row.mechanism}",
            gid=f"first {axis}",
        )
    ax.axhline(1, color="#808080", linewidth=0.5, zorder=0, gid="standing still")
    home = 1.0 if axis == "scale" else data.decades
    if home is not None:
        ax.axvline(home, color="#808080", linewidth=0.6, linestyle=(0, (2, 2)), zorder=0, gid=f"home {axis}")
    log_axis(ax, *(("x", "y") if axis == "scale" else ("y",)), labels=4)
    if axis == "condition":
        ax.set_xticks(np.unique(table["value"].round()))
    ax.set(xlabel=NAMES[axis], ylabel="meta-objective", ylim=(None, 1.5 * max(1.0, float(table["high"].max()))))


def draw_transfer(ax: Axes, data: Beyond, tasks: Mapping[str, Beyond]) -> None:
    """Mean meta-objective on each task, and, as a bar across the row, that of the task's own learned optimizer."""
    table, names = data.table[data.table["axis"] == "task"], list(tasks)
    subjects = order(list(table["subject"]))
    for row, name in enumerate(names):
        own = tasks[name].table
        own = own[(own["axis"] == "task") & (own["value"] == name) & (own["subject"] == tasks[name].subject)]
        ax.plot(
            [float(own["meta_objective"].iloc[0])] * 2,
            [row - 0.42, row + 0.42],
            color="black",
            linewidth=1.0,
            zorder=1,
            gid=f"own {name}",
            label="the task's own learned optimizer" if row == 0 else "_",
        )
    for number, subject in enumerate(subjects):
        rows, drawn = table[table["subject"] == subject].set_index("value"), look(subject)
        here = [name for name in names if name in rows.index]
        at = [names.index(name) + APART * (number - (len(subjects) - 1) / 2) for name in here]
        chosen = rows.loc[here]
        low = np.maximum(chosen["low"], 0.1 * chosen["meta_objective"])
        ax.hlines(at, low, chosen["high"], color=drawn.color, linewidth=1.0)
        ax.plot(
            chosen["meta_objective"], at, drawn.marker, color=drawn.color, markersize=3.5, gid=f"transfer {subject}"
        )
    ax.axvline(1, color="#808080", linewidth=0.5, zorder=0, gid="standing still")
    log_axis(ax, "x", labels=4)
    ax.set_yticks(range(len(names)), [task_title(name) for name in names])
    ax.set(ylim=(len(names) - 0.5, -0.5), xlabel="meta-objective", xlim=(None, 1.5 * CEILING))
    ax.tick_params(axis="y", length=0)


def _values(data: Beyond, axis: str) -> pd.DataFrame:
    """The rows of an axis whose values are numbers, read from a file with names among them."""
    rows = data.table[data.table["axis"] == axis]
    return rows.assign(value=rows["value"].astype(float))


def data(view: "View") -> Beyond:
    """The shown run of one task and baselines, away from home. **Raises** `ReoptError`."""
    tables, horizons = [], []
    for subject in view.subjects["away"]:
        own = view.table(f"beyond/{subject}/beyond.csv")
        at_home = own[(own["axis"] == "horizon") & (own["value"] == 1)].assign(axis="task", value=view.task)
        others = [view.table(f"beyond/{subject}/{other}/transfer.csv") for other in view.others]
        tables += [own, at_home, *others]
        horizons.append(view.table(f"beyond/{subject}/horizon.csv"))
    first = view.table(f"beyond/{view.shown}/first_to_break.csv")
    eigenvalues = view.block["problem"].get("log10_eigenvalues")
    decades = float(eigenvalues[1] - eigenvalues[0]) if eigenvalues else None
    return Beyond(view.shown, pd.concat(tables), pd.concat(horizons), first, view.block["num_steps"], decades)


@styled
def figure(tasks: Mapping[str, Beyond]) -> Figure:
    """A row an axis; a column a task."""
    names = list(tasks)
    several = len(names) > 1
    conditioned = [name for name in names if not _values(tasks[name], "condition").empty]
    panels = ["horizon", "scale", *(["condition"] if conditioned else []), *(["transfer"] if several else [])]
    drawing, axes = arrange(names, panels, alone=[panels], height_alone=2.3, height_each=1.5)
    for name, data in tasks.items():
        draw_horizon(axes[name, "horizon"], data)
        draw_axis(axes[name, "scale"], data, "scale")
        if name in conditioned:
            draw_axis(axes[name, "condition"], data, "condition")
        elif conditioned:
            axes[name, "condition"].set_axis_off()
        if several:
            draw_transfer(axes[name, "transfer"], data, tasks)
            if name != names[0]:
                axes[name, "transfer"].set_yticklabels([])
    keep_outer_labels(axes, names)
    legend_below(drawing, axes.values(), ncols=4)
    return drawing


def caption(tasks: Mapping[str, Beyond]) -> str:
    """What the figure shows, with what breaks first in numbers."""
    letters = iter("abcd")
    text = (
        "Beyond the training distribution: the learned optimizer and tuned baselines on what they were not trained or"
        " tuned on."
        f" ({next(letters)}) Mean loss over initial loss to ten times the steps of training (dashes: its horizon)."
        f" ({next(letters)}) Meta-objective (no unit) with the loss, and so every gradient, multiplied by a number."
    )
    if any(not _values(data, "condition").empty for data in tasks.values()):
        text += f" ({next(letters)}) Meta-objective against the decades over which Hessian eigenvalues spread."
    if len(tasks) > 1:
        text += (
            f" ({next(letters)}) Meta-objective of the column's optimizers on every task of the rows; the bar is the"
            " row's own learned optimizer."
        )
    text += (
        " Bands and bars are 95% intervals over problems; a diverged problem counts as"
        f" {CEILING:g}; grey lines: standing still. Open marks: the mildest change at which the learned optimizer is"
        " worse than in distribution by 10% (along the horizon by its final loss). The mechanism that a mark names is,"
        " of those over their limit there, the farthest above it: the share of gradients beyond the half-slope gradient"
        " (clipping), of gradients below those among which adaptation was seen (adaptation), of states outside the"
        " range of those in distribution (states), or of final states with a spectral radius over 1 (momentum); each"
        " limit is the share in distribution plus 0.1."
    )
    return " ".join([text, *(_numbers(name, data) for name, data in tasks.items())])


def _numbers(name: str, data: Beyond) -> str:
    own = data.table[data.table["subject"] == data.subject]
    horizon = own[own["axis"] == "horizon"].assign(value=lambda rows: rows["value"].astype(float)).sort_values("value")
    home, last = horizon.iloc[0], horizon.iloc[-1]
    said = [
        f"{task_title(name)}: {label(data.subject, seed=True)}, {int(home['problems'])} problems, meta-objective"
        f" {home['meta_objective']:.3g} in distribution; final loss over initial loss {home['final']:.3g} at the end of"
        f" the horizon and {last['final']:.3g} at {last['value']:g} times it"
    ]
    for row in data.first.itertuples():
        where = {"horizon": "horizon times", "scale": "loss times"}.get(str(row.axis), "decades of eigenvalues")
        shares = f", {row.diagnostic:.2g} over a limit of {row.limit:.2g}" if np.isfinite(row.diagnostic) else ""
        said.append(f"first worse at {where} {row.value:g} ({row.mechanism}{shares})")
    if data.first.empty:
        said.append("no change makes it worse by 10%")
    return "; ".join(said) + "."
