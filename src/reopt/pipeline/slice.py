"""What the commands share: reading a stage's slice of the config, its task, and writing provenance."""

import contextlib
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from reopt.core.atomic import check_writable
from reopt.core.errors import ReoptError
from reopt.core.provenance import write_provenance
from reopt.core.tables import files_read, read_json
from reopt.examination.settings import Settings
from reopt.pipeline.config import RECIPE, Config, LearnedConfig, SearchConfig, TrainingConfig, load_config
from reopt.pipeline.stages import Stage, block, lookup, stage
from reopt.tasks.base import Task
from reopt.tasks.registry import task_module

SETTINGS: dict[str, dict[str, str]] = {
    "record": {"problems": "problems", "state_problems": "state_problems", "max_params": "params", "seed": "seed"},
    "analysis.fixed_points": {
        "visited_seeds": "visited_seeds",
        "perturbed_seeds": "perturbed_seeds",
        "perturbation": "perturbation",
        "search_seed": "seed",
        "tolerance": "tolerance",
        "max_iterations": "max_iterations",
        "merge_distance": "merge_distance",
    },
    "analysis.clipping": {"shifts": "shifts", "grid": "grid", "range_factor": "range_factor", "bins": "bins"},
    "analysis.adaptation": {
        "gradients": "gradients",
        "low_quantile": "low_quantile",
        "high_quantile": "high_quantile",
    },
    "evaluation": {"evaluation_problems": "problems", "evaluation_seed": "seed"},
}
"""Fields of an examination's `Settings` by the block of the config that they are in, and their keys there."""


def settings_from(config: Config, task: str) -> Settings:
    """How a config has a task's optimizers examined."""
    plain = config.model_dump(exclude_none=True)
    values: dict[str, Any] = {"num_steps": config.tasks[task].num_steps}
    for name, fields in SETTINGS.items():
        key = block(plain, task, name) if name in ("record", "evaluation") else name
        found = lookup(plain, key)
        values |= {field: found[part] for field, part in fields.items()}
    return Settings(**values)


class _Declared:
    """The settings that a stage declares; any other is refused."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._values:
            raise KeyError(f"stage reads setting {name!r} of a config block that it does not declare")
        return self._values[name]


class Slice:
    """The part of a config that one stage declares; any other key is refused."""

    def __init__(self, path: Path, name: str, *, task: str, **names: Any) -> None:
        config = load_config(path)
        if task not in config.tasks:
            raise ReoptError(f"{path} has no task {task!r}; it has: {', '.join(config.tasks)}")
        optimizer = names.get("optimizer")
        if optimizer is not None and optimizer not in config.tasks[task].optimizers:
            raise ReoptError(f"{path} has no tasks.{task}.optimizers.{optimizer}")
        self.path = path
        self.name = config.name
        self._plain = config.model_dump(exclude_none=True)
        self.stage: Stage = stage(self._plain, name, task=task, **names)
        self.task_name = task
        self._values = {key: _lookup(config, key, path) for key in self.stage.keys}

    def __getitem__(self, key: str) -> Any:
        if key not in self._values:
            raise KeyError(f"stage reads config key {key!r}, which it does not declare in reopt.pipeline.stages")
        return self._values[key]

    def block(self, name: str) -> Any:
        """The task's block called baselines, evaluation or record: its own, or the config's."""
        return self[block(self._plain, self.task_name, name)]

    @property
    def settings(self) -> Settings:
        """The settings of an examination, of the blocks that the stage declares."""
        values: dict[str, Any] = {"num_steps": self.num_steps}
        for name, fields in SETTINGS.items():
            key = block(self._plain, self.task_name, name) if name in ("record", "evaluation") else name
            if key in self._values:
                values |= {field: getattr(self._values[key], part) for field, part in fields.items()}
        return cast(Settings, _Declared(values))

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
            from snakedvc import SnakedvcError, sources
        except ImportError:  # a distribution of its own, which only the pipeline needs
            return {}
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


_MOST_CORES = 64


def use_cores(count: int) -> None:
    """Make each of `count` cores a device of its own, and keep what is compiled; before jax computes anything."""
    import jax

    most = max(_MOST_CORES, os.cpu_count() or 1)
    if count > most:
        raise ReoptError(f"{count} threads are more than {most}, which is all that a job here can make use of")
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
    """Where a file below `folder` that was read in here is not as reopt writes it, say so in place of what came of it.

    **Raises** `ReoptError`, then; any other error is one of ours, and passes.
    """
    with files_read() as files:
        try:
            yield
        except ReoptError:
            raise
        except Exception as error:
            from reopt.pipeline.formats import misfit

            for path in dict.fromkeys(files):
                if path.is_relative_to(folder) and (wrong := misfit(path)):
                    raise ReoptError(f"{path} is not as reopt writes it: {wrong}; make it again") from error
            raise


def writable(*paths: Path) -> None:
    """Fail before the work, not after it, where an output cannot be written. **Raises** `ReoptError`."""
    for path in paths:
        check_writable(path)
