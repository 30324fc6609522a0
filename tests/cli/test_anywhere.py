"""Commands in a folder without a config: tasks and steps from the card of a shipped optimizer, baselines tuned."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import reopt
from reopt.cli import app as cli
from reopt.pipeline.setting import evaluation_setting, setting_of
from reopt.tasks.mnist import MNIST

CARD = reopt.cards()["quadratic/gru32"]
NOWHERE = Path("config/none.yaml")


def call(words: str, patch: pytest.MonkeyPatch) -> int:
    """The exit code of `reopt WORDS` in this process."""
    patch.setattr(sys, "argv", ["reopt", *words.split()])
    patch.setenv("XLA_FLAGS", "")
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code or 0


def test_a_shipped_optimizer_brings_its_task_and_steps() -> None:
    for make in (evaluation_setting, lambda *args, **keys: setting_of(*args, steps=None, **keys)):
        home = make("mnist", config=None, default=NOWHERE, subjects=["adam", "mnist/gru16"])
        assert home.task == MNIST(channels=(4, 4, 4))
        assert home.settings.num_steps == 101
        assert (home.settings.evaluation_problems, home.settings.evaluation_seed) == (256, 0)
        other = make("mnist", config=None, default=NOWHERE, subjects=["quadratic/gru32"])
        assert other.task == MNIST()
        assert other.settings.num_steps == 201
    assert setting_of("mnist", config=None, default=NOWHERE, steps=7, subjects=["mnist/gru16"]).settings.num_steps == 7


def test_evaluate_without_a_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REOPT_CACHE", str(tmp_path / "cache"))
    words = "evaluate quadratic/gru32 momentum --task quadratic --problems 8 --seed 1 --draws 8"
    assert call(f"{words} --out table.csv", monkeypatch) == 0
    said = capsys.readouterr().err
    assert "tuning momentum: 8 draws" in said
    table = pd.read_csv("table.csv")
    expected = reopt.evaluate(
        reopt.load("quadratic/gru32"), reopt.tasks.Quadratic(), problems=8, seed=1, num_steps=CARD.scope.steps
    )
    ours = table[table["optimizer"] == "quadratic/gru32"]["meta_objective"].to_numpy()
    assert ours == pytest.approx(expected.table["meta_objective"].to_numpy(), rel=1e-8)
    assert call(words, monkeypatch) == 0
    again = capsys.readouterr().err
    assert "momentum as it was tuned before" in again
    line = next(line for line in again.splitlines() if "momentum: meta-objective" in line)
    assert line in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "table.csv"]
    assert call(f"{words} --no-cache", monkeypatch) == 0
    assert "tuning momentum: 8 draws" in capsys.readouterr().err


def test_evaluate_far_from_home_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("evaluate rosenbrock/gru32 --task quadratic --problems 2 --steps 1000", monkeypatch) == 0
    said = capsys.readouterr().err
    assert "rosenbrock/gru32 was trained on gradients of about" in said
    assert "rosenbrock/gru32 was trained for 201 steps; 1000 are 4.98 times as many" in said
    assert call("evaluate quadratic/gru32 --task quadratic --problems 2", monkeypatch) == 0
    assert "was trained" not in capsys.readouterr().err


def test_a_baseline_that_a_config_has_not_tuned_is_not_tuned_behind_its_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    config = Path(__file__).parents[2] / "config/smoke.yaml"
    monkeypatch.chdir(tmp_path)
    assert call(f"evaluate momentum --task quadratic --config {config}", monkeypatch) == 2
    assert "momentum is not tuned yet" in capsys.readouterr().err
    assert call("evaluate sgd --task quadratic", monkeypatch) == 2
    assert "sgd is not tuned yet" in capsys.readouterr().err


@pytest.mark.long
def test_a_home_that_cannot_be_made_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    environment = {key: value for key, value in os.environ.items() if key not in ("REOPT_CACHE", "XDG_CACHE_HOME")}
    words = "evaluate momentum --task quadratic --problems 2 --steps 3 --draws 2"
    done = subprocess.run(
        [sys.executable, "-m", "reopt", *words.split()],
        cwd=tmp_path,
        env=environment | {"HOME": str(tmp_path / "file/home"), "MPLCONFIGDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "tuned momentum is not kept for later: cannot write" in done.stderr
    assert "momentum: meta-objective" in done.stderr


@pytest.mark.long
def test_a_baseline_is_tuned_and_examined_without_a_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REOPT_CACHE", str(tmp_path / "cache"))
    words = "dissect momentum --task quadratic --steps 20 --problems 2 --draws 4 --out out"
    assert call(words, monkeypatch) == 0
    winners = [json.loads(file.read_text())["winner"] for file in (tmp_path / "cache").rglob("*.json")]
    (winner,) = (one["hyperparameters"] for one in winners if one.get("baseline") == "momentum")
    table = pd.read_csv("out/readings.csv")
    read = table[table["index"] == 0].set_index("quantity")["value"]
    assert read["beta_real"] == pytest.approx(winner["momentum"], rel=1e-5)
    assert read["alpha_real"] == pytest.approx(winner["learning_rate"], rel=1e-5)
    assert set(pd.read_csv("out/evaluation.csv")["optimizer"]) == {"momentum", "rmsprop", "adam"}
    assert call(words.replace("--draws 4", "--draws 0"), monkeypatch) == 2
    assert "momentum is not tuned yet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("estimate", "there is no config/laptop.yaml here: give --config FILE, or --task"),
        ("estimate --task quadratic --config x.yaml", "not both"),
        ("estimate --task banana", "unknown task 'banana'"),
        ("estimate --task quadratic --cell banana", "metatrain: "),
    ],
)
def test_what_cannot_be_estimated(
    words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(words, monkeypatch) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.long
def test_an_estimate_without_a_config_counts_what_one_with_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """FLOPs are counted, not timed: twice the outer steps take twice those of meta-gradients, validations apart."""
    monkeypatch.chdir(tmp_path)
    words = "estimate --task quadratic --units 4 --steps 6 --problems 4 --draws 0 --out table.csv"
    flops = {}
    for outer in (100, 200):
        assert call(f"{words} --outer-steps {outer}", monkeypatch) == 0
        table = pd.read_csv("table.csv").set_index("work")
        assert list(table.index) == ["metatrain", "evaluate"]
        assert list(table["jobs"]) == [1, 1]
        assert (table["minutes"] > 0).all()
        flops[outer] = table.loc["metatrain", "flops"]
    assert flops[200] == pytest.approx(2 * flops[100])  # validated every 50 steps
    assert "gru4 on quadratic" in capsys.readouterr().out
