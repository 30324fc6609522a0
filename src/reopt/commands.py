"""What the commands share: reading a stage's slice of the config, its task, and writing provenance."""

import contextlib
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reopt.artifacts.provenance import write_provenance
from reopt.artifacts.tables import read_json
from reopt.config import RECIPE, LearnedConfig, SearchConfig, TrainingConfig, load_config
from reopt.errors import ReoptError
from reopt.stages import Stage, block, stage
from reopt.tasks.base import Task
from reopt.tasks.registry import task_module
from snakedvc import SnakedvcError, sources


class Slice:
    """The part of a config that one stage declares; any other key is refused."""

    def __init__(self, path: Path, name: str, *, task: str, **names: Any) -> None:
        config = load_config(path)
        if task not in config.tasks:
            raise ReoptError(f"{path} has no task {task!r}; it has: {', '.join(config.tasks)}")
        self.path = path
        self.name = config.name
        self._plain = config.model_dump(exclude_none=True)
        self.stage: Stage = stage(self._plain, name, task=task, **names)
        self.task_name = task
        self._values = {key: _lookup(config, key, path) for key in self.stage.keys}

    def __getitem__(self, key: str) -> Any:
        if key not in self._values:
            raise KeyError(f"stage reads config key {key!r}, which it does not declare in reopt.stages")
        return self._values[key]

    def block(self, name: str) -> Any:
        """The task's block called baselines, evaluation or record: its own, or the config's."""
        return self[block(self._plain, self.task_name, name)]

    def of_baselines(self, key: str) -> Any:
        """A value of the task's block of baselines."""
        return self[f"{block(self._plain, self.task_name, 'baselines')}.{key}"]

    @property
    def results(self) -> Path:
        """The folder of this config's results."""
        return Path("results") / self.name

    @property
    def task(self) -> Task:
        """The task, as its block says."""
        return self.task_but({})

    def task_but(self, others: dict[str, Any]) -> Task:
        """The task with some settings that are others than in its block."""
        module = task_module(self.task_name)
        return module.create(module.Settings.model_validate(self.problem | others))

    @property
    def problem(self) -> dict[str, Any]:
        """The task's own settings."""
        return self[f"tasks.{self.task_name}.problem"]

    @property
    def num_steps(self) -> int:
        """Steps of a run on the task."""
        return self[f"tasks.{self.task_name}.num_steps"]

    def learned(self, optimizer: str) -> LearnedConfig:
        """An optimizer's entry, but for its list of seeds, which no single run depends on."""
        entry = f"tasks.{self.task_name}.optimizers.{optimizer}"
        names = [key.removeprefix(f"{entry}.") for key in self._values if key.startswith(f"{entry}.")]
        values = {name: self[f"{entry}.{name}"] for name in names}
        if "training" not in values:  # a search has declared the parts of it that it reads
            parts = {name.removeprefix("training."): values.pop(name) for name in names if "." in name}
            values["training"] = TrainingConfig.model_construct(**parts)
        return LearnedConfig.model_construct(seeds=[], **values)

    @property
    def search(self) -> SearchConfig:
        """The task's search for a recipe. **Raises** `ReoptError` where it has none."""
        found = self[f"tasks.{self.task_name}.search"]
        if found is None:
            raise ReoptError(f"{self.path}: tasks.{self.task_name}.search is null: there is nothing to search")
        return found

    def data(self) -> dict[str, str]:
        """Digests of the data that the task's problems are made of; empty where they are made of none."""
        return self.task.provenance()

    def plain(self) -> dict[str, Any]:
        """The slice as JSON values."""
        return {key: _plain(value) for key, value in self._values.items()}

    def code(self) -> dict[str, str]:
        """The source this stage uses: file to sha256; empty outside the repository."""
        try:
            return sources(*self.stage.modules)
        except SnakedvcError:
            return {}

    def record(self, path: Path, inputs: Iterable[Path] = (), **settings: Any) -> None:
        """Write the provenance of this stage's artifacts to `path`."""
        write_provenance(
            path,
            stage=self.stage.modules[0],
            code=self.code(),
            settings=self.plain() | settings,
            inputs=sorted(Path(item) for item in inputs),
        )


def with_recipe(settings: LearnedConfig, path: Path | None, where: str) -> LearnedConfig:
    """The entry with what is searched filled in from `recipe.json`. **Raises** `ReoptError` where that is missing."""
    if not settings.searched:
        return settings
    if path is None:
        raise ReoptError(f"{where} leaves {', '.join(settings.searched)} to a search: give its recipe.json as --recipe")
    recipe = read_json(path)
    if missing := [name for name in RECIPE if not isinstance(recipe, dict) or name not in recipe]:
        raise ReoptError(f"{path} is no recipe written by reopt search: it has no {missing[0]}")
    try:  # a search among these values alone would find them
        alone = {"optimizer": "x", "candidates": 1, "outer_steps": 1, "seed": 0}
        SearchConfig.model_validate(alone | {name: [recipe[name]] for name in RECIPE})
    except ValidationError as error:
        name = error.errors()[0]["loc"][0]
        raise ReoptError(f"{path} is no recipe written by reopt search: its {name} is no possible value") from error
    return settings.with_recipe(recipe)


def use_cores(count: int) -> None:
    """Make each of `count` cores a device of its own, and keep what is compiled; before jax computes anything."""
    import jax

    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
    with contextlib.suppress(RuntimeError):  # in a process that has computed before, they are what they are
        jax.config.update("jax_num_cpu_devices", count)
    warnings.filterwarnings(
        "ignore", message="Error (reading|writing) persistent compilation cache"
    )  # then it compiles
    jax.config.update("jax_compilation_cache_dir", str(Path(".reopt/compiled").absolute()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _lookup(config: Any, key: str, path: Path) -> Any:
    value = config
    for part in key.split("."):
        try:
            value = value[part] if isinstance(value, dict) else getattr(value, part)
        except (KeyError, AttributeError) as error:
            raise ReoptError(f"{path} has no {key}") from error
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


@contextlib.contextmanager
def results_of_ours(folder: Path) -> Iterator[None]:
    """Turn what comes of tables with other columns, types or rows than ours into a `ReoptError`."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ReoptError(f"files below {folder} are not as reopt writes them ({reason}); make them again") from error


def writable(*paths: Path) -> None:
    """Fail before the work, not after it, where an output cannot be written. **Raises** `ReoptError`."""
    for path in paths:
        folder = path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise ReoptError(f"cannot write {path}: {error.filename} is not a folder") from error
        except OSError as error:
            raise ReoptError(f"cannot write {path}: {error.strerror}") from error
        if path.exists() and not path.is_file():
            raise ReoptError(f"cannot write {path}: a folder or a device stands there")
        if not os.access(folder, os.W_OK):
            raise ReoptError(f"cannot write {path}: its folder is not writable")
