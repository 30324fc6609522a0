"""Commands in processes of their own: interrupted, without a home, without streams, without their folder."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from campaign import Result, Trial, clean, contents, fault
from safetensors import SafetensorError
from safetensors.numpy import load_file
from workshop import TASK

EVALUATE = f"evaluate polyak {TASK} --problems 2 --out out.csv"
DISSECT = f"dissect polyak {TASK} --out out --draws 0"
LONG = f"dissect polyak {TASK} --out out --steps 60 --problems 64 --draws 50"
NOWHERE = {"HOME": "/proc/nope", "XDG_CACHE_HOME": "/proc/nope", "MPLCONFIGDIR": "/proc/nope"}


class Process(NamedTuple):
    """A command, what surrounds it, and the signal it gets."""

    case: str
    words: str
    refused: bool | None = False
    environment: Mapping[str, str] = MappingProxyType({})
    signal: int = 0
    shell: str = ""  # how a shell starts it

    def trial(self) -> Trial:
        codes = (2, 130) if self.signal == signal.SIGINT else (2, -self.signal) if self.signal else (2,)
        return Trial("processes", self.case, tuple(self.words.split()), (), self.refused, codes=codes)


PROCESSES = (
    Process("no home that can be made", DISSECT, environment=NOWHERE),
    Process("no folder for what is temporary", EVALUATE, environment={**NOWHERE, "TMPDIR": "/proc/nope"}),
    Process("no home at all", EVALUATE, environment={"HOME": "", "XDG_CACHE_HOME": ""}),
    Process("streams that are closed", EVALUATE, shell='exec "$@" >&- 2>&- <&-'),
    Process(
        "streams that are closed, and an error", f"evaluate banana {TASK} --out out.csv", shell='exec "$@" >&- <&-'
    ),
    Process("a folder that is gone", EVALUATE, True, shell='mkdir out; cd out; rmdir ../out; exec "$@"'),
    Process(
        "a thread of the subject's that never ends", f"evaluate config/threads.py:s {TASK} --problems 2 --out out.csv"
    ),
    Process("a million threads", f"metatrain gru2 {TASK} --out out --threads 1000000", True),
    Process("an encoding of seven bits", f"evaluate ünï {TASK} --out out.csv", True, environment={"LC_ALL": "C"}),
    *(Process("Ctrl-C", LONG, None, signal=signal.SIGINT) for _ in range(3)),
    *(Process("SIGTERM", LONG, None, signal=signal.SIGTERM) for _ in range(2)),
    Process("SIGKILL", f"metatrain gru2 {TASK} --out out --seed 1", None, signal=signal.SIGKILL),
)


def _answer(process: Process, workshop: Path, delay: float) -> dict[str, Any]:
    command = [sys.executable, "-B", "-m", "reopt", *process.words.split()]
    if process.shell:
        command = ["sh", "-c", process.shell, "sh", *command]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "XLA_FLAGS": ""} | process.environment
    began = time.monotonic()
    running = subprocess.Popen(
        command, cwd=workshop, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        if process.signal:
            time.sleep(delay)
            running.send_signal(process.signal)
        out, err = running.communicate(timeout=80)
    except subprocess.TimeoutExpired:
        running.kill()
        out, err = running.communicate()
    return {"code": running.returncode, "out": out, "err": err, "seconds": time.monotonic() - began, "grown_mb": 0.0}


def whole(path: Path) -> bool:
    """Whether a file that was written before a signal came has its end."""
    try:
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                return all(arrays[name] is not None for name in arrays)
        if path.suffix == ".safetensors":
            return bool(load_file(path))
        if path.suffix == ".json":
            return bool(json.loads(path.read_text(encoding="utf-8")))
        if path.name.endswith((".csv", ".csv.gz")):
            return pd.read_csv(path).shape[1] > 1
    except (ValueError, OSError, EOFError, SafetensorError, zipfile.BadZipFile):
        return False
    end = {".svg": b"</svg>", ".png": b"IEND\xaeB`\x82", ".html": b"</html>"}.get(path.suffix)
    return end is not None and path.read_bytes().rstrip().endswith(end)


def results(dice: random.Random, workshop: Path) -> Iterator[Result]:
    """What becomes of each; a signal comes after half a second to eight. What was written by then must be whole."""
    for process in PROCESSES:
        trial = process.trial()
        if "error" in process.case:
            trial = Trial(trial.kind, trial.case, trial.words, ("banana",), True)
        clean(workshop)
        before = contents(workshop)
        answer = _answer(process, workshop, dice.uniform(0.5, 8.0))
        interrupted = answer["code"] == 130 and answer["err"].endswith("reopt: interrupted\n")
        said = {"err": answer["err"].removesuffix("reopt: interrupted\n")} if interrupted else {}
        after = contents(workshop)
        if process.signal:
            written = [name for name in after if name.startswith("out/") and whole(workshop / name)]
            after = {name: what for name, what in after.items() if name not in written}
        wrong = fault(trial, answer | said, before, after)
        if answer["code"] == 130 and not interrupted:
            wrong = wrong or "does not say that it was interrupted"
        yield Result(trial, answer, wrong)
    clean(workshop)
