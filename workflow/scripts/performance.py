"""Write, or check, the numbers of docs/performance.md and docs/images/scaling.svg, from docs/performance.json.

    python workflow/scripts/performance.py            write them
    python workflow/scripts/performance.py --check    exit 1 and name those that are out of step

The JSON is what `python -m benchmarks --out docs/performance.json` measured; docs/torch.json, where it is, what
`TORCH_PYTHON=PYTHON uv run python -m benchmarks torch --out docs/torch.json` did. The text of the page is written by
hand; between its markers stands what this makes, and every number there is of the JSON, or of docs/estimates.csv, which
`reopt estimate --config FILE --out docs/estimates.csv` wrote after the runs of that config were timed.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reopt.core.errors import ReoptError
from reopt.core.tables import read_json, read_table, write_text
from reopt.figures.axes import log_axis, put_letter
from reopt.figures.palette import NEGATIVE, NEUTRAL
from reopt.figures.save import render
from reopt.figures.style import TEXT_WIDTH, styled

DOCS = Path("docs")
REPAIR = "uv run python workflow/scripts/performance.py"
MEASURE = "uv run python -m benchmarks --out docs/performance.json"
LABELS = {
    "scaling_units": "units",
    "scaling_problems": "problems",
    "scaling_dimension": "parameters of a problem",
    "scaling_steps": "steps of the unroll",
}


def number(value: Any, unit: str = "") -> str:
    """Three digits, or a dash."""
    if value is None or not np.isfinite(value):
        return "-"
    return f"{value:.3g}{unit}" if abs(value) < 1000 else f"{value:,.0f}{unit}"


def interval(values: Any) -> str:
    """[low, high], or a dash."""
    return "-" if values is None else f"[{number(values[0])}, {number(values[1])}]"


def machine_text(content: dict[str, Any]) -> str:
    """What it was measured on."""
    machine = content["machine"]
    return (
        f"Measured on {machine['processor']}, {len(machine['devices'])} devices, Python {machine['python']}, jax "
        f"{machine['jax']}. A product of two float32 matrices of 2,048 rows and columns reaches "
        f"{number(machine['matmul_peak_flops'] / 1e9)} GFLOP/s there, the peak of the tables below.\n"
    )


def results_text(content: dict[str, Any]) -> str:
    """A row a piece of work that has a reference."""
    lines = [
        "| work | median, s | spread, s | reference, s | spread, s | ratio | of the peak | memory, MB "
        "| reference's, MB | runs | must be reached |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in content["results"]:
        if row["ratio"] is None:
            continue
        share = "-" if row["peak_fraction"] is None else f"{row['peak_fraction']:.0%}"
        cells = [
            f"`{row['work']}`",
            number(row["median_s"]),
            interval(row.get("spread_s")),
            number(row["reference_median_s"]),
            interval(row.get("reference_spread_s")),
            number(row["ratio"]) + (f" ({row['ratio_is']})" if "ratio_is" in row else ""),
            share,
            number(row.get("temporaries_mb")),
            number(row.get("reference_temporaries_mb")),
            str(row["runs"]),
            row.get("must", "-"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def floor_text(content: dict[str, Any]) -> str:
    """How near the GRU-256 is to its matmuls alone."""
    rows = {row["work"]: row for row in content["results"]}
    if not {"matmuls_alone_gru256", "meta_gradient_gru256"} <= set(rows):
        return "Not measured.\n"
    alone, whole = rows["matmuls_alone_gru256"], rows["meta_gradient_gru256"]
    rate = alone["flops"] / alone["median_s"] / 1e9
    return (
        f"The matmuls of `meta_gradient_gru256` are {number(alone['flops'] / 1e9)} GFLOP. Alone, at their own shapes "
        f"of {alone['rows']} rows a device, they take {number(alone['median_s'])} s ({number(rate)} GFLOP/s, "
        f"{alone['peak_fraction']:.0%} of the peak); the whole meta-gradient takes {number(whole['median_s'])} s, "
        f"{number(whole['median_s'] / alone['median_s'])} times as long.\n"
    )


def scaling_rows(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows that have an exponent, in the order of `LABELS`."""
    rows = {row["work"]: row for row in content["results"] if "exponent" in row}
    return [rows[name] for name in LABELS if name in rows]


def scaling_text(content: dict[str, Any]) -> str:
    """A row a size: over what it ran, and the exponent of the time."""
    rows = scaling_rows(content)
    if not rows:
        return "Not measured.\n"
    lines = ["| size | from | to | held | exponent | 95% interval | runs a point |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        held = ", ".join(f"{key} {value}" for key, value in row["held"].items())
        first, last = row["points"][0]["value"], row["points"][-1]["value"]
        lines.append(
            f"| {LABELS[row['work']]} | {first} | {last} | {held} | {row['exponent']:.2f} | "
            f"[{row['exponent_interval'][0]:.2f}, {row['exponent_interval'][1]:.2f}] | {row['runs']} |"
        )
    return "\n".join(lines) + "\n"


def estimates_text(folder: Path = DOCS) -> str:
    """Predicted against measured minutes of the runs that were timed."""
    path = folder / "estimates.csv"
    timed = read_table(path, ("measured_minutes",)).dropna(subset="measured_minutes") if path.is_file() else None
    if timed is None or timed.empty:
        return "No run has been timed yet.\n"
    lines = ["| run | predicted, min | measured, min | predicted / measured |", "|---|---|---|---|"]
    for _, row in timed.iterrows():
        numbers = " | ".join(number(row[name]) for name in ("minutes", "measured_minutes", "predicted_to_measured"))
        lines.append(f"| `{row['task']}` `{row['subject']}` | {numbers} |")
    return "\n".join(lines) + "\n"


@styled
def scaling_figure(rows: list[dict[str, Any]]) -> Figure:
    """Seconds of a meta-gradient against each size: medians, their spread, and the fitted power."""
    figure = Figure(figsize=(TEXT_WIDTH, 1.7), layout="constrained")
    axes = figure.subplots(1, len(rows), sharey=True, squeeze=False)[0]
    for ax, letter, row in zip(axes, "abcd", rows, strict=False):
        points = pd.DataFrame(row["points"])
        sizes, medians = points["value"].to_numpy(float), points["median_s"].to_numpy()
        low, high = np.array(points["spread_s"].tolist()).T
        ax.vlines(sizes, low, high, color=NEUTRAL, linewidth=1.0, gid="spread")
        middle = np.exp(np.mean(np.log(medians)) + row["exponent"] * (np.log(sizes) - np.mean(np.log(sizes))))
        ax.plot(sizes, middle, color=NEUTRAL, linewidth=0.8, zorder=1, gid="fit")
        ax.plot(sizes, medians, "o", color=NEGATIVE, markersize=3, gid="medians")
        log_axis(ax, "x", "y")
        ax.set(xlabel=LABELS[row["work"]])
        ax.set_title(f"exponent {row['exponent']:.2f}")
        put_letter(ax, letter)
    axes[0].set_ylabel("seconds")
    return figure


def with_block(text: str, name: str, content: str) -> str:
    """The page with what stands between the markers `name` replaced. **Raises** `ReoptError` where there are none."""
    start, end = f"<!-- {name}: generated -->\n", f"<!-- end {name} -->"
    head, found, rest = text.partition(start)
    if not found or end not in rest:
        raise ReoptError(f"the page has no block {name!r}: put {start.strip()} and {end} into it")
    return head + start + content + end + rest.partition(end)[2]


def pages(folder: Path = DOCS) -> dict[Path, bytes]:
    """Path to content of what is generated. **Raises** `ReoptError` where nothing has been measured."""
    source, page = folder / "performance.json", folder / "performance.md"
    if not source.is_file():
        raise ReoptError(f"{source} is missing: measure with {MEASURE}, on a machine that does nothing else")
    content = read_json(source)
    if (beside := folder / "torch.json").is_file():  # a run of its own, for torch is no part of the environment
        content["results"] += read_json(beside)["results"]
    text = page.read_text(encoding="utf-8")
    made = {
        "machine": machine_text(content),
        "results": results_text(content),
        "floor": floor_text(content),
        "scaling": scaling_text(content),
        "estimates": estimates_text(folder),
    }
    for name, block in made.items():
        text = with_block(text, name, block)
    found = {page: text.encode()}
    if rows := scaling_rows(content):
        found[folder / "images" / "scaling.svg"] = render(scaling_figure(rows), "svg")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page is out of step")
    check = parser.parse_args().check
    try:
        made = pages()
    except ReoptError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    stale = {path: content for path, content in made.items() if not path.exists() or path.read_bytes() != content}
    for path, content in stale.items():
        print(f"out of step: {path}" if check else f"written: {path}")
        if not check:
            write_text(path, content.decode())
    if check and stale:
        print(f"repair with: {REPAIR}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
