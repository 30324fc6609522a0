"""The example of docs/snakedvc.md, followed literally where nothing but the wheel of snakedvc is installed."""

import json
import re
from pathlib import Path

import pytest
import yaml
from bare_environments import ROOT, Bare

pytestmark = pytest.mark.long
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)


def example() -> list[tuple[str, str, str]]:
    """The blocks of the section up to the commands: language, file, content."""
    text = (ROOT / "docs/snakedvc.md").read_text(encoding="utf-8")
    section = text.partition("## Three rules, from an empty folder\n")[2].partition("\n## ")[0]
    blocks = BLOCK.findall(section)
    commands = [language for language, *_ in blocks].index("sh")
    return blocks[: commands + 1]


def test_from_an_empty_folder_to_recorded_results(bridge: Bare, tmp_path: Path) -> None:
    for language, file, content in example():
        if language == "sh":
            done = [bridge.run(*line.split(), folder=tmp_path) for line in content.splitlines()]
        else:
            (tmp_path / file).parent.mkdir(exist_ok=True)
            (tmp_path / file).write_text(content, encoding="utf-8")
    began, checked, ran, status = done
    assert "written: dvc.yaml" in began.stdout
    assert checked.stdout == "dvc.yaml covers every job of Snakemake.\n"
    assert "recorded in dvc.lock: count@small, draw@small, roll@small." in ran.stderr
    assert status.stdout == "Data and pipelines are up to date.\n"

    counts = dict(line.split(",") for line in (tmp_path / "results/small/counts.csv").read_text().splitlines())
    assert list(counts) == [str(face) for face in range(1, 7)]
    assert sum(map(int, counts.values())) == 600
    locked = yaml.safe_load((tmp_path / "dvc.lock").read_text())["stages"]
    assert locked.keys() == {"roll@small", "count@small", "draw@small"}

    assert "Nothing to be done" in bridge.run("snakemake", "-n", folder=tmp_path).stdout
    config = tmp_path / "config/small.yaml"
    config.write_text(config.read_text().replace("color: black", "color: red"))
    assert jobs(bridge, tmp_path) == {"draw"}
    (tmp_path / "dice/count.py").write_text((tmp_path / "dice/count.py").read_text() + "\n# other bytes\n")
    assert jobs(bridge, tmp_path) == {"count", "draw"}
    changed = json.loads(bridge.run("dvc", "status", "--json", folder=tmp_path).stdout)
    assert changed.keys() == {"count@small", "draw@small"}

    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file() and ".dvc/" not in str(file)}
    assert bridge.run("snakedvc", "init", folder=tmp_path).stdout.startswith("next: ")  # there is nothing to write
    assert {file: file.read_bytes() for file in before} == before


def jobs(bridge: Bare, folder: Path) -> set[str]:
    """The rules that Snakemake would run now."""
    planned = bridge.run("snakemake", "-n", "--quiet", "rules", folder=folder)
    return set(re.findall(r"^(roll|count|draw) +\d", planned.stdout + planned.stderr, re.MULTILINE))
