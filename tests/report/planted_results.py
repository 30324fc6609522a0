"""A folder of results with known scores and verdicts: two runs, two baselines, one task, one figure."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reopt.core.checkpoint import write_checkpoint

CONFIG: dict[str, Any] = {
    "name": "small",
    "tasks": {"bowl": {"own": {}, "problem": {}, "optimizers": {"gru4": {"seeds": [0, 1]}}}},
    "baselines": {"ranges": {"momentum": {}, "adam": {}}},
    "evaluation": {"problems": 4},
}
SCORES = {  # of four problems
    "gru4-s0": [0.1, 0.2, 0.3, 0.4],
    "gru4-s1": [0.2, 0.3, 0.4, 0.5],
    "momentum": [0.5, 0.6, 0.7, 0.8],
    "adam": [0.3, 0.4, 0.5, 0.5],
}
VALIDATION = {"gru4-s0": 0.3, "gru4-s1": 0.2}  # the second was the better one there


def plant(folder: Path, scores: dict[str, list[float]] = SCORES) -> Path:
    """Write the results; the folder."""
    task = folder / "bowl"
    for subject, values in scores.items():
        table = pd.DataFrame({"optimizer": subject, "task": "bowl", "problem": range(4), "meta_objective": values})
        (task / "evaluation").mkdir(parents=True, exist_ok=True)
        table.to_csv(task / f"evaluation/{subject}.csv", index=False)
    for subject, value in VALIDATION.items():
        file = task / f"optimizers/{subject}/best.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_checkpoint(file, {"w": np.zeros(1)}, {"validation_meta_objective": value})
    claims().to_csv(folder / "claims.csv", index=False)
    pd.DataFrame({"task": ["bowl"], "key": ["units <b>"], "here": [8], "paper": [None]}).to_csv(
        folder / "deviations.csv", index=False
    )
    (folder / "figures").mkdir(exist_ok=True)
    (folder / "figures/schedule.svg").write_text("<svg/>")
    (folder / "figures/schedule.rst").write_text("Schedules. (a) The rate <b>|g|</b>. Bowl: it falls.")
    return folder


def claims() -> pd.DataFrame:
    """Three claims: one that holds in 2 of 3 seeds, one that fails in all, one that cannot be tested."""
    row = {"task": "bowl", "cell": "gru4", "criterion": "at least 0.9", "share_low": 0.3, "share_high": 1.0}
    holds = {"value": 0.5, "low": 0.25, "high": 0.75, "seeds": 3, "share": 2 / 3, "verdict": "holds"}
    fails = {"value": 12.345, "low": 12.345, "high": 12.345, "seeds": 3, "share": 0.0, "verdict": "fails"}
    untested = {"value": None, "low": None, "high": None, "seeds": 0, "share": None, "verdict": "not testable"}
    return pd.DataFrame(
        [
            row | {"claim": "T1a", "statement": "It wins (gain)"} | holds,
            row | {"claim": "T2", "statement": "One point"} | fails,
            row | {"claim": "T4", "statement": "Polyak"} | untested,
        ]
    )
