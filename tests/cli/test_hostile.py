"""Inputs made to hurt: each is one line on standard error and exit code 2, and does no more harm than that."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from reopt.cli.app import main
from reopt.core.checkpoint import _digest
from reopt.core.errors import ReoptError
from reopt.core.tables import read_arrays
from reopt.optimizers.load import load_learned
from reopt.pipeline.config import load_config, parse_config, read_yaml
from reopt.tasks.quadratic import Quadratic
from reopt.training.metatrain import metatrain

CONFIG = Path(__file__).parents[2] / "config/smoke.yaml"
SUBJECTS = """
import jax.numpy as jnp
from reopt.optimizers.classical import SGD, Momentum

class Other(BaseException):
    pass

def outside():
    raise Other("no Exception")

class Half(Momentum):
    def update(self, state, gradient):
        return super().update(state, gradient).astype(jnp.float16)

class Late(SGD):
    def readout(self, state, gradient):
        if gradient.shape != (2, 3):
            raise RuntimeError("first line\\nsecond line")
        return gradient

class Evil:
    @property
    def init(self):
        raise ValueError("never")

half, late, evil = Half(0.1, 0.9), Late(0.1), Evil()
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [("outside", "no Exception"), ("half", "dtype"), ("late", "first line second line"), ("evil", "never")],
)
def test_whatever_a_subject_does_ends_in_one_line(name, said, tmp_path, monkeypatch, capsys):
    (tmp_path / "s.py").write_text(SUBJECTS)
    monkeypatch.chdir(tmp_path)
    words = f"evaluate s.py:{name} --task quadratic --config {CONFIG} --problems 2 --out out.csv"
    monkeypatch.setattr("sys.argv", ["reopt", *words.split()])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("reopt: error: ")
    assert said in line
    assert not Path("out.csv").exists()


def test_aliases_that_unfold_without_end_are_refused(tmp_path):
    lines = ["a0: &a0 {x: 1}", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30))]
    (tmp_path / "bomb.yaml").write_text("\n".join(lines))
    with pytest.raises(ReoptError, match="aliases"):
        load_config(tmp_path / "bomb.yaml")


@pytest.mark.parametrize("content", [b"", b"not an array", b"\x93NUMPY\x01\x00\x08\x00{'descr'"])
def test_an_archive_whose_members_are_no_arrays_is_refused(content, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("mean.npy", content)
    with pytest.raises(ReoptError, match="not a readable npz file"):
        read_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize("change", [{"units": 10**9}, {"units": 0}, {"output_scale": 10**400}, {"units": "many"}])
def test_a_description_that_asks_for_the_impossible_is_refused(change, tmp_path):
    optimizer = {"cell": "gru", "units": 2, "features": "raw", "input_scale": 1.0, "output_scale": 1.0}
    text = json.dumps({"optimizer": optimizer | change})
    arrays = {"a": np.zeros(1, np.float32)}
    envelope = json.dumps({"description": text, "digest": _digest(text, arrays)})
    (tmp_path / "c.safetensors").write_bytes(save(arrays, {"reopt": envelope}))
    with pytest.raises(ReoptError, match="does not describe a learned optimizer"):
        load_learned(tmp_path / "c.safetensors")


def test_a_description_nested_too_deep_is_damaged(tmp_path):
    (tmp_path / "c.safetensors").write_bytes(save({"a": np.zeros(1)}, {"reopt": "[" * 200_000}))
    with pytest.raises(ReoptError, match="damaged"):
        load_learned(tmp_path / "c.safetensors")


@pytest.mark.long
def test_a_run_that_diverged_is_not_taken_for_finished_when_it_is_started_again(tmp_path):
    content = read_yaml(CONFIG)
    entry = content["tasks"]["quadratic"]["optimizers"]["gru16"]
    entry["training"] |= {"outer_steps": 12, "learning_rate": 1e12, "problems": 4, "cotangent_clipping": None}
    entry["training"]["schedule"] = {"kind": "exponential", "factor": 1.0, "every": 1}
    entry["training"]["validation"] |= {"problems": 4}
    settings = parse_config(content, "wild.yaml").tasks["quadratic"].optimizers["gru16"]

    def run():
        metatrain(
            Quadratic(), settings, task_name="quadratic", num_steps=8, seed=0, state_file=tmp_path / "state.safetensors"
        )

    for said in ("diverged by outer step", "remove it to start over"):
        with pytest.raises(ReoptError, match=said):
            run()


@pytest.mark.parametrize(
    "words",
    [
        "evaluate polyak --task quadratic --config c.yaml --out c.yaml",
        "evaluate polyak --task quadratic --config c.yaml --out ./x/../c.yaml",
        "evaluate polyak --task quadratic --config=c.yaml --out=c.yaml",
        "evaluate polyak --task quadratic --config c.yaml --out x.csv --curves x.csv",
        "evaluate polyak --task quadratic --config c.yaml --out x.csv --log c.yaml",
        "trace T1a --task quadratic --cell gru16 --config c.yaml --out r.json --log r.json",
    ],
)
def test_no_command_overwrites_what_it_reads(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_bytes(CONFIG.read_bytes())
    (tmp_path / "r.npz").write_bytes(b"")
    monkeypatch.setattr("sys.argv", ["reopt", *words.split()])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert "also reads or writes otherwise" in capsys.readouterr().err
    assert (tmp_path / "c.yaml").read_bytes() == CONFIG.read_bytes()


@pytest.mark.parametrize("read", [load_learned, read_arrays])
def test_a_pipe_is_not_waited_for(read, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ReoptError, match="not a file"):
        read(tmp_path / "pipe")
