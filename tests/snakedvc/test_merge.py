"""Two git branches that both recorded results, merged."""

import pytest
from pipeline import Pipeline

pytestmark = pytest.mark.long


@pytest.fixture
def branches(toy: Pipeline) -> Pipeline:
    """The toy with its config in the form that `set_value` writes."""
    toy.set_config(lambda config: None)
    (toy.path / ".gitattributes").write_text("* text=auto eol=lf\n.dvc-remote/** binary\ndvc.lock merge=snakedvc\n")
    toy.commit_git("the config in another form")
    return toy


def on_branch(toy: Pipeline, name: str, key: str, value: object) -> None:
    toy.git("checkout", "-q", "-b", name, "master")
    toy.dvc("checkout")
    toy.set_value(key, value)
    toy.snakemake()
    toy.dvc("push")
    toy.commit_git(name)


@pytest.mark.parametrize("installed", [True, False])
def test_stages_that_both_branches_changed_are_merged_by_files(branches: Pipeline, installed: bool) -> None:
    toy = branches
    on_branch(toy, "one", "tasks.a.scale", 1.5)
    a = toy.outputs()["results/laptop/train/a.npz"]
    on_branch(toy, "two", "tasks.b.scale", 2.5)
    b = toy.outputs()["results/laptop/train/b.npz"]
    if installed:
        toy.bridge("install-merge-driver")
        toy.git("merge", "-q", "--no-edit", "one")
    else:
        assert "dvc.lock" in toy.run("git", "merge", "one", ok=False).stdout
        assert toy.run("git", "status", "--porcelain").stdout.count("UU dvc.lock") == 1
        assert "git conflict" in toy.bridge("record", ok=False).stderr
        assert "both branches changed analysis@laptop, figures@laptop, train@laptop" in toy.bridge("merge").stderr
        toy.git("commit", "-q", "--no-edit")
    toy.dvc("checkout")
    assert toy.outputs()["results/laptop/train/a.npz"] == a
    assert toy.outputs()["results/laptop/train/b.npz"] == b
    assert toy.planned().keys() == {"figure"}  # neither branch has drawn both; nothing is trained again
    toy.snakemake()
    toy.bridge("record")
    assert toy.planned() == {}
    assert toy.changed() == set()
    assert toy.bridge("check").returncode == 0


def test_stages_that_one_branch_changed_merge_without_the_driver(branches: Pipeline) -> None:
    toy = branches
    on_branch(toy, "one", "figure.color", "red")
    toy.git("checkout", "-q", "-b", "two", "master")
    toy.dvc("checkout")
    toy.edit("src/toy/record.py")  # made again, the same bytes; the figure is left alone
    toy.snakemake("results/laptop/analyse/a.csv", "results/laptop/analyse/b.csv")
    toy.dvc("push")
    toy.commit_git("two")
    toy.git("merge", "-q", "--no-edit", "one")
    toy.dvc("checkout")
    assert toy.planned() == {}
    assert toy.changed() == set()
    assert "red" in (toy.path / "results/laptop/figure.svg").read_text()
