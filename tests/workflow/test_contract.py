"""The contract between Snakemake and DVC, kept by this project's own Snakefile."""

import json
import shlex
from pathlib import Path

import pytest
from hard_cases import CASES
from pipeline import Pipeline

from reopt.figures.registry import figures

pytestmark = pytest.mark.long  # the toy repository's cases are not


@pytest.mark.parametrize("line", CASES)
def test_hard_case(line: str, project: Pipeline, tmp_path: Path) -> None:
    CASES[line](project, tmp_path)


def test_deleted_figures_come_back_byte_for_byte_and_only_their_page_runs_with_them(project: Pipeline) -> None:
    before = project.outputs()
    assert len([path for path in before if "/figures/" in path]) == 3 * len(figures())
    few = sorted(figures())[::4]  # CI draws all of the shipped configs again
    drawn = {path for path in before if "/figures/" in path and Path(path).stem in few}
    assert len(drawn) == 3 * len(few)
    for path in drawn:
        (project.path / path).unlink()
    assert set().union(*project.planned().values()) == drawn | {"results/laptop/index.html"}
    project.snakemake()
    assert project.outputs() == before


def test_a_config_may_be_called_like_a_command(project: Pipeline) -> None:
    odd = "config/q$(touch x) y.yaml"
    text = (project.path / project.facts.config).read_text()
    (project.path / odd).write_text(text.replace("name: laptop", "name: odd", 1))
    shown = project.run("snakemake", "-n", "-p", "--configfile", odd).stdout
    commands = [line.partition("Shell command: ")[2] for line in shown.splitlines() if "Shell command: " in line]
    assert len(commands) > len(figures())
    for command in commands:
        assert [word for word in shlex.split(command) if "touch" in word] in ([odd], [])  # one word, if it is there
    targets = ["results/odd/deviations.csv", "results/odd/quadratic/conditions.csv"]
    project.run("snakemake", "--configfile", odd, "--", *targets)
    assert all((project.path / target).is_file() for target in targets)
    assert not list(project.path.rglob("x"))


def test_the_report_is_one_page_that_names_every_figure(project: Pipeline) -> None:
    project.snakemake("--report", "report.html")
    page = (project.path / "report.html").read_text(encoding="utf-8")
    for path in project.outputs():
        if path.endswith(".svg"):
            assert f'"{path}"' in page
    assert '<script src="http' not in page
    assert 'rel="stylesheet" href="http' not in page


def test_a_verdict_is_traced_to_the_checkpoint_and_every_byte_agrees(project: Pipeline) -> None:
    command = ("reopt", "trace", "T3b", "--task", "quadratic", "--cell", "gru4", "--config", project.facts.config)
    project.run(*command, "--out", "trace.json")
    (seed,) = json.loads((project.path / "trace.json").read_text())["seeds"]
    rules = {file["rule"]: file["depth"] for file in seed["files"]}
    assert rules == {"linearize": 0, "metatrain": 1, "fixed_points": 1, "record": 2}
    assert {file["dvc"] for file in seed["files"]} == {"agrees"}
    file = project.path / project.facts.checkpoint
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    done = project.run(*command, ok=False)
    assert done.returncode == 1
    assert "dvc: differs" in done.stdout
