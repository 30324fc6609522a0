"""Where there is no mechanism none is found; how often it goes wrong is counted."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from reopt.dissection import calibration
from reopt.dissection.examine import examine
from reopt.dissection.readings import read
from reopt.tasks.quadratic import Quadratic

DRAWS = 12  # two of each kind; the command takes 200


def test_no_verdict_on_optimizers_without_mechanisms_is_false():
    table = calibration.verdicts(DRAWS, num_steps=60, problems=4)
    assert tuple(table.columns) == calibration.COLUMNS
    assert set(table["kind"]) == set(calibration.KINDS)
    assert table["false"].sum() == 0, table[table["false"] == 1]
    smooth = table[table["kind"].isin(["sgd", "untrained"]) & (table["mechanism"] != "remainder")]
    assert (smooth["verdict"] == "absent").all()


@pytest.mark.parametrize("kind", ["step", "bits", "chaos"])
def test_the_noise_that_was_added_is_measured(kind: str):
    values = (jnp.asarray(value) for value in (0.3, 0.03, 0.5))  # rate, deviation, seed
    optimizer = calibration.NoisySGD(*values, kind)  # type: ignore[arg-type]
    found = examine(optimizer, Quadratic(), num_steps=60, problems=4)
    deviation = float(optimizer.deviation)
    assert 0.5 < found.noise.level / deviation < 2
    remainder = read(found, optimizer)[-1]
    shares = {row[0]: row[2] for row in remainder.readings}
    planted = deviation**2 / np.mean(found.recording.updates**2)
    assert 0.25 < shares["noise"] / planted < 4  # a factor of 2 in deviation is one of 4 in variance
    if kind != "bits":  # there the update at no gradient is one draw of the noise, and nothing is read
        assert 0.25 < shares["noise"] / (1 - shares["r2"]) < 4


def test_the_command_writes_the_verdicts(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["calibration", "--draws", "2", "--out", str(tmp_path / "false.csv")])
    calibration.main()
    assert len(pd.read_csv(tmp_path / "false.csv")) == 10
    assert "0 of 10 verdicts are false" in capsys.readouterr().out
