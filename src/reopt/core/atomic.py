"""Files that are either whole or not there."""

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

from reopt.core.errors import ReoptError, shortened

_OF_THE_SYSTEM = ("/dev/", "/proc/", "/sys/")


def write_atomically(path: Path | str, write: Callable[[Path], object]) -> None:
    """Call `write` on a temporary file, flush it to disk, then rename it to `path`, or to what a link there points to.

    A process killed at any moment leaves the earlier file, whole. **Raises** `ReoptError` if `path` cannot be
    written.
    """
    target = check_writable(path)
    temporary = target.with_name(f".{target.name[:40]}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise _refusal(path, error.strerror or str(error)) from error
    finally:
        with contextlib.suppress(OSError):  # it may never have been there
            temporary.unlink()


def check_writable(path: Path | str) -> Path:
    """The file that `path` stands for, links followed; folders above it are made.

    **Raises** `ReoptError` where a folder, a device or a pipe stands there, links go round in a circle, a link points
    to a file that is write-protected (of DVC's cache), or a folder cannot be made or written to.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        target = Path(os.path.realpath(path))
        if any(f"{place}/".startswith(_OF_THE_SYSTEM) for place in _hops(path)):
            raise _refusal(path, "a folder or a device stands there")
        mode = _mode(target)
    except FileExistsError as error:
        raise _refusal(path, f"{shortened(str(error.filename))} is not a folder") from error
    except OSError as error:
        raise _refusal(path, error.strerror or str(error)) from error
    if mode is not None and not stat.S_ISREG(mode):
        raise _refusal(path, "a folder or a device stands there")
    if mode is not None and path.is_symlink() and not mode & 0o222:
        raise _refusal(path, f"it is a link to {target}, which is write-protected; remove the link")
    if not target.parent.is_dir():
        raise _refusal(path, f"it is a link to {target}, whose folder is not there")
    if not os.access(target.parent, os.W_OK):
        raise _refusal(path, "its folder is not writable")
    return target


def _mode(target: Path) -> int | None:
    """What stands at a path; None where nothing does."""
    try:
        return target.stat().st_mode
    except FileNotFoundError:
        return None


def _hops(path: Path) -> list[str]:
    """The absolute path, and those that links at its end lead to."""
    found = [os.path.join(os.path.realpath(path.parent), path.name)]
    while os.path.islink(found[-1]) and len(found) < 40:
        onto = os.path.join(os.path.dirname(found[-1]), os.readlink(found[-1]))
        found.append(os.path.join(os.path.realpath(os.path.dirname(onto)), os.path.basename(onto)))
    return found


def _refusal(path: Path | str, reason: str) -> ReoptError:
    return ReoptError(f"cannot write {shortened(str(path))}: {reason}")
