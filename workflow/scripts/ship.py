"""Write, or check, the learned optimizers that travel with the package: src/reopt/shipped.

    python workflow/scripts/ship.py            write them
    python workflow/scripts/ship.py --check    exit 1 where they are out of step with the results

Of each task and network of results/study the run that did best in validation; run by the rule `ship`:
uv run snakemake ship --configfile config/study.yaml
"""

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reopt.core.checkpoint import read_checkpoint
from reopt.core.provenance import file_digest
from reopt.core.tables import read_arrays, read_json, write_json
from reopt.evaluation.evaluate import mean_interval
from reopt.pipeline.config import load_config
from reopt.pipeline.stages import baselines_of, block, lookup
from reopt.tasks.registry import task_module

CONFIG = "config/study.yaml"
SHIPPED = Path("src/reopt/shipped")
MOST_BYTES = 2**18  # of a checkpoint: what is larger is left out
MOST_BYTES_OF_ALL = 10**6
CELLS = {"gru": "GRU", "lstm": "LSTM", "vanilla": "vanilla RNN"}


def rounded(value: float) -> float:
    """A number to six significant digits: enough to read, and the same on every processor."""
    return float(f"{value:.6g}")


def best_run(folder: Path, network: str, seeds: list[int]) -> str:
    """The run of a network that did best in validation; one whose training diverged only where all did."""

    def rank(run: str) -> tuple[bool, float]:
        found = read_checkpoint(folder / run / "best.safetensors")[1]
        return bool(found.get("diverged")), found.get("validation_meta_objective", math.inf)

    return min((f"{network}-s{seed}" for seed in seeds), key=rank)


def score(table: Path, optimizer: str) -> dict[str, Any]:
    """Mean, interval and number of diverged runs, of an evaluation."""
    values = pd.read_csv(table)["meta_objective"].to_numpy()
    finite = np.isfinite(values)
    mean, low, high = (rounded(value) for value in mean_interval(values[finite]))
    return {"optimizer": optimizer, "mean": mean, "low": low, "high": high, "diverged": int((~finite).sum())}


def scope(recording: Path, steps: int, params: int) -> dict[str, Any]:
    """Sizes of the gradients of recorded runs, see `reopt.shipped.cards.Scope`."""
    sizes = np.abs(read_arrays(recording, ("gradients",))["gradients"].astype(np.float64))
    used = np.where(np.isfinite(sizes) & (sizes > 0), sizes, np.nan)
    low, median, high = (rounded(value) for value in np.nanquantile(used[0], (0.05, 0.5, 0.95)))
    largest = rounded(np.nanquantile(used, 0.999))
    return {"steps": steps, "params": params, "low": low, "median": median, "high": high, "largest": largest}


def recipe(description: dict[str, Any]) -> str:
    """How a run was trained, in a line."""
    network, training = description["optimizer"], description["training"]
    clipping = training.get("cotangent_clipping", training.get("calm"))  # of earlier checkpoints
    inputs = {"raw": "the gradient", "log1p": "log and sign of the gradient"}[network["features"]]
    parts = [
        f"{CELLS[network['cell']]} of {network['units']} units on {inputs} times {network['input_scale']:g}, "
        f"its output times {network['output_scale']:g}",
        f"{training['outer_steps']} outer steps of {training['problems']} problems",
        f"meta-gradients: {training['estimator']['kind']}"
        + (f", cotangents clipped at {clipping['factor']:g}" if clipping else ""),
        f"Adam at {training['learning_rate']:g}, {training['schedule']['kind']} schedule",
        f"seed {description['seed']}",
    ]
    return "; ".join(parts)


def shipment() -> tuple[dict[str, Any], dict[str, Path]]:
    """The content of cards.json, and the checkpoint of each name in it."""
    config = load_config(CONFIG).model_dump(exclude_none=True)
    cards, files, left_out = [], {}, {}
    for task, entry in config["tasks"].items():
        results = Path("results") / config["name"] / task
        module = task_module(task)
        params = module.create(module.Settings.model_validate(entry["problem"])).num_params
        evaluation = lookup(config, block(config, task, "evaluation"))
        baselines = [score(results / f"evaluation/{name}.csv", name) for name in baselines_of(config, task)]
        baseline = min(baselines, key=lambda found: (found["diverged"], found["mean"]))
        for network, settings in entry["optimizers"].items():
            name = f"{task}/{network}"
            run = best_run(results / "optimizers", network, settings["seeds"])
            path = results / "optimizers" / run / "best.safetensors"
            if path.stat().st_size > MOST_BYTES:
                left_out[name] = f"it is {path.stat().st_size / 1e6:.1f} MB, and only small ones are shipped"
                continue
            description = read_checkpoint(path)[1]
            ended = description.get("diverged")
            files[name] = path
            cards.append(
                {
                    "name": name,
                    "task": task,
                    "problem": entry["problem"],
                    "scope": scope(results / f"analysis/{run}/record.npz", description["num_steps"], params),
                    "recipe": recipe(description),
                    "score": score(results / f"evaluation/{run}.csv", run),
                    "baseline": baseline,
                    "problems": evaluation["problems"],
                    "seed": evaluation["seed"],
                    "run": f"{config['name']}/{task}/{run}",
                    "version": read_json(path.with_name("provenance.json"))["versions"]["reopt"],
                    "license": "Apache-2.0",
                    "sha256": file_digest(path),
                    "remark": f"its meta-training diverged at outer step {ended}" if ended else "",
                }
            )
    return {"cards": cards, "left_out": left_out}, files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where they are out of step")
    check = parser.parse_args().check
    content, files = shipment()
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "cards.json", content)
        made = {SHIPPED / "cards.json": (Path(folder) / "cards.json").read_bytes()}
    made |= {SHIPPED / f"{name}.safetensors": path.read_bytes() for name, path in files.items()}
    size = sum(map(len, made.values()))
    if size > MOST_BYTES_OF_ALL:
        raise SystemExit(f"the shipped optimizers take {size} bytes, more than {MOST_BYTES_OF_ALL}: lower MOST_BYTES")
    stale = [path for path, data in made.items() if not path.exists() or path.read_bytes() != data]
    extra = [path for path in SHIPPED.glob("*/*.safetensors") if path not in made]
    for path in [*stale, *extra]:
        print(f"out of step: {path}" if check else f"written: {path}" if path in made else f"removed: {path}")
        if check:
            continue
        if path in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(made[path])
        else:
            path.unlink()
    if check and (stale or extra):
        print(f"repair with: uv run snakemake ship --configfile {CONFIG}")
    print(json.dumps({"optimizers": len(files), "bytes": size, "left_out": content["left_out"]}))
    return int(check and bool(stale or extra))


if __name__ == "__main__":
    sys.exit(main())
