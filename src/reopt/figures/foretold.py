"""An optimizer on a curvature: where it is stable, how fast, and when along its schedule."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from reopt.figures.axes import LogTicks, arrange, color_bar, few_ticks, legend_below, log_axis, sequential
from reopt.figures.style import styled

PANELS = ("locus", "stability", "along")


class Stability(NamedTuple):
    """Tables of `reopt.examination.foretell.Foretelling`, the largest stable curvature, those of the task."""

    subject: str
    stability: pd.DataFrame
    locus: pd.DataFrame
    along: pd.DataFrame
    threshold: float
    curvatures: tuple[float, float] | None = None


def draw_locus(ax: Axes, data: Stability) -> None:
    """Eigenvalues in the complex plane, coloured by curvature, and the unit circle."""
    angle = np.linspace(0, 2 * np.pi, 181)
    ax.plot(np.cos(angle), np.sin(angle), color="#808080", linewidth=0.7, gid="unit circle")
    table = data.locus[np.hypot(data.locus["real"], data.locus["imag"]) < 2]
    low, high = data.stability["curvature"].min(), data.stability["curvature"].max()
    colors = ScalarMappable(LogNorm(low, high), sequential())
    ax.scatter(
        table["real"],
        table["imag"],
        c=table["curvature"],
        cmap=colors.cmap,
        norm=LogNorm(low, high),
        s=3,
        linewidths=0,
        rasterized=True,
        gid="locus",
    )
    ax.set(xlabel="Re", ylabel="Im", aspect="equal", xlim=(-1.6, 1.2), ylim=(-1.4, 1.4))
    few_ticks(ax, 4)
    color_bar(ax, colors, "curvature", format=LogTicks(), ticks=LogLocator(numticks=4))


def draw_stability(ax: Axes, data: Stability) -> None:
    """Factor by which the error shrinks a step, and that of the slowest mode, against curvature."""
    table = data.stability
    ax.plot(table["curvature"], table["radius"], color="#808080", linewidth=0.9, label="slowest mode", gid="radius")
    ax.plot(table["curvature"], table["rate"], color="#0072B2", linewidth=1.5, label="what reaches x", gid="rate")
    ax.axhline(1, color="black", linewidth=0.5, linestyle=(0, (1, 1.5)), zorder=0, gid="edge")
    if np.isfinite(data.threshold):
        ax.axvline(data.threshold, color="#D55E00", linewidth=0.9, label="largest stable", gid="threshold")
    if data.curvatures:
        ax.axvspan(*data.curvatures, color="#009E73", alpha=0.12, linewidth=0, label="curvatures of the task")
        ax.set_xlim(table["curvature"].min(), table["curvature"].max())
    ax.set_ylim(min(0.9, float(table["rate"].min())), 1.1)
    log_axis(ax, "x", labels=4)
    ax.set(xlabel="curvature", ylabel="factor a step")


def draw_along(ax: Axes, data: Stability) -> None:
    """The largest stable curvature of the optimizer held at steps of its schedule."""
    ax.plot(data.along["step"], data.along["largest_stable"], ".-", color="#D55E00", linewidth=1.0, gid="along")
    if data.curvatures:
        ax.axhline(data.curvatures[1], color="#009E73", linewidth=0.9, gid="largest of the task")
    log_axis(ax, "y", labels=4)
    ax.set(xlabel="step", ylabel="largest stable")


@styled
def figure(data: Stability) -> Figure:
    """Root locus, stability map, and the edge along the schedule."""
    drawing, axes = arrange(["all"], PANELS, alone=[PANELS], height_alone=2.3, height_each=1.6)
    for panel, draw in zip(PANELS, (draw_locus, draw_stability, draw_along), strict=True):
        draw(axes["all", panel], data)
    legend_below(drawing, [axes["all", "stability"]], ncols=4)
    return drawing


def caption(data: Stability) -> str:
    """What the figure shows."""
    edge = f"{data.threshold:.4g}" if np.isfinite(data.threshold) else "beyond what was looked at"
    return (
        f"Stability of {data.subject} on f(x) = curvature (x − x*)² / 2. (a) Eigenvalues of the closed loop of the"
        " optimizer and a curvature, and the unit circle. (b) Factor by which the error shrinks a step, by the modes"
        f" that reach x, and by the slowest mode of all; the largest stable curvature is {edge}. (c) The largest stable"
        " curvature of the optimizer held as it is at steps of its schedule; green: the curvatures of the task."
    )
