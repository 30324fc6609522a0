"""What may go wrong with names, configs and `dvc.lock`, on the toy repository."""

import random
from pathlib import Path

import pytest
from pipeline import Pipeline

from snakedvc import SnakedvcError
from snakedvc.families import families
from snakedvc.lockfile import checked_lock

ODD = "config/q$(touch x) y.yaml"


@pytest.mark.long
def test_a_config_may_be_called_like_a_command(ready: Pipeline, tmp_path: Path) -> None:
    toy = ready.copy(tmp_path / "a folder")
    (toy.path / "config/laptop.yaml").rename(toy.path / ODD)
    for file in ("dvc.yaml", "pyproject.toml"):
        text = (toy.path / file).read_text().replace("config/${item.config}.yaml", ODD)
        (toy.path / file).write_text(text.replace("config/laptop.yaml", ODD))
    odd = Pipeline(toy.path, toy.facts.__class__(**(vars(toy.facts) | {"config": ODD})), toy.environment)
    assert odd.bridge("check").returncode == 0
    odd.set_value("figure.color", "red")
    odd.snakemake()
    assert odd.changed() == set()
    odd.set_value("figure.color", "blue")
    assert "Running stage 'figures@laptop'" in odd.dvc("repro").stdout
    assert "blue" in (odd.path / "results/laptop/figure.svg").read_text()
    assert odd.planned() == {}
    assert not list(odd.path.rglob("x"))


@pytest.mark.long
def test_a_second_config_of_the_same_name_is_refused(toy: Pipeline) -> None:
    before = toy.outputs()
    mine = toy.path / "config/mine.yaml"
    mine.write_text((toy.path / "config/laptop.yaml").read_text().replace("black", "red"))
    for way in ((), ("-n",)):
        done = toy.run("snakemake", *way, "--configfile", "config/mine.yaml", ok=False)
        assert done.returncode == 1
        assert "'results/laptop' holds the results of config/laptop.yaml" in done.stdout + done.stderr
    assert toy.outputs() == before
    settings = toy.path / "pyproject.toml"
    settings.write_text(
        settings.read_text().replace('"config/laptop.yaml"', '"config/laptop.yaml", "config/mine.yaml"')
    )
    done = toy.bridge("check", ok=False)
    assert done.returncode != 0
    assert "results/laptop" in done.stdout + done.stderr


@pytest.mark.long
def test_of_two_unversioned_configs_the_first_keeps_the_folder_until_it_is_gone(
    unrun: Pipeline, tmp_path: Path
) -> None:
    toy = unrun.copy(tmp_path / "toy")
    text = (toy.path / "config/laptop.yaml").read_text().replace("laptop", "mine")
    for name in ("one", "two"):
        (toy.path / f"config/{name}.yaml").write_text(text)
    target = "results/mine/train/a.npz"
    toy.run("snakemake", target, "--configfile", "config/one.yaml")
    done = toy.run("snakemake", target, "--configfile", "config/two.yaml", ok=False)
    assert done.returncode == 1
    assert "'results/mine' holds the results of config/one.yaml" in done.stdout + done.stderr
    assert "remove results/mine/.owner first" in done.stdout + done.stderr
    (toy.path / "config/one.yaml").unlink()
    toy.run("snakemake", target, "--configfile", "config/two.yaml")
    assert (toy.path / "results/mine/.owner").read_text() == "config/two.yaml\n"


@pytest.mark.long
def test_every_cut_of_the_lock_is_refused_and_the_way_back_works(
    toy: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(toy.path)
    lock = Path("dvc.lock")
    whole = lock.read_bytes()
    names = [family.name for family in families()]
    assert set(checked_lock(names)) == set(names)
    ends = [place for place, byte in enumerate(whole) if byte == 10]
    dice = random.Random(0)
    for place in {*dice.sample(ends, 30), *dice.sample(range(len(whole) - 1), 30)}:
        lock.write_bytes(whole[:place])
        with pytest.raises(SnakedvcError, match="git checkout HEAD"):
            checked_lock(names)
    lock.write_bytes(whole[: whole.index(b"  train@laptop")])  # valid, a stage less
    toy.set_value("figure.color", "red")
    done = toy.snakemake(ok=False)
    assert done.returncode == 1
    assert "dvc.lock has lost 1 stages (train@laptop)" in done.stderr
    toy.git("checkout", "HEAD", "--", "dvc.lock")
    toy.bridge("record")
    assert set(toy.lock()) == set(names)
    assert toy.changed() == set()
    assert toy.planned() == {}
