"""What each stage of the pipeline depends on: the modules it runs and the config keys it reads.

The rules take their `params` from here, and the commands may read no other key: what a rule declares is what its
command can see.
"""

from dataclasses import dataclass
from typing import Any

from reopt.errors import ReoptError
from reopt.optimizers.classical import BASELINES

POLYAK = "polyak"  # heavy ball with the rates that theory gives for the task's eigenvalue range


@dataclass(frozen=True)
class Stage:
    """Modules that a stage runs (it also depends on what they import), and dotted keys of the config it reads."""

    modules: tuple[str, ...]
    keys: tuple[str, ...]


def _task(task: str, *more: str) -> tuple[str, ...]:
    return (f"tasks.{task}.problem", f"tasks.{task}.num_steps", *more)


_ANALYSES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "record": (("reopt.dynamics.record",), ("analysis.record",)),
    "fixed_points": (("reopt.dynamics.fixed_points",), ("analysis.fixed_points",)),
    "linearize": (("reopt.dynamics.linearization",), ("evaluation",)),
    "pca": (("reopt.dynamics.pca",), ()),
    "update_functions": (("reopt.mechanisms.clipping",), ("analysis.clipping",)),
    "gradient_density": (("reopt.mechanisms.clipping",), ("analysis.clipping",)),
    "schedule": (("reopt.mechanisms.schedule",), ()),
    "adaptation": (("reopt.mechanisms.adaptation",), ("analysis.adaptation",)),
}
ANALYSES = tuple(_ANALYSES)
FIGURES = {  # figure: its category in the report
    "performance": "Performance",
    "momentum": "Mechanisms",
    "clipping": "Mechanisms",
    "schedule": "Mechanisms",
    "adaptation": "Mechanisms",
    "linearized": "Mechanisms",
    "conditions": "Task and training",
    "training": "Task and training",
    "tuning": "Task and training",
    "claims": "Claims",
}
_SUBJECT = ("reopt.subjects",)


def stage(name: str, *, task: str = "", optimizer: str = "", baseline: str = "") -> Stage:
    """The stage called `name` for this task, optimizer or baseline. **Raises** `ReoptError` for an unknown one."""
    problem = (f"reopt.tasks.{task}",) if task else ()
    if name == "metatrain":
        entry = f"tasks.{task}.optimizers.{optimizer}"
        parts = ("cell", "units", "features", "input_scale", "output_scale", "training")
        return Stage(("reopt.training.metatrain", *problem), _task(task, *(f"{entry}.{part}" for part in parts)))
    if name == "tune":
        if baseline not in BASELINES:
            raise ReoptError(f"no baseline is called {baseline!r}; there are: {', '.join(BASELINES)}")
        drawn = ("baselines.draws", "baselines.problems", "baselines.seed", f"baselines.ranges.{baseline}")
        return Stage(("reopt.training.tune", *problem), _task(task, *drawn))
    if name == "evaluate":
        return Stage((*_SUBJECT, "reopt.training.evaluate", *problem), _task(task, "evaluation"))
    if name == "conditions":
        return Stage(("reopt.training.conditions", *problem), _task(task, "evaluation"))
    if name in _ANALYSES:
        needs, reads = _ANALYSES[name]
        return Stage((*_SUBJECT, *needs, *problem), _task(task, *reads))
    raise ReoptError(f"no stage is called {name!r}")


def _of_every_task(config: dict[str, Any], *keys: str) -> tuple[str, ...]:
    return tuple(f"tasks.{task}.{key}" for task in config["tasks"] for key in keys)


def figure_stage(config: dict[str, Any], name: str) -> Stage:
    """A figure, for all tasks side by side. `config` is the file's content."""
    modules: tuple[str, ...] = (f"reopt.figures.{name}", "reopt.figures.save", "reopt.figure_data")
    if name == "performance":
        modules += ("reopt.figures.schematic",)
    return Stage(modules, _of_every_task(config, "shown", "problem"))


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


def judged(config: dict[str, Any], task: str) -> list[str]:
    """The subjects that are evaluated."""
    reference = [POLYAK] if "log10_eigenvalues" in config["tasks"][task]["problem"] else []
    return [*learned(config, task), *baselines_of(config), *reference]


def baselines_of(config: dict[str, Any]) -> list[str]:
    """The baselines that a config tunes, in a fixed order."""
    return [name for name in BASELINES if name in config["baselines"]["ranges"]]
