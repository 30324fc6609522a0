"""What figures need of tables before drawing: a table comes in, a table goes out."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

Z95 = 1.959963984540054
"""97.5% quantile of the standard normal: half of a 95% interval, in standard errors."""


def mean_interval(table: pd.DataFrame, by: str, value: str) -> pd.DataFrame:
    """Mean of `value` for each `by`, with its 95% interval by normal approximation.

    Columns: `by`, mean, low, high, count; rows in the order of first appearance. Values that are not finite make the
    mean infinite and the interval undefined (NaN), so that a diverged run cannot look good.
    """
    rows = []
    for key, group in table.groupby(by, sort=False):
        values = group[value].to_numpy(dtype=float)
        if np.all(np.isfinite(values)):
            mean = values.mean()
            half = Z95 * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
        else:
            mean, half = np.inf, np.nan
        rows.append((key, mean, mean - half, mean + half, len(values)))
    return pd.DataFrame(rows, columns=[by, "mean", "low", "high", "count"])


def project(pca: Mapping[str, np.ndarray], points: np.ndarray) -> np.ndarray:
    """Points `[point, hidden]` in the coordinates `[point, k]` of the stored principal components."""
    return (np.asarray(points, dtype=float) - pca["mean"]) @ pca["components"].T


def mode_kind(modes: pd.DataFrame) -> pd.Series:
    """What the gain of each mode is: "positive", "negative" (both real) or "complex"."""
    kind = np.where(modes["alpha_real"] >= 0, "positive", "negative")
    is_complex = (modes["beta_imag"].abs() > 1e-9) | (modes["alpha_imag"].abs() > 1e-9)
    return pd.Series(np.where(is_complex, "complex", kind), index=modes.index)
