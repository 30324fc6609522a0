"""Results are recorded: Snakemake's records beside them, then the stages that changed in `dvc.lock`.

After a run this happens in a process of its own (`record_process`), since DVC and Snakemake do not share one well.
What we need of DVC's insides (3.67) stands here, in `families` and in `verifying`.
"""

import logging
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .contents import Digests
from .errors import SnakedvcError
from .families import DVC_YAML, Family, families
from .lockfile import Entry, checked_lock, write_lock
from .records import export
from .settings import read_settings
from .state import MEMORY


@dataclass
class Report:
    """What was recorded of a config, and what could not be.

    Attributes:
        recorded: stages whose entry in `dvc.lock` is new.
        partly: those of them that Snakemake has still jobs of: their results are stored, but DVC goes on saying that
            they are to be made.
        waiting: stages of which results are missing; recorded when they are back.
        altered: outputs that are not what their recorded job wrote, by stage. The stage is not recorded.
        unowned: outputs that belong to no stage of `dvc.yaml`.
    """

    recorded: list[str] = field(default_factory=list)
    partly: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    altered: dict[str, list[str]] = field(default_factory=dict)
    unowned: list[str] = field(default_factory=list)

    def problem(self) -> str:
        """Return what keeps results from being recorded and what to do; "" if nothing does."""
        found = []
        for stage, paths in self.altered.items():
            first = shlex.quote(paths[0])
            found.append(
                f"stage {stage} is not recorded: {_listed(paths)} was changed since its job ended. Bring it back with "
                f"`dvc checkout --force {first}`, make it again with `rm {first} && snakemake`, or, if only its time "
                "stamp changed, keep it as the job's result with `python -m snakedvc record --trust`."
            )
        if self.unowned:
            found.append(f"{_listed(self.unowned)} belongs to no stage of {DVC_YAML}: see `python -m snakedvc check`.")
        return "\n".join(found)


def record_config(
    config: str, outputs: Iterable[str] | None = None, planned: Iterable[str] = (), *, trust: bool = False
) -> Report:
    """Record the results of a config: export Snakemake's records and commit the stages that changed.

    A stage of which no job is planned is committed as a whole. Of another one the results alone are stored, and the
    digests of its dependencies stay as they were, so that DVC does not take it for up to date.

    Args:
        config: the config file.
        outputs: what its jobs make; None to ask Snakemake, which then says what is planned, too.
        planned: those outputs that are not up to date.
        trust: take files with other time stamps than their records say as written by the recorded job.

    Raises:
        SnakedvcError: Snakemake or DVC refuses, a file cannot be written, or `dvc.lock` is damaged.
    """
    if outputs is None:
        from .snakemake_jobs import outputs_of

        exclude = read_settings().exclude
        outputs, planned = outputs_of(config, exclude)
    with alone():
        return _record(config, set(outputs), set(planned), trust)


def export_stage(family: Family, outputs: Iterable[str]) -> None:
    """Write the records of one stage, for DVC to commit.

    Raises:
        SnakedvcError: an output is not what its recorded job wrote.
    """
    digest = Digests()
    found = export(family, outputs, digest=digest)
    digest.save()
    if found.altered:
        raise SnakedvcError(Report(altered={family.name: found.altered}).problem())


def prune() -> list[str]:
    """Drop the stages from `dvc.lock` that `dvc.yaml` does not have; return their names.

    Raises:
        SnakedvcError: one of the files is damaged.
    """
    known = {family.name for family in families()}
    with alone():
        lock = checked_lock(known)
        gone = sorted(set(lock) - known)
        if gone:
            write_lock({name: entry for name, entry in lock.items() if name in known})
    return gone


@contextmanager
def alone() -> Iterator[None]:
    """Let one process at a time write notes, records and `dvc.lock`."""
    MEMORY.mkdir(parents=True, exist_ok=True)
    with open(MEMORY / "recording.lock", "w") as file:
        try:
            import fcntl
        except ImportError:  # Windows: DVC's own lock remains
            pass
        else:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _record(config: str, outputs: set[str], planned: set[str], trust: bool) -> Report:
    everything = families()
    mine = [family for family in everything if family.config == config]
    lock = checked_lock(family.name for family in everything)
    report = Report(unowned=sorted(path for path in outputs if not any(family.owns(path) for family in mine)))
    digest = Digests()
    whole, partly = [], []
    for family in mine:
        made = {path for path in outputs if family.owns(path)}
        if not made:
            continue
        found = export(family, made, digest=digest, trust=trust)
        if found.altered:
            report.altered[family.name] = found.altered
        elif not made <= set(found.outputs):
            report.waiting.append(family.name)
        elif made & planned:
            partly.append(family.name)
        else:
            whole.append(family.name)
    digest.save()
    new = _commit(whole, partly, lock)
    if new:
        write_lock(lock | new)
    report.recorded = sorted(new)
    report.partly = sorted(set(new) & set(partly))
    return report


def _commit(whole: list[str], partly: list[str], lock: Mapping[str, Entry]) -> dict[str, Entry]:
    """Store the results of these stages in DVC's cache; return the entries of `dvc.lock` that are new."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo, lock_repo
    from dvc.stage.serialize import to_single_stage_lockfile

    logging.getLogger("dvc").setLevel(logging.ERROR)  # it warns of every empty source file
    new: dict[str, Entry] = {}
    try:
        with Repo() as repo, lock_repo(repo):
            stages = {stage.name: stage for stage in repo.stage.collect(DVC_YAML.name)}
            for name in [*whole, *partly]:
                stage = stages[name]
                if name in whole:
                    stage.save_deps()
                stage.save_outs()
                entry = _plain(to_single_stage_lockfile(stage))
                if name in partly:
                    entry = {
                        key: value for key, value in lock.get(name, {"cmd": entry["cmd"]}).items() if key != "outs"
                    } | {"outs": entry["outs"]}
                if entry != lock.get(name):
                    stage.commit(relink=False)  # the workspace keeps its own, writable files
                    new[name] = entry
    except (DvcException, OSError) as error:
        raise SnakedvcError(f"DVC says: {' '.join(str(error).split())}") from error
    return new


def _plain(value: Any) -> Any:
    """Return the value in plain dicts and lists."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{len(names)} files ({shown}, ...)"
