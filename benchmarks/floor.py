"""The floor of the meta-gradient: its matmuls alone, of the same shapes, in the same order, on the same devices.

uv run python -m benchmarks floor --out FILE.json
"""

import statistics
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from benchmarks.meta_gradient import PROBLEMS, STEPS, TASK, flops
from benchmarks.timing import seconds
from reopt.training.chunking import Plan

UNITS = 256
PLAN = Plan(chunks=4)  # that of `meta_gradient_gru256`


def matmuls(weights: tuple[jax.Array, jax.Array], begin: jax.Array) -> jax.Array:
    """All matmuls of a device's share: a step forward and back, and the weights' of a segment, chunk after chunk."""
    gates, candidate = weights
    gates_t, candidate_t = jax.lax.optimization_barrier((gates.T, candidate.T))

    def step(state: jax.Array, _: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
        first = state @ gates
        second = first[:, :UNITS] @ candidate
        back = second @ candidate_t + first @ gates_t
        return begin + 1e-3 * back, (state, first, second)  # neither grows nor decays

    def segment(carry: tuple[jax.Array, Any], _: Any) -> tuple[tuple[jax.Array, Any], None]:
        state, (d_gates, d_candidate) = carry
        state, (states, first, second) = jax.lax.scan(step, state, length=PLAN.segment)
        rows = states.reshape(-1, UNITS).T
        sums = (d_gates + rows @ first.reshape(-1, 2 * UNITS), d_candidate + rows @ second.reshape(-1, UNITS))
        return (state, sums), None

    count = PLAN.chunks * STEPS // PLAN.segment
    (state, sums), _ = jax.lax.scan(segment, (begin, jax.tree.map(jnp.zeros_like, weights)), length=count)
    return jnp.sum(state) + sum(jnp.sum(part) for part in sums)


def run(runs: int, peak: float) -> list[dict]:
    """The row `matmuls_alone_gru256`."""
    devices = jax.devices()
    keys = jax.random.split(jax.random.key(0), 3)
    scale = UNITS**-0.5
    weights = (
        scale * jax.random.normal(keys[0], (UNITS, 2 * UNITS)),
        scale * jax.random.normal(keys[1], (UNITS, UNITS)),
    )
    rows = PROBLEMS * TASK.num_params // PLAN.chunks
    mapped = jax.shard_map(
        lambda weights, begin: matmuls(weights, begin)[None],
        mesh=Mesh(np.asarray(devices), ("device",)),
        in_specs=(PartitionSpec(), PartitionSpec("device")),
        out_specs=PartitionSpec("device"),
        check_vma=False,
    )
    program, begin = jax.jit(mapped), jax.random.normal(keys[2], (rows, UNITS))
    seconds(lambda: program(weights, begin))
    times = [seconds(lambda: program(weights, begin)) for _ in range(runs)]
    median = statistics.median(times)
    counted = flops(UNITS) * (PLAN.chunks * STEPS // PLAN.segment * PLAN.segment) / (PLAN.chunks * STEPS)
    return [
        {
            "work": "matmuls_alone_gru256",
            "ratio": None,
            "peak_fraction": counted / median / peak,
            "median_s": median,
            "reference_median_s": None,
            "runs": runs,
            "spread_s": [min(times), max(times)],
            "flops": counted,
            "rows": rows // len(devices),
        }
    ]
