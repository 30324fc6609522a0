"""The example scripts, as a reader runs them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]


def memory(step: np.ndarray) -> np.ndarray:
    """Of the two updates that would follow a step without a gradient, the second over the first: beta1, times what the
    rate does from the one to the other, and the second moment with its bias correction."""

    def rate(at: np.ndarray) -> np.ndarray:
        return 1 + np.cos(np.pi * (at - 200) / 1800)

    first, second = step + 1, step + 2
    corrected = (1 - 0.999 ** (second + 1)) / (1 - 0.999 ** (first + 1))
    return 0.9 * rate(second) / rate(first) * np.sqrt(corrected / 0.999)


def test_digits_are_learnt_and_their_optimizer_is_read(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "examples/digits.py", "--out", "digits.svg", "--table", "digits.csv"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[2]) > 0.9  # test accuracy
    assert (tmp_path / "digits.svg").read_text(encoding="utf-8").startswith("<?xml")
    table = pd.read_csv(tmp_path / "digits.csv", keep_default_na=True)
    assert set(table["group"]) == {"layer 1", "layer 2", "layer 3"}
    assert (table["value"].isna() == table["reason"].notna()).all()
    assert {0, 1950} <= set(table["step"])
    read = table.pivot(index=["step", "group"], columns="quantity", values="value").loc[500:]
    assert read["clipped"].between(0, 1).all()
    steps = read.index.get_level_values("step").to_numpy(float)
    np.testing.assert_allclose(read["memory"], memory(steps), atol=5e-5)
    assert read["adaptation"].between(-1, 0.2).all()
    assert (read["learning_rate"] > 0).all()
