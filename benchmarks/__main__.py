"""`python -m benchmarks --out FILE.json`: all of the suite, or the parts named."""

import argparse
import importlib
import json
import os
from pathlib import Path
from typing import Any

# part: its module; torch compares with PyTorch where that is installed
PARTS = {
    "meta_gradient": "meta_gradient",
    "floor": "floor",
    "tune": "tune",
    "tap": "tap",
    "fixed_points": "fixed_points",
    "scaling": "scaling",
    "first_step": "first_step",
    "torch": "torch_reference",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write; the table goes beside it, as .csv")
    parser.add_argument("--runs", type=int, default=5, help="runs of each (default: 5)")
    arguments = parser.parse_args()
    if odd := sorted(set(arguments.parts) - set(PARTS)):
        parser.error(f"there is no part {odd[0]!r}; there are: {', '.join(PARTS)}")
    if arguments.runs < 1:
        parser.error("--runs must be at least 1")
    import jax

    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    import pandas as pd

    from benchmarks.timing import machine, matmul_peak

    peak = matmul_peak()
    results = []
    for part in arguments.parts or PARTS:
        for row in importlib.import_module(f"benchmarks.{PARTS[part]}").run(arguments.runs, peak):
            print(_words(row), flush=True)
            results.append(row)
    content = {"machine": machine() | {"matmul_peak_flops": peak}, "results": results}
    arguments.out.write_text(json.dumps(content, indent=2) + "\n")
    pd.DataFrame(results).to_csv(arguments.out.with_suffix(".csv"), index=False)


def _words(row: dict[str, Any]) -> str:
    """A row in one line."""
    if "exponent" in row:
        low, high = row["exponent_interval"]
        return f"{row['work']}: exponent {row['exponent']:.2f} [{low:.2f}, {high:.2f}]"
    if row["ratio"] is None:
        return f"{row['work']}: {row['median_s']:.3g} s"
    meaning = row.get("ratio_is", "times as fast as the reference")
    return f"{row['work']}: {row['ratio']:.2f} ({meaning}), {row['median_s']:.3g} s"


if __name__ == "__main__":
    main()
