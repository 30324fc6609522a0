"""The hard cases of the contract between Snakemake and DVC, for any repository that keeps it.

Each takes a prepared `Pipeline` (everything run, recorded, pushed and committed) that it may spoil, and an
empty folder. `CASES` names them as the table of the contract does.
"""

import json
from collections.abc import Callable
from pathlib import Path

from pipeline import Pipeline, age, alive, children, digest, kill, wait_for


def fresh_clone(prepared: Pipeline, folder: Path) -> None:
    clone = prepared.clone(folder / "clone")
    planned = set().union(*clone.planned().values())
    assert planned >= set(prepared.outputs())


def fresh_clone_and_pull(prepared: Pipeline, folder: Path) -> None:
    clone = prepared.clone(folder / "clone")
    clone.dvc("pull")
    assert clone.planned() == {}
    assert clone.changed() == set()
    assert clone.outputs() == prepared.outputs()
    assert clone.git("status", "--porcelain") == ""


def shuffled_time_stamps(prepared: Pipeline, folder: Path) -> None:
    del folder
    for seed in range(2):
        prepared.shuffle_times(seed)
        assert prepared.planned() == {}
    assert prepared.changed() == set()


def edit_upstream_module(prepared: Pipeline, folder: Path) -> None:
    del folder
    prepared.edit(prepared.facts.upstream_module)
    assert prepared.planned().keys() == prepared.facts.upstream_rules
    assert prepared.changed()


def revert_edit(prepared: Pipeline, folder: Path) -> None:
    del folder
    revert = prepared.edit(prepared.facts.upstream_module)
    assert prepared.planned() != {}
    revert()
    assert prepared.planned() == {}
    assert prepared.changed() == set()


def edit_figure_module(prepared: Pipeline, folder: Path) -> None:
    del folder
    prepared.edit(prepared.facts.figure_module)
    planned = prepared.planned()
    assert planned.keys() == prepared.facts.figure_rules
    assert prepared.changed() == prepared.facts.figure_stages


def change_one_value(prepared: Pipeline, folder: Path) -> None:
    del folder
    prepared.set_value(*prepared.facts.value)
    assert prepared.planned().keys() == prepared.facts.value_rules
    assert prepared.changed()


def add_task(prepared: Pipeline, folder: Path) -> None:
    del folder
    prepared.set_config(prepared.facts.add_task)
    planned = prepared.planned()
    shared = {rule for rule, outputs in planned.items() for path in outputs if not prepared.facts.added(path)}
    assert any(prepared.facts.added(path) for outputs in planned.values() for path in outputs)
    assert shared == prepared.facts.added_figures
    done = prepared.bridge("check", ok=False)
    assert done.returncode == 1
    assert prepared.facts.added_gap in done.stdout


def replaced_checkpoint(prepared: Pipeline, folder: Path) -> None:
    del folder
    file = prepared.path / prepared.facts.checkpoint
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    age(file)
    assert prepared.planned().keys() == prepared.facts.checkpoint_rules
    assert prepared.changed()
    named = json.loads(prepared.dvc("data", "status", "--granular", "--json").stdout)
    modified = named["uncommitted"]["modified"]
    assert [path for path in modified if not path.endswith("/")] == [prepared.facts.checkpoint]


def repro_after_snakemake_and_reverse(prepared: Pipeline, folder: Path) -> None:
    del folder
    assert "Running stage" not in prepared.dvc("repro").stdout
    prepared.set_value(*prepared.facts.small_value or prepared.facts.value)
    assert "Running stage" in prepared.dvc("repro").stdout
    assert prepared.planned() == {}
    assert prepared.changed() == set()


def killed(prepared: Pipeline, folder: Path) -> None:
    undisturbed = prepared.outputs()
    facts = prepared.facts
    if facts.slow:
        prepared.set_value(*facts.slow)
    file = prepared.path / facts.checkpoint
    for path in prepared.outputs_by(facts.interrupted_rules):
        (prepared.path / path).unlink()
    run = prepared.start("snakemake", *facts.asked, "--configfile", facts.config, "--cores", "1")
    wait_for(lambda: _stage_process(run.pid) and any((prepared.path / ".snakemake/incomplete").iterdir()))
    family = children(run.pid)
    kill(run)
    wait_for(lambda: not any(map(alive, family)))
    left = prepared.outputs()
    assert left == {path: undisturbed[path] for path in left}
    assert not list(file.parent.glob(f"{file.name}*")) or digest(file) == undisturbed[facts.checkpoint]
    if facts.slow:
        prepared.set_value(facts.slow[0], 0)
    prepared.snakemake(*facts.asked)
    assert prepared.outputs() == undisturbed
    assert prepared.planned() == {}
    assert prepared.changed() == set()


def older_revision(prepared: Pipeline, folder: Path) -> None:
    del folder
    prepared.set_value(*prepared.facts.small_value or prepared.facts.value)
    prepared.snakemake()
    prepared.commit_git("a new value")
    for revision in ("HEAD~1", "-"):
        prepared.git("checkout", "-q", revision)
        prepared.dvc("checkout")
        assert prepared.planned() == {}
        assert prepared.changed() == set()


def _stage_process(pid: int) -> bool:
    """Does a stage's own command run below Snakemake?"""
    return any(
        b"snakemake" not in Path(f"/proc/{child}/cmdline").read_bytes() for child in children(pid) if alive(child)
    )


CASES: dict[str, Callable[[Pipeline, Path], None]] = {
    "fresh clone: everything is planned": fresh_clone,
    "fresh clone + dvc pull: nothing is planned, dvc status is clean": fresh_clone_and_pull,
    "the same, time stamps of all files shuffled: nothing is planned": shuffled_time_stamps,
    "edit a module that the first rule imports: it and what follows, old time stamp": edit_upstream_module,
    "revert that edit: nothing is planned": revert_edit,
    "edit a figure module: that figure only": edit_figure_module,
    "change one config value: only the rules that read it, and what follows": change_one_value,
    "add a task: its jobs, and the figures that show it": add_task,
    "a checkpoint's bytes replaced: what depends on it is planned, DVC reports it": replaced_checkpoint,
    "dvc repro after snakemake, and the reverse: nothing runs": repro_after_snakemake_and_reverse,
    "kill -9 in the middle of a rule, then snakemake: resumes, same bytes": killed,
    "git checkout of an older revision + dvc checkout: nothing is planned": older_revision,
}
