"""Tidy tables as CSV, JSON documents, and arrays as npz without pickle; equal contents give equal bytes."""

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reopt.artifacts.atomic import write_atomically
from reopt.errors import ReoptError


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
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("a single array, not an npz archive")
            arrays = {name: file[name] for name in file.files}
        if odd := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
            raise ValueError(f"{odd[0]!r} is no array")
    except Exception as error:  # numpy and zipfile raise whatever their parsers run into
        raise ReoptError(f"{path} is not a readable npz file: {_first_line(error)}") from error
    if missing := [name for name in names if name not in arrays]:
        raise ReoptError(f"{path} has no array {missing[0]!r}")
    return arrays


def _must_exist(path: Path | str) -> None:
    if Path(path).is_dir():
        raise ReoptError(f"{path} is a folder, not a file")
    if not Path(path).exists():
        raise ReoptError(f"there is no file {path}")
    if not Path(path).is_file():  # a pipe would be waited for without end
        raise ReoptError(f"{path} is not a file")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
