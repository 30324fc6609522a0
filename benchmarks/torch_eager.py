"""The meta-gradient in eager PyTorch, in a process of its own: it needs torch and numpy, and nothing of reopt.

    python torch_eager.py FOLDER

reads FOLDER/problem.npz, writes FOLDER/gradient.npz and says `ready VERSION`; each line `run` on standard input is
then answered by `done`, after one more meta-gradient.
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch


def gradient_of(problem: dict[str, np.ndarray]) -> list[torch.Tensor]:
    """The meta-gradient, in the order of the weights.

    A GRU whose reset gate acts before the recurrent matmul, on quadratics of their own Hessian and minimizer; the
    inner gradient with `create_graph`, hence the exact second-order terms.
    """
    leaves = [torch.tensor(problem[f"weight{number}"], requires_grad=True) for number in range(9)]
    in_gates, rec_gates, b_gates, in_candidate, rec_candidate, b_candidate, start, readout, bias = leaves
    hessian, minimizer, begin = (torch.tensor(problem[name]) for name in ("hessian", "minimizer", "start"))
    units, scale_in, scale_out = len(start), float(problem["input_scale"]), float(problem["output_scale"])
    x = begin.clone().requires_grad_()
    h = start.expand(*x.shape, units)
    losses = []
    for _ in range(int(problem["num_steps"])):
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


def main() -> None:
    folder = Path(sys.argv[1])
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    with np.load(folder / "problem.npz") as file:
        problem = dict(file)
    np.savez(folder / "gradient.npz", *(leaf.numpy() for leaf in gradient_of(problem)))
    print(f"ready {torch.__version__}", flush=True)
    for _ in sys.stdin:
        gradient_of(problem)
        print("done", flush=True)


if __name__ == "__main__":
    main()
