"""The kinds of a campaign, and how many trials of each: the same ones for the same seed."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import arguments
import configs
import files
import processes
import subjects
from campaign import Result, run

SEED = int(os.environ.get("REOPT_FUZZ_SEED", "0"))
SHARE = float(os.environ.get("REOPT_FUZZ_SHARE", "1"))  # of the trials below
TRIALS = {"configs": 240, "arguments": 160, "files": 140, "subjects": 90, "processes": 1}


def results(kind: str, workshop: Path, seed: int = SEED) -> Iterator[Result]:
    """What the command makes of the trials of a kind."""
    dice, count = random.Random(f"{seed} {kind}"), max(1, round(SHARE * TRIALS[kind]))
    if kind == "processes":
        return processes.results(dice, workshop)
    trials = {
        "configs": lambda: configs.trials(dice, count),
        "arguments": lambda: arguments.trials(dice, count),
        "files": lambda: files.trials(dice, count, workshop),
        "subjects": lambda: subjects.trials(dice, count),
    }
    return run(trials[kind](), workshop)
