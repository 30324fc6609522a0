"""The contract between Snakemake and DVC, kept by this project's own Snakefile."""

from pathlib import Path

import pytest
from hard_cases import CASES
from pipeline import Pipeline


@pytest.mark.parametrize("line", CASES)
def test_hard_case(line: str, project: Pipeline, tmp_path: Path) -> None:
    CASES[line](project, tmp_path)


def test_deleted_figures_come_back_byte_for_byte_and_nothing_else_runs(project: Pipeline) -> None:
    before = project.outputs()
    figures = {path for path in before if "/figures/" in path}
    assert len(figures) == 3 * 10
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
