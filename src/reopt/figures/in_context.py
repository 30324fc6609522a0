"""Readings of an optimizer with a context, a figure each: `pictures` of what `read_in_context` found."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from reopt.figures.axes import legend_below, log_axis, zero_lines
from reopt.figures.style import TEXT_WIDTH, styled

if TYPE_CHECKING:
    from reopt.published.in_context import InContext

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
GRAY = "#808080"
HEIGHT = 2.1  # inches
PARTS = {"on_itself": "on itself", "on_its_array": "on others of its array", "on_other_arrays": "on other arrays"}
INPUTS = {
    "gradients": "all gradients × s: length of the step",
    "scale": "parameters × s, gradients / s: length of the step",
    "earlier_gradients": "earlier gradients × s: answer to this one",
}


def _one() -> tuple[Figure, Axes]:
    figure = Figure((TEXT_WIDTH, HEIGHT), layout="constrained")
    return figure, figure.subplots()


def _band(ax: Axes, columns: Sequence[np.ndarray], color: str, text: str) -> None:
    """A median, and quartiles around it: `columns` are where, lower quartile, median and upper."""
    x, low, middle, high = columns
    ax.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
    ax.plot(x, middle, ".-", color=color, markersize=3, label=text, gid=text)


def _quartiles(rows: pd.DataFrame, by: str, of: str) -> list[np.ndarray]:
    found = rows.groupby(by)[of].quantile([0.25, 0.5, 0.75]).unstack()
    return [found.index.to_numpy(), *(found[one].to_numpy() for one in (0.25, 0.5, 0.75))]


@styled
def draw_losses(losses: np.ndarray) -> Figure:
    """The mean loss at each step."""
    figure, ax = _one()
    ax.plot(np.arange(len(losses)), losses, color=COLORS[0])
    ax.set(xlabel="step", ylabel="mean loss")
    return figure


@styled
def draw_exponents(points: pd.DataFrame) -> Figure:
    """How many points have which exponent."""
    figure, ax = _one()
    shown = points["exponent"].dropna().clip(-0.5, 1.5)
    ax.hist(shown, bins=np.linspace(-0.5, 1.5, 41).tolist(), color=COLORS[0], weights=[1 / len(points)] * len(shown))
    for exponent in (0.0, 1.0):
        ax.axvline(exponent, color=GRAY, linewidth=0.6, zorder=0)
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set(xlabel="exponent of the update by the gradient", ylabel="points")
    return figure


@styled
def draw_mixture(mixture: pd.DataFrame) -> Figure:
    """The share of each accumulator in the long run, step by step."""
    figure, ax = _one()
    zero_lines(ax)
    for (name, rows), color in zip(mixture.groupby("accumulator", sort=False), [*COLORS[:-1], GRAY] * 3, strict=False):
        decay = rows["decay"].median()
        text = f"decay {decay:.3g}" if np.isfinite(decay) else "gradient itself"
        columns = [rows[column].to_numpy() for column in ("step", "low", "share", "high")]
        _band(ax, columns, GRAY if name == "direct" else color, text)
    ax.set(xlabel="step", ylabel="share of the update")
    legend_below(figure, [ax], ncols=5)
    return figure


@styled
def draw_progress(conditioning: pd.DataFrame) -> Figure:
    """The length of the step by the time that is told, at each step that is looked at."""
    figure, ax = _one()
    told = conditioning[conditioning["input"] == "progress"]
    for (step, rows), color in zip(told.groupby("step"), COLORS, strict=False):
        _band(ax, _quartiles(rows, "value", "size"), color, f"in the state of step {step}")
    ax.axhline(1, color=GRAY, linewidth=0.6, zorder=0)
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set(xlabel="share of the run that it is told is done", ylabel="step over the one met")
    ax.set_ylim(bottom=0)
    legend_below(figure, [ax], ncols=2)
    return figure


@styled
def draw_scales(conditioning: pd.DataFrame) -> Figure:
    """Steps and answers where gradients or parameters are scaled throughout the run."""
    figure, ax = _one()
    for (name, text), color in zip(INPUTS.items(), COLORS, strict=False):
        rows = conditioning[(conditioning["input"] == name) & (conditioning["size"] > 0)]
        if len(rows):
            _band(ax, _quartiles(rows, "value", "size"), color, text)
    ax.axhline(1, color=GRAY, linewidth=0.6, zorder=0)
    log_axis(ax, "x", "y")
    ax.set(xlabel="factor s", ylabel="over the one met")
    legend_below(figure, [ax], ncols=2)
    return figure


@styled
def draw_coupling(points: pd.DataFrame) -> Figure:
    """Where the change falls that a gradient makes in the updates of its step."""
    figure, ax = _one()
    shares = points.groupby("step")[list(PARTS)].mean().dropna()
    at, bottom = np.arange(len(shares)), np.zeros(len(shares))
    for (column, text), color in zip(PARTS.items(), COLORS, strict=False):
        ax.bar(at, shares[column], bottom=bottom, color=color, label=text, gid=column)
        bottom = bottom + shares[column].to_numpy()
    ax.set_xticks(at, [str(step) for step in shares.index])
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set(xlabel="step", ylabel="share of the change", ylim=(0, 1))
    legend_below(figure, [ax], ncols=3)
    return figure


def pictures(found: "InContext") -> dict[str, tuple[Figure, str]]:
    """The figure and caption of each mechanism that has one, and of the loss (`performance`)."""
    shown = {
        "performance": (draw_losses(found.losses), "Mean loss over the problems."),
        "clipping": (
            draw_exponents(found.points),
            "Exponent of the odd part of the update by the size of the gradient, at the gradients met: 1 is in"
            " proportion, 0 does not follow the size at all. What lies beyond stands at the ends.",
        ),
        "coupling": (
            draw_coupling(found.points),
            "Shares of what one gradient changes in all updates of its step: on its own parameter, on others of its"
            " array, on other arrays. Means over points.",
        ),
        "schedule": (
            draw_progress(found.conditioning),
            "Length of the step where only the time that it is told is another, in the state of the step met. Median"
            " and quartiles over problems.",
        ),
        "adaptation": (
            draw_scales(found.conditioning),
            "Lengths of steps where all gradients of the run, or the scale of the parameters, are others; and the"
            " answer to one gradient where all before it are others, which is level for linear methods. Median and"
            " quartiles over problems.",
        ),
    }
    if len(found.mixture):
        shown["momentum"] = (
            draw_mixture(found.mixture),
            "What each linear accumulator adds to the update in the long run, as a share of the sum of all sizes."
            " Median and quartiles over points.",
        )
    return shown
