"""Does `dvc.yaml` cover what Snakemake does? Each output, input, source file and config key of each job."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from .errors import SnakedvcError
from .families import DVC_YAML, RECORDS, Family, families
from .lockfile import checked_lock
from .settings import Settings
from .snakemake_jobs import Job, jobs_of


def gaps(settings: Settings) -> list[str]:
    """Return a sentence for everything that `dvc.yaml` does not cover, over all versioned configs.

    Raises:
        SnakedvcError: a file cannot be read, or Snakemake refuses.
    """
    found: list[str] = []
    everything = families()
    owners: dict[str, str] = {}
    known = set()
    for config in settings.configs:
        mine = [family for family in everything if family.config == config]
        jobs = jobs_of(config)
        found += uncovered(jobs, mine, settings)
        found += _extra_files(jobs, mine)
        for path in (path for job in jobs if job.rule not in settings.exclude for path in job.output):
            if owners.setdefault(path, config) != config:
                found.append(f"{config} and {owners[path]} both make {path}: give one another name")
        known |= {family.name for family in mine}
    for family in everything:
        found += _form(family) + _absent_keys(family)
        if family.name not in known:
            found.append(f"stage {family.name}: its config {family.config} is not in [tool.snakedvc]")
    try:
        lock = checked_lock(known)
        if gone := sorted(set(lock) - known):
            names = ", ".join(gone[:3]) + (f", ... ({len(gone)} stages)" if len(gone) > 3 else "")
            found.append(f"dvc.lock has {names}, which {DVC_YAML} has not: `python -m snakedvc record --prune`")
    except SnakedvcError as error:
        found.append(str(error))
    return list(dict.fromkeys(found))


def uncovered(jobs: Iterable[Job], stages: list[Family], settings: Settings) -> list[str]:
    """Return what the stages of one config miss of its jobs, and the stages that no job uses.

    Args:
        jobs: all jobs of the config.
        stages: all stages of the config.
        settings: which rules are not versioned.
    """
    jobs = list(jobs)
    versioned = [job for job in jobs if job.rule not in settings.exclude]
    made = {path for job in versioned for path in job.output}
    unversioned = {path: job.rule for job in jobs for path in job.output if path not in made}
    found, used = [], set()
    for job in versioned:
        found += _unfit(job, unversioned)
        owners = {family.name: family for path in job.output for family in stages if family.owns(path)}
        homeless = [path for path in job.output if not any(family.owns(path) for family in stages)]
        found += [f"no stage owns {path}, made by rule {job.rule}" for path in homeless]
        if len(owners) > 1:
            found.append(
                f"{len(owners)} stages own the outputs of one job of rule {job.rule}: {', '.join(sorted(owners))}"
            )
        for family in owners.values():
            used.add(family.name)
            found += _missing(family, job)
    found += [f"stage {family.name} owns no output of any job" for family in stages if family.name not in used]
    return found


def _missing(family: Family, job: Job) -> list[str]:
    found = []
    for path in job.input:
        if not family.owns(path) and not family.reads(path):
            found.append(f"stage {family.name} lacks the dependency {path}, an input of rule {job.rule}")
    for path in job.source or {}:
        if not family.reads(path):
            found.append(f"stage {family.name} lacks the dependency {path}, a source file of rule {job.rule}")
    if not family.reads(family.config):
        named = family.params.get(family.config, ())
        for key in job.settings:
            if not any(key == part or key.startswith(f"{part}.") for part in named):
                found.append(f"stage {family.name} lacks the config key {key}, read by rule {job.rule}")
    return found


def _unfit(job: Job, unversioned: dict[str, str]) -> list[str]:
    """Return why a job cannot be versioned as it stands."""
    found = []
    exclude = "or name the rule in exclude of [tool.snakedvc]"
    if job.source is None:
        found.append(f"rule {job.rule} does not say which code it runs: params: source=sources(...), {exclude}")
    if job.temporary:
        found.append(f"rule {job.rule} has a temp() output, which cannot be versioned: remove temp(), {exclude}")
    for path in job.input:
        if path in unversioned:
            found.append(f"rule {job.rule} reads {path} of rule {unversioned[path]}, which is not versioned")
    for path in (*job.input, *job.output):
        if Path(path).is_absolute() or ".." in Path(path).parts:
            found.append(f"rule {job.rule} names {path}, which lies outside of the repository")
    return found


def _form(family: Family) -> list[str]:
    """Return where a stage does not keep to the form of the contract."""
    found = []
    if family.command[5] != family.name:
        found.append(f"stage {family.name}: its cmd must end with its own name, not with {family.command[5]}")
    if not family.records.endswith(".jsonl.gz"):
        found.append(f"stage {family.name}: its file in {RECORDS} must end with .jsonl.gz")
    for path in family.perishable:
        found.append(f"stage {family.name}: {path} needs persist: true, or `dvc repro` deletes it before it runs")
    return found


def _absent_keys(family: Family) -> list[str]:
    """Return the config keys that a stage names and their file lacks, as where it leaves them to a default."""
    found = []
    for file, keys in family.params.items():
        try:
            content = yaml.safe_load(Path(file).read_bytes())
        except (OSError, yaml.YAMLError):
            continue  # no file, or none of YAML: DVC says it better
        found += [
            f"stage {family.name} names the config key {key}, which {file} lacks: name the file in deps in its place"
            for key in keys
            if not _has(content, key.split("."))
        ]
    return found


def _has(content: Any, key: list[str]) -> bool:
    for part in key:
        if not isinstance(content, dict) or part not in content:
            return False
        content = content[part]
    return True


def _extra_files(jobs: Iterable[Job], stages: list[Family]) -> list[str]:
    """Return the files in folders of results that no job makes."""
    made = {path for job in jobs for path in job.output}
    return [
        f"{path} is made by no job: remove it, or it is stored with stage {family.name}"
        for family in stages
        for path in family.files()
        if path not in made and not path.endswith(".tmp")
    ]
