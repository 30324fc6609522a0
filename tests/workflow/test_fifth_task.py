"""Adding a task is one file, one block of the config and its name in `dvc.yaml`; figures and claims have it then."""

import copy
import gzip
import html
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from pipeline import Pipeline
from small_stages import stages_for

from reopt.figures.palette import task_title
from reopt.figures.registry import figures

FIFTH = Path(__file__).parent / "fifth_task/logistic.py"
RESULTS = "results/laptop"


def add_logistic(config: dict) -> None:
    """One block: that of the quadratic, but for what is the task's own."""
    task = copy.deepcopy(config["tasks"]["quadratic"])
    (optimizer,) = task["optimizers"].values()
    optimizer |= {"units": 5, "input_scale": 10.0, "output_scale": 0.1}
    optimizer["training"] |= {"outer_steps": 3, "problems": 2, "cotangent_clipping": {"factor": 4.0, "group": 2}}
    optimizer["training"]["schedule"]["warmup_steps"] = 1
    optimizer["training"]["validation"] |= {"problems": 4, "every": 2}
    config["tasks"]["logistic"] = task | {
        "problem": {"batch": 64, "start": 1.0},
        "num_steps": 10,
        "own": {"evaluation": {"problems": 6, "seed": 3}},
        "shown": "gru5-s0",
        "optimizers": {"gru5": optimizer},
    }


@pytest.fixture
def added(project: Pipeline) -> Pipeline:
    """The pipeline with everything run, then the file and the block."""
    shutil.copy(FIFTH, project.path / "src/reopt/tasks/logistic.py")
    project.set_config(add_logistic)
    return project


@pytest.mark.long
def test_a_fifth_task_is_one_file_and_one_block(added: Pipeline) -> None:
    before = added.outputs()
    planned = set().union(*added.planned().values())
    # Runs of one task's optimizers on the other are new; nothing that was there is made again.
    assert {path for path in planned if "/quadratic/" in path and "/logistic/" not in path} == set()
    done = added.snakemake(ok=False)
    assert done.returncode == 1
    assert "nothing was run" in done.stderr
    stages = (added.path / "dvc.yaml").read_text()
    (added.path / "dvc.yaml").write_text(stages_for(stages, ["quadratic", "logistic"], ["laptop"]))
    assert added.bridge("check").returncode == 0
    added.snakemake()
    assert added.planned() == {}
    assert added.changed() == set()

    after = added.outputs()
    assert {path: after[path] for path in before if "/quadratic/" in path} == {
        path: digest for path, digest in before.items() if "/quadratic/" in path
    }
    written = {line[3:] for line in added.git("status", "--porcelain").splitlines()}
    assert written == {
        "src/reopt/tasks/logistic.py",
        "config/laptop.yaml",
        "dvc.yaml",
        "dvc.lock",
    }

    for figure in figures():
        drawing = html.unescape((added.path / RESULTS / f"figures/{figure}.svg").read_text(encoding="utf-8"))
        assert task_title("logistic") in drawing, figure
        assert task_title("quadratic") in drawing, figure

    claims = pd.read_csv(added.path / RESULTS / "claims.csv")
    rows = {task: table.set_index("claim") for task, table in claims.groupby("task")}
    assert rows.keys() == {"quadratic", "logistic"}
    assert list(rows["logistic"].index) == list(rows["quadratic"].index)
    assert set(rows["logistic"]["cell"]) == {"gru5"}
    judged = rows["logistic"]["verdict"] != "not testable"
    assert judged.sum() > len(judged) / 2

    evaluation = pd.read_csv(added.path / RESULTS / "logistic/evaluation/gru5-s0.csv")
    assert len(evaluation) == 6  # of its own block
    assert evaluation["accuracy"].between(0, 1).all()
    packed = (added.path / RESULTS / ".records/optimizers-logistic.jsonl.gz").read_bytes()
    line = json.loads(gzip.decompress(packed).splitlines()[0])
    assert line["record"]["rule"] == "metatrain"
