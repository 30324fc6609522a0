"""`dvc.lock`: read, held against what it was, and written whole.

DVC rewrites this file in place; a process that dies meanwhile leaves a part of it, which often is valid YAML with fewer
stages. Here it is written beside and renamed, and a lock that lacks stages it had before is refused.
"""

import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .errors import SnakedvcError
from .state import MEMORY, read_json, write_json, write_whole

LOCK = Path("dvc.lock")
_COPY = MEMORY / "dvc.lock"  # as it was last written here
_COPY_OF = MEMORY / "dvc.lock.head"  # the git revision at that time
_HASH = re.compile(r"[0-9a-f]{32}(\.dir)?")

Entry = dict[str, Any]


def read_lock(path: Path = LOCK) -> dict[str, Entry]:
    """Return the stages of a lock file; none if there is no such file.

    Raises:
        SnakedvcError: it is damaged; the message says how to bring it back.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _damaged("cannot be read") from error
    return parse_lock(text)


def parse_lock(text: str) -> dict[str, Entry]:
    """Return the stages in the text of a lock file.

    Raises:
        SnakedvcError: it is damaged; the message says how to bring it back.
    """
    from dvc.utils.serialize import ParseError, parse_yaml  # YAML 1.2: another reader takes 1e-5 for text

    if not text.strip():
        raise _damaged("is empty")
    if re.search(r"^(<<<<<<<|>>>>>>>) ", text, re.MULTILINE):
        raise SnakedvcError(f"{LOCK} holds a git conflict: `python -m snakedvc merge` resolves it.")
    try:
        content = parse_yaml(text, LOCK)
        stages = content["stages"] or {}
        for name, entry in stages.items():
            if not _whole(entry):
                raise _damaged(f"is cut off or damaged in stage '{name}'")
    except (ParseError, TypeError, KeyError, AttributeError) as error:
        raise _damaged("is no lock file of DVC") from error
    return stages


def checked_lock(known: Iterable[str]) -> dict[str, Entry]:
    """Return the stages of `dvc.lock`, having held it against what it was: in git's HEAD, and when last written here.

    Args:
        known: the names of the stages in `dvc.yaml`; others may go.

    Raises:
        SnakedvcError: it is damaged, cut off, or lacks stages that it had; the message says how to bring it back.
    """
    stages = read_lock()
    text = LOCK.read_bytes() if LOCK.is_file() else b""
    for earlier, way in ((_head(), f"git checkout HEAD -- {LOCK}"), (_copy(), f"cp {_COPY} {LOCK}")):
        lost = sorted((set(_lenient(earlier)) & set(known)) - set(stages))
        if lost:
            what = f"has lost {len(lost)} stages ({', '.join(lost[:3])}{', ...' if len(lost) > 3 else ''})"
        elif text and len(text) < len(earlier) and earlier.startswith(text):
            what = "is cut off"
        else:
            continue
        raise SnakedvcError(
            f"{LOCK} {what}: bring it back with `{way}`, then record what is newer with `python -m snakedvc record`."
        )
    return stages


def write_lock(stages: Mapping[str, Entry]) -> None:
    """Write the lock whole, its stages sorted by name, and keep a copy.

    Raises:
        OSError: it cannot be written; the earlier file stands.
    """
    text = dump_lock(stages)
    write_whole(LOCK, text.encode())
    keep_copy()


def keep_copy() -> None:
    """Keep the lock as it is now: DVC may be about to rewrite it."""
    if LOCK.is_file():
        write_whole(_COPY, LOCK.read_bytes())
        write_json(_COPY_OF, _revision())


def dump_lock(stages: Mapping[str, Entry]) -> str:
    """Return the text of a lock file, as DVC writes it, its stages sorted by name."""
    from dvc.utils.serialize import dumps_yaml

    return dumps_yaml({"schema": "2.0", "stages": {name: stages[name] for name in sorted(stages)}})


def _whole(entry: Any) -> bool:
    """Tell whether a stage of the lock has all its parts."""
    files = [*(entry.get("deps") or []), *(entry.get("outs") or [])]
    return bool(entry["cmd"] and entry.get("outs")) and all(
        file["path"] and _HASH.fullmatch(str(file["md5"])) and isinstance(file["size"], int) for file in files
    )


def _head() -> bytes:
    """Return the text of the lock in git's HEAD; none if there is none."""
    shown = subprocess.run(["git", "show", f"HEAD:./{LOCK}"], check=False, capture_output=True)
    return shown.stdout if shown.returncode == 0 else b""


def _copy() -> bytes:
    """Return the text of the lock as it was last written here, if git's HEAD is still the same."""
    return _COPY.read_bytes() if _COPY.is_file() and read_json(_COPY_OF, "none") == _revision() else b""


def _lenient(text: bytes) -> dict[str, Entry]:
    try:
        return parse_lock(text.decode())
    except (SnakedvcError, ValueError):
        return {}


def _revision() -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], check=False, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def _damaged(how: str) -> SnakedvcError:
    copy = f", or `cp {_COPY} {LOCK}`" if _COPY.is_file() else ""
    return SnakedvcError(
        f"{LOCK} {how}: bring it back with `git checkout HEAD -- {LOCK}`{copy}; "
        "then record what is newer with `python -m snakedvc record`."
    )
