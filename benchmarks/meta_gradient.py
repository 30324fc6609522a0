"""The meta-gradient against plain autodiff through `lax.scan`: quadratics, 64 problems of 5 parameters, 201 steps.

Ours is cut up and shared out as meta-training does it with a budget of 150 MB.
"""

import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.timing import result, seconds, turn_by_turn
from reopt.evaluation.unroll import meta_objective, unroll
from reopt.optimizers.learned import LearnedOptimizer, create_learned
from reopt.tasks.base import Problem, Task
from reopt.tasks.quadratic import Quadratic
from reopt.training.chunking import choose_plan, devices_for
from reopt.training.cotangent_clipping import CotangentClipping
from reopt.training.meta_gradient import make_workspace, meta_gradient_in, meta_value_and_grad

TASK, PROBLEMS, STEPS, MEMORY_MB = Quadratic(), 64, 201, 150.0
SEEDS = 5
MUST = {256: "ratio >= 1.6, temporaries <= 150 MB", 64: "ratio >= 2"}
CLIPPING = CotangentClipping(4.0, 16)


def moving(units: int, seed: int = 0, cell: str = "gru") -> LearnedOptimizer:
    """A learned optimizer that is not at its start, where it does not move."""
    return jax.tree.map(lambda leaf: leaf - 0.001, create_learned(jax.random.key(seed), cell=cell, units=units))


class Ours:
    """The meta-gradient as meta-training computes it, compiled: (optimizer, problems) -> (objectives, gradient).

    What it keeps is kept in the same place at each call, as from outer step to outer step.
    """

    def __init__(
        self,
        optimizer: LearnedOptimizer,
        *,
        task: Task = TASK,
        problems: int = PROBLEMS,
        steps: int = STEPS,
        cotangent_clipping: CotangentClipping | None = None,
        memory_mb: float = MEMORY_MB,
    ) -> None:
        group = cotangent_clipping.group or 1 if cotangent_clipping else 1
        devices = devices_for(problems, group)
        self.plan = choose_plan(
            optimizer,
            num_params=task.num_params,
            problems=problems,
            num_steps=steps,
            memory_mb=memory_mb,
            devices=len(devices),
            group=group,
        )
        size = {"num_steps": steps, "plan": self.plan, "devices": devices}
        batch = jax.eval_shape(lambda: task.sample_batch(jax.random.key(0), problems))
        shared = NamedSharding(Mesh(np.asarray(devices), ("device",)), PartitionSpec("device"))
        self._workspace = jax.device_put(make_workspace(optimizer, task, batch, **size), shared)

        def gradient(workspace: Any, optimizer: LearnedOptimizer, problems: Problem) -> Any:
            return meta_gradient_in(workspace, optimizer, task, problems, cotangent_clipping=cotangent_clipping, **size)

        self._gradient = jax.jit(gradient, donate_argnums=0)
        temporary = self._gradient.lower(self._workspace, optimizer, batch).compile().memory_analysis()
        kept = sum(leaf.nbytes for leaf in jax.tree.leaves(self._workspace))
        self.temporaries_mb = (kept + len(devices) * temporary.temp_size_in_bytes) / 1e6

    def __call__(self, optimizer: LearnedOptimizer, problems: Problem) -> tuple[Any, LearnedOptimizer]:
        objectives, gradient, self._workspace = self._gradient(self._workspace, optimizer, problems)
        return objectives, gradient


@jax.jit
def plain(optimizer: LearnedOptimizer, problems: Problem) -> Any:
    """The reference."""

    def objective(optimizer: LearnedOptimizer) -> jax.Array:
        return jnp.mean(meta_objective(unroll(optimizer, TASK, problems, STEPS).losses))

    return jax.value_and_grad(objective)(optimizer)


def flops(units: int) -> float:
    """Of the matmuls: forward, back to the states, and to the weights."""
    return 3 * 2.0 * PROBLEMS * TASK.num_params * units * 3 * units * STEPS


def median(program: Callable[[], Any], runs: int) -> float:
    """Median seconds, after one run that compiles."""
    seconds(program)
    return statistics.median(seconds(program) for _ in range(runs))


def run(runs: int, peak: float) -> list[dict]:
    """GRU-256, GRU-64, and five seeds of a GRU-32."""
    rows = []
    for units in (256, 64):
        optimizer, problems = moving(units), TASK.sample_batch(jax.random.key(1), PROBLEMS)
        fast, clipped = Ours(optimizer), Ours(optimizer, cotangent_clipping=CLIPPING)
        reference = plain.lower(optimizer, problems).compile()
        timing = turn_by_turn(lambda: fast(optimizer, problems), lambda: plain(optimizer, problems), runs)  # noqa: B023
        rows.append(
            result(
                f"meta_gradient_gru{units}",
                timing,
                flops=flops(units),
                peak=peak,
                must=MUST[units],
                temporaries_mb=fast.temporaries_mb,
                reference_temporaries_mb=reference.memory_analysis().temp_size_in_bytes / 1e6,
                clipped_s=median(lambda: clipped(optimizer, problems), runs),  # noqa: B023
            )
        )

    seeds = [moving(32, seed) for seed in range(SEEDS)]
    batches = [TASK.sample_batch(jax.random.key(seed), PROBLEMS) for seed in range(SEEDS)]
    fast = Ours(seeds[0])
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
