"""Compare figures with reference pictures, pixel by pixel, and show the differences on a page.

    python -m reopt.figures.compare REFERENCE_DIR NEW_DIR --out figure-differences/

Pixels that differ by no more than `ROUNDING` are the same: a processor with other vector instructions rounds the
last bit of a curve in its own way, and moves an edge by a small part of a pixel.

Ends with 0 if every picture is the same, 1 if one differs, is missing or is new, 2 if a folder cannot be read.
"""

import argparse
import base64
import html
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from reopt.core.atomic import write_atomically
from reopt.core.errors import ReoptError

ROUNDING = 8
"""Levels of 255."""


class Comparison(NamedTuple):
    """One picture: `status` is "same", "same pixels", "differs", "missing" or "new"."""

    name: str
    status: str
    detail: str
    reference: bytes | None
    new: bytes | None
    difference: bytes | None

    @property
    def equal(self) -> bool:
        """Whether a viewer sees the same picture."""
        return self.status in ("same", "same pixels")


def _pixels(content: bytes, name: str) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(content)) as picture:
            return np.asarray(picture.convert("RGBA"), dtype=np.int16)
    except (UnidentifiedImageError, OSError) as error:
        raise ReoptError(f"{name}: not a PNG picture") from error


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, format="png")
    return buffer.getvalue()


def compare_pictures(name: str, reference: bytes, new: bytes) -> Comparison:
    """Compare two PNG files: bytes first, then pixels."""
    if reference == new:
        return Comparison(name, "same", "same bytes", reference, new, None)
    old, young = _pixels(reference, f"reference {name}"), _pixels(new, f"new {name}")
    if old.shape != young.shape:
        detail = f"size {old.shape[1]}×{old.shape[0]} became {young.shape[1]}×{young.shape[0]}"
        return Comparison(name, "differs", detail, reference, new, None)
    away = np.abs(old - young).max(axis=-1)
    if away.max() <= ROUNDING:
        detail = f"{int((away > 0).sum())} of {away.size} differ, by no more than {int(away.max())} of 255"
        return Comparison(name, "same pixels", detail, reference, new, None)
    # What is common stays as a pale ghost, so that the eye finds where a change is.
    ghost = 255 - (255 - young[..., :3].mean(axis=-1, keepdims=True)) * 0.25
    picture = np.broadcast_to(ghost, (*away.shape, 3)).copy()
    picture[away > 0] = (213, 0, 50)
    detail = f"{int((away > 0).sum())} of {away.size} pixels differ, by up to {int(away.max())} of 255"
    return Comparison(name, "differs", detail, reference, new, _png(picture))


def compare_folders(reference: Path, new: Path) -> list[Comparison]:
    """Compare all PNG files below two folders, by their relative paths. **Raises** `ReoptError`."""
    found = {}
    for folder in (reference, new):
        if not folder.is_dir():
            raise ReoptError(f"{folder}: there is no such folder")
        found[folder] = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.png")}
    if not found[reference] and not found[new]:
        raise ReoptError(f"{reference} and {new} hold no .png files to compare")
    comparisons = []
    for name in sorted({*found[reference], *found[new]}):
        old, young = (
            found[folder][name].read_bytes() if name in found[folder] else None for folder in (reference, new)
        )
        if old is None:
            comparisons.append(Comparison(name, "new", "has no reference", None, young, None))
        elif young is None:
            comparisons.append(Comparison(name, "missing", "was not made", old, None, None))
        else:
            comparisons.append(compare_pictures(name, old, young))
    return comparisons


def _cell(content: bytes | None, words: str) -> str:
    if content is None:
        return f"<td class='none'>{words}</td>"
    return f"<td><img alt='{words}' src='data:image/png;base64,{base64.b64encode(content).decode()}'></td>"


def page(comparisons: Sequence[Comparison]) -> str:
    """The comparison as one HTML file that needs nothing else: what differs with pictures, the rest as a list."""
    differing = [one for one in comparisons if not one.equal]
    rows = "".join(
        f"<h2>{html.escape(one.name)}</h2><p>{one.status}: {html.escape(one.detail)}</p><table><tr><th>reference</th>"
        f"<th>new</th><th>difference</th></tr><tr>{_cell(one.reference, 'no reference')}{_cell(one.new, 'not made')}"
        f"{_cell(one.difference, 'no difference picture')}</tr></table>"
        for one in differing
    )
    same = "".join(f"<li>{html.escape(one.name)}: {one.detail}</li>" for one in comparisons if one.equal)
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>Figure differences</title><style>"
        "body{font-family:sans-serif;margin:2em}img{width:100%;border:1px solid #ccc}table{width:100%}"
        "td{width:33%;vertical-align:top}.none{color:#888;text-align:center}</style>"
        f"<h1>{len(differing)} of {len(comparisons)} figures differ</h1>{rows}<h2>Same</h2><ul>{same}</ul></html>\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m reopt.figures.compare", description="Compare figures, pixel by pixel."
    )
    parser.add_argument("reference", type=Path, help="folder of reference pictures")
    parser.add_argument("new", type=Path, help="folder of new pictures")
    parser.add_argument("--out", type=Path, default=Path("figure-differences"), help="folder for index.html")
    options = parser.parse_args(arguments)
    try:
        comparisons = compare_folders(options.reference, options.new)
        content = page(comparisons)
        target = options.out / "index.html"
        write_atomically(target, lambda temporary: temporary.write_text(content, encoding="utf-8"))
    except ReoptError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for one in comparisons:
        print(f"{one.name}: {one.status} ({one.detail})")
    differing = sum(not one.equal for one in comparisons)
    print(f"{differing} of {len(comparisons)} figures differ; see {target}")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
