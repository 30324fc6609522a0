"""`snakedvc init`: what a folder with a Snakefile needs is written beside what is there; nothing there is overwritten.

A file that is missing is written. To one that is there, lines that it lacks are added at its end.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from .errors import SnakedvcError
from .families import DVC_YAML, RECORDS
from .settings import read_settings
from .snakemake_jobs import Job, jobs_of
from .state import write_whole

HOOKS = "snakedvc.smk"  # beside the Snakefile, which includes it
_PROFILES = (Path("profiles/default/config.yaml"), Path("profiles/default/profile.yaml"))
_CONTRACT = {"max-checksum-file-size": "1000000000000", "rerun-incomplete": "true"}
_IGNORED = (".snakemake/", "__pycache__/", "results/")
_DVC_IGNORED = ("__pycache__/", "*.tmp")
_TEMPLATE = """\
# What snakedvc needs of a Snakefile, which has this at its top:  include: "{hooks}"
import os
import sys
from pathlib import Path

from snakedvc import SnakedvcError, guard, own, record, section, sources

guard(workflow)
if not workflow.overwrite_configfiles:  # Snakemake would merge it with the one of --configfile

    configfile: "{config}"


CONFIG = os.path.relpath((workflow.overwrite_configfiles or ["{config}"])[0])
RESULTS = f"results/{{Path(CONFIG).stem}}"  # the folder of what is made with this config
try:
    own(workflow, RESULTS, CONFIG)
except SnakedvcError as error:
    sys.exit(f"error: {{error}}")


onsuccess:
    record(workflow)
"""
_STAGES = """\
# Each stage owns what stands below `outs`; Snakemake decides which jobs in it are to be run. `snakedvc init`
# wrote this once; it is kept by hand, and `snakedvc check` names what is missing.
"""


def start(config: str | None = None, *, hooks: bool = True) -> Iterator[str]:
    """Set up the bridge in this folder; yield a word for each thing that was made or added to.

    Args:
        config: the config file to version; by default the one that the Snakefile names, or the only one in `config/`.
        hooks: write what the Snakefile is to include; not for one that calls `guard` and `record` itself.

    Raises:
        SnakedvcError: there is no Snakefile, there are several configs to choose from, a file that is there cannot be
            read, git or DVC refuses, or Snakemake cannot list the jobs.
    """
    snakefile = find_snakefile()
    config = config or find_config(snakefile)
    yield from _repositories()
    if not Path(config).exists():
        yield from _written(Path(config), f"# Read by the rules as `config`.\nname: {Path(config).stem}\n")
    elif not Path(config).is_file():
        raise SnakedvcError(f"{config} is not a file, but a config must be one.")
    yield from _settings(config)
    yield from _profile()
    if hooks:
        yield from _written(snakefile.parent / HOOKS, _TEMPLATE.format(hooks=HOOKS, config=config))
    yield from _written(Path(".gitattributes"), "* text=auto eol=lf\n")  # source files have the same digest everywhere
    yield from _lines(Path(".dvcignore"), _DVC_IGNORED)
    yield from _lines(Path(".gitignore"), _IGNORED)
    if not DVC_YAML.exists():
        yield from _written(DVC_YAML, _STAGES + stages_of(jobs_of(config), config))


def find_snakefile() -> Path:
    """Return the Snakefile that `snakemake` would read here. **Raises** `SnakedvcError` if there is none."""
    from snakemake.api import resolve_snakefile

    found = resolve_snakefile(None, allow_missing=True)
    if found is None:
        raise SnakedvcError("There is no Snakefile here: write one first, docs/snakedvc.md has an example.")
    return Path(found)


def find_config(snakefile: Path) -> str:
    """Return the config file that a Snakefile names, the only one in `config/`, or the name for a new one.

    Raises:
        SnakedvcError: there are several.
    """
    named = re.search(r"^\s*configfile:\s*[\"']([^\"']+)[\"']", snakefile.read_text(encoding="utf-8"), re.MULTILINE)
    if named:
        return named[1]
    there = sorted(path.as_posix() for path in Path("config").glob("*.y*ml"))
    if len(there) > 1:
        raise SnakedvcError(
            f"Which of {', '.join(there)} is to be versioned? Name it with --config; others may follow."
        )
    return there[0] if there else "config/main.yaml"


def todo(snakefile: Path) -> list[str]:
    """Return what is left to a person: the lines of the Snakefile that only its author can write."""
    text = snakefile.read_text(encoding="utf-8")
    found = []
    if HOOKS not in text:
        found.append(f'put this at the top of {snakefile}:  include: "{HOOKS}"')
    if re.search(r"^onsuccess:", text, re.MULTILINE):
        found.append(f"{snakefile} has an `onsuccess:` of its own, which must call record(workflow)")
    if re.search(r"^onstart:", text, re.MULTILINE):
        found.append(f"{snakefile} has an `onstart:` of its own, which must call snakedvc.note(workflow)")
    return found


def stages_of(jobs: Iterable[Job], config: str) -> str:
    """Return the text of stages that cover these jobs: one for each rule, for any config of this folder.

    A stage owns a folder where all that is made in it is of its rule, and single files elsewhere.
    """
    rules: dict[str, list[Job]] = {}
    for job in jobs:
        rules.setdefault(job.rule, []).append(job)
    results = f"results/{Path(config).stem}"
    made = {path: rule for rule, of_rule in rules.items() for job in of_rule for path in job.output}
    place = {path: _place(path, rule, made, results) for path, rule in made.items()}

    def each_config(path: str) -> str:
        if path == config:
            return Path(config).with_stem("${item.config}").as_posix()
        return path.replace(results, "results/${item.config}", 1) if path.startswith(f"{results}/") else path

    stages = {}
    for rule, of_rule in rules.items():
        outs = sorted({place[path] for job in of_rule for path in job.output})
        read = {path for job in of_rule for path in job.input if made.get(path) != rule}
        code = {path for job in of_rule for path in job.source or {}}
        keys = sorted({key for job in of_rule for key in job.settings})
        deps = [*sorted({place.get(path, path) for path in read}), *sorted(code)]
        records = f"{results}/{RECORDS}/{rule}.jsonl.gz"
        stages[rule] = {
            "matrix": {"config": [Path(config).stem]},
            "cmd": f"python -m snakedvc make '{each_config(config)}' {rule}@${{item.config}}",
            **({"deps": [each_config(path) for path in deps]} if deps else {}),
            **({"params": [{each_config(config): keys}]} if keys else {}),
            "outs": [{each_config(path): {"persist": True}} for path in [*outs, records]],
        }
    return yaml.safe_dump({"stages": stages}, sort_keys=False, default_flow_style=None, width=110)


def _place(path: str, rule: str, made: dict[str, str], results: str) -> str:
    """Return the uppermost folder of results that is of one rule alone, or the file."""
    for folder in [parent.as_posix() for parent in Path(path).parents][::-1]:
        alone = all(other == rule for file, other in made.items() if file.startswith(f"{folder}/"))
        if folder.startswith(f"{results}/") and alone:
            return folder
    return path


def _repositories() -> list[str]:
    """Make this folder a repository of git and of DVC, where it is none."""
    said = []
    top = _run("git", "rev-parse", "--show-toplevel", ok=False)
    if top.returncode:
        _run("git", "init", "--quiet")
        said.append("a git repository")
    if not Path(".dvc").is_dir():
        inside = not top.returncode and Path(top.stdout.strip()) != Path.cwd()
        _run(sys.executable, "-m", "dvc", "init", "--quiet", *(["--subdir"] if inside else []))
        said.append("a DVC repository")
    return said


def _run(*command: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise SnakedvcError(f"{command[0]} is not installed.") from error
    if ok and done.returncode:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["no message"]
        raise SnakedvcError(f"`{' '.join(command)}` failed: {words[-1]}")
    return done


def _settings(config: str) -> list[str]:
    file = Path("pyproject.toml")
    table = f'[tool.snakedvc]\nconfigs = ["{config}"]\n'
    if not file.exists():
        return _written(file, table)
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SnakedvcError(f"{file} is not valid TOML: {error}.") from error
    if "snakedvc" not in content.get("tool", {}):
        return _added(file, f"\n{table}")
    if config not in read_settings().configs:
        raise SnakedvcError(f"[tool.snakedvc] of {file} does not name {config}: add it to configs, or give --config.")
    return []


def _profile() -> list[str]:
    there = next((file for file in _PROFILES if file.exists()), None)
    words = "# Inputs compare by content, whatever their size; what a kill left half made is made again.\n"
    if there is None:
        lines = "".join(f"{key}: {value}\n" for key, value in _CONTRACT.items())
        return _written(_PROFILES[0], f"cores: all\n{words}{lines}")
    try:
        content = yaml.safe_load(there.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SnakedvcError(f"{there} is not valid YAML.") from error
    lines = "".join(f"{key}: {value}\n" for key, value in _CONTRACT.items() if key not in content)
    return _added(there, words + lines) if lines else []


def _lines(file: Path, wanted: Iterable[str]) -> list[str]:
    there = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    missing = [line for line in wanted if line not in there]
    return _added(file, "".join(f"{line}\n" for line in missing)) if missing else []


def _written(file: Path, text: str) -> list[str]:
    if file.exists():
        return []
    write_whole(file, text.encode())
    return [file.as_posix()]


def _added(file: Path, text: str) -> list[str]:
    """Add lines at the end of a file that may be there, whose own bytes stay."""
    before = file.read_bytes() if file.exists() else b""
    gap = b"\n" if before and not before.endswith(b"\n") else b""
    write_whole(file, before + gap + text.encode())
    return [f"lines at the end of {file.as_posix()}" if before else file.as_posix()]
