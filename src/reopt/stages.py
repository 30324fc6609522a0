"""What each stage of the pipeline depends on: the modules it runs and the config keys it reads.

The rules take their `params` from here, and the commands may read no other key: what a rule declares is what its
command can see.
"""

from dataclasses import dataclass
from typing import Any

from reopt.errors import ReoptError
from reopt.names import POLYAK
from reopt.optimizers.classical import BASELINES

SEARCHED = "searched"  # in place of a value that the task's search finds


@dataclass(frozen=True)
class Stage:
    """Modules that a stage runs (it also depends on what they import), and dotted keys of the config it reads."""

    modules: tuple[str, ...]
    keys: tuple[str, ...]


def _task(task: str, *more: str) -> tuple[str, ...]:
    return (f"tasks.{task}.problem", f"tasks.{task}.num_steps", *more)


def block(config: dict[str, Any], task: str, name: str) -> str:
    """Dotted key of the block of a task: its own, or the config's. `name` is baselines, evaluation or record."""
    if config["tasks"][task]["own"].get(name) is not None:
        return f"tasks.{task}.own.{name}"
    return "analysis.record" if name == "record" else name


def lookup(config: dict[str, Any], key: str) -> Any:
    """The value at a dotted key of a config's content."""
    value = config
    for part in key.split("."):
        value = value[part]
    return value


_ANALYSES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "record": (("reopt.dynamics.record",), ("record",)),
    "fixed_points": (("reopt.dynamics.fixed_points",), ("analysis.fixed_points",)),
    "linearize": (("reopt.dynamics.linearization",), ("evaluation",)),
    "pca": (("reopt.dynamics.pca",), ()),
    "update_functions": (("reopt.mechanisms.clipping",), ("analysis.clipping",)),
    "gradient_density": (("reopt.mechanisms.clipping",), ("analysis.clipping",)),
    "schedule": (("reopt.mechanisms.schedule",), ()),
    "adaptation": (("reopt.mechanisms.adaptation",), ("analysis.adaptation",)),
    "causes": (("reopt.mechanisms.causes", "reopt.arithmetic"), ("evaluation",)),
}
ANALYSES = tuple(name for name in _ANALYSES if name != "causes")  # of every examined subject
FIGURES = {  # figure: its category in the report
    "performance": "Performance",
    "momentum": "Mechanisms",
    "clipping": "Mechanisms",
    "schedule": "Mechanisms",
    "adaptation": "Mechanisms",
    "cells": "Mechanisms",
    "linearized": "Mechanisms",
    "causes": "Mechanisms",
    "beyond": "Generalisation",
    "conditions": "Task and training",
    "training": "Task and training",
    "recipe": "Task and training",
    "tuning": "Task and training",
    "hyperparameters": "Task and training",
    "claims": "Claims",
}
_SUBJECT = ("reopt.subjects",)


def stage(config: dict[str, Any], name: str, *, task: str, optimizer: str = "", baseline: str = "") -> Stage:
    """The stage called `name` for this task, optimizer or baseline. **Raises** `ReoptError` for an unknown one.

    `config` is the file's content: which blocks a task has of its own decides what its stages read.
    """
    problem = (f"reopt.tasks.{task}",)
    if name == "metatrain":
        return Stage(("reopt.training.metatrain", *problem), _task(task, *_entry(task, optimizer)))
    if name == "search":
        search = config["tasks"][task].get("search")
        if not search:
            raise ReoptError(f"tasks.{task}.search is null: there is nothing to search")
        used = _entry(task, search["optimizer"], for_search=True)
        return Stage(("reopt.training.search", *problem), _task(task, f"tasks.{task}.search", *used))
    if name == "tune":
        if baseline not in BASELINES:
            raise ReoptError(f"no baseline is called {baseline!r}; there are: {', '.join(BASELINES)}")
        own = block(config, task, "baselines")
        drawn = [f"{own}.{key}" for key in ("draws", "give_up", "problems", "seed", f"ranges.{baseline}")]
        return Stage(("reopt.training.tune", *problem), _task(task, *drawn))
    if name == "evaluate":
        return Stage((*_SUBJECT, "reopt.training.evaluate", *problem), _task(task, block(config, task, "evaluation")))
    if name == "landscape":
        return Stage((*_SUBJECT, "reopt.training.landscape", *problem), _task(task, block(config, task, "evaluation")))
    if name == "conditions":
        return Stage(("reopt.training.conditions", *problem), _task(task, block(config, task, "evaluation")))
    if name == "beyond":
        runs = (block(config, task, "evaluation"), block(config, task, "record"))
        needs = ("reopt.training.beyond", "reopt.mechanisms.breaking")
        return Stage((*_SUBJECT, *needs, *problem), _task(task, *runs, "analysis.adaptation.low_quantile"))
    if name == "transfer":
        return Stage((*_SUBJECT, "reopt.training.beyond", *problem), _task(task, block(config, task, "evaluation")))
    if name in _ANALYSES:
        modules, reads = _ANALYSES[name]
        keys = [block(config, task, key) if key in ("evaluation", "record") else key for key in reads]
        return Stage((*_SUBJECT, *modules, *problem), _task(task, *keys))
    raise ReoptError(f"no stage is called {name!r}")


# What a search takes from an optimizer's training; it has outer steps and learning rates of its own.
_SEARCH_TRAINING = (
    *("problem", "problems", "schedule", "beta1", "beta2", "eps", "clip", "l2_penalty"),
    *("estimator", "calm", "average", "memory_mb", "validation"),
)


def _entry(task: str, optimizer: str, *, for_search: bool = False) -> list[str]:
    """Keys of an optimizer's entry, but for its seeds, which no single run depends on."""
    if for_search:
        parts = ["cell", "units", *(f"training.{name}" for name in _SEARCH_TRAINING)]
    else:
        parts = ["cell", "units", "features", "input_scale", "output_scale", "training"]
    return [f"tasks.{task}.optimizers.{optimizer}.{part}" for part in parts]


def _of_every_task(config: dict[str, Any], *keys: str) -> tuple[str, ...]:
    return tuple(f"tasks.{task}.{key}" for task in config["tasks"] for key in keys)


def figure_stage(config: dict[str, Any], name: str) -> Stage:
    """A figure, for all tasks side by side. `config` is the file's content."""
    modules = (f"reopt.figures.{name}", "reopt.figures.save", "reopt.figure_data")
    keys = ("shown", "problem", "num_steps") if name == "beyond" else ("shown", "problem")
    return Stage(modules, _of_every_task(config, *keys))


def claims_stage(config: dict[str, Any]) -> Stage:
    """The claims, over all tasks."""
    return Stage(("reopt.claims",), ("claims", *_of_every_task(config, "problem", "num_steps")))


def learned(config: dict[str, Any], task: str) -> list[str]:
    """The meta-trained subjects of a task: OPTIMIZER-sSEED."""
    optimizers = config["tasks"][task]["optimizers"]
    return [f"{name}-s{seed}" for name, entry in optimizers.items() for seed in entry["seeds"]]


def examined(config: dict[str, Any], task: str) -> list[str]:
    """The subjects whose mechanisms are examined."""
    return [*learned(config, task), *config["analysis"]["probes"]]


def caused(config: dict[str, Any], task: str) -> list[str]:
    """The subjects whose mechanisms are taken away: the run that is shown, and the first of each other optimizer."""
    shown, optimizers = config["tasks"][task]["shown"], config["tasks"][task]["optimizers"]
    first = [f"{name}-s{entry['seeds'][0]}" for name, entry in optimizers.items() if name != shown.rpartition("-s")[0]]
    return [shown, *first]


def judged(config: dict[str, Any], task: str) -> list[str]:
    """The subjects that are evaluated."""
    reference = [POLYAK] if "log10_eigenvalues" in config["tasks"][task]["problem"] else []
    return [*learned(config, task), *baselines_of(config, task), *reference]


def baselines_of(config: dict[str, Any], task: str) -> list[str]:
    """The baselines that are tuned on a task, in a fixed order."""
    ranges = lookup(config, block(config, task, "baselines"))["ranges"]
    return [name for name in BASELINES if name in ranges]


def beside(config: dict[str, Any], task: str) -> list[str]:
    """The baselines that are run away from home beside the shown learned optimizer."""
    return [name for name in baselines_of(config, task) if name == "momentum"]


def is_searched(config: dict[str, Any], task: str, optimizer: str) -> bool:
    """Whether an optimizer's entry leaves a value to the task's search."""
    entry = config["tasks"][task]["optimizers"][optimizer]
    values = (entry["features"], entry["input_scale"], entry["output_scale"], entry["training"]["learning_rate"])
    return SEARCHED in values
