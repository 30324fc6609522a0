"""The bridge at work on the toy repository: stages, check, record, locks, contents."""

import base64
import hashlib
import json
import os
import stat
from pathlib import Path

import pytest
import yaml
from pipeline import Pipeline, age, alive, children, kill, wait_for

from snakedvc.contents import record_path, unify


def stages(pipeline: Pipeline) -> dict:
    return yaml.safe_load((pipeline.path / "dvc.yaml").read_text())["stages"]


def lock(pipeline: Pipeline) -> dict:
    return yaml.safe_load((pipeline.path / "dvc.lock").read_text())["stages"]


def test_a_stage_says_what_the_job_uses(unrun: Pipeline) -> None:
    output = "results/laptop/train/a.npz"
    assert stages(unrun)["laptop-train-a"] == {
        "cmd": f"snakemake --configfile config/laptop.yaml --allowed-rules train -- {output}",
        "deps": ["src/toy/__init__.py", "src/toy/files.py", "src/toy/model.py", "src/toy/train.py"],
        "params": [{"config/laptop.yaml": ["tasks.a", "train"]}],
        "outs": [f".snakemake/metadata/{base64.urlsafe_b64encode(output.encode()).decode()}", output],
    }
    assert len(stages(unrun)) == 7  # 3 rules for 2 tasks and a figure; rule all is no stage


@pytest.mark.parametrize("length", [150, 190, 191, 400, 600])
def test_record_path_is_where_snakemake_looks(tmp_path: Path, length: int) -> None:
    from snakemake.persistence.file import FilePersistence

    output = "results/" + "x" * (length - 8)
    theirs = FilePersistence(path=tmp_path)._record_path(tmp_path, output)
    assert record_path(output) == ".snakemake/metadata/" + Path(theirs).relative_to(tmp_path).as_posix()


def test_outputs_of_one_job_have_one_record(tmp_path: Path) -> None:
    common = {"rule": "train", "input_checksums": {"a": "sha256:0"}, "log": None}
    records = [common | {"starttime": 10.5 + i, "endtime": 20.25 - i} for i in range(3)]
    paths = [tmp_path / name for name in "abc"]
    for path, record in zip(paths, records, strict=True):
        path.write_text(json.dumps(record, indent=1))
    (tmp_path / "damaged").write_text("{")
    unify([*paths, tmp_path / "damaged", tmp_path / "missing"])
    assert {path.read_bytes() for path in paths} == {paths[0].read_bytes()}
    assert json.loads(paths[0].read_text()) == common | {"starttime": 10.5, "endtime": 20.25}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c", "damaged"]


def test_check_shows_the_difference_and_the_repair(unrun: Pipeline, tmp_path: Path) -> None:
    toy = unrun.copy(tmp_path / "toy")
    assert toy.bridge("check").returncode == 0
    toy.edit("src/toy/figure.py", "from toy import model\n")
    done = toy.bridge("check", ok=False)
    assert done.returncode == 1
    assert "+    - src/toy/model.py" in done.stdout
    assert "python -m snakedvc generate" in done.stderr
    toy.bridge("generate")
    assert toy.bridge("check").returncode == 0


def test_run_records_exactly_what_ran(toy: Pipeline) -> None:
    before = lock(toy)
    toy.set_value("tasks.a.scale", 1.5)
    toy.edit("src/toy/record.py", "\nUNUSED = 1\n")
    done = toy.snakemake("results/laptop/record/a.npz")
    after = lock(toy)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"laptop-train-a", "laptop-record-a"}
    assert "snakedvc: recorded in dvc.lock: laptop-record-a, laptop-train-a." in done.stderr
    assert after["laptop-train-a"]["params"]["config/laptop.yaml"]["tasks.a"] == {"scale": 1.5}
    file = toy.path / "results/laptop/train/a.npz"
    outs = {out["path"]: out["md5"] for out in after["laptop-train-a"]["outs"]}
    assert outs["results/laptop/train/a.npz"] == hashlib.md5(file.read_bytes()).hexdigest()
    assert file.stat().st_mode & stat.S_IWUSR


def test_a_new_import_brings_dvc_yaml_in_step(toy: Pipeline) -> None:
    toy.edit("src/toy/figure.py", "from toy import model\n")
    toy.snakemake()
    assert "src/toy/model.py" in stages(toy)["laptop-figure"]["deps"]
    assert toy.bridge("check").returncode == 0
    assert toy.changed() == set()


@pytest.mark.parametrize("how", ["another config", "--config"])
def test_runs_that_are_not_versioned_are_not_recorded(toy: Pipeline, how: str) -> None:
    before = (toy.path / "dvc.lock").read_bytes()
    if how == "--config":
        done = toy.snakemake("--config", "figure={color: green}")
        assert "the run changed the config with --config" in done.stderr
    else:
        text = (toy.path / "config/laptop.yaml").read_text()
        (toy.path / "config/mine.yaml").write_text(text.replace("laptop", "mine"))
        done = toy.run("snakemake", "results/mine/train/a.npz", "--configfile", "config/mine.yaml")
        assert "config/mine.yaml is not among the configs of [tool.snakedvc]" in done.stderr
    assert (toy.path / "dvc.lock").read_bytes() == before


def test_a_failure_of_dvc_is_a_sentence_and_is_made_good_later(toy: Pipeline) -> None:
    intact = (toy.path / ".dvc/config").read_text()
    (toy.path / ".dvc/config").write_text("[nonsense\n")
    toy.set_value("figure.color", "red")
    done = toy.snakemake()
    assert "the results are complete, but DVC has not recorded them." in done.stderr
    assert "dvc commit -f laptop-figure" in done.stderr
    assert "red" in (toy.path / "results/laptop/figure.svg").read_text()
    (toy.path / ".dvc/config").write_text(intact)
    toy.set_value("tasks.a.scale", 1.5)
    toy.snakemake("results/laptop/train/a.npz")
    assert lock(toy)["laptop-figure"]["params"]["config/laptop.yaml"] == {"figure.color": "red"}


def test_what_a_failed_run_finished_is_recorded_by_the_next(toy: Pipeline) -> None:
    revert = toy.edit("src/toy/analyse.py", "\nraise SystemExit(1)\n")
    toy.set_value("train.steps", 21)
    assert toy.snakemake("--keep-going", ok=False).returncode != 0
    revert()
    toy.snakemake()
    assert toy.planned() == {}
    assert toy.changed() == set()


def test_a_run_that_ends_beside_another_leaves_what_the_other_has_yet_to_record(toy: Pipeline) -> None:
    toy.set_value("train.pause", 0.2)
    slow = toy.start("snakemake", "--nolock", "results/laptop/train/a.npz")
    notes = toy.path / ".snakemake/snakedvc/planned.json"
    wait_for(lambda: notes.exists() and "train/a.npz" in notes.read_text())
    toy.snakemake("--nolock", "results/laptop/train/b.npz")
    assert slow.wait() == 0
    for task in ("a", "b"):
        assert lock(toy)[f"laptop-train-{task}"]["params"]["config/laptop.yaml"]["train"]["pause"] == 0.2
    assert not notes.exists()


def test_second_snakemake_is_still_locked_out(toy: Pipeline) -> None:
    toy.set_value("train.pause", 0.4)
    first = toy.start("snakemake")
    try:
        wait_for(lambda: any((toy.path / ".snakemake/locks").glob("*.lock")) and children(first.pid))
        second = toy.snakemake(ok=False)
        assert second.returncode != 0
        assert "LockException" in second.stderr
        assert alive(first.pid)
    finally:
        family = children(first.pid)
        kill(first)
        wait_for(lambda: not any(map(alive, family)))


def test_kill_without_the_guard_asks_for_unlock(toy: Pipeline) -> None:
    snakefile = toy.path / "Snakefile"
    snakefile.write_text(snakefile.read_text().replace("guard(workflow)\n", ""))
    toy.set_value("train.pause", 0.1)
    first = toy.start("snakemake")
    wait_for(lambda: any((toy.path / ".snakemake/locks").glob("*.lock")) and children(first.pid))
    kill(first)
    assert "LockException" in toy.snakemake(ok=False).stderr


def test_without_the_checksum_size_shuffled_times_plan_jobs(toy: Pipeline) -> None:
    profile = toy.path / "profiles/default/config.yaml"
    profile.write_text("cores: 1\nmax-checksum-file-size: 0\n")
    os.utime(toy.path / "results/laptop/train/a.npz")
    assert "record" in toy.planned()


def test_without_records_a_pulled_clone_does_not_see_an_edit(ready: Pipeline, tmp_path: Path) -> None:
    clone = ready.clone(tmp_path / "clone")
    clone.dvc("pull")
    for record in (clone.path / ".snakemake/metadata").iterdir():
        record.unlink()
    clone.edit(clone.facts.upstream_module)
    assert "train" not in clone.planned()


def test_without_the_guard_old_replaced_bytes_pass_unseen(toy: Pipeline) -> None:
    snakefile = toy.path / "Snakefile"
    snakefile.write_text(snakefile.read_text().replace("guard(workflow)\n", ""))
    file = toy.path / toy.facts.checkpoint
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    age(file)
    assert toy.planned() == {}


def test_accept_keeps_the_results_of_an_edit_that_changes_nothing(toy: Pipeline) -> None:
    before = toy.outputs()
    toy.edit(toy.facts.upstream_module)
    toy.bridge("accept", "results/laptop/train/a.npz", "results/laptop/train/b.npz")
    assert toy.outputs() == before
    assert toy.planned() == {}
    assert toy.changed() == set()


def test_accept_leaves_other_planned_jobs_planned(toy: Pipeline) -> None:
    toy.edit("src/toy/files.py")
    toy.bridge("accept", "results/laptop/analyse/a.csv", "results/laptop/train/a.npz")
    planned = set().union(*toy.planned().values())
    assert "results/laptop/record/a.npz" in planned
    assert "results/laptop/train/a.npz" not in planned


@pytest.mark.parametrize(
    ("spoil", "target", "words"),
    [
        (None, "results/laptop/gone.npz", "No versioned job makes"),
        ("results/laptop/train/a.npz", "results/laptop/train/a.npz", "is not the file that dvc.lock records"),
        ("results/laptop/train/a.npz", "results/laptop/record/a.npz", "was not made from the present"),
    ],
)
def test_accept_refuses_what_changed(toy: Pipeline, spoil: str | None, target: str, words: str) -> None:
    if spoil:
        toy.edit(spoil)
    done = toy.bridge("accept", target, ok=False)
    assert done.returncode == 2
    assert words in done.stderr
