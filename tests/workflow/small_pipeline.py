"""This project's own pipeline in a repository of its own, with a config of seconds."""

import re
import shutil
import subprocess
from pathlib import Path

from pipeline import Facts, Pipeline
from small_stages import stages_for

from reopt.examination.parts import PARTS
from reopt.figures.registry import figures

ROOT = Path(__file__).parents[2]
BEFORE_TRAINING = {"conditions", "training", "tuning", "recipe", "hyperparameters"}  # no checkpoint goes into them
AFTER_TRAINING = {
    *PARTS,
    *("evaluate", "claims", "landscape", "causes", "beyond", "foretell", "results_page"),
    *(f"figure_{name}" for name in figures() if name not in BEFORE_TRAINING),
}


def tiny(config: dict) -> None:
    """Shrink a config, in place, to what takes seconds: numbers mean nothing then, paths and rules are the same."""
    task = config["tasks"]["quadratic"]
    config["tasks"] = {"quadratic": task}
    task["num_steps"] = 12
    task["shown"] = "gru4-s0"
    (optimizer,) = task["optimizers"].values()
    optimizer["units"] = 4
    optimizer["training"] |= {"outer_steps": 20, "problems": 4, "cotangent_clipping": {"factor": 4.0, "group": 4}}
    optimizer["training"]["schedule"]["warmup_steps"] = 2
    optimizer["training"]["validation"] |= {"problems": 8, "every": 5}
    task["optimizers"] = {"gru4": optimizer}
    config["baselines"] |= {"draws": 8, "problems": 4}
    config["baselines"]["ranges"] = {name: config["baselines"]["ranges"][name] for name in ("momentum", "rmsprop")}
    config["evaluation"]["problems"] = 8
    config["analysis"]["analysed_baselines"] = ["rmsprop"]
    config["analysis"]["record"] |= {"problems": 4, "state_problems": 2}
    config["analysis"]["fixed_points"] |= {"visited_seeds": 8, "perturbed_seeds": 4, "max_iterations": 50}
    config["analysis"]["clipping"] |= {"grid": 11, "bins": 10}
    config["analysis"]["adaptation"]["gradients"] = 5


def add_task(config: dict) -> None:
    config["tasks"]["bowl"] = config["tasks"]["quadratic"]


CHECKPOINT = "results/laptop/quadratic/optimizers/gru4-s0/best.safetensors"
FACTS = Facts(
    config="config/laptop.yaml",
    upstream_module="src/reopt/training/meta_gradient.py",
    upstream_rules=frozenset({"metatrain", "figure_training", *AFTER_TRAINING}),
    figure_module="src/reopt/figures/tuning.py",
    figure_rules=frozenset({"figure_tuning", "results_page"}),
    figure_stages=frozenset({"figures@laptop"}),
    value=("analysis.adaptation.gradients", 6),
    value_rules=frozenset(
        {
            *("adaptation", "verdicts", "figure_adaptation", "figure_cells", "figure_verdicts", "claims"),
            *("figure_claims", "results_page"),
        }
    ),
    add_task=add_task,
    added=lambda path: "/bowl/" in path,
    added_figures=frozenset({"claims", "deviations", "results_page", *(f"figure_{name}" for name in figures())}),
    added_gap="no stage owns results/laptop/bowl/optimizers/gru4-s0/best.safetensors, made by rule metatrain",
    checkpoint=CHECKPOINT,
    checkpoint_rules=frozenset(AFTER_TRAINING),
    interrupted_rules=frozenset({"metatrain"}),
    asked=(CHECKPOINT,),
    small_value=("claims.saturation", 0.51),
)


def lay_out(project: Pipeline) -> None:
    """Fill the folder of the pipeline; nothing has run."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    kept = ("Snakefile", "dvc.yaml", "pyproject.toml", "src/", "workflow/", "profiles/", ".dvc", ".git")
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
    stages = (project.path / "dvc.yaml").read_text()
    (project.path / "dvc.yaml").write_text(stages_for(stages, ["quadratic"], ["laptop"]))
    project.git("init", "-q")
    project.bridge("check")
    project.commit_git("the pipeline")
