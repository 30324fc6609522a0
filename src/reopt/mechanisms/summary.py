"""The mechanisms of one run in a number each, so that runs of many cells can stand side by side."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from reopt.examination.examination import Examination

QUANTILE = 0.99
"""The clipping threshold is measured in this quantile of the sizes of the gradients met."""


def summary(found: "Examination") -> pd.DataFrame:
    """A row a quantity: `quantity, value`; NaN where the run has none.

    momentum: |beta| of the mode of largest gain. threshold: of clipping at the initial state, in the
    `QUANTILE` of the gradients met. rise: of the effective learning rate without gradients, peak over
    initial. exponent: of the effective learning rate against the size of a constant gradient.
    """
    modes, rates = found.modes, found.schedule.summary
    values = {
        "momentum": float(modes.loc[modes["gain"].idxmax(), "magnitude"]) if len(modes) else np.nan,
        "threshold": _threshold(found.clipping) / _quantile(found.density),
        "rise": _number(rates.get("peak")) / (_number(rates.get("initial")) or np.nan),
        "exponent": _number(found.adaptation.summary.get("exponent")),
    }
    return pd.DataFrame({"quantity": list(values), "value": list(values.values())})


def _number(value: Any) -> float:
    return np.nan if value is None else float(value)


def _threshold(clipping: pd.DataFrame) -> float:
    """The threshold of the initial state; NaN where the update still rises."""
    rows = clipping.loc[clipping["place"] == "initial", "threshold"]
    return float(rows.iloc[0]) if len(rows) else np.nan


def _quantile(density: pd.DataFrame) -> float:
    """The quantile of the gradients' sizes, from their histogram."""
    table = density[(density["scale"] == "log") & (density["phase"] == "all")].sort_values("left")
    edges = np.log10([*table["left"], table["right"].iloc[-1]])
    below = np.append(0.0, np.cumsum(table["density"] * np.diff(edges)))
    return float(10 ** np.interp(QUANTILE, below / below[-1], edges)) if below[-1] > 0 else np.nan
