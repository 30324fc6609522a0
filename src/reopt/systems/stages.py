"""What each rule of the systems runs and reads: modules, and dotted keys of the config."""

from reopt.pipeline.stages import Stage
from reopt.systems.kinds import MODULES
from reopt.systems.schema import SystemsConfig

_TASK = ("kind", "problem", "num_steps")
_RIVALS = ("reopt.systems.rivals", "reopt.systems.judge")
_TRAINED = ("kind", "settings", "task", "measure", "training")


def training(config: SystemsConfig, system: str) -> Stage:
    """A meta-training; it reads nothing of other systems."""
    entry = config.systems[system]
    own = [f"systems.{system}.{key}" for key in _TRAINED]
    modules = ("reopt.systems.training", MODULES[entry.kind], _module(config, entry.task))
    return Stage(modules, (*of_task(entry.task), *own))


def tuning(config: SystemsConfig, task: str, rival: str) -> Stage:
    """A rival's settings on tuning problems."""
    return Stage((*_RIVALS, _module(config, task)), (*of_task(task), f"tasks.{task}.rivals.{rival}", "tuning"))


def judging_rival(config: SystemsConfig, task: str, rival: str) -> Stage:
    """A rival on held-out problems."""
    del rival
    return Stage((*_RIVALS, _module(config, task)), (*of_task(task), "judging"))


def judging_system(config: SystemsConfig, system: str) -> Stage:
    """A system on held-out problems."""
    entry = config.systems[system]
    modules = ("reopt.systems.kinds", "reopt.systems.judge", MODULES[entry.kind], _module(config, entry.task))
    return Stage(modules, (*of_task(entry.task), f"systems.{system}.factors", "tuning", "judging"))


def reading(config: SystemsConfig, system: str) -> Stage:
    """Mechanisms of a system, read in its context."""
    entry = config.systems[system]
    modules = ("reopt.published.in_context", "reopt.systems.kinds", MODULES[entry.kind], _module(config, entry.task))
    return Stage(modules, (*of_task(entry.task), "reading"))


def comparing() -> Stage:
    """All systems against all rivals."""
    return Stage(("reopt.systems.summary",), ("systems", "tasks", "judging"))


def claiming() -> Stage:
    """Verdicts on the claims."""
    return Stage(("reopt.systems.summary",), ("systems", "tasks", "claims"))


def drawing() -> Stage:
    """The figure."""
    return Stage(("reopt.figures.systems", "reopt.figures.save"), ("systems", "tasks"))


def _module(config: SystemsConfig, task: str) -> str:
    return f"reopt.systems.{config.tasks[task].kind}"


def of_task(task: str) -> tuple[str, ...]:
    """Keys of a task, but for its rivals."""
    return tuple(f"tasks.{task}.{key}" for key in _TASK)


def read_files(config: SystemsConfig) -> list[str]:
    """The verdicts on mechanisms, relative to the config's folder of results; of systems that are no variants."""
    return [
        f"{entry.task}/readings/{name}-s{seed}/verdicts.csv"
        for name, entry in config.systems.items()
        for seed in entry.seeds
        if entry.variant_of is None
    ]


def judged_files(config: SystemsConfig) -> list[str]:
    """The tables of held-out problems, relative to the config's folder of results."""
    systems = [
        f"{entry.task}/systems/{name}-s{seed}/problems.csv"
        for name, entry in config.systems.items()
        for seed in entry.seeds
    ]
    rivals = [f"{name}/rivals/{rival}/problems.csv" for name, task in config.tasks.items() for rival in task.rivals]
    return [*systems, *rivals]
