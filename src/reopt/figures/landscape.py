"""The loss around an optimizer's path: what a task looks like from where it is solved."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

LEVELS = 10
DEEPEST = 1e-4
"""The lowest level drawn, in the reach of the loss above its least value."""


class Landscape(NamedTuple):
    """The loss on a plane (u, v, loss: a grid) and a path on it (step, u, v), as `reopt landscape` writes them."""

    grid: pd.DataFrame
    path: pd.DataFrame


def draw_landscape(ax: Axes, data: Landscape, color: str) -> None:
    """Contours of the loss, evenly spaced in its logarithm, and the path from its start (circle) to its end (star)."""
    table = data.grid.pivot(index="v", columns="u", values="loss")
    loss = np.ma.masked_invalid(table.to_numpy(dtype=float))
    least = min(float(loss.min()), float(data.path["loss"].min()))
    height = np.ma.log10(np.maximum((loss - least) / (float(loss.max()) - least or 1.0), DEEPEST))
    levels = np.unique(np.quantile(height.compressed(), np.linspace(0, 1, LEVELS)))
    if len(levels) > 1:
        u, v = table.columns.to_numpy(dtype=float), table.index.to_numpy(dtype=float)
        ax.contourf(u, v, height, levels=levels, cmap="Blues_r", alpha=0.85, zorder=0).set_rasterized(True)
        lines = ax.contour(u, v, height, levels=levels[1:-1], colors="white", linewidths=0.4, linestyles="-", zorder=1)
        lines.set_rasterized(True)
    path = data.path.sort_values("step")
    for width, shade in ((2.0, "white"), (1.0, color)):
        ax.plot(path["u"], path["v"], color=shade, linewidth=width, zorder=2, gid="path" if shade == color else "rim")
    for place, marker, size, face in ((0, "o", 4.5, "white"), (-1, "*", 8, "#E69F00")):
        ax.plot(
            path["u"].iloc[place],
            path["v"].iloc[place],
            marker,
            markersize=size,
            markerfacecolor=face,
            markeredgecolor="black",
            markeredgewidth=0.6,
            zorder=3,
            gid="start" if place == 0 else "end",
        )
    ax.set(
        xticks=[],
        yticks=[],
        xlim=(table.columns.min(), table.columns.max()),
        ylim=(table.index.min(), table.index.max()),
    )
    for spine in ax.spines.values():
        spine.set_visible(False)
