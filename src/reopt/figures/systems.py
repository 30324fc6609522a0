"""Published systems against their rivals: paired differences over held-out problems, by meta-seed and over all."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reopt.figures.axes import put_letter
from reopt.figures.palette import label
from reopt.figures.style import TEXT_WIDTH, styled

COLUMNS = 2  # of panels
ROW, AROUND = 0.17, 0.7  # inches of a row, and around a panel's rows
OWN, ORACLE, BETTER, WORSE = "#000000", "#808080", "#009E73", "#D55E00"
NAMES = {
    "star": "STAR",
    "velo": "VeLO",
    "hierarchical": "Hierarchical",
    "optim4rl": "Optim4RL",
    "optim4rl_log": "Optim4RL, logarithms",
    "star_scales": "STAR, all scales",
    "sign": "Sign descent",
    "nominal": "Nominal term",
}
RIVALS = ("momentum", "adam", "adam_decay", "sign", "nominal")
ORACLES = ("adam",)
TICKS = {-1: "−1", -0.1: "−0.1", 0: "0", 0.1: "0.1", 1: "1"}


def rows_of(table: pd.DataFrame, system: str, variants: Sequence[str]) -> pd.DataFrame:
    """The rows of a system's panel, over all seeds: rivals, Adam with the best setting of each problem, variants.

    A system that is judged with a factor of its updates, too, is shown so, for its rivals' rates are tuned as well.
    """
    own = table[(table["system"] == system) & (table["seed"] == "all")]
    own = own[own["form"] == ("scaled" if (own["form"] == "scaled").any() else "trained")]
    is_rival = own["against"].isin(RIVALS) & (own["choice"] == "one")
    is_oracle = own["against"].isin(ORACLES) & (own["choice"] == "each")
    return pd.concat([own[is_rival], own[is_oracle], own[own["against"].isin(variants)]], ignore_index=True)


def name_of(system: str) -> str:
    """A system or rival as it is written; a variant's by what follows the name of its system."""
    if system in NAMES:
        return NAMES[system]
    known = max((name for name in NAMES if system.startswith(f"{name}_")), key=len, default="")
    words = system.removeprefix(f"{known}_").replace("_", " ").removesuffix(" backpropagation")
    if not known:
        return label(system)
    return f"{words}, backprop." if system.endswith("_backpropagation") and words != "backpropagation" else words


def row_name(row: pd.Series) -> str:
    """Who a system is compared with."""
    known = name_of(str(row["against"]))
    return f"{known}, best for each" if row["choice"] == "each" else known


def _color(row: pd.Series) -> str:
    """Whether the whole interval lies on one side of 0."""
    return BETTER if row["high"] < 0 else WORSE if row["low"] > 0 else OWN


def draw_system(ax: Axes, table: pd.DataFrame, system: str, variants: Sequence[str]) -> None:
    """A row a rival: the mean difference with its interval, and a dot a meta-seed; left of 0 the system is better."""
    rows = rows_of(table, system, variants)
    ax.axvline(0, color="#BBBBBB", linewidth=0.6, zorder=0)
    for place, (_, row) in enumerate(rows.iterrows()):
        seeds = table[
            (table["system"] == system)
            & (table["seed"] != "all")
            & (table["form"] == row["form"])
            & (table["against"] == row["against"])
            & (table["choice"] == row["choice"])
        ]
        color = ORACLE if row["choice"] == "each" else _color(row)
        ax.plot(seeds["difference"], np.full(len(seeds), place), ".", color=color, markersize=3, alpha=0.5, gid="seeds")
        error = [[row["difference"] - row["low"]], [row["high"] - row["difference"]]]
        ax.errorbar(
            row["difference"], place, xerr=error, fmt="D", markersize=3, color=color, capsize=2, gid=str(row["against"])
        )
    ax.set_yticks(range(len(rows)), [row_name(row) for _, row in rows.iterrows()])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xscale("symlog", linthresh=0.02)
    ax.set_xticks(list(TICKS), list(TICKS.values()))
    ax.minorticks_off()
    measure = str(rows["measure"].iloc[0]).replace("_", " ")
    ax.set_title(f"{name_of(system)}\n{measure} {rows['mean'].iloc[0]:.3f}", loc="left", fontsize=7)


@styled
def figure(table: pd.DataFrame, panels: Mapping[str, Sequence[str]]) -> Figure:
    """A panel a system, with rows of its variants. `table` is that of `reopt compare-systems`."""
    systems = list(panels)
    lines = [systems[at : at + COLUMNS] for at in range(0, len(systems), COLUMNS)]
    heights = [AROUND + ROW * max(len(rows_of(table, name, panels[name])) for name in line) for line in lines]
    drawing = Figure(figsize=(TEXT_WIDTH, sum(heights)), layout="constrained")
    axes = drawing.subplots(len(lines), COLUMNS, squeeze=False, height_ratios=heights).ravel()
    for letter, ax, system in zip("abcdefghijklmnopqrstuvwxyz", axes, systems, strict=False):
        draw_system(ax, table, system, panels[system])
        put_letter(ax, letter)
    for ax in axes[len(systems) :]:
        ax.set_axis_off()
    for ax in axes[max(len(systems) - COLUMNS, 0) : len(systems)]:
        ax.set_xlabel("worse by")
    return drawing


def caption(table: pd.DataFrame) -> str:
    """What the figure shows."""
    seeds = table[table["seed"] != "all"].groupby("system")["seed"].nunique()
    return (
        "Published learned optimizers, meta-trained here, against rivals with settings tuned on other problems: paired "
        "differences of a measure on held-out problems, with the mean of the system above each panel. Losses are over "
        "their first value and lower is better, scores are returns, and a difference is negative where the system is "
        f"better. Dots: {seeds.min()} to {seeds.max()} meta-trainings; diamonds: their mean, with a 95% interval over "
        "meta-trainings and problems. Grey: the best setting of each problem by itself, an oracle and no rival."
    )
