"""Subjects: what an examination or evaluation is pointed at, from the words of a command line."""

import ast
import contextlib
import importlib
import importlib.util
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp

from reopt.core.checkpoint import read_checkpoint
from reopt.core.errors import ReoptError, shortened
from reopt.core.foreign import foreign, loaded
from reopt.optimizers.base import Optimizer
from reopt.optimizers.classical import BASELINES, polyak
from reopt.optimizers.load import load_baseline, load_learned
from reopt.optimizers.names import BEST_LINEAR, POLYAK, THEORY
from reopt.optimizers.optax_bridge import FromOptax, from_optax
from reopt.optimizers.refusals import VALUES, NotComponentWise
from reopt.optimizers.soundness import refuse_unsound
from reopt.tasks.base import Task

SHIPPED = "reopt.shipped.cards"  # not imported: no result of the pipeline depends on what is shipped of its results
SHIPPED_NAME = re.compile(r"[a-z][a-z0-9_]*/[a-z][a-z0-9_]*")  # TASK/NETWORK


def polyak_of(task: Task) -> Optimizer:
    """Heavy ball with Polyak's rates for the task's eigenvalue range. **Raises** `ReoptError` if it has none."""
    span = getattr(task, "log10_eigenvalues", None)
    if span is None:
        raise ReoptError("polyak is known for quadratics alone: this task has no eigenvalue range")
    return polyak(*span)


def best_checkpoint(folder: Path) -> Path:
    """Of the checkpoints `folder/*/best.safetensors`, the one that did best in validation."""
    found = sorted(folder.glob("*/best.safetensors"))
    if not found:
        raise ReoptError(f"no learned optimizer below {folder}: run the pipeline first, or `dvc pull`")

    def objective(path: Path) -> float:
        value = read_checkpoint(path)[1].get("validation_meta_objective")
        return value if isinstance(value, float) else math.inf

    return min(found, key=objective)


def split_object(words: str) -> tuple[str, str]:
    """(file or module, name or call) of `file.py:name`, `package.module:name` or `optax:adam(1e-2)`."""
    head, bracket, rest = words.partition("(")
    origin, _, name = head.rpartition(":")
    return origin, name + bracket + rest


def load_object(words: str) -> Any:
    """The object behind `file.py:name` or `package.module:name`, or what a call of it with plain values gives:
    `optax:chain(clip(1.0), adam(1e-2))`. `torch:Adam(lr=1e-2)` is one of ours, and takes no torch. **Raises**
    `ReoptError`."""
    origin, name = split_object(words)
    if origin in ("torch", "torch.optim"):
        with foreign(f"{shortened(words)} failed"):
            # By name: an edit of torch's equations is none of what analyses everything else.
            return _value(_parsed(name), importlib.import_module("reopt.optimizers.torch_bridge").words())
    if origin.endswith(".py") and not Path(origin).is_file():
        raise ReoptError(f"there is no file {shortened(origin)}")
    with foreign(f"cannot import {shortened(origin)}"):
        module = _module_in(Path(origin)) if origin.endswith(".py") else importlib.import_module(origin)
    loaded(module.__name__)
    if "(" in name:
        call = _parsed(name)
        with foreign(f"{shortened(words)} failed"):
            return _value(call, module)
    with foreign(f"cannot take {shortened(name)} from {shortened(origin)}"):
        if not hasattr(module, name):
            raise ReoptError(f"{shortened(origin)} has no {shortened(name)!r}")
        return getattr(module, name)


def _parsed(text: str) -> ast.expr:
    """A call, by its text. **Raises** `ReoptError`."""
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ReoptError(f"{shortened(text)} is no call that Python can read") from error


def _value(node: ast.expr, module: ModuleType | SimpleNamespace) -> Any:
    """The value of calls, names of the module and plain values; nothing else is run. **Raises** `ReoptError`."""
    if isinstance(node, ast.Call):
        given = [_value(one, module) for one in node.args]
        return _value(node.func, module)(*given, **{str(one.arg): _value(one.value, module) for one in node.keywords})
    if isinstance(node, ast.Name | ast.Attribute):
        owner = _value(node.value, module) if isinstance(node, ast.Attribute) else module
        name = node.attr if isinstance(node, ast.Attribute) else node.id
        if name.startswith("_") or not hasattr(owner, name):
            raise ReoptError(f"{getattr(owner, '__name__', type(owner).__name__)} has no {shortened(name)!r}")
        return getattr(owner, name)
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(one, module) for one in node.elts]
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise ReoptError(f"{shortened(ast.unparse(node))} is no call, name or plain value") from error


def _module_in(path: Path) -> ModuleType:
    """The module that a file makes when it is run."""
    spec = importlib.util.spec_from_file_location(f"reopt_subject_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def made(found: Any, words: str) -> Any:
    """An object, or what it gives where it is a function or class that gives one. **Raises** `ReoptError`."""
    with foreign(f"{shortened(words)}() failed"):
        if callable(found) and not isinstance(found, Optimizer) and not hasattr(found, "init"):
            return found()
    return found


@contextlib.contextmanager
def named(words: str) -> Iterator[None]:
    """Say of which subject an error is, for a command may have been given several."""
    try:
        yield
    except ReoptError as error:
        raise ReoptError(f"{shortened(words)}: {error}") from error


def _as_optimizer(found: Any, words: str, *, decay: bool, coupled: bool) -> Optimizer:
    """An optimizer of our type from an object: ours, an optax transformation, or a function that gives one."""
    found = made(found, words)
    with foreign(f"{shortened(words)} cannot take a step"):
        if isinstance(found, Optimizer):
            refuse_unsound(found, shortened(words))
            if getattr(found, "sees_values", False) and not decay:
                raise NotComponentWise(VALUES, f"{shortened(words)}: here it can be taken without weight decay alone")
            return found
        if hasattr(found, "init") and hasattr(found, "update"):
            with named(words):
                return from_optax(found, decay=decay, coupled=coupled)
    raise ReoptError(f"{shortened(words)} is a {type(found).__name__}, not an optimizer of reopt or of optax")


def _try(optimizer: Optimizer, words: str, shape: tuple[int, ...]) -> None:
    """Trace a step at the shape of a task, for code may do another thing there. **Raises** `ReoptError`."""
    with foreign(f"{shortened(words)} cannot take a step"):
        gradient = jax.ShapeDtypeStruct(shape, jnp.float32)
        state = jax.ShapeDtypeStruct((*shape, optimizer.state_size), jnp.float32)
        jax.eval_shape(lambda h, g: optimizer(h, g), state, gradient)


def resolve(
    words: str, *, task: Task, task_name: str, results: Path, decay: bool = False, coupled: bool = False
) -> tuple[str, Optimizer]:
    """(name, optimizer) of a SUBJECT.

    **Arguments:** `words` is a checkpoint's path, `best`, a baseline's name, `polyak`, `best_linear`, a learned subject
    of the pipeline (`gru32-s0`), a shipped one (`mnist/gru16`), a file of GRU weights (`weights.npz`, see `load_npz`),
    `file.py:name` or `package.module:name`, also called with plain values (`optax:adam(1e-2)`,
    `torch:Adam(lr=1e-2)`); `results` is the config's folder of results; `decay` and `coupled` are those of
    `from_optax`.

    **Raises** `ReoptError`.
    """
    folder = results / task_name
    if words == POLYAK:
        return words, polyak_of(task)
    if words == BEST_LINEAR:
        # By name: the theory is source of what evaluates it (see `stages`), not of every analysis.
        return words, importlib.import_module("reopt.dynamics.linear_theory").best_linear(task)
    if words in BASELINES:
        path = folder / "baselines" / f"{words}.json"
        if not path.exists():
            raise ReoptError(f"{words} is not tuned yet: {path} is missing; run the pipeline first, or `dvc pull`")
        return words, load_baseline(path)
    if words == "best":
        path = best_checkpoint(folder / "optimizers")
        return path.parent.name, load_learned(path)
    if words.startswith("open:"):
        raise ReoptError(f"{words} sees more than its own gradient: only `reopt dissect` and `evaluate` take it")
    path = Path(words)
    if SHIPPED_NAME.fullmatch(words) and not path.is_file():
        return words, importlib.import_module(SHIPPED).load_shipped(words)
    if path.suffix == ".npz":
        from reopt.optimizers.foreign_gru import load_npz

        return path.stem, load_npz(path)
    if path.suffix == ".json" and path.is_file():
        return path.stem, load_baseline(path)
    if path.exists() or path.suffix == ".safetensors":
        return path.parent.name if path.stem in ("best", "last") else path.stem, load_learned(path)
    named = folder / "optimizers" / words / "best.safetensors"
    if named.exists():
        return words, load_learned(named)
    if ":" in words:
        optimizer = _as_optimizer(load_object(words), words, decay=decay, coupled=coupled)
        if not isinstance(optimizer, FromOptax):  # which has been tried at many shapes
            _try(optimizer, words, (task.num_params,))
        return split_object(words)[1], optimizer
    raise ReoptError(
        f"unknown subject {shortened(words)!r}: give a checkpoint's path, a name that `reopt optimizers` lists, best, "
        f"{', '.join(THEORY)}, one of {', '.join(BASELINES)}, weights.npz, file.py:name, package.module:name or "
        "torch:Adam(lr=1e-3)"
    )
