"""From a verdict back to what it was made from: files, their digests, and the commands that make them.

Which files a claim reads is seen as it reads them; which files those were made from is what the stages of `dvc.yaml`
say (for a config that is not versioned, Snakemake's own job list).
"""

import hashlib
import io
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from reopt import claims
from reopt.artifacts.provenance import file_digest
from reopt.artifacts.tables import read_table
from reopt.errors import ReoptError
from snakedvc.settings import Settings
from snakedvc.snakemake_jobs import jobs_of
from snakedvc.stages import load, locked_outputs, stages_of

if TYPE_CHECKING:
    from reopt.config import Config

AGREES, DIFFERS, UNRECORDED, MISSING = "agrees", "differs", "not in dvc.lock", "missing"


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
    """One run: what the claim measures on it, and every file behind that."""

    subject: str
    value: float
    low: float
    high: float
    met: bool
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
        """Whether it does, and no file is missing or other than `dvc.lock` says."""
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
    measure = next((one.measure for one in claims.CLAIMS if one.name == claim), None)
    if row["verdict"] == "not testable" or measure is None:
        runs, measured = [], []
    else:
        runs = claims.runs_of(content, task, cell, results)
        measured = [measure(run, config.claims) for run in runs]
    opened = [file.as_posix() for run in runs for file in run.opened]
    made = makers(path, [(results / "claims.csv").as_posix(), *opened])
    locked = locked_outputs()
    seeds = [
        Seed(
            run.subject, one.value, one.low, one.high, one.met, behind([f.as_posix() for f in run.opened], made, locked)
        )
        for run, one in zip(runs, measured, strict=True)
        if one
    ]
    table = _file(0, (results / "claims.csv").as_posix(), made, locked)
    return Trace(row, _again(content, config, results, claim, task, cell), table, seeds)


def makers(config: Path, needed: list[str]) -> dict[str, Made]:
    """How each result of a config is made; `needed` are paths that must be among them, if any job makes them."""
    name = os.path.relpath(config)
    stages = {key: stage for key, stage in load().items() if name in shlex.split(stage["cmd"])}
    made = _made(stages)
    if made.keys() >= set(needed) or not Path("Snakefile").is_file():
        return made
    return _made(stages_of(name, jobs_of(name), Settings(configs=(name,))))


def behind(paths: list[str], made: dict[str, Made], locked: dict[str, str]) -> list[File]:
    """These files, then those they were made from, and so on; each once, nearest first."""
    found: dict[str, File] = {}
    depth = 0
    while paths:
        found |= {path: _file(depth, path, made, locked) for path in paths}
        inputs = (item for path in paths if path in made for item in made[path].inputs)
        paths = [path for path in dict.fromkeys(inputs) if path not in found]
        depth += 1
    return list(found.values())


def _made(stages: dict[str, dict[str, Any]]) -> dict[str, Made]:
    outputs = {path for stage in stages.values() for path in stage["outs"]}
    made = {}
    for stage in stages.values():
        words = shlex.split(stage["cmd"])
        inputs = tuple(path for path in stage.get("deps", ()) if path in outputs)
        for path in stage["outs"]:
            # The same command, but for this output: what a person runs for this very file.
            command = shlex.join([*words[: words.index("--") + 1], path])
            made[path] = Made(words[words.index("--allowed-rules") + 1], command, inputs)
    return made


def _file(depth: int, path: str, made: dict[str, Made], locked: dict[str, str]) -> File:
    rule, command, _ = made.get(path, Made("", "", ()))
    if not Path(path).is_file():
        return File(depth, path, "", rule, command, MISSING)
    if path not in locked:
        return File(depth, path, file_digest(path), rule, command, UNRECORDED)
    with open(path, "rb") as file:
        same = hashlib.file_digest(file, "md5").hexdigest() == locked[path]
    return File(depth, path, file_digest(path), rule, command, AGREES if same else DIFFERS)


def _again(
    content: dict[str, Any], config: "Config", results: Path, claim: str, task: str, cell: str
) -> dict[str, Any]:
    """The row judged anew, read back as a table is: so that equal numbers are equal to the last bit."""
    block = content["tasks"][task]
    alone = block | {"optimizers": {cell: block["optimizers"][cell]}}
    table = claims.judge(content | {"tasks": {task: alone}}, config.claims, results, only=claim)
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
