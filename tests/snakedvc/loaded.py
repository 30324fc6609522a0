"""Snakemake and DVC without the second or two that each start takes: a process that has imported them forks.

The fork is `python -m MODULE` in all else: its folder, environment, path, arguments and streams are its own. Neither
`snakedvc` nor the package of a pipeline is imported beforehand, so each fork has those of its repository.
"""

import atexit
import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

MODULES = ("snakemake", "dvc", "snakedvc")
IMPORTED = (
    *("snakemake.cli", "snakemake.report", "snakemake.executors.local", "snakemake.scheduling.milp"),
    *("dvc.cli", "dvc.repo", "dvc.stage", "dvc.commands.status", "dvc.commands.data_sync", "dvc.commands.repro"),
    *("dvc.commands.commit", "dvc.commands.checkout", "dvc.cachemgr", "dvc.repo.index", "dvc_data.index", "pydantic"),
)


@cache
def _server() -> "subprocess.Popen[str]":
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    server = subprocess.Popen(
        [sys.executable, __file__], env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    atexit.register(server.kill)
    return server


def run(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `python -m MODULE ...` for one of MODULES, as `subprocess.run(command, capture_output=True, text=True)`."""
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    with tempfile.TemporaryDirectory() as place:
        streams = [str(Path(place, name)) for name in ("stdout", "stderr")]
        order = {"command": command[2:], "folder": str(folder), "environment": dict(environment), "streams": streams}
        server.stdin.write(json.dumps(order) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        stdout, stderr = (Path(stream).read_text(encoding="utf-8") for stream in streams)
    return subprocess.CompletedProcess(command, code, stdout, stderr)


def _serve() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    assert threading.active_count() == 1
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            answers.close()
            _become(json.loads(line))
        _, status = os.waitpid(child, 0)
        answers.write(f"{os.waitstatus_to_exitcode(status)}\n")
        answers.flush()


def _become(order: dict[str, Any]) -> NoReturn:
    module, *arguments = order["command"]
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    for number, path in enumerate([os.devnull, *order["streams"]]):
        opened = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    packages = [path for path in order["environment"].get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [order["folder"], *packages, *sys.path[1:]]  # the first is this file's folder
    sys.argv = [module, *arguments]
    code: Any = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
