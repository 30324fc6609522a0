"""Figures as files: the same figure gives the same bytes, in any process, folder, time zone or locale.

Dates, program names and random identifiers are left out; the layout is settled once, before the first file, so that
the order of formats does not matter.
"""

import io
import re
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from reopt.core.atomic import write_atomically
from reopt.core.errors import ReoptError
from reopt.figures.axes import thin_labels
from reopt.figures.style import style

_METADATA: dict[str, dict[str, str | None]] = {
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "ModDate": None, "Creator": None, "Producer": None},
}


def render(figure: Figure, kind: str, *, dpi: int | None = None) -> bytes:
    """The figure as a file's content; `kind` is "svg", "png" or "pdf". **Raises** `ReoptError` for another kind."""
    if kind not in _METADATA:
        raise ReoptError(f"figures cannot be written as {kind!r}: use .svg, .png or .pdf")
    buffer = io.BytesIO()
    with style():
        settle(figure)
        figure.savefig(buffer, format=kind, metadata=_METADATA[kind], dpi=dpi or figure.dpi)
    return _PLACE.sub(_shorten, buffer.getvalue()) if kind == "svg" else buffer.getvalue()


def settle(figure: Figure) -> None:
    """Fix the layout, once, and hide tick labels for which it leaves no room; within `style`."""
    if figure.get_layout_engine() is not None:
        # Constrained layout starts from where it ended before: a second pass moves axes by a hair.
        figure.draw_without_rendering()
        figure.set_layout_engine(None)  # with "none" there is still an engine, for which a file would be drawn twice
        _round_positions(figure)
        thin_labels(figure)


_PLACE = re.compile(rb' (?:d|x|y)="[^"]*"')
_LONG = re.compile(rb"-?\d+\.\d{3,}")


def _shorten(place: re.Match[bytes]) -> bytes:
    """Coordinates to a hundredth of a point, which no eye resolves."""
    return _LONG.sub(lambda number: f"{float(number[0]):.2f}".encode(), place[0])


def _round_positions(figure: Figure) -> None:
    # The layout's solver orders its variables by memory address, so that positions differ in their last bits from
    # process to process, and SVG names clip paths by a hash of all bits.
    for axes in figure.axes:
        for which in ("original", "active"):
            bounds = axes.get_position(original=which == "original").bounds
            axes._set_position([round(float(bound), 6) for bound in bounds], which=which)  # type: ignore[attr-defined]


def save(figure: Figure, *paths: Path | str) -> None:
    """Write the figure to each path, as its suffix says. **Raises** `ReoptError`."""
    for path in map(Path, paths):
        content = render(figure, path.suffix.removeprefix("."))
        write_atomically(path, partial(_write, content=content))


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
