"""The slice of the config file that a rule reads, as key paths of that file.

Snakemake compares the slice as a parameter of the rule; DVC reads the same key paths from the same file.
"""

from collections.abc import Mapping
from typing import Any

from .errors import SnakedvcError


def section(config: Mapping[str, Any], *keypaths: str) -> dict[str, Any]:
    """Return `{key path: value}` of the named parts of a config, sorted, so that equal content compares equal.

    A key path is dotted (`"tasks.quadratic.num_steps"`) and may name a value, a list or a whole subtree.
    `config` must be the content of one config file as it stands: DVC looks the key paths up in that file.

    Raises:
        SnakedvcError: a key path is not in the config.
    """
    return {keypath: ordered(_lookup(config, keypath)) for keypath in sorted(set(keypaths))}


def ordered(value: Any) -> Any:
    """Return the value with every mapping in it sorted by key: Snakemake compares parameters by their `repr`."""
    if isinstance(value, Mapping):
        return {key: ordered(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, (list, tuple)):
        return [ordered(item) for item in value]
    return value


def _lookup(config: Mapping[str, Any], keypath: str) -> Any:
    value: Any = config
    for depth, key in enumerate(keypath.split(".")):
        if not isinstance(value, Mapping) or key not in value:
            above = ".".join(keypath.split(".")[:depth]) or "the top of the config"
            keys = (
                ", ".join(sorted(map(str, value))) if isinstance(value, Mapping) else "no keys, it is a value"
            )
            raise SnakedvcError(f"Config key '{keypath}' does not exist: {above} has {keys}.")
        value = value[key]
    return value
