"""The figures that there are: each module of this package with a `CATEGORY`, read without importing it.

A figure is one module:

- `CATEGORY`, its category in the report;
- `READS`, what it is drawn from, by group of subjects (those of `View.subjects`): attributes of an `Examination`, or
  paths relative to the task's results, in which `{subject}` and `{other}` stand for a subject and each other task;
- `data(view)`, one task's data of these files; `figure(tasks)` and `caption(tasks)` of the data by task.

One with `of(examination)` is drawn of any optimizer that is dissected, if a mechanism has the figure's name. The
pipeline reads this list each time that it plans, so that nothing is imported here that draws or computes.
"""

import ast
import importlib
import pkgutil
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import reopt.figures
from reopt.core.errors import ReoptError

Reads = dict[str, tuple[str, ...]]
"""What is read of each subject of a group."""


class Declared(NamedTuple):
    """What a figure's module says of it; `examines`: it has an `of`."""

    category: str
    reads: Reads
    examines: bool


@cache
def figures() -> dict[str, Declared]:
    """Every figure of the pipeline by name. **Raises** `ReoptError` where one does not say what it reads."""
    found = {}
    for module in pkgutil.iter_modules(reopt.figures.__path__):
        path = Path(reopt.figures.__path__[0]) / f"{module.name}.py"
        text = path.read_text(encoding="utf-8")
        if "\nCATEGORY = " in text:
            found[module.name] = _declared(ast.parse(text), path)
    return found


def figure_module(name: str) -> ModuleType:
    """The module of a figure. **Raises** `ReoptError` where there is none."""
    if name not in figures():
        raise ReoptError(f"no figure is called {name!r}; there are: {', '.join(figures())}")
    return importlib.import_module(f"{reopt.figures.__name__}.{name}")


def _declared(tree: ast.Module, path: Path) -> Declared:
    values: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            try:
                values |= {name: ast.literal_eval(node.value)} if name in ("CATEGORY", "READS") else {}
            except ValueError as error:
                raise ReoptError(f"{path}: {name} must be written out, for it is read without running") from error
    if "READS" not in values:
        raise ReoptError(f"{path} has a CATEGORY, but no READS: what is the figure drawn from?")
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    return Declared(values["CATEGORY"], values["READS"], "of" in functions)
