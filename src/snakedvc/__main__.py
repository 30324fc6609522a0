"""`python -m snakedvc`: make and check `dvc.yaml`, accept results after an edit that changes nothing."""

import argparse
import difflib
import sys
from pathlib import Path
from typing import Any

from .accepting import accept
from .errors import SnakedvcError
from .settings import read_settings
from .snakemake_jobs import jobs_of
from .stages import dump, stages_of

_DVC_YAML = Path("dvc.yaml")
_REPAIR = "python -m snakedvc generate"


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; return the exit status: 0 done, 1 out of step, 2 a mistake to mend."""
    parser = argparse.ArgumentParser(prog="python -m snakedvc", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    generate = commands.add_parser("generate", help="write dvc.yaml from Snakemake's job list")
    generate.set_defaults(run=lambda options: _generate())
    check = commands.add_parser("check", help="compare dvc.yaml with Snakemake's job list; exit 1 on a difference")
    check.set_defaults(run=lambda options: _check())
    keep = commands.add_parser(
        "accept", help="after an edit that changes no result: record outputs as made by the present code"
    )
    keep.add_argument("targets", nargs="+", metavar="TARGET", help="an output of a rule, as a path")
    keep.set_defaults(run=_accept)
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except SnakedvcError as error:
        print(f"snakedvc: {error}", file=sys.stderr)
        return 2


def expected() -> str:
    """Return the text that `dvc.yaml` should have."""
    settings = read_settings()
    stages: dict[str, dict[str, Any]] = {}
    for config in settings.configs:
        new = stages_of(config, jobs_of(config), settings)
        for name in stages.keys() & new.keys():
            raise SnakedvcError(f"Stage '{name}' comes from two configs: give config files different names.")
        stages |= new
    return dump(stages)


def _generate() -> int:
    text = expected()
    if _current() == text:
        print("dvc.yaml is in step with Snakemake.")
    else:
        _DVC_YAML.write_text(text)
        print("dvc.yaml written.")
    return 0


def _check() -> int:
    text, current = expected(), _current()
    if text == current:
        print("dvc.yaml is in step with Snakemake.")
        return 0
    lines = difflib.unified_diff(
        current.splitlines(True), text.splitlines(True), "dvc.yaml", "dvc.yaml as Snakemake has it"
    )
    sys.stdout.writelines(lines)
    print(f"\nsnakedvc: dvc.yaml is out of step with Snakemake; mend it with: {_REPAIR}", file=sys.stderr)
    return 1


def _accept(options: argparse.Namespace) -> int:
    accept(options.targets, read_settings())
    return 0


def _current() -> str:
    return _DVC_YAML.read_text() if _DVC_YAML.is_file() else ""


if __name__ == "__main__":
    sys.exit(main())
