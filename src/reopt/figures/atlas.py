"""One optimizer at a glance: update, memory, schedule, adaptation and stability, those of them that can be drawn."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reopt.figures import adaptation, clipping, foretold, momentum, schedule
from reopt.figures.axes import legend_below, put_letter
from reopt.figures.style import TEXT_WIDTH, styled

COLUMNS = 3
HEIGHT = 1.75  # inches a row


class Glance(NamedTuple):
    """What the figures of one examination draw; `stability` is None where nothing is foretold."""

    subject: str
    clipping: clipping.Clipping
    momentum: momentum.Momentum
    schedule: schedule.Schedule
    adaptation: adaptation.Adaptation
    stability: foretold.Stability | None = None


def _panels(data: Glance) -> dict[str, str]:
    """Panels that have something to show, with what they show."""
    found = {"update": f"Update against gradient {clipping.places_drawn([data.clipping])[1]}."}
    if np.isfinite(data.momentum.impulse["response"]).any():
        found["impulse"] = "Answer to one small pulse of gradient, and that of the linearised dynamics."
    if len(data.momentum.modes):
        found["eigenvalues"] = "Eigenvalues of the linearised dynamics, and the unit circle."
    found["rate"] = (
        "Effective learning rate along the trajectory without gradients; where gradients are normalised, the step"
    )
    found["rate"] += " under a steady gradient."
    table = data.adaptation.adaptation
    if ((table["arm"] != "zero") & (table[adaptation.RATE] > 0)).any():
        found["adaptation"] = "Effective learning rate under constant gradients, over that without one."
    if data.stability is not None:
        found["stability"] = "Factor by which an error shrinks a step on a curvature: the modes that reach x, and all."
    return found


@styled
def figure(data: Glance) -> Figure:
    """The panels, three a row."""
    panels = list(_panels(data))
    rows = -(-len(panels) // COLUMNS)
    drawing = Figure(figsize=(TEXT_WIDTH, HEIGHT * rows + 0.3), layout="constrained")
    grid = drawing.subplots(rows, COLUMNS, squeeze=False).ravel()
    for unused in grid[len(panels) :]:
        unused.remove()
    axes = dict(zip(panels, grid, strict=False))
    for letter, ax in zip("abcdef", axes.values(), strict=False):
        put_letter(ax, letter)
    draws: dict[str, Callable[[Axes], None]] = {
        "update": lambda ax: clipping.draw_update(ax, data.clipping),
        "impulse": lambda ax: momentum.draw_impulse(ax, data.momentum),
        "eigenvalues": lambda ax: momentum.draw_eigenvalues(ax, data.momentum),
        "rate": lambda ax: schedule.draw_rate(ax, data.schedule),
        "adaptation": lambda ax: adaptation.draw_rates(ax, data.adaptation),
    }
    if data.stability is not None:
        stability = data.stability
        draws["stability"] = lambda ax: foretold.draw_stability(ax, stability)
    for name, ax in axes.items():
        draws[name](ax)
    labelled = [axes[name] for name in ("update", "impulse", "stability") if name in axes]
    legend_below(drawing, labelled, ncols=4)
    return drawing


def caption(data: Glance) -> str:
    """What each panel shows."""
    told = (f"({letter}) {words}" for letter, words in zip("abcdef", _panels(data).values(), strict=False))
    return " ".join(told)
