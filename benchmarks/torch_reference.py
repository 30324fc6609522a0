"""The meta-gradient of a GRU-256 beside plain eager PyTorch: what a researcher would write first.

Runs only where a Python with torch is named, which need not be this one (its libraries do not get on with JAX's):

    uv venv DIR && uv pip install --python DIR torch numpy
    TORCH_PYTHON=DIR/bin/python uv run python -m benchmarks torch --out FILE.json

The same mathematics, by PyTorch's own autograd (`benchmarks/torch_eager.py`). The two gradients are compared, and the
row holds their relative difference; torch uses as many threads as there are cores.
"""

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.meta_gradient import PROBLEMS, STEPS, TASK, Ours, flops, moving
from benchmarks.timing import result, turn_by_turn
from reopt.optimizers.learned import LearnedOptimizer
from reopt.tasks.quadratic import QuadraticProblem

UNITS = 256
AGREE = 1e-4  # relative difference of the gradients; beyond it the two are not the same work
PROGRAM = Path(__file__).with_name("torch_eager.py")


def weights_of(optimizer: LearnedOptimizer) -> list[Any]:
    """The weights of a GRU and its readout, or of a gradient with respect to them, in one order."""
    cell: Any = optimizer.cell
    gates = [cell.input_gates, cell.recurrent_gates, cell.bias_gates]
    candidate = [cell.input_candidate, cell.recurrent_candidate, cell.bias_candidate]
    return [*gates, *candidate, optimizer.start, optimizer.readout_weight, optimizer.readout_bias]


def difference(gradient: LearnedOptimizer, theirs: list[np.ndarray]) -> float:
    """Relative difference of two gradients, in the norm of all weights."""
    one = np.concatenate([np.ravel(leaf) for leaf in weights_of(gradient)]).astype(float)
    other = np.concatenate([np.ravel(leaf) for leaf in theirs]).astype(float)
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


class Eager:
    """PyTorch in a process of its own; `gradient` is its first answer, `again` computes it once more."""

    def __init__(self, python: str, optimizer: LearnedOptimizer, problems: QuadraticProblem, num_steps: int):
        named = {f"weight{number}": np.asarray(leaf) for number, leaf in enumerate(weights_of(optimizer))}
        named |= dict(zip(("hessian", "minimizer", "start"), map(np.asarray, problems[:3]), strict=True))
        scales = {"input_scale": optimizer.input_scale, "output_scale": optimizer.output_scale}
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "problem.npz"
            np.savez(file, **named, **{name: np.asarray(value) for name, value in scales.items()}, num_steps=num_steps)
            words: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            self._child = subprocess.Popen([python, str(PROGRAM), folder], **words)
            self.version = self._answer("ready")
            with np.load(Path(folder) / "gradient.npz") as arrays:
                self.gradient = [arrays[name] for name in arrays.files]

    def _answer(self, word: str) -> str:
        said, _, rest = self._child.stdout.readline().strip().partition(" ")
        if said != word:
            raise SystemExit(f"{PROGRAM.name} ended early")
        return rest

    def again(self) -> None:
        """One more meta-gradient."""
        self._child.stdin.write("run\n")
        self._child.stdin.flush()
        self._answer("done")

    def __enter__(self) -> "Eager":
        return self

    def __exit__(self, *_: object) -> None:
        with self._child:  # closes its pipes and waits for it
            pass


def run(runs: int, peak: float) -> list[dict]:
    """The row `meta_gradient_gru256_torch`; none where no Python with torch is named."""
    python = os.environ.get("TORCH_PYTHON")
    if not python:
        print("TORCH_PYTHON names no Python with torch: its reference is left out", flush=True)
        return []
    optimizer, problems = moving(UNITS), TASK.sample_batch(jax.random.key(1), PROBLEMS)
    fast = Ours(optimizer)
    with Eager(python, optimizer, problems, STEPS) as eager:
        apart = difference(fast(optimizer, problems)[1], eager.gradient)
        if not apart <= AGREE:
            raise SystemExit(f"torch's gradient differs by {apart:.2g}, more than {AGREE:g}: not the same work")
        timing = turn_by_turn(lambda: fast(optimizer, problems), eager.again, runs)
    more = {"gradient_difference": apart, "torch": eager.version}
    return [result("meta_gradient_gru256_torch", timing, flops=flops(UNITS), peak=peak, must="ratio > 1", **more)]
