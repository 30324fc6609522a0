"""What a stage of `dvc.yaml` runs: those jobs of Snakemake whose outputs lie in its folders."""

import os
import subprocess
import sys

from .errors import SnakedvcError
from .families import families
from .guards import die_with_parent
from .lockfile import keep_copy
from .recorder import export_stage
from .settings import read_settings
from .snakemake_jobs import jobs_of


def make(config: str, stage: str) -> int:
    """Make the results of a stage with Snakemake and write their records; return Snakemake's exit status.

    Args:
        config: the config file.
        stage: the stage's name; without `@...`, all stages of that name.

    Raises:
        SnakedvcError: there is no such stage, or nothing in it is made by a job.
    """
    chosen = [family for family in families(config) if stage in (family.name, family.name.partition("@")[0])]
    if not chosen:
        names = ", ".join(family.name for family in families(config)) or "none"
        raise SnakedvcError(f"{config} has no stage '{stage}'; it has: {names}.")
    exclude = read_settings().exclude
    jobs = [job for job in jobs_of(config) if job.rule not in exclude]
    outputs = {family.name: [path for job in jobs for path in job.output if family.owns(path)] for family in chosen}
    targets = sorted({path for paths in outputs.values() for path in paths})
    if not targets:
        raise SnakedvcError(f"No job of {config} makes anything of stage '{stage}': see `python -m snakedvc check`.")
    in_dvc = bool(os.environ.get("DVC_STAGE"))
    if in_dvc:
        die_with_parent()
        keep_copy()  # DVC rewrites dvc.lock in place when this ends
    rules = sorted({job.rule for job in jobs if not set(job.output).isdisjoint(targets)})
    command = [sys.executable, "-m", "snakemake", "--configfile", config, "--allowed-rules", *rules, "--", *targets]
    status = subprocess.run(command, check=False).returncode
    if status == 0 and in_dvc:
        for family in chosen:
            export_stage(family, outputs[family.name])
    return status
