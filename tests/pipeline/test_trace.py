"""Tracing a verdict, on a folder of results made by hand: what is named, and what is noticed."""

import gzip
import hashlib
import json
import os
import shlex
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from reopt.cli import app as cli
from reopt.core.tables import read_json, read_table, write_table
from reopt.dynamics.fixed_points import FixedPoints
from reopt.examination.storage import save
from reopt.pipeline.claims import judge
from reopt.pipeline.config import load_config, read_yaml

SMOKE = Path(__file__).parents[2] / "config/smoke.yaml"
CONFIG, RESULTS = "config/hand.yaml", Path("results/hand/quadratic")
SEEDS = (0, 3)
POINTS = {seed: RESULTS / f"analysis/gru16-s{seed}/fixed_points.npz" for seed in SEEDS}
CHECKPOINTS = {seed: RESULTS / f"optimizers/gru16-s{seed}/best.safetensors" for seed in SEEDS}
RECORDS = {seed: RESULTS / f"analysis/gru16-s{seed}/record.npz" for seed in SEEDS}


def record(rule: str, out: Path, *inputs: Path) -> str:
    """A line of the records beside the results."""
    noted = {"rule": rule, "input": [*map(str, inputs), "config/hand.yaml"]}
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    return json.dumps({"output": str(out), "sha256": digest, "record": noted}) + "\n"


def found_points(count: int) -> FixedPoints:
    """So many stable fixed points of a state of two numbers; five starts came to them in turn."""
    point, start = np.zeros(count), np.zeros(5)
    return FixedPoints(
        points=np.zeros((count, 2)),
        residual=point,
        spectral_radius=point + 0.9,
        unstable_directions=point.astype(int),
        members=point.astype(int),
        newton_members=point.astype(int),
        error_bound=point,
        isolated=point == 0,
        seed_result=np.arange(5) % count,
        seed_residual=start,
        seed_iterations=start.astype(int),
        seed_kind=start.astype(int),
        newton_seed=np.zeros(0, int),
        newton_result=np.zeros(0, int),
        newton_residual=np.zeros(0),
        slow_points=np.zeros((0, 2)),
        slow_residual=np.zeros(0),
        continuum_dimension=point.astype(int),
        free_components=np.array(2),
        marginal_directions=point.astype(int),
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config with two seeds, what T2 and T1a are judged by, and DVC's files."""
    monkeypatch.chdir(tmp_path)
    content = read_yaml(SMOKE) | {"name": "hand"}
    content["tasks"]["quadratic"]["optimizers"]["gru16"]["seeds"] = list(SEEDS)
    Path("config").mkdir()
    Path(CONFIG).write_text(yaml.safe_dump(content))
    for seed in SEEDS:
        for path in (CHECKPOINTS[seed], RECORDS[seed]):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{path} of {seed}".encode())
        save("points", found_points(1 + seed), POINTS[seed].parent)
    for number, subject in enumerate([f"gru16-s{seed}" for seed in SEEDS] + list(content["baselines"]["ranges"])):
        table = pd.DataFrame({"problem": range(4), "meta_objective": 0.1 * (number + 1) + 0.01 * np.arange(4)})
        write_table(RESULTS / f"evaluation/{subject}.csv", table)
    criteria = load_config(CONFIG).claims
    tables = [judge(content, criteria, Path("results/hand"), only=name).claims for name in ("T2", "T1a", "T11a")]
    write_table("results/hand/claims.csv", pd.concat(tables))
    lines = [record("claims", Path("results/hand/claims.csv"), *POINTS.values())]
    for seed in SEEDS:
        lines.append(record("metatrain", CHECKPOINTS[seed]))
        lines.append(record("record", RECORDS[seed], CHECKPOINTS[seed]))
        lines.append(record("fixed_points", POINTS[seed], CHECKPOINTS[seed], RECORDS[seed]))
    Path("results/hand/.records").mkdir()
    Path("results/hand/.records/all.jsonl.gz").write_bytes(gzip.compress("".join(lines).encode()))
    return tmp_path


def trace(words: str, monkeypatch: pytest.MonkeyPatch) -> int:
    command = f"trace {words} --task quadratic --cell gru16 --config {CONFIG}"
    monkeypatch.setattr(sys, "argv", ["reopt", *shlex.split(command)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code or 0


def traced(words: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, dict]:
    code = trace(f"{words} --out trace.json", monkeypatch)
    return code, read_json("trace.json")


@pytest.mark.usefixtures("folder")
def test_every_seed_is_traced_to_its_checkpoint(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    code, found = traced("T2", monkeypatch)
    assert code == 0
    assert (found["equal"], found["sound"]) == (True, True)
    assert found["row"] == found["again"]
    assert (found["row"]["claim"], found["row"]["value"], found["row"]["verdict"]) == ("T2", 0.7, "fails")
    assert [seed["grade"] for seed in found["seeds"]] == ["holds", "fails"]
    assert found["seeds"][1]["beside"] == "4 points, 4 of them stable"
    assert [(seed["subject"], seed["value"], seed["met"]) for seed in found["seeds"]] == [
        ("gru16-s0", 1.0, True),
        ("gru16-s3", 0.4, False),
    ]
    shown = capsys.readouterr().out
    for seed, one in zip(SEEDS, found["seeds"], strict=True):
        expected = [(0, POINTS[seed]), (1, CHECKPOINTS[seed]), (1, RECORDS[seed])]
        assert [(file["depth"], Path(file["path"])) for file in one["files"]] == expected
        for file in one["files"]:
            assert file["sha256"] == hashlib.sha256(Path(file["path"]).read_bytes()).hexdigest()
            assert file["dvc"] == "agrees"
            assert (
                file["command"] == f"snakemake --configfile {CONFIG} --allowed-rules {file['rule']} -- {file['path']}"
            )
            assert file["path"] in shown
            assert file["sha256"] in shown
            assert file["command"] in shown
        assert [file["rule"] for file in one["files"]] == ["fixed_points", "metatrain", "record"]
    assert found["table"]["rule"] == "claims"


@pytest.mark.usefixtures("folder")
def test_the_files_are_those_that_the_claim_reads(monkeypatch: pytest.MonkeyPatch):
    code, found = traced("T1a", monkeypatch)
    assert code == 0
    for seed, one in zip(SEEDS, found["seeds"], strict=True):
        names = [Path(file["path"]).stem for file in one["files"]]
        assert names == [f"gru16-s{seed}", "sgd", "momentum", "rmsprop", "adam", "adam_decay"]
        assert {file["dvc"] for file in one["files"]} == {"not recorded"}
        assert {file["command"] for file in one["files"]} == {""}


@pytest.mark.usefixtures("folder")
def test_a_table_has_a_row_a_file(monkeypatch: pytest.MonkeyPatch):
    assert trace("T2 --out files.csv", monkeypatch) == 0
    table = read_table("files.csv")
    assert list(table.columns) == ["subject", "depth", "path", "sha256", "rule", "command", "dvc"]
    assert list(table["subject"]) == ["all", *["gru16-s0"] * 3, *["gru16-s3"] * 3]


@pytest.mark.usefixtures("folder")
def test_what_cannot_be_tested_has_a_row_and_no_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    code, found = traced("T11a", monkeypatch)
    assert code == 0
    assert found["seeds"] == []
    assert found["equal"]
    assert "cannot be tested" in capsys.readouterr().out


@pytest.mark.usefixtures("folder")
def test_a_changed_checkpoint_is_noticed_though_the_verdict_stands(monkeypatch: pytest.MonkeyPatch):
    CHECKPOINTS[3].write_bytes(b"another")
    code, found = traced("T2", monkeypatch)
    assert code == 1
    assert (found["equal"], found["sound"]) == (True, False)
    assert [file["dvc"] for file in found["seeds"][1]["files"]] == ["agrees", "differs", "agrees"]
    RECORDS[3].unlink()
    code, found = traced("T2", monkeypatch)
    assert code == 1
    assert [file["dvc"] for file in found["seeds"][1]["files"]] == ["agrees", "differs", "missing"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("column", "value"), [("value", 2.25), ("verdict", "holds"), ("criterion", "one"), ("seeds", 3)]
)
def test_an_edited_table_is_noticed(monkeypatch: pytest.MonkeyPatch, capsys, column: str, value: object):
    table = read_table("results/hand/claims.csv")
    table.loc[table["claim"] == "T2", column] = value
    write_table("results/hand/claims.csv", table)
    code, found = traced("T2", monkeypatch)
    assert code == 1
    assert not found["equal"]
    assert found["row"][column] == value
    assert found["again"][column] != value
    assert column in capsys.readouterr().out.rpartition("another row")[2]


@pytest.mark.usefixtures("folder")
def test_arrays_that_no_longer_give_the_verdict_are_noticed(monkeypatch: pytest.MonkeyPatch):
    os.replace(POINTS[0], POINTS[3])
    POINTS[0].write_bytes(POINTS[3].read_bytes())
    code, found = traced("T2", monkeypatch)
    assert code == 1
    assert found["again"]["verdict"] == "holds"
    assert found["row"]["verdict"] == "fails"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("claim", "said"), [("T99", "no row of claim 'T99' there; it has: T11a, T1a, T2"), ("T2", "there is no file")]
)
def test_what_is_not_there_is_one_line(claim: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys):
    POINTS[0].unlink()
    assert trace(claim, monkeypatch) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
