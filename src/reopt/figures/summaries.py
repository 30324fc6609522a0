"""What figures need of tables before drawing: a table comes in, a table goes out."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from reopt.dynamics.pca import PCA
from reopt.figures.palette import split_seed

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


def family_interval(evaluation: pd.DataFrame) -> pd.DataFrame:
    """`mean_interval` over problems of the meta-objective averaged over a family's seeds, indexed by family."""
    families = evaluation["optimizer"].map(lambda subject: split_seed(subject)[0])
    table = evaluation.assign(family=families).groupby(["family", "problem"], sort=False)["meta_objective"]
    # A sum would take infinities for numbers that are missing: the plain mean keeps them.
    averaged = table.agg(lambda values: float(np.mean(values.to_numpy(dtype=float)))).reset_index()
    return mean_interval(averaged, "family", "meta_objective").set_index("family")


def project(pca: Mapping[str, np.ndarray], points: np.ndarray) -> np.ndarray:
    """Points `[point, hidden]` in the coordinates `[point, k]` of the stored principal components."""
    return (np.asarray(points, dtype=float) - pca["mean"]) @ pca["components"].T


def in_the_plane(basis: PCA) -> dict[str, np.ndarray]:
    """The principal components for drawing on two axes; states of fewer components have 0 on the others."""
    missing = max(0, 2 - len(basis.explained))
    return basis._asdict() | {
        "components": np.pad(basis.components, ((0, missing), (0, 0))),
        "explained": np.pad(basis.explained, (0, missing)),
        "projected": np.pad(basis.projected, [(0, 0)] * (basis.projected.ndim - 1) + [(0, missing)]),
    }


def mode_kind(modes: pd.DataFrame) -> pd.Series:
    """What the gain of each mode is: "positive", "negative" (both real) or "complex"."""
    kind = np.where(modes["alpha_real"] >= 0, "positive", "negative")
    is_complex = (modes["beta_imag"].abs() > 1e-9) | (modes["alpha_imag"].abs() > 1e-9)
    return pd.Series(np.where(is_complex, "complex", kind), index=modes.index)
