"""From a verdict back to what it was made from: files, their digests, and the commands that make them.

Which files a claim reads is seen as it reads them; which files those were made from is what Snakemake's records beside
the results say (for a config that is not versioned, Snakemake's own job list).
"""

import io
import os
import shlex
from collections.abc import Container, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from reopt.core.errors import ReoptError
from reopt.core.grades import HOLDS, NOT_TESTABLE
from reopt.core.provenance import file_digest
from reopt.core.tables import read_table
from reopt.pipeline import claims
from snakedvc.records import Recorded, all_records
from snakedvc.snakemake_jobs import jobs_of

if TYPE_CHECKING:
    from reopt.pipeline.config import Config

AGREES, DIFFERS, UNRECORDED, MISSING = "agrees", "differs", "not recorded", "missing"


class Made(NamedTuple):
    """How a file is made: the rule, the command, and the results that it is made from."""

    rule: str
    command: str
    inputs: tuple[str, ...]


class File(NamedTuple):
    """A file behind a measured value; `depth` is 0 for what the claim reads, 1 for what that was made from, ..."""

    depth: int
    path: str
    sha256: str
    rule: str
    command: str
    dvc: str


class Seed(NamedTuple):
    """One run: what the claim measures on it and what that says, and every file behind it; `met`: the claim holds."""

    subject: str
    value: float
    low: float
    high: float
    grade: str
    met: bool
    beside: str
    files: list[File]


class Trace(NamedTuple):
    """A claim's row as it stands in the table, the same row judged anew, and the runs behind it."""

    row: dict[str, Any]
    again: dict[str, Any]
    table: File
    seeds: list[Seed]

    @property
    def equal(self) -> bool:
        """Whether the row follows from the files as they are."""
        return all(_same(self.row[name], self.again.get(name)) for name in self.row)

    @property
    def sound(self) -> bool:
        """Whether it does, and no file is missing or other than was recorded."""
        files = [self.table, *(file for seed in self.seeds for file in seed.files)]
        return self.equal and not any(file.dvc in (DIFFERS, MISSING) for file in files)

    def files(self) -> pd.DataFrame:
        """A row a file and run: `subject, depth, path, sha256, rule, command, dvc`."""
        rows = [{"subject": seed.subject, **file._asdict()} for seed in self.seeds for file in seed.files]
        return pd.DataFrame([{"subject": "all", **self.table._asdict()}, *rows])

    def document(self) -> dict[str, Any]:
        """All of it, for a JSON file."""
        return {
            "row": self.row,
            "again": self.again,
            "equal": self.equal,
            "sound": self.sound,
            "table": self.table._asdict(),
            "seeds": [seed._asdict() | {"files": [file._asdict() for file in seed.files]} for seed in self.seeds],
        }


def trace(content: dict[str, Any], config: "Config", path: Path, *, claim: str, task: str, cell: str) -> Trace:
    """Trace the row of a claim on a task for one optimizer (`cell`); `content` is what stands in the config's file.

    **Raises** `ReoptError` where there is no such row, or a file the claim reads is missing or damaged.
    """
    results = Path("results") / config.name
    row = _row(read_table(results / "claims.csv", claims.COLUMNS), claim, task, cell, str(results / "claims.csv"))
    measure = next((one.measure for one in claims.claims() if one.name == claim), None)
    if row["verdict"] == NOT_TESTABLE or measure is None:
        runs, measured = [], []
    else:
        runs = claims.runs_of(content, task, cell, results)
        measured = [measure(run, config.claims) for run in runs]
    opened = [file.as_posix() for run in runs for file in run.opened]
    recorded = all_records(Path("results"))
    made = makers(path, [(results / "claims.csv").as_posix(), *opened], recorded)
    seeds = []
    for run, one in zip(runs, measured, strict=True):
        if one:
            files = behind([file.as_posix() for file in run.opened], made, recorded)
            seeds.append(Seed(run.subject, *one[:4], one.grade == HOLDS, one.beside, files))
    table = _file(0, (results / "claims.csv").as_posix(), made, recorded)
    return Trace(row, _again(content, config, results, claim, task, cell), table, seeds)


def makers(config: Path, needed: list[str], recorded: dict[str, Recorded]) -> dict[str, Made]:
    """How each result of a config is made; `needed` are paths that must be among them, if any job makes them."""
    name = os.path.relpath(config)
    made = {
        path: Made(record["rule"], _command(name, record["rule"], path), _results(record["input"], recorded))
        for path, (_, record) in recorded.items()
    }
    if made.keys() >= set(needed) or not Path("Snakefile").is_file():
        return made
    jobs = jobs_of(name)
    outputs = {path for job in jobs for path in job.output}
    return {
        path: Made(job.rule, _command(name, job.rule, path), _results(job.input, outputs))
        for job in jobs
        for path in job.output
    }


def behind(paths: list[str], made: dict[str, Made], recorded: dict[str, Recorded]) -> list[File]:
    """These files, then those they were made from, and so on; each once, nearest first."""
    found: dict[str, File] = {}
    depth = 0
    while paths:
        found |= {path: _file(depth, path, made, recorded) for path in paths}
        inputs = (item for path in paths if path in made for item in made[path].inputs)
        paths = [path for path in dict.fromkeys(inputs) if path not in found]
        depth += 1
    return list(found.values())


def _command(config: str, rule: str, path: str) -> str:
    """What a person runs for this very file."""
    return shlex.join(["snakemake", "--configfile", config, "--allowed-rules", rule, "--", path])


def _results(inputs: Iterable[str], results: Container[str]) -> tuple[str, ...]:
    return tuple(path for path in inputs if path in results)


def _file(depth: int, path: str, made: dict[str, Made], recorded: dict[str, Recorded]) -> File:
    rule, command, _ = made.get(path, Made("", "", ()))
    if not Path(path).is_file():
        return File(depth, path, "", rule, command, MISSING)
    digest = file_digest(path)
    if path not in recorded:
        return File(depth, path, digest, rule, command, UNRECORDED)
    return File(depth, path, digest, rule, command, AGREES if digest == recorded[path].sha256 else DIFFERS)


def _again(
    content: dict[str, Any], config: "Config", results: Path, claim: str, task: str, cell: str
) -> dict[str, Any]:
    """The row judged anew, read back as a table is: so that equal numbers are equal to the last bit."""
    table = claims.judge(content, config.claims, results, only=claim, at=(task, cell)).claims
    table = pd.read_csv(io.StringIO(table.to_csv(index=False)))
    return _row(table, claim, task, cell, "the claims as they are judged now")


def _row(table: pd.DataFrame, claim: str, task: str, cell: str, where: str) -> dict[str, Any]:
    rest, known = table, []
    for column, wanted in (("task", task), ("cell", cell), ("claim", claim)):
        known = sorted(set(rest[column].astype(str)))
        rest = rest[rest[column] == wanted]
        if rest.empty:
            raise ReoptError(f"{where} has no row of {column} {wanted!r} there; it has: {', '.join(known)}")
    return rest.iloc[0].to_dict()


def _same(one: Any, other: Any) -> bool:
    return one == other or (pd.isna(one) and pd.isna(other))
