"""Hostile input on the command line: one line that says what is wrong, exit code 2, earlier outputs untouched."""

import copy
import json
import operator
import pickle
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import typer.main
import yaml
from jax.experimental.compilation_cache import compilation_cache
from safetensors.numpy import save_file

from reopt.cli import app as cli
from reopt.core.checkpoint import read_checkpoint, write_checkpoint
from reopt.core.tables import read_arrays, write_arrays

Reopt = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[2]
TASK = "--task quadratic"
CHECKPOINT = Path("results/laptop/quadratic/optimizers/gru2-s0/best.safetensors")
EXAMINED = "results/laptop/quadratic/analysis/momentum"
STORED = f"--from {EXAMINED}"
MADE_BY = (
    f"metatrain gru2 {TASK} --out {CHECKPOINT.parent}",
    *(
        f"analyse {part} momentum {TASK} --out {EXAMINED}"
        for part in ("record", "pca", "fixed_points", "linearize", "operating_point")
    ),
    f"conditions {TASK} --out results/laptop/quadratic/conditions.csv",
    f"evaluate momentum best {TASK} --out out.csv",
    "check-config config/laptop.yaml",
)
PYTHON = """
import jax.numpy as jnp, optax
from reopt.optimizers.classical import SGD, Momentum

class Broken(Momentum):
    def readout(self, state, gradient):
        return state

class Raises(SGD):
    def readout(self, state, gradient):
        raise RuntimeError("two\\nlines")

number, text, nothing = 3, "text", None
broken, raises = Broken(0.1, 0.9), Raises(0.1)
coupled, weighted = optax.clip_by_global_norm(1.0), optax.adamw(0.1)
def fails(): raise ValueError("first\\nsecond")
def exits(): raise SystemExit(0)
def needs(learning_rate): return optax.sgd(learning_rate)
class Odd:
    init = update = 3
"""


def call(words: str | list[str], patch: pytest.MonkeyPatch) -> int:
    """The exit code of `reopt WORDS` in this process."""
    patch.setattr(sys, "argv", ["reopt", *(shlex.split(words) if isinstance(words, str) else words)])
    patch.setenv("XLA_FLAGS", "")
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code or 0


def tiny_config() -> dict[str, Any]:
    content = yaml.safe_load((ROOT / "config/smoke.yaml").read_text(encoding="utf-8")) | {"name": "laptop"}
    task = content["tasks"]["quadratic"]
    optimizer = task["optimizers"].pop("gru16")
    optimizer["training"] |= {"outer_steps": 3, "problems": 2, "cotangent_clipping": {"factor": 4.0, "group": 2}}
    optimizer["training"]["schedule"]["warmup_steps"] = 1
    optimizer["training"]["validation"] |= {"problems": 2, "every": 2}
    task |= {"num_steps": 6, "shown": "gru2-s0", "optimizers": {"gru2": optimizer | {"units": 2}}}
    content["baselines"] |= {"draws": 2, "problems": 2}
    content["evaluation"]["problems"] = 4
    content["analysis"]["fixed_points"] |= {"visited_seeds": 4, "perturbed_seeds": 2, "max_iterations": 20}
    return content


def make_bad_configs(folder: Path) -> None:
    content = tiny_config()
    for name, change in {
        "unknown-key": {"odd": 1},
        "wrong-type": {"name": 3},
        "escape": {"name": "../elsewhere"},
        "other-task": {"tasks": {"banana": content["tasks"]["quadratic"]}},
        "diverges": {"evaluation": {"problems": 1e9, "seed": -1}},
    }.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content | change))
    searched = copy.deepcopy(content)
    searched["tasks"]["quadratic"]["optimizers"]["gru2"]["features"] = "searched"
    values = {"features": ["raw", "log1p"], "input_scale": [1.0], "output_scale": [1.0], "learning_rate": [0.01]}
    search = {"optimizer": "gru2", "candidates": 2, "outer_steps": 2, "seed": 0}
    searched["tasks"]["quadratic"]["search"] = search | values
    (folder / "searched.yaml").write_text(yaml.safe_dump(searched))  # fine in itself
    recipe = {"features": "raw", "input_scale": 1.0, "output_scale": 1.0, "learning_rate": 0.01}
    for name, change in {"features": {"features": "banana"}, "rate": {"learning_rate": -1.0}}.items():
        (folder / f"recipe-{name}.json").write_text(json.dumps(recipe | change))
    (folder / "empty.yaml").touch()
    (folder / "not.yaml").write_text("name: [\n}")
    (folder / "object.yaml").write_text("name: !!python/object/apply:os.remove [out.csv]\n")
    (folder / "bytes.yaml").write_bytes(b"name: \xff\n")
    longer = yaml.safe_dump(content).replace("num_steps: 6", "num_steps: 9")
    (folder / "longer.yaml").write_text(longer)  # fine in itself


def make_bad_checkpoints(folder: Path) -> None:
    whole = CHECKPOINT.read_bytes()
    arrays, description = read_checkpoint(CHECKPOINT)
    (name, first), *_ = arrays.items()
    for file, content in {
        "empty": b"",
        "cut": whole[:-7],
        "flipped": whole[:-1] + bytes([whole[-1] ^ 4]),
        "pickle": pickle.dumps(arrays),
        "text": b"outer_step,meta_objective\n1,1.0\n",
    }.items():
        (folder / f"{file}.safetensors").write_bytes(content)
    save_file(arrays, folder / "foreign.safetensors")
    architecture = description["optimizer"]
    for file, changed, words in (
        ("shape", arrays | {name: np.zeros((*first.shape, 2), np.float32)}, description),
        ("type", arrays | {name: first.astype(np.float64)}, description),
        ("nan", {key: np.full_like(array, np.nan) for key, array in arrays.items()}, description),
        ("few", {name: first}, description),
        ("more", arrays | {"extra": first}, description),
        ("none", {}, description),
        ("silent", arrays, {}),
        ("list", arrays, [description]),
        ("cell", arrays, description | {"optimizer": architecture | {"cell": "banana"}}),
        ("units", arrays, description | {"optimizer": architecture | {"units": -1}}),
        ("units-text", arrays, description | {"optimizer": architecture | {"units": "2"}}),
        ("scale", arrays, description | {"optimizer": architecture | {"output_scale": "big"}}),
        ("scale-nan", arrays, description | {"optimizer": architecture | {"input_scale": float("nan")}}),
    ):
        write_checkpoint(folder / f"{file}.safetensors", changed, words)


def make_bad_baselines(folder: Path) -> None:
    good = {"learning_rate": 0.1, "momentum": 0.9}
    for file, content in {
        "json-list": [],
        "json-number": 3,
        "json-name": {"baseline": "banana", "hyperparameters": good},
        "json-missing": {"baseline": "momentum", "hyperparameters": {"momentum": 0.9}},
        "json-text": {"baseline": "momentum", "hyperparameters": good | {"momentum": "0.9"}},
        "json-nan": {"baseline": "momentum", "hyperparameters": good | {"momentum": float("nan")}},
        "json-huge": {"baseline": "momentum", "hyperparameters": good | {"momentum": 10**400}},
    }.items():
        (folder / f"{file}.json").write_text(json.dumps(content))
    (folder / "json-cut.json").write_text('{"baseline": "mom')
    (folder / "json-deep.json").write_text("[" * 100_000)


KINDS = ("record", "pca", "fixed_points", "linearization")


def make_bad_arrays(folder: Path) -> None:
    """Copies of the examined subject's folder, in each of which one file of arrays is wrong: KIND-DAMAGE/KIND.npz."""

    def place(kind: str, damage: str) -> Path:
        shutil.copytree(EXAMINED, folder / f"{kind}-{damage}")
        return folder / f"{kind}-{damage}/{kind}.npz"

    for kind in KINDS:
        path = Path(EXAMINED) / f"{kind}.npz"
        arrays, whole = read_arrays(path), path.read_bytes()
        name, first = next(iter(arrays.items()))
        for file, changed in {
            "missing": {key: array for key, array in arrays.items() if key != name},
            "axes": arrays | {name: first[None]},
            "text": arrays | {name: np.full(first.shape, "x")},
            "wide": arrays | {name: np.concatenate([first, first], axis=-1)},
            "short": arrays | {name: first[:0]},
            "nan": {k: np.full_like(a, np.nan) if a.dtype.kind == "f" else a for k, a in arrays.items()},
        }.items():
            write_arrays(place(kind, file), changed)
        np.savez(place(kind, "objects"), **arrays | {name: np.array([{}, None], object)})
        place(kind, "cut").write_bytes(whole[: len(whole) // 2])
        place(kind, "flipped").write_bytes(whole[:200] + bytes(8) + whole[208:])
        place(kind, "empty").write_bytes(b"")
        np.save(folder / "single.npy", first)
        (folder / "single.npy").replace(place(kind, "single"))
        place(kind, "nothing").unlink()
        place(kind, "checkpoint").write_bytes(CHECKPOINT.read_bytes())
        place(kind, "table").write_bytes(Path("out.csv").read_bytes())
        place(kind, "folder").unlink()
        (folder / f"{kind}-folder/{kind}.npz").mkdir()
    place("pca", "record").write_bytes(Path(f"{EXAMINED}/record.npz").read_bytes())


def make_bad_outputs(folder: Path) -> None:
    for place in ("record.npz", "modes.csv", "momentum.json", "schedule.json", "conditions.png", "last.safetensors"):
        (folder / "taken" / place).mkdir(parents=True)
    for file in ("linearization.npz", "momentum.csv", "schedule.csv", "conditions.svg", "best.safetensors"):
        (folder / "taken" / file).write_bytes(b"earlier")
    (folder / "file").write_bytes(b"earlier")
    (folder / "results/other").mkdir(parents=True)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the results of a tiny config, and `bad/`, where everything is wrong."""
    folder = tmp_path_factory.mktemp("workshop")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "dont_write_bytecode", True)
        (folder / "config").mkdir()
        (folder / "config/laptop.yaml").write_text(yaml.safe_dump(tiny_config()))
        baselines = folder / "results/laptop/quadratic/baselines"
        baselines.mkdir(parents=True)
        momentum = {"baseline": "momentum", "hyperparameters": {"learning_rate": 0.1, "momentum": 0.9}}
        (baselines / "momentum.json").write_text(json.dumps(momentum))
        for words in MADE_BY:
            assert call(words, patch) == 0, words
        bad = folder / "bad"
        bad.mkdir()
        make_bad_configs(bad)
        make_bad_checkpoints(bad)
        make_bad_baselines(bad)
        make_bad_arrays(bad)
        make_bad_outputs(bad)
        (bad / "code.py").write_text(PYTHON)
        (bad / "syntax.py").write_text("def (:\n")
        (bad / "raises.py").write_text("raise RuntimeError('one\\ntwo')\n")
        (bad / "exits.py").write_text("import sys; sys.exit()\n")
        (bad / "numpy.py").write_text("adam = 3\n")
        yield folder


def contents(folder: Path) -> dict[str, bytes]:
    """All files but kept programs, of which there may be a new one for what took long to compile."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if not name.startswith(".reopt/compiled/")}


@pytest.fixture(autouse=True)
def nothing_compiled_is_kept(request: pytest.FixtureRequest) -> None:
    """As in a process of its own; commands that were run before in this one have had it kept."""
    if "workshop" in request.fixturenames:
        request.getfixturevalue("workshop")
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()


@pytest.fixture
def refused(workshop: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> Callable[..., str]:
    """Run a command that must be refused; returns its one line."""

    def run(words: str | list[str]) -> str:
        before = contents(workshop)
        capfd.readouterr()
        assert call(words, monkeypatch) == 2
        said = capfd.readouterr()
        (line,) = said.err.splitlines()
        assert line.startswith("reopt: error: ")
        assert line.isprintable()
        assert said.out == ""
        assert contents(workshop) == before
        return line

    return run


OUT = f"{TASK} --out out.csv"
SEARCHED = f"metatrain gru2 {TASK} --out out --config bad/searched.yaml"
WORDS = [  # a command, what is said of it
    ("banana", "No such command 'banana'"),
    ("--banana", "No such option: --banana"),
    ("evaluate", "Missing argument 'SUBJECT...'"),
    ("evaluate momentum --out out.csv", "Missing option '--task'"),
    (f"conditions {TASK}", "Missing option '--out'"),
    (f"evaluate momentum {TASK} --out", "Option '--out' requires an argument"),
    (f"evaluate momentum {OUT} --banana 1", "No such option: --banana"),
    (f"conditions more {OUT}", "unexpected extra argument"),
    *((f"evaluate momentum {OUT} --seed {seed}", "--seed") for seed in (-1, "abc", 1.5, 2**31, 10**30, "nan", "''")),
    *((f"evaluate momentum {OUT} --problems {n}", "--problems") for n in (0, 1, -5, "abc", 2.5, 10**7, 10**30)),
    *((f"metatrain gru2 {TASK} --out out --seed {seed}", "--seed") for seed in (-1, "abc", 2**31)),
    *((f"metatrain gru2 {TASK} --out out --threads {n}", "--threads") for n in (0, -1, "all")),
    *((f"conditions --task {task} --out out.csv", "it has: quadratic") for task in ("banana", "../quadratic", "''")),
    ("evaluate momentum --task banana --out out.csv", "config/laptop.yaml has no task 'banana'; it has: quadratic"),
    *(
        (f"metatrain {name} {TASK} --out out", "has no tasks.quadratic")
        for name in ("gru9", "../gru2", "''", "gru2.cell")
    ),
    (f"search {TASK} --out out", "tasks.quadratic.search is null: there is nothing to search"),
    (f"{SEARCHED}", "gru2 on quadratic leaves features to a search: give its recipe.json as --recipe"),
    (f"{SEARCHED} --recipe bad/nothing.json", "there is no file bad/nothing.json"),
    *((f"{SEARCHED} --recipe bad/json-{kind}.json", "it has no features") for kind in ("list", "number", "name")),
    *((f"{SEARCHED} --recipe bad/recipe-{name}.json", "is no possible value") for name in ("features", "rate")),
    (f"trace T2 {TASK}", "Missing option '--cell'"),
    ("trace T2 --task banana --cell gru2", "config/laptop.yaml has no task 'banana'; it has: quadratic"),
    (f"trace T2 {TASK} --cell gru9", "config/laptop.yaml has no optimizer 'gru9'; it has: gru2"),
    (f"trace T2 {TASK} --cell gru2", "there is no file results/laptop/claims.csv"),
    (f"trace T2 {TASK} --cell gru2 --out a.txt", "give a name that ends with .json or .csv"),
    (f"tune nesterov {TASK} --out out", "config/laptop.yaml has no baselines.ranges.nesterov"),
    *(
        (f"tune {name} {TASK} --out out", "there are: sgd, momentum, nesterov, rmsprop, adam, adam_decay")
        for name in ("banana", "../momentum", "momentum.learning_rate", "''")
    ),
    *((f"figure {name} --out out", "no figure is called") for name in ("banana", "../momentum", "style", "''")),
    ("dissect momentum --task banana --out out", "config/laptop.yaml has no task 'banana'; it has: quadratic"),
    ("dissect momentum --task bad/none.py:task --out out", "there is no file bad/none.py"),
    ("dissect momentum --task optax:adam --out out", "optax:adam() failed: TypeError"),
    ("dissect momentum --task math:pi --out out", "math:pi is a float, not a reopt.tasks.base.Task"),
    (f"dissect banana {TASK} --out out", "unknown subject 'banana'"),
    (f"dissect momentum {TASK} --out out --problems 1", "--problems"),
    ("check-config", "Missing argument"),
    ("check-config bad/not.yaml", "bad/not.yaml, line 2"),
]


@pytest.mark.parametrize(("words", "said"), WORDS)
def test_wrong_words_are_refused(refused: Callable, words: str, said: str):
    assert said in refused(words)


CONFIGS = {
    "bad/unknown-key.yaml": "odd: unknown key; known here are name, tasks",
    "bad/wrong-type.yaml": "name: 3 is not allowed",
    "bad/escape.yaml": "name: '../elsewhere' is not allowed",
    "bad/other-task.yaml": "tasks.banana: unknown task 'banana'; there are: mnist, quadratic, rosenbrock, two_moons",
    "bad/diverges.yaml": "evaluation.problems: 1000000000.0 is not allowed; allowed: whole number",
    "bad/empty.yaml": "must hold keys and values",
    "bad/not.yaml": "line 2",
    "bad/object.yaml": "could not determine a constructor",
    "bad/bytes.yaml": "it is not UTF-8 text",
    "bad/code.py": "bad/code.py",
    str(CHECKPOINT): str(CHECKPOINT),
    "nothing.yaml": "there is no such config file",
    "bad": "bad is not a file, but a config must be one",
    "out.csv/config.yaml": "Not a directory",
}
READERS = (
    f"evaluate momentum {OUT}",
    f"metatrain gru2 {TASK} --out out",
    f"analyse pca momentum {TASK} {STORED} --out out",
    "figure conditions --out out",
    "claims --out out.csv",
)


@pytest.mark.parametrize("command", READERS, ids=lambda command: command.split()[0])
@pytest.mark.parametrize("config", CONFIGS)
def test_bad_configs_are_refused_by_every_reader(refused: Callable, command: str, config: str):
    line = refused(f"{command} --config {config}")
    assert config in line
    assert CONFIGS[config] in line


SUBJECTS = {
    "bad/empty.safetensors": "is not a readable checkpoint",
    "bad/cut.safetensors": "is not a readable checkpoint",
    "bad/flipped.safetensors": "is damaged",
    "bad/pickle.safetensors": "is not a readable checkpoint",
    "bad/text.safetensors": "is not a readable checkpoint",
    "bad/foreign.safetensors": "not a checkpoint written by reopt",
    "bad/shape.safetensors": "as its description says",
    "bad/type.safetensors": "is float64",
    "bad/nan.safetensors": "holds values that are not finite",
    "bad/few.safetensors": "is missing or unknown",
    "bad/more.safetensors": "array 'extra' is missing or unknown",
    "bad/none.safetensors": "is missing or unknown",
    "bad/list.safetensors": "the description inside checkpoint bad/list.safetensors is damaged",
    **{f"bad/{name}.safetensors": "does not describe a learned optimizer" for name in ("silent", "cell")},
    **{f"bad/{name}.safetensors": "does not describe" for name in ("units", "units-text", "scale", "scale-nan")},
    "bad": "bad is a folder, not a checkpoint file",
    "nothing.safetensors": "there is no checkpoint at nothing.safetensors",
    f"{EXAMINED}/record.npz": "has no 'convention'",
    "results/laptop/quadratic/conditions.csv": "is not a readable checkpoint",
    "bad/json-list.json": "is not a tuned baseline",
    "bad/json-number.json": "is not a tuned baseline",
    "bad/json-name.json": "no baseline 'banana'",
    "bad/json-missing.json": "no baseline 'momentum' with hyperparameters ['momentum']",
    "bad/json-text.json": "a hyperparameter is not a finite number",
    "bad/json-nan.json": "a hyperparameter is not a finite number",
    "bad/json-huge.json": "is not a tuned baseline",
    "bad/json-cut.json": "is not a readable JSON file",
    "bad/json-deep.json": "is not a readable JSON file",
    "adam": "adam is not tuned yet",
    "gru9-s0": "unknown subject 'gru9-s0'",
    "''": ". is a folder, not a checkpoint file",
    "../../..": "is a folder",
    "x" * 300: "File name too long",
    "bad/nothing.py:adam": "there is no file bad/nothing.py",
    "bad/syntax.py:adam": "cannot import bad/syntax.py: SyntaxError",
    "bad/raises.py:adam": "cannot import bad/raises.py: RuntimeError: one two",
    "bad/exits.py:adam": "cannot import bad/exits.py: SystemExit",
    "bad/numpy.py:adam": "bad/numpy.py:adam is a int, not an optimizer",
    "bad/code.py:absent": "bad/code.py has no 'absent'",
    "bad/code.py:": "bad/code.py has no ''",
    "bad/code.py:number": "is a int, not an optimizer of reopt or of optax",
    "bad/code.py:nothing": "is a NoneType, not an optimizer",
    "bad/code.py:fails": "bad/code.py:fails() failed: ValueError: first second",
    "bad/code.py:exits": "bad/code.py:exits() failed: SystemExit",
    "bad/code.py:needs": "missing 1 required positional argument: 'learning_rate'",
    "bad/code.py:Odd": "this optax transformation's init is a int, not a function",
    "bad/code.py:broken": "gives an update of shape (2, 3, 1) for one of (2, 3)",
    "bad/code.py:raises": "cannot take a step: RuntimeError: two lines",
    "no.such.module:adam": "cannot import no.such.module: ModuleNotFoundError",
    "math:pi": "math:pi is a float, not an optimizer",
    "math:absent": "math has no 'absent'",
    "optax:adam": "optax:adam() failed: TypeError",
    ":": "cannot import",
    ":adam": "cannot import",
    "..:adam": "cannot import",
}


@pytest.mark.parametrize("subject", SUBJECTS)
def test_bad_subjects_are_refused(refused: Callable, subject: str):
    assert SUBJECTS[subject] in refused(f"evaluate momentum {subject} {OUT}")


def test_an_analysis_refuses_an_optimizer_that_looks_at_parameters(refused: Callable):
    said = refused(f"analyse record bad/code.py:weighted {TASK} --out out")
    assert "depend on the values of the parameters" in said


def test_an_analysis_refuses_an_optimizer_that_couples_parameters(refused: Callable):
    assert "couples parameters" in refused(f"analyse record bad/code.py:coupled {TASK} --out out")


def test_a_name_that_is_no_text_is_refused(refused: Callable):
    assert "unknown subject" in refused(["evaluate", "a\udcffb\x1b[31m\nc", *OUT.split()])


def test_no_checkpoint_is_the_best_of_damaged_ones(refused: Callable, workshop: Path):
    other = workshop / "results/laptop/quadratic/optimizers/other-s0/best.safetensors"
    other.parent.mkdir()
    try:
        for file in ("cut", "list"):
            other.write_bytes((workshop / f"bad/{file}.safetensors").read_bytes())
            assert str(other.relative_to(workshop)) in refused(f"evaluate best {OUT}")
    finally:
        other.unlink()
        other.parent.rmdir()


USERS = {  # of a file of arrays
    "record": f"analyse pca momentum {TASK} --out out --from",
    "fixed_points": f"analyse linearize momentum {TASK} --out out --from",
    "pca": f"analyse schedule momentum {TASK} --out out --from",
    "linearization": f"analyse adaptation momentum {TASK} --out out --from",
}
DAMAGES = {
    "missing": "has no array",
    "axes": "but must be Float",
    "text": "but must be Float",
    "wide": "but must be Float",
    "objects": "is not a readable npz file: Object arrays cannot be loaded",
    "cut": "is not a readable npz file",
    "flipped": "is not a readable npz file",
    "empty": "is not a readable npz file",
    "single": "a single array, not an npz archive",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", USERS)
def test_bad_arrays_are_refused(refused: Callable, kind: str, damage: str):
    line = refused(f"{USERS[kind]} bad/{kind}-{damage}")
    assert f"bad/{kind}-{damage}/{kind}.npz" in line
    assert DAMAGES[damage] in line


ARRAYS = [
    *((f"{USERS[kind]} bad/{kind}-nan", "not finite") for kind in ("fixed_points", "pca", "linearization")),
    *((f"{USERS[kind]} bad/{kind}-nothing", f"there is no file bad/{kind}-nothing/{kind}.npz") for kind in USERS),
    *((f"{USERS[kind]} bad/{kind}-folder", f"{kind}.npz is a folder, not a file") for kind in USERS),
    *((f"{USERS[kind]} bad/{kind}-checkpoint", "is not a readable npz file") for kind in USERS),
    *((f"{USERS[kind]} bad/{kind}-table", "is not a readable npz file") for kind in USERS),
    (f"{USERS['pca']} bad/pca-record", "pca.npz has no array 'mean'"),
    (f"{USERS['fixed_points']} bad/fixed_points-short", "but must be Float"),
    (f"analyse pca best {TASK} --out out {STORED}", "with hidden 2, step 6"),
    (f"analyse fixed_points best {TASK} --out out {STORED}", "with hidden 2, step 6"),
    (f"analyse linearize best {TASK} --out out {STORED}", "with hidden 2"),
    (f"analyse update_functions best {TASK} --out out {STORED}", "with hidden 2"),
    (f"analyse schedule best {TASK} --out out {STORED}", "with hidden 2"),
    (f"analyse adaptation best {TASK} --out out {STORED}", "with hidden 2"),
    (f"analyse verdicts best {TASK} --out out {STORED}", "with hidden 2"),
    (f"analyse gradient_density momentum {TASK} --out out {STORED} --config bad/longer.yaml", "with hidden 1, step 9"),
    (f"analyse gradient_density momentum {TASK} --out out --from bad/record-short", "but must be Float"),
    (f"analyse everything momentum {TASK} --out out", "no part of an examination is called 'everything'"),
]


@pytest.mark.parametrize(("words", "said"), ARRAYS)
def test_arrays_of_another_kind_subject_or_config_are_refused(refused: Callable, words: str, said: str):
    assert said in refused(words)


STATES = [
    ("bad/cut.safetensors", "is not a readable checkpoint"),
    ("bad/flipped.safetensors", "is damaged"),
    ("bad/pickle.safetensors", "is not a readable checkpoint"),
    ("bad/shape.safetensors", "is the state of another run; remove it or name another state file"),
    (str(CHECKPOINT), "is the state of another run"),
    (str(CHECKPOINT.with_name("last.safetensors")), "is the state of another run"),
    ("out.csv", "is not a readable checkpoint"),
    ("bad", "cannot write bad: a folder or a device stands there"),
    ("out.csv/state", "cannot write out.csv/state: out.csv is not a folder"),
    ("out/best.safetensors", "is an output of this run"),
]


@pytest.mark.parametrize(("state", "said"), STATES)
def test_states_that_are_not_of_this_run_are_refused(refused: Callable, state: str, said: str):
    assert said in refused(f"metatrain gru2 {TASK} --out out --seed 1 --state {state}")


OUTPUTS = [
    (f"evaluate momentum {TASK} --out bad", "cannot write bad: a folder or a device stands there"),
    (f"evaluate momentum {TASK} --out .", "cannot write .: a folder or a device stands there"),
    (f"evaluate momentum {TASK} --out /dev/null", "cannot write /dev/null: a folder or a device stands there"),
    (f"evaluate momentum {TASK} --out out.csv/a.csv", "cannot write out.csv/a.csv: out.csv is not a folder"),
    (f"evaluate momentum {TASK} --out out.csv/b/a.csv", "cannot write out.csv/b/a.csv: Not a directory"),
    (f"evaluate momentum {TASK} --out /proc/none/a.csv", "cannot write /proc/none/a.csv: No such file or directory"),
    (f"evaluate momentum {TASK} --out {'x' * 300}", "File name too long"),
    (f"evaluate momentum {OUT} --curves bad", "cannot write bad: a folder or a device stands there"),
    (f"evaluate momentum {OUT} --log bad", "cannot write bad: Is a directory"),
    (f"evaluate momentum {OUT} --log out.csv/log", "cannot write out.csv/log: File exists"),
    (f"evaluate momentum {OUT} --log /dev/full", "cannot write /dev/full: No space left on device"),
    (f"analyse record momentum {TASK} --out bad/taken", "cannot write bad/taken/record.npz: a folder"),
    (f"analyse pca momentum {TASK} {STORED} --out bad/file", "cannot write bad/file/pca.npz: bad/file is not a folder"),
    (f"metatrain gru2 {TASK} --out out.csv", "cannot write out.csv/best.safetensors: out.csv is not a folder"),
    (f"metatrain gru2 {TASK} --out bad/taken", "cannot write bad/taken/last.safetensors: a folder"),
    (f"tune momentum {TASK} --out bad/taken", "cannot write bad/taken/momentum.json: a folder"),
    (f"analyse linearize momentum {TASK} {STORED} --out bad/taken", "cannot write bad/taken/modes.csv: a folder"),
    (f"analyse schedule momentum {TASK} {STORED} --out bad/taken", "cannot write bad/taken/schedule.json: a folder"),
    ("figure conditions --out bad/taken", "cannot write bad/taken/conditions.png: a folder"),
    ("figure conditions --out out.csv", "cannot write out.csv/conditions.svg: out.csv is not a folder"),
    ("claims --out bad", "cannot write bad: a folder"),
]


@pytest.mark.parametrize(("words", "said"), OUTPUTS)
def test_outputs_that_cannot_be_written_are_refused(refused: Callable, words: str, said: str):
    assert said in refused(words)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a full disk: no file may grow beyond `size` bytes (Python ignores the signal that comes with it)."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


FULL = [
    f"conditions {OUT}",
    f"analyse pca momentum {TASK} {STORED} --out out",
    f"analyse gradient_density momentum {TASK} {STORED} --out out",
    f"analyse schedule momentum {TASK} {STORED} --out out",
    "figure conditions --out out",
]


@pytest.mark.parametrize("words", FULL)
def test_a_full_disk_leaves_the_earlier_output(workshop: Path, monkeypatch: pytest.MonkeyPatch, words: str, capsys):
    earlier = workshop / "out"
    earlier.mkdir(exist_ok=True)
    for file in ("pca.npz", "gradient_density.csv", "schedule.csv", "conditions.svg"):
        (earlier / file).write_bytes(b"earlier")
    before = contents(workshop)
    with files_of_at_most(100):
        assert call(words, monkeypatch) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("reopt: error: cannot write out")
    assert line.endswith(": File too large")
    assert contents(workshop) == before


RESULTS = [
    ("figure momentum", "there is no file results/laptop/quadratic/analysis/gru2-s0/pca.npz"),
    ("claims", "there is no file results/laptop/quadratic/"),
    ("figure claims", "there is no file results/laptop/claims.csv"),
]


@pytest.mark.parametrize(("words", "said"), RESULTS)
def test_results_that_are_not_there_are_named(refused: Callable, words: str, said: str):
    assert said in refused(f"{words} --out {words.split()[0]}.csv")


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "condition_number\nmany\n", "\0\0\0", '"', "a\n1,2\n1,2,3\n"])
def test_results_of_another_kind_are_refused(refused: Callable, workshop: Path, content: str):
    table = workshop / "results/laptop/quadratic/conditions.csv"
    before = table.read_bytes()
    try:
        table.write_text(content)
        assert "results/laptop" in refused("figure conditions --out out")
    finally:
        table.write_bytes(before)


@pytest.mark.parametrize(
    "fault",  # AttributeError, TypeError, KeyError
    [operator.attrgetter("absent"), operator.itemgetter(0), operator.methodcaller("table", "undeclared.csv")],
)
def test_an_error_of_ours_on_sound_results_is_told_as_ours(
    workshop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, fault: Callable
):
    monkeypatch.setattr("reopt.figures.conditions.data", fault)
    assert call("figure conditions --out out", monkeypatch) == cli.BUG
    (line,) = capsys.readouterr().err.splitlines()
    assert "internal error, please report" in line


@pytest.mark.parametrize(
    "words",
    [
        "banana",
        f"evaluate momentum {OUT} --seed -1",
        f"evaluate bad/raises.py:adam {OUT}",
        pytest.param(f"evaluate bad/flipped.safetensors {OUT} --config config/laptop.yaml", marks=pytest.mark.long),
    ],
)
def test_a_process_of_its_own_shows_no_traceback(workshop: Path, words: str):
    command = [sys.executable, "-B", "-m", "reopt", *words.split()]
    before = contents(workshop)
    done = subprocess.run(command, cwd=workshop, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("reopt: error: ")
    assert contents(workshop) == before


COMMANDS = (
    *(
        "beyond",
        "control",
        "transfer",
        "deviations",
        "diff",
        "distil",
        "matrix",
        "foretell",
        "estimate",
        "metatrain",
        "search",
        "trace",
        "tune",
        "evaluate",
        "conditions",
        "landscape",
        "search",
        "check-config",
        "analyse",
    ),
    *("causes", "figure", "claims", "dissect", "init", "optimizers", "results", "page"),
    *("train-system", "tune-rival", "judge-rival", "judge-system", "read-system", "compare-systems", "systems-claims"),
    "systems-figure",
)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_explains_every_option(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setenv("COLUMNS", "400")
    assert call(f"{name} --help", monkeypatch) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    command = typer.main.get_command(cli.app).commands[name]
    assert command.help.splitlines()[0] in shown.out
    for parameter in command.params:
        assert parameter.help, f"{parameter.name} has no help"
        assert parameter.help in shown.out
        assert all(word in shown.out for word in parameter.opts if word.startswith("-"))


def test_help_lists_every_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    for words in ("--help", ""):
        assert call(words, monkeypatch) == 0
        shown = capsys.readouterr().out
        assert set(typer.main.get_command(cli.app).commands) == set(COMMANDS)
        assert all(f" {name} " in shown for name in COMMANDS)


def test_the_version_is_the_installed_one(capsys, monkeypatch):
    assert call("--version", monkeypatch) == 0
    assert capsys.readouterr().out == f"reopt {version('reopt')}\n"


def test_every_command_stands_in_help_under_a_heading():
    cli.load_commands()
    assert {one.rich_help_panel for one in cli.app.registered_commands} <= set(cli.COMMANDS.values())
