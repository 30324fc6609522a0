"""A newcomer clones the repository, installs it, does what the README says, fetches the results and reads the report.

uv run python tests/people/newcomer.py
"""

import tempfile
from pathlib import Path

from person import Person, clone, install, must


def block(page: str, language: str) -> str:
    """The first block of code of a page in a language."""
    return page.partition(f"```{language}\n")[2].partition("```")[0]


def newcomer(folder: Path) -> Person:
    """Do it all below a folder. **Raises** `Failed`."""
    person = Person(folder, "newcomer")
    repository = clone(person)
    install(person, repository)
    readme = (repository / "README.md").read_text(encoding="utf-8")
    must("pip install uv && uv sync" in block(readme, "sh"), "the README says how to install")

    printed = person.does(
        "the README's example", "uv", "run", "--quiet", "python", "-c", block(readme, "python"), where=repository
    )
    must(block(readme, "text").strip() in printed, f"the example prints something else:\n{printed}")
    must((repository / "examined/index.html").is_file(), "the example leaves a page")

    person.does("dvc pull", "uv", "run", "--quiet", "dvc", "pull", "--quiet", where=repository)
    said = person.does("reopt results", "uv", "run", "--quiet", "reopt", "results", where=repository)
    for name in ("laptop", "study"):
        must(f"results/{name}: " in said, f"`reopt results` names {name}:\n{said}")
        must(f"results/{name}/index.html" in said, f"`reopt results` names the page of {name}:\n{said}")
    report = ("uv", "run", "--quiet", "snakemake", "--report", "report.html")
    person.does("snakemake --report", *report, where=repository)
    must((repository / "report.html").is_file(), "there is a report")
    return person


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        newcomer(Path(place))
