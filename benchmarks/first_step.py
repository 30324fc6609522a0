"""From the start of a process until its first outer step is done, with a warm compilation cache and with a cold one.

A fresh interpreter does what `reopt metatrain` does up to there: reads the laptop config, sets up its run, compiles or
finds the compiled loop, takes one outer step.

    uv run python -m benchmarks first_step --out FILE.json
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.timing import Timing, result

CONFIG, TASK, OPTIMIZER = "config/laptop.yaml", "quadratic", "gru32"
PROGRAM = f"""
import time
import os
import jax
import jax.numpy as jnp
jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
from reopt.pipeline.config import load_config
from reopt.tasks.registry import task_module
from reopt.training.metatrain import make_loop

entry = load_config({CONFIG!r}).tasks[{TASK!r}]
module, settings = task_module({TASK!r}), entry.optimizers[{OPTIMIZER!r}]
task = module.create(module.Settings.model_validate(entry.problem))
start, run_to = make_loop(task, task, entry.num_steps, settings, 0)
jax.block_until_ready(run_to(start, jnp.asarray(1, jnp.int32)))
print(time.time())
"""


def first_step(cache: Path) -> float:
    """Seconds from the start of the interpreter to the end of its first outer step."""
    keep = {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    began = time.time()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=os.environ | keep, check=True, capture_output=True, text=True
    )
    return float(done.stdout.split()[-1]) - began


def run(runs: int, peak: float) -> list[dict]:
    """The row `first_step_warm_cache`; its reference is the same with an empty cache."""
    del peak
    timing = Timing([], [])
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            timing.reference.append(first_step(Path(folder)))
            timing.ours.append(first_step(Path(folder)))
    return [result("first_step_warm_cache", timing, must="median < 5 s")]
