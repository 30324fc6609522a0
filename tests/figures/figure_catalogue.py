"""The figures by name, and arguments for each from the closed-form tables."""

import importlib
from types import ModuleType
from typing import Any

import figure_data
import pandas as pd

from reopt.figures.registry import figures

NAMES = [*figures(), "difference", "remainder"]
OF_NO_TASK = ("difference", "remainder")

OF_RUNS = ("performance", "training")
TASKS = ("quadratic", "rosenbrock", "two_moons", "mnist")


def module(name: str) -> ModuleType:
    return importlib.import_module(f"reopt.figures.{name}")


def arguments(name: str, tasks: tuple[str, ...] = ("quadratic",)) -> Any:
    """What `figure` and `caption` of that module take."""
    if name in OF_NO_TASK:
        return getattr(figure_data, name)()
    if name == "claims":
        return by_task(figure_data.claims())
    if name == "beyond":
        return {task: figure_data.beyond(home=task) for task in tasks}
    return {task: getattr(figure_data, name)() for task in tasks}


def by_task(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {str(task): rows for task, rows in table.groupby("task", sort=False)}


def many(name: str) -> Any:
    """The same for four tasks with many runs each."""
    if name == "claims":
        return by_task(figure_data.claims_of_many())
    given = arguments(name, TASKS)
    if name in OF_RUNS:
        return {task: getattr(figure_data, name)(runs=figure_data.MANY) for task in TASKS}
    if name == "recipe":
        given["two_moons"] = None
    if name == "conditions":  # networks are convex at no start
        given["mnist"] = given["mnist"].assign(condition_number=float("nan")).head(9)
    return given
