"""Every byte that `dvc.lock` names, read anew: in the workspace, in DVC's cache and in its remote.

DVC and Snakemake take a file for unchanged while its size and time stamp are. A flipped bit on a disk changes neither.
"""

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

from .contents import md5_of
from .errors import SnakedvcError
from .families import DVC_YAML, Family, families, owner
from .lockfile import Entry, checked_lock
from .recorder import alone
from .recording import unrecorded
from .records import all_records

REPAIR = "python -m snakedvc verify --repair"
WORKSPACE, CACHE, REMOTE = "workspace", "cache", "remote"


class Damage(NamedTuple):
    """One damaged thing, what follows from it, and the command that heals it."""

    place: str
    path: str
    what: str
    follows: tuple[str, ...]
    heal: str

    def __str__(self) -> str:
        follows = f"; {_listed(self.follows)} follow from it" if self.follows else ""
        return f"{self.path} ({self.place}): {self.what}{follows}. Heal it with: {self.heal}"


@dataclass
class Verified:
    """What `verify` found.

    Attributes:
        files: how many copies were read.
        damages: what is damaged or lost.
        absent: how many copies are not there, by place; no damage while there is another one.
        repaired: what was healed.
    """

    files: int = 0
    damages: list[Damage] = field(default_factory=list)
    absent: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    repaired: list[str] = field(default_factory=list)


def verify(*, remote: bool = True, repair: bool = False) -> Verified:
    """Hash everything that `dvc.lock` names, past all caches.

    Args:
        remote: read the remote, too.
        repair: put an intact copy in the place of each damaged one; where there is none, remove the damaged ones, so
            that Snakemake makes the file again.

    Returns:
        What is damaged, with what follows from it and the command that heals it.

    Raises:
        SnakedvcError: DVC cannot open the repository or the remote.
    """
    found = Verified()
    try:
        stages = families()
        lock = checked_lock(family.name for family in stages)
    except SnakedvcError as error:
        found.damages.append(
            Damage("git", str(error).partition(" ")[0], "cannot be relied on", (), _last_command(error))
        )
        return found
    for name in sorted(set(lock) - {family.name for family in stages}):
        heal = f"git checkout HEAD -- {DVC_YAML} (or, if it was removed on purpose, python -m snakedvc record --prune)"
        found.damages.append(Damage("git", str(DVC_YAML), f"has no stage {name}, which dvc.lock has", (), heal))
    with alone(), places(remote=remote) as stores:
        _verify(found, lock, stages, stores, repair)
    return found


class Place:
    """A store of objects under their md5: DVC's cache, or its remote."""

    def __init__(self, name: str, odb: Any) -> None:
        self.name, self._odb, self.local = name, odb, odb.fs.protocol in ("local", "file")
        self.changed = False

    def path(self, md5: str) -> str:
        """Return where the object is or would be."""
        path = str(self._odb.oid_to_path(md5))
        return os.path.relpath(path) if self.local else path

    def digest(self, md5: str) -> str | None:
        """Return the md5 of the object as it is, None if it is not there."""
        try:
            with self.open(md5) as file:
                digest = hashlib.md5(usedforsecurity=False)
                while piece := file.read(1 << 20):
                    digest.update(piece)
        except FileNotFoundError:
            return None
        return digest.hexdigest()

    def open(self, md5: str) -> IO[bytes]:
        """Open the object to be read."""
        return self._odb.fs.open(self._odb.oid_to_path(md5), "rb")

    def remove(self, md5: str) -> None:
        """Remove the object, if it is there."""
        from dvc_data.hashfile.db import get_index

        with contextlib.suppress(FileNotFoundError):
            self._odb.fs.remove(self._odb.oid_to_path(md5))
        get_index(self._odb).clear()
        self.changed = True

    def put(self, md5: str, source: Path) -> None:
        """Store the content of a file as the object, in the place of what is there."""
        self.remove(md5)
        path = self._odb.oid_to_path(md5)
        self._odb.fs.makedirs(self._odb.fs.parent(path), exist_ok=True)
        self._odb.fs.put_file(os.fspath(source), path)
        if self.name == CACHE:
            os.chmod(path, 0o444)


@contextlib.contextmanager
def places(*, remote: bool) -> Iterator[list[Place]]:
    """Open DVC's cache and, with `remote`, its default remote.

    Raises:
        SnakedvcError: DVC cannot open the repository or the remote.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            stores = [Place(CACHE, repo.cache.local)]
            if remote and repo.config["core"].get("remote"):
                stores.append(Place(REMOTE, repo.cloud.get_remote_odb()))
            yield stores
            if any(store.changed for store in stores):
                repo.drop_data_index()  # DVC's memory of what is there
    except DvcException as error:
        raise SnakedvcError(f"DVC says: {' '.join(str(error).split())}") from error


def _verify(
    found: Verified, lock: Mapping[str, Entry], stages: list[Family], stores: list[Place], repair: bool
) -> None:
    followers = _followers()
    copies: dict[str, list[str]] = defaultdict(list)  # object: paths in the workspace that have its content
    folders: dict[str, str] = {}  # object that lists a folder: the folder
    for entry in lock.values():
        for out in entry["outs"]:
            if out["md5"].endswith(".dir"):
                folders[out["md5"]] = out["path"]
            else:
                copies[out["md5"]].append(out["path"])
    listed: dict[str, list[str]] = defaultdict(list)  # object: the lists in the remote that name it
    for md5, folder in folders.items():
        good, bad = _states(md5, stores, found)
        listing = _listing(md5, folder, good, found)
        if listing is None:
            heal = f"{REPAIR}, then python -m snakedvc record"
            found.damages.append(Damage(CACHE, folder, "the list of its files is nowhere intact", (), heal))
            if repair:
                for place in bad:
                    place.remove(md5)
            continue
        _settle(found, md5, (), folder, listing, bad, repair, followers)
        there = any(place.name == REMOTE for place in good)
        for item in json.loads(listing.read_bytes()):
            copies[item["md5"]].append(f"{folder}/{item['relpath']}")
            if there:
                listed[item["md5"]].append(md5)
    pending = unrecorded()
    for md5, paths in sorted(copies.items(), key=lambda item: item[1]):
        _file(found, md5, paths, stores, stages, pending, repair, followers, listed[md5])


def _file(
    found: Verified,
    md5: str,
    paths: list[str],
    stores: list[Place],
    stages: list[Family],
    pending: set[str],
    repair: bool,
    followers: Mapping[str, set[str]],
    listed: list[str],
) -> None:
    """Verify one content: the files of the workspace that have it, and its objects.

    DVC takes for granted that a remote which has the list of a folder has the files in it. So `listed`, the lists there
    that name this object, go with it where no copy is left to put there.
    """
    good, bad = _states(md5, stores, found, expected=bool(listed))
    intact, altered, missing = [], [], []
    for path in paths:
        if not os.path.isfile(path):
            missing.append(path)
            found.absent[WORKSPACE] += 1
        elif md5_of(path) == md5:
            intact.append(path)
        elif path not in pending:
            altered.append(path)
        found.files += path not in missing
    if intact:
        _settle(found, md5, altered, paths[0], Path(intact[0]), bad, repair, followers)
    elif good:
        if altered or bad:
            _settle(found, md5, altered, paths[0], _fetched(md5, good[0]), bad, repair, followers)
    elif altered or bad or not any(path in pending for path in paths):
        follows = tuple(sorted(set().union(*(_downstream(path, followers) for path in paths))))
        config = next((home.config for path in paths if (home := owner(path, stages))), "CONFIG")
        again = shlex.join(["snakemake", "--configfile", config, "--", *paths])
        what = (
            "no intact copy anywhere"
            if altered or bad
            else "lost: it is neither here, nor in the cache, nor in the remote"
        )
        for path in paths:
            found.damages.append(
                Damage(WORKSPACE, path, what, follows, f"{REPAIR}; {again}" if altered or bad else again)
            )
        if repair:
            for path in altered:
                os.unlink(path)
            for place in bad:
                for name in (md5, *(listed if place.name == REMOTE else ())):
                    place.remove(name)


def _settle(
    found: Verified,
    md5: str,
    altered: Iterable[str],
    name: str,
    source: Path,
    bad: list[Place],
    repair: bool,
    followers: Mapping[str, set[str]],
) -> None:
    """Name, or repair, the damaged copies of a content of which `source` is an intact one."""
    for path in altered:
        if repair:
            _copy(source, Path(path))
            found.repaired.append(path)
        else:
            follows = tuple(sorted(_downstream(path, followers)))
            found.damages.append(Damage(WORKSPACE, path, "differs from what dvc.lock records", follows, REPAIR))
    for place in bad:
        if repair:
            place.put(md5, source)
            found.repaired.append(place.path(md5))
        else:
            what = f"the object is damaged or missing; it is the content of {name}"
            found.damages.append(Damage(place.name, place.path(md5), what, (), REPAIR))


def _states(
    md5: str, stores: list[Place], found: Verified, *, expected: bool = False
) -> tuple[list[Place], list[Place]]:
    """Return the places where the object is intact, and those where it is damaged or, though `expected`, missing."""
    good: list[Place] = []
    bad: list[Place] = []
    for place in stores:
        digest = place.digest(md5)
        if digest is None and not (expected and place.name == REMOTE):
            found.absent[place.name] += 1
            continue
        found.files += 1
        (good if digest == md5.removesuffix(".dir") else bad).append(place)
    return good, bad


def _listing(md5: str, folder: str, good: list[Place], found: Verified) -> Path | None:
    """Return a file with the intact list of a folder: of a place, or made again from the folder itself."""
    if good:
        return _fetched(md5, good[0])
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file() and path.suffix != ".tmp")
    entries = [{"md5": md5_of(path), "relpath": path.relative_to(folder).as_posix()} for path in files]
    text = json.dumps(sorted(entries, key=lambda entry: entry["relpath"]), sort_keys=True).encode()
    if hashlib.md5(text, usedforsecurity=False).hexdigest() != md5.removesuffix(".dir"):
        return None
    target = _scratch(md5)
    target.write_bytes(text)
    return target


def _fetched(md5: str, place: Place) -> Path:
    if place.local:
        return Path(place.path(md5))
    target = _scratch(md5)
    with place.open(md5) as source, open(target, "wb") as file:
        shutil.copyfileobj(source, file)
    return target


def _scratch(md5: str) -> Path:
    folder = Path(".snakemake/snakedvc/intact")
    folder.mkdir(parents=True, exist_ok=True)
    return folder / md5


def _copy(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.copyfile(source, temporary)
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, target)


def _followers() -> dict[str, set[str]]:
    """Return {result: results made from it}, as Snakemake's records have it."""
    found: dict[str, set[str]] = defaultdict(set)
    for output, (_, record) in all_records().items():
        for path in record.get("input") or []:
            found[path].add(output)
    return found


def _downstream(path: str, followers: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [path]
    while waiting:
        new = followers.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


def _last_command(error: SnakedvcError) -> str:
    quoted = str(error).split("`")
    return quoted[1] if len(quoted) > 1 else "python -m snakedvc check"


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def run(*, remote: bool, repair: bool) -> int:
    """Verify and print; return 0 if nothing is damaged, or all of it was repaired, else 1."""
    found = verify(remote=remote, repair=repair)
    for path in found.repaired:
        print(f"repaired: {path}")
    for damage in found.damages:
        print(damage)
    for place, count in found.absent.items():
        how = {WORKSPACE: "dvc pull", CACHE: "dvc fetch", REMOTE: "dvc push"}[place]
        print(f"{count} files are not in the {place} (`{how}` brings them)", file=sys.stderr)
    if not found.damages:
        print(f"{found.files} copies read, all of them intact{' now' if found.repaired else ''}.")
    return 1 if found.damages else 0
