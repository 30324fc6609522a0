"""This project's own pipeline in a repository of its own, with a config of seconds."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from filelock import FileLock
from pipeline import Facts, Pipeline

from reopt.stages import ANALYSES, FIGURES

ROOT = Path(__file__).parents[2]
BEFORE_TRAINING = {"conditions", "training", "tuning", "recipe", "hyperparameters"}  # no checkpoint goes into them
AFTER_TRAINING = {
    *ANALYSES,
    *("evaluate", "claims", "landscape", "causes", "beyond"),
    *(f"figure_{name}" for name in FIGURES if name not in BEFORE_TRAINING),
}


def tiny(config: dict) -> None:
    """Shrink a config, in place, to what takes seconds: numbers mean nothing then, paths and rules are the same."""
    task = config["tasks"]["quadratic"]
    config["tasks"] = {"quadratic": task}
    task["num_steps"] = 12
    task["shown"] = "gru4-s0"
    (optimizer,) = task["optimizers"].values()
    optimizer["units"] = 4
    optimizer["training"] |= {"outer_steps": 20, "problems": 4, "calm": {"factor": 4.0, "group": 4}}
    optimizer["training"]["schedule"]["warmup_steps"] = 2
    optimizer["training"]["validation"] |= {"problems": 8, "every": 5}
    task["optimizers"] = {"gru4": optimizer}
    config["baselines"] |= {"draws": 8, "problems": 4}
    config["baselines"]["ranges"] = {name: config["baselines"]["ranges"][name] for name in ("momentum", "rmsprop")}
    config["evaluation"]["problems"] = 8
    config["analysis"]["probes"] = ["rmsprop"]
    config["analysis"]["record"]["problems"] = 4
    config["analysis"]["fixed_points"] |= {"visited_seeds": 8, "perturbed_seeds": 4, "max_iterations": 50}
    config["analysis"]["clipping"] |= {"grid": 11, "bins": 10}
    config["analysis"]["adaptation"]["gradients"] = 5


def add_task(config: dict) -> None:
    config["tasks"]["bowl"] = config["tasks"]["quadratic"]


FACTS = Facts(
    config="config/laptop.yaml",
    upstream_module="src/reopt/training/meta_gradient.py",
    upstream_rules=frozenset({"metatrain", "figure_training", "beyond_baseline", *AFTER_TRAINING}),
    figure_module="src/reopt/figures/tuning.py",
    figure_rules=frozenset({"figure_tuning"}),
    value=("analysis.adaptation.gradients", 6),
    value_rules=frozenset({"adaptation", "figure_adaptation", "figure_cells", "claims", "figure_claims"}),
    add_task=add_task,
    added=lambda path: "/bowl/" in path,
    added_figures=frozenset({"claims", "deviations", *(f"figure_{name}" for name in FIGURES)}),
    checkpoint="results/laptop/quadratic/optimizers/gru4-s0/best.safetensors",
    checkpoint_rules=frozenset(AFTER_TRAINING),
    interrupted_rules=frozenset({"metatrain", "figure_training"}),
    small_value=("claims.vertical_shift", 0.21),
)


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
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    kept = ("Snakefile", "pyproject.toml", "src/", "workflow/", "profiles/", ".dvc", ".git")
    kept += ("config/laptop.yaml", "config/paper.yaml")
    for path in filter(None, listed.split("\0")):
        if path.startswith(kept) and not path.startswith((".dvc-remote/", ".github/")):
            (project.path / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, project.path / path)
    project.set_config(tiny)
    bowl = "from reopt.tasks.quadratic import Settings, create\n\n__all__ = ['Settings', 'create']\n"
    (project.path / "src/reopt/tasks/bowl.py").write_text(bowl)
    settings = (project.path / "pyproject.toml").read_text()
    (project.path / "pyproject.toml").write_text(
        re.sub(r"(?m)^configs = \[.*\]$", f'configs = ["{FACTS.config}"]', settings, count=1)
    )
    project.git("init", "-q")
    project.bridge("generate")
    project.commit_git("the pipeline")
    project.snakemake()
    project.dvc("push")
    project.commit_git("the results")
    assert yaml.safe_load((project.path / "dvc.lock").read_text())["stages"]


@pytest.fixture
def project(ready: Pipeline, tmp_path: Path) -> Pipeline:
    """A copy of the pipeline's repository that the test may spoil."""
    return ready.copy(tmp_path / "project")
