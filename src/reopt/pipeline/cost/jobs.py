"""The jobs of a config, each with its FLOPs, its peak memory, and its minutes on this machine."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from reopt.core.errors import ReoptError
from reopt.evaluation.evaluate import problems_at_once
from reopt.examination.parts import PARTS
from reopt.figures.registry import figures
from reopt.optimizers.load import build_baseline
from reopt.pipeline.config import Config, LearnedConfig
from reopt.pipeline.cost.counts import Size, TaskCost, meta_gradient_flops, task_cost, tuning_flops, unroll_flops
from reopt.pipeline.cost.memory import meta_gradient_bytes, plan_of, unroll_bytes
from reopt.pipeline.cost.rates import Rate, metatrain_rate, start_up_seconds, tuning_rate, unroll_rate, untrained
from reopt.pipeline.stages import baselines_of, beside, caused, examined, judged, learned
from reopt.tasks.base import Task
from reopt.tasks.registry import task_module
from reopt.training.chunking import devices_for
from reopt.training.tune import draw_hyperparameters, lanes_for

COLUMNS = (
    "work",
    "task",
    "subject",
    "jobs",
    "flops",
    "peak_mb",
    "minutes",
    "measured_minutes",
    "predicted_to_measured",
)


# What is searched hardly changes what a run costs.
ANY_RECIPE = {"features": "raw", "input_scale": 1.0, "output_scale": 1.0, "learning_rate": 1e-3}


class Training(NamedTuple):
    """Rates of meta-training one optimizer: an outer step against inner steps, and a validation."""

    outer: Rate
    validation: Rate

    def minutes(self, settings: LearnedConfig, num_steps: int, *, twice: float = 0.0) -> float:
        """Of a whole run; `twice` is the share of a step's FLOPs that the plan does again."""
        training = settings.training
        outer = self.outer.fixed + num_steps * self.outer.each * (1 + twice)
        return (training.outer_steps * outer + validations(settings) * self.validation.seconds(num_steps)) / 60


def validations(settings: LearnedConfig) -> int:
    """How often a run is validated: every so many outer steps, and at the end."""
    return -(-settings.training.outer_steps // settings.training.validation.every)


def size_of(settings: LearnedConfig, task: Task, problems: int) -> Size:
    """The size of an optimizer on a batch of problems."""
    return Size(settings.cell, settings.units, settings.features, problems, task.num_params)


def metatrain_row(settings: LearnedConfig, task: Task, num_steps: int, cost: TaskCost, rates: Training) -> dict:
    """FLOPs, peak memory and minutes of one meta-training run."""
    training = settings.training
    size, held = (size_of(settings, task, part.problems) for part in (training, training.validation))
    plan = plan_of(training, size, num_steps)
    once = meta_gradient_flops(size, num_steps, cost)
    gradient = meta_gradient_flops(size, num_steps, cost, blocks=plan.blocks)
    flops = training.outer_steps * gradient + validations(settings) * unroll_flops(held, num_steps, cost)
    devices = len(
        devices_for(training.problems, training.cotangent_clipping.group if training.cotangent_clipping else 1)
    )
    peak = max(meta_gradient_bytes(size, num_steps, plan, devices), unroll_bytes(held, num_steps))
    minutes = rates.minutes(settings, num_steps, twice=gradient / once - 1)
    return {"jobs": 1, "flops": flops, "peak_mb": peak / 1e6, "minutes": minutes}


def measured_minutes(logs: Path, task: str, run: str) -> float:
    """Minutes of a meta-training job, start and compilation and all; NaN where no such job was timed.

    They stand in LOGS/TASK/metatrain/RUN.tsv, a benchmark file of Snakemake's (of a job that went on from where it
    had been stopped, the last part). **Raises** `ReoptError` where that file is another.
    """
    path = logs / task / "metatrain" / f"{run}.tsv"
    if not path.is_file():
        return float("nan")
    try:
        return float(pd.read_csv(path, sep="\t")["s"].iloc[0]) / 60
    except (OSError, ValueError, LookupError) as error:
        raise ReoptError(f"{path} is no benchmark file of Snakemake's; remove it") from error


def _evaluate_row(config: Config, plain: dict, name: str, task: Task, cost: TaskCost, known: "_Known") -> dict:
    """All evaluations of a task: every learned run, every baseline."""
    entry = config.tasks[name]
    problems = (entry.own.evaluation or config.evaluation).problems
    at_once = min(problems, problems_at_once(task))
    flops, peak, seconds = 0.0, 0.0, 0.0
    for given in entry.optimizers.values():
        settings = given.with_recipe(ANY_RECIPE)
        count, batch = len(settings.seeds), size_of(settings, task, at_once)
        rate = known.unroll(name, settings, task, at_once, entry.num_steps)
        flops += count * unroll_flops(batch._replace(problems=problems), entry.num_steps, cost)
        seconds += count * problems / at_once * rate.seconds(entry.num_steps)
        peak = max(peak, unroll_bytes(batch, entry.num_steps))
    others = len(judged(plain, name)) - len(learned(plain, name))
    momentum = draw_hyperparameters(
        "momentum", (entry.own.baselines or config.baselines).ranges["momentum"], draws=1, seed=0
    )[1]
    optimizer = build_baseline("momentum", {key: float(value[0]) for key, value in momentum.items()})
    rate = unroll_rate(optimizer, task, at_once, entry.num_steps)
    seconds += others * problems / at_once * rate.seconds(entry.num_steps)
    flops += others * problems * entry.num_steps * cost.gradient
    jobs = len(judged(plain, name))
    return {"jobs": jobs, "flops": flops, "peak_mb": peak / 1e6, "minutes": seconds / 60}


def _tune_row(config: Config, plain: dict, name: str, task: Task, num_steps: int, cost: TaskCost) -> dict:
    """All random searches of a task, as if no draw were dropped early, each at the rate of the last baseline."""
    baselines, names = config.tasks[name].own.baselines or config.baselines, baselines_of(plain, name)
    rate = tuning_rate(names[-1], task, baselines.ranges[names[-1]], baselines.problems, baselines.draws)  # type: ignore[index]
    batches = baselines.draws / min(baselines.draws, lanes_for(baselines.problems, task.num_params))
    seconds = len(names) * (rate.fixed + batches * num_steps * rate.each)
    flops = len(names) * tuning_flops(baselines.draws, baselines.problems, num_steps, cost)
    return {"jobs": len(names), "flops": flops, "peak_mb": float("nan"), "minutes": seconds / 60}


class _Known:
    """Rates that were measured: each size once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._rates: dict[tuple, Rate] = {}

    def unroll(self, name: str, settings: LearnedConfig, task: Task, problems: int, num_steps: int) -> Rate:
        key = (name, size_of(settings, task, problems))
        if key not in self._rates:
            self._say(f"timing runs of {settings.cell}-{settings.units} on {problems} problems of {name}")
            self._rates[key] = unroll_rate(untrained(settings), task, problems, num_steps)
        return self._rates[key]

    def training(self, name: str, settings: LearnedConfig, task: Task, num_steps: int) -> Training:
        training = settings.training
        key = (
            name,
            size_of(settings, task, training.problems),
            training.memory_mb,
            training.cotangent_clipping,
            training.estimator,
        )
        if key not in self._rates:
            self._say(f"timing meta-gradients of {settings.cell}-{settings.units} on {name}")
            self._rates[key] = metatrain_rate(task, settings, num_steps)
        return Training(self._rates[key], self.unroll(name, settings, task, training.validation.problems, num_steps))


def estimate(config: Config, *, logs: Path, say: Callable[[str], None] = lambda text: None) -> pd.DataFrame:
    """A row a meta-training run, and for each task one for all tunings and one for all evaluations.

    The last row is the start of all processes; of the analyses and figures it is all that is counted, for their work
    depends on what is found. Minutes are those of one job after the other, each on all of this machine.

    **Arguments:** `logs` is where the config's logs are, with what runs of it took; `say` is told what is timed.
    """
    plain, known = config.model_dump(), _Known(say)
    rows: list[dict[str, Any]] = []
    for name, entry in config.tasks.items():
        module = task_module(name)
        task = module.create(module.Settings.model_validate(entry.problem))
        cost = task_cost(task)
        for optimizer, given in entry.optimizers.items():
            settings = given.with_recipe(ANY_RECIPE)
            rates = known.training(name, settings, task, entry.num_steps)
            row = metatrain_row(settings, task, entry.num_steps, cost, rates)
            for seed in settings.seeds:
                run = f"{optimizer}-s{seed}"
                took = measured_minutes(logs, name, run)
                rows.append({"work": "metatrain", "task": name, "subject": run, **row, "measured_minutes": took})
        say(f"timing tuning and evaluation on {name}")
        tuned = _tune_row(config, plain, name, task, entry.num_steps, cost)
        rows.append({"work": "tune", "task": name, "subject": "all", **tuned})
        judged_row = _evaluate_row(config, plain, name, task, cost, known)
        rows.append({"work": "evaluate", "task": name, "subject": "all", **judged_row})
    analyses = sum(len(PARTS) * len(examined(plain, name)) + len(caused(plain, name)) + 1 for name in config.tasks)
    away = sum(1 + len(beside(plain, name)) for name in config.tasks)
    jobs = analyses + away + len(figures()) + 1 + sum(row["jobs"] for row in rows)
    say("timing the start of a process")
    rows.append(
        {"work": "start-up", "task": "all", "subject": "all", "jobs": jobs}
        | {"minutes": jobs * start_up_seconds() / 60}
    )
    table = pd.DataFrame(rows).reindex(columns=list(COLUMNS))
    table["predicted_to_measured"] = table["minutes"] / table["measured_minutes"]
    return table


def total(table: pd.DataFrame) -> dict[str, float]:
    """Sums of FLOPs and minutes, the largest peak, and the number of jobs, all of which are started."""
    return {
        "jobs": float(table.loc[table["work"] == "start-up", "jobs"].sum()),
        "flops": float(table["flops"].sum()),
        "peak_mb": float(table["peak_mb"].max()),
        "minutes": float(table["minutes"].sum()),
    }
