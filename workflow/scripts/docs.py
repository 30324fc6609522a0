"""Write, or check, every page that is made from something else: config reference, schema, numbers, pictures.

    python workflow/scripts/docs.py            write them
    python workflow/scripts/docs.py --check    exit 1 and name those that are out of step

Numbers come from results/study and results/laptop (`dvc pull` brings them), and from docs/calibration.csv; none is
typed by hand.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from reopt.artifacts.checkpoint import read_checkpoint
from reopt.claims import CLAIMS
from reopt.config import Config, allowed, load_config
from reopt.stages import block, judged, learned, lookup
from reopt.training.evaluate import mean_interval

FIGURES = ("performance", "momentum")


def schema() -> str:
    """The config as JSON schema, for editors."""
    return json.dumps(Config.model_json_schema(), indent=1, sort_keys=True) + "\n"


def config_page() -> str:
    """Every key of the config with its type, bounds and meaning."""
    root = Config.model_json_schema()
    lines = [
        "# Config",
        "",
        "A config file is whole in itself; unknown keys, missing keys and values out of bounds are errors.",
        "`reopt check-config FILE` checks one. This page is made from `src/reopt/config.py`.",
    ]
    for name, section in [("(top)", root), *sorted(root["$defs"].items())]:
        lines += ["", f"## {name}", "", (section.get("description") or "").split("\n")[0], ""]
        lines += ["| key | allowed | meaning |", "|---|---|---|"]
        for key, value in section.get("properties", {}).items():
            lines.append(f"| `{key}` | {allowed(value)} | {value.get('description', '')} |")
    return "\n".join(lines) + "\n"


def _diverged(checkpoint: Path) -> int:
    """The outer step at which a learned optimizer's run ended early; 0 where it did not, and for baselines."""
    return read_checkpoint(checkpoint)[1].get("diverged", 0) if checkpoint.exists() else 0


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.2g}"


def numbers() -> str:
    """Meta-objectives of the shipped optimizers and every baseline, and the verdicts on the claims."""
    lines = []
    for name in ("study", "laptop"):
        config = load_config(f"config/{name}.yaml").model_dump(exclude_none=True)
        for task in config["tasks"]:
            rows = []
            for subject in judged(config, task):
                table = pd.read_csv(f"results/{name}/{task}/evaluation/{subject}.csv")
                values = table["meta_objective"].to_numpy()
                finite = np.isfinite(values)
                mean, low, high = mean_interval(values[finite])
                kind = "learned" if subject in learned(config, task) else "baseline"
                if ended := _diverged(Path(f"results/{name}/{task}/optimizers/{subject}/best.safetensors")):
                    kind += f", meta-training diverged at outer step {ended:,}"
                said = f"{_number(mean)} | [{_number(low)}, {_number(high)}]"
                if lost := len(values) - finite.sum():
                    said += f", but diverges on {lost} of them, left out here"
                rows.append((lost > 0, mean, f"| `{subject}` | {kind} | {said} |"))
            count = lookup(config, block(config, task, "evaluation"))["problems"]
            lines += [f"`{name}`, {task}, {count:,} held-out problems:", ""]
            lines += ["| optimizer | | meta-objective | 95% interval |", "|---|---|---|---|"]
            lines += [row for *_, row in sorted(rows)] + [""]
        claims = pd.read_csv(f"results/{name}/claims.csv")
        lines += [
            "| config, task, optimizer (seeds) | do **not** replicate (seeds in which they hold) | hold |",
            "|---|---|---|",
        ]
        for (task, cell), table in claims.groupby(["task", "cell"], sort=False):
            failing = table[table["verdict"] == "fails"]
            shares = zip(failing["claim"], failing["share"] * failing["seeds"], failing["seeds"], strict=True)
            fails = ", ".join(f"{claim} ({met:.0f}/{seeds})" for claim, met, seeds in shares) or "none"
            holds = ", ".join(table.loc[table["verdict"] == "holds", "claim"]) or "none"
            lines.append(f"| `{name}`, {task}, `{cell}` ({table['seeds'].max()}) | {fails} | {holds} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def claims_page() -> str:
    """What each claim says and how it is judged by the shipped config."""
    criteria = load_config("config/study.yaml").claims
    lines = [
        "# Claims",
        "",
        "Testable claims of arXiv 2011.02159, each with the criterion of `config/study.yaml`, which stood there before",
        "the runs. Made from `src/reopt/claims.py`; the numbers are in `results/NAME/claims.csv` and the report.",
        "",
        "| claim | statement and measured number | holds if |",
        "|---|---|---|",
    ]
    lines += [f"| {claim.name} | {claim.statement} | {claim.criterion(criteria)} |" for claim in CLAIMS]
    return "\n".join(lines) + "\n"


def calibration() -> str:
    """The rate of false verdicts, of docs/calibration.csv (rule `calibration`)."""
    table = pd.read_csv("docs/calibration.csv")
    lines = ["| mechanism | verdicts | false | undetermined |", "|---|---|---|---|"]
    everything = pd.concat([table, table.assign(mechanism="all")])
    for name in [*table["mechanism"].unique(), "all"]:
        part = everything[everything["mechanism"] == name]
        vague = (part["verdict"] == "undetermined").mean()
        lines.append(f"| {name} | {len(part)} | {part['false'].sum()} ({part['false'].mean():.1%}) | {vague:.1%} |")
    false = table.groupby("draw")["false"].any()
    lines += [
        "",
        f"Of {len(false)} optimizers without a mechanism, {false.sum()} got a false verdict ({false.mean():.1%}).",
    ]
    return "\n".join(lines) + "\n"


def _with_block(path: Path, name: str, text: str) -> str:
    """The page with its generated block replaced."""
    pattern = rf"(<!-- {name}: generated -->\n).*?(<!-- end {name} -->)"
    return re.sub(pattern, lambda m: m[1] + text + m[2], path.read_text(encoding="utf-8"), flags=re.DOTALL)


def pages() -> dict[Path, bytes]:
    """Path to content of every generated page."""
    text = {
        Path("workflow/schemas/config.schema.json"): schema(),
        Path("docs/config.md"): config_page(),
        Path("docs/claims.md"): claims_page(),
        Path("docs/dissect.md"): _with_block(Path("docs/dissect.md"), "calibration", calibration()),
        Path("README.md"): _with_block(Path("README.md"), "numbers", numbers()),
    }
    pictures = {Path(f"docs/images/{name}.png"): Path(f"results/study/figures/{name}.png") for name in FIGURES}
    return {path: content.encode() for path, content in text.items()} | {
        path: source.read_bytes() for path, source in pictures.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page is out of step")
    check = parser.parse_args().check
    stale = [path for path, content in pages().items() if not path.exists() or path.read_bytes() != content]
    for path in stale:
        print(f"out of step: {path}" if check else f"written: {path}")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pages()[path])
    if check and stale:
        print("repair with: uv run python workflow/scripts/docs.py")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
