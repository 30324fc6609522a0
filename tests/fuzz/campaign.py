"""A campaign of faults: bad configs, arguments, files and subjects by the hundred, and what the command makes of each.

A trial passes if the command does what was asked, or ends with exit code 2 (1 where that is documented) and one line
that names the fault, without a traceback, with every file as it was, within a minute, and no data file ran code.
"""

import contextlib
import json
import os
import selectors
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECONDS = 60.0  # in which a trial must have ended
MEGABYTES = 700.0  # by which it may grow the process
MOST_SAID = 1200  # characters of an error


@dataclass(frozen=True)
class Trial:
    """One command: what is wrong with it, and what to expect.

    `about` are words of which the error must have one; `refused` is None where either may be; `prepare` makes the
    files in the workshop, of which `restores` are put back; `wrote` begins the names that the command may write; `code`
    tells of somebody's code.
    """

    kind: str
    case: str
    words: tuple[str, ...]
    about: tuple[str, ...] = ()
    refused: bool | None = True
    prepare: Callable[[Path], object] | None = None
    wrote: tuple[str, ...] = ("out",)
    environment: dict[str, str] = field(default_factory=dict)
    code: bool = False
    codes: tuple[int, ...] = (2,)
    restores: tuple[str, ...] = ()


class Worker:
    """The process that runs commands in a workshop."""

    def __init__(self, workshop: Path) -> None:
        self.workshop = workshop
        self.process: subprocess.Popen | None = None

    def _started(self) -> subprocess.Popen:
        if self.process is not None and self.process.poll() is not None:
            self.stop()
        if self.process is None:
            file = Path(__file__).with_name("worker.py")
            environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "XLA_FLAGS": "", "COLUMNS": "120"}
            self.process = subprocess.Popen(
                [sys.executable, "-B", str(file)],
                cwd=self.workshop,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        return self.process

    def run(self, trial: Trial) -> dict[str, Any]:
        """The answer to a trial; where the process ends instead, its exit code and last words."""
        process = self._started()
        for name in ("out", "err"):  # what is caught in them
            (self.workshop.parent / name).write_bytes(b"")
        assert process.stdin is not None
        assert process.stdout is not None
        question = {"words": trial.words, "environment": trial.environment}
        process.stdin.write(json.dumps(question) + "\n")
        process.stdin.flush()
        with selectors.DefaultSelector() as waiting:
            waiting.register(process.stdout, selectors.EVENT_READ)
            if not waiting.select(SECONDS + 20):
                self.stop()
                return {"code": None, "out": "", "err": "", "seconds": SECONDS + 20, "grown_mb": 0.0}
        line = process.stdout.readline()
        if line:
            return json.loads(line)
        said = {name: (self.workshop.parent / name).read_text(errors="replace") for name in ("out", "err")}
        code = process.wait()
        self.stop()  # which closes its pipes
        return {"code": code, "seconds": 0.0, "grown_mb": 0.0, **said}

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):  # what was not read by a process that ended
                        pipe.close()
            self.process.wait()
            self.process = None


def contents(folder: Path) -> dict[str, tuple]:
    """What is in a folder: kind, size and bytes of each, links not followed; folders without time."""
    found: dict[str, tuple] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name.startswith(".reopt") or "__pycache__" in name:
            continue
        state = path.lstat()
        if stat.S_ISLNK(state.st_mode):
            found[name] = ("link", os.readlink(path))
        elif stat.S_ISREG(state.st_mode):
            found[name] = (
                "file",
                state.st_size,
                state.st_mtime_ns,
                path.read_bytes() if state.st_size < 2**20 else b"",
            )
        elif not stat.S_ISDIR(state.st_mode):
            found[name] = ("other", state.st_mode)
    return found


def fault(trial: Trial, answer: dict[str, Any], before: dict[str, tuple], after: dict[str, tuple]) -> str:
    """What is wrong with the answer to a trial; nothing if it passes."""
    code, said = answer["code"], answer["err"]
    if code is None or answer["seconds"] > SECONDS:
        return f"hangs: {answer['seconds']:.0f} s"
    if "Traceback" in said or "Traceback" in answer["out"]:
        return "a traceback"
    if any("canary" in name for name in after):
        return "a data file ran code"
    if code not in (0, *trial.codes):
        return f"exit code {code}"
    if answer["grown_mb"] > MEGABYTES:
        return f"takes {answer['grown_mb']:.0f} MB"
    kept = {name: what for name, what in after.items() if code or not name.startswith(trial.wrote)}
    if kept != {name: what for name, what in before.items() if code or not name.startswith(trial.wrote)}:
        changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        return f"files touched: {', '.join(changed[:3])}"
    if trial.refused is not None and trial.refused != (code == 2):
        return "accepted" if trial.refused else "refused"
    return _wrong_words(trial, answer) if code == 2 else _noise(trial, said)


def _wrong_words(trial: Trial, answer: dict[str, Any]) -> str:
    """What is wrong with how an error is told."""
    lines = answer["err"].splitlines()
    told = [line for line in lines if line.startswith("reopt: error: ")]
    if len(told) != 1 or lines[-1] != told[0]:
        return f"{len(told)} errors told"
    if not told[0].isprintable() or len(told[0]) > MOST_SAID:
        return f"an error of {len(told[0])} characters"
    if "own code failed" in told[0] and not trial.code:
        return "taken for somebody's code"
    if trial.about and not any(word in told[0] for word in trial.about):
        return "does not name the fault"
    if answer["out"] and not trial.code and trial.words[0] != "check-config":  # which tells of each file
        return "prints an error to standard output"
    return _noise(trial, "\n".join(lines[:-1]))


def _noise(trial: Trial, said: str) -> str:
    """Lines that are no progress of the command."""
    if trial.code:
        return ""  # somebody's code may print
    progress = tuple(f"{word} " for word in trial.words[:2])  # "evaluate quadratic: ..."
    odd = [line for line in said.splitlines() if not line.startswith((*progress, f"{trial.words[0]}:"))]
    return f"odd line: {odd[0][:100]}" if odd else ""


@dataclass(frozen=True)
class Result:
    """A trial, its answer, and what is wrong with that."""

    trial: Trial
    answer: dict[str, Any]
    fault: str

    @property
    def line(self) -> str:
        """All of it, to be read where a campaign fails."""
        words = " ".join(word if len(word) < 80 else f"{word[:60]}..." for word in self.trial.words)
        said = self.answer["err"].strip()
        return (
            f"[{self.trial.kind}] {self.trial.case}: {self.fault or 'fine'} "
            f"(exit code {self.answer['code']}, {self.answer['seconds']:.1f} s)\n    reopt {words}\n    {said[-600:]}"
        )


def run(trials: Iterator[Trial], workshop: Path) -> Iterator[Result]:
    """Each trial in a workshop, whose folders `bad` and `out*` are made anew for it."""
    worker = Worker(workshop)
    try:
        for trial in trials:
            clean(workshop)
            (workshop / "bad").mkdir()
            kept = {file: (workshop / file).read_bytes() for file in trial.restores}
            if trial.prepare is not None:
                trial.prepare(workshop)
            before = contents(workshop)
            answer = worker.run(trial)
            yield Result(trial, answer, fault(trial, answer, before, contents(workshop)))
            for file, content in kept.items():
                (workshop / file).write_bytes(content)
    finally:
        worker.stop()
        clean(workshop)


def clean(workshop: Path) -> None:
    """Leave what trials do not make."""
    for path in [workshop / "bad", *workshop.glob("out*"), *workshop.glob("canary*")]:
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
        else:
            with contextlib.suppress(OSError):
                path.chmod(0o700)
            shutil.rmtree(path)
