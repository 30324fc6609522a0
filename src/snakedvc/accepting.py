"""After an edit that provably changes no result: keep the results, renew what is recorded of them.

Snakemake's `--touch` records the present code and parameters for jobs without running them. It would do so
for everything that is planned; here only for the named outputs, and only if these and the inputs they were
made from are still, byte for byte, those recorded.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import yaml

from .contents import record_path
from .errors import SnakedvcError
from .settings import Settings
from .snakemake_jobs import Job, jobs_of


def accept(targets: list[str], settings: Settings) -> None:
    """Record the outputs `targets` as made by the present code and config, in Snakemake and in DVC.

    Raises:
        SnakedvcError: a target is no output of a versioned config, it or an input of it was changed since it
            was recorded, or Snakemake fails.
    """
    wanted = set(targets)
    for config in settings.configs:
        jobs = [job for job in jobs_of(config) if not wanted.isdisjoint(job.output)]
        if not jobs:
            continue
        for job in jobs:
            _check(job)
        outputs = sorted(wanted.intersection(path for job in jobs for path in job.output))
        rules = sorted({job.rule for job in jobs})
        command = [
            sys.executable,
            "-m",
            "snakemake",
            "--touch",
            "--configfile",
            config,
            "--allowed-rules",
            *rules,
        ]
        if subprocess.run([*command, "--", *outputs], check=False).returncode:
            raise SnakedvcError("Snakemake could not renew its records (its reason stands above).")
        wanted.difference_update(outputs)
    if wanted:
        raise SnakedvcError(f"No versioned job makes {', '.join(sorted(wanted))}: name outputs of rules.")


def _check(job: Job) -> None:
    locked = _locked()
    for output in job.output:
        if not Path(output).is_file() or _digest("md5", output) != locked.get(output):
            raise SnakedvcError(
                f"'{output}' is not the file that dvc.lock records: bring it back with "
                f"`dvc checkout {output}`, or make it again with `snakemake {output}`."
            )
        try:
            recorded = json.loads(Path(record_path(output)).read_bytes())["input_checksums"] or {}
        except (OSError, ValueError, KeyError) as error:
            raise SnakedvcError(f"Snakemake has no record of '{output}': make it with Snakemake.") from error
        for path in job.input:
            if not Path(path).is_file() or recorded.get(path) != f"sha256:{_digest('sha256', path)}":
                raise SnakedvcError(
                    f"'{output}' was not made from the present '{path}': this is no edit that changes nothing. "
                    f"Accept '{path}' first, bring it back with `dvc checkout`, or run Snakemake."
                )


def _locked() -> dict[str, str]:
    """Return {output: md5} of `dvc.lock`."""
    try:
        stages = yaml.safe_load(Path("dvc.lock").read_text())["stages"].values()
    except FileNotFoundError:
        return {}
    return {out["path"]: out["md5"] for stage in stages for out in stage.get("outs", ())}


def _digest(algorithm: str, path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
