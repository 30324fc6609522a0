"""After a run: DVC is told of exactly the jobs that ran.

`note` writes down, before the jobs start, which are about to run and the digest of Snakemake's record of each
output at that time. A job ran if that record has changed since. The notes outlive a killed or failed run, so
the next successful one records what finished then, too.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import stages as _stages
from .contents import record_path
from .errors import SnakedvcError
from .settings import read_settings
from .snakemake_jobs import configfile_of, jobs_in, planned_in
from .state import read_json, write_json

_NOTES = Path(".snakemake/snakedvc/planned.json")  # {output: digest of its record before, or None}
_DVC_YAML = Path("dvc.yaml")


def note(workflow: Any) -> None:
    """Write down which jobs this run is about to run (the `onstart` of a guarded Snakefile)."""
    if _unversioned(workflow) is not None:
        return
    planned = [path for job in planned_in(workflow) for path in job.output]
    with _alone():
        write_json(_NOTES, {path: _record_digest(path) for path in planned} | read_json(_NOTES, {}))


def record(workflow: Any) -> None:
    """Record in `dvc.lock` (and `dvc.yaml`) the stages that ran; called in `onsuccess:`.

    Does nothing inside a DVC stage (DVC records it itself) and for configs that are not versioned. A failure
    is told in a sentence; the results stay, and the next run tries again.
    """
    if os.environ.get("DVC_STAGE") or workflow.output_settings.dryrun:
        return
    reason = _unversioned(workflow)
    if reason is not None:
        _say(f"nothing recorded in DVC, {reason}.")
        return
    try:
        with _alone():
            _record(workflow)
    except SnakedvcError as error:
        _say(f"the results are complete, but DVC has not recorded them. {error}")


def _record(workflow: Any) -> None:
    notes = read_json(_NOTES, {})
    ran = {
        path for path, before in notes.items() if _record_digest(path) not in (None, before) and os.path.exists(path)
    }
    settings = read_settings()
    config, _ = configfile_of(workflow)
    current = _stages.stages_of(str(config), jobs_in(workflow), settings)
    old = _stages.load(_DVC_YAML)
    new = _stages.merged(old, {name: stage for name, stage in current.items() if not ran.isdisjoint(stage["outs"])})
    if new != old:
        _DVC_YAML.write_text(_stages.dump(new))
    names = sorted(name for name, stage in new.items() if not ran.isdisjoint(stage["outs"]))
    if names:
        commit(names)
        _say(f"recorded in dvc.lock: {_listed(names)}{'; dvc.yaml brought in step' if new != old else ''}.")
    mine = {path for job in jobs_in(workflow) for path in job.output}
    if others := {path: before for path, before in notes.items() if path not in mine | ran}:
        write_json(_NOTES, others)  # of a run beside this one, or of one that was cut off with another config
    else:
        _NOTES.unlink(missing_ok=True)


def commit(names: list[str]) -> None:
    """Commit the named stages of `dvc.yaml`, in a process of its own.

    Raises:
        SnakedvcError: DVC refused; the sentence ends with its words and the command that tries again.
    """
    command = [sys.executable, "-m", "snakedvc.dvc_commit"]
    done = subprocess.run(command, check=False, input="\n".join(names), capture_output=True, text=True)
    if done.returncode:
        words = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise SnakedvcError(f"DVC says: {words} Try again with: dvc commit -f {' '.join(names)}")


def _unversioned(workflow: Any) -> str | None:
    """Return why nothing of this run is versioned, or None if it is."""
    config, why = configfile_of(workflow)
    try:
        if config is None or config in read_settings().configs:
            return why or None
    except SnakedvcError as error:
        return str(error).rstrip(".")
    return f"{config} is not among the configs of [tool.snakedvc]"


def _record_digest(output: str) -> str | None:
    try:
        return hashlib.md5(Path(record_path(output)).read_bytes(), usedforsecurity=False).hexdigest()
    except OSError:
        return None


@contextmanager
def _alone() -> Iterator[None]:
    """Let one Snakemake at a time write notes, `dvc.yaml` and `dvc.lock`."""
    _NOTES.parent.mkdir(parents=True, exist_ok=True)
    with open(_NOTES.with_name("recording.lock"), "w") as file:
        try:
            import fcntl
        except ImportError:  # Windows: DVC's own lock remains
            pass
        else:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{len(names)} stages ({shown}, ...)"


def _say(sentence: str) -> None:
    print(f"snakedvc: {sentence}", file=sys.stderr)
