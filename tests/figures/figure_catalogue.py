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
]


def module(name: str) -> ModuleType:
    return importlib.import_module(f"reopt.figures.{name}")


def arguments(name: str, tasks: tuple[str, ...] = ("quadratic",)) -> Any:
    """What `figure` and `caption` of that module take."""
    if name == "claims":
        return figure_data.claims()
    return {task: getattr(figure_data, name)() for task in tasks}
