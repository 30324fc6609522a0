"""Sketches of the tasks: illustrations, not results."""

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes


class Schematic(NamedTuple):
    """A loss surface over two parameters."""

    x: np.ndarray
    y: np.ndarray
    loss: np.ndarray
    text: str


def quadratic_schematic(condition_number: float) -> Schematic:
    """f(u, v) = 1/2 (u² + κ v²) for a condition number κ, turned by 30 degrees, on [-1, 1]²."""
    x = np.linspace(-1, 1, 121)
    y = np.linspace(-1, 1, 121)
    across, up = np.meshgrid(x, y)
    cosine, sine = np.cos(np.pi / 6), np.sin(np.pi / 6)
    along, steep = cosine * across + sine * up, cosine * up - sine * across
    return Schematic(x, y, 0.5 * (along**2 + condition_number * steep**2), f"condition number {condition_number:.3g}")


def draw(ax: Axes, schematic: Schematic) -> None:
    """Contours of the surface, its minimum, and what it is."""
    low, high = float(schematic.loss.min()), float(schematic.loss.max())
    levels = low + (high - low) * np.linspace(0, 1, 10)[1:] ** 2
    ax.contourf(schematic.x, schematic.y, schematic.loss, levels=[low, *levels], cmap="Blues_r", alpha=0.9)
    ax.contour(schematic.x, schematic.y, schematic.loss, levels=levels[:-1], colors="white", linewidths=0.5)
    row, column = np.unravel_index(np.argmin(schematic.loss), schematic.loss.shape)
    ax.plot(
        schematic.x[column],
        schematic.y[row],
        "*",
        color="#E69F00",
        markeredgecolor="white",
        markersize=8,
        markeredgewidth=0.5,
    )
    ax.set(aspect="equal", xticks=[], yticks=[], xlabel=schematic.text)
    for spine in ax.spines.values():
        spine.set_visible(False)
