"""What each figure is drawn from: which files of a config's results, and how they come into its data type."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from reopt.artifacts.tables import read_arrays, read_json, read_table
from reopt.mechanisms.summary import summary
from reopt.optimizers.classical import polyak
from reopt.stages import baselines_of, beside, caused, examined, judged, learned

_SHOWN: dict[str, tuple[str, ...]] = {  # the files of the subject's folder, in the order of the figure's fields
    "momentum": ("pca.npz", "fixed_points.npz", "update_functions.csv.gz", "modes.csv", "impulse.csv"),
    "clipping": ("update_functions.csv.gz", "clipping.csv", "gradient_density.csv"),
    "schedule": ("schedule.csv", "schedule.json", "pca.npz"),
    "adaptation": ("adaptation.csv", "adaptation_functions.csv.gz", "adaptation.json", "pca.npz"),
    "linearized": ("linearized.csv", "linearized_problems.csv"),
    "causes": ("causes.csv", "worth.csv"),
}
_OTHERS = {  # of the other runs, drawn thin
    "momentum": "modes.csv",
    "clipping": "update_functions.csv.gz",
    "schedule": "schedule.csv",
    "adaptation": "adaptation.csv",
    "causes": "worth.csv",
}
_SUMMARY = ("modes.csv", "clipping.csv", "gradient_density.csv", "schedule.json", "adaptation.json")  # of every run


def figure_files(config: dict[str, Any], name: str) -> list[str]:
    """The files a figure reads, relative to the config's folder of results."""
    files = []
    for task in config["tasks"]:
        shown = config["tasks"][task]["shown"]
        if name == "performance":
            for subject in judged(config, task):
                files += [f"{task}/evaluation/{subject}.csv", f"{task}/evaluation/{subject}.curves.csv"]
            files += [f"{task}/landscape.csv", f"{task}/path.csv"]
        elif name == "conditions":
            files.append(f"{task}/conditions.csv")
        elif name == "training":
            files += [f"{task}/optimizers/{subject}/training.csv" for subject in learned(config, task)]
        elif name == "cells":
            files += [f"{task}/analysis/{subject}/{file}" for subject in learned(config, task) for file in _SUMMARY]
        elif name == "recipe":
            files += [f"{task}/recipe.csv"] if config["tasks"][task].get("search") else []
        elif name == "hyperparameters":
            files += [f"{task}/baselines/{baseline}.json" for baseline in baselines_of(config, task)]
        elif name == "tuning":
            for baseline in baselines_of(config, task):
                files += [f"{task}/baselines/{baseline}.csv", f"{task}/baselines/{baseline}.json"]
        elif name == "beyond":
            for subject in (shown, *beside(config, task)):
                files += [f"{task}/beyond/{subject}/{file}" for file in ("beyond.csv", "horizon.csv")]
                files += [f"{task}/beyond/{subject}/{other}/transfer.csv" for other in config["tasks"] if other != task]
            files.append(f"{task}/beyond/{shown}/first_to_break.csv")
        elif name != "claims":
            files += [f"{task}/analysis/{shown}/{file}" for file in _SHOWN[name]]
            if name in _OTHERS:
                files += [f"{task}/analysis/{other}/{_OTHERS[name]}" for other in _others(config, name, task)]
            if name == "adaptation" and "rmsprop" in examined(config, task):
                files += [f"{task}/analysis/rmsprop/{file}" for file in ("adaptation.csv", "adaptation.json")]
    return ["claims.csv"] if name == "claims" else files


def figure_data(module: ModuleType, config: dict[str, Any], name: str, results: Path) -> Any:
    """The argument of `module.figure` and `module.caption`, read from the folder of results."""
    if name == "claims":
        return read_table(results / "claims.csv")
    return {task: _task_data(module, config, name, task, results / task) for task in config["tasks"]}


def _others(config: dict[str, Any], name: str, task: str) -> list[str]:
    """The other runs in a figure: seeds of the optimizer that is shown, or one of each other optimizer."""
    shown = config["tasks"][task]["shown"]
    if name == "causes":
        return [s for s in caused(config, task) if s != shown]
    return [s for s in learned(config, task) if s != shown and s.rpartition("-s")[0] == shown.rpartition("-s")[0]]


def _read(path: Path) -> Any:
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    return {".csv": read_table, ".json": read_json, ".npz": read_arrays}[suffix](path)


def _task_data(module: ModuleType, config: dict[str, Any], name: str, task: str, folder: Path) -> Any:
    shown = config["tasks"][task]["shown"]
    if name == "conditions":
        return read_table(folder / "conditions.csv")
    if name == "training":
        return {s: read_table(folder / "optimizers" / s / "training.csv") for s in learned(config, task)}
    if name == "tuning":
        base = folder / "baselines"
        return {
            b: module.Tuning(read_table(base / f"{b}.csv"), read_json(base / f"{b}.json"))
            for b in baselines_of(config, task)
        }
    if name == "hyperparameters":
        return {b: read_json(folder / "baselines" / f"{b}.json") for b in baselines_of(config, task)}
    if name == "recipe":
        return read_table(folder / "recipe.csv") if config["tasks"][task].get("search") else None
    if name == "cells":
        return pd.concat(
            [
                summary(*(_read(folder / "analysis" / subject / file) for file in _SUMMARY)).assign(subject=subject)
                for subject in learned(config, task)
            ],
            ignore_index=True,
        )
    if name == "performance":
        tables = [
            pd.concat([read_table(folder / "evaluation" / f"{s}{kind}.csv") for s in judged(config, task)])
            for kind in (".curves", "")
        ]
        around = module.Landscape(read_table(folder / "landscape.csv"), read_table(folder / "path.csv"))
        return module.Performance(shown, *tables, around)
    if name == "beyond":
        return _beyond(module, config, task, folder / "beyond")
    analysis = folder / "analysis"
    values = [_read(analysis / shown / file) for file in _SHOWN[name]]
    data = getattr(module, name.capitalize())(shown, *values)
    if name in _OTHERS:
        others = {o: _read(analysis / o / _OTHERS[name]) for o in _others(config, name, task)}
        if name == "clipping":
            others = {o: table[table["place"] == "initial"] for o, table in others.items()}
        data = data._replace(others=others)
    if name == "adaptation" and "rmsprop" in examined(config, task):
        rmsprop = analysis / "rmsprop"
        data = data._replace(
            rmsprop=_read(rmsprop / "adaptation.csv"), rmsprop_summary=_read(rmsprop / "adaptation.json")
        )
    if name == "momentum" and "log10_eigenvalues" in (problem := config["tasks"][task]["problem"]):
        theory = polyak(*problem["log10_eigenvalues"])
        data = data._replace(polyak=(theory.learning_rate, theory.momentum))
    return data


def _beyond(module: ModuleType, config: dict[str, Any], task: str, folder: Path) -> Any:
    block = config["tasks"][task]
    shown, eigenvalues = block["shown"], block["problem"].get("log10_eigenvalues")
    tables, horizons = [], []
    for subject in (shown, *beside(config, task)):
        own = read_table(folder / subject / "beyond.csv")
        at_home = own[(own["axis"] == "horizon") & (own["value"] == 1)].assign(axis="task", value=task)
        others = [read_table(folder / subject / o / "transfer.csv") for o in config["tasks"] if o != task]
        tables += [own, at_home, *others]
        horizons.append(read_table(folder / subject / "horizon.csv"))
    table, horizon = pd.concat(tables), pd.concat(horizons)
    first = read_table(folder / shown / "first_to_break.csv")
    decades = float(eigenvalues[1] - eigenvalues[0]) if eigenvalues else None
    return module.Beyond(shown, table, horizon, first, block["num_steps"], decades)
