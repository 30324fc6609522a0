"""Somebody's code at the border: whatever it does is one line and exit code 2, and what it gives is what it says."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

from reopt.cli.app import BUG, UNREAD, main
from reopt.core.errors import ReoptError
from reopt.core.foreign import LIMIT, foreign, is_foreign

CONFIG = Path(__file__).parents[2] / "config/smoke.yaml"
HEAD = """
import sys, os, time
import numpy as np, jax, jax.numpy as jnp, optax, optax.contrib
from reopt.optimizers.classical import SGD, Momentum
from reopt.optimizers.base import Optimizer
rng = np.random.default_rng(0)
"""
IN_THE_FILE = {
    "sys.exit(0)": "would end the program",
    "sys.exit()": "would end the program",
    "raise GeneratorExit": "would end the program",
    "raise BaseException('odd')": "odd",
    "while True: pass": "takes longer than 1 s",
    "time.sleep(60)": "takes longer than 1 s",
    "jax.config.update('jax_enable_x64', True)": "jax_enable_x64",
    "jax.config.update('jax_default_matmul_precision', 'bfloat16')": "jax_default_matmul_precision",
    "os.chdir('/')": "the working folder",
    "1 / 0": "ZeroDivisionError",
    "def f(: pass": "SyntaxError",
}
SUBJECTS = {
    # functions
    "def s(): sys.exit(0)": "would end the program",
    "def s(): raise GeneratorExit": "would end the program",
    "def s():\n    while True: pass": "takes longer than 1 s",
    "def s():\n    jax.config.update('jax_enable_x64', True)\n    return SGD(0.1)": "jax_enable_x64",
    "def s(): return s": "is a function",
    # coupling
    "class C(SGD):\n    def readout(self, h, g): return -g / jnp.sqrt(jnp.sum(g ** 2))\ns = C(0.1)": "couples",
    "class C(SGD):\n    def readout(self, h, g): return -g + 1e-3 * jnp.roll(g, 1, -1)\ns = C(0.1)": "couples",
    "class C(Momentum):\n    def update(self, h, g): return 0.9 * h + jnp.mean(g)\ns = C(0.1, 0.9)": "couples",
    "class C(SGD):\n    def readout(self, h, g): return -g * (jnp.arange(g.size).reshape(g.shape) + 1)\ns = C(0.1)": (
        "otherwise than a lone one"
    ),
    "class C(SGD):\n    def readout(self, h, g): return -g * (1.0 if g.ndim < 2 else 0.5)\ns = C(0.1)": (
        "otherwise than a lone one"
    ),
    # chance
    "class C(SGD):\n    def readout(self, h, g): return -g * rng.normal()\ns = C(0.1)": "run again",
    "class C(SGD):\n    def readout(self, h, g):\n"
    "        n = jax.pure_callback(lambda: rng.normal(), jax.ShapeDtypeStruct((), g.dtype))\n"
    "        return -g * n\ns = C(0.1)": "calls back into Python",
    "class C(SGD):\n    def readout(self, h, g):\n        jax.debug.callback(print, g)\n"
    "        return -g\ns = C(0.1)": "calls back into Python",
    # while it runs
    "class C(SGD):\n    def readout(self, h, g): sys.exit(0)\ns = C(0.1)": "would end the program",
    "class C(SGD):\n    def readout(self, h, g): raise GeneratorExit\ns = C(0.1)": "would end the program",
    "class C(SGD):\n    def readout(self, h, g):\n        while True: pass\ns = C(0.1)": "takes longer than 1 s",
    "class C(SGD):\n    def readout(self, h, g):\n        if g.ndim == 2 and g.shape != (2, 3): sys.exit(0)\n"
    "        return -g\ns = C(0.1)": "own code failed: SystemExit",
    "class C(SGD):\n    def readout(self, h, g):\n        jax.config.update('jax_enable_x64', True)\n"
    "        return -g\ns = C(0.1)": "jax_enable_x64",
    "class C(SGD):\n    def readout(self, h, g):\n        if g.shape != (2, 3):\n            while True: pass\n"
    "        return -g\ns = C(0.1)": "takes longer than 1 s",
    # states
    "class C(Momentum):\n    def initial_state(self): return jnp.zeros(1, complex)\ns = C(0.1, 0.9)": "complex64",
    "class C(Momentum):\n    def update(self, h, g): return h * 1j\ns = C(0.1, 0.9)": "dtype complex64",
    "class C(Momentum):\n    def update(self, h, g): return h.astype(jnp.float32)\ns = C(0.1, 0.9)": "dtype float32",
    "class C(Momentum):\n    def initial_state(self): return jnp.zeros(2)\ns = C(0.1, 0.9)": "names 1 components",
    "class C(Momentum):\n    @property\n    def clock(self): return 7\ns = C(0.1, 0.9)": "clock is 7",
    "class C(Momentum):\n    @property\n    def state_names(self): return 3\ns = C(0.1, 0.9)": "state_names",
    "class C(Momentum):\n    def update(self, h, g): return 'text'\ns = C(0.1, 0.9)": "cannot take a step",
    # transformations
    "s = optax.GradientTransformation(lambda p: sys.exit(0), lambda g, s, p=None: (g, s))": "SystemExit",
    "s = optax.GradientTransformation(lambda p: (), lambda g, s, p=None: sys.exit(0))": "SystemExit",
    "s = optax.GradientTransformation(lambda p: ('text',), lambda g, s, p=None: (g, s))": "keeps a str",
    "s = optax.GradientTransformation(lambda p: jnp.zeros(1, complex), lambda g, s, p=None: (g, s))": "complex64",
    "s = optax.GradientTransformation(lambda p: jnp.sin, lambda g, s, p=None: (g, s))": "keeps a",
    "s = optax.contrib.reduce_on_plateau()": "its update asks for value",
    "s = optax.chain(optax.adam(0.1), optax.contrib.reduce_on_plateau())": "its update asks for value",
    "s = optax.lbfgs()": "its update asks for value, grad, value_fn",
    "s = optax.polyak_sgd()": "its update asks for value",
}


def refusal(content: str, tmp_path: Path, monkeypatch, capsys, command: str = "evaluate s.py:s") -> str:
    """The one line that a file of this content brings about."""
    (tmp_path / "s.py").write_text(HEAD + content + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["reopt", *command.split(), *REST.split()])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert not jax.config.jax_enable_x64
    assert Path.cwd() == tmp_path
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == ["s.py"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("reopt: error: ")
    assert len(line) < 700
    return line


REST = f"--task quadratic --config {CONFIG} --problems 2 --out out.csv"


@pytest.mark.parametrize("content", IN_THE_FILE)
def test_what_a_file_does_when_it_is_run(content, tmp_path, monkeypatch, capsys):
    limit = "1" if "longer" in IN_THE_FILE[content] else "60"
    monkeypatch.setenv(LIMIT, limit)
    assert IN_THE_FILE[content] in refusal(content, tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("content", SUBJECTS)
def test_what_is_no_optimizer(content, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(LIMIT, "1" if "longer" in SUBJECTS[content] else "60")
    assert SUBJECTS[content] in refusal(content, tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("words", ["0", "-1", "soon", "nan", "inf"])
def test_a_limit_is_a_number_of_seconds(words, monkeypatch):
    monkeypatch.setenv(LIMIT, words)
    with pytest.raises(ReoptError, match=LIMIT), foreign("it"):
        pass


def test_a_sound_subject_is_taken(tmp_path, monkeypatch, capsys):
    (tmp_path / "s.py").write_text(HEAD + "s = SGD(0.1)\nt = optax.adam(0.1)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["reopt", "evaluate", "s.py:s", "s.py:t", *REST.split()])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 5


def test_two_subjects_of_one_name_are_told_apart(tmp_path, monkeypatch, capsys):
    for file in ("s.py", "t.py"):
        (tmp_path / file).write_text(HEAD + "polyak = SGD(0.1)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["reopt", "evaluate", "s.py:polyak", "polyak", "t.py:polyak", *REST.split()])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    rows = [line.split(",")[0] for line in (tmp_path / "out.csv").read_text().splitlines()[1:]]
    assert rows == ["s.py:polyak", "s.py:polyak", "polyak", "polyak", "t.py:polyak", "t.py:polyak"]
    assert "polyak is the name of several: this one is called t.py:polyak" in capsys.readouterr().err


def test_files_of_one_name_in_two_folders_are_told_apart(tmp_path, monkeypatch, capsys):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "s.py").write_text(HEAD + "mine = SGD(0.1)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["reopt", "evaluate", "a/s.py:mine", "b/s.py:mine", "a/s.py:mine", *REST.split()])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    rows = [line.split(",")[0] for line in (tmp_path / "out.csv").read_text().splitlines()[1:]]
    assert rows == ["a/s.py:mine", "a/s.py:mine", "b/s.py:mine", "b/s.py:mine"]
    assert "mine is the name of several: this one is called b/s.py:mine" in capsys.readouterr().err


def test_a_bug_of_ours_is_told_as_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["reopt", "evaluate", "polyak", *REST.split()])
    monkeypatch.setattr("reopt.evaluation.evaluate.unroll", dict)  # takes no four arguments
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == BUG
    assert "internal error, please report" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["--help", "diff --help", "check-config CONFIG"])
def test_what_is_read_no_further_ends_without_a_word(words):
    """The reader leaves before the first line: 141, which is 128 + SIGPIPE, and nothing on standard error."""
    command = [
        sys.executable,
        "-c",
        "from reopt.cli.app import main; main()",
        *words.replace("CONFIG", str(CONFIG)).split(),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.close()
        assert running.stderr is not None
        assert running.stderr.read() == b""
    assert running.returncode == UNREAD == 141


def test_errors_are_known_by_where_they_come_from():
    def theirs(x):
        raise KeyError(x)

    for function, known in ((theirs, True), (os.fspath, False)):
        with pytest.raises((KeyError, TypeError)) as caught:
            jax.make_jaxpr(function)(1.0)
        inside = caught.value.with_traceback(caught.value.__traceback__.tb_next)  # without this test's own frame
        assert is_foreign(inside) == known


KEPT = (
    "sys.stderr = sys.stdout = None",
    "np.seterr(all='raise')",
    "warnings.simplefilter('error')",
    "sys.setrecursionlimit(sys.getrecursionlimit() - 1)",
)


@pytest.mark.parametrize("content", KEPT)
def test_what_code_changes_by_the_way_is_put_back(content, tmp_path):
    before = sys.stdout, sys.stderr, np.geterr(), list(warnings.filters), sys.getrecursionlimit()
    with foreign("it"):
        exec(content, {"sys": sys, "np": np, "warnings": warnings})
    assert before == (sys.stdout, sys.stderr, np.geterr(), list(warnings.filters), sys.getrecursionlimit())


def test_somebodys_code_cannot_leave_without_a_word(tmp_path):
    theirs = compile("import os; os._exit(0)", str(tmp_path / "s.py"), "exec")
    with pytest.raises(ReoptError, match="it: SystemExit: 0, which would end the program"), foreign("it"):
        exec(theirs, {"__name__": "theirs"})


def test_errors_of_compiled_packages_are_not_somebodys(tmp_path):
    with pytest.raises(KeyError) as caught:
        pd.DataFrame({"a": [1]})["b"]  # through pandas/_libs/index.pyx
    assert not is_foreign(caught.value.with_traceback(caught.value.__traceback__.tb_next))
