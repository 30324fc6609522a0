"""The mechanisms of a run in a number each."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reopt.examination.examination import Examination
from reopt.examination.storage import COLUMNS, save
from reopt.mechanisms.constant_gradients import Adaptation
from reopt.mechanisms.effective_rate import Schedule
from reopt.mechanisms.summary import summary
from reopt.mechanisms.update_function import gradient_density

MODES = pd.DataFrame({"gain": [0.2, 0.7, 0.1], "magnitude": [0.99, 0.9, 0.1]})
CLIPPING = pd.DataFrame({"place": ["initial", "fixed_point"], "threshold": [3.0, 1.0]})


RATES = {"finite": True, "shape": "warmup", "initial": 2.0, "peak": 5.0, "final": 5.0, "lowest": 2.0, "peak_step": 1}


def _whole(file: str, **known: object) -> pd.DataFrame:
    """A table with all columns of its file: those that are `known`, the others all 0, "x" or, counted, 0, 1, 2, ..."""
    numbers, texts = (part.split() for part in COLUMNS[file].split("|"))
    filled = dict.fromkeys(numbers, 0.0) | dict.fromkeys(texts, "x") | known
    table = pd.DataFrame(filled, index=range(max(len(value) for value in [*known.values(), [0]])))  # type: ignore[arg-type]
    return table.assign(**{numbers[0]: range(len(table))}) if numbers[0] != "shift" else table


def _values(folder: Path, clipping: pd.DataFrame = CLIPPING, **adaptation: float | None) -> dict[str, float]:
    sizes = np.random.default_rng(0).lognormal(size=(50, 20, 10))
    unknown = dict.fromkeys(("low", "high", "knee", "range", "symmetry", "fastest", "slowest"))
    held = _whole("adaptation.csv", converged=[True], stable=[True])
    for attribute, value in {
        "modes": _whole("modes.csv", **MODES),
        "clipping": _whole("clipping.csv", **clipping),
        "density": gradient_density(sizes),
        "schedule": Schedule(_whole("schedule.csv"), RATES),
        "adaptation": Adaptation(
            held,
            unknown | {"converged": 1.0, "hysteresis": False} | adaptation,
            _whole("adaptation_functions.csv.gz"),
            np.zeros((0, 0)),
        ),
    }.items():
        save(attribute, value, folder)
    table = summary(Examination(None, None, stored=folder))
    return dict(zip(table["quantity"], table["value"], strict=True))


def test_each_quantity_is_read_off(tmp_path: Path) -> None:
    found = _values(tmp_path, exponent=-0.5)
    assert (found["momentum"], found["rise"], found["exponent"]) == (0.9, 2.5, -0.5)
    quantile = np.exp(2.3263)  # 99% of the lognormal distribution
    assert found["threshold"] == pytest.approx(3.0 / quantile, rel=0.1)


def test_what_is_not_determined_is_no_number(tmp_path: Path) -> None:
    found = _values(tmp_path, CLIPPING.assign(threshold=np.nan), exponent=None)
    assert np.isnan(found["exponent"])
    assert np.isnan(found["threshold"])
