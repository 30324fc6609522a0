"""The comparison of figures with reference pictures."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reopt.figures.compare import ROUNDING, compare_folders, compare_pictures, main


def _picture(
    changed: int = 0,
    *,
    color: tuple[int, int, int] = (10, 20, 30),
    size: tuple[int, int] = (6, 8),
    level: int = 6,
) -> bytes:
    pixels = np.full((*size, 3), 200, dtype=np.uint8)
    pixels.reshape(-1, 3)[:changed] = color
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png", compress_level=level)
    return buffer.getvalue()


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("old", "new"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "same.png").write_bytes(_picture())
    return tmp_path / "old", tmp_path / "new"


def test_same_bytes_and_same_pixels_are_equal() -> None:
    assert compare_pictures("a", _picture(), _picture()).status == "same"
    other_bytes = compare_pictures("a", _picture(), _picture(level=0))
    assert other_bytes.status == "same pixels"
    assert other_bytes.equal


@pytest.mark.parametrize(("levels", "status"), [(ROUNDING, "same pixels"), (ROUNDING + 1, "differs")])
def test_what_rounding_does_is_no_difference(levels: int, status: str) -> None:
    found = compare_pictures("a", _picture(), _picture(1, color=(200, 200, 200 - levels)))
    assert found.status == status
    assert "1 of 48" in found.detail


def test_differing_pixels_are_counted_and_shown_where_they_are() -> None:
    found = compare_pictures("a", _picture(), _picture(3))
    assert found.status == "differs"
    assert found.detail == "3 of 48 pixels differ, by up to 190 of 255"
    assert found.difference is not None
    shown = np.asarray(Image.open(io.BytesIO(found.difference)).convert("RGB")).reshape(-1, 3)
    marked = (shown == (213, 0, 50)).all(axis=1)
    assert marked.tolist() == [True] * 3 + [False] * 45


def test_another_size_differs_without_a_difference_picture() -> None:
    found = compare_pictures("a", _picture(), _picture(size=(6, 9)))
    assert (found.status, found.difference) == ("differs", None)
    assert found.detail == "size 8×6 became 9×6"


def test_missing_and_new_pictures_are_named(folders: tuple[Path, Path]) -> None:
    old, new = folders
    (old / "gone.png").write_bytes(_picture())
    (new / "fresh.png").write_bytes(_picture())
    assert {one.name: one.status for one in compare_folders(old, new)} == {
        "deep/same.png": "same",
        "gone.png": "missing",
        "fresh.png": "new",
    }


def test_command_ends_with_0_and_says_so(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main([str(folders[0]), str(folders[1]), "--out", str(tmp_path / "out")]) == 0
    assert "0 of 1 figures differ" in capsys.readouterr().out
    assert "deep/same.png" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_command_ends_with_1_and_a_page_that_holds_the_three_pictures(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    old, new = folders
    (new / "deep" / "same.png").write_bytes(_picture(5))
    assert main([str(old), str(new), "--out", str(tmp_path / "out")]) == 1
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 3
    assert "5 of 48 pixels differ" in page
    assert not re.search(r"(src|href)='(?!data:)", page), "the page must need no other file"


@pytest.mark.parametrize("case", ["no folder", "no pictures", "not a picture"])
def test_what_cannot_be_compared_ends_with_2_in_one_line(
    case: str, folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    old, new = folders
    if case == "no folder":
        new = tmp_path / "nowhere"
    elif case == "no pictures":
        old, new = tmp_path / "out", tmp_path / "out"
        old.mkdir()
    else:
        (new / "deep" / "same.png").write_bytes(b"text")
    assert main([str(old), str(new), "--out", str(tmp_path / "page")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
