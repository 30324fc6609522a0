"""The attributes of an examination on disk: arrays as npz, tables as CSV, summaries as JSON."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, jaxtyped

from reopt.core.errors import ReoptError
from reopt.core.tables import read_arrays, read_json, read_table, rounded, write_arrays, write_json, write_table
from reopt.dynamics.fixed_points import FixedPoints
from reopt.dynamics.linearization import Linearization
from reopt.dynamics.pca import PCA
from reopt.dynamics.record import Recording
from reopt.examination.parts import FILES
from reopt.mechanisms.ablation import Causes
from reopt.mechanisms.constant_gradients import Adaptation
from reopt.mechanisms.effective_rate import Schedule
from reopt.mechanisms.modes import LinearizedRuns
from reopt.mechanisms.operating_point import OperatingPoint

_ARRAYS: dict[str, Any] = {"recording": Recording, "points": FixedPoints, "linearization": Linearization, "pca": PCA}
_BUNDLES: dict[str, Any] = {
    "linearized": LinearizedRuns,
    "schedule": Schedule,
    "adaptation": Adaptation,
    "operating": OperatingPoint,
    "ablation": Causes,
}
_DIGITS = {  # significant digits of what is large, and drawn; tables that are read on keep all
    "update_functions.csv.gz": 7,
    "adaptation_functions.csv.gz": 7,
    "operating_functions.csv.gz": 7,
    "linearized.csv": 9,
    "linearized_problems.csv.gz": 9,
    "gradient_density.csv": 9,
    "schedule.csv": 9,
    "adaptation.csv": 9,
}
COLUMNS: dict[str, str] = {
    "modes.csv": "mode beta_real beta_imag alpha_real alpha_imag magnitude timescale participation gain | kind",
    "impulse.csv": "lag response linear modes |",
    "linearized.csv": "step learned linearized |",
    "linearized_problems.csv.gz": "problem learned linearized |",
    "update_functions.csv.gz": "shift gradient update slope | place",
    "clipping.csv": "shift slope_at_zero jump threshold half_slope_positive half_slope_negative corner asymmetry "
    "hardness fraction_beyond_half_slope saturation far_saturation | place",
    "gradient_density.csv": "left right density | scale phase",
    "schedule.csv": "step effective_learning_rate steady_step offset distance |",
    "adaptation.csv": "gradient effective_learning_rate effective_learning_rate_at_zero mean_rate residual "
    "spectral_radius converged stable time_constant rate_time_constant from_start rate_from_start | arm",
    "adaptation_functions.csv.gz": "gradient_held gradient update slope | place",
    "operating.csv.gz": "met step problem param rate memory saturation rate_at_end |",
    "operating_functions.csv.gz": "gradient step update slope |",
    "readings.csv": "index value low high | mechanism quantity unit verdict",
    "causes.csv": "meta_objective low high difference difference_low difference_high diverged problems | momentum "
    "clipping schedule adaptation variant",
    "worth.csv": "value low high | mechanism quantity",
}
"""Columns of numbers | of texts of each table; pc1, pc2, pc3 stand in some beside them."""

_ALWAYS_FINITE = {
    *("mode", "lag", "step", "problem", "index", "gradient", "gradient_held", "left", "right", "density", "shift"),
    *("beta_real", "beta_imag", "alpha_real", "alpha_imag", "magnitude", "participation"),
}
_COUNTED = ("mode", "lag", "step", "problem")
_ONE_STATE = {"clipping.csv": 1, "update_functions.csv.gz": None}  # rows of the fixed point; None: some
_MAY_BE_EMPTY = ("modes.csv", "adaptation_functions.csv.gz")  # no state; no point that converged
_RATES = ("converged", "exponent", "low", "high", "knee", "range", "symmetry", "fastest", "slowest")
_SUMMARIES: dict[str, dict[str, type]] = {  # what is a float may also be null
    "schedule.json": {"shape": str, "finite": bool},
    "adaptation.json": {**dict.fromkeys(_RATES, float), "hysteresis": bool},
}
_OF_FINITE_RATES: dict[str, type] = {"initial": float, "peak": float, "final": float, "lowest": float, "peak_step": int}
# Arrays of any file that hold finite numbers alone, even where runs diverged.
_FINITE = {"points", "point", "jacobian", "input", "readout", "direct", "offset", "mean", "components"}


def save(attribute: str, value: Any, folder: Path) -> None:
    """Write an attribute of an `Examination` to its files in `folder`, each atomically."""
    parts = value if attribute in _BUNDLES else (value,)
    for file, part in zip(FILES[attribute], parts, strict=False):  # states of an adaptation are not stored
        path = folder / file
        if attribute in _ARRAYS:
            write_arrays(path, {name: array for name, array in part._asdict().items() if array is not None})
        elif path.suffix == ".json":
            write_json(path, part)
        else:
            write_table(path, rounded(part, _DIGITS[file]) if file in _DIGITS else part)


def load(attribute: str, folder: Path, **sizes: int) -> Any:
    """Read an attribute of an `Examination` from `folder`; `sizes` are those that axes of its arrays must have.

    **Raises** `ReoptError` where a file is missing, damaged, or of another optimizer or config.
    """
    if attribute in _ARRAYS:
        return _arrays(folder / FILES[attribute][0], _ARRAYS[attribute], sizes)
    parts = [_summary(path) if path.suffix == ".json" else _table(path, sizes) for path in paths_of(attribute, folder)]
    if attribute == "adaptation":
        return Adaptation(parts[0], parts[1], parts[2], states=np.zeros((0, 0)))
    if attribute == "operating":
        return OperatingPoint(parts[0], parts[1], states=np.zeros((0, 0)))
    return _BUNDLES[attribute](*parts) if attribute in _BUNDLES else parts[0]


def paths_of(attribute: str, folder: Path) -> list[Path]:
    """The files of an attribute in a subject's folder."""
    return [folder / file for file in FILES[attribute]]


def _table(path: Path, sizes: dict[str, int]) -> pd.DataFrame:
    """A table with the columns of its name, of numbers or texts. **Raises** `ReoptError`."""
    numbers, texts = (part.split() for part in COLUMNS[path.name].split("|"))
    table = read_table(path, (*numbers, *texts))
    if table.empty:
        damages = [] if path.name in _MAY_BE_EMPTY else ["has no rows"]
    else:
        numbers += [name for name in ("pc1", "pc2", "pc3") if name in table.columns]
        damages = [*_odd_values(table, numbers, texts), *_odd_rows(path.name, table, numbers[0], sizes)]
    if damages:
        raise ReoptError(f"table {path} {damages[0]}: it is damaged, or of another config")
    return table


def _odd_values(table: pd.DataFrame, numbers: list[str], texts: list[str]) -> Iterator[str]:
    """What is wrong with the values of a table's columns."""
    for name in numbers:
        if not pd.api.types.is_numeric_dtype(table[name]):
            yield f"has something else than numbers in column {name!r}"
        elif name in _ALWAYS_FINITE and not np.isfinite(table[name]).all():
            yield f"has values that are not finite in column {name!r}"
    for name in texts:
        is_number = name != "unit" and pd.api.types.is_numeric_dtype(table[name])  # a unit may be 1
        if is_number or table[name].isna().any():
            yield f"has something else than texts in column {name!r}"
    for name in ("converged", "stable"):
        if name in numbers and table[name].dtype != bool:
            yield f"has something else than True and False in column {name!r}"


def _odd_rows(file: str, table: pd.DataFrame, first: str, sizes: dict[str, int]) -> Iterator[str]:
    """What is wrong with the rows of a table."""
    if first in _COUNTED and not np.array_equal(table[first], np.arange(len(table))):
        yield f"does not count its rows in column {first!r}"
    if file == "schedule.csv" and len(table) != sizes.get("step", len(table)):
        yield f"does not have {sizes['step']} steps"
    if first == "lag" and len(table) < 2:
        yield "has one lag alone"
    if file in _ONE_STATE:
        rows = int((table["place"] == "fixed_point").sum())
        if not rows or rows != (_ONE_STATE[file] or rows):
            yield f"has {rows} rows of place 'fixed_point'"


def _summary(path: Path) -> dict[str, Any]:
    """A summary with the keys of its file's name, of their types. **Raises** `ReoptError`."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise ReoptError(f"{path} is no summary written by reopt")
    finite = _OF_FINITE_RATES if content.get("finite") is True else {}
    for name, kind in (_SUMMARIES[path.name] | finite).items():
        allowed = (int, float, type(None)) if kind is float else kind
        value = content.get(name, ...)
        if not isinstance(value, allowed) or (kind is float and isinstance(value, bool)):
            raise ReoptError(f"{path} is no summary written by reopt: its {name} is missing or no {kind.__name__}")
    return content


def _arrays(path: Path, kind: Any, sizes: dict[str, int]) -> Any:
    """A NamedTuple of arrays from its npz file, in which axes have these sizes. **Raises** `ReoptError`."""
    arrays = read_arrays(path, tuple(name for name in kind._fields if name not in kind._field_defaults))
    with jaxtyped("context"):  # in which each name of an axis stands for one size
        for axis, size in sizes.items():
            isinstance(np.zeros(size), Float[np.ndarray, axis])  # type: ignore[arg-type]
        for name, wanted in kind.__annotations__.items():
            if name not in arrays:
                continue  # stored before there was this field
            found = arrays[name]
            if not isinstance(found, wanted):
                known = ", ".join(f"{axis} {size}" for axis, size in sizes.items())
                raise ReoptError(
                    f"{path}: array {name!r} is {found.dtype}{list(found.shape)}, but must be {wanted.__name__} with "
                    f"{known}: it is damaged, or of another subject or config"
                )
            if name in _FINITE and not np.isfinite(found).all():
                raise ReoptError(f"{path}: array {name!r} holds values that are not finite")
    return kind(**{name: arrays[name] for name in kind._fields if name in arrays})
