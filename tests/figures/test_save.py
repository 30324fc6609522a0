"""Files of figures: the same bytes again, in another process, folder, language and time zone."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import figure_catalogue as catalogue
import pytest
from matplotlib.figure import Figure

from reopt.core.errors import ReoptError
from reopt.figures.save import render, save

SHOWN = ["momentum", "clipping", "claims"]

SCRIPT = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
import figure_catalogue as catalogue
from reopt.figures.save import render
for name in sys.argv[2:]:
    figure = catalogue.module(name).figure(catalogue.arguments(name))
    for kind in ("png", "svg", "pdf"):
        print(name, kind, hashlib.sha256(render(figure, kind)).hexdigest())
"""

HOSTILE = (
    "font.size: 20\nsvg.fonttype: none\nsvg.hashsalt: other\nsavefig.dpi: 50\naxes.grid: True\nfont.family: serif\n"
)


def _figure(name: str) -> Figure:
    return catalogue.module(name).figure(catalogue.arguments(name))


@pytest.mark.long
def test_same_bytes_in_another_process_with_other_surroundings(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text(HOSTILE)
    surroundings = {
        **os.environ,
        "LC_ALL": "de_DE.UTF-8",
        "LANG": "tr_TR.UTF-8",
        "TZ": "Pacific/Kiritimati",
        "PYTHONHASHSEED": "4321",
        "HOME": str(tmp_path),
        "MPLCONFIGDIR": str(tmp_path / "config"),
        "SOURCE_DATE_EPOCH": "1",
    }
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), *SHOWN],
        cwd=tmp_path,
        env=surroundings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    here = []
    for name in SHOWN:
        figure = _figure(name)
        here += [f"{name} {kind} {hashlib.sha256(render(figure, kind)).hexdigest()}" for kind in ("png", "svg", "pdf")]
    assert run.stdout.splitlines() == here


def test_order_of_formats_and_repetition_do_not_matter() -> None:
    one, other = _figure("schedule"), _figure("schedule")
    first = [render(one, "svg"), render(one, "png"), render(one, "png")]
    second = [render(other, "png"), render(other, "svg")]
    assert first[1] == first[2] == second[0]
    assert first[0] == second[1]


def test_files_name_no_program_date_or_machine(tmp_path: Path) -> None:
    save(_figure("conditions"), tmp_path / "a.svg", tmp_path / "deep" / "a.png", tmp_path / "a.pdf")
    svg = (tmp_path / "a.svg").read_text()
    assert "<dc:date>" not in svg
    assert "Matplotlib v" not in svg
    assert "<text" not in svg, "text must be outlines, which need no font where the figure is seen"
    assert b"Software" not in (tmp_path / "deep" / "a.png").read_bytes()
    pdf = (tmp_path / "a.pdf").read_bytes()
    assert b"CreationDate" not in pdf
    assert b"Matplotlib" not in pdf
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a.pdf", "a.png", "a.svg"]


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.html"])
def test_other_formats_are_refused_with_the_allowed_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(ReoptError, match=r"use \.svg, \.png or \.pdf"):
        save(Figure(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []
