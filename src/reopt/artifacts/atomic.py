"""Files that are either whole or not there."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from reopt.errors import ReoptError


def write_atomically(path: Path | str, write: Callable[[Path], object]) -> None:
    """Call `write` on a temporary file beside `path`, flush it to disk, then rename it to `path`.

    A process killed at any moment leaves the earlier file, whole. **Raises** `ReoptError` if `path` cannot be
    written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():  # renaming would replace even /dev/null
            raise OSError("a folder or a device stands there")
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ReoptError(f"cannot write {path}: {reason}") from error
    finally:
        with contextlib.suppress(OSError):  # it may never have been there
            temporary.unlink()
