"""What the mechanisms found leave unexplained: true updates along a run, and those written out of the mechanisms."""

from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from reopt.figures.axes import arrange, zero_lines
from reopt.figures.palette import NEGATIVE, POSITIVE
from reopt.figures.style import styled


class Remainder(NamedTuple):
    """One parameter of one run, `updates` with columns step, true, explained; `r2` over all recorded runs."""

    subject: str
    updates: pd.DataFrame
    r2: float


@styled
def figure(data: Remainder) -> Figure:
    """Both updates against steps, the true ones wide and pale."""
    drawing, axes = arrange(["run"], ["updates"], alone=[["updates"]], height_alone=1.9, height_each=1.9)
    ax = axes["run", "updates"]
    steps = data.updates["step"]
    ax.plot(steps, data.updates["true"], color=NEGATIVE, linewidth=2.6, alpha=0.5, label=data.subject, gid="true")
    ax.plot(
        steps,
        data.updates["explained"],
        color=POSITIVE,
        linewidth=1.0,
        linestyle=(0, (4, 1.5)),
        label="by the mechanisms found",
        gid="explained",
    )
    zero_lines(ax)
    ax.set(xlabel="step", ylabel="update", xlim=(0, float(steps.max())))
    ax.legend(loc="best")
    return drawing


def caption(data: Remainder) -> str:
    """What the figure shows."""
    return (
        f"Updates of one parameter along a run of {data.subject}, and what the mechanisms found in it say they should"
        f" be from the same gradients; over all recorded runs R² = {data.r2:.3g}."
    )
