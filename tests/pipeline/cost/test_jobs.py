"""From counts and rates to minutes: linear where it says so, and the command's table."""

from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from reopt.cli.app import app, load_commands
from reopt.core.errors import ReoptError
from reopt.pipeline.config import load_config
from reopt.pipeline.cost.counts import TaskCost
from reopt.pipeline.cost.jobs import COLUMNS, Training, measured_minutes, metatrain_row, validations
from reopt.pipeline.cost.rates import Rate, line
from reopt.tasks.quadratic import Quadratic

ROOT = Path(__file__).parents[3]
RATES = Training(Rate(0.25, 0.5), Rate(1.0, 0.125))
COST = TaskCost(120.0, 105.0)


def settings(**training):
    found = load_config(ROOT / "config/smoke.yaml").tasks["quadratic"].optimizers["gru16"]
    return found.model_copy(update={"training": found.training.model_copy(update=training)})


def test_a_line_goes_through_both_timings() -> None:
    rate = line((8, 40), (1.0, 3.0))
    assert (rate.seconds(8), rate.seconds(40)) == (1.0, 3.0)
    assert rate.seconds(72) == 5.0


def test_a_line_of_noise_or_of_negative_offset_stays_a_time() -> None:
    assert line((8, 40), (2.0, 2.0)) == Rate(0.0, 0.05)
    assert line((8, 40), (1.0, 9.0)) == Rate(0.0, 0.25)


def test_minutes_and_flops_are_linear_in_outer_steps() -> None:
    once, twice = (metatrain_row(settings(outer_steps=steps), Quadratic(), 201, COST, RATES) for steps in (1000, 2000))
    assert twice["minutes"] == 2 * once["minutes"]
    assert twice["flops"] == 2 * once["flops"]
    assert twice["peak_mb"] == once["peak_mb"]


def test_minutes_are_those_of_outer_steps_and_validations() -> None:
    some = settings(outer_steps=120)
    assert validations(some) == 3  # every 50, and at the end
    assert RATES.minutes(some, 200) == (120 * (0.25 + 200 * 0.5) + 3 * (1 + 200 * 0.125)) / 60


def test_measured_minutes_are_those_of_the_job(tmp_path: Path) -> None:
    assert pd.isna(measured_minutes(tmp_path, "quadratic", "gru16-s0"))
    spent = tmp_path / "quadratic" / "metatrain" / "gru16-s0.tsv"
    spent.parent.mkdir(parents=True)
    spent.write_text("s\th:m:s\tmax_rss\n120.0\t0:02:00\t400.0\n")
    assert measured_minutes(tmp_path, "quadratic", "gru16-s0") == 2.0
    for other in ("s\n", "seconds\n3\n", ""):
        spent.write_text(other)
        with pytest.raises(ReoptError, match="gru16-s0"):
            measured_minutes(tmp_path, "quadratic", "gru16-s0")


@pytest.mark.long
def test_the_command_writes_a_row_a_run_and_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = yaml.safe_load((ROOT / "config/smoke.yaml").read_text())
    task = content["tasks"]["quadratic"]
    task["optimizers"]["gru16"] |= {"units": 4, "seeds": [0, 7]}
    task["num_steps"], content["baselines"]["draws"] = 20, 8
    content["evaluation"]["problems"] = 8
    config = tmp_path / "small.yaml"
    config.write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    load_commands()
    done = CliRunner().invoke(app, ["estimate", "--config", str(config), "--out", "table.csv"])
    assert done.exit_code == 0, done.output
    table = pd.read_csv("table.csv")
    assert tuple(table.columns) == COLUMNS
    assert table["subject"][:2].tolist() == ["gru16-s0", "gru16-s7"]
    assert table["work"].tolist() == ["metatrain", "metatrain", "tune", "evaluate", "start-up"]
    assert table["minutes"].gt(0).all()
    assert table["minutes"][0] == table["minutes"][1]
    assert "total" in done.output
    assert "small.yaml" in done.output


def test_an_unknown_config_is_one_line() -> None:
    load_commands()
    done = CliRunner().invoke(app, ["estimate", "--config", "nowhere.yaml"])
    assert isinstance(done.exception, ReoptError)
    assert "nowhere.yaml" in str(done.exception)
