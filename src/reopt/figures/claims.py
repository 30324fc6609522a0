"""The claims and their verdicts: first what the paper's recipes do, then what others do."""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from reopt.core.grades import HOLDS, NOT_TESTABLE, UNDETERMINED, arm_of
from reopt.figures.axes import text_width
from reopt.figures.palette import VERDICTS, look, task_title
from reopt.figures.style import TEXT_WIDTH, styled

if TYPE_CHECKING:
    from reopt.figures.view import View

CATEGORY = "Claims"
READS = {"task": ("/claims.csv",)}

STATEMENT, LEAST, COLUMN = 2.4, 1.0, 0.8
"""Widths in inches: of a statement at most and at least, of a cell at most."""

_EDGE, _LINE, _GAP, _BETWEEN = 0.05, 0.12, 0.07, 0.08
"""Margin, height of a line of text, space between rows, space between the columns of two tasks, in inches."""

_BOLD = 1.16  # width of bold text over that of plain text
DASH = "–"
HUGE = 1e9
Column = tuple[str, str]
"""A task and an optimizer."""


class _Block(NamedTuple):
    """A part of the figure: its title, its columns, what is written in a cell, and whether statements stand in it."""

    title: str
    columns: list[Column]
    words: Callable[[pd.Series], list[str]]
    statements: bool


class _Widths(NamedTuple):
    """Widths in inches, and the middle of each column."""

    name: float
    statement: float
    cell: float
    middles: list[float]


def _wrap(text: str, width: float) -> list[str]:
    """Lines no wider than `width` inches, broken at spaces."""
    lines: list[str] = []
    for part in text.split("\n"):
        line = ""
        for word in part.split():
            longer = f"{line} {word}".strip()
            if line and text_width(longer) > width:
                lines.append(line)
                line = word
            else:
                line = longer
        lines.append(line)
    return lines


def _short(statement: str) -> str:
    """Without what is measured, in brackets at the end: the table of claims says it."""
    return re.sub(r"\s*\([^()]*\)$", "", statement)


def name_text(claim: str) -> str:
    """T and its number; of a claim on a mechanism (M-NAME) the mechanism."""
    return claim.partition("-")[2].replace("_", " ") or claim


def _of_mechanism(claim: str) -> bool:
    return "-" in claim


def number_text(value: float, digits: int = 2) -> str:
    """So many digits in the least room: .98, 1.2, 24, -5e3; ≫0 and ≪0 from `HUGE` on; a dash for what is no number."""
    if np.isnan(value):
        return DASH
    size = abs(value)
    if size >= HUGE:
        return "≫0" if value > 0 else "≪0"
    if value == round(value) and size < 1000:
        return f"{value + 0:.0f}"
    if size >= 999.5:
        return f"{value:.0e}".replace("e+0", "e").replace("e+", "e")
    if size >= 0.995:
        return f"{value:.{max(0, digits - 1 - (size >= 9.95) - (size >= 99.5))}f}"
    text = f"{value:.{digits}f}".replace("0.", ".", 1)
    return text if float(text) else text.lstrip("-")


def share_text(row: pd.Series) -> str:
    """In how many seeds of how many the claim holds; a dash where none could be judged."""
    if row["verdict"] == NOT_TESTABLE or not row["seeds"] >= 1:
        return DASH
    share = row.get("share")
    if share is None or not np.isfinite(share):
        share = 1.0 if row["verdict"] == HOLDS else 0.0
    return f"{round(share * row['seeds'])}/{round(row['seeds'])}"


def _has_interval(row: pd.Series) -> bool:
    return bool(np.isfinite([row["low"], row["high"]]).all() and row["low"] < row["high"])


def full_text(row: pd.Series) -> list[str]:
    """Of the paper's recipes: effect and seeds, interval."""
    if row["verdict"] in (NOT_TESTABLE, UNDETERMINED):
        return [DASH if row["verdict"] == NOT_TESTABLE else "?"]
    seeds = f"  {share_text(row)}" if row["seeds"] > 1 else ""
    value, low, high = (number_text(row[name], 3) for name in ("value", "low", "high"))
    return [f"{value}{seeds}", *([f"[{low}, {high}]"] if _has_interval(row) else [])]


def brief_text(row: pd.Series) -> list[str]:
    """Of other recipes, of which there are many: effect, half the width of its interval."""
    if row["verdict"] in (NOT_TESTABLE, UNDETERMINED):
        return [DASH if row["verdict"] == NOT_TESTABLE else "?"]
    half = (row["high"] - row["low"]) / 2
    return [number_text(row["value"]), *([f"±{number_text(half)}"] if _has_interval(row) and half < HUGE else [])]


def _columns(claims: pd.DataFrame) -> list[Column]:
    """Tasks and their optimizers, in the order of the table."""
    tasks = list(dict.fromkeys(claims["task"]))
    return [(task, cell) for task in tasks for cell in dict.fromkeys(claims.loc[claims["task"] == task, "cell"])]


def _blocks(claims: pd.DataFrame) -> list[_Block]:
    every = _columns(claims)
    ours = [column for column in every if arm_of(column[1])]
    others = [column for column in every if not arm_of(column[1])]
    blocks = [_Block("The paper's recipes", ours, full_text, True)] if ours else []
    if others:
        block = _Block("Other recipes" if ours else "", others, full_text, not ours)
        wide = _across(_widths(block, claims)) > TEXT_WIDTH + 1e-6
        blocks.append(block._replace(words=brief_text) if wide else block)
    return blocks


def _across(widths: _Widths) -> float:
    return widths.middles[-1] + widths.cell / 2 + _EDGE


def _widths(block: _Block, claims: pd.DataFrame) -> _Widths:
    """The statement takes what the cells leave; many cells make the figure wider, not illegible."""
    names = list(dict.fromkeys(task for task, _ in block.columns))
    shown = claims[[column in block.columns for column in zip(claims["task"], claims["cell"], strict=True)]]
    cell = max(text_width(word) for _, row in shown.iterrows() for word in block.words(row)) + 0.04
    for task in names:  # a title's longest word is bold, and stands above the task's cells
        word = max(map(text_width, task_title(task).split()))
        cell = max(cell, (_BOLD * word + 0.04) / sum(one == task for one, _ in block.columns))
    # Beside its statement, which has two columns' room, a mechanism's name stands on a line of its own.
    beside = [claim for claim in claims["claim"] if not (block.statements and _of_mechanism(claim))]
    name = _BOLD * max(map(text_width, map(name_text, beside)), default=0.0) + 0.06
    gaps = _BETWEEN * (len(names) - 1)
    room = TEXT_WIDTH - 2 * _EDGE - name - gaps - (LEAST if block.statements else 0.0)
    cell = max(cell, min(room / len(block.columns), COLUMN))
    left = TEXT_WIDTH - 2 * _EDGE - name - gaps - cell * len(block.columns)
    statement = min(max(left, LEAST), STATEMENT) if block.statements else 0.0
    places = [_EDGE + name + statement + cell / 2]
    for (before, _), (task, _) in itertools.pairwise(block.columns):
        places.append(places[-1] + cell + (_BETWEEN if task != before else 0.0))
    return _Widths(name, statement, cell, places)


def data(view: "View") -> pd.DataFrame:
    """The claims on one task. **Raises** `ReoptError`."""
    claims = view.table("/claims.csv")
    return claims[claims["task"] == view.task]


@styled
def figure(tasks: Mapping[str, pd.DataFrame]) -> Figure:
    """A row a claim, a column a task and optimizer: the verdict by colour, the effect and its interval in numbers."""
    claims = pd.concat(tasks.values(), ignore_index=True)
    blocks = _blocks(claims)
    widths = [_widths(block, claims) for block in blocks]
    across = max(TEXT_WIDTH, *(_across(one) - 1e-6 for one in widths))
    drawing = Figure(figsize=(across, 1.0))
    ax = drawing.add_axes((0, 0, 1, 1), xlim=(0, across))
    ax.set_axis_off()
    top = 0.0
    for block, one in zip(blocks, widths, strict=True):
        top = _rows(ax, block, one, claims, _head(ax, block, one, claims, top))
    total = _legend(ax, top)
    ax.set_ylim(total, 0)
    drawing.set_size_inches(across, total)
    return drawing


def _head(ax: Axes, block: _Block, widths: _Widths, claims: pd.DataFrame, top: float) -> float:
    """Titles of a block, its tasks and optimizers; the place of the first row."""
    names = list(dict.fromkeys(task for task, _ in block.columns))
    top += 2 * _GAP
    if block.title:
        ax.text(_EDGE, top + _LINE, block.title, fontsize=8, fontweight="bold", gid="block")
        top += 1.5 * _LINE
    counts = claims.groupby(["task", "cell"])["seeds"].max()
    labels = [f"{look(cell).label} ({counts[task, cell]:.0f})" for task, cell in block.columns]
    tall = max(map(text_width, labels)) + 0.05
    heads = {
        task: _wrap(task_title(task), widths.cell * sum(one == task for one, _ in block.columns) - 0.02)
        for task in names
    }
    top += _LINE * max(map(len, heads.values())) + tall + _GAP
    for task, lines in heads.items():
        places = [middle for middle, (one, _) in zip(widths.middles, block.columns, strict=True) if one == task]
        for number, line in enumerate(reversed(lines)):
            at = top - tall - _GAP - _LINE * number
            ax.text((places[0] + places[-1]) / 2, at, line, ha="center", fontsize=7, fontweight="bold", gid="task")
    for text, middle in zip(labels, widths.middles, strict=True):
        ax.text(middle, top - 0.05, text, rotation=90, ha="center", va="bottom", fontsize=7, gid="cell")
    return top


def _rows(ax: Axes, block: _Block, widths: _Widths, claims: pd.DataFrame, top: float) -> float:
    """A row a claim; the place below the last one."""
    across = ax.get_xlim()[1]
    for name, group in claims.groupby("claim", sort=False):
        cells, below = group.set_index(["task", "cell"]), _of_mechanism(str(name)) and block.statements
        room = widths.statement - _BETWEEN + (widths.name if below else 0.0)
        lines = _wrap(_short(str(group["statement"].iloc[0])), room) if block.statements else []
        here = [
            (middle, cells.loc[[column]].iloc[0])
            for column, middle in zip(block.columns, widths.middles, strict=True)
            if column in cells.index
        ]
        if not block.statements and all(row["verdict"] == NOT_TESTABLE for _, row in here):
            continue
        words = [block.words(row) for _, row in here]
        height = _GAP + _LINE * max(len(lines) + below, 1, *map(len, words))
        ax.axhline(top, xmin=_EDGE / across, xmax=1 - _EDGE / across, color="#CCCCCC", linewidth=0.5)
        ax.text(_EDGE, top + _GAP / 2 + 0.8 * _LINE, name_text(str(name)), fontsize=7, fontweight="bold", gid="claim")
        for number, line in enumerate(lines):
            at = top + _GAP / 2 + _LINE * (number + 0.8 + below)
            ax.text(_EDGE + (0.0 if below else widths.name), at, line, fontsize=7, gid="statement")
        for (middle, row), written in zip(here, words, strict=True):
            _cell(ax, str(name), row, written, (middle, top, widths.cell, height))
        top += height
    return top


def _cell(ax: Axes, name: str, row: pd.Series, words: Sequence[str], place: tuple[float, float, float, float]) -> None:
    """A cell at (middle, top, width, height); along its foot, how large a share of the seeds the claim holds in."""
    middle, top, width, height = place
    _, color = VERDICTS[row["verdict"]]
    if row["verdict"] != NOT_TESTABLE:
        patch = Rectangle((middle - width / 2 + 0.01, top + 0.015), width - 0.02, height - 0.03)
        patch.set(facecolor=color, alpha=0.22, linewidth=0, gid=f"verdict {row['verdict']}")
        ax.add_patch(patch)
        share = row.get("share", np.nan)
        if np.isfinite(share) and row["seeds"] > 1:
            bar = Rectangle((middle - width / 2 + 0.01, top + height - 0.03), share * (width - 0.02), 0.015)
            ax.add_patch(bar)
            bar.set(facecolor=VERDICTS[HOLDS][1], linewidth=0, gid="share")
    first = top + height / 2 - _LINE * (len(words) - 1) / 2
    for number, word in enumerate(words):
        gid = f"{name} {row.name[0]} {row.name[1]}" if number == 0 else "interval"
        at = first + _LINE * number
        ax.text(middle, at, word, ha="center", va="center", fontsize=7, color=color, gid=gid)


def _legend(ax: Axes, top: float) -> float:
    """What colours and signs mean; the height of the figure."""
    left, top = _EDGE, top + 0.1
    for verdict, (symbol, color) in VERDICTS.items():
        if verdict != NOT_TESTABLE:
            patch = Rectangle((left, top), 0.18, 0.13)
            patch.set(facecolor=color, alpha=0.22, linewidth=0)
            ax.add_patch(patch)
        sign = symbol if verdict in (NOT_TESTABLE, UNDETERMINED) else ""
        ax.text(left + 0.09, top + 0.065, sign, ha="center", va="center", fontsize=7, color=color)
        ax.text(left + 0.24, top + 0.065, verdict, va="center", fontsize=7, color=color, gid="legend")
        left += 0.24 + text_width(verdict) + 0.2
    top += 0.2
    bar = Rectangle((_EDGE, top + 0.06), 0.18, 0.015)
    bar.set(facecolor=VERDICTS[HOLDS][1], linewidth=0)
    ax.add_patch(bar)
    words = "share of the seeds in which it holds"
    ax.text(_EDGE + 0.24, top + 0.065, words, va="center", fontsize=7, gid="legend")
    return top + 0.2


def caption(tasks: Mapping[str, pd.DataFrame]) -> str:
    """How many claims hold, hold in part, fail, say nothing and could not be tested, by recipe."""
    claims = pd.concat(tasks.values(), ignore_index=True)
    said = []
    for block in _blocks(claims):
        shown = claims[[column in block.columns for column in zip(claims["task"], claims["cell"], strict=True)]]
        counts = shown["verdict"].value_counts().to_dict()
        numbers = ", ".join(f"{counts.get(verdict, 0)} {verdict}" for verdict in VERDICTS)
        said.append(f"{block.title or 'all recipes'}: {numbers}")
    return (
        f"The paper's claims (T), one from the theory of linear methods (L), and what the examination finds, by"
        f" mechanism, with their verdicts ({'; '.join(said)})."
        " A row a claim, a column a task and an optimizer with its number of meta-training seeds. The colour says"
        " whether the claim holds, holds in part, or fails, by the criteria of the config: over seeds it is"
        " the middle grade, the lower one of two. In a cell stands the effect, over seeds its mean, and its 95%"
        " interval: in brackets, with n/N for n of N seeds in which the claim holds, or as half its width after ±."
        " ≪0 and ≫0 are sizes from a billion on, and a question mark says that too few seeds can be read."
        " Where there is no interval the effect is exact for the one network. Which number is measured, and the"
        " criteria, stand in the table of claims."
    )
