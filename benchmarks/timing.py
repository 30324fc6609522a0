"""Timing: two programs turn by turn, so that what else the machine does falls on both."""

import platform
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Timing(NamedTuple):
    """Seconds of each run."""

    ours: list[float]
    reference: list[float]


def seconds(program: Callable[[], Any]) -> float:
    """Wall time of one run, to the end of all it started."""
    began = time.perf_counter()
    jax.block_until_ready(program())
    return time.perf_counter() - began


def turn_by_turn(ours: Callable[[], Any], reference: Callable[[], Any], runs: int) -> Timing:
    """`runs` runs of each, after one of each that compiles.

    A timed run follows an untimed one of the same program, as a step of a loop follows another: what the other program
    did to caches and memory is not counted.
    """

    def again(program: Callable[[], Any]) -> float:
        seconds(program)
        return seconds(program)

    pairs = [(again(ours), again(reference)) for _ in range(runs)]
    return Timing([a for a, _ in pairs], [b for _, b in pairs])


def matmul_peak(runs: int = 10) -> float:
    """FLOP/s of a product of two float32 matrices of 2,048 rows and columns: the best of `runs`."""
    size = 2048
    matrix = jnp.ones((size, size))
    product = jax.jit(jnp.matmul)
    seconds(lambda: product(matrix, matrix))
    return 2 * size**3 / min(seconds(lambda: product(matrix, matrix)) for _ in range(runs))


def result(work: str, timing: Timing, *, flops: float | None = None, peak: float | None = None, **more: Any) -> dict:
    """One row of the suite's table: medians, their ratio, and the fraction of the peak where FLOPs are counted."""
    ours, reference = statistics.median(timing.ours), statistics.median(timing.reference)
    return {
        "work": work,
        "ratio": reference / ours,
        "peak_fraction": flops / ours / peak if flops and peak else None,
        "median_s": ours,
        "reference_median_s": reference,
        "runs": len(timing.ours),
        "spread_s": [min(timing.ours), max(timing.ours)],
        "reference_spread_s": [min(timing.reference), max(timing.reference)],
        **more,
    }


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    processor = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as lines:
            processor = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {
        "processor": processor,
        "devices": [str(device) for device in jax.devices()],
        "python": platform.python_version(),
        "jax": jax.__version__,
        "jaxlib": jax.lib.__version__,
    }
