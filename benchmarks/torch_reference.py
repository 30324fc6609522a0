"""The meta-gradient of a GRU-256 beside plain eager PyTorch: what a researcher would write first.

Runs only where torch is installed:

    uv run --with torch python -m benchmarks torch --out FILE.json

The same mathematics, by PyTorch's own autograd: the GRU of `reopt.optimizers.cells` (reset gate before the recurrent
matmul), quadratics, the inner gradient with `create_graph` and hence the exact second-order terms. The two gradients
are compared, and the row holds their relative difference; torch uses as many threads as there are cores.
"""

import importlib.util
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.meta_gradient import PROBLEMS, STEPS, TASK, Ours, flops, moving
from benchmarks.timing import result, turn_by_turn
from reopt.optimizers.learned import LearnedOptimizer
from reopt.tasks.quadratic import QuadraticProblem

UNITS = 256
AGREE = 1e-4  # relative difference of the gradients; beyond it the two are not the same work


def torch_gradient(optimizer: LearnedOptimizer, problems: QuadraticProblem, num_steps: int) -> Callable[[], list]:
    """A function that computes the meta-gradient: tensors in the order of the leaves of `weights_of`."""
    import torch

    leaves = [torch.tensor(np.asarray(leaf), requires_grad=True) for leaf in weights_of(optimizer)]
    in_gates, rec_gates, b_gates, in_candidate, rec_candidate, b_candidate, start, readout, bias = leaves
    hessian, minimizer, begin = (torch.tensor(np.asarray(a)) for a in problems[:3])
    units, scale_in, scale_out = optimizer.cell.units, optimizer.input_scale, optimizer.output_scale

    def run() -> list:
        x = begin.clone().requires_grad_()
        h = start.expand(*x.shape, len(start))
        losses = []
        for _ in range(num_steps):
            offset = x - minimizer
            loss = 0.5 * (offset * (hessian * offset[:, None, :]).sum(-1)).sum(-1)
            (gradient,) = torch.autograd.grad(loss.sum(), x, create_graph=True)
            feature = (scale_in * gradient)[..., None]
            gates = torch.sigmoid(h @ rec_gates + feature @ in_gates + b_gates)
            update, reset = gates[..., :units], gates[..., units:]
            candidate = torch.tanh((reset * h) @ rec_candidate + feature @ in_candidate + b_candidate)
            h = update * h + (1 - update) * candidate
            x = x + scale_out * ((h * readout).sum(-1) + bias)
            losses.append(loss)
        objective = (torch.stack(losses).mean(0) / losses[0]).mean()
        return list(torch.autograd.grad(objective, leaves))

    return run


def weights_of(optimizer: LearnedOptimizer) -> list[Any]:
    """The weights of a GRU and its readout, or of a gradient with respect to them, in one order."""
    cell: Any = optimizer.cell
    gates = [cell.input_gates, cell.recurrent_gates, cell.bias_gates]
    candidate = [cell.input_candidate, cell.recurrent_candidate, cell.bias_candidate]
    return [*gates, *candidate, optimizer.start, optimizer.readout_weight, optimizer.readout_bias]


def difference(gradient: LearnedOptimizer, theirs: list) -> float:
    """Relative difference of two gradients, in the norm of all weights."""
    one = np.concatenate([np.ravel(leaf) for leaf in weights_of(gradient)]).astype(float)
    other = np.concatenate([leaf.numpy().ravel() for leaf in theirs]).astype(float)
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def run(runs: int, peak: float) -> list[dict]:
    """The row `meta_gradient_gru256_torch`; none where torch is not installed."""
    if importlib.util.find_spec("torch") is None:
        print("torch is not installed: its reference is left out", flush=True)
        return []
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    optimizer, problems = moving(UNITS), TASK.sample_batch(jax.random.key(1), PROBLEMS)
    fast = Ours(optimizer)
    theirs = torch_gradient(optimizer, problems, STEPS)
    apart = difference(fast(optimizer, problems)[1], theirs())
    if not apart <= AGREE:
        raise SystemExit(f"torch's gradient differs by {apart:.2g}, more than {AGREE:g}: not the same work")
    timing = turn_by_turn(lambda: fast(optimizer, problems), lambda: theirs()[0].numpy(), runs)
    more = {"gradient_difference": apart, "torch": torch.__version__}
    return [result("meta_gradient_gru256_torch", timing, flops=flops(UNITS), peak=peak, must="ratio > 1", **more)]
