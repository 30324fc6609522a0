"""A toy repository for the bridge: train -> record -> analyse -> figure, real git, DVC and Snakemake."""

from pathlib import Path

from pipeline import Facts, Pipeline

PROFILE = """\
cores: 1
rerun-incomplete: true
max-checksum-file-size: 1000000000000
"""

FILES = {
    "pyproject.toml": """\
[tool.snakedvc]
configs = ["config/laptop.yaml"]
exclude = ["report"]
""",
    "profiles/default/config.yaml": PROFILE,
    ".gitignore": "__pycache__/\n.snakemake/\nresults/\n",
    ".gitattributes": "* text=auto eol=lf\n.dvc-remote/** binary\n",
    "config/laptop.yaml": """\
name: laptop
train:
  steps: 20
  pause: 0
tasks:
  a: {scale: 1.0}
  b: {scale: 2.0}
figure:
  color: black
""",
    "Snakefile": """\
import os

from snakedvc import guard, own, record, section, sources

guard(workflow)
if not workflow.overwrite_configfiles:

    configfile: "config/laptop.yaml"


NAME = config["name"]
CONFIG = os.path.relpath((workflow.overwrite_configfiles or ["config/laptop.yaml"])[0])
own(workflow, f"results/{NAME}", CONFIG)


rule all:
    input:
        f"results/{NAME}/figure.svg",


rule train:
    output:
        f"results/{NAME}/train/{{task}}.npz",
    params:
        source=sources("toy.train"),
        settings=lambda wildcards: section(config, "train", f"tasks.{wildcards.task}"),
        steps=lambda wildcards: config["train"]["steps"],
        pause=lambda wildcards: config["train"]["pause"],
        scale=lambda wildcards: config["tasks"][wildcards.task]["scale"],
    shell:
        "python -m toy.train {output} {params.scale} {params.steps} {params.pause}"


rule record:
    input:
        f"results/{NAME}/train/{{task}}.npz",
    output:
        f"results/{NAME}/record/{{task}}.npz",
    params:
        source=sources("toy.record"),
    shell:
        "python -m toy.record {input} {output}"


rule analyse:
    input:
        f"results/{NAME}/record/{{task}}.npz",
    output:
        f"results/{NAME}/analyse/{{task}}.csv",
    params:
        source=sources("toy.analyse"),
    shell:
        "python -m toy.analyse {input} {output}"


rule figure:
    input:
        expand(f"results/{NAME}/analyse/{{task}}.csv", task=sorted(config["tasks"])),
    output:
        f"results/{NAME}/figure.svg",
    params:
        source=sources("toy.figure"),
        settings=section(config, "figure.color"),
        color=config["figure"]["color"],
    shell:
        "python -m toy.figure {output} {params.color} {input}"


onsuccess:
    record(workflow)
""",
    "dvc.yaml": """\
stages:
  train:
    matrix: &each {config: [laptop]}
    cmd: python -m snakedvc make 'config/${item.config}.yaml' train@${item.config}
    deps: [src/toy/__init__.py, src/toy/files.py, src/toy/model.py, src/toy/train.py]
    params:
    - config/${item.config}.yaml: [train, tasks.a, tasks.b]
    outs:
    - results/${item.config}/train: {persist: true}
    - results/${item.config}/.records/train.jsonl.gz: {persist: true}
  analysis:
    matrix: *each
    cmd: python -m snakedvc make 'config/${item.config}.yaml' analysis@${item.config}
    deps:
    - src/toy/__init__.py
    - src/toy/files.py
    - src/toy/record.py
    - src/toy/analyse.py
    - results/${item.config}/train
    outs:
    - results/${item.config}/record: {persist: true}
    - results/${item.config}/analyse: {persist: true}
    - results/${item.config}/.records/analysis.jsonl.gz: {persist: true}
  figures:
    matrix: *each
    cmd: python -m snakedvc make 'config/${item.config}.yaml' figures@${item.config}
    deps: [src/toy/__init__.py, src/toy/files.py, src/toy/figure.py, src/toy/style.py, "results/${item.config}/analyse"]
    params:
    - config/${item.config}.yaml: [figure]
    outs:
    - results/${item.config}/figure.svg: {persist: true}
    - results/${item.config}/.records/figures.jsonl.gz: {persist: true}
""",
    "src/toy/__init__.py": "",
    "src/toy/model.py": """\
import numpy as np


def step(weights, scale):
    return weights - 0.1 * scale * weights


START = np.arange(1.0, 5.0)
""",
    "src/toy/files.py": """\
import os


def save(path, write):
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(temporary, "wb") as file:
        write(file)
    os.replace(temporary, path)
""",
    "src/toy/train.py": """\
import sys
import time

from snakedvc import die_with_parent

die_with_parent()

import numpy as np

from . import files
from .model import START, step

output, scale, steps, pause = sys.argv[1:]
weights = START
for _ in range(int(steps)):
    weights = step(weights, float(scale))
    time.sleep(float(pause))
files.save(output, lambda file: np.savez(file, weights=weights))
""",
    "src/toy/record.py": """\
import sys

import numpy as np

from .files import save

weights = np.load(sys.argv[1])["weights"]
save(sys.argv[2], lambda file: np.savez(file, states=np.outer(weights, weights)))
""",
    "src/toy/analyse.py": """\
import sys

import numpy as np

from toy.files import save

states = np.load(sys.argv[1])["states"]
save(sys.argv[2], lambda file: np.savetxt(file, np.linalg.eigvalsh(states), delimiter=","))
""",
    "src/toy/figure.py": """\
import sys

import numpy as np

from toy import style
from toy.files import save

output, color, *tables = sys.argv[1:]
points = " ".join(f"{i},{np.loadtxt(table).max():.6f}" for i, table in enumerate(tables))
svg = f'<svg {style.FRAME}><polyline stroke="{color}" points="{points}"/></svg>'
save(output, lambda file: file.write(svg.encode()))
""",
    "src/toy/style.py": "FRAME = \"viewBox='0 0 10 10'\"\n",
}


def make_toy(folder: Path, environment: dict[str, str]) -> Pipeline:
    """Write the toy repository, with git, DVC and the stages; nothing has run."""
    for path, text in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    toy = Pipeline(folder, FACTS, environment)
    toy.git("init", "-q")
    toy.dvc("init", "-q")
    toy.dvc("remote", "add", "-d", "embedded", ".dvc-remote")
    toy.dvc("remote", "modify", "embedded", "verify", "true")
    (folder / ".dvcignore").write_text("__pycache__/\n*.tmp\n")
    toy.commit_git("the pipeline")
    return toy


def _add_task(config: dict) -> None:
    config["tasks"]["c"] = {"scale": 3.0}


FACTS = Facts(
    config="config/laptop.yaml",
    upstream_module="src/toy/model.py",
    upstream_rules=frozenset({"train", "record", "analyse", "figure"}),
    figure_module="src/toy/style.py",
    figure_rules=frozenset({"figure"}),
    figure_stages=frozenset({"figures@laptop"}),
    value=("figure.color", "red"),
    value_rules=frozenset({"figure"}),
    add_task=_add_task,
    added=lambda path: "/c." in path,
    added_figures=frozenset({"figure"}),
    added_gap="stage train@laptop lacks the config key tasks.c, read by rule train",
    checkpoint="results/laptop/train/a.npz",
    checkpoint_rules=frozenset({"record", "analyse", "figure"}),
    slow=("train.pause", 0.1),
)
