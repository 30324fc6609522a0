"""Snakemake's records of a stage's results in one packed file that DVC keeps beside them, one line an output.

A line is JSON: `{"output": path, "sha256": digest of its bytes, "record": what Snakemake noted of the job}`. Lines are
sorted by output. Packed, for the names of inputs that lines repeat are nine tenths of it.
"""

import gzip
import json
import os
import zlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from .contents import Digests, is_incomplete, made_by, record_of, record_path
from .errors import SnakedvcError
from .families import RECORDS, Family
from .state import write_json, write_whole


class Recorded(NamedTuple):
    """What is known of an output: the digest of its bytes and Snakemake's record of the job that wrote them."""

    sha256: str
    record: dict[str, Any]


@dataclass
class Exported:
    """What `export` found: the outputs it wrote down, and those it could not vouch for."""

    outputs: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)  # bytes are not those that the recorded job wrote
    changed: bool = False  # the file of records has other lines than before


def read_records(file: Path | str) -> dict[str, Recorded]:
    """Return {output: what is recorded of it} of one file; none if the file does not exist.

    Raises:
        SnakedvcError: the file is damaged.
    """
    try:
        lines = _text(file).splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise _damaged(file) from error
    found = {}
    for line in lines:
        try:
            entry = json.loads(line)
            found[entry["output"]] = Recorded(entry["sha256"], dict(entry["record"]))
        except (ValueError, TypeError, KeyError) as error:
            raise _damaged(file) from error
    return found


def all_records(root: Path = Path("results")) -> dict[str, Recorded]:
    """Return {output: what is recorded of it} of all configs' results below a folder; damaged files are left out."""
    found: dict[str, Recorded] = {}
    for file in _files(root):
        try:
            found |= read_records(file)
        except SnakedvcError:
            continue  # `verify` names it; without it Snakemake makes the results again
    return found


def export(family: Family, outputs: Iterable[str], *, digest: Digests, trust: bool = False) -> Exported:
    """Write the file of records of a stage: what Snakemake has noted of these outputs and of those it named before.

    An output is written down only if its record describes its very bytes: the file has not been touched since the job
    ended, or its digest is that of an earlier line with the same record.

    Args:
        family: the stage.
        outputs: what its jobs make.
        digest: the memory of digests.
        trust: take files with other time stamps, too, as written by the job that is recorded.
    """
    try:
        before = read_records(family.records)
    except SnakedvcError:
        before = {}  # damaged: written anew
    result = Exported()
    lines = []
    for path in sorted({*outputs, *before}):
        if not os.path.isfile(path) or is_incomplete(path):
            continue
        record, earlier = record_of(path), before.get(path)
        sha256 = digest(path)
        if earlier and earlier.sha256 == sha256 and (record is None or record == earlier.record):
            record = earlier.record
        elif record is None or not (made_by(record, path) or (trust and (not earlier or record != earlier.record))):
            if earlier and earlier.sha256 == sha256:
                record = earlier.record  # brought back by a checkout, with a record of something else still there
            else:
                result.altered.append(path)
                continue
        lines.append(json.dumps({"output": path, "sha256": sha256, "record": record}, sort_keys=True) + "\n")
        result.outputs.append(path)
    text = "".join(lines)
    # Compared unpacked: another version of zlib packs the same lines into other bytes.
    result.changed = _lines_of(family.records) != text
    if result.changed and not result.altered:
        write_whole(Path(family.records), packed(text))
    return result


def bring_in(unrecorded: Collection[str], root: Path = Path("results")) -> list[str]:
    """Give Snakemake the records of what was pulled or checked out; return the outputs concerned.

    That is: where the bytes on disk are those of the line, even if a job has written the same bytes for another
    revision.

    Args:
        unrecorded: outputs of jobs that ran here and were not recorded; where nothing has touched them since,
            Snakemake's own record stands.
        root: the folder of all results.
    """
    digest = Digests()
    brought = []
    for path, (sha256, record) in all_records(root).items():
        present = record_of(path)
        if present == record or not os.path.isfile(path) or is_incomplete(path):
            continue
        if present and path in unrecorded and made_by(present, path):
            continue
        if digest(path) == sha256:
            write_json(record_path(path), record, flush=False)
            brought.append(path)
    digest.save()
    return brought


def _files(root: Path) -> list[Path]:
    return sorted(root.glob(f"*/{RECORDS}/*.jsonl.gz"))


def packed(lines: str) -> bytes:
    """The content of a file of records; the same bytes whenever it is made."""
    return gzip.compress(lines.encode(), mtime=0)


def unpacked(content: bytes) -> str:
    """The lines of a file of records."""
    return gzip.decompress(content).decode()


def _text(file: Path | str) -> str:
    return unpacked(Path(file).read_bytes())


def _lines_of(file: Path | str) -> str | None:
    try:
        return _text(file)
    except (OSError, EOFError, ValueError, zlib.error):
        return None


def _damaged(file: Path | str) -> SnakedvcError:
    return SnakedvcError(f"{file} is damaged: bring it back with `rm {file} && dvc checkout {file}`.")
