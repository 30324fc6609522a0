"""A flipped bit that changes neither size nor time stamp: found and healed, wherever it is."""

import hashlib
import os
from pathlib import Path

import pytest
from pipeline import Pipeline, digest
from test_bridge import object_of

TRAINED = "results/laptop/train/a.npz"


def flip(file: Path) -> None:
    """Flip one bit in the middle, and leave size and time stamp as they are."""
    status = file.stat()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)
    file.chmod(status.st_mode)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def cached(toy: Pipeline, path: str) -> str:
    return object_of(hashlib.md5((toy.path / path).read_bytes(), usedforsecurity=False).hexdigest())


@pytest.mark.parametrize(
    "place",
    [
        "workspace",
        *(pytest.param(it, marks=pytest.mark.long) for it in ("cache", "remote", "cache and remote", "records")),
    ],
)
def test_a_flipped_bit_is_named_and_healed(toy: Pipeline, place: str) -> None:
    before = toy.outputs()
    result = "results/laptop/.records/train.jsonl.gz" if place == "records" else TRAINED
    copy = cached(toy, result)
    spoiled = {
        "workspace": [result],
        "records": [result],
        "cache": [copy],
        "remote": [copy.replace(".dvc/cache", ".dvc-remote")],
        "cache and remote": [copy, copy.replace(".dvc/cache", ".dvc-remote")],
    }[place]
    contents = [digest(toy.path / path) for path in spoiled]
    assert toy.bridge("verify").returncode == 0
    assert toy.changed() == set()  # DVC remembers what it has hashed
    for path in spoiled:
        flip(toy.path / path)
    assert toy.changed() == set()  # DVC does not see it
    done = toy.bridge("verify", ok=False)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert [line.partition(" ")[0] for line in lines] == spoiled
    assert all(line.endswith("Heal it with: python -m snakedvc verify --repair") for line in lines)
    if place == "workspace":
        assert "results/laptop/analyse/a.csv, results/laptop/figure.svg, results/laptop/record/a.npz follow" in lines[0]
    toy.bridge("verify", "--repair")
    assert [digest(toy.path / path) for path in spoiled] == contents
    assert toy.bridge("verify").returncode == 0
    assert toy.outputs() == before
    assert toy.planned() == {}
    assert toy.changed() == set()


@pytest.mark.long
def test_what_is_intact_nowhere_is_made_again(toy: Pipeline) -> None:
    before = toy.outputs()
    copy = cached(toy, TRAINED)
    for path in (TRAINED, copy, copy.replace(".dvc/cache", ".dvc-remote")):
        flip(toy.path / path)
    (line,) = toy.bridge("verify", ok=False).stdout.splitlines()
    again = f"snakemake --configfile config/laptop.yaml -- {TRAINED}"
    assert line.endswith(
        f"no intact copy anywhere; results/laptop/analyse/a.csv, results/laptop/figure.svg, "
        f"results/laptop/record/a.npz follow from it. Heal it with: python -m snakedvc verify --repair; {again}"
    )
    assert toy.bridge("verify", "--repair", ok=False).returncode == 1
    toy.run(*again.split())
    toy.dvc("push")
    done = toy.bridge("verify")
    assert "all of them intact" in done.stdout
    assert "not in" not in done.stderr
    assert toy.outputs() == before
    assert toy.planned() == {}
    assert toy.changed() == set()
