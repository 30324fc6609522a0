"""`dvc.yaml` as a function of Snakemake's job list: one stage for each job."""

import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from .contents import record_path
from .errors import SnakedvcError
from .settings import Settings
from .snakemake_jobs import Job

HEADER = """\
# Made from Snakemake's job list by: python -m snakedvc generate
# Do not edit: change the rules or the config, then run that command.
"""

Stage = dict[str, Any]


def stages_of(config: str, jobs: Iterable[Job], settings: Settings) -> dict[str, Stage]:
    """Return the stages of the jobs that are versioned under one config file, by name.

    Raises:
        SnakedvcError: a rule cannot be versioned as it stands, or two jobs would get the same name.
    """
    versioned = [job for job in jobs if job.rule not in settings.exclude]
    made = {path for job in versioned for path in job.output}
    unversioned = {path: job.rule for job in jobs for path in job.output if path not in made}
    stages: dict[str, Stage] = {}
    for job in versioned:
        _check(job, unversioned)
        name = stage_name(config, job)
        if name in stages:
            raise SnakedvcError(f"Two jobs of rule '{job.rule}' would both be stage '{name}': rename a wildcard.")
        stages[name] = _stage(config, job)
    return stages


def stage_name(config: str, job: Job) -> str:
    """Return config, rule and wildcards joined by `-`; what DVC does not allow in a name becomes `_`."""
    scale = Path(config).stem
    parts = [scale, job.rule, *(value for value in job.wildcards if value != scale)]
    return re.sub(r"[^A-Za-z0-9_-]", "_", "-".join(parts))


def dump(stages: Mapping[str, Stage]) -> str:
    """Return the text of `dvc.yaml`."""
    body = yaml.safe_dump({"stages": dict(stages)}, sort_keys=False, width=10_000, allow_unicode=True)
    return HEADER + body


def load(path: Path = Path("dvc.yaml")) -> dict[str, Stage]:
    """Return the stages of a `dvc.yaml`; none if there is no such file."""
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except FileNotFoundError:
        return {}
    except yaml.YAMLError as error:
        raise SnakedvcError(f"{path} is not valid YAML: run `python -m snakedvc generate`.") from error
    return content.get("stages") or {}


def merged(old: Mapping[str, Stage], new: Mapping[str, Stage]) -> dict[str, Stage]:
    """Return the old stages with the new ones put in; a stage whose output a new one makes gives way."""
    taken = {path for stage in new.values() for path in stage["outs"]}
    kept = {name: stage for name, stage in old.items() if name in new or taken.isdisjoint(stage["outs"])}
    return kept | dict(new)


def _check(job: Job, unversioned: Mapping[str, str]) -> None:
    if job.source is None:
        raise SnakedvcError(
            f"Rule '{job.rule}' does not say which code it runs: give it params: source=sources(...), "
            "or name it in exclude of [tool.snakedvc]."
        )
    if job.temporary:
        raise SnakedvcError(
            f"Rule '{job.rule}' has a temp() output, which cannot be versioned: remove temp(), "
            "or name the rule in exclude of [tool.snakedvc]."
        )
    for path in job.input:
        if path in unversioned:
            raise SnakedvcError(
                f"Rule '{job.rule}' reads '{path}' of rule '{unversioned[path]}', which is not versioned: "
                "exclude both or none in [tool.snakedvc]."
            )
    for path in (*job.input, *job.output):
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise SnakedvcError(f"Rule '{job.rule}' names '{path}', which lies outside of the repository.")


def _stage(config: str, job: Job) -> Stage:
    command = ["snakemake", "--configfile", config, "--allowed-rules", job.rule, "--", job.output[0]]
    stage: Stage = {"cmd": shlex.join(command), "deps": sorted({*job.input, *(job.source or {})})}
    if job.settings:
        stage["params"] = [{config: sorted(job.settings)}]
    stage["outs"] = sorted(path for output in job.output for path in (output, record_path(output)))
    return stage
