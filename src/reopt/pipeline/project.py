"""A project of one's own, laid out from the installed package: config, rules, stages, profiles and settings.

The rules are the package's own copy of the repository's; what a project computes with is the installed package.
"""

import contextlib
import shlex
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import yaml
from pydantic import RootModel
from pydantic.fields import FieldInfo

from reopt.core.atomic import check_writable
from reopt.core.errors import ReoptError
from reopt.core.schema import Range, Section
from reopt.pipeline.config import Config, parse_config
from reopt.version import __version__

COPIED = (
    *("Snakefile", "workflow/rules", "workflow/report", "profiles/default/config.yaml", "profiles/slurm/config.yaml"),
    *("config/paper.yaml", "config/smoke.yaml"),
)
OF_THE_REPOSITORY = ("workflow/rules/docs.smk", "workflow/rules/ship.smk")  # its documentation, its package
FIXED = ("recipe", "searched", "systems")  # stages of searches, and of published systems
WIDTH = 120
_IGNORED = ".venv/\n.reopt/\nlogs/\n/report.html\n"


def lay_out(folder: Path, name: str = "mine") -> str:
    """Lay out a project in a folder that may hold other things; return the command that runs it.

    Args:
        folder: made where it is missing.
        name: of the config and of its results.

    **Raises** `ReoptError` where a file that would be written is there already (nothing is written then), or without
    the packages of the pipeline.
    """
    try:
        from snakedvc import SnakedvcError
        from snakedvc.starting import start
    except ImportError as error:
        raise ReoptError("a project needs the packages of the pipeline: pip install 'reopt[pipeline]'") from error
    texts = _texts(name)
    for file in texts:
        if (folder / file).exists():
            raise ReoptError(f"{folder / file} is there already, and is not overwritten: give another folder")
    for file in texts:
        check_writable(folder / file)
    own = {".gitignore": _IGNORED, "pyproject.toml": _PROJECT.format(name=name, version=__version__)}
    texts |= {file: text for file, text in own.items() if not (folder / file).exists()}
    for file, text in texts.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text, encoding="utf-8")
    try:
        with contextlib.chdir(folder):
            list(start(f"config/{name}.yaml", hooks=False))
    except SnakedvcError as error:
        raise ReoptError(str(error)) from error
    return f"cd {shlex.quote(str(folder))} && snakemake --configfile config/{name}.yaml"


_PROJECT = """\
[project]
name = "{name}"
version = "0.0.0"
dependencies = ["reopt[pipeline]=={version}"]
"""


def _texts(name: str) -> dict[str, str]:
    """The files of a project, by path."""
    texts = {}
    with as_file(_originals()) as originals:
        for copied in COPIED:
            whole = originals / copied
            for file in sorted(whole.iterdir()) if whole.is_dir() else [whole]:
                texts[file.relative_to(originals).as_posix()] = file.read_text(encoding="utf-8")
        stages = (originals / "dvc.yaml").read_text(encoding="utf-8")
    for left_out in OF_THE_REPOSITORY:
        texts.pop(left_out, None)
    if f"config/{name}.yaml" in texts:
        raise ReoptError(f"--name {name} is that of a config that comes with every project: give another")
    config = first_config(name, yaml.safe_load(texts["config/smoke.yaml"]))
    texts["profiles/default/config.yaml"] += f"configfile: [config/{name}.yaml]  # of a plain `snakemake`\n"
    return texts | {
        f"config/{name}.yaml": written_out(config),
        "dvc.yaml": stages_for(stages, list(config.tasks), [name]),
    }


def _originals() -> Any:
    """Where the repository's own files are: in the installed package, or, where that is a clone, in the clone."""
    packaged = files("reopt") / "project"
    return packaged if packaged.is_dir() else Path(str(files("reopt"))).parents[1]


def first_config(name: str, smoke: dict[str, Any]) -> Config:
    """A config with one task, that of another one, and defaults for all else."""
    task = smoke["tasks"]["quadratic"]
    block = {key: task[key] for key in ("problem", "num_steps")} | {"optimizers": {"gru16": {"units": 16}}}
    return parse_config({"name": name, "tasks": {"quadratic": block}}, f"config/{name}.yaml")


def stages_for(text: str, tasks: list[str], configs: list[str]) -> str:
    """The repository's `dvc.yaml` for other configs and tasks, none of which searches a recipe or has systems.

    The code is that of the installed package, not of the folder; the config is a dependency as a whole, for it may
    leave keys out.
    """
    stages = yaml.safe_load(text)["stages"]
    for name in [name for name in stages if name in FIXED]:
        del stages[name]
    config = "config/${item.config}.yaml"
    for stage in stages.values():
        stage["matrix"] = {key: {"config": configs, "task": tasks}[key] for key in stage["matrix"]}
        results = [path for path in stage["deps"] if path.startswith("results/")]
        each = {path for path in results if path.count("/") == 2 and "." not in path.rpartition("/")[2]}
        kept = [path for path in results if path not in each or "${item.task}" in path]
        shown = [f"results/${{item.config}}/{task}" for task in tasks] if len(kept) < len(results) else []
        others = [path for path in stage["deps"] if path.startswith("config/") and path != config]
        stage["deps"] = [*shown, *kept, config, *others]
        stage.pop("params", None)
    head = (
        "# Each stage owns what stands below `outs`; Snakemake decides which jobs in it are to be run. Kept by hand:\n"
    )
    check = "# `snakedvc check` names what is missing, after a task was added for one.\n"
    return (
        head + check + yaml.dump({"stages": stages}, Dumper=_Plain, sort_keys=False, default_flow_style=None, width=110)
    )


class _Plain(yaml.SafeDumper):
    """YAML without anchors: what is the same in two stages is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def written_out(config: Config) -> str:
    """A config file with every key, each with its meaning behind it."""
    head = "# Every key, with its default where nothing else was asked for. A key that is taken out has its default.\n"
    return head + "".join(line + "\n" for line in _section(config, ""))


def _section(section: Section, indent: str) -> list[str]:
    lines: list[str] = []
    for key, field in type(section).model_fields.items():
        lines += _entry(key, getattr(section, key), field, indent)
    return lines


def _entry(key: str, value: Any, field: FieldInfo | None, indent: str) -> list[str]:
    """The lines of a key: with its block below it where that holds more than values."""
    said = (field and field.description) or ""
    if isinstance(value, Section) and _has_words(value):
        said = said or (type(value).__doc__ or "").split("\n")[0].rstrip(".")
        return [*_with_words(f"{indent}{key}:", said, indent), *_section(value, f"{indent}  ")]
    if isinstance(value, dict) and any(isinstance(one, Section | dict) for one in value.values()):
        inner = [line for name, one in value.items() for line in _entry(name, one, None, f"{indent}  ")]
        return [*_with_words(f"{indent}{key}:", said, indent), *inner]
    plain = RootModel(value).model_dump(mode="json", exclude_none=True)
    flat = yaml.safe_dump(plain, sort_keys=False, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
    return _with_words(f"{indent}{key}: {flat}", said, indent)


def _has_words(section: Section) -> bool:
    """Whether a block says anything, and keys of it have a meaning to be written behind them; not for each range."""
    described = any(field.description for field in type(section).model_fields.values())
    return described and not isinstance(section, Range) and bool(section.model_dump(exclude_none=True))


def _with_words(line: str, said: str, indent: str) -> list[str]:
    if not said:
        return [line]
    beside = f"{line}  # {said}"
    return [beside] if len(beside) <= WIDTH else [f"{indent}# {said}", line]
