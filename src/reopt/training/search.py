"""Search for a task's recipe: scales, features and learning rate, by short meta-trainings judged in validation.

Random search on a grid (Bergstra and Bengio, JMLR 13, 2012). A candidate that diverges has an infinite objective.
"""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reopt.core.errors import ReoptError
from reopt.tasks.base import Task
from reopt.training.metatrain import metatrain, write_state

if TYPE_CHECKING:
    from reopt.pipeline.config import LearnedConfig, SearchConfig

NAMES = ("features", "input_scale", "output_scale", "learning_rate")


def candidates(search: "SearchConfig") -> list[dict[str, Any]]:
    """Combinations to try, drawn without repetition; the first ones do not depend on how many are drawn."""
    grid = list(itertools.product(*(getattr(search, name) for name in NAMES)))
    order = np.random.default_rng(search.seed).permutation(len(grid))[: search.candidates]
    return [dict(zip(NAMES, grid[index], strict=True)) for index in order]


def shortened(settings: "LearnedConfig", recipe: dict[str, Any], outer_steps: int) -> "LearnedConfig":
    """The optimizer's entry with a candidate's values, all of them, and this many outer steps."""
    training = {name: value for name, value in settings.training if name not in ("outer_steps", "learning_rate")}
    training = json.loads(json.dumps(training, default=lambda section: section.model_dump(mode="json")))
    schedule = training["schedule"]
    if schedule["kind"] == "cosine":
        schedule["warmup_steps"] = min(schedule["warmup_steps"], outer_steps // 2)
    training |= {"outer_steps": outer_steps, "learning_rate": recipe["learning_rate"], "schedule": schedule}
    values = {name: recipe[name] for name in NAMES[:3]}
    model = type(settings.training).model_validate(training)
    return settings.model_copy(update=values | {"training": model})


def search_recipe(
    task: Task,
    settings: "LearnedConfig",
    search: "SearchConfig",
    *,
    task_name: str,
    num_steps: int,
    training_task: Task,
    state_folder: Path,
    report: Callable[[int, int, str], None] = lambda done, total, text: None,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Try the candidates one after the other.

    Returns the table (`candidate`, the values, `meta_objective`: best in validation, infinite where it diverged) and
    the recipe: the values of the best, with its `meta_objective`. Finished candidates leave their states in
    `state_folder`, so that a search that was killed goes on where it stopped.

    **Raises** `ReoptError` when every candidate diverges.
    """
    rows = []
    tried = candidates(search)
    for number, recipe in enumerate(tried):
        entry = shortened(settings, recipe, search.outer_steps)
        try:
            state_file = state_folder / f"{number}.safetensors"
            state, description = metatrain(
                task,
                entry,
                task_name=task_name,
                num_steps=num_steps,
                seed=search.seed,
                state_file=state_file,
                training_task=training_task,
            )
            write_state(state_file, state, description)
            value = float(state.best_validation)
        except ReoptError:  # it diverged: the words are of no use here
            value = float("inf")
        rows.append({"candidate": number, **recipe, "meta_objective": value})
        said = ", ".join(f"{name} {recipe[name]}" for name in NAMES)
        report(number + 1, len(tried), f"{said}: {value:.4f}")
    table = pd.DataFrame(rows)
    if not np.isfinite(table["meta_objective"]).any():
        raise ReoptError(f"every candidate for {task_name} diverged; try lower learning rates in its search")
    best = table.loc[table["meta_objective"].idxmin()]
    return table, {name: tried[int(best["candidate"])][name] for name in NAMES} | {
        "meta_objective": float(best["meta_objective"]),
        "candidates": len(tried),
    }
