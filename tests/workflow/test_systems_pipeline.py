"""Every rule of the systems, from a config of seconds to figure and verdicts.

With the whole config, more systems are made: `snakemake --configfile config/systems_smoke.yaml`, a few minutes.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).parents[2]
COPIED = ("Snakefile", "dvc.yaml", "pyproject.toml", "src", "workflow", "profiles", "config")


@pytest.mark.long
def test_the_smoke_config_runs_from_nothing_and_is_then_up_to_date(tmp_path: Path) -> None:
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    path = tmp_path / "config/systems_smoke.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["systems"] = {name: config["systems"][name] for name in ("star", "optim4rl")}
    config["systems"]["optim4rl"]["seeds"] = [0]
    config["tasks"]["family"]["rivals"].pop("nominal")
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    subprocess.run(["dvc", "init", "--no-scm", "--quiet"], cwd=tmp_path, check=True)
    command = ("snakemake", "--cores", "2", "--quiet", "rules", "--configfile", "config/systems_smoke.yaml")

    def run(*more: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(tmp_path / "src")}
        done = subprocess.run([*command, *more], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout + done.stderr

    run()
    results = tmp_path / "results/systems_smoke"
    summary = pd.read_csv(results / "summary.csv")
    assert set(summary["system"]) == {"star", "optim4rl"}
    assert set(summary[summary["system"] == "star"]["seed"]) == {"0", "1", "all"}
    assert set(pd.read_csv(results / "claims.csv")["verdict"]) <= {"holds", "fails", "undetermined"}
    for read in ("family/readings/star-s1", "catch/readings/optim4rl-s0"):
        mechanisms = pd.read_csv(results / read / "verdicts.csv")["mechanism"]
        assert {"momentum", "coupling", "schedule", "adaptation"} <= set(mechanisms)
    for suffix in ("svg", "png", "rst"):
        assert (results / f"figures/systems.{suffix}").stat().st_size > 100
    problems = pd.read_csv(results / "catch/systems/optim4rl-s0/problems.csv")
    assert problems.groupby("choice").size().to_dict() == {"scaled": 40, "trained": 40}
    winner = json.loads((results / "family/rivals/adam/winner.json").read_text())
    draws = pd.read_csv(results / "family/rivals/adam/draws.csv")
    assert winner["objective"]["draw"] == draws["mean_objective"].idxmin()
    assert "Nothing to be done" in run("-n")
