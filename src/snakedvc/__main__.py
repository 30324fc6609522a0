"""Snakemake and DVC in one repository: check the stages, make and record results, accept them after an edit."""

import argparse
import sys

from .errors import SnakedvcError
from .settings import read_settings


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand.

    Returns:
        The exit status: 0 done, 1 something is out of order and was named, 2 the command could not be carried out.
    """
    parser = argparse.ArgumentParser(prog="snakedvc", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (_add_init, _add_check, _add_make, _add_record, _add_accept, _add_verify, _add_merge):
        add(commands)
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except SnakedvcError as error:
        print(f"snakedvc: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"snakedvc: {error.strerror or error}: {error.filename or 'no file'}", file=sys.stderr)
        return 2


def _add_init(commands: argparse._SubParsersAction) -> None:
    words = (
        "Set up the bridge in a folder with a Snakefile: git and DVC where it has none, the settings, the hooks to "
        "include, a profile, and stages for the rules as they are. Nothing that is there is overwritten; to some files "
        "lines are added at the end. Ends with what is left to do."
    )
    command = commands.add_parser("init", help="set up a folder with a Snakefile", description=words)
    command.add_argument(
        "--config", metavar="CONFIG", help="the config to version; by default the one that the Snakefile names"
    )
    command.set_defaults(run=_init)


def _add_check(commands: argparse._SubParsersAction) -> None:
    words = (
        "Hold dvc.yaml against the jobs of Snakemake: every output must belong to one stage, and every input, source "
        "file and config key of a job must be a dependency of its stage. Names each gap; exit status 1 if there is one."
    )
    command = commands.add_parser("check", help="does dvc.yaml cover every job of Snakemake?", description=words)
    command.set_defaults(run=_check)


def _add_make(commands: argparse._SubParsersAction) -> None:
    words = "Run those jobs of Snakemake whose outputs belong to a stage of dvc.yaml. This is what `dvc repro` runs."
    command = commands.add_parser("make", help="make the results of one stage", description=words)
    command.add_argument("config", metavar="CONFIG", help="the config file")
    command.add_argument("stage", metavar="STAGE", help="a stage of dvc.yaml; without @..., all stages of that name")
    command.set_defaults(run=_make)


def _add_record(commands: argparse._SubParsersAction) -> None:
    words = (
        "Write Snakemake's records beside the results and commit the stages that changed to dvc.lock. `snakemake` does "
        "this itself; the command repeats it after a failure, after a merge, or after dvc.lock was brought back."
    )
    command = commands.add_parser("record", help="record results in dvc.lock", description=words)
    command.add_argument("configs", nargs="*", metavar="CONFIG", help="config files; all versioned ones by default")
    command.add_argument(
        "--trust",
        action="store_true",
        help="take files whose time stamp changed since their job ended as what it wrote (after copying a checkout)",
    )
    command.add_argument("--prune", action="store_true", help="drop stages from dvc.lock that dvc.yaml does not have")
    command.set_defaults(run=_record)


def _add_accept(commands: argparse._SubParsersAction) -> None:
    words = (
        "After an edit that changes no result (a comment, a rename, a moved module): record results as made by the "
        "present code, without running anything. Refuses a result that is not byte for byte what was recorded, or that "
        "was made from other inputs."
    )
    command = commands.add_parser("accept", help="keep results after an edit that changes nothing", description=words)
    command.add_argument(
        "targets",
        nargs="+",
        metavar="TARGET",
        help="an output, as a path; or a config file: all its results, but for those whose config values changed",
    )
    command.add_argument(
        "--despite",
        action="append",
        default=[],
        metavar="PATTERN",
        help="inputs that changed in a way that no result depends on, for instance 'results/*/renamed.csv'",
    )
    command.set_defaults(run=_accept)


def _add_verify(commands: argparse._SubParsersAction) -> None:
    words = (
        "Read every file that dvc.lock names, in the workspace, in DVC's cache and in its remote, and hash it anew. "
        "Names what is damaged, what follows from it and the command that heals it. Exit status 0: all intact, 1: not."
    )
    command = commands.add_parser("verify", help="hash everything, past all caches", description=words)
    command.add_argument("--repair", action="store_true", help="put intact copies in the place of damaged ones")
    command.add_argument("--no-remote", dest="remote", action="store_false", help="leave the remote out")
    command.set_defaults(run=_verify)


def _add_merge(commands: argparse._SubParsersAction) -> None:
    words = (
        "Merge a dvc.lock that git has left in conflict: stage by stage and, where both branches changed a stage, file "
        "by file. With three files it is git's merge driver."
    )
    command = commands.add_parser("merge", help="merge the dvc.lock of two branches", description=words)
    command.add_argument("files", nargs="*", metavar="FILE", help="the ancestor's, ours (is rewritten) and theirs")
    command.set_defaults(run=_merge)
    words = (
        "Tell git to merge dvc.lock with `python -m snakedvc merge`, in this checkout, and name it in .gitattributes."
    )
    command = commands.add_parser("install-merge-driver", help="let git merge dvc.lock by stages", description=words)
    command.set_defaults(run=_install)


def _init(options: argparse.Namespace) -> int:
    from .starting import find_snakefile, start, todo

    for line in start(options.config):
        print(f"written: {line}")
    for line in todo(find_snakefile()):
        print(f"to do: {line}")
    print(
        "next: `snakedvc check` names what the rules or dvc.yaml lack; then `snakemake` runs, and records in dvc.lock."
    )
    return 0


def _check(options: argparse.Namespace) -> int:
    from .checking import gaps

    found = gaps(read_settings())
    for gap in found:
        print(gap)
    if not found:
        print("dvc.yaml covers every job of Snakemake.")
    return 1 if found else 0


def _make(options: argparse.Namespace) -> int:
    from .making import make

    return make(options.config, options.stage)


def _record(options: argparse.Namespace) -> int:
    from .recorder import prune, record_config
    from .recording import forget_notes

    settings = read_settings()
    status = 0
    for config in options.configs or settings.configs:
        if config not in settings.configs:
            raise SnakedvcError(f"{config} is not among the configs of [tool.snakedvc].")
        report = record_config(config, trust=options.trust)
        forget_notes(config, report)
        for stage in report.recorded:
            print(f"recorded: {stage}{' (not all of it is up to date)' if stage in report.partly else ''}")
        for stage in report.waiting:
            print(f"not recorded: {stage}, of which results are missing")
        if report.problem():
            print(f"snakedvc: {report.problem()}", file=sys.stderr)
            status = 1
    if options.prune:
        for stage in prune():
            print(f"dropped from dvc.lock: {stage}")
    if status == 0:
        print("dvc.lock records the results as they are.")
    return status


def _accept(options: argparse.Namespace) -> int:
    from .accepting import accept

    return accept(options.targets, read_settings(), options.despite)


def _verify(options: argparse.Namespace) -> int:
    from .verifying import run

    return run(remote=options.remote, repair=options.repair)


def _merge(options: argparse.Namespace) -> int:
    from .merging import drive, settle

    if not options.files:
        return settle()
    if len(options.files) != 3:
        raise SnakedvcError("merge takes three files (ancestor, ours, theirs), or none.")
    return drive(*options.files)


def _install(options: argparse.Namespace) -> int:
    from .merging import install

    return install()


if __name__ == "__main__":
    sys.exit(main())
