"""Commands that are forks of a server: the same as those that start alone, also where they fail or are interrupted."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reopt.cli import warm

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a server needs pidfd and /proc")

SUBJECT = """
import os, sys, time
from pathlib import Path
import optax

Path("seen").write_text(f"{sys.modules['__main__'].__spec__.name} {os.getpid()} {os.environ.get('MARK')} {os.getcwd()}")
if Path("slow").exists():
    time.sleep(60)
optimizer = optax.sgd(0.1)
"""
COMMAND = ("evaluate", "s.py:optimizer", "--task", "quadratic", "--steps", "3", "--problems", "2", "--out", "o.csv")
PIPELINE = """
import json, os, subprocess, sys
from reopt.cli import warm

warm.AFTER = 1
warm.announce()
print(os.environ[warm.VARIABLE], flush=True)
for line in sys.stdin:
    words, more = json.loads(line)
    done = subprocess.run(words, env=os.environ | more, capture_output=True, text=True)
    print(json.dumps([done.returncode, done.stdout, done.stderr]), flush=True)
"""


class Pipeline:
    """A process in Snakemake's place, whose commands share a server."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PIPELINE], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.variable = self.process.stdout.readline().strip()
        self.folder = folder

    @property
    def socket(self) -> Path:
        token, _, folder = self.variable.partition(":")
        return Path(folder, f"{token}.socket")

    def run(self, *words: str, **more: str) -> tuple[int, str, str]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([[sys.executable, "-m", "reopt", *words], more]) + "\n")
        self.process.stdin.flush()
        return tuple(json.loads(self.process.stdout.readline()))

    def start(self, *words: str) -> subprocess.Popen:
        """A command of the pipeline that is not waited for."""
        known = os.environ | {warm.VARIABLE: self.variable}
        streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [sys.executable, "-m", "reopt", *words], cwd=self.folder, env=known, text=True, **streams
        )


def wait_for(holds: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """A pipeline whose server is there: its first command, which started alone, has started it."""
    folder = tmp_path_factory.mktemp("pipeline")
    (folder / "s.py").write_text(SUBJECT)
    pipeline = Pipeline(folder)
    for _ in range(warm.AFTER):
        assert pipeline.run("--version")[0] == 0
    wait_for(pipeline.socket.exists)
    yield pipeline
    pipeline.process.kill()
    pipeline.process.communicate()
    wait_for(lambda: not pipeline.socket.exists())  # the server ends with its pipeline


def who(folder: Path) -> list[str]:
    return (folder / "seen").read_text().split()


def test_a_fork_is_the_command(served: Pipeline) -> None:
    code, said, error = served.run(*COMMAND, MARK="here")
    assert (code, said) == (0, ""), error
    warmed = (served.folder / "o.csv").read_bytes()
    assert who(served.folder)[0] == "reopt.cli.warm"
    assert who(served.folder)[2:] == ["here", str(served.folder)]
    (served.folder / "o.csv").unlink()
    alone = subprocess.run([sys.executable, "-m", "reopt", *COMMAND], cwd=served.folder, capture_output=True, text=True)
    assert alone.returncode == 0
    assert who(served.folder)[0] == "reopt.__main__"
    assert (served.folder / "o.csv").read_bytes() == warmed
    assert served.run("--version") == (0, alone_said("--version"), "")
    assert served.run("evaluate", "--task", "nowhere")[0] == 2
    code, said, error = served.run("evaluate", "polyak", "--task", "nowhere")
    assert (code, said) == (2, "")
    assert error.startswith("reopt: error: ")
    assert error.count("\n") == 1


def alone_said(*words: str) -> str:
    return subprocess.run([sys.executable, "-m", "reopt", *words], capture_output=True, text=True, check=True).stdout


def test_what_must_come_before_any_import_and_another_environment_start_alone(served: Pipeline) -> None:
    assert served.run(*COMMAND, JAX_ENABLE_X64="1")[0] == 0
    assert who(served.folder)[0] == "reopt.__main__"
    assert "causes" in warm.COLD


def test_a_signal_reaches_the_command_and_its_end_is_that_of_the_fork(served: Pipeline) -> None:
    (served.folder / "slow").touch()
    (served.folder / "seen").unlink(missing_ok=True)
    process = served.start(*COMMAND)
    wait_for((served.folder / "seen").exists)
    wait_for(lambda: (served.folder / "seen").read_text())
    fork = int(who(served.folder)[1])
    assert fork != process.pid
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert error.endswith("reopt: interrupted\n")
    wait_for(lambda: not Path(f"/proc/{fork}").exists())


@pytest.mark.parametrize("who_dies", ["the command", "the fork"])
def test_neither_outlives_the_other(served: Pipeline, who_dies: str) -> None:
    (served.folder / "slow").touch()
    (served.folder / "seen").unlink(missing_ok=True)
    process = served.start(*COMMAND)
    wait_for((served.folder / "seen").exists)
    wait_for(lambda: (served.folder / "seen").read_text())
    fork = int(who(served.folder)[1])
    os.kill(process.pid if who_dies == "the command" else fork, signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    wait_for(lambda: not Path(f"/proc/{fork}").exists())
    (served.folder / "slow").unlink()
    assert served.run(*COMMAND)[0] == 0
    assert who(served.folder)[0] == "reopt.cli.warm"


def test_a_pipeline_that_is_not_there_has_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boot = warm._token(os.getpid()).partition("-")[2].partition("-")[2]
    for token in (f"{os.getpid()}-1-{boot}", "999999999-1-nowhere", "", "x"):
        monkeypatch.setenv(warm.VARIABLE, f"{token}:{tmp_path}")
        warm._hand_over()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv(warm.VARIABLE, "")
    warm.announce()
    assert os.environ[warm.VARIABLE] == ""
