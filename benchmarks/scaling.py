"""Cost of one meta-gradient against its sizes, and of a long unroll within a fixed memory.

Each size runs over a decade or more, the others held; the exponent p of  seconds ~ size^p  is fitted to the medians
by least squares on logarithms, with the 95% interval of Student's t. The long unroll is compared with the short one
by time a step: cut into blocks, it does part of its forward pass twice.

    uv run python -m benchmarks scaling --out FILE.json
"""

import functools
import statistics
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from scipy import stats

from benchmarks.meta_gradient import PROBLEMS, STEPS, TASK, _flops, _optimizer
from benchmarks.timing import result, seconds, turn_by_turn
from reopt.estimate.counts import Size
from reopt.estimate.memory import meta_gradient_bytes
from reopt.tasks.quadratic import Quadratic
from reopt.training.chunked_gradient import Plan, over_devices

BASE = {"units": 64, "problems": 32, "dimension": 5, "steps": 64}
POINTS = {
    "units": (16, 32, 64, 128, 256),
    "problems": (8, 16, 32, 64, 128),
    "dimension": (2, 5, 10, 20, 40),
    "steps": (32, 64, 128, 256, 512),
}
LONG_STEPS, LONG_UNITS, MEMORY, MOST_A_STEP = 2010, 256, 300e6, 1.35


def exponent(sizes: tuple[int, ...], times: list[float]) -> tuple[float, float, float]:
    """(p, low, high) of seconds ~ size^p: least squares on logarithms, 95% interval."""
    fit = stats.linregress(np.log(sizes), np.log(times))
    half = stats.t.ppf(0.975, len(sizes) - 2) * fit.stderr
    return float(fit.slope), float(fit.slope - half), float(fit.slope + half)


def gradient(*, units: int, problems: int, dimension: int, steps: int, plan: Plan) -> Callable[[], Any]:
    """A run of one meta-gradient on all devices."""
    task = Quadratic(dimension)
    batch = task.sample_batch(jax.random.key(1), problems)
    settings = {"task": task, "devices": jax.devices(), "num_steps": steps, "plan": plan}
    program = jax.jit(functools.partial(over_devices, **settings))
    return functools.partial(program, _optimizer(units), problems=batch)


def megabytes(run: Any) -> float:
    """Temporary memory of a run of `gradient` on all devices, as the compiler says."""
    memory = run.func.lower(*run.args, **run.keywords).compile().memory_analysis()
    return len(jax.devices()) * memory.temp_size_in_bytes / 1e6


def scaling(name: str, runs: int) -> dict:
    """One size over its points."""
    points = []
    for value in POINTS[name]:
        program = gradient(**(BASE | {name: value}), plan=Plan())
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


def long_plan(devices: int, *, chunks: int = 4) -> Plan:
    """The plan of the long unroll: as few blocks as fit the memory on all devices. Fewer blocks, less done twice."""
    size = Size("gru", LONG_UNITS, "raw", PROBLEMS // devices, TASK.num_params)
    for blocks in range(1, LONG_STEPS):
        plan = Plan(chunks, blocks)
        if devices * meta_gradient_bytes(size, LONG_STEPS, plan) < 0.97 * MEMORY:
            return plan
    raise ValueError("no plan fits the memory")


def long_unroll(runs: int, peak: float) -> dict:
    """2,010 steps against 201, by time a step."""
    devices = len(jax.devices())
    size: dict[str, Any] = {"units": LONG_UNITS, "problems": PROBLEMS, "dimension": TASK.num_params}
    long = gradient(**size, steps=LONG_STEPS, plan=long_plan(devices))
    short = gradient(**size, steps=STEPS, plan=Plan(chunks=4))
    timing = turn_by_turn(long, short, runs)
    flops = _flops(LONG_UNITS) * LONG_STEPS / STEPS
    row = result(f"meta_gradient_gru256_steps{LONG_STEPS}", timing, flops=flops, peak=peak)
    return row | {
        "ratio": row["median_s"] / LONG_STEPS / (row["reference_median_s"] / STEPS),
        "ratio_is": f"time a step over that of {STEPS} steps",
        "must": f"ratio <= {MOST_A_STEP}, temporaries <= {MEMORY / 1e6:.0f} MB",
        "plan": dict(long_plan(devices)._asdict()),
        "temporaries_mb": megabytes(long),
        "reference_temporaries_mb": megabytes(short),
    }


def run(runs: int, peak: float) -> list[dict]:
    """A row a size, and the long unroll."""
    return [*(scaling(name, runs) for name in POINTS), long_unroll(runs, peak)]
