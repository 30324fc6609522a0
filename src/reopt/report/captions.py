"""The figures of a config in the order in which they are read, and their captions in parts."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

FIRST = ("performance", "momentum", "linearized", "clipping", "schedule", "adaptation", "causes", "cells", "beyond")
"""The figures that answer what a reader asks first; the others follow by name."""


class Caption(NamedTuple):
    """A caption in parts: a heading, what is drawn, and what is seen on each task (its title, and the words)."""

    title: str
    text: str
    tasks: tuple[tuple[str, str], ...]


def ordered_figures(folder: Path) -> list[Path]:
    """The drawings (SVG) of a folder, those that show the mechanisms first."""
    rank = {name: place for place, name in enumerate(FIRST)}
    return sorted(folder.glob("*.svg"), key=lambda path: (rank.get(path.stem, len(FIRST)), path.stem))


def split_caption(text: str, titles: Iterable[str]) -> Caption:
    """The parts of a figure's caption; `titles` are the written names of the tasks.

    >>> split_caption("Schedules. (a) The rate. Bowl: it falls. MNIST: it rises.", ["Bowl", "MNIST"])
    Caption(title='Schedules', text='(a) The rate.', tasks=(('Bowl', 'it falls.'), ('MNIST', 'it rises.')))
    """
    names = "|".join(map(re.escape, titles))
    head, *parts = re.split(rf"(?:(?<=[.:] )|^)({names}): ", " ".join(text.split())) if names else [text.strip()]
    sentence, _, rest = head.partition(". ")
    title = re.split(r" \(|: |, ", sentence.removesuffix("."), maxsplit=1)[0]
    whole = title == sentence.removesuffix(".")  # then the heading has said it
    tasks = tuple((name, words.strip()) for name, words in zip(parts[::2], parts[1::2], strict=True))
    return Caption(title, (rest if whole else head).strip(), tasks)
