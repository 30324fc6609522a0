"""The folder in which a campaign's commands run: a tiny config and what a pipeline would have made of it."""

import json
from pathlib import Path
from typing import Any

import yaml
from campaign import Trial, Worker

ROOT = Path(__file__).parents[2]
CHECKPOINT = "results/laptop/quadratic/optimizers/gru2-s0/best.safetensors"
EXAMINED = "results/laptop/quadratic/analysis/momentum"
TASK = "--task quadratic"
PARTS = (
    *("record", "pca", "fixed_points", "linearize", "update_functions", "gradient_density"),
    *("schedule", "adaptation", "operating_point", "verdicts"),
)
MADE_BY = (
    f"metatrain gru2 {TASK} --out results/laptop/quadratic/optimizers/gru2-s0",
    *(f"analyse {part} momentum {TASK} --out {EXAMINED}" for part in PARTS),
    f"causes momentum {TASK} --examination {EXAMINED} --out {EXAMINED}",
    f"conditions {TASK} --out results/laptop/quadratic/conditions.csv",
)


THREADS = """
import threading, time
from reopt.optimizers.classical import SGD
threading.Thread(target=time.sleep, args=(1000,)).start()
s = SGD(0.1)
"""


def tiny_config() -> dict[str, Any]:
    """The content of a config of which every command takes a second."""
    content = yaml.safe_load((ROOT / "config/smoke.yaml").read_text(encoding="utf-8")) | {"name": "laptop"}
    task = content["tasks"]["quadratic"]
    optimizer = task["optimizers"].pop("gru16")
    optimizer["training"] |= {"outer_steps": 3, "problems": 2, "cotangent_clipping": None}
    optimizer["training"]["schedule"]["warmup_steps"] = 1
    optimizer["training"]["validation"] |= {"problems": 2, "every": 2}
    task |= {"num_steps": 12, "shown": "gru2-s0", "optimizers": {"gru2": optimizer | {"units": 2}}}
    content["baselines"] |= {"draws": 2, "problems": 2}
    content["evaluation"]["problems"] = 4
    content["analysis"]["record"] |= {"problems": 4, "params": 2}
    content["analysis"]["fixed_points"] |= {"visited_seeds": 4, "perturbed_seeds": 2, "max_iterations": 50}
    content["analysis"]["clipping"] |= {"grid": 11, "bins": 5}
    content["analysis"]["adaptation"] |= {"gradients": 5}
    return content


def make_workshop(folder: Path) -> Path:
    """A workshop in `folder`."""
    workshop = folder / "a/b/workshop"
    (workshop / "config").mkdir(parents=True)
    (workshop / "config/laptop.yaml").write_text(yaml.safe_dump(tiny_config()))
    systems = (ROOT / "config/systems_smoke.yaml").read_text(encoding="utf-8")
    (workshop / "config/systems.yaml").write_text(systems)
    (workshop / "config/threads.py").write_text(THREADS)
    baselines = workshop / "results/laptop/quadratic/baselines"
    baselines.mkdir(parents=True)
    momentum = {"baseline": "momentum", "hyperparameters": {"learning_rate": 0.1, "momentum": 0.9}}
    (baselines / "momentum.json").write_text(json.dumps(momentum))
    worker = Worker(workshop)
    for words in MADE_BY:
        answer = worker.run(Trial("workshop", "", tuple(words.split())))
        if answer["code"]:
            raise RuntimeError(f"{words}: {answer['err']}")
    worker.stop()
    return workshop
