"""Cost of one meta-gradient against its sizes, and of a long unroll within a fixed memory.

Each size runs over a decade or more, the others held; the exponent p of  seconds ~ size^p  is fitted to the medians
by least squares on logarithms, with the 95% interval of Student's t. The long unroll is compared with the short one
by time a step: cut into blocks, it does part of its forward pass twice.

    uv run python -m benchmarks scaling --out FILE.json
"""

import functools
import math
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy import stats

from benchmarks.meta_gradient import PROBLEMS, STEPS, TASK, Ours, flops, moving
from benchmarks.timing import Timing, result, seconds, turn_by_turn
from reopt.tasks.quadratic import Quadratic
from reopt.training.chunking import Plan

BASE = {"units": 64, "problems": 32, "dimension": 5, "steps": 64}
POINTS = {
    "units": (16, 32, 64, 128, 256),
    "problems": (8, 16, 32, 64, 128),
    "dimension": (2, 5, 10, 20, 40),
    "steps": (32, 64, 128, 256, 512),
}
LONG_STEPS, LONG_UNITS, MEMORY_MB, MOST_A_STEP = 2010, 256, 300.0, 1.35


def exponent(sizes: tuple[int, ...], times: list[float]) -> tuple[float, float, float]:
    """(p, low, high) of seconds ~ size^p: least squares on logarithms, 95% interval."""
    fit = stats.linregress(np.log(sizes), np.log(times))
    half = stats.t.ppf(0.975, len(sizes) - 2) * fit.stderr
    return float(fit.slope), float(fit.slope - half), float(fit.slope + half)


class Gradient(NamedTuple):
    """A meta-gradient, compiled for all devices."""

    run: Callable[[], Any]
    plan: Plan
    temporaries_mb: float


def gradient(*, units: int, problems: int, dimension: int, steps: int, memory_mb: float = 1000.0) -> Gradient:
    """As meta-training runs it, within `memory_mb`."""
    task, optimizer = Quadratic(dimension), moving(units)
    batch = task.sample_batch(jax.random.key(1), problems)
    program = Ours(optimizer, task=task, problems=problems, steps=steps, memory_mb=memory_mb)
    return Gradient(functools.partial(program, optimizer, batch), program.plan, program.temporaries_mb)


def scaling(name: str, runs: int) -> dict:
    """One size over its points."""
    points = []
    for value in POINTS[name]:
        program = gradient(**(BASE | {name: value})).run
        seconds(program)
        times = [seconds(program) for _ in range(runs)]
        points.append({"value": value, "median_s": statistics.median(times), "spread_s": [min(times), max(times)]})
    medians = [point["median_s"] for point in points]
    slope, low, high = exponent(POINTS[name], medians)
    return {
        "work": f"scaling_{name}",
        "ratio": None,
        "peak_fraction": None,
        "median_s": medians[-1],
        "reference_median_s": None,
        "runs": runs,
        "held": {key: value for key, value in BASE.items() if key != name},
        "points": points,
        "exponent": slope,
        "exponent_interval": [low, high],
    }


def long_unroll(runs: int, peak: float) -> dict:
    """2,010 steps against 201, by time a step."""
    size: dict[str, Any] = {"units": LONG_UNITS, "problems": PROBLEMS, "dimension": TASK.num_params}
    long = gradient(**size, steps=LONG_STEPS, memory_mb=MEMORY_MB)
    short = gradient(**size, steps=STEPS, memory_mb=MEMORY_MB)
    timing = turn_by_turn(long.run, short.run, runs)
    row = result(
        f"meta_gradient_gru256_steps{LONG_STEPS}", timing, flops=flops(LONG_UNITS) * LONG_STEPS / STEPS, peak=peak
    )
    a_step = Timing([t / LONG_STEPS for t in timing.ours], [t / STEPS for t in timing.reference])
    per_step = statistics.median(a_step.ours) / statistics.median(a_step.reference)
    return row | {
        "ratio": per_step,
        "ratio_is": f"time a step over that of {STEPS} steps",
        "must": f"ratio <= {MOST_A_STEP}, temporaries <= {MEMORY_MB:.0f} MB",
        "plan": dict(long.plan._asdict()),
        "temporaries_mb": long.temporaries_mb,
        "reference_temporaries_mb": short.temporaries_mb,
        "reached": bool(per_step <= MOST_A_STEP and long.temporaries_mb <= MEMORY_MB),
    }


def run(runs: int, peak: float) -> list[dict]:
    """A row a size, and the long unroll."""
    rows = [scaling(name, runs) for name in POINTS]
    assert all(math.isfinite(row["exponent"]) for row in rows)
    return [*rows, long_unroll(runs, peak)]
