"""The claims and their verdicts, as a table."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from reopt.figures.palette import VERDICTS, task_title
from reopt.figures.style import FONT, TEXT_WIDTH, styled

COLUMNS = {"claim": 0.4, "task": 0.7, "statement": 1.78, "value": 1.0, "criterion": 0.96, "verdict": 0.56}
"""Width of each column in inches; together the text width."""

_LINE, _GAP, _BETWEEN = 0.13, 0.1, 0.08
"""Height of a line of text, space between rows, space between columns, in inches."""

_FONT = FontProperties(family=[FONT], size=7)


def _wrap(text: str, width: float) -> list[str]:
    """Lines no wider than `width` inches, broken at spaces."""
    lines: list[str] = []
    for part in text.split("\n"):
        line = ""
        for word in part.split():
            longer = f"{line} {word}".strip()
            across, _, _ = text_to_path.get_text_width_height_descent(longer, _FONT, ismath=False)
            if line and across / 72 > width:
                lines.append(line)
                line = word
            else:
                line = longer
        lines.append(line)
    return lines


def number(value: float) -> str:
    """Three digits, a true minus; what is missing is a dash."""
    if value is None or not np.isfinite(value):
        return "–" if value is None or np.isnan(value) else ("∞" if value > 0 else "−∞")
    return f"{value:.3g}".replace("-", "−")


def value_text(row: pd.Series) -> str:
    """Value, interval over seeds if there are several, and their number."""
    text = number(row["value"])
    if row["seeds"] > 1 and np.isfinite(row["low"]) and np.isfinite(row["high"]):
        text += f"\n[{number(row['low'])}, {number(row['high'])}]"
    if row["seeds"] >= 1:
        text += f"\n{int(row['seeds'])} seed{'s' if row['seeds'] != 1 else ''}"
    return text


def _cells(row: pd.Series) -> dict[str, list[str]]:
    symbol, _ = VERDICTS[row["verdict"]]
    texts = {
        "claim": str(row["claim"]),
        "task": f"{task_title(row['task'])}\n{row['cell']}",
        "statement": str(row["statement"]),
        "value": value_text(row),
        "criterion": str(row["criterion"]),
        "verdict": f"{symbol} {row['verdict']}",
    }
    return {name: _wrap(texts[name], width - _BETWEEN) for name, width in COLUMNS.items()}


@styled
def figure(claims: pd.DataFrame) -> Figure:
    """A row a claim: what it says, the value with its interval, the criterion, the verdict as symbol, word, colour."""
    rows = [(_cells(row), row["verdict"]) for _, row in claims.iterrows()]
    heights = [_GAP + _LINE * max(map(len, cells.values())) for cells, _ in rows]
    total = sum(heights) + 2 * _GAP + _LINE
    drawing = Figure(figsize=(TEXT_WIDTH, total))
    ax = drawing.add_axes((0, 0, 1, 1), xlim=(0, TEXT_WIDTH), ylim=(total, 0))
    ax.set_axis_off()
    edges = dict(zip(COLUMNS, np.cumsum([0.05, *list(COLUMNS.values())[:-1]]), strict=True))
    for name, left in edges.items():
        ax.text(left, _GAP + _LINE / 2, name, va="center", fontweight="bold", fontsize=7)
    top = 1.5 * _GAP + _LINE
    for (cells, verdict), height in zip(rows, heights, strict=True):
        ax.axhline(top, xmin=0.05 / TEXT_WIDTH, xmax=1 - 0.05 / TEXT_WIDTH, color="#CCCCCC", linewidth=0.5)
        for name, left in edges.items():
            for number_of_line, line in enumerate(cells[name]):
                ax.text(
                    left,
                    top + _GAP / 2 + _LINE * (number_of_line + 0.8),
                    line,
                    va="baseline",
                    fontsize=7,
                    gid=name,
                    color=VERDICTS[verdict][1] if name == "verdict" else "black",
                    fontweight="bold" if name == "verdict" else "normal",
                )
        top += height
    return drawing


def caption(claims: pd.DataFrame) -> str:
    """How many claims hold, fail, and could not be tested."""
    counts = claims["verdict"].value_counts().to_dict()
    said = ", ".join(f"{counts.get(verdict, 0)} {verdict}" for verdict in VERDICTS)
    return (
        f"The paper's claims and their verdicts ({said}). Each row gives the value with its interval over meta-training"
        " seeds and their number, the criterion fixed beforehand, and the verdict."
    )
