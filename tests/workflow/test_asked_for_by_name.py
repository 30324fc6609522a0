"""Rules that are no part of the main job run when they are asked for: the contract with DVC leaves them out."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
BESIDE = ("docs", "ship", "costs")  # files of rules whose outputs belong to no stage


def test_every_rule_beside_the_main_job_is_left_out_of_the_contract() -> None:
    """Otherwise Snakemake refuses to run it: what it makes would belong to no stage of dvc.yaml."""
    excluded = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["snakedvc"]["exclude"]
    texts = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "workflow/rules").glob("*.smk")}
    rules = {stem: set(re.findall(r"^ *rule (\w+):", text, re.MULTILINE)) for stem, text in texts.items()}
    named = r'^ *name:\n *f"(\w+){\w+}"'  # of a rule made in a loop
    rules = {stem: rules[stem] | {f"{one}*" for one in re.findall(named, texts[stem], re.MULTILINE)} for stem in rules}
    assert set(excluded) == set().union(*(rules[stem] for stem in BESIDE))
    stages = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    assert "docs/" not in stages
