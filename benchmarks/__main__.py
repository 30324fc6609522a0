"""`python -m benchmarks --out FILE.json`: all of the suite, or the parts named."""

import argparse
import importlib
import json
import os
from pathlib import Path

PARTS = ("meta_gradient", "tune", "fixed_points")


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
        for row in importlib.import_module(f"benchmarks.{part}").run(arguments.runs, peak):
            print(f"{row['work']}: {row['ratio']:.2f} times the reference, {row['median_s']:.3g} s", flush=True)
            results.append(row)
    content = {"machine": machine() | {"matmul_peak_flops": peak}, "results": results}
    arguments.out.write_text(json.dumps(content, indent=2) + "\n")
    pd.DataFrame(results).to_csv(arguments.out.with_suffix(".csv"), index=False)


if __name__ == "__main__":
    main()
