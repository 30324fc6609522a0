"""After a run: what was made is recorded in DVC, at once or at the start of the next run.

Before the jobs start, `note` writes down which outputs are about to be made, and the digest of Snakemake's record of
each. The note goes when the results are recorded. If it is still there at the start of a run, an earlier run was cut
off, or failed, before that; then that comes first.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .contents import md5_of, record_of, record_path
from .errors import SnakedvcError
from .families import families
from .lockfile import read_lock
from .recorder import Report, alone
from .records import read_records
from .settings import read_settings
from .snakemake_jobs import NESTED, configfile_of, is_whole, jobs_in, planned_in, sources_changed
from .state import MEMORY, read_json, write_json

_NOTES = MEMORY / "planned.json"  # {config: {output: digest of its record before, or None}}

Notes = dict[str, dict[str, str | None]]


def note(workflow: Any) -> None:
    """Write down which jobs this run is about to run (the `onstart` of a guarded Snakefile).

    Raises:
        SystemExit: with 1, before anything runs: what it would make belongs to no stage of `dvc.yaml`.
    """
    if unversioned(workflow) is not None:
        return
    config, _ = configfile_of(workflow)
    exclude = read_settings().exclude
    jobs = [job for job in planned_in(workflow) if job.rule not in exclude]
    planned = sorted(path for job in jobs for path in job.output)
    try:
        stages = families(str(config))
    except SnakedvcError as error:
        _say(str(error))
        sys.exit(1)
    homeless = [path for path in planned if not any(family.owns(path) for family in stages)]
    if homeless:
        more = f" and {len(homeless) - 1} more" if len(homeless) > 1 else ""
        _say(
            f"nothing was run: {homeless[0]}{more} would belong to no stage of dvc.yaml. Add a stage, or a value to a "
            "matrix; `python -m snakedvc check` names every gap."
        )
        sys.exit(1)
    note_outputs(str(config), planned)


def note_outputs(config: str, outputs: Iterable[str]) -> None:
    """Write down that Snakemake's records of these outputs are about to change, and are to be recorded then."""
    with alone():
        notes: Notes = read_json(_NOTES, {})
        notes[config] = {path: _record_digest(path) for path in outputs} | notes.get(config, {})
        write_json(_NOTES, notes)


def record(workflow: Any) -> None:
    """Record the results of a successful run; called in `onsuccess:`.

    Does nothing inside a DVC stage (DVC records it itself) and for configs that are not versioned.

    Raises:
        SystemExit: with 1, so that Snakemake ends with it: the results are complete, but not recorded. The next run
            tries again before anything else.
    """
    if os.environ.get("DVC_STAGE") or NESTED in os.environ or workflow.output_settings.dryrun:
        return
    reason = unversioned(workflow)
    if reason is not None:
        _say(f"nothing recorded in DVC, {reason}.")
        return
    config, _ = configfile_of(workflow)
    outputs = None
    if is_whole(workflow) and not sources_changed(workflow):
        exclude = read_settings().exclude
        outputs = [path for job in jobs_in(workflow) if job.rule not in exclude for path in job.output]
    try:
        _record(str(config), outputs)
    except SnakedvcError as error:
        _say(f"the results are complete, but DVC has not recorded them. {error}")
        _say("try again with `snakemake` or `python -m snakedvc record`.")
        sys.exit(1)


def pending() -> list[str]:
    """Return the configs of which something was made that is not recorded: a run was cut off, or failed."""
    notes: Notes = read_json(_NOTES, {})
    return [config for config, outputs in notes.items() if any(_ran(*entry) for entry in outputs.items())]


def unrecorded() -> set[str]:
    """Return the outputs that were made and are not recorded."""
    notes: Notes = read_json(_NOTES, {})
    return {path for outputs in notes.values() for path, before in outputs.items() if _ran(path, before)}


def record_pending() -> None:
    """Record what earlier runs made and did not record.

    Raises:
        SnakedvcError: it cannot be recorded.
    """
    for config in pending():
        if _is_recorded(config) or _lacks_files(config):
            continue
        _say(f"an earlier run with {config} was not recorded; doing that first.")
        _record(config, None)


def forget_notes(config: str, keep: Report) -> None:
    """Drop the notes of a config, but for outputs of stages that could not be recorded."""
    with alone():
        notes: Notes = read_json(_NOTES, {})
        of_stages = [family for family in families(config) if family.name in {*keep.waiting, *keep.altered}]
        mine = notes.pop(config, {})
        rest = {
            path: before
            for path, before in mine.items()
            if path in keep.unowned or any(family.owns(path) for family in of_stages)
        }
        if rest:
            notes[config] = rest
        if notes:
            write_json(_NOTES, notes)
        else:
            _NOTES.unlink(missing_ok=True)


def unversioned(workflow: Any) -> str | None:
    """Return why nothing of this run is versioned, or None if it is."""
    config, why = configfile_of(workflow)
    try:
        if config is None or config in read_settings().configs:
            return why or None
    except SnakedvcError as error:
        return str(error).rstrip(".")
    return f"{config} is not among the configs of [tool.snakedvc]"


def _record(config: str, outputs: list[str] | None) -> None:
    """Record a config in a process of its own."""
    order = json.dumps({"config": config, "outputs": outputs, "planned": []})
    command = [sys.executable, "-m", "snakedvc.record_process"]
    done = subprocess.run(command, check=False, input=order, capture_output=True, text=True)
    if done.returncode:
        words = done.stderr.strip().splitlines() or ["no message"]
        raise SnakedvcError(words[-1])
    report = Report(**json.loads(done.stdout.splitlines()[-1]))
    forget_notes(config, report)
    if report.recorded:
        _say(f"recorded in dvc.lock: {_listed(report.recorded)}.")
    if report.problem():
        raise SnakedvcError(report.problem())


def _ran(output: str, before: str | None) -> bool:
    return os.path.exists(output) and _record_digest(output) not in (None, before)


def _is_recorded(config: str) -> bool:
    """Tell whether what the notes name was recorded after all, by `dvc repro` or just before a kill; then drop them."""
    outputs = [path for path, before in read_json(_NOTES, {}).get(config, {}).items() if _ran(path, before)]
    if any(not any(family.owns(path) for family in families(config)) for path in outputs):
        return False
    locked = {out["path"]: out["md5"] for entry in read_lock().values() for out in entry["outs"]}
    for family in families(config):
        noted = [path for path in outputs if family.owns(path)]
        if not noted:
            continue
        if not os.path.isfile(family.records) or md5_of(family.records) != locked.get(family.records):
            return False
        recorded = read_records(family.records)
        if any(path not in recorded or recorded[path].record != record_of(path) for path in noted):
            return False
    forget_notes(config, Report())
    return True


def _lacks_files(config: str) -> bool:
    """Tell whether every stage that the notes concern lacks files: nothing can be recorded yet."""
    noted = read_json(_NOTES, {}).get(config, {})
    concerned = [
        family for family in families(config) if any(_ran(path, noted[path]) for path in noted if family.owns(path))
    ]
    if any(not any(family.owns(path) for family in concerned) for path in noted if _ran(path, noted[path])):
        return False
    return bool(concerned) and all(
        any(not os.path.isfile(path) for path in {*read_records(family.records), *filter(family.owns, noted)})
        for family in concerned
    )


def _record_digest(output: str) -> str | None:
    try:
        return hashlib.md5(Path(record_path(output)).read_bytes(), usedforsecurity=False).hexdigest()
    except OSError:
        return None


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{len(names)} stages ({shown}, ...)"


def _say(sentence: str) -> None:
    for line in sentence.splitlines():
        print(f"snakedvc: {line}", file=sys.stderr)
