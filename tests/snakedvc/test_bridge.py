"""The bridge at work on the toy repository: stages, check, record, locks, contents."""

import gzip
import hashlib
import json
import os
import shutil
import stat
from pathlib import Path

import pytest
from pipeline import Pipeline, age, alive, children, digest, kill, wait_for

from snakedvc.contents import record_path


def object_of(md5: str) -> str:
    """Where DVC's cache has the content of this name."""
    return f".dvc/cache/files/md5/{md5[:2]}/{md5[2:]}"


@pytest.mark.parametrize("length", [150, 190, 191, 400, 600])
def test_record_path_is_where_snakemake_looks(tmp_path: Path, length: int) -> None:
    from snakemake.persistence.file import FilePersistence

    output = "results/" + "x" * (length - 8)
    theirs = FilePersistence(path=tmp_path)._record_path(tmp_path, output)
    assert record_path(output).as_posix() == ".snakemake/metadata/" + Path(theirs).relative_to(tmp_path).as_posix()


@pytest.mark.long
def test_check_names_each_gap(unrun: Pipeline, tmp_path: Path) -> None:
    toy = unrun.copy(tmp_path / "toy")
    assert toy.bridge("check").stdout == "dvc.yaml covers every job of Snakemake.\n"
    toy.edit("src/toy/figure.py", "from toy import model\n")
    toy.set_value("tasks.c", {"scale": 3.0})
    (toy.path / "results/laptop/train").mkdir(parents=True)
    (toy.path / "results/laptop/train/mine.txt").write_text("mine")
    text = (toy.path / "dvc.yaml").read_text()
    text = text.replace("results/${item.config}/record: {persist: true}", "results/${item.config}/other")
    text = text.replace("[figure]", "[figure, ghost]")
    (toy.path / "dvc.yaml").write_text(text.replace("    - results/${item.config}/train\n", ""))
    done = toy.bridge("check", ok=False)
    assert done.returncode == 1
    expected = [f"no stage owns results/laptop/record/{task}.npz, made by rule record" for task in "abc"]
    expected += [
        f"stage analysis@laptop lacks the dependency results/laptop/train/{task}.npz, an input of rule record"
        for task in "abc"
    ]
    expected += [
        f"stage analysis@laptop lacks the dependency results/laptop/record/{task}.npz, an input of rule analyse"
        for task in "abc"
    ]
    expected += [
        "stage figures@laptop lacks the dependency src/toy/model.py, a source file of rule figure",
        "stage train@laptop lacks the config key tasks.c, read by rule train",
        "stage figures@laptop names the config key ghost, which config/laptop.yaml lacks: name the file in deps in its "
        "place",
        "results/laptop/train/mine.txt is made by no job: remove it, or it is stored with stage train@laptop",
        "stage analysis@laptop: results/laptop/other needs persist: true, or `dvc repro` deletes it before it runs",
    ]
    assert set(done.stdout.splitlines()) <= set(expected)
    assert set(done.stdout.splitlines()) >= set(expected) - {
        line for line in expected if "input of rule record" in line
    }


def test_records_lie_beside_the_results_a_line_an_output(ready: Pipeline) -> None:
    packed = (ready.path / "results/laptop/.records/train.jsonl.gz").read_bytes()
    lines = [json.loads(line) for line in gzip.decompress(packed).splitlines()]
    assert [line["output"] for line in lines] == ["results/laptop/train/a.npz", "results/laptop/train/b.npz"]
    for line in lines:
        assert line["sha256"] == digest(ready.path / line["output"])
        assert line["record"] == json.loads((ready.path / record_path(line["output"])).read_text())
        assert line["record"]["rule"] == "train"


def test_a_run_records_the_stages_that_changed_and_stores_parts_of_others(toy: Pipeline) -> None:
    before = toy.lock()
    toy.set_value("tasks.a.scale", 1.5)
    toy.edit("src/toy/record.py", "\nUNUSED = 1\n")
    done = toy.snakemake("results/laptop/record/a.npz")
    after = toy.lock()
    assert "snakedvc: recorded in dvc.lock: analysis@laptop, train@laptop." in done.stderr
    assert after["train@laptop"]["params"]["config/laptop.yaml"]["tasks.a"] == {"scale": 1.5}
    assert after["figures@laptop"] == before["figures@laptop"]
    assert after["analysis@laptop"]["outs"] != before["analysis@laptop"]["outs"]
    assert after["analysis@laptop"]["deps"] == before["analysis@laptop"]["deps"]
    assert toy.changed() == {"analysis@laptop", "figures@laptop"} - {"figures@laptop"}  # record/b.npz is out of date
    file = toy.path / "results/laptop/train/a.npz"
    outs = {out["path"]: out["md5"] for out in after["train@laptop"]["outs"]}
    held = json.loads((toy.path / object_of(outs["results/laptop/train"])).read_text())
    assert {entry["relpath"]: entry["md5"] for entry in held}["a.npz"] == hashlib.md5(file.read_bytes()).hexdigest()
    assert file.stat().st_mode & stat.S_IWUSR
    toy.snakemake()
    assert toy.changed() == set()


@pytest.mark.long
def test_a_source_edited_during_the_run_is_not_taken_for_what_ran(toy: Pipeline) -> None:
    toy.set_value("train.pause", 0.1)
    run = toy.start("snakemake", "--configfile", toy.facts.config)
    wait_for(lambda: any((toy.path / ".snakemake/incomplete").iterdir()))
    toy.edit("src/toy/model.py")
    assert run.wait() == 0
    assert "train@laptop" in toy.changed()
    assert "train" in toy.planned()


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


@pytest.mark.long
def test_a_failed_recording_ends_the_run_with_1_and_the_next_run_makes_it_good_first(toy: Pipeline) -> None:
    intact = (toy.path / ".dvc/config").read_text()
    (toy.path / ".dvc/config").write_text("[nonsense\n")
    toy.set_value("figure.color", "red")
    done = toy.snakemake(ok=False)
    assert done.returncode == 1
    assert "the results are complete, but DVC has not recorded them." in done.stderr
    assert "red" in (toy.path / "results/laptop/figure.svg").read_text()
    done = toy.snakemake(ok=False)  # nothing is to be done, so Snakemake alone would say that all is well
    assert done.returncode == 1
    assert "what an earlier run made cannot be recorded." in done.stderr
    (toy.path / ".dvc/config").write_text(intact)
    assert "an earlier run with config/laptop.yaml is not recorded in DVC yet" in toy.snakemake("-n").stderr
    assert toy.lock()["figures@laptop"]["params"]["config/laptop.yaml"] == {"figure": {"color": "black"}}
    done = toy.snakemake()
    assert "Nothing to be done" in done.stdout + done.stderr
    assert toy.lock()["figures@laptop"]["params"]["config/laptop.yaml"] == {"figure": {"color": "red"}}
    assert toy.changed() == set()
    assert "not recorded" not in toy.snakemake("-n").stderr


@pytest.mark.long
def test_what_a_failed_run_finished_is_recorded_by_the_next(toy: Pipeline) -> None:
    revert = toy.edit("src/toy/analyse.py", "\nraise SystemExit(1)\n")
    toy.set_value("train.steps", 21)
    assert toy.snakemake("--keep-going", ok=False).returncode != 0
    revert()
    toy.snakemake()
    assert toy.planned() == {}
    assert toy.changed() == set()


@pytest.mark.long
def test_a_run_that_ends_beside_another_leaves_what_the_other_has_yet_to_record(toy: Pipeline) -> None:
    toy.set_value("train.pause", 0.2)
    slow = toy.start("snakemake", "--nolock", "results/laptop/train/a.npz")
    notes = toy.path / ".snakemake/snakedvc/planned.json"
    wait_for(lambda: notes.exists() and "train/a.npz" in notes.read_text())
    toy.snakemake("--nolock", "results/laptop/train/b.npz")
    assert slow.wait() == 0
    assert toy.lock()["train@laptop"]["params"]["config/laptop.yaml"]["train"]["pause"] == 0.2
    assert not notes.exists()


@pytest.mark.long
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


@pytest.mark.long
def test_kill_without_the_guard_asks_for_unlock(toy: Pipeline) -> None:
    snakefile = toy.path / "Snakefile"
    snakefile.write_text(snakefile.read_text().replace("guard(workflow)\n", ""))
    toy.set_value("train.pause", 0.1)
    first = toy.start("snakemake")
    wait_for(lambda: any((toy.path / ".snakemake/locks").glob("*.lock")) and children(first.pid))
    kill(first)
    assert "LockException" in toy.snakemake(ok=False).stderr


@pytest.mark.long
def test_without_the_checksum_size_shuffled_times_plan_jobs(toy: Pipeline) -> None:
    profile = toy.path / "profiles/default/config.yaml"
    profile.write_text("cores: 1\nmax-checksum-file-size: 0\n")
    os.utime(toy.path / "results/laptop/train/a.npz")
    assert "record" in toy.planned()


@pytest.mark.long
def test_without_records_a_pulled_clone_does_not_see_an_edit(ready: Pipeline, tmp_path: Path) -> None:
    clone = ready.clone(tmp_path / "clone")
    clone.dvc("pull")
    shutil.rmtree(clone.path / "results/laptop/.records")
    clone.edit(clone.facts.upstream_module)
    assert "train" not in clone.planned()


@pytest.mark.long
def test_without_the_guard_old_replaced_bytes_pass_unseen(toy: Pipeline) -> None:
    snakefile = toy.path / "Snakefile"
    snakefile.write_text(snakefile.read_text().replace("guard(workflow)\n", ""))
    file = toy.path / toy.facts.checkpoint
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    age(file)
    assert toy.planned() == {}


@pytest.mark.long
def test_accept_keeps_the_results_of_an_edit_that_changes_nothing(toy: Pipeline) -> None:
    before = toy.outputs()
    toy.edit(toy.facts.upstream_module)
    toy.bridge("accept", "results/laptop/train/a.npz", "results/laptop/train/b.npz")
    assert toy.outputs() == before
    assert toy.planned() == {}
    assert toy.changed() == set()


@pytest.mark.long
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
        ("results/laptop/train/a.npz", "results/laptop/train/a.npz", "is not the file that was recorded"),
        ("results/laptop/train/a.npz", "results/laptop/record/a.npz", "was not made from the present"),
    ],
)
def test_accept_refuses_what_changed(toy: Pipeline, spoil: str | None, target: str, words: str) -> None:
    if spoil:
        toy.edit(spoil)
    done = toy.bridge("accept", target, ok=False)
    assert done.returncode == 2
    assert words in done.stderr


@pytest.mark.long
def test_accept_takes_what_an_input_changed_without_effect(toy: Pipeline) -> None:
    """As after renaming a column that the job does not read: the input is made again, its user keeps its result."""
    before = toy.outputs()["results/laptop/record/a.npz"]
    toy.set_value("tasks.a.scale", 1.5)
    toy.snakemake("results/laptop/train/a.npz")
    done = toy.bridge("accept", "results/laptop/record/a.npz", "--despite", "results/*/train/b.npz", ok=False)
    assert "was not made from the present" in done.stderr
    toy.bridge("accept", "results/laptop/record/a.npz", "--despite", "results/*/train/*.npz")
    assert toy.outputs()["results/laptop/record/a.npz"] == before
    assert "results/laptop/record/a.npz" not in set().union(*toy.planned().values())


@pytest.mark.long
def test_accept_takes_a_whole_config_but_for_what_other_values_made(toy: Pipeline) -> None:
    before = toy.outputs()
    toy.edit("src/toy/files.py")  # every job uses it
    done = toy.bridge("accept", "config/laptop.yaml")
    assert "accepted: 7 results of 7 jobs of config/laptop.yaml" in done.stdout
    assert toy.outputs() == before
    assert toy.planned() == {}
    assert toy.changed() == set()
    toy.edit("src/toy/files.py")
    toy.set_value("tasks.a.scale", 1.5)
    done = toy.bridge("accept", "config/laptop.yaml", ok=False)
    assert done.returncode == 1
    assert "left planned: 'results/laptop/train/a.npz' was made with other config values" in done.stdout
    assert toy.planned()["train"] == {"results/laptop/train/a.npz"}
    assert "train@laptop" in toy.changed()


@pytest.mark.long
def test_records_follow_the_revision_where_the_bytes_are_the_same(toy: Pipeline) -> None:
    toy.set_value("train.pause", 0.001)  # plans training, and changes no byte
    toy.snakemake()
    toy.commit_git("another pause")
    for revision in ("HEAD~1", "-"):
        toy.git("checkout", "-q", revision)
        toy.dvc("checkout")
        assert toy.planned() == {}
        assert toy.changed() == set()
