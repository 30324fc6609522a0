"""Where there is no mechanism none is found; how often it goes wrong is counted."""

import numpy as np
import pandas as pd
import pytest

from reopt.dissection import calibration
from reopt.dissection.examine import NOISE_ROWS, examine
from reopt.dissection.readings import read
from reopt.mechanisms.noise import PER_SIGMA
from reopt.tasks.quadratic import Quadratic

STEPS = 60
DRAWS = 24  # four of each kind; the command takes 200


def test_no_verdict_on_optimizers_without_mechanisms_is_false():
    table = calibration.verdicts(DRAWS, num_steps=STEPS, problems=4)
    assert tuple(table.columns) == calibration.COLUMNS
    assert set(table["kind"]) == set(calibration.KINDS)
    assert table["false"].sum() == 0, table[table["false"] == 1]
    smooth = table[table["kind"].isin(["sgd", "untrained"]) & (table["mechanism"] != "remainder")]
    assert (smooth["verdict"] == "absent").all()


def noise_of(kind: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """The noise that a kind adds, of deviation 1, successive along the last axis."""
    if kind != "chaos":
        return rng.uniform(-(3**0.5), 3**0.5, shape)
    orbit, state = np.empty(shape), rng.uniform(0.1, 0.9, shape[:-1])
    for t in range(shape[-1]):
        state = 3.99 * state * (1 - state)
        orbit[..., t] = 3.0 * (state - 0.5)
    return orbit


def levels_of(kind: str, repeats: int = 4000) -> np.ndarray:
    """What the estimate of the level is in repetitions: the median of as many second differences as it takes."""
    rng = np.random.default_rng(0)
    if kind == "bits":  # the larger of two estimates, each from lines of three points of its own
        lines = noise_of(kind, rng, (repeats, 2, NOISE_ROWS, 3))
        return (np.median(np.abs(np.diff(lines, 2)[..., 0]), axis=2) / PER_SIGMA).max(axis=1)
    late = STEPS - STEPS // 10
    return np.median(np.abs(np.diff(noise_of(kind, rng, (repeats, late)), 2)), axis=1) / PER_SIGMA


@pytest.mark.parametrize("kind", ["step", "bits", "chaos"])
def test_the_noise_that_was_added_is_measured(kind: str):
    optimizer = calibration.innocent(kind, np.random.default_rng(5))
    found = examine(optimizer, Quadratic(), num_steps=STEPS, problems=4)
    deviation = float(optimizer.deviation)  # type: ignore[attr-defined]
    low, high = np.quantile(levels_of(kind), [0.005, 0.995])
    assert low < found.noise.level / deviation < high
    remainder = read(found, optimizer)[-1]
    shares = {row[0]: row[2] for row in remainder.readings}
    runs = found.recording
    updates, gradients = (part.astype(np.float64) for part in (runs.updates, runs.gradients))
    added = np.square(updates + float(optimizer.learning_rate) * gradients)  # type: ignore[attr-defined]
    size = np.square(updates).mean(axis=(1, 2))
    # What is not explained is what was added, nothing else; each step weighs the same.
    np.testing.assert_allclose(1 - shares["r2"], (added.mean(axis=(1, 2)) / size).mean(), rtol=1e-3)
    np.testing.assert_allclose(shares["noise"], np.minimum(1, found.noise.level**2 / size).mean(), rtol=1e-6)


def test_the_command_writes_the_verdicts(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["calibration", "--draws", "2", "--out", str(tmp_path / "false.csv")])
    calibration.main()
    assert len(pd.read_csv(tmp_path / "false.csv")) == 10
    assert "0 of 10 verdicts are false" in capsys.readouterr().out
