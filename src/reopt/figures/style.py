"""The one style of all figures, so that the same arrays give the same bytes on any machine.

Nothing of the user's own settings is used: `style` starts from matplotlib's defaults, then `THEME`, then the lines
below. Text is in the DejaVu Sans that matplotlib brings along, never in a system font, and vector files carry
it as outlines. No label uses mathtext (it would look fonts up by another way): formulas are written in Unicode.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib
import matplotlib.style
from matplotlib.font_manager import FontEntry, fontManager

TEXT_WIDTH = 5.5
"""Width of the text of a page, in inches: every figure is that wide."""

FONT = "reopt DejaVu Sans"
"""Name under which matplotlib's own DejaVu Sans is registered: no system font can answer to it."""

DPI = 200

P = ParamSpec("P")
T = TypeVar("T")


def _register_font() -> None:
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    if any(entry.name == FONT for entry in fontManager.ttflist):
        return
    for file, weight, slant in (
        ("DejaVuSans.ttf", 400, "normal"),
        ("DejaVuSans-Bold.ttf", 700, "normal"),
        ("DejaVuSans-Oblique.ttf", 400, "oblique"),
        ("DejaVuSans-BoldOblique.ttf", 700, "oblique"),
    ):
        entry = FontEntry(
            fname=str(folder / file),
            name=FONT,
            style=slant,
            variant="normal",
            weight=weight,
            stretch="normal",
            size="scalable",
        )
        fontManager.ttflist.append(entry)


_register_font()

THEME: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": ".15",
    "axes.facecolor": "white",
    "axes.grid": False,
    "axes.labelcolor": ".15",
    "axes.spines.bottom": True,
    "axes.spines.left": True,
    "figure.facecolor": "white",
    "grid.color": ".8",
    "grid.linestyle": "-",
    "grid.linewidth": 0.8,
    "lines.solid_capstyle": "round",
    "patch.edgecolor": "w",
    "patch.force_edgecolor": True,
    "patch.linewidth": 0.8,
    "text.color": ".15",
    "xtick.bottom": True,
    "xtick.color": ".15",
    "xtick.direction": "out",
    "xtick.top": False,
    "ytick.color": ".15",
    "ytick.direction": "out",
    "ytick.left": True,
    "ytick.right": False,
}
"""What is used of seaborn's `ticks` style in its `paper` context; to import seaborn takes a second, for scipy.stats."""

RC: dict[str, Any] = {
    **THEME,
    "font.family": [FONT],
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "figure.titlesize": 9,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "legend.borderaxespad": 0.3,
    "legend.labelspacing": 0.3,
    "legend.columnspacing": 1.2,
    "axes.linewidth": 0.6,
    "axes.titlepad": 4,
    "axes.labelpad": 2,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "axes.formatter.use_locale": False,
    "axes.formatter.use_mathtext": False,
    "axes.formatter.min_exponent": 2,
    "axes.formatter.limits": (-3, 4),
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.major.pad": 2,
    "ytick.major.pad": 2,
    "image.cmap": "viridis",
    "figure.dpi": DPI,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.05,
    "savefig.dpi": DPI,
    "savefig.bbox": None,
    "savefig.facecolor": "white",
    "savefig.transparent": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "reopt",
    "svg.id": None,
    "pdf.fonttype": 42,
    "pdf.compression": 6,
    "text.usetex": False,
}


@contextmanager
def style() -> Iterator[None]:
    """In this context figures are made and written in the project's style, whatever the user's settings are."""
    with matplotlib.style.context(RC, after_reset=True):
        yield


def styled(function: Callable[P, T]) -> Callable[P, T]:
    """Run a figure function in `style`."""

    @functools.wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> T:
        with style():
            return function(*args, **kwargs)

    return inside
