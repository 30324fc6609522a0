"""The small pipeline, run once for all workers."""

import shutil
from pathlib import Path

import pytest
import yaml
from filelock import FileLock
from pipeline import Pipeline
from small_pipeline import FACTS, lay_out


@pytest.fixture(scope="session")
def ready(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Pipeline:
    """The pipeline with everything run, recorded, pushed and committed; copy it, do not change it.

    All workers share it: the first that asks makes it.
    """
    base = tmp_path_factory.getbasetemp()
    folder = base if worker_id == "master" else base.parent
    project = Pipeline(folder / "ready", FACTS, {"DVC_SITE_CACHE_DIR": str(folder / "site")})
    with FileLock(folder / "ready.lock"):
        if not (folder / "ready.done").exists():
            shutil.rmtree(project.path, ignore_errors=True)  # of a worker that failed
            make(project)
            (folder / "ready.done").touch()
    return project


def make(project: Pipeline) -> None:
    """Fill the folder of the pipeline and run it."""
    lay_out(project)
    project.snakemake()
    project.dvc("push")
    project.commit_git("the results")
    assert yaml.safe_load((project.path / "dvc.lock").read_text())["stages"]


@pytest.fixture
def project(ready: Pipeline, tmp_path: Path) -> Pipeline:
    """A copy of the pipeline's repository that the test may spoil."""
    return ready.copy(tmp_path / "project")
