"""Meta-objective against the number of numbers: rules, networks, baselines, and the optimizer that was distilled."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reopt.figures.axes import arrange, legend_below, log_axis
from reopt.figures.palette import label, look
from reopt.figures.style import styled

RULES, NETWORKS, SUBJECT, LINEAR = "#0072B2", "#D55E00", "#000000", "#009E73"


class Distilled(NamedTuple):
    """`table` as `reopt.distillation.run.Distillation.table` has it; `chosen` is the rule that is written out."""

    subject: str
    task: str
    table: pd.DataFrame
    chosen: str


def draw_ladder(ax: Axes, data: Distilled) -> None:
    """Means with their 95% intervals; baselines, the best linear method and the subject as lines across."""
    for kind, color, name in (("rule", RULES, "rules"), ("network", NETWORKS, "GRUs")):
        rows = data.table[data.table["kind"] == kind].sort_values("numbers")
        if len(rows):
            error = np.stack([rows["mean"] - rows["low"], rows["high"] - rows["mean"]])
            ax.errorbar(
                rows["numbers"], rows["mean"], error, fmt=".-", color=color, linewidth=1.1, label=name, gid=kind
            )
    chosen = data.table[data.table["name"] == data.chosen]
    ax.plot(chosen["numbers"], chosen["mean"], "o", markersize=8, fillstyle="none", color=RULES, gid="chosen")
    lines = data.table[data.table["kind"].isin(["subject", "baseline", "theory"])]
    for row in lines.itertuples():
        kind = str(row.kind)
        color = {"subject": SUBJECT, "theory": LINEAR}.get(kind, look(str(row.name)).color)
        words = {"subject": "distilled optimizer", "theory": "best linear method"}.get(kind, label(str(row.name)))
        style = {"subject": "-", "theory": (0, (4, 2))}.get(kind, (0, (1, 1.5)))
        ax.axhline(float(row.mean), color=color, linestyle=style, linewidth=1.0, label=words, gid=f"line {row.name}")
    log_axis(ax, "x", "y", labels=4)
    ax.set(xlabel="numbers", ylabel="meta-objective")


@styled
def figure(data: Distilled) -> Figure:
    """The ladder."""
    drawing, axes = arrange(["all"], ["ladder"], alone=[["ladder"]], height_alone=3.0, height_each=2.0)
    draw_ladder(axes["all", "ladder"], data)
    legend_below(drawing, [axes["all", "ladder"]], ncols=4)
    return drawing


def caption(data: Distilled) -> str:
    """What the figure shows, with what the rule that is written out keeps."""
    rows = data.table.set_index("name")
    row = rows.loc[data.chosen]
    share = (
        f", which keeps {row['share']:.0%} (95% interval {row['share_low']:.0%} to {row['share_high']:.0%}) of the gain"
        " over the best tuned baseline"
        if np.isfinite(row["share"])
        else ""
    )
    return (
        f"{data.subject} distilled on {data.task}: mean meta-objective on held-out problems, with its 95% interval,"
        " against the number of trained numbers, of rules (each trained on from one with more) and of GRUs. Lines: the"
        " optimizer itself, tuned baselines and, on quadratics, the best linear method. The ring is the"
        f" rule that is written out, of {int(row['numbers'])} numbers{share}."
    )
