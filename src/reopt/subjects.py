"""Subjects: what an examination or evaluation is pointed at, from the words of a command line."""

import importlib
import importlib.util
import math
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from reopt.artifacts.checkpoint import read_checkpoint
from reopt.artifacts.tables import read_json
from reopt.errors import ReoptError
from reopt.names import POLYAK
from reopt.optimizers.base import Optimizer
from reopt.optimizers.classical import BASELINES, polyak
from reopt.tasks.base import Task
from reopt.training.metatrain import load_learned
from reopt.training.tune import build_baseline


def polyak_of(task: Task) -> Optimizer:
    """Heavy ball with Polyak's rates for the task's eigenvalue range. **Raises** `ReoptError` if it has none."""
    span = getattr(task, "log10_eigenvalues", None)
    if span is None:
        raise ReoptError("polyak is known for quadratics alone: this task has no eigenvalue range")
    return polyak(*span)


def load_baseline(path: Path | str) -> Optimizer:
    """A tuned baseline from the winner that `reopt tune` wrote. **Raises** `ReoptError`."""
    content = read_json(path)
    try:
        hyperparameters = dict(content["hyperparameters"])
        if all(type(value) in (int, float) and math.isfinite(value) for value in hyperparameters.values()):
            return build_baseline(content["baseline"], hyperparameters)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ReoptError(f"{path} is not a tuned baseline written by reopt tune") from error
    raise ReoptError(f"{path}: a hyperparameter is not a finite number")


def best_checkpoint(folder: Path) -> Path:
    """Of the checkpoints `folder/*/best.safetensors`, the one that did best in validation."""
    found = sorted(folder.glob("*/best.safetensors"))
    if not found:
        raise ReoptError(f"no learned optimizer below {folder}: run the pipeline first, or `dvc pull`")

    def objective(path: Path) -> float:
        value = read_checkpoint(path)[1].get("validation_meta_objective")
        return value if isinstance(value, float) else math.inf

    return min(found, key=objective)


def load_object(words: str) -> Any:
    """The object behind `file.py:name` or `package.module:name`. **Raises** `ReoptError`."""
    origin, _, name = words.rpartition(":")
    try:
        if origin.endswith(".py"):
            path = Path(origin)
            if not path.is_file():
                raise ReoptError(f"there is no file {path}")
            spec = importlib.util.spec_from_file_location(f"reopt_subject_{path.stem}", path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(origin)
    except ReoptError:
        raise
    except (Exception, SystemExit) as error:  # whatever somebody's file does when it runs
        raise ReoptError(f"cannot import {origin}: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        raise ReoptError(f"{origin} has no {name!r}")
    return getattr(module, name)


def _as_optimizer(found: Any, words: str, *, decay: bool, coupled: bool) -> Optimizer:
    """An optimizer of our type from an object: ours, an optax transformation, or a function that gives one."""
    from reopt.optimizers.optax_bridge import from_optax

    if callable(found) and not isinstance(found, Optimizer) and not hasattr(found, "init"):
        try:
            found = found()
        except (Exception, SystemExit) as error:
            raise ReoptError(f"{words}() failed: {type(error).__name__}: {error}") from error
    if isinstance(found, Optimizer):
        return _checked(found, words)
    if hasattr(found, "init") and hasattr(found, "update"):
        return from_optax(found, decay=decay, coupled=coupled)
    raise ReoptError(f"{words} is a {type(found).__name__}, not an optimizer of reopt or of optax")


def _checked(optimizer: Optimizer, words: str) -> Optimizer:
    """The optimizer, once it has been seen to take a step on any number of parameters. **Raises** `ReoptError`."""
    try:
        gradient = jnp.zeros((2, 3))
        shapes = [part.shape for part in jax.eval_shape(optimizer, optimizer.initial_states((2, 3)), gradient)]
        wanted = [(*gradient.shape, optimizer.state_size), gradient.shape]
    except Exception as error:
        raise ReoptError(f"{words} cannot take a step: {type(error).__name__}: {error}") from error
    if shapes != wanted:
        raise ReoptError(f"{words} gives a state and an update of shapes {shapes} for gradients {gradient.shape}")
    return optimizer


def resolve(
    words: str, *, task: Task, task_name: str, results: Path, decay: bool = False, coupled: bool = False
) -> tuple[str, Optimizer]:
    """(name, optimizer) of a SUBJECT.

    **Arguments:** `words` is a checkpoint's path, `best`, a baseline's name, `polyak`, a learned subject of the
    pipeline (`gru32-s0`), a file of GRU weights (`weights.npz`, see `load_npz`), `file.py:name` or
    `package.module:name`; `results` is the config's folder of results; `decay` and `coupled` are those of `from_optax`.

    **Raises** `ReoptError`.
    """
    folder = results / task_name
    if words == POLYAK:
        return words, polyak_of(task)
    if words in BASELINES:
        path = folder / "baselines" / f"{words}.json"
        if not path.exists():
            raise ReoptError(f"{words} is not tuned yet: {path} is missing; run the pipeline first, or `dvc pull`")
        return words, load_baseline(path)
    if words == "best":
        path = best_checkpoint(folder / "optimizers")
        return path.parent.name, load_learned(path)
    path = Path(words)
    if path.suffix == ".npz":
        from reopt.optimizers.foreign_gru import load_npz

        return path.stem, _checked(load_npz(path), words)
    if path.suffix == ".json" and path.is_file():
        return path.stem, load_baseline(path)
    if path.exists() or path.suffix == ".safetensors":
        return path.parent.name if path.stem in ("best", "last") else path.stem, load_learned(path)
    named = folder / "optimizers" / words / "best.safetensors"
    if named.exists():
        return words, load_learned(named)
    if ":" in words:
        return words.rpartition(":")[2], _as_optimizer(load_object(words), words, decay=decay, coupled=coupled)
    raise ReoptError(
        f"unknown subject {words!r}: give a checkpoint's path, best, {POLYAK}, one of {', '.join(BASELINES)}, "
        "weights.npz, file.py:name or package.module:name"
    )
