"""A lab clones the repository, runs two configs of its own at once, and shares results through a folder.

uv run python tests/people/lab.py
"""

import hashlib
import re
import sys
import tempfile
import time
from pathlib import Path

import yaml
from person import ROOT, Person, clone, install, must

CONFIGS = ("first", "second")
OUTPUTS = ("quadratic/evaluation/gru4-s0.csv", "quadratic/conditions.csv")


def own_config(repository: Path, name: str) -> None:
    """A config of the lab's own: that of `laptop` with one task, a network of 4 units and 20 outer steps."""
    config = yaml.safe_load((repository / "config/laptop.yaml").read_text())
    task = config["tasks"]["quadratic"]
    (optimizer,) = task["optimizers"].values()
    optimizer |= {"units": 4, "seeds": [0]}
    training = {"outer_steps": 20, "problems": 4, "cotangent_clipping": {"factor": 4.0, "group": 4}}
    optimizer["training"] |= training
    optimizer["training"]["schedule"]["warmup_steps"] = 2
    optimizer["training"]["validation"] |= {"problems": 8, "every": 5}
    task |= {"num_steps": 12 if name == CONFIGS[0] else 14, "shown": "gru4-s0", "optimizers": {"gru4": optimizer}}
    config |= {"name": name, "tasks": {"quadratic": task}}
    config["evaluation"]["problems"] = 8
    (repository / f"config/{name}.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def stages(repository: Path) -> None:
    """The lab's configs in place of the shipped ones, in `dvc.yaml` and among those that are versioned."""
    sys.path.insert(0, str(ROOT / "tests/workflow"))
    from small_stages import stages_for

    file, project = repository / "dvc.yaml", repository / "pyproject.toml"
    file.write_text(stages_for(file.read_text(), ["quadratic"], list(CONFIGS)))
    versioned = ", ".join(f'"config/{name}.yaml"' for name in CONFIGS)
    project.write_text(re.sub(r"(?m)^configs = \[.*\]$", f"configs = [{versioned}]", project.read_text(), count=1))
    (repository / "dvc.lock").unlink()


def digests(repository: Path) -> dict[str, str]:
    """Of what the lab makes, by path."""
    paths = [f"results/{name}/{output}" for name in CONFIGS for output in OUTPUTS]
    return {path: hashlib.sha256((repository / path).read_bytes()).hexdigest() for path in paths}


def lab(folder: Path) -> Person:
    """Do it all below a folder. **Raises** `Failed`."""
    person = Person(folder, "lab")
    repository, shared = clone(person), folder / "shared"
    install(person, repository)
    shared.mkdir()
    for name in CONFIGS:
        own_config(repository, name)
    stages(repository)
    uv = ("uv", "run", "--quiet")
    person.does("a shared folder", *uv, "dvc", "remote", "add", "-d", "lab", str(shared), where=repository)

    start = time.monotonic()
    runs = {
        name: person.starts(
            *(*uv, "snakemake", "--cores", "1", "--quiet", "rules", "--configfile", f"config/{name}.yaml", "--"),
            *(f"results/{name}/{output}" for output in OUTPUTS),
            where=repository,
        )
        for name in CONFIGS
    }
    for name, run in runs.items():
        printed, _ = run.communicate()
        must(run.returncode == 0, f"{name} failed:\n{printed[-3000:]}")
    person.took("two configs at once", time.monotonic() - start)
    made = digests(repository)
    scores = [made[f"results/{name}/{OUTPUTS[0]}"] for name in CONFIGS]
    must(scores[0] != scores[1], "two configs give two results")

    person.does("dvc push", *uv, "dvc", "push", "--quiet", where=repository)
    person.does("git commit", "git", "commit", "--quiet", "-am", "our results", where=repository)
    person.does("git add", "git", "add", *(f"config/{name}.yaml" for name in CONFIGS), where=repository)
    person.does("git commit", "git", "commit", "--quiet", "-m", "our configs", where=repository)

    person.does("a colleague clones it", "git", "clone", "--quiet", str(repository), "colleague")
    colleague = folder / "colleague"
    person.does("uv sync", "uv", "sync", "--quiet", where=colleague)
    person.does("dvc pull", *uv, "dvc", "pull", "--quiet", where=colleague)
    must(digests(colleague) == made, "the colleague has the same bytes")
    for name in CONFIGS:
        wanted = (f"results/{name}/{output}" for output in OUTPUTS)
        dry = (*uv, "snakemake", "-n", "--quiet", "rules", "--configfile", f"config/{name}.yaml", "--", *wanted)
        said = person.does(f"what is missing of {name}", *dry, where=colleague)
        must("Nothing to be done" in said, f"the colleague's {name} would be made again:\n{said}")
    return person


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        lab(Path(place))
