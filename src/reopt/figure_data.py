"""What each figure is drawn from: which files of a config's results, and how they come into its data type."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from reopt.artifacts.tables import read_arrays, read_json, read_table
from reopt.optimizers.classical import polyak
from reopt.stages import baselines_of, examined, judged, learned

_SHOWN: dict[str, tuple[str, ...]] = {  # the files of the subject's folder, in the order of the figure's fields
    "momentum": ("pca.npz", "fixed_points.npz", "update_functions.csv", "modes.csv", "impulse.csv"),
    "clipping": ("update_functions.csv", "clipping.csv", "gradient_density.csv"),
    "schedule": ("schedule.csv", "schedule.json", "pca.npz"),
    "adaptation": ("adaptation.csv", "adaptation_functions.csv", "adaptation.json", "pca.npz"),
    "linearized": ("linearized.csv", "linearized_problems.csv"),
}
_OTHERS = {"schedule": "schedule.csv", "adaptation": "adaptation.csv"}  # of the other runs, drawn thin


def figure_files(config: dict[str, Any], name: str) -> list[str]:
    """The files a figure reads, relative to the config's folder of results."""
    files = []
    for task in config["tasks"]:
        shown = config["tasks"][task]["shown"]
        if name == "performance":
            for subject in judged(config, task):
                files += [f"{task}/evaluation/{subject}.csv", f"{task}/evaluation/{subject}.curves.csv"]
            files.append(f"{task}/conditions.csv")
        elif name == "conditions":
            files.append(f"{task}/conditions.csv")
        elif name == "training":
            files += [f"{task}/optimizers/{subject}/training.csv" for subject in learned(config, task)]
        elif name == "tuning":
            for baseline in baselines_of(config):
                files += [f"{task}/baselines/{baseline}.csv", f"{task}/baselines/{baseline}.json"]
        elif name != "claims":
            files += [f"{task}/analysis/{shown}/{file}" for file in _SHOWN[name]]
            if name in _OTHERS:
                files += [f"{task}/analysis/{other}/{_OTHERS[name]}" for other in _others(config, task)]
            if name == "adaptation" and "rmsprop" in examined(config, task):
                files += [f"{task}/analysis/rmsprop/{file}" for file in ("adaptation.csv", "adaptation.json")]
    return ["claims.csv"] if name == "claims" else files


def figure_data(module: ModuleType, config: dict[str, Any], name: str, results: Path) -> Any:
    """The argument of `module.figure` and `module.caption`, read from the folder of results."""
    if name == "claims":
        return read_table(results / "claims.csv")
    return {task: _task_data(module, config, name, task, results / task) for task in config["tasks"]}


def _others(config: dict[str, Any], task: str) -> list[str]:
    """Other seeds of the optimizer that is shown."""
    shown = config["tasks"][task]["shown"]
    return [s for s in learned(config, task) if s != shown and s.rpartition("-s")[0] == shown.rpartition("-s")[0]]


def _read(path: Path) -> Any:
    return {".csv": read_table, ".json": read_json, ".npz": read_arrays}[path.suffix](path)


def _task_data(module: ModuleType, config: dict[str, Any], name: str, task: str, folder: Path) -> Any:
    shown = config["tasks"][task]["shown"]
    if name == "conditions":
        return read_table(folder / "conditions.csv")
    if name == "training":
        return {s: read_table(folder / "optimizers" / s / "training.csv") for s in learned(config, task)}
    if name == "tuning":
        base = folder / "baselines"
        return {
            b: module.Tuning(read_table(base / f"{b}.csv"), read_json(base / f"{b}.json")) for b in baselines_of(config)
        }
    if name == "performance":
        from reopt.figures.schematic import quadratic_schematic

        tables = [
            pd.concat([read_table(folder / "evaluation" / f"{s}{kind}.csv") for s in judged(config, task)])
            for kind in (".curves", "")
        ]
        schematic = None
        if "log10_eigenvalues" in config["tasks"][task]["problem"]:
            median = float(read_table(folder / "conditions.csv")["condition_number"].median())
            schematic = quadratic_schematic(median)
        return module.Performance(shown, *tables, schematic)
    analysis = folder / "analysis"
    values = [_read(analysis / shown / file) for file in _SHOWN[name]]
    data = getattr(module, name.capitalize())(shown, *values)
    if name in _OTHERS:
        data = data._replace(others={o: _read(analysis / o / _OTHERS[name]) for o in _others(config, task)})
    if name == "adaptation" and "rmsprop" in examined(config, task):
        rmsprop = analysis / "rmsprop"
        data = data._replace(
            rmsprop=_read(rmsprop / "adaptation.csv"), rmsprop_summary=_read(rmsprop / "adaptation.json")
        )
    if name == "momentum" and "log10_eigenvalues" in (problem := config["tasks"][task]["problem"]):
        theory = polyak(*problem["log10_eigenvalues"])
        data = data._replace(polyak=(theory.learning_rate, theory.momentum))
    return data
