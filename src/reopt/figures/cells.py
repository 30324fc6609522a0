"""The mechanisms by cell and meta-training recipe, a number each, seeds side by side."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reopt.figures.axes import arrange, keep_outer_labels, log_axis
from reopt.figures.palette import look, order, split_seed, task_title
from reopt.figures.style import styled
from reopt.mechanisms.summary import summary

if TYPE_CHECKING:
    from reopt.figures.view import View

CATEGORY = "Mechanisms"
READS = {"learned": ("modes", "clipping", "density", "schedule", "adaptation")}


class Quantity(NamedTuple):
    """How a quantity of `reopt.mechanisms.summary` is drawn; `reference` is the value where there is nothing of it."""

    name: str
    words: str
    reference: float | None
    logarithmic: bool


QUANTITIES = {
    "momentum": Quantity("|β|", "size of the eigenvalue of the mode of largest gain", 1.0, False),
    "threshold": Quantity(
        "threshold", "clipping threshold at the initial state in 99% quantiles of the gradients met", 1.0, True
    ),
    "rise": Quantity("peak / initial", "effective learning rate without gradients, peak over initial", 1.0, True),
    "exponent": Quantity(
        "exponent", "log-log slope of the effective learning rate against a constant gradient", 0.0, False
    ),
}


def _families(table: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(split_seed(subject)[0] for subject in order(list(table["subject"]))))


def draw_quantity(ax: Axes, table: pd.DataFrame, name: str) -> None:
    """A point a seed above its family, a bar at the family's median; crosses at the top have no such number."""
    quantity = QUANTITIES[name]
    families = _families(table)
    rows = table[table["quantity"] == name]
    for place, family in enumerate(families):
        part = rows[rows["subject"].map(lambda subject: split_seed(subject)[0]) == family]
        values = part["value"].to_numpy(dtype=float)
        known = np.isfinite(values) & ((values > 0) | (not quantity.logarithmic))
        color = look(family).color
        spread = place + np.linspace(-0.22, 0.22, len(values)) * (len(values) > 1)
        ax.plot(
            spread[known],
            values[known],
            "o",
            markersize=3,
            markerfacecolor="none",
            markeredgecolor=color,
            markeredgewidth=0.7,
            gid=f"{name} {family}",
        )
        if known.any():
            middle = float(np.median(values[known]))
            ax.plot([place - 0.33, place + 0.33], [middle, middle], color=color, linewidth=1.4, gid=f"median {name}")
        ax.plot(
            spread[~known],
            np.full((~known).sum(), 0.97),
            "x",
            color="#6E6E6E",
            markersize=3,
            markeredgewidth=0.7,
            transform=ax.get_xaxis_transform(),
            gid=f"missing {name} {family}",
        )
    if quantity.logarithmic:
        log_axis(ax, "y", labels=4)
    if quantity.reference is not None:
        ax.axhline(quantity.reference, color="#808080", linewidth=0.6, linestyle=(0, (1, 1.5)), zorder=0)
    low, high = ax.get_ylim()
    room = (high / low) ** 0.12 if quantity.logarithmic else 0.12 * (high - low)
    ax.set_ylim(low, high * room if quantity.logarithmic else high + room)
    ax.set(xlim=(-0.6, len(families) - 0.4), ylabel=quantity.name)
    ax.set_xticks(range(len(families)), [look(family).label for family in families], rotation=90)
    ax.tick_params(axis="x", length=0)


def data(view: "View") -> pd.DataFrame:
    """The mechanisms of each run of one task in numbers. **Raises** `ReoptError`."""
    tables = [summary(view.examination(run)).assign(subject=run) for run in view.subjects["learned"]]
    return pd.concat(tables, ignore_index=True)


@styled
def figure(tasks: Mapping[str, pd.DataFrame]) -> Figure:
    """A row a quantity, a column a task; tables have a row a subject and quantity: subject, quantity, value."""
    names = list(tasks)
    panels = list(QUANTITIES)
    drawing, axes = arrange(
        names,
        panels,
        alone=[panels[:2], panels[2:]],
        height_alone=3.4,
        height_each=[1.15, 1.15, 1.15, 1.85],
    )
    for task, table in tasks.items():
        for panel in panels:
            draw_quantity(axes[task, panel], table, panel)
            if panel != panels[-1] and len(names) > 1:
                axes[task, panel].set_xticklabels([])
    for panel in panels:  # pure numbers: one scale for all tasks
        limits = np.array([axes[task, panel].get_ylim() for task in names])
        for task in names:
            axes[task, panel].set_ylim(limits[:, 0].min(), limits[:, 1].max())
            axes[task, panel].tick_params(axis="y", which="both", labelleft=task == names[0])
    keep_outer_labels(axes, names)
    return drawing


def caption(tasks: Mapping[str, pd.DataFrame]) -> str:
    """What the figure shows, with the number of seeds of each family."""
    words = " ".join(
        f"({letter}) {quantity.words[0].upper()}{quantity.words[1:]}."
        for letter, quantity in zip("abcd", QUANTITIES.values(), strict=True)
    )
    parts = []
    for task, table in tasks.items():
        subjects = list(table["subject"].unique())
        counts = ", ".join(
            f"{look(family).label} {sum(split_seed(subject)[0] == family for subject in subjects)}"
            for family in _families(table)
        )
        parts.append(f"{task_title(task)}: {counts}.")
    return (
        f"Mechanisms by cell and recipe, a point a meta-training seed, bars at the medians. {words} Dotted: where the"
        " mechanism does nothing, or where the threshold is that quantile; crosses at the top: seeds without such a"
        " number (no threshold in range, no slope that is determined). Seeds a cell: " + " ".join(parts)
    )
