"""Where there is no mechanism none is found; how often it goes wrong is counted."""

import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest

from reopt.examination import calibration
from reopt.examination.examination import examine
from reopt.examination.verdicts import read
from reopt.mechanisms.registry import mechanisms
from reopt.optimizers.optax_bridge import from_optax
from reopt.tasks.quadratic import Quadratic

DRAWS = 6  # one of each kind; the command takes 200


@pytest.mark.long
def test_no_verdict_on_optimizers_without_mechanisms_is_false():
    table = calibration.verdicts(DRAWS, num_steps=60, problems=4, kinds=calibration.INNOCENT)
    assert tuple(table.columns) == calibration.COLUMNS
    assert set(table["kind"]) == set(calibration.INNOCENT)
    assert table["false"].sum() == 0, table[table["false"] == 1]
    smooth = table[table["kind"].isin(["sgd", "untrained"]) & (table["mechanism"] != "remainder")]
    assert (smooth["verdict"] == "absent").all()


@pytest.mark.parametrize("kind", ["step", *(pytest.param(it, marks=pytest.mark.long) for it in ("bits", "chaos"))])
def test_the_noise_that_was_added_is_measured(kind: str):
    values = (jnp.asarray(value) for value in (0.3, 0.03, 0.5))  # rate, deviation, seed
    optimizer = calibration.NoisySGD(*values, kind)  # type: ignore[arg-type]
    found = examine(optimizer, Quadratic(), num_steps=60, problems=4)
    deviation = float(optimizer.deviation)
    assert 0.5 < found.noise.level / deviation < 2
    remainder = read(found)[-1]
    shares = {row[0]: row[2] for row in remainder.readings}
    planted = deviation**2 / np.mean(found.recording.updates**2)
    assert 0.25 < shares["noise"] / planted < 4  # a factor of 2 in deviation is one of 4 in variance
    if kind != "bits":  # there the update at no gradient is one draw of the noise, and nothing is read
        assert 0.25 < shares["noise"] / (1 - shares["r2"]) < 4


def finding(subject, name: str):
    found = examine(from_optax(subject), Quadratic(), num_steps=60, problems=4)
    (mechanism,) = (one for one in mechanisms() if one.name == name)
    return found, mechanism.measure(found, {})


@pytest.mark.long
@pytest.mark.parametrize(("dtype", "beta"), [(jnp.bfloat16, 0.8984375), (jnp.float16, 0.89990234375)])
def test_a_buffer_in_half_precision_is_one_mode_with_the_decay_that_it_has(dtype, beta: float):
    """0.9 in 8 bits of mantissa is 230 / 256, in 11 bits 1843 / 2048; the rounding of the buffer is no second mode."""
    found, momentum = finding(optax.sgd(0.1, momentum=0.9, accumulator_dtype=dtype), "momentum")
    modes = found.modes[found.modes["alpha_real"].abs() > 0]
    np.testing.assert_allclose(modes[["alpha_real", "beta_real"]], [[0.1, beta]], rtol=1e-9)
    assert momentum.verdict == "present"


@pytest.mark.long
@pytest.mark.parametrize("rate", [0.02, pytest.param(0.3, marks=pytest.mark.long)])
def test_an_average_of_all_steps_is_no_noise(rate: float):
    """Schedule-free SGD: smooth, though its state keeps a sum that grows for ever."""
    found, momentum = finding(optax.contrib.schedule_free_sgd(rate), "momentum")
    assert (found.noise.rough, found.noise.level) == (0, 0)
    assert momentum.verdict == "present"


@pytest.mark.parametrize("b1", [0.9, *(pytest.param(b1, marks=pytest.mark.long) for b1 in (0.3, 0.99))])
def test_a_bias_correction_is_no_schedule(b1: float):
    """Of Adam at rest, v = 0: the rate is lr (1 - b1) / eps / (1 - b1^t). Under a steady gradient the step is lr."""
    _, corrected = finding(optax.adam(0.01, b1=b1), "schedule")
    assert f"all of it the bias correction of a moment with decay {b1:.4g}" in corrected.why
    assert corrected.verdict == "absent"
    read = {row[0]: row[2] for row in corrected.readings}
    np.testing.assert_allclose([read["step_initial"], read["step_final"]], 0.01, rtol=1e-4)


@pytest.mark.long
@pytest.mark.parametrize(
    "rate",
    [
        optax.warmup_cosine_decay_schedule(0.0, 0.01, 10, 60, 1e-4),
        pytest.param(optax.exponential_decay(0.01, 1, 0.9), marks=pytest.mark.long),
        pytest.param(optax.linear_schedule(0.01, 0.0097, 59), marks=pytest.mark.long),
    ],
)
def test_a_schedule_under_adam_is_read_in_the_units_in_which_it_was_set(rate):
    found, schedule = finding(optax.adam(rate), "schedule")
    set_rates = np.array([float(rate(step)) for step in range(60)])
    np.testing.assert_allclose(found.schedule.table["steady_step"], set_rates, rtol=1e-4)
    assert schedule.verdict == "present"
    read = {row[0]: row[2] for row in schedule.readings}
    assert read["step_peak_step"] == set_rates.argmax()
    assert read["step_peak"] == pytest.approx(set_rates.max(), rel=1e-4)
    assert read["step_range"] == pytest.approx(np.ptp(set_rates) / set_rates.max(), rel=1e-3)


@pytest.mark.long
def test_a_second_moment_that_fills_is_no_schedule():
    """RMSProp's first step is lr / sqrt(1 - decay); at zero gradient its rate stays as it is."""
    _, schedule = finding(optax.rmsprop(0.01, decay=0.9), "schedule")
    assert schedule.verdict == "absent"
    assert "bias correction" not in finding(optax.sgd(optax.linear_schedule(0.2, 0.1, 30)), "schedule")[1].why


@pytest.mark.long
@pytest.mark.parametrize("rule", [optax.adagrad(0.1), optax.yogi(0.01)], ids=["adagrad", "yogi"])
def test_a_sum_of_squares_that_never_settles_is_no_clip(rule):
    """u = g / sqrt(s + g^2) levels off at sqrt(s), whatever s: the more gradients there were, the later."""
    found, clipping = finding(rule, "clipping")
    held = found.adaptation.table
    assert not held.loc[held["gradient"] != 0, "converged"].any()
    assert clipping.verdict == "absent", clipping


@pytest.mark.long
@pytest.mark.parametrize("level", [0.05, 0.3])
def test_a_clip_before_such_a_sum_is_read_at_its_own_level(level: float):
    _, clipping = finding(optax.chain(optax.clip(level), optax.adagrad(0.1)), "clipping")
    (threshold,) = (row for row in clipping.readings if row[0] == "threshold")
    assert clipping.verdict == "present"
    np.testing.assert_allclose(threshold[2:5], level, rtol=1e-6)


@pytest.mark.long
def test_the_command_writes_the_verdicts(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["calibration", "--draws", "2", "--out", str(tmp_path / "false.csv")])
    calibration.main()
    assert len(pd.read_csv(tmp_path / "false.csv")) == 10
    assert "0 of 10 verdicts are false" in capsys.readouterr().out
