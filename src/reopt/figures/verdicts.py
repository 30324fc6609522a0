"""The verdict on every mechanism for every optimizer, a mark a meta-training seed."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from reopt.figures.axes import text_width
from reopt.figures.palette import look, order, split_seed, task_title
from reopt.figures.style import TEXT_WIDTH, styled
from reopt.mechanisms.base import ABSENT, PRESENT, UNDETERMINED
from reopt.mechanisms.registry import mechanisms

if TYPE_CHECKING:
    from reopt.figures.view import View

CATEGORY = "Mechanisms"
READS = {"examined": ("readings",)}

COLORS = {PRESENT: "#0072B2", UNDETERMINED: "#E69F00", ABSENT: "#D9D9D9"}
"""As on the page of a dissection; in grey, dark, middle and pale."""

ROW, HEAD, FOOT, NAMES = 0.15, 0.28, 0.32, 1.15
"""Height of a row, of what stands above a task's rows, and of the legend; width of optimizers' names; in inches."""


def data(view: "View") -> pd.DataFrame:
    """subject, mechanism, verdict: of all that is examined on one task. **Raises** `ReoptError`."""
    tables = []
    for subject in view.subjects["examined"]:
        readings = view.examination(subject).readings.drop_duplicates("mechanism")
        tables.append(readings[["mechanism", "verdict"]].assign(subject=subject))
    return pd.concat(tables, ignore_index=True)


def _families(table: pd.DataFrame) -> dict[str, list[str]]:
    """The subjects of each family, learned ones first, in the order of their seeds."""
    families: dict[str, list[str]] = {}
    for subject in order(list(table["subject"])):
        families.setdefault(split_seed(subject)[0], []).append(subject)
    return dict(sorted(families.items(), key=lambda item: split_seed(item[1][0])[1] is None))


def _columns(tasks: Mapping[str, pd.DataFrame]) -> list[str]:
    """The mechanisms that were measured anywhere, in the order in which they are measured."""
    measured = {name for table in tasks.values() for name in table["mechanism"]}
    return [one.name for one in mechanisms() if one.name in measured]


def draw_verdicts(ax: Axes, table: pd.DataFrame, columns: list[str]) -> None:
    """A row a family, a column a mechanism: a cell is parted among the seeds, each in the colour of its verdict."""
    families = _families(table)
    given = table.set_index(["subject", "mechanism"])["verdict"]
    for row, subjects in enumerate(families.values()):
        width = 0.9 / len(subjects)
        for column, mechanism in enumerate(columns):
            for place, subject in enumerate(subjects):
                if (subject, mechanism) not in given.index:
                    continue
                verdict = str(given[subject, mechanism])
                left = column - 0.45 + place * width
                mark = Rectangle((left, row - 0.36), width, 0.72, facecolor=COLORS[verdict], edgecolor="white")
                mark.set(linewidth=0.8, gid=f"{subject} {mechanism} {verdict}")
                ax.add_patch(mark)
    ax.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(families) - 0.5, -0.5))
    ax.set_yticks(range(len(families)), [look(family).label for family in families])
    ax.set_xticks([])
    ax.tick_params(axis="y", length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)


@styled
def figure(tasks: Mapping[str, pd.DataFrame]) -> Figure:
    """A block of rows a task, a column a mechanism."""
    columns, counts = _columns(tasks), [len(_families(table)) for table in tasks.values()]
    words = [name.replace("_", " ") for name in columns]
    upright = max(map(text_width, words)) > 0.95 * (TEXT_WIDTH - NAMES - 0.05) / len(columns)
    head = max(map(text_width, words)) - 0.1 if upright else 0.0
    height = head + sum(HEAD + ROW * count for count in counts) + FOOT
    drawing = Figure(figsize=(TEXT_WIDTH, height))
    top = height - head
    for number, ((task, table), count) in enumerate(zip(tasks.items(), counts, strict=True)):
        tall = ROW * count
        place = (NAMES, top - HEAD - tall, TEXT_WIDTH - NAMES - 0.05, tall)
        ax = drawing.add_axes((place[0] / TEXT_WIDTH, place[1] / height, place[2] / TEXT_WIDTH, place[3] / height))
        draw_verdicts(ax, table, columns)
        drawing.text(0.05 / TEXT_WIDTH, (top - HEAD + 0.06) / height, task_title(task), fontsize=8, fontweight="bold")
        if number == 0:
            ax.set_xticks(range(len(columns)), words, rotation=90 if upright else 0)
            ax.tick_params(axis="x", top=False, bottom=False, labeltop=True, labelbottom=False, length=0, pad=4)
        top -= HEAD + tall
    handles = [Patch(facecolor=color, label=verdict) for verdict, color in COLORS.items()]
    drawing.legend(handles=handles, loc="lower center", ncols=3, bbox_to_anchor=(0.5, 0.02 / height))
    return drawing


def caption(tasks: Mapping[str, pd.DataFrame]) -> str:
    """What the figure shows: the bounds of the verdicts, and how many runs have each mechanism."""
    columns = _columns(tasks)
    bounds = "; ".join(
        f"{one.name.replace('_', ' ')}: {one.number}, absent below {one.bounds.absent:g} and present above"
        f" {one.bounds.present:g}"
        for one in mechanisms()
        if one.name in columns
    )
    parts = []
    for task, table in tasks.items():
        shares = []
        for name in columns:
            verdicts = table.loc[table["mechanism"] == name, "verdict"]
            unsure = int((verdicts == UNDETERMINED).sum())
            text = f"{name.replace('_', ' ')} in {int((verdicts == PRESENT).sum())} of {len(verdicts)}"
            shares.append(text + (f" ({unsure} undetermined)" if unsure else ""))
        parts.append(f"{task_title(task)}: {', '.join(shares)}.")
    return (
        "Verdicts of the examination. A row an optimizer, a column a mechanism, a mark a meta-training seed, the seeds"
        " in the same order in each column. A verdict holds one number against two bounds, and is undetermined between"
        f" them, or where the number can mean nothing ({bounds}). Runs in which it is present: " + " ".join(parts)
    )
