"""Results through a remote of DVC that two checkouts share."""

import shutil
import sys
from pathlib import Path

from loopback import say
from pipeline import Pipeline
from toy_repository import make_toy


def toy_with(folder: Path, url: str, environment: dict[str, str], settings: dict[str, str]) -> Pipeline:
    """The toy repository, run and recorded, whose default remote is this one.

    Args:
        folder: where.
        url: of the remote.
        environment: what the commands need, beside what they have.
        settings: of the remote, for this checkout alone (`dvc remote modify --local`).
    """
    toy = make_toy(folder / "toy", environment | {"DVC_SITE_CACHE_DIR": str(folder / "site")})
    toy.dvc("remote", "add", "--default", "lab", url)
    toy.dvc("remote", "modify", "lab", "verify", "true")
    for key, value in settings.items():
        toy.dvc("remote", "modify", "--local", "lab", key, value)
    toy.snakemake()
    toy.commit_git("a shared remote, and the results")
    return toy


FLIP = """
import sys
from dvc.repo import Repo
with Repo() as repo:
    store = repo.cloud.get_remote_odb()
    path = store.oid_to_path(sys.argv[1])
    content = bytearray(store.fs.cat_file(path))
    content[0] ^= 1
    store.fs.remove(path)
    store.fs.pipe_file(path, bytes(content))
"""


def wipe(copy: Pipeline) -> None:
    """Take results, DVC's cache and what Snakemake knows from a checkout."""
    for name in (".dvc/cache", "results", ".snakemake"):
        shutil.rmtree(copy.path / name)


def check(toy: Pipeline) -> None:
    """Push, wipe, pull: the same bytes, and nothing to do. And a damaged object is not taken for good.

    Raises:
        AssertionError: it is not so.
    """
    before = toy.outputs()
    assert before
    say(f"dvc push: {len(before)} results, and the records of how they were made")
    toy.dvc("push")
    assert not (toy.path / ".dvc-remote").exists(), "the toy's own remote is not used"

    say("in a copy: cache, results and what Snakemake knows are wiped; dvc pull")
    copy = toy.copy(toy.path.with_name("copy"))
    wipe(copy)
    assert copy.planned(), "without results everything is to be made"
    copy.dvc("pull")
    assert copy.outputs() == before
    assert copy.planned() == {}
    assert copy.changed() == set()
    assert copy.bridge("verify").returncode == 0
    say("the same bytes; nothing is to be done; dvc status is clean; every byte in the remote is what it should be")

    say("a bit of a figure is flipped in the remote: dvc pull refuses it, snakedvc verify heals it")
    (figure,) = (out for out in toy.lock()["figures@laptop"]["outs"] if out["path"].endswith(".svg"))
    toy.run(sys.executable, "-c", FLIP, figure["md5"])
    wipe(copy)
    assert copy.dvc("pull", ok=False).returncode != 0
    assert not (copy.path / figure["path"]).exists()
    toy.bridge("verify", "--repair")
    copy.dvc("pull")
    assert copy.outputs() == before

    say("in a clone of it: a config value changes, dvc push; in the first checkout: git pull, dvc pull")
    clone = copy.clone(toy.path.with_name("clone"))
    shutil.copy(copy.path / ".dvc/config.local", clone.path / ".dvc/config.local")
    clone.dvc("pull")
    clone.set_value(*clone.facts.value)
    clone.snakemake()
    clone.dvc("push")
    clone.commit_git("another value")
    changed = clone.outputs()
    assert changed != before
    toy.git("pull", "-q", "--ff-only", str(clone.path))
    toy.dvc("pull")
    assert toy.outputs() == changed
    assert toy.planned() == {}
    assert toy.changed() == set()
    say("the first checkout has the results of the second; nothing is to be done")
