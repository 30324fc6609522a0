"""Write, or check, every page that is made from something else: config reference, schema, numbers, pictures.

    python workflow/scripts/docs.py            write them
    python workflow/scripts/docs.py --check    exit 1 and name those that are out of step; with --without-example what
                                               the README's example prints, the half of the time, is left to its test

Numbers come from results/study, results/laptop and results/systems (`dvc pull` brings them), from docs/calibration.csv
and docs/fuzz.csv, and, what an example prints, from running it; none is typed by hand.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from textwrap import fill
from typing import Any

import pandas as pd

from reopt.figures.palette import task_title
from reopt.pipeline.claims import claims as every_claim
from reopt.pipeline.config import Config, allowed, load_config
from reopt.pipeline.stages import controlled
from reopt.report.scores import contest, problems_of, scores
from reopt.report.systems import claims_table, mechanisms_table, rivals_table
from reopt.report.verdicts import OPENINGS, replication
from reopt.shipped.cards import cards
from reopt.systems.config import load_systems
from reopt.systems.stages import read_files
from reopt.systems.summary import panels, read_summary

FIGURES = ("schedule",)


def schema() -> str:
    """The config as JSON schema, for editors."""
    return json.dumps(Config.model_json_schema(), indent=1, sort_keys=True) + "\n"


def config_page() -> str:
    """Every key of the config with its type, bounds and meaning."""
    root = Config.model_json_schema()
    lines = [
        "# Config",
        "",
        "A key that a config leaves out has its default; one without a default must be there. Unknown keys and values",
        "out of bounds are errors. `reopt check-config FILE` checks a config; with `--whole` it prints it with every",
        "default written out. This page is made from `src/reopt/pipeline/config.py`.",
    ]
    for name, section in [("(top)", root), *sorted(root["$defs"].items())]:
        lines += ["", f"## {name}", "", (section.get("description") or "").split("\n")[0], ""]
        lines += ["| key | allowed | default | meaning |", "|---|---|---|---|"]
        for key, value in section.get("properties", {}).items():
            default = "" if key in section.get("required", ()) else _default(value)
            lines.append(f"| `{key}` | {allowed(value)} | {default} | {value.get('description', '')} |")
    return "\n".join(lines) + "\n"


def _default(value: dict[str, Any]) -> str:
    """A default in a line; that of a block whose keys all have theirs is not repeated."""
    default = value["default"]
    if default == "":
        return "see there"
    if isinstance(default, dict) and default and "holds" not in default and "kind" not in default:
        return "by its keys" if "$ref" in value or "anyOf" in value else "see `--whole`"
    return f"`{json.dumps(default)}`"


def _config(name: str) -> dict[str, Any]:
    return load_config(f"config/{name}.yaml").model_dump(exclude_none=True)


def score_tables(name: str) -> list[str]:
    """A table a task: every optimizer on the held-out problems."""
    config, lines = _config(name), []
    for task in config["tasks"]:
        lines += [f"### `{name}`, {task.replace('_', ' ')}: {problems_of(config, task):,} held-out problems", ""]
        lines += ["| optimizer | | meta-objective | 95% interval |", "|---|---|---|---|"]
        found = scores(config, task, Path("results") / name)
        lines += [f"| `{score.subject}` | {score.kind} | {score.value} | {score.interval} |" for score in found]
        lines.append("")
    return lines


def verdict_table(name: str) -> list[str]:
    """A row a task and family of runs: which claims fail there, hold in part, hold, or cannot be told."""
    lines = ["| task, optimizer (seeds) | fail (seeds in which they hold) | in part | hold | undetermined |"]
    lines.append("|---|---|---|---|---|")
    for (task, cell), table in pd.read_csv(f"results/{name}/claims.csv").groupby(["task", "cell"], sort=False):
        failing = table[table["verdict"] == "fails"]
        shares = zip(failing["claim"], failing["share"] * failing["seeds"], failing["seeds"], strict=True)
        fails = ", ".join(f"{claim} ({met:.0f}/{seeds})" for claim, met, seeds in shares) or "none"
        others = [
            ", ".join(table.loc[table["verdict"] == grade, "claim"]) or "none"
            for grade in ("in part", "holds", "undetermined")
        ]
        head = f"{task.replace('_', ' ')}, `{cell}` ({table['seeds'].max()})"
        lines.append(f"| {head} | {fails} | {' | '.join(others)} |")
    return lines


def control_tables(name: str) -> list[str]:
    """A table a positive control: each reading beside what is known of it, over the seeds."""
    config, lines = _config(name), []
    for entry in config["analysis"]["controls"]:
        folder = Path("results") / name / entry["task"] / "analysis"
        runs = [run for run in controlled(config, entry["task"]) if run.rpartition("-s")[0] == entry["optimizer"]]
        table = pd.concat([pd.read_csv(folder / run / "control.csv").assign(run=run) for run in runs])
        lines += [
            f"### `{name}`, positive control: `{entry['optimizer']}` on {entry['task']}, {len(runs)} seeds",
            "",
            "Readings that are known beforehand from the authors' stored plots of the same recipe, with the range in",
            "which a reading agrees. The range stood in the config before the first run was read.",
            "",
            "| reading | | known | agrees within | seeds | in agreement |",
            "|---|---|---|---|---|---|",
        ]
        for reading, rows in table.groupby("reading", sort=False):
            one, values = rows.iloc[0], ", ".join(f"{value:.3g}" for value in rows["value"])
            span = f"{one['low']:.3g} to {one['high']:.3g}"
            what = one["what"].replace("|", "\\|")
            lines.append(
                f"| `{reading}` | {what} | {one['known']:.3g} | {span} | {values} |"
                f" {rows['agrees'].sum()} of {len(rows)} |"
            )
        lines.append("")
    return lines


def results_page() -> str:
    """Every optimizer on every task, and the verdicts on the claims."""
    lines = [
        "# Every optimizer on every task",
        "",
        "The meta-objective is the mean loss over the run, relative to the initial loss: lower is better. Problems are",
        "held out: none of them served training, validation or tuning. `study` is what this project ships; `laptop` is",
        "what `snakemake` makes in less than half an hour. Made by `workflow/scripts/docs.py` from `results/`.",
        "",
    ]
    for name in ("study", "laptop"):
        lines += [f"## {name}", "", *score_tables(name), *control_tables(name)]
        lines += [f"### `{name}`: claims", "", "What each says: [claims](claims.md).", "", *verdict_table(name), ""]
    return "\n".join(lines).rstrip() + "\n"


def results_table() -> str:
    """One line a task: the learned optimizer that was best in validation beside the best baseline."""
    config = _config("study")
    lines = [
        "| task | learned, best in validation | 95% interval | best baseline | 95% interval | problems |",
        "|---|---|---|---|---|---|",
    ]
    for task in config["tasks"]:
        found = contest(config, task, Path("results/study"))
        ours, theirs = (f"`{one.subject}` {one.value} | {one.interval}" for one in (found.learned, found.rival))
        lines.append(f"| {task_title(task)} | {ours} | {theirs} | {found.problems:,} |")
    return "\n".join(lines) + "\n"


def replicated() -> str:
    """Which claims hold in most meta-trained runs, which in hardly any, which in between: three sentences."""
    groups = replication(pd.read_csv("results/study/claims.csv")).items()
    sentences = [f"- **{OPENINGS[group][0]}**: {OPENINGS[group][1]} {text}." for group, text in groups]
    return "\n".join(fill(one, 120, subsequent_indent="  ", break_long_words=False) for one in sentences) + "\n"


def printed(page: str) -> str:
    """What the first Python block of a page prints."""
    code = page.partition("```python\n")[2].partition("```")[0]
    with tempfile.TemporaryDirectory() as folder:  # an example may write files
        done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the example of the page fails:\n{done.stderr}")
    return f"```text\n{done.stdout}```\n"


def claims_page() -> str:
    """What each claim says and how it is judged by the shipped config."""
    criteria = load_config("config/study.yaml").claims
    lines = [
        "# Claims",
        "",
        "Testable claims of arXiv 2011.02159 (T), one from the theory of linear methods (L) and one a mechanism (M),",
        "with the criteria of `config/study.yaml`, revised after earlier runs had been seen, before the tutorial arm",
        "was judged. A seed has one of three grades: the claim holds, holds in part, or fails; what cannot be read is",
        "undetermined. An optimizer has the middle grade of its seeds, of two the lower one; beside it is the effect,",
        "over seeds with its interval. g50, g90, g99 and g99.9 are quantiles of the absolute gradients met on the",
        "recorded problems. A run that diverges counts as 10. Made from `src/reopt/pipeline/claims.py`; numbers are",
        "in `results/NAME/claims.csv`, those of each run in `results/NAME/claims_seeds.csv`.",
        "",
        "| claim | statement and measured effect | holds if (in part if) |",
        "|---|---|---|",
    ]
    lines += [f"| {claim.name} | {claim.statement} | {claim.criterion(criteria)} |" for claim in every_claim()]
    return "\n".join(lines) + "\n"


def calibration() -> str:
    """The rate of false verdicts, of docs/calibration.csv (rule `calibration`)."""
    table = pd.read_csv("docs/calibration.csv")
    lines = _verdict_counts(table, "mechanism")
    false = table.groupby("draw")["false"].any()
    told = f"Of {len(false)} optimizers, {false.sum()} got a false verdict ({false.mean():.1%}). The same by kind:"
    return "\n".join([*lines, "", told, "", *_verdict_counts(table, "kind")]) + "\n"


def _verdict_counts(table: pd.DataFrame, column: str) -> list[str]:
    """A row for each value of a column, and one for all: verdicts, false and undetermined ones."""
    lines = [f"| {column} | verdicts | false | undetermined |", "|---|---|---|---|"]
    everything = pd.concat([table, table.assign(**{column: "all"})])
    for name in [*table[column].unique(), "all"]:
        part = everything[everything[column] == name]
        vague, label = (part["verdict"] == "undetermined").mean(), str(name).replace("_", " ")
        lines.append(f"| {label} | {len(part)} | {part['false'].sum()} ({part['false'].mean():.1%}) | {vague:.1%} |")
    return lines


def fuzz() -> str:
    """What became of the trials of the campaign of faults, of docs/fuzz.csv (rule `faults`)."""
    table = pd.read_csv("docs/fuzz.csv")
    lines = ["| kind | trials | done as asked | refused in one line | failed |", "|---|---|---|---|---|"]
    rows = [*table.itertuples(index=False), table.drop(columns="kind").sum()]
    for row in rows:
        name = getattr(row, "kind", "all")
        lines.append(f"| {name} | {row.trials:,} | {row.done:,} | {row.refused:,} | {row.failed:,} |")
    lines += ["", f"Seed {table['seed'].iloc[0]}."]
    return "\n".join(lines) + "\n"


def shipped() -> str:
    """What the learned optimizers that travel with the package are for."""
    lines = ["| name | steps | parameters | gradients | score | best baseline | against it |", "|---" * 7 + "|"]
    for card in cards().values():
        scope = card.scope
        sizes = f"{scope.low:.1g}, {scope.median:.1g}, {scope.high:.1g}"
        lines.append(
            f"| `{card.name}` | {scope.steps} | {scope.params} | {sizes} | {card.score} | "
            f"`{card.baseline.optimizer}` {card.baseline} | {card.verdict} |"
        )
    return "\n".join(lines) + "\n"


def systems_pages() -> dict[Path, str]:
    """The pages of the published systems with what came out, of results/systems."""
    folder, content = Path("results/systems"), load_systems(Path("config/systems.yaml"))
    summary, panels_of = read_summary(folder / "summary.csv"), panels(content)
    index = Path("docs/systems/index.md")
    claimed = "\n".join(claims_table(pd.read_csv(folder / "claims.csv"))) + "\n"
    found = {index: _with_block(index.read_text(encoding="utf-8"), "claims", claimed)}
    for system, variants in panels_of.items():
        page = Path(f"docs/systems/{content.systems[system].kind}.md")
        lines = rivals_table(summary, system, variants)
        readings = [folder / file for file in read_files(content) if file.split("/")[2].rpartition("-s")[0] == system]
        text = "\n".join([*lines, "", *mechanisms_table(readings)]) + "\n"
        found[page] = _with_block(found.get(page) or page.read_text(encoding="utf-8"), system, text)
    return found


def _with_block(page: str, name: str, text: str) -> str:
    """The page with a generated block replaced."""
    pattern = rf"(<!-- {name}: generated -->\n).*?(<!-- end {name} -->)"
    return re.sub(pattern, lambda m: m[1] + text + m[2], page, flags=re.DOTALL)


def readme(*, example: bool) -> str:
    """README.md with its table and its sentences, and its example's output if that is wanted."""
    page = Path("README.md").read_text(encoding="utf-8")
    if example:
        page = _with_block(page, "example", printed(page))
    for name, text in (("results", results_table()), ("replication", replicated())):
        page = _with_block(page, name, text)
    return page


def pages(*, example: bool) -> dict[Path, bytes]:
    """Path to content of every generated page."""
    text = {
        Path("workflow/schemas/config.schema.json"): schema(),
        Path("docs/config.md"): config_page(),
        Path("docs/claims.md"): claims_page(),
        Path("docs/results.md"): results_page(),
        Path("docs/dissect.md"): _with_block(
            Path("docs/dissect.md").read_text(encoding="utf-8"), "calibration", calibration()
        ),
        Path("docs/shipped.md"): _with_block(Path("docs/shipped.md").read_text(encoding="utf-8"), "shipped", shipped()),
        Path("docs/faults.md"): _with_block(Path("docs/faults.md").read_text(encoding="utf-8"), "fuzz", fuzz()),
        Path("README.md"): readme(example=example),
        **systems_pages(),
    }
    pictures = {Path(f"docs/images/{name}.png"): Path(f"results/study/figures/{name}.png") for name in FIGURES}
    pictures[Path("docs/images/systems.png")] = Path("results/systems/figures/systems.png")
    return {path: content.encode() for path, content in text.items()} | {
        path: source.read_bytes() for path, source in pictures.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page is out of step")
    parser.add_argument("--without-example", action="store_true", help="do not run the README's example")
    given = parser.parse_args()
    check, made = given.check, pages(example=not given.without_example)
    stale = [path for path, content in made.items() if not path.exists() or path.read_bytes() != content]
    for path in stale:
        print(f"out of step: {path}" if check else f"written: {path}")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(made[path])
    if check and stale:
        print("repair with: uv run python workflow/scripts/docs.py")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
