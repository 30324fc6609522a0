"""Faults by the dozen on the toy repository: kills, a full disk, damage. After the stated command all is well."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pipeline import Pipeline, alive, children, wait_for
from test_verify import flip

from snakedvc.families import families

pytestmark = pytest.mark.long

COLORS = ("red", "blue")


def all_is_well(toy: Pipeline, outputs: dict[str, str]) -> None:
    planned = toy.snakemake("-n")
    assert "Nothing to be done" in planned.stdout + planned.stderr
    assert "not recorded" not in planned.stderr
    all_is_recorded(toy, outputs)


def all_is_recorded(toy: Pipeline, outputs: dict[str, str]) -> None:
    assert toy.changed() == set()
    assert toy.outputs() == outputs
    assert set(toy.lock()) == {"analysis@laptop", "figures@laptop", "train@laptop"}


@pytest.fixture
def colored(toy: Pipeline) -> tuple[Pipeline, dict[str, dict[str, str]]]:
    """The toy, and its results in each colour, recorded once."""
    results = {}
    for color in COLORS:
        toy.set_value("figure.color", color)
        toy.snakemake()
        results[color] = toy.outputs()
    return toy, results


def recorder_of(run: subprocess.Popen) -> int | None:
    """The process below this Snakemake that records."""
    for child in children(run.pid):
        try:
            if b"snakedvc.record_process" in Path(f"/proc/{child}/cmdline").read_bytes():
                return child
        except OSError:
            continue
    return None


def test_kills_at_random_moments_of_the_recording(colored: tuple[Pipeline, dict[str, dict[str, str]]]) -> None:
    toy, results = colored
    dice = random.Random(1)
    before = time.monotonic()
    toy.bridge("record")
    longest = time.monotonic() - before
    for number in range(20):
        color = COLORS[number % 2]
        toy.set_value("figure.color", color)
        run = toy.start("snakemake", "--configfile", toy.facts.config)
        recorder = wait_for(lambda run=run: recorder_of(run) or run.poll() is not None)
        time.sleep(dice.uniform(0, longest))
        killed = dice.choice([[recorder], [run.pid], [recorder, run.pid]])
        for process in killed:
            if recorder is not True and alive(process):
                os.kill(process, dice.choice([signal.SIGKILL, signal.SIGINT]))
        code = run.wait()
        wait_for(lambda recorder=recorder: recorder is True or not alive(recorder))
        done = toy.snakemake()
        assert "Nothing to be done" in done.stdout + done.stderr, (number, code)
        all_is_recorded(toy, results[color])
    all_is_well(toy, results[color])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 64 MiB, if this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("left", [0, 4, 12, 40, 200])  # KiB
def test_a_disk_that_is_full_while_recording(ready: Pipeline, small_disk: Path, left: int) -> None:
    toy = ready.copy(small_disk / "toy")
    toy.environment = toy.environment | {"DVC_SITE_CACHE_DIR": str(small_disk / "site")}
    toy.snakemake("--summary")
    toy.set_value("tasks.a.scale", 1.5)
    run = toy.start("snakemake", "--configfile", toy.facts.config)
    wait_for(lambda: recorder_of(run) or run.poll() is not None)
    filler = small_disk / "filler"
    with open(filler, "wb") as file:
        free = shutil.disk_usage(small_disk).free - left * 1024
        try:
            file.write(bytes(max(free, 0)))
        except OSError:
            assert left == 0
    code = run.wait()
    lock = toy.lock()
    if left == 0:
        assert code == 1
    if code:
        assert lock["figures@laptop"] == ready.lock()["figures@laptop"]  # whole, as it was
    filler.unlink()
    done = toy.snakemake()
    assert "Nothing to be done" in done.stdout + done.stderr
    undisturbed = ready.copy(small_disk / "undisturbed")
    undisturbed.set_value("tasks.a.scale", 1.5)
    undisturbed.snakemake()
    all_is_well(toy, undisturbed.outputs())


def spoil(file: Path, dice: random.Random) -> None:
    """Flip a bit, cut the file off, empty it, or write nonsense into it."""
    content = file.read_bytes()
    how = dice.randrange(4)
    if how == 0:
        flip(file)
        return
    place = dice.randrange(1, len(content))
    file.chmod(0o644)
    file.write_bytes([content[:place], b"", content[:place] + b"\x00nonsense" + content[place:]][how - 1])


@pytest.mark.parametrize("kind", ["result", "record", "cache", "remote"])
def test_ten_damaged_files(toy: Pipeline, kind: str) -> None:
    before = toy.outputs()
    toy.changed()
    files = {
        "result": [toy.path / path for path in before],
        "record": [*(toy.path / "results/laptop/.records").iterdir(), *(toy.path / ".snakemake/metadata").iterdir()],
        "cache": [file for file in (toy.path / ".dvc/cache/files").rglob("*") if file.is_file()],
        "remote": [file for file in (toy.path / ".dvc-remote").rglob("*") if file.is_file()],
    }[kind]
    dice = random.Random(kind)
    chosen = dice.sample(sorted(files), min(10, len(files)))
    for file in chosen:
        spoil(file, dice)
    named = toy.bridge("verify", ok=False)
    assert named.returncode == 1
    for file in chosen:
        if ".snakemake" not in file.parts:
            assert file.relative_to(toy.path).as_posix() in named.stdout
    toy.bridge("verify", "--repair")
    assert toy.bridge("verify").returncode == 0
    toy.snakemake()
    all_is_well(toy, before)


def test_ten_damages_of_dvc_lock(toy: Pipeline) -> None:
    before, lock = toy.outputs(), (toy.path / "dvc.lock").read_bytes()
    dice = random.Random(3)
    for _ in range(10):
        spoil(toy.path / "dvc.lock", dice)
        assert toy.bridge("verify", ok=False).returncode == 1 or toy.changed()
        toy.git("checkout", "HEAD", "--", "dvc.lock")
        toy.bridge("record")
        assert (toy.path / "dvc.lock").read_bytes() == lock
    all_is_well(toy, before)


def test_ten_damages_of_dvc_yaml(toy: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    before, described = toy.outputs(), (toy.path / "dvc.yaml").read_bytes()
    monkeypatch.chdir(toy.path)
    intact = families()
    dice = random.Random(4)
    for _ in range(10):
        spoil(toy.path / "dvc.yaml", dice)
        if toy.bridge("check", ok=False).returncode == 0:
            assert families() == intact  # a comment, or a blank
        toy.git("checkout", "HEAD", "--", "dvc.yaml")
        assert (toy.path / "dvc.yaml").read_bytes() == described
    all_is_well(toy, before)
