"""Figures are found by their modules, and see the files that they declare."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from reopt.core.errors import ReoptError
from reopt.core.tables import write_json, write_table
from reopt.examination.parts import FILES
from reopt.examination.storage import COLUMNS
from reopt.figures import registry
from reopt.figures.registry import figure_module, figures
from reopt.figures.view import View
from reopt.pipeline.config import read_yaml
from reopt.pipeline.stages import figure_files, view

STUDY = read_yaml(Path(__file__).parents[2] / "config/study.yaml")

LIGHT = """
import json, sys
from reopt.figures.registry import figures
from reopt.pipeline.config import read_yaml
from reopt.pipeline.stages import figure_files
import reopt.examination.dissect
config = read_yaml(sys.argv[1])
files = {name: figure_files(config, name) for name in figures()}
print(json.dumps([len(files), [name for name in ("matplotlib", "seaborn") if name in sys.modules]]))
"""


def test_planning_and_dissect_import_nothing_that_draws() -> None:
    path = str(Path(__file__).parents[2] / "config/laptop.yaml")
    run = subprocess.run([sys.executable, "-c", LIGHT, path], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == [len(figures()), []]


@pytest.mark.parametrize("name", list(figures()))
def test_a_figure_has_all_that_is_asked_of_it(name: str) -> None:
    module = figure_module(name)
    assert figures()[name][:2] == (module.CATEGORY, module.READS)
    assert figures()[name].examines == hasattr(module, "of")
    assert all(callable(getattr(module, part)) for part in ("data", "figure", "caption"))
    for task in STUDY["tasks"]:
        assert view(STUDY, name, task).files


def test_files_of_groups_of_subjects_and_of_other_tasks() -> None:
    files = figure_files(STUDY, "beyond")
    shown = STUDY["tasks"]["mnist"]["shown"]
    assert f"mnist/beyond/{shown}/quadratic/transfer.csv" in files
    assert f"mnist/beyond/{shown}/mnist/transfer.csv" not in files
    assert "mnist/beyond/momentum/horizon.csv" in files
    assert "mnist/beyond/momentum/first_to_break.csv" not in files
    assert figure_files(STUDY, "claims") == ["claims.csv"]
    of_shown = {f"mnist/analysis/{shown}/{file}" for part in ("schedule", "pca") for file in FILES[part]}
    assert of_shown <= set(figure_files(STUDY, "schedule"))


def a_view(folder: Path, reads: dict[str, tuple[str, ...]]) -> View:
    subjects = {"shown": ["gru4-s0"], "task": ["bowl"]}
    return View("bowl", ["bowl", "moons"], {}, subjects, folder, reads)


def whole(file: str) -> pd.DataFrame:
    """A table of two rows with the columns that its file must have."""
    numbers, texts = (part.split() for part in COLUMNS[file].split("|"))
    return pd.DataFrame([dict.fromkeys(numbers, row) | dict.fromkeys(texts, "x") for row in range(2)])


def test_a_view_opens_what_is_declared_and_nothing_else(tmp_path: Path) -> None:
    table = pd.DataFrame({"x": [1.5, 2.0]})
    write_table(tmp_path / "bowl/a.csv", table)
    write_table(tmp_path / "bowl/b.csv", table)
    write_json(tmp_path / "all.json", {"x": 1})
    for file in ("modes.csv", "impulse.csv"):
        write_table(tmp_path / "bowl/analysis/gru4-s0" / file, whole(file))
    seen = a_view(tmp_path, {"task": ("a.csv", "/all.json"), "shown": ("modes",)})
    assert seen.files == ["bowl/a.csv", "all.json", "bowl/analysis/gru4-s0/modes.csv"]
    assert seen.table("a.csv").equals(table)
    assert seen.json("/all.json") == {"x": 1}
    assert seen.examination("gru4-s0").modes.equals(whole("modes.csv"))
    with pytest.raises(KeyError, match=r"bowl/b\.csv, which its READS do not declare"):
        seen.table("b.csv")
    with pytest.raises(ReoptError):
        _ = seen.examination("gru4-s0").impulse
    with pytest.raises(ReoptError, match="no group of subjects is called 'nobody'; there are: shown, task"):
        _ = a_view(tmp_path, {"nobody": ("modes",)}).files


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("CATEGORY = 'A'", "no READS: what is the figure drawn from"),
        ("CATEGORY = 'A'\nREADS = dict(shown=('modes',))", "READS must be written out"),
    ],
)
def test_a_figure_that_does_not_say_what_it_reads_is_refused(text: str, said: str) -> None:
    with pytest.raises(ReoptError, match=said):
        registry._declared(ast.parse(text), Path("figure.py"))


def test_an_unknown_figure_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ReoptError, match="no figure is called 'axes'; there are: adaptation, beyond"):
        figure_module("axes")
