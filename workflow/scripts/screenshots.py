"""Pictures of pages in a browser, at the widths of a phone and of a desk, light and dark, and what reads badly in them.

    uv run --group browser python workflow/scripts/screenshots.py [NAME=]PAGE.html ... --out FOLDER
    uv run --group browser --group docs python workflow/scripts/screenshots.py --out FOLDER

The first takes pictures of pages that are there. The second first makes the project's own: the page of a dissection,
the page of results of `study`, and the documentation site; it needs results/study (`dvc pull`) and takes a minute or
two. `--keep` also writes the pictures that the documentation shows.

FOLDER/NAME-WIDTH-SCHEME.png shows a page's first screen (`--whole`: all of it). What does not hold is printed, and the
exit status is 1: nothing is wider than the window, unless it scrolls in a box of its own; no letter that is seen is
smaller than 9 CSS pixels, those in drawings as they are scaled included; letters stand out from their ground by a
contrast of 4.5 (WCAG 2.1, criterion 1.4.3), large ones by 3; pictures load; each figure has a caption below it.

The browser is an installed Chromium or Chrome; as root one is installed by apt.
"""

import argparse
import base64
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from PIL import Image

from reopt.figures.style import RC

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WIDTHS = {390: 844, 1280: 800}
"""Width to height of the windows, in CSS pixels."""

SCHEMES = ("light", "dark")
SMALLEST = 9.0
"""Size of the smallest letter, in CSS pixels."""

PATIENCE = 300_000
"""Milliseconds that a page may take to load, on a machine that does other work."""

POINTS = 72
"""To the inch."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
NO_BROWSER = "no Chromium or Chrome is installed; on Debian or Ubuntu: apt-get install chromium"

SEEN = r"""() => {
  const tell = (e) => {
    const words = (e.textContent || e.getAttribute("alt") || "").trim().replace(/\s+/g, " ").slice(0, 40);
    return `<${e.tagName.toLowerCase()}${e.className && e.className.baseVal === undefined
      ? " class=" + e.className : ""}> ${words}`;
  };
  const shown = (e) => {
    if (!e.checkVisibility({opacityProperty: true, visibilityProperty: true})) return false;
    const box = e.getBoundingClientRect();
    if (box.width < 1 || box.height < 1) return false;
    for (let up = e; up; up = up.parentElement) {  // text for screen readers alone is clipped to a pixel
      const style = getComputedStyle(up), own = up.getBoundingClientRect();
      if (style.clip !== "auto" || (style.overflow === "hidden" && (own.width <= 1 || own.height <= 1))) return false;
    }
    return true;
  };
  const boxed = (e) => {  // does it scroll, or is it cut, in a box that is inside the window?
    for (let up = e.parentElement; up && up !== document.body; up = up.parentElement) {
      const inside = up.getBoundingClientRect().right <= innerWidth + 1;
      if (inside && getComputedStyle(up).overflowX !== "visible") return true;
    }
    return false;
  };
  const channels = (text) => {
    const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number);
    return text.startsWith("color(") ? [r * 255, g * 255, b * 255, a] : [r, g, b, a];
  };
  const over = ([r, g, b, a], [x, y, z]) => [r * a + x * (1 - a), g * a + y * (1 - a), b * a + z * (1 - a), 1];
  const luminance = ([r, g, b]) => {
    const linear = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  };
  const ground = (e) => {
    const layers = [];
    for (let up = e; up; up = up.parentElement) layers.push(channels(getComputedStyle(up).backgroundColor));
    const dark = getComputedStyle(document.documentElement).colorScheme.includes("dark")
      && matchMedia("(prefers-color-scheme: dark)").matches;
    return layers.reverse().reduce((below, layer) => over(layer, below), dark ? [18, 18, 18, 1] : [255, 255, 255, 1]);
  };
  const wide = [], letters = [], faint = [];
  for (const e of document.body.querySelectorAll("*")) {
    if (!(e instanceof HTMLElement) || !shown(e)) continue;
    if (e.getBoundingClientRect().right > innerWidth + 1 && !boxed(e)) wide.push(tell(e));
  }
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const e = texts.currentNode.parentElement, words = texts.currentNode.textContent.trim();
    if (!words || !shown(e) || e.closest("script, style")) continue;
    const style = getComputedStyle(e), drawn = e.ownerSVGElement ? e.getScreenCTM() : null;
    const size = parseFloat(style.fontSize) * (drawn ? Math.sqrt(Math.abs(drawn.a * drawn.d - drawn.b * drawn.c)) : 1);
    letters.push([size, tell(e)]);
    if (drawn) continue;
    const behind = ground(e), ink = over(channels(style.color), behind);
    const [low, high] = [luminance(behind), luminance(ink)].sort((x, y) => x - y);
    const contrast = (high + 0.05) / (low + 0.05);
    const large = size >= 24 || (size >= 18.66 && parseInt(style.fontWeight) >= 700);
    if (contrast < (large ? 3 : 4.5)) faint.push(`${tell(e)}: ${contrast.toFixed(1)}`);
  }
  const drawings = [...document.images].filter((e) => e.naturalWidth && shown(e)).map(
    (e) => ({source: e.currentSrc, width: e.clientWidth - parseFloat(getComputedStyle(e).paddingLeft)
      - parseFloat(getComputedStyle(e).paddingRight), natural: e.naturalWidth, words: tell(e)}));
  const broken = [...document.images].filter((e) => !e.complete || !e.naturalWidth).map(tell);
  const figures = [...document.querySelectorAll("figure")].filter(shown).map((e) => {
    const caption = e.querySelector("figcaption"), picture = e.querySelector("img, svg");
    const box = caption && shown(caption) && caption.textContent.trim() ? caption.getBoundingClientRect() : null;
    return {words: tell(e), below: box !== null && (!picture || box.top >= picture.getBoundingClientRect().bottom - 1)};
  });
  return {window: innerWidth, page: document.documentElement.scrollWidth, wide, letters, faint, drawings, broken,
    figures};
}"""


def smallest_text(svg: str) -> float | None:
    """Size of the smallest text of a drawing by matplotlib, in units of its view box; None where it has none.

    Text is outlines there, each in a group that scales glyphs of 100 units an em; the comment before it is the text.
    """
    sizes = [float(size) * 100 for size in re.findall(r"<!-- [^>]* -->\s*<g [^>]*scale\(([\d.]+) -\1\)", svg)]
    sizes += [float(size) for size in re.findall(r"font(?:-size)?: *(?:bold )?([\d.]+)px", svg)]
    return min(sizes, default=None)


def letters_of(source: str, width: float) -> float | None:
    """Size in CSS pixels of the smallest letter of a picture that is shown `width` pixels wide; None if not known.

    Of a bitmap by the drawing (SVG) that lies beside it, made from the same figure, or else by its resolution: the
    project's style has no smaller letters than those of the ticks.
    """
    if source.startswith("data:"):
        kind, _, content = source.partition(",")
        svg = base64.b64decode(content).decode() if ";base64" in kind else unquote(content)
        if "svg" not in kind:
            return None
    else:
        file = Path(unquote(urlparse(source).path))
        if not file.with_suffix(".svg").is_file():
            return _letters_of_bitmap(file, width)
        svg = file.with_suffix(".svg").read_text(encoding="utf-8")
    size, view = smallest_text(svg), re.search(r'viewBox="[-\d.]+ [-\d.]+ ([\d.]+) ', svg)
    return None if size is None or view is None else size * width / float(view[1])


def _letters_of_bitmap(file: Path, width: float) -> float | None:
    with Image.open(file) as picture:
        dpi = picture.info.get("dpi")
        return RC["xtick.labelsize"] * width / (picture.width / dpi[0] * POINTS) if dpi else None


def complaints(seen: dict[str, Any]) -> Iterator[str]:
    """What reads badly, a line each, from what the browser has measured."""
    if seen["page"] > seen["window"]:
        yield f"the page is {seen['page']} px wide in a window of {seen['window']} px"
    yield from (f"wider than the window: {words}" for words in seen["wide"])
    yield from (f"a letter of {size:.1f} px: {words}" for size, words in seen["letters"] if size < SMALLEST)
    for picture in seen["drawings"]:
        size = letters_of(picture["source"], picture["width"])
        if size is not None and size < SMALLEST:
            yield f"a letter of {size:.1f} px in a drawing: {picture['words']}"
    yield from (f"faint: {words}" for words in seen["faint"])
    yield from (f"a picture that does not load: {words}" for words in seen["broken"])
    yield from (f"no caption below: {figure['words']}" for figure in seen["figures"] if not figure["below"])


def find_browser() -> str:
    """Path of an installed browser; as root one is installed where there is none. **Raises** `SystemExit`."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        for words in (["update", "-qq"], ["install", "-qq", "--yes", "--no-install-recommends", "chromium"]):
            subprocess.run(["apt-get", *words], check=False, stdout=subprocess.DEVNULL)
        found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise SystemExit(NO_BROWSER)
    return found


@contextmanager
def browser() -> Iterator["Browser"]:
    """A browser without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        launched = player.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        try:
            yield launched
        finally:
            launched.close()


def look(page: "Page", address: str) -> dict[str, Any]:
    """Open an address and measure what is seen there, pictures below the first screen included."""
    page.goto(address, wait_until="load")
    page.evaluate("for (const one of document.images) one.loading = 'eager'")
    page.wait_for_function("[...document.images].every((one) => one.complete)")
    seen: dict[str, Any] = page.evaluate(SEEN)
    return seen


def screenshots(
    pages: dict[str, str], out: Path, *, widths: dict[int, int] | None = None, whole: bool = False, check: bool = True
) -> list[str]:
    """Pictures of pages (name to address) in a folder; the complaints about them, a line each."""
    found = []
    out.mkdir(parents=True, exist_ok=True)
    with browser() as one:
        for width, height in (widths or WIDTHS).items():
            for scheme in SCHEMES:
                window = one.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
                window.set_default_timeout(PATIENCE)
                for name, address in pages.items():
                    seen = look(window, address)
                    file = out / f"{name}-{width}-{scheme}.png"
                    window.screenshot(path=file, full_page=whole)
                    if check:
                        found += [f"{file.stem}: {words}" for words in dict.fromkeys(complaints(seen))]
                window.close()
    return found


def own_pages(folder: Path) -> dict[str, Path]:
    """Make the project's pages in a folder: name to file. **Raises** `SystemExit` where results are missing."""
    from reopt.pipeline.config import read_yaml
    from reopt.report.page import PAGE, results_page

    study = Path("results/study").absolute()
    if not (study / "claims.csv").is_file():
        raise SystemExit("results/study is not here: fetch it with `uv run dvc pull`")
    results = folder / "results"
    results.mkdir()
    (results / "figures").symlink_to(study / "figures")
    (results / PAGE).write_text(results_page(read_yaml(Path("config/study.yaml")), study), encoding="utf-8")
    for command in (
        ["reopt", "dissect", "optax:adam(1e-2)", "--task", "quadratic", "--out", str(folder / "dissection")],
        ["mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder / "site")],
    ):
        subprocess.run(command, check=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"})
    site = {"site": "index", "site-results": "results/figures", "site-claims": "results/claims"}
    site |= {"site-mechanism": "mechanisms/momentum", "site-api": "api/examination"}
    pages = {"dissection": folder / "dissection/index.html", "results": results / PAGE}
    return pages | {name: folder / f"site/{page}.html" for name, page in site.items()}


KEPT = {  # what the documentation shows: window and width of the picture, in pixels
    "dissection-1280-light": 800,
    "dissection-390-dark": 390,
    "results-1280-light": 800,
    "results-390-dark": 390,
}
PICTURES = Path("docs/images/pages")


def shrink(file: Path, width: int, out: Path) -> None:
    """A screenshot as WebP of the given width, for the documentation."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(file) as picture:
        height = round(picture.height * width / picture.width)
        small = picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    small.save(out, quality=80, method=6)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", help="a file, or NAME=FILE; default: the project's own pages")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--whole", action="store_true", help="all of each page, not its first screen")
    parser.add_argument("--no-check", action="store_true", help="pictures only")
    parser.add_argument("--keep", action="store_true", help=f"also write those of the documentation: {PICTURES}")
    arguments = parser.parse_args()
    if arguments.keep and (arguments.pages or arguments.whole):
        parser.error("--keep is for the first screens of the project's own pages")
    with tempfile.TemporaryDirectory() as folder:
        pages = dict(_named(words, parser) for words in arguments.pages) or own_pages(Path(folder))
        addresses = {name: file.resolve().as_uri() for name, file in pages.items()}
        found = screenshots(addresses, arguments.out, whole=arguments.whole, check=not arguments.no_check)
    for name, width in KEPT.items() if arguments.keep else ():
        shrink(arguments.out / f"{name}.png", width, PICTURES / f"{name}.webp")
    print("\n".join(found) or "nothing reads badly")
    return int(bool(found))


def _named(words: str, parser: argparse.ArgumentParser) -> tuple[str, Path]:
    name, _, file = words.rpartition("=")
    if not Path(file).is_file():
        parser.error(f"{file} is not a file")
    return name or Path(file).stem, Path(file)


if __name__ == "__main__":
    sys.exit(main())
