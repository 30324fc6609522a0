"""One colour, line style, marker and written name for each optimizer, the same in every figure.

The colours are of Okabe and Ito's set, which the colour-blind can tell apart; dashes and markers say it again.
"""

import re
import zlib
from typing import NamedTuple

from matplotlib.colors import to_hex, to_rgb


class Look(NamedTuple):
    """How an optimizer is drawn."""

    label: str
    color: str
    dashes: str | tuple[float, tuple[float, ...]]
    marker: str


_SOLID = "-"
_BASELINES = {
    "sgd": Look("SGD", "#808080", (0.0, (1.0, 1.2)), "v"),
    "momentum": Look("Momentum", "#0072B2", (0.0, (5.0, 1.5)), "s"),
    "rmsprop": Look("RMSProp", "#009E73", (0.0, (3.0, 1.2, 1.0, 1.2)), "D"),
    "adam": Look("Adam", "#CC79A7", (0.0, (5.0, 1.2, 1.0, 1.2, 1.0, 1.2)), "^"),
    "adam_decay": Look("Adam, decayed", "#56B4E9", (0.0, (2.5, 1.0)), "P"),
    "polyak": Look("Polyak (theory)", "#000000", (0.0, (1.0, 2.0)), "*"),
    "best_linear": Look("Best linear (theory)", "#4D4D4D", (0.0, (6.0, 1.0, 1.0, 1.0)), "X"),
}
_CELLS = {"gru": ("GRU", "#D55E00"), "lstm": ("LSTM", "#6A3D9A"), "vanilla": ("Vanilla RNN", "#8C4A2F")}
_NAMED = {  # learned, by a recipe of the authors; the units differ from task to task
    "paper": Look("Paper's recipe", "#B59B00", _SOLID, "o"),
    "tutorial": Look("Tutorial recipe", "#7A6A00", _SOLID, "o"),
}
_OTHER_COLORS = ("#A6761D", "#B3589A", "#5F7A2B", "#E6AB02", "#5B5B9A")

NEGATIVE, POSITIVE, NEUTRAL = "#0072B2", "#D55E00", "#808080"
"""Colours of two opposite things (such as arms of negative and positive gradients) and of what is neither."""

VERDICTS = {
    "holds": ("✔", "#007A5E"),
    "in part": ("◐", "#8A6500"),
    "fails": ("✘", "#C03D00"),
    "undetermined": ("?", "#4B5C96"),
    "not testable": ("–", "#6E6E6E"),
}
"""Symbol and colour of a claim's verdict."""

TASKS = {
    "quadratic": "Quadratic",
    "rosenbrock": "Rosenbrock",
    "two_moons": "Two moons",
    "moons": "Two moons",
    "mnist": "MNIST",
}


def split_seed(subject: str) -> tuple[str, int | None]:
    """`gru32-s0` is seed 0 of the family `gru32`; a name without seed is its own family."""
    match = re.fullmatch(r"(.+)-s(\d+)", subject)
    return (match[1], int(match[2])) if match else (subject, None)


def is_learned(subject: str) -> bool:
    """Whether it is a learned optimizer: neither a baseline nor the theory."""
    return split_seed(subject)[0] not in _BASELINES


def look(subject: str) -> Look:
    """How a subject is drawn; the seeds of a family look alike, and larger cells are darker."""
    family, _ = split_seed(subject)
    if family in _BASELINES or family in _NAMED:
        return (_BASELINES | _NAMED)[family]
    cell = next((cell for cell in _CELLS if family.startswith(cell)), None)
    if cell is None:
        return Look(family, _OTHER_COLORS[zlib.crc32(family.encode()) % len(_OTHER_COLORS)], _SOLID, "o")
    name, color = _CELLS[cell]
    match = re.match(r"_?(\d{1,5})", family[len(cell) :])
    rest = family[len(cell) :]
    if match is None:
        return Look(f"{name} {rest.strip('_').replace('_', ' ')}".strip(), color, _SOLID, "o")
    suffix = rest[match.end() :].strip("_").replace("_", " ")
    darker = 0.12 * max(0, int(match[1]).bit_length() - 6)
    red, green, blue = ((1 - min(darker, 0.5)) * part for part in to_rgb(color))
    color = to_hex((red, green, blue))
    return Look(f"{name}-{match[1]} {suffix}".strip(), color, _SOLID, "o")


def label(subject: str, *, seed: bool = False) -> str:
    """The written name of a subject, with its meta-training seed if asked for."""
    number = split_seed(subject)[1]
    return f"{look(subject).label} (seed {number})" if seed and number is not None else look(subject).label


def order(subjects: list[str]) -> list[str]:
    """Baselines in a fixed order, then the theory, then learned families and their seeds."""
    fixed = list(_BASELINES)

    def key(subject: str) -> tuple:
        family, seed = split_seed(subject)
        return (fixed.index(family), "", 0) if family in fixed else (len(fixed), family, -1 if seed is None else seed)

    return sorted(dict.fromkeys(subjects), key=key)


def task_title(task: str) -> str:
    """The written name of a task."""
    return TASKS.get(task, task.replace("_", " ").capitalize())


def parameter_words(name: str) -> str:
    """The written name of a hyperparameter."""
    return name.replace("_", " ").replace("beta1", "β₁").replace("beta2", "β₂").replace("eps", "ε")
