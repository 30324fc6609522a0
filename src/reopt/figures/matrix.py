"""What an optimizer of matrices does to singular values, and how long a gradient is remembered behind that."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reopt.figures.axes import arrange, legend_below, log_axis, zero_lines
from reopt.figures.style import styled

PANELS = ("map", "impulse")
COLORS = ("#0072B2", "#D55E00", "#009E73")


class Matrix(NamedTuple):
    """`spectral`: scale, singular_in, singular_out; `response`: share of the answer to a pulse at each lag, empty where
    it cannot be read."""

    subject: str
    spectral: pd.DataFrame
    response: np.ndarray


def draw_map(ax: Axes, data: Matrix) -> None:
    """Singular values of the first update against those of the gradient, a line a scale of the gradient."""
    for color, (scale, rows) in zip(COLORS, data.spectral.groupby("scale"), strict=False):
        ax.plot(
            rows["singular_in"],
            rows["singular_out"],
            ".-",
            color=color,
            linewidth=1.2,
            label=f"gradient of norm × {scale:g}",
            gid=f"map {scale:g}",
        )
    log_axis(ax, "x", labels=4)
    if (data.spectral["singular_out"] > 0).all():
        log_axis(ax, "y", labels=4)
    ax.set(xlabel="singular value in", ylabel="out")


def draw_impulse(ax: Axes, data: Matrix) -> None:
    """Share of the answer to a small pulse beside a constant gradient, against the lag."""
    if data.response.size:
        ax.plot(np.arange(len(data.response)), data.response, ".-", color="#0072B2", linewidth=1.0, gid="impulse")
    zero_lines(ax)
    ax.set(xlabel="lag", ylabel="share of the answer", xlim=(-0.5, max(len(data.response), 2)))


@styled
def figure(data: Matrix) -> Figure:
    """The spectral map beside the impulse response."""
    drawing, axes = arrange(["all"], PANELS, alone=[PANELS], height_alone=2.3, height_each=1.6)
    for panel, draw in zip(PANELS, (draw_map, draw_impulse), strict=True):
        draw(axes["all", panel], data)
    legend_below(drawing, [axes["all", "map"]], ncols=3)
    return drawing


def caption(data: Matrix) -> str:
    """What the figure shows."""
    one = data.spectral[data.spectral["scale"] == 1.0]
    low, high = one["singular_out"].min(), one["singular_out"].max()
    impulse = (
        "Share of its answer to a small pulse that comes at each lag, beside a strong constant gradient."
        if data.response.size
        else "Empty: the answer to a small pulse could not be read."
    )
    return (
        f"{data.subject} on a matrix of parameters. (a) Singular values of the first update against those of the"
        f" gradient, along the same singular vectors, for gradients of three sizes: from {low:.3g} to {high:.3g} at"
        f" the middle one. (b) {impulse}"
    )
