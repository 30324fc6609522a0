"""The stages of `dvc.yaml` for other tasks and configs."""

from pathlib import Path

import yaml


def stages_for(text: str, tasks: list[str], configs: list[str]) -> str:
    """Return a `dvc.yaml` for other tasks and configs, none of which searches a recipe."""
    listed = yaml.safe_load(text)
    for name, stage in list(listed["stages"].items()):
        if stage["matrix"]["config"] in (["study"], ["systems"]):
            del listed["stages"][name]
            continue
        stage["matrix"] = {key: {"config": configs, "task": tasks}[key] for key in stage["matrix"]}
        of_tasks = [path for path in stage["deps"] if path == f"results/${{item.config}}/{Path(path).name}"]
        if folders := [path for path in of_tasks if not Path(path).suffix]:
            kept = [path for path in stage["deps"] if path not in folders]
            stage["deps"] = [*(f"results/${{item.config}}/{task}" for task in tasks), *kept]
    return yaml.safe_dump(listed, sort_keys=False)
