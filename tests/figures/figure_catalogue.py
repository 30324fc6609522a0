"""The figures by name, and arguments for each from the closed-form tables."""

import importlib
from types import ModuleType
from typing import Any

import figure_data

NAMES = [
    "performance",
    "momentum",
    "clipping",
    "schedule",
    "adaptation",
    "conditions",
    "training",
    "tuning",
    "linearized",
    "claims",
    "difference",
    "remainder",
]
OF_NO_TASK = ("claims", "difference", "remainder")


def module(name: str) -> ModuleType:
    return importlib.import_module(f"reopt.figures.{name}")


def arguments(name: str, tasks: tuple[str, ...] = ("quadratic",)) -> Any:
    """What `figure` and `caption` of that module take."""
    if name in OF_NO_TASK:
        return getattr(figure_data, name)()
    return {task: getattr(figure_data, name)() for task in tasks}
