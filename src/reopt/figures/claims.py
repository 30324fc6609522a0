"""The claims and their verdicts, as a table of claims by tasks and cells."""

import itertools
import re

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import text_to_path

from reopt.figures.palette import VERDICTS, look, task_title
from reopt.figures.style import FONT, TEXT_WIDTH, styled

CLAIM, STATEMENT, LEAST, COLUMN = 0.42, 2.6, 1.3, 0.34
"""Widths in inches: of a claim's name, of its statement at most and at least, of a cell at most."""

_LINE, _GAP, _BETWEEN = 0.13, 0.08, 0.08
"""Height of a line of text, space between rows, space between columns, in inches."""

_FONT = FontProperties(family=[FONT], size=7)


def _width(text: str) -> float:
    """Inches."""
    return text_to_path.get_text_width_height_descent(text, _FONT, ismath=False)[0] / 72


def _wrap(text: str, width: float) -> list[str]:
    """Lines no wider than `width` inches, broken at spaces."""
    lines: list[str] = []
    for part in text.split("\n"):
        line = ""
        for word in part.split():
            longer = f"{line} {word}".strip()
            if line and _width(longer) > width:
                lines.append(line)
                line = word
            else:
                line = longer
        lines.append(line)
    return lines


def _short(statement: str) -> str:
    """Without what is measured, in brackets at the end: the table of claims says it."""
    return re.sub(r"\s*\([^()]*\)$", "", statement)


def share_text(row: pd.Series) -> str:
    """In how many seeds of how many the claim holds; a dash where it could not be tested."""
    if row["verdict"] == "not testable" or not row["seeds"] >= 1:
        return "–"
    share = row.get("share")
    if share is None or not np.isfinite(share):
        share = 1.0 if row["verdict"] == "holds" else 0.0
    return f"{round(share * row['seeds'])}/{round(row['seeds'])}"


def _columns(claims: pd.DataFrame) -> list[tuple[str, str]]:
    """Tasks and their cells, in the order of the table."""
    tasks = list(dict.fromkeys(claims["task"]))
    return [(task, cell) for task in tasks for cell in dict.fromkeys(claims.loc[claims["task"] == task, "cell"])]


def _place_columns(columns: list[tuple[str, str]], width: float) -> tuple[float, list[float]]:
    """Width of the statements, and the middle of each column, those of a task set apart."""
    apart = [0.0]
    for (before, _), (task, _) in itertools.pairwise(columns):
        apart.append(apart[-1] + width + (_BETWEEN if task != before else 0.0))
    statement = min(STATEMENT, TEXT_WIDTH - 0.1 - CLAIM - apart[-1] - width)
    left = CLAIM + max(statement, LEAST) + width / 2
    return max(statement, LEAST), [left + place for place in apart]


@styled
def figure(claims: pd.DataFrame) -> Figure:
    """A row a claim, a column a task and cell: the verdict by colour, and in how many seeds the claim holds."""
    columns = _columns(claims)
    tasks = list(dict.fromkeys(task for task, _ in columns))
    room = TEXT_WIDTH - 0.1 - CLAIM - LEAST - _BETWEEN * (len(tasks) - 1)
    least = max(_width(share_text(row)) for _, row in claims.iterrows()) + 0.04
    width = max(min(room / len(columns), COLUMN), least)
    for task in tasks:  # a title's longest word is bold, and stands above the task's cells
        word = max(map(_width, task_title(task).split()))
        width = max(width, (1.2 * word - _BETWEEN) / sum(one == task for one, _ in columns))
    statement, middles = _place_columns(columns, width)
    across = max(TEXT_WIDTH, middles[-1] + width / 2 + 0.1)  # many cells make it wider, not illegible
    rows = {
        name: (_wrap(_short(str(group["statement"].iloc[0])), statement - _BETWEEN), group.set_index(["task", "cell"]))
        for name, group in claims.groupby("claim", sort=False)
    }
    heads = [_wrap(task_title(task), width * sum(one == task for one, _ in columns) - 0.02) for task in tasks]
    cells = [look(cell).label for _, cell in columns]
    tall = max(_width(text) for text in cells) + 0.05
    top = _GAP + _LINE * max(map(len, heads)) + tall + 0.05
    total = top + sum(_GAP + _LINE * len(lines) for lines, _ in rows.values()) + 0.35
    drawing = Figure(figsize=(across, total))
    ax = drawing.add_axes((0, 0, 1, 1), xlim=(0, across), ylim=(total, 0))
    ax.set_axis_off()
    for task, lines in zip(tasks, heads, strict=True):
        places = [middle for middle, (one, _) in zip(middles, columns, strict=True) if one == task]
        for number, line in enumerate(reversed(lines)):
            at = top - tall - 0.08 - _LINE * number
            ax.text((places[0] + places[-1]) / 2, at, line, ha="center", fontsize=7, fontweight="bold", gid="task")
    for text, middle in zip(cells, middles, strict=True):
        ax.text(middle, top - 0.05, text, rotation=90, ha="center", va="bottom", fontsize=7, gid="cell")
    for name, (lines, group) in rows.items():
        height = _GAP + _LINE * len(lines)
        ax.axhline(top, xmin=0.05 / across, xmax=1 - 0.05 / across, color="#CCCCCC", linewidth=0.5)
        ax.text(0.05, top + _GAP / 2 + 0.8 * _LINE, name, fontsize=7, fontweight="bold", gid="claim")
        for number, line in enumerate(lines):
            ax.text(CLAIM, top + _GAP / 2 + _LINE * (number + 0.8), line, fontsize=7, gid="statement")
        for column, middle in zip(columns, middles, strict=True):
            if column not in group.index:
                continue
            row = group.loc[[column]].iloc[0]
            _, color = VERDICTS[row["verdict"]]
            if row["verdict"] != "not testable":
                patch = Rectangle((middle - width / 2 + 0.01, top + 0.015), width - 0.02, height - 0.03)
                patch.set(facecolor=color, alpha=0.22, linewidth=0, gid=f"verdict {row['verdict']}")
                ax.add_patch(patch)
            ax.text(
                middle,
                top + height / 2,
                share_text(row),
                ha="center",
                va="center",
                fontsize=7,
                color=color,
                gid=f"{name} {' '.join(column)}",
            )
        top += height
    left = 0.05
    for verdict, (symbol, color) in VERDICTS.items():
        if verdict != "not testable":
            patch = Rectangle((left, top + 0.13), 0.18, 0.13)
            patch.set(facecolor=color, alpha=0.22, linewidth=0)
            ax.add_patch(patch)
        words = f"{verdict} (n/N: in n of N seeds)" if verdict == "holds" else verdict
        sign = symbol if verdict == "not testable" else ""
        ax.text(left + 0.09, top + 0.195, sign, ha="center", va="center", fontsize=7, color=color)
        ax.text(left + 0.24, top + 0.195, words, va="center", fontsize=7, color=color, gid="legend")
        left += 0.24 + _width(words) + 0.25
    return drawing


def caption(claims: pd.DataFrame) -> str:
    """How many claims hold, fail, and could not be tested."""
    counts = claims["verdict"].value_counts().to_dict()
    said = ", ".join(f"{counts.get(verdict, 0)} {verdict}" for verdict in VERDICTS)
    return (
        f"The paper's claims and their verdicts ({said}). A row a claim, a column a task and cell: the verdict by"
        " colour, and in how many of the meta-training seeds the claim meets its criterion, which was fixed beforehand;"
        " it holds where every seed does. Values, intervals and criteria stand in the table of claims."
    )
