"""What we need of Snakemake's insides, in one place (Snakemake 9.27): the jobs behind the default target."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import SnakedvcError


@dataclass(frozen=True)
class Job:
    """One job: a rule with its wildcards filled in."""

    rule: str
    wildcards: tuple[str, ...]
    input: tuple[str, ...]
    output: tuple[str, ...]
    temporary: frozenset[str]
    source: dict[str, str] | None
    settings: dict[str, Any]


def jobs_of(config: str, snakefile: str | None = None) -> list[Job]:
    """Return all jobs with outputs that the default target needs under a config file, whatever exists already.

    Reads the Snakefile in this process; nothing runs and nothing is locked.

    Raises:
        SnakedvcError: the Snakefile or the config is wrong; Snakemake has printed why.
    """
    from snakemake.api import SnakemakeApi
    from snakemake.settings.types import (
        ConfigSettings,
        DAGSettings,
        OutputSettings,
        Quietness,
        ResourceSettings,
    )

    quiet = OutputSettings(quiet=frozenset({Quietness.ALL}), dryrun=True, enable_file_logging=False)
    with SnakemakeApi(quiet) as api:
        try:
            workflow = (
                api.workflow(
                    ResourceSettings(cores=1),
                    ConfigSettings(configfiles=[Path(config)]),
                    snakefile=snakefile,
                )
                .dag(DAGSettings(forceall=True))
                .workflow_api._workflow
            )
            workflow._prepare_dag(forceall=True, ignore_incomplete=True, lock_warn_only=True)
            workflow._build_dag()
            return jobs_in(workflow)
        except Exception as error:
            api.print_exception(error)
            raise SnakedvcError(
                f"Snakemake cannot list the jobs of '{config}' (its reason stands above)."
            ) from error


def jobs_in(workflow: Any) -> list[Job]:
    """Return the jobs with outputs of a workflow whose graph is built, in a fixed order."""
    return sorted(map(_job, _with_output(workflow.dag.jobs)), key=lambda job: (job.rule, job.output))


def planned_in(workflow: Any) -> list[Job]:
    """Return those of `jobs_in` that this run is about to run."""
    return sorted(
        map(_job, _with_output(workflow.dag.needrun_jobs())), key=lambda job: (job.rule, job.output)
    )


def configfile_of(workflow: Any) -> tuple[str | None, str]:
    """Return (the one config file of the run, ""), or (None, why there is no such file)."""
    if workflow.config_settings.config:
        return None, "the run changed the config with --config"
    paths = list(dict.fromkeys(Path(path).resolve() for path in _configfiles(workflow)))
    if len(paths) != 1:
        return None, f"the run had {len(paths)} config files"
    try:
        return paths[0].relative_to(Path.cwd().resolve()).as_posix(), ""
    except ValueError:
        return None, "the config file of the run lies outside of the repository"


def _configfiles(workflow: Any) -> Iterable[Path]:
    yield from workflow.configfiles
    yield from workflow.overwrite_configfiles


def _with_output(jobs: Iterable[Any]) -> list[Any]:
    return [job for job in jobs if job.output]


def _job(job: Any) -> Job:
    return Job(
        rule=job.rule.name,
        wildcards=tuple(str(value) for value in (job.wildcards_dict or {}).values()),
        input=tuple(sorted({str(path) for path in job.input})),
        output=tuple(str(path) for path in job.output),
        temporary=frozenset(map(str, job.temp_output)),
        source=job.params.get("source"),
        settings=job.params.get("settings") or {},
    )
