"""Where an examination takes place: the task, its horizon, and the tuned baselines to compare with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from reopt.config import Range, load_config
from reopt.errors import ReoptError
from reopt.optimizers.base import Optimizer
from reopt.subjects import load_baseline, load_object
from reopt.tasks.base import Task
from reopt.tasks.registry import task_module, task_names
from reopt.training.tune import build_baseline, tune

STEPS = 201  # of a run where no config says otherwise, as on the paper's quadratics
RATE = Range(low=1e-4, high=100.0, scale="log")
_DECAY = Range(low=0.0, high=0.9999, scale="one_minus_log")
_EPS = Range(low=1e-8, high=10.0, scale="log")
RIVALS: dict[str, dict[str, Range]] = {  # wide ranges, for a task of which nothing is known
    "momentum": {"learning_rate": RATE, "momentum": Range(low=0.0, high=0.999, scale="one_minus_log")},
    "rmsprop": {"learning_rate": RATE, "decay": _DECAY, "eps": _EPS},
    "adam": {
        "learning_rate": RATE,
        "beta1": Range(low=0.0, high=0.99, scale="one_minus_log"),
        "beta2": _DECAY,
        "eps": _EPS,
    },
}
TUNING_PROBLEMS = 64


class Setting(NamedTuple):
    """A task by name, its horizon, and the folder of results in which baselines may lie tuned."""

    name: str
    task: Task
    num_steps: int
    results: Path


def setting_of(words: str, *, config: Path | None, steps: int | None, default: Path) -> Setting:
    """The setting of `--task WORDS`: a task of the config, an installed task with its defaults, or `file.py:task`.

    Without a `config` the file `default` is taken for one, if it is there.

    **Raises** `ReoptError`.
    """
    if ":" in words:
        name = words.rpartition(":")[2]
        return Setting(name, _as_task(load_object(words), words), steps or STEPS, Path("results"))
    if config is None and default.is_file():
        config = default
    if config is None:
        module = task_module(words)
        task = next(
            kind()
            for kind in vars(module).values()
            if isinstance(kind, type) and issubclass(kind, Task) and kind is not Task
        )
        return Setting(words, task, steps or STEPS, Path("results"))
    checked = load_config(config)
    if words not in checked.tasks:
        raise ReoptError(f"{config} has no task {words!r}; it has: {', '.join(checked.tasks)}")
    module, block = task_module(words), checked.tasks[words]
    task = module.create(module.Settings.model_validate(block.problem))
    return Setting(words, task, steps or block.num_steps, Path("results") / checked.name)


def _as_task(found: Any, words: str) -> Task:
    """A task from an object: a `Task`, or a function or class that gives one; seen to give finite losses."""
    if not isinstance(found, Task) and callable(found):
        try:
            found = found()
        except (Exception, SystemExit) as error:
            raise ReoptError(f"{words}() failed: {type(error).__name__}: {error}") from error
    if not isinstance(found, Task):
        known = ", ".join(task_names())
        raise ReoptError(f"{words} is a {type(found).__name__}, not a reopt.tasks.base.Task (installed tasks: {known})")
    try:
        problem = found.sample(jax.random.key(0))
        params = found.initial_params(problem)
        loss = found.loss(problem, params, jax.numpy.zeros((), int))
        if params.shape != (found.num_params,) or loss.shape != ():
            raise ValueError(f"parameters of shape {params.shape} and a loss of shape {loss.shape}")
    except Exception as error:
        raise ReoptError(f"{words} cannot give a problem and its loss: {type(error).__name__}: {error}") from error
    return found


def tuned_rivals(where: Setting, *, draws: int, seed: int, say: Callable[[str], None]) -> dict[str, Optimizer]:
    """Tuned baselines: those of the pipeline if they lie in the folder of results, else tuned now (0 draws: none)."""
    folder = where.results / where.name / "baselines"
    ready = {path.stem: load_baseline(path) for path in sorted(folder.glob("*.json")) if "." not in path.stem}
    if ready:
        say(f"baselines from {folder}")
        return ready
    rivals: dict[str, Optimizer] = {}
    for name, ranges in RIVALS.items() if draws else ():
        say(f"tuning {name}: {draws} draws")
        _, winner = tune(
            name, where.task, ranges, draws=draws, problems=TUNING_PROBLEMS, seed=seed, num_steps=where.num_steps
        )
        rivals[name] = build_baseline(name, winner["hyperparameters"])
    return rivals
