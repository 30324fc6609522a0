"""Snakemake looks at the content of an input only if its time stamp is newer than the output.

So a file that was replaced and kept an old time stamp (`cp -p`, `rsync -a`, `tar x`) would pass unseen. Here
each older input is held against the checksum that its consumer has recorded; one that differs is made newer,
and Snakemake finds by itself what to run again. Digests are remembered by size, inode and time stamp.
"""

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from .state import read_json, write_json

METADATA = Path(".snakemake/metadata")
_MEMORY = Path(".snakemake/snakedvc/digests.json")
_SECOND = 1_000_000_000


def freshen(metadata: Path = METADATA) -> list[str]:
    """Make every input newer than its output whose bytes are not those recorded there; return their paths."""
    remembered = read_json(_MEMORY, {})
    digests: dict[str, list] = {}
    touched = []
    for output, inputs in _recorded(metadata):
        output_time = _time(output)
        for path, expected in inputs:
            time = _time(path)
            if output_time is None or time is None or time > output_time:
                continue  # missing or newer: Snakemake sees that without help
            if path not in digests:
                status = os.stat(path)
                key = [status.st_mtime_ns, status.st_size, status.st_ino]
                entry = remembered.get(path)
                digests[path] = entry if entry and entry[0] == key else [key, _sha256(path)]
            if digests[path][1] != expected:
                later = max(os.stat(path).st_mtime_ns, output_time) + _SECOND
                os.utime(path, ns=(later, later))
                touched.append(path)
    if digests != remembered:
        write_json(_MEMORY, digests)
    return sorted(set(touched))


def record_path(output: str) -> str:
    """Return where Snakemake keeps its metadata record of an output: base64 of the path, long names in folders.

    Snakemake cuts the name by the limit of the file system; here it is the usual 255, so that `dvc.yaml` is
    the same on all machines.
    """
    name = base64.urlsafe_b64encode(output.encode()).decode()
    pieces = [name[start : start + 254] for start in range(0, len(name), 254)]
    return "/".join([METADATA.as_posix(), *(f"@{piece}" for piece in pieces[:-1]), pieces[-1]])


def _recorded(metadata: Path) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield (output, [(input, sha256)]) of every record."""
    for folder, _, names in os.walk(metadata):
        for name in names:
            pieces = [piece.removeprefix("@") for piece in Path(folder).relative_to(metadata).parts]
            try:
                output = base64.urlsafe_b64decode("".join([*pieces, name])).decode()
                checksums = json.loads(Path(folder, name).read_bytes()).get("input_checksums") or {}
            except (OSError, ValueError, AttributeError):
                continue  # half-written or foreign: Snakemake ignores it too
            pairs = ((path, checksum.rpartition(":")) for path, checksum in checksums.items())
            yield output, [(path, digest) for path, (kind, _, digest) in pairs if kind in ("", "sha256")]


def _time(path: str) -> int | None:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
