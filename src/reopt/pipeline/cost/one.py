"""What it costs to meta-train one optimizer, to tune baselines beside it and to judge all of them, without a config."""

from collections.abc import Callable

import pandas as pd

from reopt.evaluation.evaluate import problems_at_once
from reopt.optimizers.load import build_baseline
from reopt.pipeline.config import LearnedConfig
from reopt.pipeline.cost.counts import task_cost, tuning_flops, unroll_flops
from reopt.pipeline.cost.jobs import COLUMNS, Training, metatrain_row, size_of
from reopt.pipeline.cost.memory import unroll_bytes
from reopt.pipeline.cost.rates import metatrain_rate, tuning_rate, unroll_rate, untrained
from reopt.pipeline.setting import RIVALS, TUNING_PROBLEMS
from reopt.tasks.base import Task
from reopt.training.tune import draw_hyperparameters, lanes_for


def estimate_one(
    task: Task,
    settings: LearnedConfig,
    *,
    task_name: str,
    num_steps: int,
    draws: int,
    problems: int,
    say: Callable[[str], None] = lambda text: None,
) -> pd.DataFrame:
    """A row for meta-training, one for tuning `RIVALS` with `draws` draws each, one for judging all on `problems`.

    Columns and units as those of `reopt.pipeline.cost.jobs.estimate`.
    """
    cost = task_cost(task)
    subject = f"{settings.cell}{settings.units}"
    say(f"timing meta-gradients of {subject} on {task_name}")
    outer = metatrain_rate(task, settings, num_steps)
    say(f"timing runs of {subject} on {task_name}")
    held = settings.training.validation.problems
    validation = unroll_rate(untrained(settings), task, held, num_steps)
    rows = [
        {"work": "metatrain", "subject": subject}
        | metatrain_row(settings, task, num_steps, cost, Training(outer, validation))
    ]
    at_once = min(problems, problems_at_once(task))
    batch = size_of(settings, task, at_once)
    learned = unroll_rate(untrained(settings), task, at_once, num_steps).seconds(num_steps)
    flops = unroll_flops(batch._replace(problems=problems), num_steps, cost)
    rivals = RIVALS if draws else {}
    if rivals:
        say(f"timing tuning and evaluation on {task_name}")
        name = list(rivals)[-1]
        rate = tuning_rate(name, task, rivals[name], TUNING_PROBLEMS, draws)
        batches = draws / min(draws, lanes_for(TUNING_PROBLEMS, task.num_params))
        minutes = len(rivals) * (rate.fixed + batches * num_steps * rate.each) / 60
        tuning = len(rivals) * tuning_flops(draws, TUNING_PROBLEMS, num_steps, cost)
        rows.append(
            {"work": "tune", "subject": "all", "jobs": len(rivals), "flops": tuning, "peak_mb": float("nan")}
            | {"minutes": minutes}
        )
        values = draw_hyperparameters("momentum", rivals["momentum"], draws=1, seed=0)[1]
        momentum = build_baseline("momentum", {key: float(value[0]) for key, value in values.items()})
        learned += len(rivals) * unroll_rate(momentum, task, at_once, num_steps).seconds(num_steps)
        flops += len(rivals) * problems * num_steps * cost.gradient
    rows.append(
        {"work": "evaluate", "subject": "all", "jobs": 1 + len(rivals), "flops": flops}
        | {"peak_mb": unroll_bytes(batch, num_steps) / 1e6, "minutes": problems / at_once * learned / 60}
    )
    return pd.DataFrame([{"task": task_name} | row for row in rows]).reindex(columns=list(COLUMNS))
