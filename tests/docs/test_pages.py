"""Pages name what there is: every public name has an entry, the README is one screen, versions agree."""

import ast
import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PACKAGES = {"reopt": "src/reopt", "reopt.optimizers": "src/reopt/optimizers", "reopt.tasks": "src/reopt/tasks"}


def public_names(folder: str) -> set[str]:
    """The names that a package offers, by its stub."""
    tree = ast.parse((ROOT / folder / "__init__.pyi").read_text(encoding="utf-8"))
    return {alias.asname for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}


def documented() -> list[str]:
    """What the pages of the API have an entry for."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in sorted((DOCS / "api").glob("*.md")))
    return re.findall(r"^::: (\S+)$", text, re.MULTILINE)


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"workflow/scripts/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_public_name_has_one_entry() -> None:
    entries = documented()
    assert len(entries) == len(set(entries))
    top = public_names(PACKAGES["reopt"])
    packages = {name for name in top if f"reopt.{name}" in PACKAGES}
    assert packages == {"optimizers", "tasks"}
    wanted = {f"reopt.{name}" for name in top - packages}
    for package in packages:  # what is a name of reopt itself has its entry there
        wanted |= {f"reopt.{package}.{name}" for name in public_names(PACKAGES[f"reopt.{package}"]) - top}
    assert wanted - set(entries) == set()
    of_a_package = [entry for entry in entries if entry.count(".") == 1 or entry.rpartition(".")[0] in PACKAGES]
    assert set(of_a_package) - wanted == set(), "an entry for a name that is not there"


def test_the_readme_is_one_screen_and_its_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (ROOT / target).is_file(), target


def test_every_page_is_in_the_navigation() -> None:
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", lambda *_: None)
    config = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)
    listed = set(re.findall(r"[\w/]+\.md", str(config["nav"])))
    made = script("site_pages").root_pages(ROOT).keys() | {
        f"results/{name}.md" for name in ("figures", "claims", "tables")
    }
    made |= {"atlas/index.md"}
    assert listed == made | {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert citation["version"] == project["version"]
    assert re.search(r"^## ([\d.]+)", changelog, re.MULTILINE)[1] == project["version"]


def test_pages_of_results_say_where_results_are_missing(tmp_path: Path) -> None:
    pages = script("site_pages").results_pages(tmp_path)
    assert pages.keys() == {"results/figures.md", "results/claims.md", "results/tables.md"}
    assert all("uv run dvc pull" in text for text in pages.values())


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Results of one task: two claims, one of them not testable, one figure and what a mechanism is worth."""
    row = {
        "task": "bowl",
        "statement": "It works (share)",
        "criterion": "at least 0.9",
        "share_low": 0.3,
        "share_high": 1.0,
    }
    claims = [
        row
        | {
            "claim": "T1",
            "cell": "gru8",
            "value": 0.5,
            "low": 0.25,
            "high": 0.75,
            "seeds": 3,
            "share": 2 / 3,
            "verdict": "fails",
        },
        row
        | {
            "claim": "T2",
            "cell": "gru8",
            "value": None,
            "low": None,
            "high": None,
            "seeds": 0,
            "share": None,
            "verdict": "not testable",
        },
    ]
    pd.DataFrame(claims).to_csv(tmp_path / "claims.csv", index=False)
    pd.DataFrame({"task": ["bowl"], "key": ["units"], "here": [8]}).to_csv(tmp_path / "deviations.csv", index=False)
    worth = tmp_path / "bowl/analysis/gru8-s0/worth.csv"
    worth.parent.mkdir(parents=True)
    values = {"value": [1.5, 2.5], "low": [1, 2], "high": [2, 3]}
    pd.DataFrame({"mechanism": ["momentum"] * 2, "quantity": ["alone", "shapley"], **values}).to_csv(worth, index=False)
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/schedule.svg").touch()
    (tmp_path / "figures/schedule.rst").write_text("Schedules. (a) The rate <b>|g|</b>. Bowl: it falls.")
    return tmp_path


def test_pages_of_results_show_what_is_there(study: Path) -> None:
    pages = script("site_pages").results_pages(study)
    assert "Of 1 verdicts" in pages["results/claims.md"]
    assert "| **T1** | It works | **fails** 2/3: 0.5 [0.25, 0.75] |" in pages["results/claims.md"]
    assert "| **T2** | It works | – |" in pages["results/claims.md"]
    assert "| Bowl | `gru8-s0` | momentum | 1.5 [1, 2] | 2.5 [2, 3] |" in pages["results/tables.md"]
    figures = pages["results/figures.md"]
    assert "## Schedules\n" in figures
    picture, _, caption = figures.partition("<figcaption>")
    assert '<img src="figures/schedule.png"' in picture
    assert "<b>(a)</b> The rate &lt;b&gt;|g|&lt;/b&gt;." in caption
    assert "<li><b>Bowl</b>: it falls.</li>" in caption


def entry_of(key: str, momentum: str, **facts: object) -> dict:
    findings = [
        {"mechanism": name, "verdict": momentum if name == "momentum" else "absent", "why": "so it is", "readings": []}
        for name in ("momentum", "clipping", "schedule", "adaptation", "remainder")
    ]
    base = {
        "key": key,
        "name": f"optax.{key}",
        "family": "optax",
        "kind": "component-wise",
        "note": "",
        "pairs": [1, 1],
    }
    return base | {"findings": findings, "caption": None, "foretold": ["it rests"], "largest_stable": 2.0} | facts


def test_a_page_of_the_atlas_says_what_it_equals_and_in_what_it_differs() -> None:
    found = {
        "ball": entry_of("ball", "present"),
        "plain": entry_of("plain", "absent", largest_stable="inf"),
        "norm": {
            "key": "norm",
            "name": "optax.norm",
            "family": "optax",
            "kind": "couples parameters",
            "note": "a norm",
        },
    }
    near = {"equal": [], "scaled": ["plain"], "near": [["plain", 0.25]]}
    pages = script("atlas_pages")
    page = pages.subject_page(found["ball"], found, near)
    assert "The same updates up to a constant factor: [`optax.plain`](plain.md)." in page
    assert "Near: [`optax.plain`](plain.md), 0.25 apart; momentum is absent there." in page
    assert "- it rests" in page
    assert "A norm." in pages.subject_page(found["norm"], found, {})
    table = pages.index_page(found, {"versions": {"optax": "1"}, "relatives": {"ball": near}})
    assert "3 subjects, 2 of them" in table
    assert 'data-value="1e999">∞' in table  # a number of JavaScript that sorts last
    assert 'data-words="optax.ball optax component-wise momentum:present' in table


def test_a_small_picture_keeps_its_proportions() -> None:
    """-1 to 1 across 2 to 70 and up from 26 to 2; the lines at 0 cross in the middle."""
    drawn = script("atlas_pages").spark([(-1.0, -1.0), (0.0, 0.0), (1.0, 1.0)], "a line")
    assert 'points="2,26 36,14 70,2"' in drawn
    assert 'd="M0 14H72M36 0V28"' in drawn
    assert script("atlas_pages").spark([], "nothing") == ""
