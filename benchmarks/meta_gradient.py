"""The meta-gradient against plain autodiff through `lax.scan`: quadratics, 64 problems of 5 parameters, 201 steps."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.timing import result, turn_by_turn
from reopt.optimizers.learned import LearnedOptimizer, create_learned
from reopt.tasks.base import Problem
from reopt.tasks.quadratic import Quadratic
from reopt.training.chunked_gradient import Plan, over_devices
from reopt.training.unroll import meta_objective, unroll

TASK, PROBLEMS, STEPS = Quadratic(), 64, 201
SEEDS = 5


def _optimizer(units: int, seed: int = 0) -> LearnedOptimizer:
    made = create_learned(jax.random.key(seed), cell="gru", units=units)
    return jax.tree.map(lambda leaf: leaf - 0.001, made)  # so that it moves


def _plain(optimizer: LearnedOptimizer, problems: Problem) -> Any:
    def objective(optimizer: LearnedOptimizer) -> jax.Array:
        return jnp.mean(meta_objective(unroll(optimizer, TASK, problems, STEPS).losses))

    return jax.value_and_grad(objective)(optimizer)


def _flops(units: int) -> float:
    """Of the matmuls: forward, back to states and features, and to the weights."""
    return 3 * 2.0 * PROBLEMS * TASK.num_params * units * 3 * units * STEPS


def _megabytes(program: Any, *arguments: Any) -> float:
    memory = program.lower(*arguments).compile().memory_analysis().temp_size_in_bytes / 1e6
    return memory


def run(runs: int, peak: float) -> list[dict]:
    """GRU-256, GRU-64, and five seeds of a GRU-32."""
    devices = jax.devices()
    rows = []
    for units, plan in ((256, Plan(chunks=4)), (64, Plan(chunks=2, segment=8))):
        optimizer, problems = _optimizer(units), TASK.sample_batch(jax.random.key(1), PROBLEMS)
        fast = jax.jit(functools.partial(over_devices, task=TASK, devices=devices, num_steps=STEPS, plan=plan))
        ours = functools.partial(fast, optimizer, problems=problems)
        plain = jax.jit(_plain)
        timing = turn_by_turn(ours, lambda: plain(optimizer, problems), runs)  # noqa: B023
        memory = fast.lower(optimizer, problems=problems).compile().memory_analysis().temp_size_in_bytes
        more = {
            "temporaries_mb": len(devices) * memory / 1e6,
            "reference_temporaries_mb": _megabytes(plain, optimizer, problems),
        }
        rows.append(result(f"meta_gradient_gru{units}", timing, flops=_flops(units), peak=peak, **more))

    seeds = [_optimizer(32, seed) for seed in range(SEEDS)]
    batches = [TASK.sample_batch(jax.random.key(seed), PROBLEMS) for seed in range(SEEDS)]

    @jax.jit
    def together(seeds: list[LearnedOptimizer], batches: list[Problem]) -> list:
        share = functools.partial(over_devices, task=TASK, devices=devices, num_steps=STEPS)
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *zip(seeds, batches, strict=True))
        return jax.lax.map(lambda pair: share(pair[0], problems=pair[1]), stacked)

    plain = jax.jit(_plain)

    def each() -> list:
        return [plain(optimizer, problems) for optimizer, problems in zip(seeds, batches, strict=True)]

    timing = turn_by_turn(lambda: together(seeds, batches), each, runs)
    rows.append(result("meta_gradient_gru32_seeds5", timing, flops=SEEDS * _flops(32), peak=peak))
    return rows
