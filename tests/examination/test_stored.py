"""Stored parts of an examination that are not of this optimizer, or of none: each is refused, and told by its file."""

from pathlib import Path

import numpy as np
import pytest

from reopt.core.errors import ReoptError
from reopt.core.tables import read_arrays, read_json, read_table, write_arrays, write_json, write_table
from reopt.examination.examination import Examination
from reopt.examination.parts import FILES
from reopt.examination.settings import Settings
from reopt.examination.storage import COLUMNS, load, save
from reopt.mechanisms.momentum import measure
from reopt.optimizers.classical import Momentum
from reopt.tasks.quadratic import Quadratic

SMALL = Settings(num_steps=12, problems=4, state_problems=2, visited_seeds=4, perturbed_seeds=2, grid=11, bins=5)
ARRAYS = ("recording", "points", "linearization", "pca")
TABLES = ("modes", "impulse", "update_functions", "clipping", "density", "schedule")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What there is of v' = .9 v + g, dx = -.1 v'."""
    folder = tmp_path_factory.mktemp("stored")
    made = Examination(Momentum(0.1, 0.9), Quadratic(2), SMALL)
    for attribute in (*ARRAYS, *TABLES):
        save(attribute, getattr(made, attribute), folder)
    return folder


def of(optimizer: Momentum, folder: Path) -> Examination:
    return Examination(optimizer, Quadratic(2), SMALL, stored=folder)


@pytest.mark.parametrize("attribute", ARRAYS)
def test_what_was_stored_is_taken(attribute: str, stored: Path):
    made = getattr(of(Momentum(0.1, 0.9), stored), attribute)
    for name, array in read_arrays(stored / FILES[attribute][0]).items():
        np.testing.assert_array_equal(getattr(made, name), array)


@pytest.mark.parametrize("attribute", ["recording", "points", "linearization"])
def test_arrays_of_another_optimizer_are_refused(attribute: str, stored: Path):
    """The decay is the state's derivative: .9 is stored, .8 is this optimizer's."""
    with pytest.raises(ReoptError, match="another optimizer"):
        getattr(of(Momentum(0.1, 0.8), stored), attribute)


def test_a_linearization_of_another_rate_is_refused(stored: Path):
    """The rate is the readout's derivative alone: J and B are the same."""
    with pytest.raises(ReoptError, match="the readout of the stored linearization"):
        _ = of(Momentum(0.2, 0.9), stored).linearization


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0], ids=["NaN", "infinity", "zero"])
@pytest.mark.parametrize("attribute", ARRAYS)
def test_arrays_of_nothing_are_refused(attribute: str, value: float, stored: Path, tmp_path: Path):
    file = FILES[attribute][0]
    arrays = read_arrays(stored / file)
    filled = {name: np.full_like(array, value) for name, array in arrays.items() if array.dtype.kind == "f"}
    write_arrays(tmp_path / file, arrays | filled)
    with pytest.raises(ReoptError, match=str(tmp_path)):
        getattr(of(Momentum(0.1, 0.9), tmp_path), attribute)


@pytest.mark.parametrize("damage", ["missing", "text", "no rows"])
@pytest.mark.parametrize("attribute", TABLES)
def test_tables_of_another_kind_are_refused(attribute: str, damage: str, stored: Path, tmp_path: Path):
    """The first column of numbers is missing, or of texts; or there are no rows, as only of modes there may be none."""
    for file in FILES[attribute]:
        (tmp_path / file).write_bytes((stored / file).read_bytes())
    path = tmp_path / FILES[attribute][0]
    table = read_table(path)
    column = next(name for name in table if table[name].dtype == np.float64)
    changed = {"missing": table.drop(columns=column), "text": table.assign(**{column: "x"}), "no rows": table[:0]}
    write_table(path, changed[damage])
    if (attribute, damage) == ("modes", "no rows"):
        assert len(load(attribute, tmp_path)) == 0
        return
    with pytest.raises(ReoptError, match=path.name):
        load(attribute, tmp_path)


@pytest.mark.parametrize("rows", [0, 3])
def test_modes_of_another_linearization_are_refused(rows: int, stored: Path, tmp_path: Path):
    """The state of a heavy ball is its buffer alone: one mode, neither none nor three."""
    for attribute in (*ARRAYS, *TABLES):
        for file in FILES[attribute]:
            (tmp_path / file).write_bytes((stored / file).read_bytes())
    table = read_table(tmp_path / "modes.csv")
    write_table(tmp_path / "modes.csv", table.loc[[0] * rows].assign(mode=range(rows)))
    with pytest.raises(ReoptError, match=rf"modes\.csv: {rows} momentum modes for a linearization with 1"):
        measure(of(Momentum(0.1, 0.9), tmp_path), {})


@pytest.mark.parametrize("change", [{"shape": 3}, {"finite": None}, {"peak": "high"}, {"initial": True}])
def test_a_summary_of_another_kind_is_refused(change: dict, stored: Path, tmp_path: Path):
    (tmp_path / "schedule.csv").write_bytes((stored / "schedule.csv").read_bytes())
    write_json(tmp_path / "schedule.json", read_json(stored / "schedule.json") | change)
    with pytest.raises(ReoptError, match=r"schedule\.json is no summary"):
        load("schedule", tmp_path)


def test_every_table_of_an_examination_says_its_columns():
    assert set(COLUMNS) == {file for files in FILES.values() for file in files if ".csv" in file}
