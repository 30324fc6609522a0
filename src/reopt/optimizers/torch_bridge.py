"""The bridge from torch: an optimizer of `torch.optim`, a saved state, or a name with hyperparameters, as one of ours.

torch itself is imported to read a file and for nothing else. A live optimizer is asked for its state and groups of
parameters; its equations are those of `reopt.optimizers.torch_rules`.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from jaxtyping import Float

from reopt.core.errors import ReoptError, shortened
from reopt.optimizers.refusals import BY_SHAPE, COUPLED, MORE, NotComponentWise
from reopt.optimizers.torch_rules import KINDS, TorchOptimizer

# What torch computes with, not what it computes, and what schedulers keep in a group of parameters.
_OTHER = {
    *("params", "param_names", "foreach", "fused", "capturable", "differentiable"),
    *("initial_lr", "max_lr", "min_lr", "swa_lr", "base_momentum", "max_momentum"),
}
_REFUSED = {
    "LBFGS": (MORE, "it asks for the loss at several points of a step, and couples all parameters by inner products"),
    "SparseAdam": (
        MORE,
        "it moves only the entries that a sparse gradient names; where each is named, torch:Adam takes the same steps",
    ),
    "Muon": (BY_SHAPE, "it takes matrices alone, and makes their updates orthogonal"),
    "Adafactor": (
        COUPLED,
        "its step grows with the root mean square of an array's values, and is cut by that of its updates",
    ),
}


def _kind(name: str) -> type[TorchOptimizer]:
    """**Raises** `NotComponentWise` for those of torch that are not of our type, `ReoptError` for unknown names."""
    if name in _REFUSED:
        kind, why = _REFUSED[name]
        raise NotComponentWise(kind, f"torch's {name} is no optimizer of single parameters: {why}")
    if name not in KINDS:
        raise ReoptError(f"torch.optim has no {shortened(name)} that is known here, but {', '.join(KINDS)}")
    return KINDS[name]


def _made(name: str, *values: Any, **given: Any) -> TorchOptimizer:
    """By name and hyperparameters. **Raises** `ReoptError`."""
    kind = _kind(name)
    own = [field.name for field in fields(kind)]
    given = {key: value for key, value in given.items() if key not in _OTHER}
    if len(values) > len(own) or (twice := given.keys() & set(own[: len(values)])):
        what = f"{min(twice)} twice" if len(values) <= len(own) else f"{len(values)} values"
        raise ReoptError(f"torch's {name} is given {what}; its hyperparameters are {', '.join(own)}")
    if unknown := sorted(given.keys() - set(own)):
        raise ReoptError(f"torch's {name} has no hyperparameter {shortened(unknown[0])!r}, but {', '.join(own)}")
    given |= dict(zip(own, values, strict=False))
    try:
        return kind(**{key: _plain(value) for key, value in given.items()})
    except (TypeError, ValueError) as error:
        raise ReoptError(f"torch's {name}: a hyperparameter is no number, pair of numbers or flag: {error}") from error


def _plain(value: Any) -> Any:
    """A hyperparameter as numbers of Python: it may be a tensor, in a pair too."""
    if isinstance(value, bool):
        return value
    if isinstance(value, tuple | list):
        return tuple(_plain(one) for one in value)
    return float(value)


def from_torch(source: Any, *, name: str | None = None, group: int | None = None) -> TorchOptimizer:
    """An optimizer of `torch.optim` as an optimizer of ours, which for each parameter takes torch's own steps.

    **Arguments:** `source` is a live `torch.optim.Optimizer`; or what its `state_dict()` gives; or a file that
    `torch.save` made of that, which is read with `weights_only=True` and takes torch (`reopt[torch]`). A state does not
    tell whose it is: `name` says it (`"Adam"`). `group` chooses among groups of parameters with different
    hyperparameters.

    Hyperparameters are those of now, a scheduler's too, and the initial state is that before the first gradient;
    `torch_states` reads the states that parameters are in. Weight decay is left out of F and r, and told in `caveats`;
    `reopt.diff` and `reopt.evaluate` take it into account.

    **Raises** `NotComponentWise`, a `ReoptError`, for those of torch that do not act on each parameter alone;
    `ReoptError` for a class of other code, an unknown hyperparameter, or a file that is no state.

    ```python
    import torch, reopt

    weights = torch.nn.Parameter(torch.zeros(3))
    print(reopt.dissect(reopt.from_torch(torch.optim.NAdam([weights])), reopt.tasks.Quadratic()))
    ```
    """
    name, state = _state_of(source, name)
    found = []
    for one in state["param_groups"]:
        hyperparameters = {key: value for key, value in one.items() if not isinstance(value, str)}
        found.append(_made(name, **hyperparameters))
    if group is not None:
        if not 0 <= group < len(found):
            raise ReoptError(f"there is no group {group} of parameters, but {len(found)}")
        return found[group]
    if not found or any(other != found[0] for other in found[1:]):
        raise ReoptError(
            f"its {len(found)} groups of parameters have different hyperparameters: choose one by group=0, 1, ..."
        )
    return found[0]


def torch_states(source: Any, *, name: str | None = None) -> list[Float[np.ndarray, "*param hidden"] | None]:
    """The state that each parameter of a torch optimizer is in, for `from_torch`'s optimizer to go on from.

    **Arguments:** as for `from_torch`. Each is shaped like its parameter, with one more axis for the components named
    by `state_names`, in float64; None where a parameter has not had a gradient yet.

    **Raises** `ReoptError` also where numbers that torch keeps with a state (NAdam's `mu_product`, ASGD's `eta`) do not
    follow from its hyperparameters and step, because these were changed on the way.
    """
    name, state = _state_of(source, name)
    found: list[np.ndarray | None] = []
    for group, one in enumerate(state["param_groups"]):
        optimizer = from_torch(state, name=name, group=group)
        found += [_state(optimizer, state["state"].get(index)) for index in one["params"]]
    return found


def _state(optimizer: TorchOptimizer, kept: Mapping[str, Any] | None) -> np.ndarray | None:
    if not kept:
        return None
    arrays = {key: _numbers(value) for key, value in kept.items() if value is not None}
    single = {key: float(value) for key, value in arrays.items() if value.ndim == 0}
    if not arrays:  # as plain SGD keeps it: a buffer that is None
        return None
    if "step" in single and (wrong := optimizer.consistent(single)):
        raise ReoptError(
            f"torch's {type(optimizer).__name__} has {wrong} at step {single['step']:g}: its hyperparameters were "
            "changed on the way, and an optimizer here has constant ones"
        )
    shape = np.broadcast_shapes(*(value.shape for value in arrays.values()))
    parts = []
    for part in optimizer.state_names:
        if part == "begun":
            arrays[part] = np.ones(())
        if part not in arrays:
            raise ReoptError(f"this state of torch's {type(optimizer).__name__} has no {part}, but {', '.join(arrays)}")
        parts.append(np.broadcast_to(arrays[part], shape))
    return np.stack(parts, axis=-1) if parts else np.zeros((*shape, 0))


def _numbers(value: Any) -> np.ndarray:
    """A tensor, array or number in float64."""
    if hasattr(value, "detach"):
        value = value.detach().double().cpu().numpy()
    return np.asarray(value, np.float64)


def _state_of(source: Any, name: str | None) -> tuple[str, Mapping[str, Any]]:
    """(class name, state dict) of what `from_torch` takes."""
    if isinstance(source, str | Path):
        source = _loaded(Path(source))
    if isinstance(source, Mapping):
        if not isinstance(source.get("param_groups"), list) or not isinstance(source.get("state"), Mapping):
            raise ReoptError("this is no state of a torch optimizer: it lacks 'state' and 'param_groups'")
        if name is None:
            raise ReoptError(f"a state does not tell whose it is: say name=, one of {', '.join(KINDS)}")
        return name, source
    if not (hasattr(source, "state_dict") and hasattr(source, "param_groups")):
        raise ReoptError(f"a {type(source).__name__} is no torch optimizer: it lacks state_dict and param_groups")
    kind = type(source)
    if not kind.__module__.startswith("torch.optim"):
        raise ReoptError(
            f"{kind.__module__}.{kind.__name__} is not of torch.optim: its steps are not known; port them to optax or "
            "to a reopt.Optimizer, and compare with `reopt diff`"
        )
    return name or kind.__name__, source.state_dict()


def _loaded(path: Path) -> Any:
    """What torch saved in a file, as far as it is tensors, numbers and texts. **Raises** `ReoptError`."""
    try:
        import torch
    except ImportError as error:
        raise ReoptError(f"{path} is read by torch, which is not installed: pip install 'reopt[torch]'") from error
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged, absent, or with objects that would run code
        said = shortened(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)
        raise ReoptError(f"torch cannot read {path} as tensors and numbers alone: {said}") from error


def _from_file(path: str, name: str, group: int | None = None) -> TorchOptimizer:
    return from_torch(Path(path), name=name, group=group)


def words() -> SimpleNamespace:
    """What a SUBJECT `torch:...` may name: `Adam(lr=1e-3)`, and `load('state.pt', 'Adam')` for a saved state."""
    makers: dict[str, Callable[..., TorchOptimizer]] = {name: partial(_made, name) for name in (*KINDS, *_REFUSED)}
    return SimpleNamespace(__name__="torch.optim", load=_from_file, **makers)
