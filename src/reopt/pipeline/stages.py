"""What each stage of the pipeline depends on: the modules it runs and the config keys it reads.

The rules take their `params` from here, and the commands may read no other key: what a rule declares is what its
command can see.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reopt.core.errors import ReoptError
from reopt.examination.parts import PARTS, files_of
from reopt.figures.registry import figures
from reopt.figures.view import View
from reopt.mechanisms.registry import mechanism_modules
from reopt.optimizers.names import BASELINE_NAMES, THEORY

SEARCHED = "searched"  # in place of a value that the task's search finds


_CLAIMED = (  # parts of an examination that claims are judged by
    *("recording", "points", "linearization", "modes", "impulse", "linearized", "pca"),
    *("update_functions", "clipping", "schedule", "adaptation", "readings"),
)


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


_ABLATION = (("reopt.mechanisms.ablation", "reopt.core.determinism"), ("evaluation",))
_SUBJECT = ("reopt.pipeline.subjects",)


def stage(config: dict[str, Any], name: str, *, task: str, optimizer: str = "", baseline: str = "") -> Stage:
    """The stage called `name` for this task, optimizer or baseline. **Raises** `ReoptError` for an unknown one.

    `config` is the file's content: which blocks a task has of its own decides what its stages read.
    """
    problem = (f"reopt.tasks.{task}",)
    if name == "metatrain":
        estimator = _estimator(config, task, optimizer)
        return Stage(("reopt.training.metatrain", estimator, *problem), _task(task, *_entry(task, optimizer)))
    if name == "search":
        search = config["tasks"][task].get("search")
        if not search:
            raise ReoptError(f"tasks.{task}.search is null: there is nothing to search")
        used = _entry(task, search["optimizer"], for_search=True)
        estimator = _estimator(config, task, search["optimizer"])
        return Stage(("reopt.training.search", estimator, *problem), _task(task, f"tasks.{task}.search", *used))
    if name == "tune":
        if baseline not in BASELINE_NAMES:
            raise ReoptError(f"no baseline is called {baseline!r}; there are: {', '.join(BASELINE_NAMES)}")
        own = block(config, task, "baselines")
        drawn = [f"{own}.{key}" for key in ("draws", "early_stopping", "problems", "seed", f"ranges.{baseline}")]
        return Stage(("reopt.training.tune", *problem), _task(task, *drawn))
    if name == "evaluate":
        theory = ("reopt.dynamics.linear_theory",) if theory_of(config, task) else ()
        return Stage(
            (*_SUBJECT, "reopt.evaluation.evaluate", *theory, *problem), _task(task, block(config, task, "evaluation"))
        )
    if name == "landscape":
        return Stage(
            (*_SUBJECT, "reopt.evaluation.landscape", *problem), _task(task, block(config, task, "evaluation"))
        )
    if name == "conditions":
        return Stage(("reopt.evaluation.conditioning", *problem), _task(task, block(config, task, "evaluation")))
    if name == "beyond":
        runs = (block(config, task, "evaluation"), block(config, task, "record"))
        needs = ("reopt.evaluation.shift", "reopt.mechanisms.failure")
        return Stage((*_SUBJECT, *needs, *problem), _task(task, *runs, "analysis.adaptation.low_quantile"))
    if name == "transfer":
        return Stage((*_SUBJECT, "reopt.evaluation.shift", *problem), _task(task, block(config, task, "evaluation")))
    if name == "control":
        return Stage((*_SUBJECT, "reopt.examination.control", *problem), _task(task, "analysis.controls"))
    if name == "foretell":
        return Stage((*_SUBJECT, "reopt.examination.foretell", *problem), _task(task))
    if name in PARTS or name == "causes":
        modules, reads = (PARTS[name].modules, PARTS[name].keys) if name in PARTS else _ABLATION
        if name == "verdicts":
            modules = (*modules, *_mechanisms())
        keys = [block(config, task, key) if key in ("evaluation", "record") else key for key in reads]
        return Stage((*_SUBJECT, *modules, *problem), _task(task, *keys))
    raise ReoptError(f"no stage is called {name!r}")


def _estimator(config: dict[str, Any], task: str, optimizer: str) -> str:
    """The module of the estimator that an optimizer is trained with."""
    return f"reopt.training.{config['tasks'][task]['optimizers'][optimizer]['training']['estimator']['kind']}"


# What a search takes from an optimizer's training; it has outer steps and learning rates of its own.
_SEARCH_TRAINING = (
    *("problem", "problems", "schedule", "beta1", "beta2", "eps", "clip", "l2_penalty"),
    *("estimator", "cotangent_clipping", "average", "memory_mb", "validation"),
)


def _entry(task: str, optimizer: str, *, for_search: bool = False) -> list[str]:
    """Keys of an optimizer's entry, but for its seeds, which no single run depends on."""
    if for_search:
        parts = ["cell", "units", "input_fan_in", *(f"training.{name}" for name in _SEARCH_TRAINING)]
    else:
        parts = ["cell", "units", "features", "input_scale", "output_scale", "input_fan_in", "training"]
    return [f"tasks.{task}.optimizers.{optimizer}.{part}" for part in parts]


def _of_every_task(config: dict[str, Any], *keys: str) -> tuple[str, ...]:
    return tuple(f"tasks.{task}.{key}" for task in config["tasks"] for key in keys)


def _mechanisms() -> tuple[str, ...]:
    """Modules that no import names, for the registry finds them."""
    return tuple(f"reopt.mechanisms.{module}" for module in mechanism_modules())


def figure_stage(config: dict[str, Any], name: str) -> Stage:
    """A figure, for all tasks side by side. `config` is the file's content."""
    modules = (f"reopt.figures.{name}", "reopt.figures.save", "reopt.figures.view", *_mechanisms())
    return Stage(modules, _of_every_task(config, "shown", "problem", "num_steps"))


def figure_files(config: dict[str, Any], name: str) -> list[str]:
    """The files a figure reads, relative to the config's folder of results."""
    files = [file for task in config["tasks"] for file in view(config, name, task).files]
    return list(dict.fromkeys(files))


def view(config: dict[str, Any], figure: str, task: str, results: Path = Path()) -> View:
    """What a figure sees of a task. `config` is the file's content, `results` its folder of results."""
    block, tasks = config["tasks"][task], list(config["tasks"])
    shown, runs = block["shown"], learned(config, task)
    family = shown.rpartition("-s")[0]
    subjects = {
        "shown": [shown],
        "seeds": [subject for subject in runs if subject != shown and subject.rpartition("-s")[0] == family],
        "learned": runs,
        "examined": examined(config, task),
        "judged": judged(config, task),
        "caused": caused(config, task),
        "away": [shown, *beside(config, task)],
        "baselines": baselines_of(config, task),
        "rmsprop": [subject for subject in examined(config, task) if subject == "rmsprop"],
        "task": [task],
        "searched": [task] if block.get("search") else [],
    }
    return View(task, tasks, block, subjects, results, figures()[figure].reads)


def claims_files(config: dict[str, Any]) -> list[str]:
    """The files the claims are judged by, relative to the config's folder of results."""
    files = []
    for task in config["tasks"]:
        runs = learned(config, task)
        files += [f"{task}/evaluation/{subject}.csv" for subject in judged(config, task)]
        files += [f"{task}/analysis/{subject}/{file}" for subject in runs for file in files_of(*_CLAIMED)]
        files += [f"{task}/analysis/rmsprop/{file}" for file in files_of("adaptation")]
    return files


def claims_stage(config: dict[str, Any]) -> Stage:
    """The claims, over all tasks."""
    keys = ("claims", *_of_every_task(config, "problem", "num_steps"))
    return Stage(("reopt.pipeline.claims", *_mechanisms()), keys)


def learned(config: dict[str, Any], task: str) -> list[str]:
    """The meta-trained subjects of a task: OPTIMIZER-sSEED."""
    optimizers = config["tasks"][task]["optimizers"]
    return [f"{name}-s{seed}" for name, entry in optimizers.items() for seed in entry["seeds"]]


def examined(config: dict[str, Any], task: str) -> list[str]:
    """The subjects whose mechanisms are examined."""
    return [*learned(config, task), *config["analysis"]["analysed_baselines"]]


def caused(config: dict[str, Any], task: str) -> list[str]:
    """The subjects whose mechanisms are taken away: the run that is shown, and the first of each other optimizer."""
    shown, optimizers = config["tasks"][task]["shown"], config["tasks"][task]["optimizers"]
    first = [f"{name}-s{entry['seeds'][0]}" for name, entry in optimizers.items() if name != shown.rpartition("-s")[0]]
    return [shown, *first]


def judged(config: dict[str, Any], task: str) -> list[str]:
    """The subjects that are evaluated."""
    return [*learned(config, task), *baselines_of(config, task), *theory_of(config, task)]


def theory_of(config: dict[str, Any], task: str) -> tuple[str, ...]:
    """The optimizers that theory gives for a task: those of quadratics."""
    return THEORY if "log10_eigenvalues" in config["tasks"][task]["problem"] else ()


def controlled(config: dict[str, Any], task: str) -> list[str]:
    """The subjects of which readings are known beforehand."""
    names = [entry["optimizer"] for entry in config["analysis"]["controls"] if entry["task"] == task]
    return [subject for subject in learned(config, task) if subject.rpartition("-s")[0] in names]


def baselines_of(config: dict[str, Any], task: str) -> list[str]:
    """The baselines that are tuned on a task, in a fixed order."""
    ranges = lookup(config, block(config, task, "baselines"))["ranges"]
    return [name for name in BASELINE_NAMES if name in ranges]


def beside(config: dict[str, Any], task: str) -> list[str]:
    """The baselines that are run away from home beside the shown learned optimizer."""
    return [name for name in baselines_of(config, task) if name == "momentum"]


def is_searched(config: dict[str, Any], task: str, optimizer: str) -> bool:
    """Whether an optimizer's entry leaves a value to the task's search."""
    entry = config["tasks"][task]["optimizers"][optimizer]
    values = (entry["features"], entry["input_scale"], entry["output_scale"], entry["training"]["learning_rate"])
    return SEARCHED in values
