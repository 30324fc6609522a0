"""How a meta-gradient is cut up, so that it is fast and fits into the memory it is given.

Forward and reverse pass are taken through one chunk of problems after the other; within a chunk, what the reverse
pass needs is kept for one block of steps, and blocks but the last are run forward twice.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from reopt.core.errors import ReoptError
from reopt.optimizers.learned import LearnedOptimizer

# On a CPU a chunk's activations should stay in a core's cache, but its rows be enough to share the reading of the
# weights; and a cache should hold what a segment hands to the matmul of its weight gradients. An accelerator wants as
# much at once as there is (docs/performance.md). Elements are rows x units, and rows x units x steps.
CHUNK_ELEMENTS, CHUNK_ROWS, SEGMENT_ELEMENTS = 5_120, 40, 40_960
ACCELERATOR_SEGMENT = 64


class Plan(NamedTuple):
    """`chunks` of problems; `blocks` of steps; `segment` steps whose weight gradients are one matmul."""

    chunks: int = 1
    blocks: int = 1
    segment: int = 4


WHOLE = Plan()


def temporaries(
    optimizer: LearnedOptimizer, *, num_params: int, problems: int, num_steps: int, plan: Plan, devices: int = 1
) -> int:
    """Bytes of what a meta-gradient keeps, on all devices together, beside weights and problems.

    **Arguments:** `optimizer` may be one of shapes alone (`jax.eval_shape`).
    """
    chunk = problems // devices // plan.chunks
    rows, length = chunk * num_params, -(-num_steps // plan.blocks)
    size = optimizer.start.dtype.itemsize

    def step(cell: Any) -> Any:
        state = jnp.zeros((rows, *optimizer.start.shape), optimizer.start.dtype)
        features = optimizer.featurize(jnp.zeros(rows, optimizer.start.dtype))
        saved = cell.forward(state, features)[1]
        return saved, cell.backward(cell.layout(), saved, state, state)[2]

    saved, deltas = (sum(leaf.size for leaf in jax.tree.leaves(part)) for part in jax.eval_shape(step, optimizer.cell))
    state = rows * optimizer.start.size
    weights = sum(leaf.size for leaf in jax.tree.leaves(optimizer))
    kept = (length + 1) * state + length * (saved + 2 * rows + chunk)
    begins = (plan.blocks - 1) * (state + rows)
    segment = min(plan.segment, num_steps) * (2 * state + saved + 2 * deltas)
    return devices * size * (kept + begins + segment + 3 * weights)


def choose_plan(
    optimizer: LearnedOptimizer,
    *,
    num_params: int,
    problems: int,
    num_steps: int,
    memory_mb: float,
    devices: int = 1,
    group: int = 1,
) -> Plan:
    """The fastest plan whose `temporaries` fit into `memory_mb` megabytes (10^6 bytes).

    **Arguments:** `group` problems are never parted (see `CotangentClipping`); `devices` share the problems equally.

    **Raises** `ReoptError` where no plan fits.
    """
    share, units = problems // devices, optimizer.cell.units
    sizes = [n for n in range(share, 0, -1) if share % n == 0 and n % group == 0]
    cached = jax.default_backend() == "cpu"
    rows = max(CHUNK_ROWS, CHUNK_ELEMENTS // units) if cached else share * num_params
    quick = [n for n in sizes if n * num_params <= rows] or sizes[-1:]
    least = float("inf")
    for chunk in quick:
        segment = max(1, SEGMENT_ELEMENTS // (chunk * num_params * units)) if cached else ACCELERATOR_SEGMENT
        for blocks in range(1, 2 * int(num_steps**0.5) + 2):
            plan = Plan(share // chunk, blocks, min(segment, -(-num_steps // blocks)))
            needed = temporaries(
                optimizer,
                num_params=num_params,
                problems=problems,
                num_steps=num_steps,
                plan=plan,
                devices=devices,
            )
            if needed <= 1e6 * memory_mb:
                return plan
            least = min(least, needed)
    raise ReoptError(
        f"the meta-gradient of {problems} problems x {num_params} parameters x {num_steps} steps with {units} units "
        f"needs {least / 1e6:,.1f} MB, but memory_mb is {memory_mb:,g}: raise it, or take fewer problems"
    )


def devices_for(problems: int, group: int = 1, available: int | None = None) -> list[jax.Device]:
    """As many devices as can share the problems equally, whole groups each."""
    devices = jax.devices()[:available]
    most = max(n for n in range(1, len(devices) + 1) if problems % (n * group) == 0 or n == 1)
    return devices[:most]


def over_devices(function: Callable, devices: Sequence[jax.Device], given: Any, split: Any) -> Callable:
    """The function, run on each device with its share of what is cut along its first axis.

    **Arguments:** `given` says of each argument whether it is cut, `split` of each result; the others must be the
    same on all devices.
    """

    def specs(cut: Any) -> Any:
        return jax.tree.map(lambda one: PartitionSpec("device") if one else PartitionSpec(), cut)

    return jax.shard_map(
        function,
        mesh=Mesh(np.asarray(devices), ("device",)),
        in_specs=specs(given),
        out_specs=specs(split),
        check_vma=False,
    )
