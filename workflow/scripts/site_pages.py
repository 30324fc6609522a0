"""Pages of the site that are made while it is built: figures, claims and tables of `study`, the files of the root.

A hook of MkDocs (`hooks` in mkdocs.yml). The results are those of results/study, which `dvc pull` brings; where they
are not there, a page says so and how to get them, and the site builds all the same.
"""

import html
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from reopt.core.grades import NOT_TESTABLE
from reopt.figures.palette import task_title
from reopt.report.captions import Caption, ordered_figures, split_caption
from reopt.report.verdicts import cells, counted, counts, number, rows

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parents[2]
STUDY = "results/study"
MISSING = """!!! warning "The results are not here"
    This page is made from `{folder}`, which this copy of the repository does not hold. Fetch it with
    `uv run dvc pull`, or compute it with `uv run snakemake --configfile config/study.yaml`; then build the site again.
"""


def markdown_table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> list[str]:
    """Lines of a Markdown table."""
    header = list(header)
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]


def figures_page(study: Path) -> str:
    """Every figure of the config with its caption."""
    lines = [
        "# Figures",
        "",
        "Drawn by `snakemake --configfile config/study.yaml` from stored tables and arrays; each caption is computed",
        "with its figure. A click opens the drawing (SVG).",
    ]
    titles = [task_title(task) for task in pd.read_csv(study / "claims.csv")["task"].unique()]
    for svg in ordered_figures(study / "figures"):
        caption = split_caption(svg.with_suffix(".rst").read_text(encoding="utf-8"), titles)
        lines += ["", f"## {escaped(caption.title)}", "", *drawing(svg.stem, caption)]
    return "\n".join(lines) + "\n"


def drawing(name: str, caption: Caption) -> list[str]:
    """A figure in a box that scrolls where the window is narrower than its letters can be read in, and its caption."""
    title, text = html.escape(caption.title), html.escape(caption.text)
    lines = [
        '<figure class="drawing">',
        f'<div class="wide" tabindex="0"><a href="figures/{name}.svg">'
        f'<img src="figures/{name}.png" alt="{title}" loading="lazy"></a></div>',
        "<figcaption>" + re.sub(r"\(([a-z])\)", r"<b>(\1)</b>", text),
    ]
    if caption.tasks:
        parts = (f"<li><b>{html.escape(task)}</b>: {html.escape(words)}</li>" for task, words in caption.tasks)
        lines += ["<ul>", *parts, "</ul>"]
    return [*lines, "</figcaption>", "</figure>"]


def escaped(text: str) -> str:
    """Plain text as Markdown."""
    return re.sub(r"([\\`*_\[\]|<>])", r"\\\1", text)


def claims_page(study: Path) -> str:
    """Every claim on every task, a table a task: the number of each family of runs, and in how many seeds it holds."""
    table = pd.read_csv(study / "claims.csv")
    lines = [
        "# Verdicts on the claims",
        "",
        f"Of {sum(counts(table).values())} verdicts (a claim, a task, a family of meta-trained runs) {counted(table)}.",
        "A verdict is the middle grade of the seeds; n/N says in how many of N seeds the claim holds. Beside it is the",
        "effect, of several seeds their mean, with its 95% interval. Dashes: not testable there. What each claim says",
        "in full: [claims](../claims.md).",
    ]
    for task, of_task in table.groupby("task", sort=False):
        body = [
            [f"**{claim}**", statement, *(verdict_cell(*cell) for cell in found)]
            for claim, statement, found in rows(of_task)
        ]
        lines += ["", f"## {task_title(str(task))}", "", '<div class="claims" markdown>', ""]
        lines += markdown_table(["", "claim", *(f"`{cell}`" for cell in cells(of_task))], body)
        lines += ["", "</div>"]
    return "\n".join(lines) + "\n"


def verdict_cell(verdict: str, words: str) -> str:
    """Verdict, seeds and number of one claim on one family."""
    if verdict == NOT_TESTABLE:
        return "–"
    return f"**{verdict}** {words}" if words else verdict


def tables_page(study: Path) -> str:
    """What each mechanism is worth, the recipes that the search found, and where the config departs from the paper."""
    lines = [
        "# Tables",
        "",
        "## What each mechanism is worth",
        "",
        "Rise of the meta-objective without it: removed alone from the intact optimizer, and as the Shapley value, the",
        "mean over all orders of removal; 95% intervals over problems. A run that diverges counts as 10.",
        "",
    ]
    lines += markdown_table(["task", "optimizer", "mechanism", "alone", "Shapley value"], worth_rows(study))
    lines += ["", "## Features and scales found by the search", ""]
    keys = ("features", "input_scale", "output_scale", "learning_rate", "candidates")
    recipes = {path.parent.name: json.loads(path.read_text()) for path in sorted(study.glob("*/recipe.json"))}
    lines += markdown_table(
        ["task", *(key.replace("_", " ") for key in keys)],
        ([task_title(task), *(recipe[key] for key in keys)] for task, recipe in recipes.items()),
    )
    lines += ["", "## Where the config departs from the paper", "", "Why: [fidelity](../fidelity.md).", ""]
    table = pd.read_csv(study / "deviations.csv", dtype=str, keep_default_na=False)
    lines += markdown_table(
        table.columns, ([f"`{cell}`" if cell else "" for cell in row] for row in table.to_numpy().tolist())
    )
    return "\n".join(lines) + "\n"


def worth_rows(study: Path) -> list[list[str]]:
    """A row a mechanism of each optimizer whose mechanisms were removed."""
    rows = []
    for path in sorted(study.glob("*/analysis/*/worth.csv")):
        table = pd.read_csv(path)
        values = {
            (row.mechanism, row.quantity): f"{number(row.value)} [{number(row.low)}, {number(row.high)}]"
            for row in table.itertuples()
        }
        task, optimizer = task_title(path.parts[-4]), f"`{path.parent.name}`"
        for mechanism in table.loc[table["quantity"] == "alone", "mechanism"]:
            rows.append([task, optimizer, mechanism, values[mechanism, "alone"], values[mechanism, "shapley"]])
    return rows


def results_pages(study: Path) -> dict[str, str]:
    """Address on the site to content of every page that is made from results."""
    makers = {"figures": figures_page, "claims": claims_page, "tables": tables_page}
    titles = {"figures": "Figures", "claims": "Verdicts on the claims", "tables": "Tables"}
    there = (study / "claims.csv").is_file()
    placeholder = MISSING.format(folder=STUDY)
    return {
        f"results/{name}.md": maker(study) if there else f"# {titles[name]}\n\n{placeholder}"
        for name, maker in makers.items()
    }


def notebook_page(notebook: Path) -> str:
    """The notebook's text and code as a page, with a link to the notebook itself; it holds no outputs."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    blocks = ["".join(cell["source"]) for cell in cells]
    parts = [
        block if cell["cell_type"] == "markdown" else f"```python\n{block}\n```"
        for cell, block in zip(cells, blocks, strict=True)
    ]
    title, _, rest = parts[0].partition("\n")
    link = f"This page is a notebook without its outputs: [{notebook.name}]({notebook.name})."
    return "\n\n".join([title, link, rest.strip(), *parts[1:]]) + "\n"


def root_pages(root: Path) -> dict[str, str]:
    """README, CONTRIBUTING and CHANGELOG of the root, and the notebook, as pages, their links as seen from there."""
    names = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
    texts = {page: (root / name).read_text(encoding="utf-8") for name, page in names.items()}
    pages = {page: _relinked(text, names) for page, text in texts.items()}
    return pages | {"notebook.md": notebook_page(root / "docs/notebook.ipynb")}


def _relinked(text: str, names: dict[str, str]) -> str:
    for name, page in names.items():
        text = text.replace(f"]({name})", f"]({page})")
    return text.replace("](docs/notebook.ipynb)", "](notebook.md)").replace("](docs/", "](")


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """MkDocs calls this once it has listed docs/."""
    from mkdocs.structure.files import File

    study = ROOT / STUDY
    for address, content in (results_pages(study) | root_pages(ROOT)).items():
        files.append(File.generated(config, address, content=content))
    files.append(File.generated(config, "CITATION.cff", abs_src_path=str(ROOT / "CITATION.cff")))
    for svg in ordered_figures(study / "figures"):
        for file in (svg, svg.with_suffix(".png")):
            files.append(File.generated(config, f"results/figures/{file.name}", abs_src_path=str(file)))
    return files
