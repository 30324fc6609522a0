"""What each mechanism is worth: the meta-objective with mechanisms taken away, one by one and in all combinations."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from reopt.figures.axes import draw_panels, legend_below, log_axis, log_text
from reopt.figures.palette import label, look, task_title
from reopt.figures.style import styled

if TYPE_CHECKING:
    from reopt.figures.view import View

CATEGORY = "Mechanisms"
READS = {"caused": ("ablation",)}

MECHANISMS = ("momentum", "clipping", "schedule", "adaptation")
LETTERS = {"momentum": "M", "clipping": "C", "schedule": "S", "adaptation": "A"}
QUANTITIES = {  # colour, marker, words
    "alone": ("#0072B2", "o", "removed from the intact"),
    "shapley": ("#000000", "D", "Shapley value"),
    "last": ("#D55E00", "s", "removed last"),
}
REFERENCES = {  # colour, dashes, words
    "linearised": ("#000000", (0.0, (4.0, 1.5)), "linearised"),
    "input_clipped": ("#009E73", (0.0, (1.0, 1.2)), "inputs clipped"),
    "tuned_momentum": ("#0072B2", (0.0, (5.0, 1.2, 1.0, 1.2)), "tuned momentum"),
    "momentum_replaced": ("#CC79A7", (0.0, (2.0, 2.0)), "slow modes replaced by it"),
}
LINEAR = 0.01
"""Costs below this, of either sign, are drawn on a linear scale."""


class Causes(NamedTuple):
    """Combinations and worth of the run that is shown, and the worth of other optimizers' runs."""

    subject: str
    causes: pd.DataFrame
    worth: pd.DataFrame
    others: Mapping[str, pd.DataFrame] = {}


def draw_worth(ax: Axes, data: Causes) -> None:
    """A row a mechanism: what its removal costs, alone, last, and as Shapley value; grey: Shapley values of others."""
    reach = [0.0, LINEAR]
    for number, mechanism in enumerate(MECHANISMS):
        for other, table in data.others.items():
            value = _of(table, mechanism, "shapley")["value"]
            ax.plot(value, number + 0.38, "|", color="#808080", markersize=4, alpha=0.8, gid=f"other {other}")
            reach.append(value)
        for place, (quantity, (color, marker, words)) in enumerate(QUANTITIES.items()):
            row = _of(data.worth, mechanism, quantity)
            at = number + 0.2 * (place - 1)
            ax.plot([row["low"], row["high"]], [at, at], color=color, linewidth=1.0, gid=f"interval {quantity}")
            ax.plot(
                row["value"],
                at,
                marker,
                linestyle="none",
                color=color,
                markersize=3.2,
                markeredgewidth=0,
                label=words,
                gid=f"worth {mechanism} {quantity}",
            )
            reach += [row["low"], row["high"]]
    ax.axvline(0, color="#BBBBBB", linewidth=0.6, zorder=0)
    ax.set_xscale("symlog", linthresh=LINEAR, linscale=0.6)
    low, high = min(reach), max(reach)
    low, high = (1.6 * low if low < -0.2 * LINEAR else -0.6 * LINEAR), 1.6 * high
    ticks = [tick for tick in (-10.0, -0.1, 0.0, 0.1, 10.0) if low <= tick <= high]
    ticks = ticks if high >= 0.1 else [*ticks, LINEAR]
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(FixedLocator([t for t in (-1.0, -LINEAR, LINEAR, 1.0) if t not in ticks]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _signed(value)))
    ax.set(xlim=(low, high), ylim=(len(MECHANISMS) - 0.5, -0.5), xlabel="cost of removing it")
    ax.set_yticks(range(len(MECHANISMS)), MECHANISMS)
    ax.tick_params(axis="y", length=0)


def draw_combinations(ax: Axes, data: Causes) -> None:
    """A row a combination, named by the letters of what is kept: meta-objective, and those of the references."""
    table = ordered(data.causes)
    color = look(data.subject).color
    for at, row in enumerate(table.itertuples()):
        ends = np.maximum([row.low, row.high], 0.3 * row.meta_objective)
        ax.plot(ends, [at, at], color=color, linewidth=1.0, gid="interval")
    ax.plot(
        table["meta_objective"],
        np.arange(len(table)),
        "o",
        color=color,
        markersize=3.2,
        markeredgewidth=0,
        gid="combinations",
    )
    for variant, (shade, dashes, words) in REFERENCES.items():
        for value in data.causes.loc[data.causes["variant"] == variant, "meta_objective"]:
            ax.axvline(value, color=shade, linestyle=dashes, linewidth=0.9, zorder=0, label=words, gid=variant)
    log_axis(ax, "x", labels=4)
    ax.set_yticks(range(len(table)), [kept(row) for _, row in table.iterrows()])
    ax.tick_params(axis="y", length=0)
    ax.set(ylim=(len(table) - 0.5, -0.5), xlabel="meta-objective", ylabel="mechanisms kept")


def ordered(table: pd.DataFrame) -> pd.DataFrame:
    """The combinations by the number of mechanisms removed, and then by their order."""
    rows = table[table["variant"] == "factorial"]
    return rows.assign(gone=(rows[list(MECHANISMS)] == "removed").sum(axis=1)).sort_values("gone", kind="stable")


def kept(row: pd.Series) -> str:
    """The letters of the mechanisms that a combination keeps."""
    return " ".join(LETTERS[name] if row[name] == "kept" else "·" for name in MECHANISMS)


def data(view: "View") -> Causes:
    """The shown run of one task, and what mechanisms are worth to other optimizers. **Raises** `ReoptError`."""
    found = {subject: view.examination(subject).ablation for subject in view.subjects["caused"]}
    shown = found.pop(view.shown)
    return Causes(view.shown, shown.table, shown.worth, {other: one.worth for other, one in found.items()})


@styled
def figure(tasks: Mapping[str, Causes]) -> Figure:
    """What each mechanism is worth, and the sixteen combinations."""
    names = list(tasks)
    drawing, axes = draw_panels(
        tasks,
        {"worth": draw_worth, "combinations": draw_combinations},
        alone=[["worth", "combinations"]],
        height_alone=2.9,
        height_each=2.5,
        alone_options={"width_ratios": [1, 1]},
    )
    for (name, _), ax in axes.items():
        if name != names[0]:
            ax.tick_params(axis="y", labelleft=False)
    legend_below(drawing, axes.values(), ncols=3)
    return drawing


def caption(tasks: Mapping[str, Causes]) -> str:
    """What the figure shows, with the costs and the combinations' extremes in numbers."""
    parts = []
    for name, data in tasks.items():
        rows = ordered(data.causes)
        intact = rows.iloc[0]
        costs = "; ".join(f"{mechanism} {_in_words(data.worth, mechanism)}" for mechanism in MECHANISMS)
        four = _of(data.worth, "four", "all")
        text = (
            f"{task_title(name)}: {label(data.subject, seed=True)}, {int(intact['problems'])} problems, intact"
            f" {intact['meta_objective']:.3g}; cost alone and Shapley value of {costs}; without all four"
            f" {_signed(four['value'])}, of which {_signed(_of(data.worth, 'four', 'sum')['value'])} is the sum of the"
            f" single removals; runs that diverged with all four removed: {100 * float(rows['diverged'].iloc[-1]):.3g}%"
        )
        references = [
            f"{words} {value:.3g}"
            for variant, (_, _, words) in REFERENCES.items()
            for value in data.causes.loc[data.causes["variant"] == variant, "meta_objective"]
        ]
        parts.append(f"{text}; {', '.join(references)}." if references else f"{text}.")
    return (
        "Mechanisms taken away from the running optimizer, on the same problems. (a) What the meta-objective (no unit)"
        " loses without a mechanism: removed alone from the intact optimizer, removed last from what is left without"
        " the other three, and the Shapley value, its mean over all orders of removal; lines are 95% intervals over"
        f" problems, the scale is linear within ±{LINEAR:g}, and grey ticks are Shapley values of other optimizers. (b)"
        " Meta-objective of all sixteen combinations, by the letters of the mechanisms that are kept (M momentum, C"
        " clipping, S schedule, A adaptation); a run that diverged counts as 10, and not to move gives 1. "
        + " ".join(parts)
    )


def _of(worth: pd.DataFrame, mechanism: str, quantity: str) -> pd.Series:
    return worth[(worth["mechanism"] == mechanism) & (worth["quantity"] == quantity)].iloc[0]


def _in_words(worth: pd.DataFrame, mechanism: str) -> str:
    alone, shapley = _of(worth, mechanism, "alone"), _of(worth, mechanism, "shapley")
    return f"{_signed(alone['value'])} and {_signed(shapley['value'])}"


def _signed(value: float) -> str:
    """A number of at most three digits with a true minus; 0 as it is."""
    if value == 0:
        return "0"
    size = float(f"{abs(value):.3g}")
    return ("−" if value < 0 else "") + log_text(size)
