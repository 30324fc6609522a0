"""The table `[tool.snakedvc]` of pyproject.toml: which configs are versioned, which rules are not."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from .errors import SnakedvcError

_KEYS = ("configs", "exclude")


@dataclass(frozen=True)
class Settings:
    """What is versioned: one set of stages for each config file, none for the excluded rules."""

    configs: tuple[str, ...]
    exclude: frozenset[str] = frozenset()


def read_settings(path: Path = Path("pyproject.toml")) -> Settings:
    """Read and check the table.

    Raises:
        SnakedvcError: the file or table is missing, a key is unknown or not a list of strings, or a config
            file does not exist.
    """
    try:
        table = tomllib.loads(path.read_text()).get("tool", {})["snakedvc"]
    except FileNotFoundError as error:
        raise SnakedvcError(f"{path} does not exist here: run this in the root of the repository.") from error
    except tomllib.TOMLDecodeError as error:
        raise SnakedvcError(f"{path} is not valid TOML: {error}.") from error
    except KeyError as error:
        raise SnakedvcError(
            f'{path} has no table [tool.snakedvc]: add one with configs = ["config/NAME.yaml"].'
        ) from error
    for key, value in table.items():
        if key not in _KEYS:
            raise SnakedvcError(
                f"[tool.snakedvc] has an unknown key '{key}': allowed are {', '.join(_KEYS)}."
            )
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise SnakedvcError(f"[tool.snakedvc] {key} must be a list of strings.")
    configs = tuple(table.get("configs", ()))
    for config in configs:
        if not (path.parent / config).is_file():
            raise SnakedvcError(f"[tool.snakedvc] names '{config}', which does not exist.")
    return Settings(configs, frozenset(table.get("exclude", ())))
