"""The contract between Snakemake and DVC, kept by this project's own Snakefile."""

import json
from pathlib import Path

import pytest
from hard_cases import CASES
from pipeline import Pipeline

from reopt.stages import FIGURES


@pytest.mark.parametrize("line", CASES)
def test_hard_case(line: str, project: Pipeline, tmp_path: Path) -> None:
    CASES[line](project, tmp_path)


def test_deleted_figures_come_back_byte_for_byte_and_nothing_else_runs(project: Pipeline) -> None:
    before = project.outputs()
    figures = {path for path in before if "/figures/" in path}
    assert len(figures) == 3 * len(FIGURES)
    for path in figures:
        (project.path / path).unlink()
    assert set().union(*project.planned().values()) == figures
    project.snakemake()
    assert project.outputs() == before


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
