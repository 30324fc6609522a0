"""A pipeline repository in a folder of its own, driven by real git, DVC and Snakemake commands."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import loaded
import yaml

SNAKEDVC = Path(__file__).parents[2] / "src"
HOUR = 3600


@dataclass(frozen=True)
class Facts:
    """What the hard cases need to know of a repository; rules and outputs are those of its Snakefile."""

    config: str
    upstream_module: str  # a source file that the first rule imports
    upstream_rules: frozenset[str]  # planned when it changes
    figure_module: str  # a source file that one figure alone uses
    figure_rules: frozenset[str]
    figure_stages: frozenset[str]  # stages of DVC that it marks: coarser, a stage is a folder
    value: tuple[str, Any]  # a key path and a new value for it ...
    value_rules: frozenset[str]  # ... and what is planned then
    add_task: Callable[[dict], None]  # changes the config in place
    added: Callable[[str], bool]  # does this output belong to the new task?
    added_figures: frozenset[str]  # rules of shared outputs that show the new task
    added_gap: str  # what `check` says of it
    checkpoint: str  # an output of the first rule
    checkpoint_rules: frozenset[str]  # planned when its bytes are replaced
    interrupted_rules: frozenset[str] | None = None  # what the run makes that is killed; None: everything
    asked: tuple[str, ...] = ()  # the targets of that run, where to run all that follows would take minutes
    small_value: tuple[str, Any] | None = (
        None  # one that is followed by little, where that of `value` is followed by much
    )
    slow: tuple[str, Any] | None = None  # a config value that slows the first rule and changes no byte


@dataclass
class Pipeline:
    """One checkout of the repository."""

    path: Path
    facts: Facts
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *command: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the checkout; with `ok` it must succeed."""
        environment = self._environment()
        if command[:2] == (sys.executable, "-m") and command[2] in loaded.MODULES:
            done = loaded.run(command, self.path, environment)
        else:
            done = subprocess.run(command, check=False, cwd=self.path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0 or not ok, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *command: str) -> subprocess.Popen:
        """Start a command in the checkout."""
        return subprocess.Popen(
            command,
            cwd=self.path,
            env=self._environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments).stdout

    def dvc(self, *arguments: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "dvc", *arguments, ok=ok)

    def snakemake(self, *arguments: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "snakemake", *arguments, "--configfile", self.facts.config, ok=ok)

    def bridge(self, *arguments: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "snakedvc", *arguments, ok=ok)

    def planned(self) -> dict[str, set[str]]:
        """Return {rule: outputs} that Snakemake would make now."""
        done = self.snakemake("-n")
        if "Nothing to be done" in done.stdout + done.stderr:
            return {}
        header, *lines = self.snakemake("--summary").stdout.splitlines()
        columns = header.split("\t")
        plan: dict[str, set[str]] = {}
        for line in lines:
            row = dict(zip(columns, line.split("\t"), strict=True))
            if row["plan"] != "no update":
                plan.setdefault(row["rule"], set()).add(row["output_file"])
        assert plan
        return plan

    def changed(self) -> set[str]:
        """Return the stages that DVC finds changed."""
        return set(json.loads(self.dvc("status", "--json").stdout))

    def outputs_by(self, rules: frozenset[str] | None) -> set[str]:
        """Return the results that these rules make; all, with None."""
        header, *lines = self.snakemake("--summary").stdout.splitlines()
        rows = [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]
        return {row["output_file"] for row in rows if rules is None or row["rule"] in rules}

    def commit_git(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)

    def clone(self, path: Path) -> "Pipeline":
        """Return a fresh clone (same environment)."""
        subprocess.run(["git", "clone", "-q", str(self.path), str(path)], check=True)
        return Pipeline(path, self.facts, self.environment)

    def copy(self, path: Path) -> "Pipeline":
        """Return a copy with everything that is not versioned, too."""
        shutil.copytree(self.path, path, symlinks=True)
        return Pipeline(path, self.facts, self.environment)

    def edit(self, path: str, text: str = "\n# edited\n") -> Callable[[], None]:
        """Append to a file and give it an old time stamp; return what takes that back."""
        file = self.path / path
        before = file.read_bytes()
        file.write_bytes(before + text.encode())
        age(file)

        def revert() -> None:
            file.write_bytes(before)

        return revert

    def set_config(self, change: Callable[[dict], None]) -> None:
        file = self.path / self.facts.config
        config = yaml.safe_load(file.read_text())
        change(config)
        file.write_text(yaml.safe_dump(config, sort_keys=False))

    def set_value(self, keypath: str, value: Any) -> None:
        def change(config: dict) -> None:
            *above, key = keypath.split(".")
            for name in above:
                config = config[name]
            config[key] = value

        self.set_config(change)

    def outputs(self) -> dict[str, str]:
        """Return {path: sha256} of all results (not of Snakemake's records, which hold times)."""
        files = [file for file in (self.path / "results").rglob("*") if file.is_file()]
        ours = [file for file in sorted(files) if "/.records/" not in file.as_posix() and file.suffix != ".tmp"]
        return {file.relative_to(self.path).as_posix(): digest(file) for file in ours}

    def lock(self) -> dict[str, Any]:
        """Return the stages in `dvc.lock`."""
        return yaml.safe_load((self.path / "dvc.lock").read_text())["stages"]

    def shuffle_times(self, seed: int) -> None:
        """Give all files but git's and DVC's own random time stamps within a day around now."""
        dice = random.Random(seed)
        for folder, names, files in os.walk(self.path):
            names[:] = [name for name in names if name not in (".git", ".dvc", ".dvc-remote")]
            for name in files:
                moment = time.time() + dice.uniform(-12 * HOUR, 12 * HOUR)
                os.utime(Path(folder, name), (moment, moment))

    def _environment(self) -> dict[str, str]:
        ours = {
            "PYTHONPATH": os.pathsep.join([str(self.path / "src"), str(SNAKEDVC)]),
            "GIT_AUTHOR_NAME": "Test",
            "GIT_AUTHOR_EMAIL": "test@example.org",
            "GIT_COMMITTER_NAME": "Test",
            "GIT_COMMITTER_EMAIL": "test@example.org",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "DVC_NO_ANALYTICS": "1",
        }
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        return kept | {"PATH": path} | ours | self.environment


def age(file: Path) -> None:
    """Make a file look one year old."""
    past = time.time() - 365 * 24 * HOUR
    os.utime(file, (past, past))


def digest(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Return the first true value of the condition."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def children(pid: int) -> list[int]:
    """Return all living descendants of a process (Linux)."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            direct = [int(child) for child in task.read_text().split()]
        except OSError:
            continue
        for child in direct:
            found += [child, *children(child)]
    return found


def alive(pid: int) -> bool:
    """Is there such a process, and is it no zombie?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def kill(process: subprocess.Popen) -> None:
    """kill -9, and collect the process."""
    process.send_signal(signal.SIGKILL)
    process.wait()
