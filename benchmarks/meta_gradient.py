"""The meta-gradient against plain autodiff through `lax.scan`: quadratics, 64 problems of 5 parameters, 201 steps.

Ours is cut up and shared out as meta-training does it with a budget of 150 MB.
"""

import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.timing import result, seconds, turn_by_turn
from reopt.optimizers.learned import LearnedOptimizer, create_learned
from reopt.tasks.base import Problem
from reopt.tasks.quadratic import Quadratic
from reopt.training.calm import Calm
from reopt.training.meta_gradient import meta_value_and_grad
from reopt.training.plan import choose_plan, devices_for
from reopt.training.unroll import meta_objective, unroll

TASK, PROBLEMS, STEPS, MEMORY_MB = Quadratic(), 64, 201, 150.0
SEEDS = 5
MUST = {256: "ratio >= 1.6, temporaries <= 150 MB", 64: "ratio >= 2"}
CALM = Calm(4.0, 16)


def moving(units: int, seed: int = 0, cell: str = "gru") -> LearnedOptimizer:
    """A learned optimizer that is not at its start, where it does not move."""
    return jax.tree.map(lambda leaf: leaf - 0.001, create_learned(jax.random.key(seed), cell=cell, units=units))


def ours(optimizer: LearnedOptimizer, steps: int = STEPS, calm: Calm | None = None, memory: float = MEMORY_MB) -> Any:
    """The meta-gradient as meta-training computes it, jitted: (optimizer, problems) -> (objectives, gradient)."""
    group = calm.group or 1 if calm else 1
    devices = devices_for(PROBLEMS, group)
    plan = choose_plan(
        optimizer,
        num_params=TASK.num_params,
        problems=PROBLEMS,
        num_steps=steps,
        memory_mb=memory,
        devices=len(devices),
        group=group,
    )

    def gradient(optimizer: LearnedOptimizer, problems: Problem) -> Any:
        return meta_value_and_grad(optimizer, TASK, problems, num_steps=steps, calm=calm, plan=plan, devices=devices)

    return jax.jit(gradient)


@jax.jit
def plain(optimizer: LearnedOptimizer, problems: Problem) -> Any:
    """The reference."""

    def objective(optimizer: LearnedOptimizer) -> jax.Array:
        return jnp.mean(meta_objective(unroll(optimizer, TASK, problems, STEPS).losses))

    return jax.value_and_grad(objective)(optimizer)


def flops(units: int) -> float:
    """Of the matmuls: forward, back to the states, and to the weights."""
    return 3 * 2.0 * PROBLEMS * TASK.num_params * units * 3 * units * STEPS


def temporaries_mb(program: Any, *arguments: Any, devices: int = 1) -> float:
    """What the compiled program allocates beside arguments and results, over all devices."""
    return devices * program.lower(*arguments).compile().memory_analysis().temp_size_in_bytes / 1e6


def median(program: Callable[[], Any], runs: int) -> float:
    """Median seconds, after one run that compiles."""
    seconds(program)
    return statistics.median(seconds(program) for _ in range(runs))


def run(runs: int, peak: float) -> list[dict]:
    """GRU-256, GRU-64, and five seeds of a GRU-32."""
    rows = []
    for units in (256, 64):
        optimizer, problems = moving(units), TASK.sample_batch(jax.random.key(1), PROBLEMS)
        fast, calmed = ours(optimizer), ours(optimizer, calm=CALM)
        timing = turn_by_turn(lambda: fast(optimizer, problems), lambda: plain(optimizer, problems), runs)  # noqa: B023
        rows.append(
            result(
                f"meta_gradient_gru{units}",
                timing,
                flops=flops(units),
                peak=peak,
                must=MUST[units],
                temporaries_mb=temporaries_mb(fast, optimizer, problems, devices=len(devices_for(PROBLEMS))),
                reference_temporaries_mb=temporaries_mb(plain, optimizer, problems),
                calmed_s=median(lambda: calmed(optimizer, problems), runs),  # noqa: B023
            )
        )

    seeds = [moving(32, seed) for seed in range(SEEDS)]
    batches = [TASK.sample_batch(jax.random.key(seed), PROBLEMS) for seed in range(SEEDS)]
    fast = ours(seeds[0])
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *zip(seeds, batches, strict=True))
    batched = jax.jit(jax.vmap(lambda o, p: meta_value_and_grad(o, TASK, p, num_steps=STEPS)))

    def each(gradient: Callable[..., Any]) -> list[Any]:
        return [gradient(optimizer, problems) for optimizer, problems in zip(seeds, batches, strict=True)]

    timing = turn_by_turn(lambda: each(fast), lambda: each(plain), runs)
    rows.append(
        result(
            "meta_gradient_gru32_seeds5",
            timing,
            flops=SEEDS * flops(32),
            peak=peak,
            must="ratio >= 3",
            vmapped_s=median(lambda: batched(*stacked), runs),  # all seeds in each operation, on one device
        )
    )
    return rows
