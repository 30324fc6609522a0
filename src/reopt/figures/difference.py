"""Two optimizers under the same gradients: their updates side by side."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reopt.figures.axes import arrange, legend_below, log_axis, zero_lines
from reopt.figures.palette import NEGATIVE, POSITIVE
from reopt.figures.style import styled

PANELS = ("pulse", "constant", "ramp", "farthest")


class Difference(NamedTuple):
    """Updates of two optimizers, `updates` with columns panel, step, gradient, a, b; `farthest` says in words which
    sequence the panel of that name shows."""

    name_a: str
    name_b: str
    updates: pd.DataFrame
    farthest: str


def _draw(ax: Axes, data: Difference, panel: str) -> None:
    """Updates against steps, A's wide and pale beneath B's."""
    table = data.updates[data.updates["panel"] == panel]
    for column, name, color, width, dashes in (
        ("a", f"A: {data.name_a}", NEGATIVE, 2.6, "-"),
        ("b", f"B: {data.name_b}", POSITIVE, 1.0, (0, (4, 1.5))),
    ):
        ax.plot(
            table["step"],
            table[column],
            color=color,
            linewidth=width,
            linestyle=dashes,
            alpha=0.5 if column == "a" else 1.0,
            label=name,
            gid=f"{panel} {column}",
        )
    zero_lines(ax)
    ax.set(xlabel="step", ylabel="update")
    ax.locator_params(nbins=4)


def _draw_ramp(ax: Axes, data: Difference) -> None:
    """|Update| under a slowly growing gradient, against that gradient."""
    table = data.updates[data.updates["panel"] == "ramp"]
    for column, color, width, dashes in (("a", NEGATIVE, 2.6, "-"), ("b", POSITIVE, 1.0, (0, (4, 1.5)))):
        size = np.abs(table[column].to_numpy())
        seen = np.isfinite(size) & (size > 0)
        ax.plot(
            table["gradient"].to_numpy()[seen],
            size[seen],
            color=color,
            linewidth=width,
            linestyle=dashes,
            alpha=0.5 if column == "a" else 1.0,
            gid=f"ramp {column}",
        )
    log_axis(ax, "x", labels=4)
    log_axis(ax, "y", labels=4)
    ax.set(xlabel="gradient", ylabel="|update|")


@styled
def figure(data: Difference) -> Figure:
    """The answers to a pulse, to a constant gradient and to a growing one, and the sequence that tells them apart."""
    drawing, axes = arrange(["both"], PANELS, alone=[PANELS[:2], PANELS[2:]], height_alone=3.4, height_each=1.6)
    for panel in PANELS:
        if panel == "ramp":
            _draw_ramp(axes["both", panel], data)
        else:
            _draw(axes["both", panel], data, panel)
    legend_below(drawing, [axes["both", "pulse"]], ncols=2)
    return drawing


def caption(data: Difference) -> str:
    """What the figure shows."""
    return (
        f"Updates of A ({data.name_a}, wide) and B ({data.name_b}, dashed) under the same gradients: (a) one pulse at"
        " step 0, (b) a constant gradient of usual size, (c) a gradient that grows slowly over many decades, and (d)"
        f" the sequence along which they differ most: {data.farthest}."
    )
