"""The kinds of systems by name, and their checkpoints."""

import importlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from reopt.core.checkpoint import filled_from, named_arrays, read_checkpoint, write_checkpoint
from reopt.core.errors import ReoptError
from reopt.optimizers.base import Optimizer
from reopt.optimizers.joint import Alone, Inputs, Joint, Layout, State
from reopt.optimizers.wrapper import Delegate
from reopt.systems.schema import KindName

MODULES: dict[KindName, str] = {
    "star": "reopt.optimizers.star",
    "velo": "reopt.optimizers.velo",
    "hierarchical": "reopt.optimizers.hierarchical",
    "optim4rl": "reopt.optimizers.optim4rl",
}
"""Each has a function `create_KIND`; imported by name, so that a change of one trains no other kind again."""


class Loaded(NamedTuple):
    """A system from its checkpoint, and what the file says of it."""

    joint: Joint
    about: dict[str, Any]


def create(kind: KindName, settings: dict[str, Any], seed: int = 0) -> Joint:
    """A system before meta-training. **Raises** `ReoptError` where it has no such setting.

    star = create("star", {"nominal_scale": 0.1}, seed=3)
    """
    make = getattr(importlib.import_module(MODULES[kind]), f"create_{kind}")
    try:
        made = make(jax.random.key(seed), **settings)
    except TypeError as error:
        raise ReoptError(f"{kind} cannot be made with the settings {settings}: {error}") from error
    return made if isinstance(made, Joint) else Alone(made)


def save(path: Path | str, joint: Joint, kind: KindName, settings: dict[str, Any], **about: Any) -> None:
    """Its weights, and what makes the rest of it again: safetensors, with JSON inside."""
    write_checkpoint(path, named_arrays(joint), {"kind": kind, "settings": settings, **about})


def load(path: Path | str) -> Loaded:
    """A system that `save` wrote. **Raises** `ReoptError` where the file is none of a system, or not whole."""
    arrays, about = read_checkpoint(path)
    if about.get("kind") not in MODULES or not isinstance(about.get("settings"), dict):
        raise ReoptError(f"{path} is a checkpoint, but none of a system ({', '.join(MODULES)})")
    if odd := [name for name, array in arrays.items() if not np.isfinite(array).all()]:
        raise ReoptError(f"checkpoint {path}: array {odd[0]!r} holds values that are not finite")
    return Loaded(filled_from(create(about["kind"], about["settings"]), arrays, path), about)


def is_system(path: Path | str) -> bool:
    """Whether a file is a checkpoint of a system."""
    path = Path(path)
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        return read_checkpoint(path)[1].get("kind") in MODULES
    except ReoptError:
        return False


class Scaled(Joint):
    """A system whose updates are multiplied by a factor: its learning rate chosen anew."""

    joint: Joint
    factor: Array

    @property
    def sees_validation(self) -> bool:  # type: ignore[override]
        return self.joint.sees_validation

    def start(self, layout: Layout, params: Array) -> State:
        return self.joint.start(layout, params)

    def sense(self, layout: Layout, state: State, inputs: Inputs) -> tuple[Any, Any]:
        return self.joint.sense(layout, state, inputs)

    def one(self, context: Any) -> Optimizer:
        return ScaledSlice(self.joint.one(context), self.factor)


class ScaledSlice(Delegate):
    """An optimizer whose updates are multiplied by a factor."""

    inner: Optimizer
    factor: Array

    def readout(self, state: Array, gradient: Array) -> Array:
        return self.factor * super().readout(state, gradient)
