"""The small pipeline through a real Slurm on the loopback interface: uv run --group lab python tests/lab/slurm.py

Installs Slurm if it is missing (Debian, as root), starts a cluster of one node, runs everything as Slurm jobs with
profiles/slurm, cancels the meta-training once, and checks that all is made and recorded as by a local run. Whatever it
starts, it stops; nothing is left but the packages.
"""

import argparse
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import loopback
from loopback import say
from pipeline import Pipeline, wait_for
from small_pipeline import FACTS, lay_out

PROFILE = ("--workflow-profile", "profiles/slurm")
POLLING = ("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "10")  # the profile suits large clusters
COLUMNS = "JobID:12,State:12,Comment:200,tres-alloc:200,tres-per-job:40"


class SlurmJob(NamedTuple):
    """What Slurm knows of a job."""

    rule: str
    state: str
    resources: dict[str, str]
    extra: str  # what the job as a whole was given: GPUs


def jobs() -> list[SlurmJob]:
    """Every job that Slurm knows, in the order of submission."""
    command = ["squeue", "--states=all", "--noheader", "--sort=i", f"--Format={COLUMNS}"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [
        SlurmJob(
            rule=comment.partition("_wildcards_")[0].removeprefix("rule_"),
            state=state,
            resources=dict(item.split("=") for item in allocated.split(",")),
            extra=extra,
        )
        for _, state, comment, allocated, extra in map(str.split, lines)
    ]


def cancel(rule: str, run: subprocess.Popen) -> None:
    """Cancel the job of a rule as soon as it runs."""

    def running() -> str:
        assert run.poll() is None, "the run ended before"
        command = ["squeue", "--states=RUNNING", "--noheader", "--format=%i %k"]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        return next((line.split()[0] for line in lines if line.split()[1].startswith(f"rule_{rule}_")), "")

    subprocess.run(["scancel", wait_for(running, 600)], check=True)


def check(project: Pipeline, output: Path) -> None:
    """Run the pipeline through Slurm, and look at what came of it."""
    planned = project.planned()
    rules = Counter({rule: len(outputs) for rule, outputs in planned.items()})
    assert rules["metatrain"], rules
    say(f"running {len(rules)} rules as Slurm jobs; meta-training is cancelled once")
    command = [sys.executable, "-m", "snakemake", "--configfile", FACTS.config, *PROFILE, *POLLING]
    with output.open("wb") as file:
        run = subprocess.Popen(
            command, cwd=project.path, env=project._environment(), stdout=file, stderr=subprocess.STDOUT
        )
    try:
        cancel("metatrain", run)
        assert run.wait(3600) == 0, "snakemake failed"
    finally:
        if run.poll() is None:
            run.send_signal(signal.SIGINT)  # which cancels its jobs
            run.wait(120)

    ran = jobs()
    states = Counter(job.state for job in ran)
    say(f"Slurm: {dict(states)}")
    assert states == {"COMPLETED": len(ran) - 1, "CANCELLED": 1}, states
    assert {job.rule for job in ran} == set(rules)
    first, second = (job for job in ran if job.rule == "metatrain")
    say(f"meta-training: {first[1:]}, then {second[1:]}")
    assert (first.state, second.state) == ("CANCELLED", "COMPLETED")
    assert first.extra.endswith("gpu:1"), first
    assert second.extra == first.extra
    assert first.resources["mem"] == "4225M"  # 4000, and half as much again as the config's 150
    assert second.resources["mem"] == "8450M"
    command = ["sacct", "--completion", "--parsable2", "--noheader", "--format=JobID,State"]
    completed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert len(completed) == len(ran), (len(completed), len(ran))

    made = {path for outputs in planned.values() for path in outputs}
    assert {path for path in made if not (project.path / path).is_file()} == set()
    assert project.planned() == {}, "with profiles/default"
    dry = project.snakemake("-n", *PROFILE)
    assert "Nothing to be done" in dry.stdout + dry.stderr, "with profiles/slurm"
    assert project.changed() == set(), "dvc status"
    described = {
        name for name, _ in (line.split(maxsplit=1) for line in project.dvc("stage", "list").stdout.splitlines())
    }
    assert set(project.lock()) == described
    assert project.bridge("verify", "--no-remote").returncode == 0
    say(f"{len(made)} results are there and recorded; nothing is to be done; dvc status is clean")


def main() -> int:
    """Returns 0 if all went well, 77 where Slurm cannot be had."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    loopback.stop_as_by_ctrl_c()
    if not importlib.util.find_spec("snakemake_executor_plugin_slurm"):
        print("error: no Slurm plugin of Snakemake here: uv run --group lab python tests/lab/slurm.py", file=sys.stderr)
        return 1
    # As for the other tests: programs are compiled once, without passes that small problems gain nothing by.
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[2] / ".reopt/compiled-for-tests"))
    with tempfile.TemporaryDirectory(prefix="slurm-") as temporary:
        folder = Path(temporary)
        output = folder / "snakemake.out"
        try:
            say("starting munged, slurmctld and slurmd")
            with loopback.slurm(folder / "slurm"):
                project = Pipeline(folder / "project", FACTS, {"DVC_SITE_CACHE_DIR": str(folder / "site")})
                lay_out(project)
                check(project, output)
        except loopback.CannotError as error:
            print(f"Slurm cannot be had here: {error}", file=sys.stderr)
            return loopback.CANNOT
        except BaseException:
            if output.is_file():
                print(output.read_text(errors="replace")[-6000:], file=sys.stderr)
            raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
