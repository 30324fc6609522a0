"""Tidy tables as CSV, JSON documents, and arrays as npz without pickle; equal contents give equal bytes."""

import contextlib
import gzip
import json
import math
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from reopt.core.atomic import write_atomically
from reopt.core.errors import ReoptError

_LARGE = 2**28  # bytes, above which contents that shrink to a five-hundredth are refused
_MOST_PACKED = 500
_LARGEST = {".json": 2**26, ".csv": 2**28}  # bytes of a file that is read whole
_LONGEST_LINE = 2**20  # bytes of the names of a table's columns
_read: ContextVar[list[Path] | None] = ContextVar("read", default=None)


@contextlib.contextmanager
def files_read() -> Iterator[list[Path]]:
    """A list that fills with the tables, documents and arrays that are read in here, in order."""
    found: list[Path] = []
    token = _read.set(found)
    try:
        yield found
    finally:
        _read.reset(token)


def write_table(path: Path | str, table: pd.DataFrame) -> None:
    """A tidy table as CSV, packed where the path ends in .gz; floats in their shortest form that reads back exactly."""
    content = table.to_csv(index=False, lineterminator="\n").encode()
    if Path(path).suffix == ".gz":
        content = gzip.compress(content, mtime=0)  # neither time nor name into its head
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def rounded(table: pd.DataFrame, digits: int = 9) -> pd.DataFrame:
    """The table with its float64 columns rounded to significant digits; nine hold any float32."""

    def shorten(column: pd.Series) -> pd.Series:
        return column if column.dtype != np.float64 else column.map(lambda value: float(f"{value:.{digits}g}"))

    return table.apply(shorten)


def read_table(path: Path | str, columns: tuple[str, ...] = ()) -> pd.DataFrame:
    """A CSV table that has at least `columns`. **Raises** `ReoptError`."""
    _must_exist(path)
    try:
        _refuse_no_table(Path(path))
        table = pd.read_csv(path)
    except (OSError, ValueError, EOFError, zlib.error) as error:  # parser errors are ValueErrors, the others of .gz
        raise ReoptError(f"{path} is not a readable CSV table: {_first_line(error)}") from error
    if missing := [name for name in columns if name not in table.columns]:
        raise ReoptError(f"table {path} has no column {missing[0]!r}")
    return table


def write_text(path: Path | str, text: str) -> None:
    """Text, UTF-8."""
    write_atomically(path, lambda temporary: temporary.write_bytes(text.encode()) and None)


def write_json(path: Path | str, content: Any) -> None:
    """A JSON document, keys sorted; numbers that are not finite become null."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(key): clean(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [clean(item) for item in value]
        if isinstance(value, np.generic):
            value = value.item()
        return None if isinstance(value, float) and not np.isfinite(value) else value

    write_text(path, json.dumps(clean(content), indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """A JSON document. **Raises** `ReoptError`."""
    _must_exist(path)
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ReoptError(f"{path} is not a readable JSON file: {_first_line(error)}") from error


def write_arrays(path: Path | str, arrays: dict[str, np.ndarray]) -> None:
    """Named arrays as compressed npz; numpy writes no time stamps into it."""

    contents: dict[str, Any] = {name: np.asarray(array) for name, array in arrays.items()}

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            np.savez_compressed(file, **contents)

    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise TypeError(f"array {name!r} holds Python objects")
    write_atomically(path, write)


def read_arrays(path: Path | str, names: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """The arrays of an npz file, which holds at least `names`. **Raises** `ReoptError`."""
    _must_exist(path)
    try:
        with open(path, "rb") as stream:
            _refuse_bomb(stream)
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("a single array, not an npz archive")
            arrays = {name: _native(file[name]) for name in file.files}
        if odd := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
            raise ValueError(f"{odd[0]!r} is no array")
    except Exception as error:  # numpy and zipfile raise whatever their parsers run into
        raise ReoptError(f"{path} is not a readable npz file: {_first_line(error)}") from error
    if missing := [name for name in names if name not in arrays]:
        raise ReoptError(f"{path} has no array {missing[0]!r}")
    return arrays


def _native(array: Any) -> Any:
    """An array in the order of bytes of this machine, the only one that jax takes."""
    swapped = isinstance(array, np.ndarray) and not array.dtype.isnative
    return array.astype(array.dtype.newbyteorder("=")) if swapped else array


def _refuse_bomb(stream: IO[bytes]) -> None:
    """**Raises** `ValueError` where an archive would unpack to far more, or its arrays are not as large as they say.

    All that is read is its directory and the beginning of each member.
    """
    packed = os.fstat(stream.fileno()).st_size
    is_archive = zipfile.is_zipfile(stream)
    stream.seek(0)
    if not is_archive:
        return
    with zipfile.ZipFile(stream) as archive:
        declared = sum(member.file_size for member in archive.infolist())
        if declared > _LARGE and declared > _MOST_PACKED * packed:
            raise ValueError(f"{packed} bytes that unpack to {declared}: no such arrays are of use here")
        for member in archive.infolist():
            with archive.open(member) as file:
                shape, _, kind = _header(file)
                size = math.prod(shape) * kind.itemsize
                if not kind.hasobject and file.tell() + size != member.file_size:
                    raise ValueError(f"{member.filename!r} is not as large as the array that it says it is")
    stream.seek(0)


def _refuse_no_table(path: Path) -> None:
    """**Raises** `ValueError` where a file has no line of names, or a .gz file is far larger unpacked.

    What it says of its size is not trusted: it is unpacked piece by piece, and nothing of it kept.
    """
    is_packed = path.suffix == ".gz"
    with gzip.open(path) if is_packed else open(path, "rb") as file:
        head = file.readline(_LONGEST_LINE)
        if b"\0" in head or len(head) == _LONGEST_LINE:
            raise ValueError("its first line holds no names of columns")
        most = max(_LARGE, _MOST_PACKED * path.stat().st_size)
        if is_packed and path.stat().st_size * 1032 > most:  # to which deflate shrinks at best
            unpacked = len(head)
            while piece := file.read(2**20):
                unpacked += len(piece)
                if unpacked > most:
                    raise ValueError(f"it unpacks to over {most} bytes: no such table is of use here")


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type at the beginning of an npy file."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


def _must_exist(path: Path | str) -> None:
    if (found := _read.get()) is not None:
        found.append(Path(path))
    if Path(path).is_dir():
        raise ReoptError(f"{path} is a folder, not a file")
    if not Path(path).exists():
        raise ReoptError(f"there is no file {path}")
    if not Path(path).is_file():  # a pipe would be waited for without end
        raise ReoptError(f"{path} is not a file")
    most = _LARGEST.get(Path(path).suffix, math.inf)
    if Path(path).stat().st_size > most:
        raise ReoptError(f"{path} is larger than {most} bytes: no such file is of use here")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
