"""The project's pages in a browser: they fit the window, letters are large and dark enough, figures have captions.

That the checks see what is wrong is tested by pages with one fault each.
"""

import base64
import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import matplotlib
import pytest
from matplotlib.figure import Figure
from PIL import Image

ROOT = Path(__file__).parents[2]
KEPT_BYTES = 300_000


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("screenshots", ROOT / "workflow/scripts/screenshots.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawing four inches wide, its smallest text 6 pt; as SVG, and as PNG of 100 dots to the inch."""
    file = tmp_path_factory.mktemp("drawing") / "drawing.svg"
    with matplotlib.rc_context({"svg.fonttype": "path", "xtick.labelsize": 8, "ytick.labelsize": 10}):
        figure = Figure(figsize=(4, 2))
        figure.subplots().set_xlabel("small", fontsize=6)
        figure.savefig(file)
        figure.savefig(file.with_suffix(".png"), dpi=100)
    return file


def test_the_smallest_letter_of_a_drawing_is_found_and_scaled(script: ModuleType, drawing: Path) -> None:
    assert script.smallest_text(drawing.read_text()) == pytest.approx(6, abs=0.01)
    data = "data:image/svg+xml;base64," + base64.b64encode(drawing.read_bytes()).decode()
    for source in (data, drawing.as_uri(), drawing.with_suffix(".png").as_uri()):
        assert script.letters_of(source, 432) == pytest.approx(9, abs=0.01)  # 1.5 pixels a point


def test_a_bitmap_alone_goes_by_its_resolution(script: ModuleType, drawing: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.png"
    alone.write_bytes(drawing.with_suffix(".png").read_bytes())
    assert script.letters_of(alone.as_uri(), 288) == pytest.approx(7, abs=0.01)  # of the style, at a pixel a point
    Image.new("RGB", (10, 10)).save(tmp_path / "plain.png")
    assert script.letters_of((tmp_path / "plain.png").as_uri(), 10) is None


def test_pictures_in_the_documentation_are_small_and_shown(script: ModuleType) -> None:
    files = sorted((ROOT / script.PICTURES).iterdir())
    assert [file.stem for file in files] == sorted(script.KEPT)
    assert sum(file.stat().st_size for file in files) < KEPT_BYTES
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))
    assert all(f"(images/pages/{file.name})" in pages for file in files)


def run(*words: str) -> list[str]:
    """What the script complains of. Skips where no browser can be had, which takes root and apt."""
    command = ("uv", "run", "--quiet", "--group", "browser", "--group", "docs", "python")
    done = subprocess.run(
        [*command, "workflow/scripts/screenshots.py", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if "no Chromium or Chrome is installed" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode in (0, 1), done.stderr
    lines = done.stdout.splitlines()
    assert (done.returncode == 0) == (lines[-1:] == ["nothing reads badly"])
    return [] if done.returncode == 0 else lines


FAULTS = {
    "wide": ('<div style="width: 500px">too wide</div>', "wider than the window: <div> too wide"),
    "tiny": ('<p style="font-size: 8px">tiny</p>', "a letter of 8.0 px: <p> tiny"),
    "inline": (
        '<svg viewBox="0 0 100 20" width="50"><text y="15" font-size="12">drawn</text></svg>',
        "a letter of 6.0 px: <text> drawn",
    ),
    "drawing": (
        '<img src="{drawing}" style="width: 300px" alt="c">',
        "a letter of 6.2 px in a drawing: <img> c",
    ),
    "faint": ('<p style="color: #999; background: #fff">faint</p>', "faint: <p> faint: 2.8"),
    "broken": ('<img src="nowhere.png" alt="lost">', "a picture that does not load: <img> lost"),
    "bare": ("<figure><p>bare</p></figure>", "no caption below: <figure> bare"),
    "above": (
        '<figure><figcaption>first</figcaption><svg width="40" height="20"></svg></figure>',
        "no caption below: <figure> first",
    ),
}
SOUND = """<div style="overflow-x: auto"><div style="width: 900px">a wide table</div></div>
<figure><svg width="40" height="20"></svg><figcaption>below</figcaption></figure>
<p style="visibility: hidden; font-size: 3px">unseen</p>"""


@pytest.mark.system
def test_each_fault_is_seen_and_nothing_else(drawing: Path, tmp_path: Path) -> None:
    head = '<!doctype html><body style="color: black; background: white">'
    pages = {name: text.replace("{drawing}", drawing.as_uri()) for name, (text, _) in FAULTS.items()} | {"sound": SOUND}
    for name, text in pages.items():
        (tmp_path / f"{name}.html").write_text(head + text, encoding="utf-8")
    found = run(*(str(tmp_path / f"{name}.html") for name in pages), "--out", str(tmp_path / "out"))
    for name, (_, words) in FAULTS.items():
        of_page = [line for line in found if line.startswith(f"{name}-390-")]
        expected = [f"{name}-390-{scheme}: {words}" for scheme in ("light", "dark")]
        if name == "wide":  # the window scrolls then
            of_page = [line for line in of_page if "the page is" not in line]
        assert of_page == expected
    assert not [line for line in found if line.startswith("sound")]


@pytest.mark.system
def test_the_projects_own_pages_read_well(tmp_path: Path) -> None:
    assert run("--out", str(tmp_path)) == []
    assert len(list(tmp_path.glob("*.png"))) == 7 * 4
    assert Image.open(tmp_path / "results-390-dark.png").getpixel((2, 2))[:3] == (22, 24, 26)  # --paper in the dark
