"""The process in which a campaign's commands run, one after the other; killed and started anew where one hangs.

It reads a trial a line, JSON, and answers in one line; what a command prints is caught in files, as a shell would.
"""

import json
import os
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Answer trials until there are no more."""
    trials, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    home = Path.cwd()
    environment = dict(os.environ)
    for line in trials:
        answer = run(json.loads(line), home)
        os.chdir(home)
        os.environ.clear()
        os.environ.update(environment)
        print(json.dumps(answer), file=answers, flush=True)


def run(trial: dict[str, Any], home: Path) -> dict[str, Any]:
    """Exit code, output, seconds and growth in MB of `reopt WORDS` in this process."""
    os.environ.update(trial["environment"])
    sys.argv = ["reopt", *(os.fsdecode(word.encode("utf-8", "surrogateescape")) for word in trial["words"])]
    for unfinished in ("metatrain", "search"):
        shutil.rmtree(home / ".reopt" / unfinished, ignore_errors=True)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with open(home.parent / "out", "wb") as out, open(home.parent / "err", "wb") as err:
        kept = [os.dup(1), os.dup(2)]
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        try:
            code = exit_code()
        finally:
            flush()
            for number, stream in enumerate(kept, 1):
                os.dup2(stream, number)
                os.close(stream)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    said = {name: (home.parent / name).read_text(errors="replace") for name in ("out", "err")}
    return {"code": code, "seconds": time.monotonic() - began, "grown_mb": grown / 1024, **said}


def exit_code() -> int:
    """What the command ends with; 99 for what gets past it."""
    from reopt.cli.app import main as reopt
    from reopt.core import foreign

    foreign._packages.clear()  # of the subjects of earlier trials
    try:
        reopt()
    except SystemExit as end:
        return int(end.code or 0) if not isinstance(end.code, str) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 99
    return 0


def flush() -> None:
    """What Python still holds of both streams."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # closed by somebody's code
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)


if __name__ == "__main__":
    main()
