"""Rates of this machine, from short runs of the real programs.

Each program is run at two short lengths a and b, compiled before it is timed; a run of T steps is then taken to last

    fixed + T each,    each = (t(b) - t(a)) / (b - a),    fixed = max(0, t(a) - a each)

which leaves out compilation, and what a longer run loses in the caches.
"""

import math
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from reopt.evaluation.keys import problem_key
from reopt.evaluation.unroll import unroll
from reopt.optimizers.base import Optimizer
from reopt.optimizers.learned import create_learned
from reopt.tasks.base import Task
from reopt.training.metatrain import make_loop
from reopt.training.tune import BLOCK, DRAWS_AT_ONCE, draw_hyperparameters, score_draws

if TYPE_CHECKING:
    from reopt.core.schema import Range
    from reopt.pipeline.config import LearnedConfig

SECONDS = 0.3  # of timing a program and length
MOST_REPEATS = 10
LENGTHS = (8, 32)  # steps; fewer where a step is slow
SLOW_STEP = 0.02  # seconds
TUNING_SECONDS = 2.0


class Rate(NamedTuple):
    """Seconds of a run: `fixed`, and `each` for each of its steps."""

    fixed: float
    each: float

    def seconds(self, num_steps: float) -> float:
        """Of a run of `num_steps` steps."""
        return self.fixed + num_steps * self.each


def line(lengths: tuple[int, int], times: tuple[float, float]) -> Rate:
    """The rate through two timings; all of the time goes by steps where the longer run was not slower."""
    (short, long), (first, second) = lengths, times
    each = (second - first) / (long - short)
    if each <= 0:
        return Rate(0.0, second / long)
    return Rate(max(0.0, first - short * each), each)


def _timed(run: Callable[[], Any]) -> float:
    """Seconds of a run, the fastest of some; the first of them compiles and does not count."""
    jax.block_until_ready(run())
    times: list[float] = []
    while len(times) < 2 or (sum(times) < SECONDS and len(times) < MOST_REPEATS):
        began = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - began)
    return min(times)


def _measure(make: Callable[[int], Callable[[], Any]], most: int) -> Rate:
    """The rate of the programs `make(length)`, at lengths of at most `most` steps."""
    short = min(LENGTHS[0], max(1, most - 1))
    first = _timed(make(short))
    long = min(LENGTHS[1] if first / short < SLOW_STEP else 2 * short, max(most, short + 1))
    return line((short, long), (first, _timed(make(long))))


def metatrain_rate(task: Task, settings: "LearnedConfig", num_steps: int) -> Rate:
    """Of an outer step without validation, as `reopt metatrain` runs it, against its inner steps."""
    never = settings.training.validation.model_copy(update={"every": 10_000_000})
    # More outer steps than are taken: the last one would be validated.
    training = settings.training.model_copy(update={"validation": never, "outer_steps": 10_000})
    timed = settings.model_copy(update={"training": training})

    def make(length: int) -> Callable[[], Any]:
        state, run_to = make_loop(task, task, length, timed, 0)

        def run() -> Any:
            nonlocal state
            state = run_to(state, state.step + 1)
            return state

        return run

    return _measure(make, num_steps)


def unroll_rate(optimizer: Optimizer, task: Task, problems: int, num_steps: int) -> Rate:
    """Of one compiled run on `problems` problems."""
    batch = task.sample_batch(problem_key("evaluation", 0), problems)

    def make(length: int) -> Callable[[], Any]:
        run = jax.jit(lambda batch: unroll(optimizer, task, batch, length).losses)
        return lambda: run(batch)

    return _measure(make, num_steps)


def untrained(settings: "LearnedConfig") -> Optimizer:
    """An optimizer of the size that `settings` names."""
    return create_learned(jax.random.key(0), cell=settings.cell, units=settings.units, features=settings.features)


def tuning_rate(name: str, task: Task, ranges: dict[str, "Range"], problems: int, draws: int) -> Rate:
    """Of a batch of draws that all run to their end, against its steps; `fixed` is compilation."""
    values = draw_hyperparameters(name, ranges, draws=min(draws, DRAWS_AT_ONCE), seed=0)[1]
    batch = task.sample_batch(problem_key("tuning", 0), problems)

    def seconds(length: int) -> float:
        began = time.perf_counter()
        score_draws(name, task, values, num_steps=length, problems=batch, early_stopping=math.inf)
        return time.perf_counter() - began

    short = seconds(BLOCK)  # every call compiles
    long = BLOCK * (1 + max(2, min(12, int(TUNING_SECONDS / short))))
    return line((BLOCK, long), (short, seconds(long)))


def start_up_seconds() -> float:
    """Seconds in which a job's process starts and has its devices."""
    began = time.perf_counter()
    program = "import jax, reopt.cli.app, reopt.pipeline.slice, reopt.training.metatrain; jax.devices()"
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    return time.perf_counter() - began
