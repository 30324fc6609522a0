"""The stages of `dvc.yaml`: each owns folders of results, and one file with Snakemake's records of what is in them."""

import hashlib
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from .errors import SnakedvcError
from .state import MEMORY, read_json, write_json

DVC_YAML = Path("dvc.yaml")
RECORDS = ".records"  # the folder, below that of a config's results, where the records of its stages lie
_CACHE = MEMORY / "families.json"
_FORMAT = 1


@dataclass(frozen=True)
class Family:
    """A stage: the results it owns and what they may depend on.

    Attributes:
        name: DVC's name of the stage, `figures@laptop`.
        config: the config file that its command names.
        command: the words of its command.
        outs: files and folders of results.
        deps: files and folders that the jobs read: source code, results of other stages, config files.
        params: key paths of config files, by file.
        records: the file with Snakemake's records of the results.
        perishable: outputs that DVC would delete before the stage runs (no `persist: true`).
    """

    name: str
    config: str
    command: tuple[str, ...]
    outs: tuple[str, ...]
    deps: tuple[str, ...]
    params: dict[str, tuple[str, ...]]
    records: str
    perishable: tuple[str, ...] = ()

    def owns(self, path: str) -> bool:
        """Tell whether a result belongs to this stage."""
        return _within(path, self.outs)

    def reads(self, path: str) -> bool:
        """Tell whether a file is among the dependencies, alone or in a folder."""
        return _within(path, self.deps)

    def files(self) -> list[str]:
        """Return the files that are there now, in the folders that the stage owns, sorted."""
        found = []
        for out in map(Path, self.outs):
            found += [out] if out.is_file() else [path for path in out.rglob("*") if path.is_file()]
        return sorted(path.as_posix() for path in found)


def families(config: str | None = None) -> list[Family]:
    """Return the stages of `dvc.yaml`, or those of one config. Read by DVC, once for each version of the file.

    Raises:
        SnakedvcError: there is no such file, DVC refuses it, or a stage does not keep to the form of the contract.
    """
    key = _key()
    remembered = read_json(_CACHE, {})
    if remembered.get("key") != key:
        found = [_family(**described) for described in _read()]
        write_json(_CACHE, {"key": key, "families": [asdict(family) for family in found]})
    else:
        found = [_remembered(entry) for entry in remembered["families"]]
    return [family for family in found if config in (None, family.config)]


def owner(path: str, among: Iterable[Family]) -> Family | None:
    """Return the stage that a result belongs to; None if there is none, or more than one."""
    owners = [family for family in among if family.owns(path)]
    return owners[0] if len(owners) == 1 else None


def _within(path: str, places: Iterable[str]) -> bool:
    return any(path == place or path.startswith(place.rstrip("/") + "/") for place in places)


def _key() -> str:
    """Digest of what the stages follow from: `dvc.yaml`, and the files that its `vars` name."""
    try:
        content = DVC_YAML.read_bytes()
    except OSError as error:
        raise SnakedvcError(f"{DVC_YAML} cannot be read: {error.strerror}. Bring it back with git.") from error
    digest = hashlib.sha256(f"{_FORMAT}\n".encode() + content)
    try:
        named = (yaml.safe_load(content) or {}).get("vars") or []
    except (yaml.YAMLError, AttributeError):
        named = []  # DVC says it better
    for file in ["params.yaml", *(entry.partition(":")[0] for entry in named if isinstance(entry, str))]:
        if Path(file).is_file():
            digest.update(Path(file).read_bytes())
    return digest.hexdigest()


def _read() -> list[dict[str, Any]]:
    from dvc.dependency import ParamsDependency
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    described = []
    try:
        with Repo() as repo:
            for stage in repo.stage.collect(DVC_YAML.name):
                params = {dep.def_path: tuple(dep.params) for dep in stage.deps if isinstance(dep, ParamsDependency)}
                described.append(
                    {
                        "name": stage.name,
                        "command": stage.cmd,
                        "outs": [out.def_path for out in stage.outs],
                        "deps": [dep.def_path for dep in stage.deps if not isinstance(dep, ParamsDependency)],
                        "params": params,
                        "perishable": [out.def_path for out in stage.outs if not out.persist],
                    }
                )
    except DvcException as error:
        reason = " ".join(str(error).split())
        raise SnakedvcError(
            f"DVC cannot read {DVC_YAML}: {reason} If it is damaged: git checkout {DVC_YAML}"
        ) from error
    return described


def _family(
    name: str, command: Any, outs: list[str], deps: list[str], params: dict[str, tuple[str, ...]], perishable: list[str]
) -> Family:
    try:
        words = shlex.split(command) if isinstance(command, str) else []
    except ValueError:
        words = []
    if words[1:4] != ["-m", "snakedvc", "make"] or len(words) != 6:
        raise SnakedvcError(f"Stage '{name}' of {DVC_YAML} must have cmd: python -m snakedvc make CONFIG {name}")
    records = [out for out in outs if Path(out).parent.name == RECORDS]
    if len(records) != 1:
        raise SnakedvcError(
            f"Stage '{name}' of {DVC_YAML} needs one out in a folder {RECORDS}, for Snakemake's records: "
            f"results/NAME/{RECORDS}/STAGE.jsonl.gz"
        )
    owned = tuple(out for out in outs if out != records[0])
    return Family(name, words[4], tuple(words), owned, tuple(deps), params, records[0], tuple(perishable))


def _remembered(entry: dict[str, Any]) -> Family:
    lists = {
        key: tuple(value) for key, value in entry.items() if isinstance(value, Sequence) and not isinstance(value, str)
    }
    return Family(**(entry | lists | {"params": {file: tuple(keys) for file, keys in entry["params"].items()}}))
