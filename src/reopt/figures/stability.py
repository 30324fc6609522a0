"""On which curvatures each trained network goes to rest, foretold from its linearization and run."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reopt.figures.axes import arrange, keep_outer_labels, log_axis
from reopt.figures.palette import look, order, split_seed, task_title
from reopt.figures.style import styled

if TYPE_CHECKING:
    from reopt.figures.view import View

CATEGORY = "Mechanisms"
READS = {"examined": ("analysis/{subject}/foretold.csv",)}

EDGE = "largest stable curvature"
ROW = 0.2
"""Height of a row, in inches."""


class Edges(NamedTuple):
    """`table`: subject, edge (NaN: none), agrees (the runs beside it are as foretold); the task's curvatures."""

    table: pd.DataFrame
    curvatures: tuple[float, float] | None


def edge_of(told: pd.DataFrame) -> tuple[float, bool]:
    """The largest stable curvature of a foretold.csv, and whether the runs on either side are as foretold."""
    rows = told[told["what"] == EDGE]
    if rows.empty:
        return np.nan, False
    return float(rows["foretold"].iloc[0]), bool((rows["agrees"].astype(str) == "True").all())


def draw_edges(ax: Axes, data: Edges, families: list[str]) -> None:
    """A row a family, a point a run: full where both runs are as foretold."""
    for row in data.table.dropna(subset=["edge"]).itertuples():
        family = split_seed(str(row.subject))[0]
        drawn = look(family)
        ax.plot(
            [float(row.edge)],
            [families.index(family)],
            drawn.marker,
            markersize=4,
            markerfacecolor=drawn.color if row.agrees else "none",
            markeredgecolor=drawn.color,
            markeredgewidth=0.8,
            gid=f"edge {row.subject}",
        )
    if data.curvatures:
        ax.axvspan(*data.curvatures, color="#009E73", alpha=0.12, linewidth=0, gid="curvatures")
    log_axis(ax, "x", labels=4)
    ax.set_yticks(range(len(families)), [look(family).label for family in families])
    ax.set(ylim=(len(families) - 0.5, -0.5), xlabel="curvature")
    ax.tick_params(axis="y", length=0)


def data(view: "View") -> Edges:
    """The edges of all examined subjects of one task. **Raises** `ReoptError`."""
    subjects = view.subjects["examined"]
    rows = [(subject, *edge_of(view.table(f"analysis/{subject}/foretold.csv"))) for subject in subjects]
    eigenvalues = view.block["problem"].get("log10_eigenvalues")
    curvatures = (10.0 ** eigenvalues[0], 10.0 ** eigenvalues[1]) if eigenvalues else None
    return Edges(pd.DataFrame(rows, columns=["subject", "edge", "agrees"]), curvatures)


@styled
def figure(tasks: Mapping[str, Edges]) -> Figure:
    """A column a task, a row a family."""
    names = list(tasks)
    subjects = order([subject for data in tasks.values() for subject in data.table["subject"]])
    families = list(dict.fromkeys(split_seed(subject)[0] for subject in subjects))
    height = 0.7 + ROW * len(families)
    drawing, axes = arrange(names, ["edge"], alone=[["edge"]], height_alone=height, height_each=height)
    for name, data in tasks.items():
        draw_edges(axes[name, "edge"], data, families)
        if name != names[0]:
            axes[name, "edge"].set_yticklabels([])
    keep_outer_labels(axes, names)
    return drawing


def caption(tasks: Mapping[str, Edges]) -> str:
    """What the figure shows, and how often a run is as foretold."""
    said = []
    for name, data in tasks.items():
        known = data.table.dropna(subset=["edge"])
        text = (
            f"{task_title(name)}: {len(known)} of {len(data.table)} have such a curvature, {int(known['agrees'].sum())}"
            " of these as foretold"
        )
        if data.curvatures and len(known):
            within = int((known["edge"] < data.curvatures[1]).sum())
            text += f"; for {within} it is below the largest curvature of the task ({data.curvatures[1]:.3g})"
        said.append(text + ".")
    return (
        "The largest curvature on which each optimizer goes to rest, foretold from its linearization where it rests"
        " (largest eigenvalue of the loop of optimizer and curvature), a point a run. Full: of two runs of the"
        " optimizer itself, on 0.98 and 1.02 of that curvature, the first settles and the second does not; open: one of"
        " them does otherwise. Shaded: the curvatures of the task. " + " ".join(said)
    )
