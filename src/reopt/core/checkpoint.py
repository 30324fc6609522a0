"""Checkpoints: named arrays and a JSON description in one safetensors file, without pickle.

A digest over description and arrays is stored inside, so that a cut, flipped or mixed-up file is never loaded.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from reopt.core.atomic import write_atomically
from reopt.core.errors import ReoptError

# One key only: safetensors writes its metadata in an order that changes from run to run.
_KEY = "reopt"


def _digest(description: str, arrays: dict[str, np.ndarray]) -> str:
    hasher = hashlib.sha256(description.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        hasher.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        hasher.update(array.tobytes())
    return hasher.hexdigest()


def write_checkpoint(path: Path | str, arrays: dict[str, np.ndarray], description: dict[str, Any]) -> None:
    """Write arrays and their JSON description atomically; equal contents give equal bytes."""
    arrays = {name: np.array(array, order="C") for name, array in arrays.items()}
    text = json.dumps(description, sort_keys=True)
    metadata = {_KEY: json.dumps({"description": text, "digest": _digest(text, arrays)}, sort_keys=True)}
    content = save(arrays, metadata)
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def read_checkpoint(path: Path | str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of a checkpoint and their description.

    **Raises** `ReoptError` where there is no such file, or it is no checkpoint of ours, or not whole.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise ReoptError(f"{path} is a folder, not a checkpoint file")
        if not path.exists():
            raise ReoptError(f"there is no checkpoint at {path}")
        if not path.is_file():  # a pipe would be waited for without end
            raise ReoptError(f"{path} is not a file")
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if _KEY not in metadata:  # before its arrays are read, of which there may be gigabytes
                raise ReoptError(f"{path} is a safetensors file, but not a checkpoint written by reopt")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise ReoptError(f"{path} is not a readable checkpoint (safetensors): {_first_line(error)}") from error
    try:
        envelope = json.loads(metadata[_KEY])
        text, digest = envelope["description"], envelope["digest"]
        description = json.loads(text)
        if not isinstance(description, dict):
            raise TypeError("no keys")
        whole = _digest(text, arrays) == digest
    except (ValueError, KeyError, TypeError, RecursionError, AttributeError) as error:
        raise ReoptError(f"the description inside checkpoint {path} is damaged") from error
    if not whole:
        raise ReoptError(f"checkpoint {path} is damaged: its contents do not match the digest stored in it")
    return arrays, description


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def named_arrays(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a pytree by their dotted paths: what `write_checkpoint` takes."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in leaves}


def filled_from(like: Any, arrays: dict[str, np.ndarray], path: Path | str) -> Any:
    """Arrays back into the structure of `like`, each of the right name, shape and type.

    **Raises** `ReoptError` where `arrays`, read from the checkpoint `path`, are others.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    names = [jax.tree_util.keystr(keys, simple=True, separator=".") for keys, _ in leaves]
    if set(names) != set(arrays):
        odd = sorted(set(names) ^ set(arrays))[0]
        raise ReoptError(f"checkpoint {path} does not fit its own description: array {odd!r} is missing or unknown")
    filled = []
    for name, (_, leaf) in zip(names, leaves, strict=True):
        array = arrays[name]
        if array.shape != leaf.shape or array.dtype != leaf.dtype:
            raise ReoptError(
                f"checkpoint {path}: array {name!r} is {array.dtype}{list(array.shape)}, "
                f"not {leaf.dtype}{list(leaf.shape)} as its description says"
            )
        filled.append(jnp.asarray(array))
    return jax.tree.unflatten(structure, filled)
