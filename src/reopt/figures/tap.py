"""What a tap has measured: learning rates, memory, clipping and adaptation over the steps of a run, by group."""

from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from reopt.core.errors import ReoptError
from reopt.figures.axes import arrange, legend_below, log_axis, sequential, text_width, zero_lines
from reopt.figures.palette import NEUTRAL
from reopt.figures.style import TEXT_WIDTH, styled

PANELS = {
    "learning_rate": "learning rate",
    "memory": "memory",
    "clipped": "elements clipped",
    "adaptation": "adaptation (slope)",
}
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MOST = 15  # groups in the legend


@styled
def tap_figure(table: pd.DataFrame | Any) -> Figure:
    """The measurements of a tap over the steps: learning rate, memory, share clipped, adaptation; a colour a group.

    `table` is that of `tap_table`, or a state that it reads. The learning rate is the median with quartiles over the
    elements, dashed the secant rate; a grey cross below stands where a quantity was read of no group.

    **Raises** `ReoptError` where nothing was measured.

    ```python
    import jax.numpy as jnp, optax, reopt

    optimizer = reopt.tap(optax.sgd(0.1, momentum=0.9), every=1)
    params, state = jnp.arange(10.0), optimizer.init(jnp.arange(10.0))
    for _ in range(5):
        updates, state = optimizer.update(jnp.cos(params), state, params)
        params = optax.apply_updates(params, updates)
    reopt.tap_figure(state).savefig("tap.png")
    ```
    """
    if not isinstance(table, pd.DataFrame):
        from reopt.live.tap import tap_table

        table = tap_table(table)
    if table.empty:
        raise ReoptError("the tap has measured nothing yet: its first measurement is at step `first`")
    groups = list(dict.fromkeys(table["group"]))
    figure, axes = arrange(
        ["run"], list(PANELS), alone=[list(PANELS)[:2], list(PANELS)[2:]], height_alone=3.6, height_each=1.6
    )
    for quantity, words in PANELS.items():
        _draw(axes["run", quantity], table, groups, quantity)
        axes["run", quantity].set_ylabel(words)
    shown = [axes["run", "learning_rate"]]
    widest = max(text_width(name) for name in groups[:MOST])
    legend_below(figure, shown, ncols=max(1, min(len(groups) + 1, int(TEXT_WIDTH / (widest + 0.45)))))
    return figure


def _draw(ax: Axes, table: pd.DataFrame, groups: list[str], quantity: str) -> None:
    rows = table[table["quantity"] == quantity]
    colors = [COLORS[k] if len(groups) <= len(COLORS) else sequential()(k / len(groups)) for k in range(len(groups))]
    for k, (group, color) in enumerate(zip(groups, colors, strict=True)):
        one = rows[rows["group"] == group]
        dots: dict[str, Any] = {"marker": "o", "markersize": 1.8, "label": group if k < MOST else "_"}
        ax.plot(one["step"], one["value"], color=color, **dots, gid=f"{quantity} {group}")
        if quantity == "learning_rate":
            ax.fill_between(one["step"], one["low"], one["high"], color=color, alpha=0.15, linewidth=0)
    for k, (group, color) in enumerate(zip(groups, colors, strict=True)):
        secant = table[(table["quantity"] == "secant_rate") & (table["group"] == group)]
        dashes: dict[str, Any] = {"linestyle": (0, (3, 1.5)), "linewidth": 0.7, "label": "_" if k else "secant rate"}
        if quantity == "learning_rate":
            ax.plot(secant["step"], secant["value"], color=color, **dashes, gid=f"secant_rate {group}")
    if quantity == "learning_rate":
        log_axis(ax, "y")
    elif quantity == "clipped":
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        ax.set_ylim(0, max(0.05, 1.08 * float(np.nan_to_num(rows["value"].max()))))
    else:
        zero_lines(ax)
        low, high = float(np.nan_to_num(rows["value"].min())), float(np.nan_to_num(rows["value"].max()))
        room = 0.08 * max(1, abs(low), abs(high))
        ends = (0, 1) if quantity == "memory" else (-1, 0)
        ax.set_ylim(min(ends[0], low) - room, max(ends[1], high) + room)
    unread = rows.groupby("step")["value"].count()
    steps = unread.index[unread == 0]
    place = matplotlib.transforms.blended_transform_factory(ax.transData, ax.transAxes)
    ax.plot(steps, np.full(len(steps), 0.03), "x", color=NEUTRAL, markersize=3.5, transform=place, gid="unread")
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.set_xlabel("step")
