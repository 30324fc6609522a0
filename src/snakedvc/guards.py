"""What Snakemake needs so that a killed run leaves nothing for a person to clean up.

Two things survive a `kill -9`: Snakemake's lock files, and the process of the job that was running.
The first are removed at the next start, once the kernel says that no Snakemake lives in this folder;
the second dies with its parent if it asks for that (`die_with_parent`).
"""

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from .contents import freshen
from .errors import SnakedvcError
from .recording import note, pending, record_pending, unrecorded
from .records import bring_in
from .snakemake_jobs import NESTED, note_config

_PR_SET_PDEATHSIG = 1
_alive: Any = None  # the open lock file of this process; the kernel frees the lock when the process ends


def guard(workflow: Any) -> None:
    """Make this Snakemake run safe against earlier kills and replaced files; call it first in the Snakefile.

    - Lock files left by a killed run are removed, unless another Snakemake is alive here.
    - What an earlier run made and could not record is recorded first; a dry run only says so.
    - Snakemake gets the records of results that DVC brought.
    - A file whose bytes are not those its consumers have recorded gets a new time stamp: Snakemake compares
      contents only of files that look newer.
    - The jobs of the run are noted before they start (`onstart`), so that they are recorded even if this run is
      killed. A Snakefile with its own `onstart:` must call `snakedvc.note(workflow)` there.

    Raises:
        SystemExit: with 1, if what an earlier run made cannot be recorded.
    """
    if not workflow.is_main_process:
        return
    in_stage = bool(os.environ.get("DVC_STAGE"))
    if in_stage:
        die_with_parent()
    note_config(workflow)
    if workflow.output_settings.dryrun:
        if NESTED not in os.environ:
            _say_pending()
    elif clear_stale_locks() and not in_stage:
        _record_pending()
    bring_in(unrecorded())
    freshen()
    if not workflow.output_settings.dryrun:
        workflow.onstart(lambda log: note(workflow))


def _say_pending() -> None:
    for config in pending():
        print(
            f"snakedvc: an earlier run with {config} is not recorded in DVC yet: `snakemake` or "
            f"`python -m snakedvc record` does that.",
            file=sys.stderr,
        )


def _record_pending() -> None:
    try:
        record_pending()
    except SnakedvcError as error:
        for line in str(error).splitlines():
            print(f"snakedvc: what an earlier run made cannot be recorded. {line}", file=sys.stderr)
        sys.exit(1)


def clear_stale_locks(folder: Path = Path(".snakemake")) -> bool:
    """Remove Snakemake's locks if no other guarded Snakemake lives in this folder; return whether they went.

    Every live run holds `alive.lock` shared; only who gets it alone may remove the locks.
    """
    global _alive
    try:
        import fcntl
    except ImportError:  # Windows: Snakemake's own locks, and --unlock, are all there is
        return False
    folder.mkdir(exist_ok=True)
    _alive = (folder / "alive.lock").open("w")  # stays open as long as this process lives
    try:
        fcntl.flock(_alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        alone = False
    else:
        alone = True
        shutil.rmtree(folder / "locks", ignore_errors=True)
    fcntl.flock(_alive, fcntl.LOCK_SH)
    return alone


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies (Linux; does nothing elsewhere).

    Called first by the command of a stage: after `kill -9` of Snakemake nothing goes on writing. The command
    must be the only one in its `shell:` block; then bash becomes it and Snakemake is its parent.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
