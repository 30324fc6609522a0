"""`reopt init` from the installed wheel: an empty folder, a small config, everything made and recorded."""

import json
import re
from pathlib import Path

import pytest
import yaml
from bare_environments import ROOT, Bare, bare

pytestmark = pytest.mark.system


@pytest.fixture(scope="session")
def pipeline(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Bare:
    """An environment with the wheel of reopt and what its pipeline needs."""
    wheel = wheels["reopt"]
    return bare(tmp_path_factory.mktemp("pipeline"), f"reopt[pipeline] @ {wheel.as_uri()}", links=wheel.parent)


def smallest(file: Path) -> None:
    """Shrink a config that says everything to what takes seconds, all by leaving keys out or making them small."""
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    task = content["tasks"]["quadratic"]
    small = {"outer_steps": 20, "problems": 16, "schedule": {"kind": "cosine", "warmup_steps": 2}}
    optimizer = {"units": 4, "training": small | {"validation": {"problems": 8, "every": 5}}}
    ranges = {name: content["baselines"]["ranges"][name] for name in ("momentum", "rmsprop")}
    shrunk = {
        "name": content["name"],
        "tasks": {"quadratic": {"problem": task["problem"], "num_steps": 12, "optimizers": {"gru4": optimizer}}},
        "baselines": {"draws": 8, "problems": 4, "ranges": ranges},
        "evaluation": {"problems": 8},
        "analysis": {
            "analysed_baselines": ["rmsprop"],
            "record": {"problems": 4, "state_problems": 2},
            "fixed_points": {"visited_seeds": 8, "perturbed_seeds": 4, "max_iterations": 50},
            "clipping": {"grid": 11, "bins": 10},
            "adaptation": {"gradients": 5},
        },
    }
    file.write_text(yaml.safe_dump(shrunk, sort_keys=False), encoding="utf-8")


def commands() -> list[list[str]]:
    """The commands of docs/project.md, word by word."""
    block = (ROOT / "docs/project.md").read_text(encoding="utf-8").partition("```sh\n")[2].partition("```")[0]
    return [line.split() for line in block.splitlines()]


def test_from_an_empty_folder_to_recorded_figures_and_claims(pipeline: Bare, tmp_path: Path) -> None:
    install, begin, enter, estimate, run, status = commands()
    assert install == ["pip", "install", "'reopt[pipeline]'"]  # which the environment has of the wheels
    *_, last = pipeline.run(*begin, folder=tmp_path).stdout.splitlines()
    folder = tmp_path / enter[1]
    assert last == f"next: {' '.join([*enter, '&&', *run])}"
    pipeline.run("reopt", "check-config", "config/mine.yaml", "config/smoke.yaml", "config/paper.yaml", folder=folder)
    again = pipeline.run("reopt", "init", "project", folder=tmp_path, ok=False)
    assert again.returncode == 2
    assert "is there already, and is not overwritten" in again.stderr
    assert not (folder / "src").exists()

    smallest(folder / "config/mine.yaml")
    assert pipeline.run("snakedvc", "check", folder=folder).stdout == "dvc.yaml covers every job of Snakemake.\n"
    assert "metatrain" in pipeline.run(*estimate, folder=folder).stdout
    ran = pipeline.run(*run, folder=folder)
    assert "snakedvc: recorded in dvc.lock: 7 stages" in ran.stderr
    assert pipeline.run(*status, folder=folder).stdout == "Data and pipelines are up to date.\n"
    results = folder / "results/mine"
    assert "\ngru4," not in (results / "claims.csv").read_text()
    assert (results / "figures/verdicts.svg").is_file()
    assert json.loads((results / "quadratic/baselines/rmsprop.json").read_text())["baseline"] == "rmsprop"

    assert "Nothing to be done" in pipeline.run("snakemake", "-n", folder=folder).stdout
    module = next(pipeline.path.glob("lib/python*/site-packages/reopt/figures/tuning.py"))
    module.write_text(module.read_text() + "\n# of another version\n")
    planned = pipeline.run("snakemake", "-n", "--quiet", "rules", folder=folder)
    assert re.findall(r"^(\w+) +\d+$", planned.stdout + planned.stderr, re.MULTILINE) == ["figure_tuning", "total"]
