"""Files that are not as reopt writes them are named; an error of ours beside files that are is left as it is."""

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reopt.core.errors import ReoptError
from reopt.core.tables import read_arrays, read_json, read_table, write_arrays
from reopt.pipeline.formats import FORMATS, misfit
from reopt.pipeline.slice import results_of_ours

TABLES = [pattern for pattern in FORMATS if not pattern.endswith(".json")]
DOCUMENTS = [pattern for pattern in FORMATS if pattern.endswith(".json")]
RESULTS = Path("results/smoke")


def columns(pattern: str) -> list[str]:
    return FORMATS[pattern].split()


def sound(pattern: str, folder: Path) -> Path:
    """A file of the kind as reopt writes it: numbers, and words where these belong."""
    path = folder / "quadratic" / pattern.replace("*", "any")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".json":
        path.write_text(json.dumps(dict.fromkeys(columns(pattern), 1.0)))
    else:
        row = {name.removeprefix("~"): "word" if name.startswith("~") else 0.5 for name in columns(pattern)}
        pd.DataFrame([row, row]).to_csv(path, index=False)
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return RESULTS


@pytest.mark.parametrize("pattern", TABLES)
def test_a_table_that_lacks_a_column_or_numbers_is_named(pattern: str, home: Path):
    path = sound(pattern, home)
    whole = pd.read_csv(path)
    assert misfit(path) == ""
    for name in columns(pattern):
        whole.drop(columns=name.removeprefix("~")).to_csv(path, index=False)
        assert misfit(path) == f"it has no column {name.removeprefix('~')!r}"
        if not name.startswith("~"):
            whole.assign(**{name: "many"}).to_csv(path, index=False)
            assert misfit(path) == f"column {name!r} holds words in place of numbers"
    whole.head(0).to_csv(path, index=False)
    assert misfit(path) == ("" if path.name == "first_to_break.csv" else "it has no rows")


@pytest.mark.parametrize("pattern", DOCUMENTS)
def test_a_document_that_lacks_a_key_is_named(pattern: str, home: Path):
    path = sound(pattern, home)
    assert misfit(path) == ""
    content = json.loads(path.read_text())
    for name in columns(pattern):
        path.write_text(json.dumps({key: value for key, value in content.items() if key != name}))
        assert misfit(path) == f"it has no key {name!r}"
    path.write_text("[1]")
    assert misfit(path) == "it is no document with keys"


@pytest.mark.parametrize(
    "error", [KeyError("x"), TypeError("x"), ValueError("x"), AttributeError("x"), RuntimeError("x")]
)
def test_an_error_of_ours_beside_sound_files_is_left_as_it_is(error: Exception, home: Path):
    table, document = sound("conditions.csv", home), sound("analysis/*/schedule.json", home)
    write_arrays(home / "pca.npz", {"mean": np.zeros(1)})
    other = sound("landscape.csv", home)
    other.write_text("a\n1\n")  # damaged, but not read in there

    def reads_and_fails() -> None:
        with results_of_ours(home):
            read_table(table)
            read_json(document)
            read_arrays(home / "pca.npz")
            raise error

    with pytest.raises(type(error)) as caught:
        reads_and_fails()
    assert caught.value is error


def test_what_comes_of_a_damaged_file_is_told_as_its_fault(home: Path):
    path = sound("conditions.csv", home)
    path.write_text("problem,condition_number\n0,1\n")
    said = r"conditions\.csv is not as reopt writes it: it has no column 'largest"
    with pytest.raises(ReoptError, match=said), results_of_ours(home):
        _ = read_table(path)["largest_eigenvalue"]


def test_bytes_that_were_recorded_are_held_against_a_file(home: Path):
    """Of sound columns, but not what was made: a line of the records holds the digest of the bytes."""
    path = sound("conditions.csv", home)
    recorded = {"output": path.as_posix(), "sha256": "0" * 64, "record": {"rule": "conditions", "input": []}}
    file = home / ".records/analyse.jsonl.gz"
    file.parent.mkdir(parents=True)
    file.write_bytes(gzip.compress(json.dumps(recorded).encode()))
    assert misfit(path) == "its bytes are other than those recorded when it was made"
