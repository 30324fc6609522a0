"""Optimizers from files: a meta-trained checkpoint, a tuned baseline; apart from training, which no analysis needs."""

import math
from pathlib import Path
from typing import Any

import jax
import numpy as np

from reopt.core.checkpoint import filled_from, read_checkpoint
from reopt.core.errors import ReoptError
from reopt.core.tables import read_json
from reopt.optimizers.base import Optimizer
from reopt.optimizers.classical import BASELINES
from reopt.optimizers.learned import LearnedOptimizer, create_learned

MOST_UNITS = 4096  # of a cell, as in the config


def load_learned(path: Path | str) -> LearnedOptimizer:
    """The learned optimizer in a checkpoint written by `metatrain` (its averaged, best weights).

    **Raises** `ReoptError` where the file is no such checkpoint, not whole, or holds weights that are not finite.
    """
    arrays, description = read_checkpoint(path)
    if "kind" in description and "optimizer" not in description:
        raise ReoptError(f"{path} sees more than its own gradient: only `reopt dissect` and `evaluate` take it")
    try:
        architecture = description["optimizer"]
        if not 1 <= architecture["units"] <= MOST_UNITS:
            raise ValueError("units out of bounds")
        like = jax.eval_shape(lambda: create_learned(jax.random.key(0), **architecture))
        if not math.isfinite(like.input_scale) or not math.isfinite(like.output_scale):
            raise ValueError("a scale is not finite")
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise ReoptError(f"checkpoint {path} does not describe a learned optimizer") from error
    if any(name.startswith("best.") for name in arrays):
        arrays = {name.removeprefix("best."): a for name, a in arrays.items() if name.startswith("best.")}
    optimizer = filled_from(like, arrays, path)
    for name, array in arrays.items():
        if not np.all(np.isfinite(array)):
            raise ReoptError(f"checkpoint {path}: array {name!r} holds values that are not finite")
    return optimizer


def build_baseline(name: str, hyperparameters: dict[str, Any]) -> Optimizer:
    """A classical optimizer from its name and hyperparameters. **Raises** `ReoptError`."""
    try:
        return BASELINES[name](**hyperparameters)
    except (KeyError, TypeError) as error:
        raise ReoptError(f"no baseline {name!r} with hyperparameters {sorted(hyperparameters)}") from error


def load_baseline(path: Path | str) -> Optimizer:
    """A tuned baseline from the winner that `reopt tune` wrote. **Raises** `ReoptError`."""
    content = read_json(path)
    try:
        hyperparameters = content["hyperparameters"]
        if all(type(value) in (int, float) and math.isfinite(value) for value in hyperparameters.values()):
            return build_baseline(content["baseline"], hyperparameters)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ReoptError(f"{path} is not a tuned baseline written by reopt tune") from error
    except ReoptError as error:
        raise ReoptError(f"{path}: {error}") from error
    raise ReoptError(f"{path}: a hyperparameter is not a finite number")
