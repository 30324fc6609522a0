"""Random search over baselines, raced, against one plain vmapped search that runs every draw to its end.

Both are timed as a user meets them, compilation and all.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import Timing, result, seconds
from reopt.evaluation.keys import problem_key
from reopt.evaluation.unroll import meta_objective, unroll
from reopt.optimizers.load import build_baseline
from reopt.pipeline.config import load_config
from reopt.tasks.quadratic import Quadratic
from reopt.training.tune import draw_hyperparameters, score_draws

TASK, PROBLEMS, STEPS, DRAWS = Quadratic(), 64, 201, 2500
BASELINES = ("momentum", "rmsprop", "adam", "adam_decay")


def run(runs: int, peak: float) -> list[dict]:
    """2,500 draws of each of four baselines on 64 problems of 201 steps."""
    del peak
    problems = TASK.sample_batch(problem_key("tuning", 0), PROBLEMS)
    ranges = load_config("config/laptop.yaml").baselines.ranges
    draws = {name: draw_hyperparameters(name, ranges[name], draws=DRAWS, seed=0)[1] for name in BASELINES}
    winners: dict[str, list[int]] = {"ours": [], "reference": []}

    def plain() -> None:
        winners["reference"] = []
        for name, values in draws.items():

            def score(values: dict[str, Any], name: str = name) -> jax.Array:
                losses = unroll(build_baseline(name, values), TASK, problems, STEPS).losses
                return jnp.mean(meta_objective(losses))

            scores = np.asarray(jax.jit(jax.vmap(score))({key: jnp.asarray(value) for key, value in values.items()}))
            winners["reference"].append(int(np.nanargmin(scores)))

    def race() -> None:
        scores = {
            name: score_draws(name, TASK, values, num_steps=STEPS, problems=problems) for name, values in draws.items()
        }
        winners["ours"] = [int(np.argmin(score.meta_objective)) for score in scores.values()]

    timing = Timing([], [])
    for _ in range(runs):
        timing.ours.append(seconds(race))
        timing.reference.append(seconds(plain))
    return [
        result(
            "tune_baselines",
            timing,
            must="ratio >= 3, same winners",
            same_winners=winners["ours"] == winners["reference"],
        )
    ]
