"""Config files of published systems."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reopt.core.errors import ReoptError
from reopt.pipeline.config import read_yaml
from reopt.systems.schema import Claim, SystemsConfig


def parse(content: dict[str, Any], origin: str) -> SystemsConfig:
    """Check the content of a config file. **Raises** `ReoptError` in one line with file, key and what is wrong."""
    try:
        config = SystemsConfig.model_validate(content)
    except ValidationError as error:
        raise ReoptError(f"{origin}: {_first(error)}") from error
    for name, entry in config.tasks.items():
        try:
            _ = entry.task
        except ValidationError as error:
            raise ReoptError(f"{origin}: tasks.{name}.problem.{_first(error)}") from error
    for name, system in config.systems.items():
        if system.task not in config.tasks:
            raise ReoptError(f"{origin}: systems.{name}.task: there is no task {system.task!r}")
        origin_of = config.systems.get(system.variant_of or name)
        if origin_of is None or origin_of.task != system.task or (origin_of is not system and origin_of.variant_of):
            raise ReoptError(
                f"{origin}: systems.{name}.variant_of: {system.variant_of!r} is no system on {system.task} with a panel"
            )
    for name, claim in config.claims.items():
        _check_claim(config, claim, f"{origin}: claims.{name}")
    return config


def _check_claim(config: SystemsConfig, claim: Claim, where: str) -> None:
    if claim.system not in config.systems:
        raise ReoptError(f"{where}.system: there is no system {claim.system!r}")
    system = config.systems[claim.system]
    others = [name for name, one in config.systems.items() if one.task == system.task and name != claim.system]
    known = [*config.tasks[system.task].rivals, *others]
    if claim.against not in known:
        raise ReoptError(f"{where}.against: {claim.against!r} is none of {', '.join(known)}")
    if claim.form == "scaled" and len(system.factors) == 1:
        raise ReoptError(f"{where}.form: {claim.system} has one factor alone, so there is no best")


def _first(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in problem["loc"])
    return " ".join(f"{place}: {problem['msg']}".split())


def load_systems(path: Path | str) -> SystemsConfig:
    """Read and check a config file. **Raises** `ReoptError`."""
    return parse(read_yaml(path), str(path))


def filled(content: dict[str, Any], origin: str) -> dict[str, Any]:
    """The content of a config file with every default. **Raises** `ReoptError` as `parse` does."""
    return parse(content, origin).model_dump(mode="json")
