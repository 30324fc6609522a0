"""Progress of long work: a bar for a person at a terminal, lines where several jobs share one or nobody looks."""

import os
import sys
import time
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from reopt.core.errors import ReoptError

SECONDS_BETWEEN_LINES = 10.0


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class Reporter:
    """Call it with (done, total, text). Used as a context manager.

    With `REOPT_PROGRESS=lines` in the environment, or where standard error is no terminal, it writes a line every
    ten seconds; every line also goes to `log`, if given.
    """

    def __init__(self, what: str, log: Path | None = None) -> None:
        self._what = what
        self._log = log
        self._began = time.monotonic()
        self._first: int | None = None
        self._last_line = -float("inf")
        self._bar: Progress | None = None
        if sys.stderr.isatty() and os.environ.get("REOPT_PROGRESS") != "lines":
            self._bar = Progress(
                TextColumn(what),
                BarColumn(),
                MofNCompleteColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[text]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(what, total=None, text="")

    def __enter__(self) -> Self:
        self.log()  # fails before the work, not after it
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def __call__(self, done: int, total: int, text: str) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = done
        if self._bar:
            self._bar.update(self._task, completed=done, total=total, text=text)
        if now - self._last_line < SECONDS_BETWEEN_LINES and done < total:
            return
        self._last_line = now
        left = ""
        if done > self._first and done < total:
            left = f", {_clock((now - self._began) * (total - done) / (done - self._first))} left"
        line = f"{self._what}: {done}/{total} ({100 * done // total}%), {text}{left}"
        self.log(line)
        if not self._bar:
            print(line, file=sys.stderr, flush=True)

    def share(self, start: float, end: float) -> "Share":
        """A reporter of the part from `start` to `end` (of 1) of the whole work."""
        return Share(self, start, end)

    def say(self, text: str) -> None:
        """One line that is no progress."""
        self.log(f"{self._what}: {text}")
        if self._bar:
            self._bar.console.print(f"{self._what}: {text}", markup=False, highlight=False)
        else:
            print(f"{self._what}: {text}", file=sys.stderr, flush=True)

    def log(self, *lines: str) -> None:
        """Lines to the log file; without any, only see that it can be written. **Raises** `ReoptError`."""
        if self._log is None:
            return
        if self._log.is_fifo():  # it would be waited for without end
            raise ReoptError(f"cannot write {self._log}: it is a pipe")
        try:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with open(self._log, "a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in lines)
        except OSError as error:
            raise ReoptError(f"cannot write {self._log}: {error.strerror}") from error


class Share:
    """Reports a part of the work of a `Reporter`, which then counts in hundredths of the whole; `used` once called."""

    def __init__(self, whole: Reporter, start: float, end: float) -> None:
        self._whole, self._start, self._end = whole, start, end
        self.used = False

    def __call__(self, done: int, total: int, text: str) -> None:
        self.used = True
        self._whole(round(100 * (self._start + (self._end - self._start) * done / max(total, 1))), 100, text)
