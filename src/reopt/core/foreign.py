"""The border to somebody's code: files and objects that a command line names as a subject or a task.

Whatever such code raises, `SystemExit` and `GeneratorExit` too, becomes one line; it is given a time limit; and it may
change nothing that the rest of the process lives by: jax's settings, the working folder.
"""

import contextlib
import os
import signal
import sys
import sysconfig
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

import numpy as np

from reopt.core.errors import ReoptError

LIMIT = "REOPT_SUBJECT_SECONDS"
_USUAL, _LONGEST = 60.0, 1e6
_GRACE = 5.0  # seconds from the signal to the end of the process, where the code does not come back to Python
_threads: set[threading.Thread] = set()  # that subjects have started
_packages: set[str] = set()  # of subjects loaded by their module's name


_really_exit = os._exit


def _leave(status: int) -> NoReturn:
    """In place of `os._exit`, which would end the command without a word: from somebody's code, `SystemExit`."""
    caller = sys._getframe(1)
    if _installed(caller.f_code.co_filename, str(caller.f_globals.get("__name__", "")).partition(".")[0]):
        _really_exit(status)
    raise SystemExit(status)


class _Late(BaseException):
    """Raised inside code that has run too long; no `Exception`, for such code may catch those."""


def told(error: BaseException) -> str:
    """The type of an error of somebody's code, and the first line of what it says."""
    try:
        lines = str(error).splitlines()
    except Exception:  # its own text fails
        lines = []
    said = " ".join(lines[:2]).strip()
    said = said if len(said) <= 300 else f"{said[:297]}..."
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


@contextlib.contextmanager
def foreign(what: str) -> Iterator[None]:
    """Run somebody's code: what it raises becomes `what`: the error.

    **Raises** `ReoptError`, also where it takes longer than REOPT_SUBJECT_SECONDS (60), or leaves jax's settings or the
    working folder changed.
    """
    os._exit = _leave
    before = _settings()
    try:
        with _kept(), _limited(what):
            yield
    except ReoptError:
        raise
    except KeyboardInterrupt:
        raise
    except (SystemExit, GeneratorExit) as error:
        raise ReoptError(f"{what}: {told(error)}, which would end the program") from error
    except BaseException as error:  # whatever it brings
        raise ReoptError(f"{what}: {told(error)}") from error
    finally:
        changed = _restore(before)
    if changed:
        raise ReoptError(
            f"{what}: it changes {', '.join(changed)} for the whole process, on which every number depends; take that "
            "out (inside a function, `with jax.enable_x64(True):` changes it for a while)"
        )


@contextlib.contextmanager
def _kept() -> Iterator[None]:
    """Put back what such code changes by the way: streams, warnings, numpy's errors, the depth of calls.

    Threads that it leaves running are remembered.
    """
    streams, depth, threads = (sys.stdin, sys.stdout, sys.stderr), sys.getrecursionlimit(), set(threading.enumerate())
    with warnings.catch_warnings(), np.errstate():
        try:
            yield
        finally:
            sys.stdin, sys.stdout, sys.stderr = streams
            sys.setrecursionlimit(depth)
            _threads.update(one for one in set(threading.enumerate()) - threads if not one.daemon)


def is_still_running() -> bool:
    """Whether somebody's code has left a thread that this process would wait for."""
    return any(one.is_alive() for one in _threads)


def seconds() -> float:
    """The time limit of somebody's code. **Raises** `ReoptError` where it is no number above 0."""
    words = os.environ.get(LIMIT, "")
    try:
        limit = float(words) if words else _USUAL
    except ValueError:
        limit = -1.0
    if not 0 < limit <= _LONGEST:
        raise ReoptError(f"{LIMIT} is {words!r}, but must be a number of seconds above 0")
    return limit


@contextlib.contextmanager
def _limited(what: str) -> Iterator[None]:
    """Interrupt what takes too long; where a signal does not reach it, end the process with the same words."""
    limit = seconds()
    words = f"{what}: it takes longer than {limit:g} s; set {LIMIT} to another number of seconds to allow more"
    if threading.current_thread() is not threading.main_thread() or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield  # another limit is set already
        return

    def stop(_: int, __: FrameType | None) -> None:
        raise _Late

    def end() -> None:
        sys.stderr.write(f"reopt: error: {ReoptError(words)}\n")
        sys.stderr.flush()
        _really_exit(2)

    last = threading.Timer(limit + _GRACE, end)
    last.daemon = True
    earlier = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit)
    last.start()
    try:
        yield
    except _Late as error:
        raise ReoptError(words) from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)
        last.cancel()


def _settings() -> dict[str, Any]:
    """jax's settings and the working folder."""
    import jax

    return {name: getattr(jax.config, name, None) for name in list(jax.config.values)} | {"": Path.cwd()}


def _restore(before: dict[str, Any]) -> list[str]:
    """Put settings back; what had been changed, as words."""
    import jax

    now = _settings()
    changed = [name for name, value in before.items() if now.get(name) != value]
    for name in changed:
        if name:
            jax.config.update(name, before[name])
        else:
            os.chdir(before[name])
    return [name or "the working folder" for name in changed]


def loaded(module: str) -> None:
    """Remember that a subject or task is of this module: its package is somebody's code from now on."""
    _packages.add(module.partition(".")[0])


def is_foreign(error: BaseException) -> bool:
    """Whether an error came out of somebody's code, by the files in its traceback and in those of its causes."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        if _passes(one.__traceback__):
            return True
        one = one.__cause__ or one.__context__
    return False


def _passes(trace: TracebackType | None) -> bool:
    """Whether a traceback goes through a file that is neither ours nor installed."""
    while trace is not None:
        frame = trace.tb_frame
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package in _packages or not _installed(frame.f_code.co_filename, package):
            return True
        trace = trace.tb_next
    return False


def _installed(file: str, package: str) -> bool:
    """Whether a file is part of this package, of the standard library, or of an installed one."""
    if package in ("reopt", "snakedvc", "__main__") or file.startswith("<"):
        return True
    if not os.path.isabs(file):  # of compiled code, which names its source: pandas/_libs/index.pyx
        file = getattr(sys.modules.get(package), "__file__", None) or file
    paths = sysconfig.get_paths()
    homes = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib", "scripts")]
    return any(file.startswith(home + os.sep) for home in homes)
