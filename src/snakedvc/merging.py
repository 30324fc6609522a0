"""Two branches that both recorded results: `dvc.lock` is merged by stages, and a stage by its files.

A stage that one branch changed is taken from it. Of one that both changed, each file is taken from the branch that
changed it, together with Snakemake's record of it; from ours if both did. What the stage depends on is then left as it
was before both, so that DVC says that the stage is to be made, and Snakemake finds out which of its jobs.
"""

import hashlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from .errors import SnakedvcError
from .families import RECORDS
from .lockfile import LOCK, Entry, dump_lock, parse_lock, write_lock
from .records import packed, unpacked
from .state import MEMORY, write_whole
from .verifying import Place, places

DRIVER = "snakedvc"
_ATTRIBUTES = Path(".gitattributes")
_LINE = f"{LOCK} merge={DRIVER}"

Value = TypeVar("Value")


class Merged(NamedTuple):
    """A merged lock, and the stages that both branches changed."""

    stages: dict[str, Entry]
    both: list[str]


class _Result(NamedTuple):
    """A result as one branch has it: its entry in the list of its folder (or in the lock), and its record."""

    file: str
    record: str


class Unavailable(SnakedvcError):
    """The list of files of a folder is neither in the cache nor in the remote."""


def merge_locks(base: Mapping[str, Entry], ours: Mapping[str, Entry], theirs: Mapping[str, Entry]) -> Merged:
    """Merge the stages of two locks, given those of their common ancestor.

    Raises:
        Unavailable: the list of files of a folder that both changed cannot be had.
        SnakedvcError: DVC cannot open the repository or its remote.
    """
    stages: dict[str, Entry] = {}
    both: list[str] = []
    with places(remote=True) as stores:
        for name in sorted({*base, *ours, *theirs}):
            entries = base.get(name), ours.get(name), theirs.get(name)
            chosen, settled = _choose(*entries)
            if not settled and entries[1] and entries[2]:
                chosen = _merge_stage(entries[0], entries[1], entries[2], stores)
                both.append(name)
            elif not settled:
                chosen = entries[1] or entries[2]  # one removed what the other changed
                both.append(name)
            if chosen:
                stages[name] = chosen
    return Merged(stages, both)


def drive(base: str, ours: str, theirs: str) -> int:
    """Merge as git's merge driver: three files, the result goes into the second.

    Returns:
        0, or 1 if the merge has to wait until git has brought all files; git then takes the file for conflicting.
    """
    texts = [Path(path).read_text(encoding="utf-8") for path in (base, ours, theirs)]
    try:
        merged = merge_locks(*(parse_lock(text) if text.strip() else {} for text in texts))
    except Unavailable as error:
        print(f"snakedvc: {error} When git has merged the rest: python -m snakedvc merge", file=sys.stderr)
        return 1
    write_whole(Path(ours), dump_lock(merged.stages).encode())
    _say_next(merged)
    return 0


def settle() -> int:
    """Merge a `dvc.lock` that git has left in conflict, and tell git that it is merged."""
    texts = [_git("show", f":{number}:./{LOCK}") for number in (1, 2, 3)]
    if texts[1] is None or texts[2] is None:
        raise SnakedvcError(f"git has no conflict in {LOCK}: nothing is to be merged.")
    merged = merge_locks(*(parse_lock(text) if text else {} for text in texts))
    write_lock(merged.stages)
    if _git("add", str(LOCK)) is None:
        raise SnakedvcError(f"git does not take {LOCK}: git add {LOCK}")
    print(f"{LOCK} is merged.")
    _say_next(merged)
    return 0


def install() -> int:
    """Tell git of this checkout to merge `dvc.lock` by this package, and name the file in `.gitattributes`."""
    command = f"{shlex.quote(sys.executable)} -m snakedvc merge %O %A %B"
    for key, value in (("name", "stages of DVC, merged by files"), ("driver", command)):
        if _git("config", f"merge.{DRIVER}.{key}", value) is None:
            raise SnakedvcError("git cannot be configured here: run this in a git repository.")
    lines = _ATTRIBUTES.read_text(encoding="utf-8").splitlines() if _ATTRIBUTES.is_file() else []
    if _LINE not in lines:
        write_whole(_ATTRIBUTES, "\n".join([*lines, _LINE, ""]).encode())
        print(f"{_ATTRIBUTES}: {_LINE}")
    print(f"git merges {LOCK} with: {command}")
    return 0


def _choose(base: Value, ours: Value, theirs: Value) -> tuple[Value, bool]:
    """Return (the value of a three-way merge, whether it is without doubt)."""
    if ours == theirs or theirs == base:
        return ours, True
    return (theirs, True) if ours == base else (ours, False)


def _merge_stage(base: Entry | None, ours: Entry, theirs: Entry, stores: list[Place]) -> Entry:
    sides = [_results(entry, stores) if entry else {} for entry in (base, ours, theirs)]
    kept = {}
    for path in sorted({*sides[0], *sides[1], *sides[2]}):
        chosen, _ = _choose(*(side.get(path) for side in sides))
        if chosen:
            kept[path] = chosen
    outs = []
    for out in ours["outs"]:
        if Path(out["path"]).parent.name == RECORDS:
            content = packed("".join(result.record for result in kept.values()))
            outs.append(out | _store(content, "", stores[0]))
        elif out["md5"].endswith(".dir"):
            inside = out["path"] + "/"
            listed = [json.loads(result.file) for path, result in kept.items() if path.startswith(inside)]
            text = json.dumps(sorted(listed, key=lambda item: item["relpath"]), sort_keys=True)
            outs.append({"path": out["path"], "hash": "md5"} | _store(text.encode(), ".dir", stores[0]))
            outs[-1] |= {"size": out["size"], "nfiles": len(listed)}  # the size is for display alone
        else:
            outs.append(json.loads(kept[out["path"]].file) if out["path"] in kept else out)
    rest = base or {"cmd": ours["cmd"]}
    return {key: value for key, value in rest.items() if key != "outs"} | {"outs": outs}


def _results(entry: Entry, stores: list[Place]) -> dict[str, _Result]:
    """Return {path: result} of a stage, as its entry in the lock has it."""
    files: dict[str, str] = {}
    records: dict[str, str] = {}
    for out in entry["outs"]:
        if Path(out["path"]).parent.name == RECORDS:
            for line in unpacked(_content(out, stores)).splitlines(keepends=True):
                records[json.loads(line)["output"]] = line
        elif out["md5"].endswith(".dir"):
            for item in json.loads(_content(out, stores)):
                files[f"{out['path']}/{item['relpath']}"] = json.dumps(item, sort_keys=True)
        else:
            files[out["path"]] = json.dumps(out, sort_keys=True)
    return {path: _Result(file, records.get(path, "")) for path, file in files.items()}


def _content(out: Mapping[str, Any], stores: list[Place]) -> bytes:
    for place in stores:
        if place.digest(out["md5"]) == out["md5"].removesuffix(".dir"):
            with place.open(out["md5"]) as file:
                return file.read()
    raise Unavailable(f"What one branch has in {out['path']} is neither in DVC's cache nor in its remote.")


def _store(content: bytes, suffix: str, cache: Place) -> dict[str, Any]:
    """Put a new object into the cache; return its part of an entry in the lock."""
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() + suffix
    scratch = MEMORY / f"merged.{os.getpid()}"
    write_whole(scratch, content)
    cache.put(md5, scratch)
    scratch.unlink()
    return {"md5": md5, "size": len(content)}


def _say_next(merged: Merged) -> None:
    if merged.both:
        print(
            f"snakedvc: both branches changed {', '.join(merged.both)}: their files are merged. Bring them here with "
            "`dvc pull` (or `dvc checkout`), then `snakemake` makes what differs for the merged code, and "
            "`python -m snakedvc record` records it.",
            file=sys.stderr,
        )


def _git(*arguments: str) -> str | None:
    done = subprocess.run(["git", *arguments], check=False, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else None
