"""Tuned baselines kept between calls of `dissect` and `evaluate`, in the user's cache folder.

A result is found by a digest of everything that decides it: the problems it was tuned on, where they start, the program
of their loss and what it gives there, the ranges, draws, seeds and steps, the source of this package, the versions of
what computes, and the kind of device. So a task may be anybody's code.
"""

import functools
import hashlib
import json
import math
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import reopt
from reopt.core.errors import ReoptError
from reopt.core.tables import read_json, write_json
from reopt.evaluation.keys import problem_key
from reopt.evaluation.unroll import batch_value_and_grad
from reopt.optimizers.load import build_baseline
from reopt.tasks.base import Task

FOLDER = "REOPT_CACHE"  # an environment variable: another folder; empty: none
_CODE = ("core", "tasks", "optimizers", "evaluation", "training")  # packages that tuning runs
_PACKAGES = ("reopt", "jax", "jaxlib", "equinox", "numpy")


def cache_folder() -> Path | None:
    """Where tuned baselines are kept: `$REOPT_CACHE`, else `$XDG_CACHE_HOME/reopt`, else `~/.cache/reopt`.

    None where that is switched off (`REOPT_CACHE=`), or there is no home.
    """
    if (given := os.environ.get(FOLDER)) is not None:
        return Path(given) if given else None
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # as the XDG specification says of relative ones: to be ignored
        try:
            base = Path.home() / ".cache"
        except RuntimeError:
            return None
    return base / "reopt"


@functools.cache
def _source() -> str:
    """A digest of the source that tuning runs."""
    root = Path(reopt.__file__).parent
    hasher = hashlib.sha256()
    for path in sorted(path for package in _CODE for path in (root / package).rglob("*.py")):
        hasher.update(f"{path.relative_to(root).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return hasher.hexdigest()


def task_digest(task: Task, *, problems: int, seed: int, num_steps: int) -> str:
    """A digest of a task as tuning meets it: its tuning problems, their starts, and its loss there.

    The loss counts by its compiled program and by losses and gradients at the first and the last step, which are other
    numbers where it holds other data.
    """

    def met(batch: Any, step: Any) -> Any:
        params = jax.vmap(task.initial_params)(batch)
        return params, batch_value_and_grad(task, batch, params, step)

    batch = task.sample_batch(problem_key("tuning", seed), problems)
    program = jax.jit(met)
    hasher = hashlib.sha256(program.lower(batch, jnp.zeros((), int)).as_text().encode())
    values = [program(batch, jnp.asarray(step)) for step in (0, num_steps - 1)]
    for leaf in jax.tree.leaves((batch, values)):
        data = jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        array = np.ascontiguousarray(data)
        hasher.update(f"{array.dtype.str} {array.shape}".encode() + array.tobytes())
    return hasher.hexdigest()


def entry(name: str, task: str, settings: Mapping[str, Any]) -> str:
    """The digest by which a tuned baseline is found: its name, that of its task, and all settings of `tune`."""
    decides = {
        "baseline": name,
        "task": task,
        "settings": dict(settings),
        "source": _source(),
        "versions": {package: version(package) for package in _PACKAGES},
        "device": jax.devices()[0].device_kind,
        "flags": [os.environ.get("XLA_FLAGS", ""), bool(jax.config.read("jax_enable_x64"))],
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def kept(folder: Path, digest: str) -> dict[str, Any] | None:
    """What was kept under a digest, a winner of `tune` or `{"diverged": True}`; None where nothing whole is there."""
    try:
        content = read_json(folder / "baselines" / f"{digest}.json")
        if content["digest"] != digest:
            return None
        winner = content["winner"]
        if winner == {"diverged": True}:
            return winner
        build_baseline(winner["baseline"], winner["hyperparameters"])
        sound = all(type(x) is float and math.isfinite(x) for x in winner["hyperparameters"].values())
        return winner if sound else None
    except (ReoptError, KeyError, TypeError, AttributeError):
        return None


def keep(folder: Path, digest: str, winner: Mapping[str, Any]) -> str:
    """Keep a winner; why it could not be kept, or nothing."""
    try:
        write_json(folder / "baselines" / f"{digest}.json", {"digest": digest, "winner": dict(winner)})
    except (ReoptError, OSError) as error:
        return str(error)
    return ""
