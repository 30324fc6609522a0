"""Record runs of torch's own optimizers in float64 (`golden/torch.npz`), against which ours are tested without torch.

    uv run --extra torch python tests/optimizers/make_torch_golden.py [--check]

With --check nothing is written: live optimizers of the installed torch are run beside ours, from the start, from the
middle, and from a saved file.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

GOLDEN = Path(__file__).parent / "golden" / "torch.npz"
STEPS, RESTORED = 60, 25  # of a run, and after how many of them its state is recorded
CONFIGURATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd, maximizing": ("SGD", {"lr": 0.3, "maximize": True}),
    "momentum, damped": ("SGD", {"lr": 0.2, "momentum": 0.9, "dampening": 0.5}),
    "nesterov, penalty": ("SGD", {"lr": 0.1, "momentum": 0.93, "nesterov": True, "weight_decay": 0.02}),
    "adam": ("Adam", {"lr": 1e-2}),
    "adam, maximizing, penalty": ("Adam", {"lr": 3e-3, "betas": (0.6, 0.95), "weight_decay": 0.1, "maximize": True}),
    "adamw": ("AdamW", {"lr": 1e-2, "betas": (0.8, 0.99), "eps": 1e-6}),
    "amsgrad": ("Adam", {"lr": 1e-2, "betas": (0.9, 0.9), "amsgrad": True}),
    "nadam": ("NAdam", {"lr": 1e-2}),
    "nadam, decoupled": ("NAdam", {"momentum_decay": 0.1, "weight_decay": 0.05, "decoupled_weight_decay": True}),
    "radam": ("RAdam", {"lr": 1e-2, "betas": (0.9, 0.98)}),
    "adamax": ("Adamax", {"lr": 1e-2, "betas": (0.7, 0.9)}),
    "adagrad": ("Adagrad", {"lr": 0.1, "lr_decay": 0.05, "initial_accumulator_value": 0.2}),
    "adadelta": ("Adadelta", {"lr": 0.7}),
    "rmsprop": ("RMSprop", {"lr": 1e-2, "alpha": 0.9}),
    "rmsprop, centred, momentum": ("RMSprop", {"lr": 1e-2, "momentum": 0.8, "centered": True}),
    "rprop": ("Rprop", {"lr": 1e-2, "step_sizes": (1e-3, 0.1)}),
    "asgd": ("ASGD", {"lr": 0.1, "lambd": 0.3, "weight_decay": 0.01}),
}


def gradients() -> np.ndarray:
    """[step, parameter]: of usual size, of many sizes, 0 at first and now and then, and finally not finite."""
    rng = np.random.default_rng(0)
    found = rng.normal(size=(STEPS, 4))
    found[:, 1] *= 10.0 ** rng.uniform(-6, 2, STEPS)
    found[:10, 2] = found[30:33] = 0
    found[50, 3], found[55, 3] = np.inf, np.nan
    return found


def live(name: str, hyperparameters: dict[str, Any], shape: tuple[int, ...]) -> tuple[Any, Any]:
    """(parameter, optimizer of torch)"""
    weights = torch.nn.Parameter(torch.zeros(shape))
    return weights, getattr(torch.optim, name)([weights], **hyperparameters)


def step(weights: Any, optimizer: Any, gradient: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The parameter after a step from `value`."""
    with torch.no_grad():
        weights.copy_(torch.from_numpy(value))
    weights.grad = torch.from_numpy(gradient.copy())
    optimizer.step()
    return weights.detach().numpy().copy()


def record() -> None:
    """Write the recorded runs."""
    given, values = gradients(), np.random.default_rng(1).normal(size=(STEPS, 4))
    arrays = {"gradients": given, "values": values, "torch": np.array(torch.__version__.partition("+")[0])}
    for label, (name, hyperparameters) in CONFIGURATIONS.items():
        weights, optimizer = live(name, hyperparameters, (4,))
        after = []
        for t in range(STEPS):
            if t == RESTORED:
                state = optimizer.state_dict()
                arrays |= {
                    f"{label}/state/{key}": value.numpy().copy() for key, value in state["state"].get(0, {}).items()
                }
                arrays[f"{label}/group"] = np.array(json.dumps(state["param_groups"][0]))
            after.append(step(weights, optimizer, given[t], values[t] if sees_values(optimizer) else np.zeros(4)))
        arrays[f"{label}/name"] = np.array(name)
        arrays[f"{label}/after"] = np.stack(after)
    GOLDEN.parent.mkdir(exist_ok=True)
    np.savez_compressed(GOLDEN, **arrays)
    print(f"{len(CONFIGURATIONS)} runs of torch {torch.__version__} in {GOLDEN.name}, {GOLDEN.stat().st_size:,} bytes")


def sees_values(optimizer: Any) -> bool:
    """Whether a step depends on the value of its parameter. Where not, values are 0: a step is then exact."""
    group = optimizer.param_groups[0]
    return bool(group.get("weight_decay", 0) or group.get("lambd", 0))


def check() -> None:
    """Hold ours against live optimizers, on a matrix of parameters in two groups."""
    import jax
    import jax.numpy as jnp

    from reopt.examination.trajectories import relative_difference
    from reopt.optimizers.torch_bridge import from_torch, torch_states

    jax.config.update("jax_enable_x64", True)
    given = gradients()[:50].reshape(50, 2, 2)
    values = np.random.default_rng(1).normal(size=given.shape)
    for label, (name, hyperparameters) in CONFIGURATIONS.items():
        weights, optimizer = live(name, hyperparameters, (2, 2))
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(3))], "lr": 7.0})
        ours = from_torch(optimizer, group=0)
        take = jax.jit(ours.transformation.update)
        kept, changes, expected = ours.transformation.init(jnp.zeros((2, 2))), [], []
        for t in range(50):
            if t == RESTORED:
                with tempfile.TemporaryDirectory() as folder:
                    file = Path(folder) / "state.pt"
                    torch.save(optimizer.state_dict(), file)
                    assert from_torch(file, name=name, group=0) == ours
                    found = torch_states(file, name=name)[0]
                if ours.state_names:
                    assert found is not None
                    kept = dict(zip(ours.state_names, jnp.moveaxis(jnp.asarray(found), -1, 0), strict=True))
            at = values[t] if ours.sees_values else np.zeros((2, 2))
            change, kept = take(jnp.asarray(given[t]), kept, jnp.asarray(at))
            expected.append(step(weights, optimizer, given[t], at))
            changes.append(at + np.asarray(change))
        apart = relative_difference(np.stack(changes), np.stack(expected)).max()
        print(f"{label:28} largest relative difference {apart:.1e}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="run live optimizers beside ours")
    torch.set_default_dtype(torch.float64)
    check() if parser.parse_args().check else record()
