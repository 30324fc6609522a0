"""Subjects that see more than their own gradient, by the words that a command is given."""

from typing import NamedTuple

from reopt.core.errors import ReoptError
from reopt.optimizers.joint import Joint

PUBLISHED = "open:"
"""Begins the name of a file of published weights."""


class Seeing(NamedTuple):
    """An optimizer with a context, its name, and whether its file itself says how its numbers are to be read."""

    name: str
    joint: Joint
    layout_known: bool


def sees_more(words: str) -> bool:
    """Whether the words are a file of published weights, `open:FILE`, or a checkpoint of a system."""
    from reopt.systems.kinds import is_system

    return words.startswith(PUBLISHED) or is_system(words)


def load_seeing(words: str) -> Seeing:
    """What the words name. **Raises** `ReoptError` where the file is none of these."""
    from reopt.published.open_rl import load_open
    from reopt.systems import kinds

    if words.startswith(PUBLISHED):
        return Seeing("open", load_open(words.removeprefix(PUBLISHED)), False)
    if not kinds.is_system(words):
        raise ReoptError(f"{words} is no checkpoint of a system, and no file of published weights, {PUBLISHED}FILE")
    loaded = kinds.load(words)
    return Seeing(str(loaded.about["kind"]), loaded.joint, True)
