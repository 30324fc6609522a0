"""Tasks by name: task NAME is the module `reopt.tasks.NAME`, with its `Settings` and `create(settings)`.

Nothing else is to be changed when a task is added: one module here, one block in the config.
"""

import importlib
import pkgutil
from types import ModuleType

import reopt.tasks
from reopt.core.errors import ReoptError

_NOT_TASKS = {"base", "networks", "registry", "subsets"}


def task_names() -> list[str]:
    """Names of the installed tasks."""
    return sorted(m.name for m in pkgutil.iter_modules(reopt.tasks.__path__) if m.name not in _NOT_TASKS)


def task_module(name: str) -> ModuleType:
    """The module of a task. **Raises** `ReoptError` where there is none."""
    if name not in task_names():
        raise ReoptError(f"unknown task {name!r}; there are: {', '.join(task_names())}")
    return importlib.import_module(f"reopt.tasks.{name}")
