"""Verdicts: what an examination says of each mechanism, as numbers with uncertainty and a word.

One row a reading: mechanism, quantity, index, value, low, high, unit, verdict. The mechanisms, their bounds and what
each cannot see stand in `reopt.mechanisms`, one file each.
"""

from typing import Any

import numpy as np
import pandas as pd

from reopt.examination.agreement import checked
from reopt.examination.examination import Examination
from reopt.mechanisms.base import Finding
from reopt.mechanisms.registry import mechanisms

COLUMNS = ("mechanism", "quantity", "index", "value", "low", "high", "unit", "verdict")


def read(found: Examination) -> list[Finding]:
    """A finding for each mechanism, in their order; where readings that must agree do not, it is undetermined."""
    findings: dict[str, Finding] = {}
    for one in mechanisms():
        findings[one.name] = one.measure(found, findings)
    return checked(found, list(findings.values()))


def readings_table(findings: list[Finding]) -> pd.DataFrame:
    """The readings as one tidy table."""
    rows: list[tuple[Any, ...]] = []
    for finding in findings:
        for quantity, index, value, low, high, unit in finding.readings:
            rows.append((finding.mechanism, quantity, index, value, low, high, unit, finding.verdict))
        if not finding.readings:
            rows.append((finding.mechanism, "none", 0, np.nan, np.nan, np.nan, "1", finding.verdict))
    return pd.DataFrame(rows, columns=list(COLUMNS))
