"""The pages of docs/mechanisms show the numbers that lie beside them, and what was planted was read."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
NAMES = ("momentum", "clipping", "schedule", "adaptation", "remainder")
# What the readings promise: relative, or for an exponent and R² absolute.
WITHIN = {"threshold": 0.01, "hardness": 0.01, "exponent": 0.01, "time_constant": 0.005, "knee": 0.02, "r2": 0.02}
EXACT = 1e-5


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("mechanism_pages", ROOT / "workflow/scripts/mechanism_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_shows_the_numbers_beside_it_and_its_picture(script, tmp_path) -> None:
    assert script.out_of_step(ROOT / "docs/mechanisms") == []
    for name in NAMES:
        text = (ROOT / f"docs/mechanisms/{name}.md").read_text()
        assert f"../images/mechanisms/{name}.png" in text
        assert (ROOT / f"docs/images/mechanisms/{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "What it cannot see" in text
        for suffix in ("md", "csv"):
            (tmp_path / f"{name}.{suffix}").write_bytes((ROOT / f"docs/mechanisms/{name}.{suffix}").read_bytes())
    table = pd.read_csv(tmp_path / "clipping.csv")
    table.loc[0, "value"] *= 1.001
    table.to_csv(tmp_path / "clipping.csv", index=False)
    assert script.out_of_step(tmp_path) == [tmp_path / "clipping.md"]


@pytest.mark.long
def test_the_planted_numbers_are_the_hyperparameters_and_were_read(script) -> None:
    for name, planted in script.examples().items():
        table = pd.read_csv(ROOT / f"docs/mechanisms/{name}.csv")
        asked = [
            (one.words, quantity, value)
            for one in planted
            for quantity, values in one.numbers.items()
            for value in values
        ]
        assert list(zip(table["optimizer"], table["quantity"], strict=True)) == [row[:2] for row in asked]
        np.testing.assert_allclose(table["planted"], [row[2] for row in asked], rtol=1e-12)
        for _, row in table[table["planted"].notna() & table["value"].notna()].iterrows():
            bound = WITHIN.get(row["quantity"], EXACT)
            size = 1.0 if row["quantity"] in ("exponent", "r2") else abs(row["planted"])
            assert abs(row["value"] - row["planted"]) <= bound * size + 1e-12, (name, *row)
    unknown = pd.read_csv(ROOT / "docs/mechanisms/remainder.csv").iloc[0]
    assert unknown["verdict"] == "present"
    assert unknown["high"] < 0.9
