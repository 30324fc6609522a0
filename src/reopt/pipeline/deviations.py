"""Where a config departs from another, such as the one with the paper's sizes: a row for each value that differs."""

from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from reopt.pipeline.config import Config

COLUMNS = ("task", "optimizer", "key", "reference", "here")
ABSENT = "-"


def deviations(config: "Config", reference: "Config") -> pd.DataFrame:
    """Values of `config` that differ from those of `reference`.

    Returns a table with the columns `task`, `optimizer` (all of those that have the value; `-` for what belongs to
    the task), `key`, `reference` and `here`, the values as text. Each optimizer is compared with the one that the
    reference shows for the task; a task that the reference lacks, or has beyond, is a row of its own.
    """
    rows: list[tuple[str, str, str, str, str]] = []
    for name in dict.fromkeys((*config.tasks, *reference.tasks)):
        if name not in config.tasks or name not in reference.tasks:
            there, here = (str(name in one.tasks).lower() for one in (reference, config))
            rows.append((name, ABSENT, "task", there, here))
            continue
        task, other = config.tasks[name].model_dump(mode="json"), reference.tasks[name].model_dump(mode="json")
        own = {key: task[key] for key in ("problem", "num_steps")}
        rows += [(name, ABSENT, *row) for row in _differences(own, {key: other[key] for key in own})]
        shown = other["optimizers"][other["shown"].rsplit("-s", 1)[0]]
        found: dict[tuple[str, str, str], list[str]] = {}
        for optimizer, entry in task["optimizers"].items():
            for row in _differences(entry, shown):
                found.setdefault(row, []).append(optimizer)
        rows += [(name, " ".join(having), *row) for row, having in found.items()]
    return pd.DataFrame(rows, columns=pd.Index(COLUMNS))


def _differences(here: dict[str, Any], there: dict[str, Any]) -> list[tuple[str, str, str]]:
    flat, other = _flat(here), _flat(there)
    both = dict.fromkeys((*other, *flat))
    pairs = [(key, other.get(key, ABSENT), flat.get(key, ABSENT)) for key in both]
    return [(key, before, after) for key, before, after in pairs if before != after]


def _flat(section: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted key to value as text."""
    found: dict[str, str] = {}
    for key, value in section.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = "none" if value is None else str(value)
    return found
