"""The config loader: what is wrong with a file is said in one line with the file, the key and what is allowed."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from reopt.core.errors import ReoptError
from reopt.pipeline.config import Config, filled, load_config, parse_config, read_filled, read_yaml
from reopt.pipeline.slice import Slice
from snakedvc import section

FOLDER = Path(__file__).parents[2] / "config"
SHIPPED = sorted(path for path in FOLDER.glob("*.yaml") if not path.name.startswith("systems"))
SMOKE = (FOLDER / "smoke.yaml").read_text(encoding="utf-8")
CONTENT = read_yaml(FOLDER / "smoke.yaml")
GONE = "<gone>"  # the same name in every process: it is part of tests' names
OPTIMIZER = "tasks.quadratic.optimizers.gru16"
TRAINING = f"{OPTIMIZER}.training"
SEARCH = {
    **{"optimizer": "gru16", "candidates": 8, "outer_steps": 5, "seed": 0},
    **{"features": ["raw", "log1p"], "input_scale": [1.0, 0.1], "output_scale": [1.0], "learning_rate": [0.1, 0.01]},
}


def changed(keys: tuple | list, value: Any) -> dict[str, Any]:
    """The smoke config with one place set to `value`, or without it."""
    content = copy.deepcopy(CONTENT)
    block: Any = content
    for key in keys[:-1]:
        block = block[key]
    if value is GONE:
        del block[keys[-1]]
    else:
        block[keys[-1]] = value
    return content


def refusal(path: Path) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(ReoptError) as caught:
        load_config(path)
    line = str(caught.value)
    assert line.startswith(str(path))
    assert line.isprintable()
    assert len(line) < 400
    return line.removeprefix(str(path))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configs_load(path: Path):
    config = load_config(path)
    assert config.name == path.stem
    assert Config.model_validate(config.model_dump()) == config


REFUSED = [  # dotted key, value, what the line says
    (
        "tasks.quadratic.num_steps",
        GONE,
        "missing key; allowed: whole number >= 2, <= 1,000,000 (optimizer steps of a run)",
    ),
    (f"{OPTIMIZER}.units", GONE, "units: missing key; allowed: whole number >= 1, <= 4,096 (hidden units)"),
    ("claims.linear_update.in_part", GONE, "claims.linear_update.in_part: missing key; allowed: number"),
    (f"{TRAINING}.schedule.kind", GONE, "schedule.kind: missing key; allowed: `cosine`, `exponential`"),
    ("tasks.quadratic.problem.dimension", GONE, "missing key; allowed: whole number >= 1, <= 1,000"),
    ("baselines.ranges.adam.beta2", GONE, "baselines.ranges: adam needs the keys beta1, beta2, eps, learning_rate"),
    ("baselines.ranges.momentum", GONE, "'momentum' is missing: it is examined"),
    ("extra", 1, "extra: unknown key; known here are name, tasks,"),
    ("evaluation.sed", 1, "evaluation.sed: unknown key; known here are problems, seed"),
    (f"{TRAINING}.schedule.cycles", 1, "schedule.cycles: unknown key; known here are kind, warmup_steps"),
    ("tasks.quadratic.problem.noise", 1.0, "problem.noise: unknown key; known here are dimension, log10_eigenvalues"),
    ("baselines.ranges.lion", {}, "not allowed as a name: input should be 'sgd', 'momentum'"),
    ("baselines.ranges.sgd.momentum", {"low": 0.1, "high": 1.0, "scale": "log"}, "'momentum' is unknown"),
    ("evaluation.problems", True, "true is not allowed; allowed: whole number >= 2, <= 1,000,000"),
    ("evaluation.problems", 256.0, "256.0 is not allowed; allowed: whole number"),
    (
        "evaluation.problems",
        "256",
        "'256' is not allowed; allowed: whole number >= 2, <= 1,000,000 (number of problems)",
    ),
    ("evaluation.problems", None, "null is not allowed; allowed: whole number"),
    ("evaluation.problems", 1, "1 is not allowed; allowed: whole number >= 2"),
    ("evaluation.problems", 10**7, "10000000 is not allowed; allowed: whole number >= 2, <= 1,000,000"),
    ("evaluation.problems", 10**400, "is not allowed; allowed: whole number"),
    ("evaluation.seed", -1, "-1 is not allowed; allowed: whole number >= 0"),
    ("evaluation.seed", 2**31, "2147483648 is not allowed; allowed: whole number >= 0, < 2,147,483,648"),
    (f"{OPTIMIZER}.seeds", [0, -1], "seeds.1: -1 is not allowed; allowed: whole number >= 0"),
    (f"{OPTIMIZER}.seeds", [0, 0], "seeds: 0 stands there twice"),
    (f"{OPTIMIZER}.seeds", [], "seeds: list should have at least 1 item"),
    (f"{OPTIMIZER}.seeds", 0, "seeds: 0 is not allowed; allowed: list of whole number"),
    (f"{TRAINING}.learning_rate", "fast", "'fast' is not allowed; allowed: number > 0, <= 1e+30"),
    (f"{TRAINING}.eps", "1e-8", "'1e-8' is not allowed; allowed: number > 0, <= 1e+30 (Adam's epsilon); write 1.0e-08"),
    (f"{TRAINING}.learning_rate", float("nan"), "nan is not allowed; allowed: number > 0, <= 1e+30"),
    (f"{TRAINING}.learning_rate", float("inf"), "inf is not allowed; allowed: number > 0, <= 1e+30"),
    (f"{TRAINING}.learning_rate", 0.0, "0.0 is not allowed; allowed: number > 0"),
    (f"{TRAINING}.learning_rate", 10**400, "is not allowed; allowed: number > 0, <= 1e+30"),
    (f"{TRAINING}.beta1", 1.0, "1.0 is not allowed; allowed: number >= 0, < 1"),
    (f"{TRAINING}.cotangent_clipping", 4.0, "cotangent_clipping: 4.0 is not allowed; allowed: block of keys or null"),
    (
        f"{TRAINING}.cotangent_clipping.group",
        5,
        "problems is 32, but must be a multiple of cotangent_clipping.group, 5",
    ),
    (
        f"{TRAINING}.cotangent_clipping.groups",
        5,
        "cotangent_clipping.groups: unknown key; known here are factor, group",
    ),
    (
        f"{TRAINING}.cotangent_clipping.factor",
        -1.0,
        "cotangent_clipping.factor: -1.0 is not allowed; allowed: number > 0",
    ),
    (f"{TRAINING}.problem", {"dimensions": 3}, "training.problem.dimensions: unknown key; known here are dimension"),
    (
        f"{TRAINING}.estimator",
        {"kind": "truncated", "window": 9},
        "cotangent_clipping must be null where estimator.kind is tr",
    ),
    (f"{TRAINING}.estimator", {"kind": "pes", "window": 9}, "estimator.deviation: missing key; allowed: number > 0"),
    (f"{TRAINING}.clip", [1.0], "clip: a list is not allowed; allowed: block of keys (Clipping of the"),
    (f"{TRAINING}.clip.kind", "value", "kind: 'value' is not allowed; allowed: `element`, `norm`"),
    (
        f"{TRAINING}.schedule",
        "cosine",
        "'cosine' is not allowed; allowed: block of keys whose kind is `cosine` or `exponential`",
    ),
    (f"{TRAINING}.schedule.kind", "linear", "schedule.kind: 'linear' is not allowed; allowed: `cosine`, `exponential`"),
    (f"{TRAINING}.schedule.warmup_steps", 400, "training: schedule.warmup_steps must be below outer_steps"),
    (f"{OPTIMIZER}.cell", "transformer", "cell: 'transformer' is not allowed; allowed: `gru`, `lstm`, `vanilla`"),
    (f"{OPTIMIZER}.cell", None, "cell: null is not allowed; allowed: `gru`, `lstm`, `vanilla`"),
    (
        "tasks.quadratic.problem.log10_eigenvalues",
        [0.0, -3.0],
        "log10_eigenvalues must be [low, high] with low <= high",
    ),
    ("tasks.quadratic.problem.log10_eigenvalues", [0.0, 99.0], "log10_eigenvalues.1: 99.0 is not allowed"),
    ("tasks.quadratic.problem.dimension", "5", "tasks.quadratic.problem.dimension: '5' is not allowed"),
    ("tasks.quadratic.problem", [], "problem: a list is not allowed; allowed: block of keys"),
    ("tasks.quadratic.shown", "gru16-s1", "shown is 'gru16-s1', but must be one of gru16-s0"),
    ("tasks.quadratic.own", None, "own: null is not allowed; allowed: block of keys"),
    (
        "tasks.quadratic.own",
        {"analysis": {}},
        "own.analysis: unknown key; known here are baselines, evaluation, record",
    ),
    ("tasks.quadratic.own", {"evaluation": {"seed": 1}}, "own.evaluation.problems: missing key; allowed: whole number"),
    ("tasks.quadratic.own", {"evaluation": {"problems": 1, "seed": 1}}, "own.evaluation.problems: 1 is not allowed"),
    ("baselines.early_stopping", 0.5, "early_stopping: 0.5 is not allowed; allowed: number >= 1"),
    ("analysis.record.params", 0, "record.params: 0 is not allowed; allowed: whole number >= 1"),
    (f"{OPTIMIZER}.features", "searched", "optimizers.gru16 has a searched features, but search is null"),
    (f"{TRAINING}.learning_rate", "searched", "optimizers.gru16 has a searched learning_rate, but search is null"),
    (f"{TRAINING}.beta1", "searched", "beta1: 'searched' is not allowed; allowed: number >= 0, < 1"),
    (f"{OPTIMIZER}.input_scale", -1.0, "input_scale: -1.0 is not allowed; allowed: number > 0, <= 1e+30 or `searched`"),
    ("tasks.quadratic.search", SEARCH | {"optimizer": "gru9"}, "search.optimizer is 'gru9', but must be one of"),
    ("tasks.quadratic.search", SEARCH | {"candidates": 9}, "candidates is 9, but there are only 8 combinations"),
    ("tasks.quadratic.search", SEARCH | {"input_scale": [1.0, 1.0]}, "search.input_scale: 1.0 stands there twice"),
    ("tasks.quadratic.search", SEARCH | {"features": ["sign"]}, "features.0: 'sign' is not allowed; allowed: `raw`"),
    ("tasks.quadratic.search", SEARCH | {"steps": 1}, "search.steps: unknown key; known here are optimizer"),
    ("tasks.quadratic.optimizers", {}, "optimizers: dictionary should have at least 1 item"),
    ("tasks", {}, "tasks: dictionary should have at least 1 item"),
    ("tasks", "quadratic", "tasks: 'quadratic' is not allowed; allowed: block of keys"),
    (
        "tasks.banana",
        CONTENT["tasks"]["quadratic"],
        "tasks.banana: unknown task 'banana'; there are: mnist, quadratic, rosenbrock, two_moons",
    ),
    (
        "tasks.base",
        CONTENT["tasks"]["quadratic"],
        "tasks.base: unknown task 'base'; there are: mnist, quadratic, rosenbrock, two_moons",
    ),
    ("tasks.../quadratic", CONTENT["tasks"]["quadratic"], "not allowed as a name: string should match pattern"),
    ("name", "../x", "name: '../x' is not allowed; allowed: text matching `^[a-z][a-z0-9_]{0,39}$`"),
    ("name", "a/b", "name: 'a/b' is not allowed; allowed: text matching"),
    ("name", "", "name: '' is not allowed; allowed: text matching"),
    ("name", "smoke\n", r"name: 'smoke\n' is not allowed; allowed: text matching"),
    ("name", "größe", "name: 'größe' is not allowed; allowed: text matching"),
    ("name", "a" * 41, "is not allowed; allowed: text matching"),
    ("name", 7, "name: 7 is not allowed; allowed: text matching"),
    ("baselines.ranges.sgd.learning_rate.low", 10.0, "ranges.sgd.learning_rate: low must be below high"),
    ("baselines.ranges.sgd.learning_rate.low", 0.0, "low must be above 0 on a log scale"),
    ("baselines.ranges.momentum.momentum.high", 1.0, "low and high must be in [0, 1) on a one_minus_log scale"),
    (
        "analysis.analysed_baselines",
        ["momentum"],
        "analysed_baselines: 'rmsprop' is missing: claim T15 compares with it",
    ),
    ("analysis.record.state_problems", 17, "record: state_problems must be at most problems"),
    ("analysis.clipping.shifts", [float("-inf")], "shifts.0: -inf is not allowed; allowed: number"),
    ("analysis.adaptation.low_quantile", 0.9999, "low_quantile must be below high_quantile"),
    ("claims.schedule_peak", [35, 15], "schedule_peak: must be [first, last] with first <= last"),
    ("claims.confidence", 0.5, "confidence: 0.5 is not allowed; allowed: number > 0.5, < 1"),
]


@pytest.mark.parametrize(("key", "value", "said"), REFUSED, ids=lambda part: str(part)[:40])
def test_a_wrong_value_is_refused(tmp_path: Path, key: str, value: Any, said: str):
    path = tmp_path / "config.yaml"
    keys = ["tasks", "../quadratic"] if key == "tasks.../quadratic" else key.split(".")
    path.write_text(yaml.safe_dump(changed(keys, value), allow_unicode=True), encoding="utf-8")
    assert said in refusal(path)


def test_a_searched_value_is_filled_in_from_a_recipe_and_others_are_kept():
    content = changed(("tasks", "quadratic", "search"), SEARCH)
    task = content["tasks"]["quadratic"]
    task["optimizers"]["gru16"] |= {"input_scale": "searched"}
    task["optimizers"]["gru16"]["training"]["learning_rate"] = "searched"
    entry = parse_config(content, "file.yaml").tasks["quadratic"].optimizers["gru16"]
    assert entry.searched == ["input_scale", "learning_rate"]
    found = entry.with_recipe({"features": "log1p", "input_scale": 0.3, "output_scale": 9.0, "learning_rate": 0.02})
    assert found.searched == []
    assert (found.features, found.input_scale, found.output_scale) == ("raw", 0.3, 1.0)
    assert found.training.learning_rate == 0.02
    assert found.training.beta2 == entry.training.beta2
    assert entry.training.learning_rate == "searched"  # the entry itself stays


def test_several_mistakes_are_counted(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text("name: 3\nclaims: 1\n")
    assert refusal(path).startswith(": name: 3 is not allowed; allowed: text matching")
    assert refusal(path).endswith("(and 2 more)")


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(9))
FILES: dict[str, tuple[bytes, str]] = {  # content, what the line says
    "empty": (b"", "must hold keys and values"),
    "comment alone": (b"# nothing\n", "must hold keys and values"),
    "a list": (b"- name: smoke\n", "must hold keys and values"),
    "a number": (b"3\n", "must hold keys and values"),
    "not YAML": (b"name: [smoke\ntasks: }\n", ", line 2: "),
    "tabs": (b"name: smoke\ntasks:\n\tquadratic: 1\n", ", line 3: "),
    "two documents": (b"name: a\n---\nname: b\n", ", line 2: "),
    "twice": (SMOKE.encode() + b"name: other\n", "key 'name' stands twice"),
    "twice, deep": (SMOKE.replace("units: 16", "units: 16\n        units: 17").encode(), "key 'units' stands twice"),
    "a key that is no text": (b"3: x\n", ", line 1: key 3 is not text"),
    "a key that is a list": (b"[a, b]: x\n", "key ['a', 'b'] is not text"),
    "a Python object": (b"name: !!python/object/apply:os.system ['touch sprung']\n", ", line 1: could not determine"),
    "a Python name": (b"name: !!python/name:os.system\n", ", line 1: could not determine a constructor"),
    "a tag of its own": (b"name: !secret x\n", ", line 1: could not determine a constructor"),
    "an impossible date": (b"name: 2026-99-99\n", "not YAML: month must be in 1..12"),
    "an undefined alias": (b"name: *nothing\n", ", line 1: found undefined alias 'nothing'"),
    "a loop": (b"name: &a {b: *a}\n", ": "),
    "aliases that multiply": (BOMB.encode(), "more than 30 aliases"),
    "deep brackets": (b"name: " + b"[" * 100_000, ", line 1: deeper than 100 blocks"),
    "deep blocks": (b"name: " + b"{a: " * 5000 + b"}" * 5000, ", line 1: deeper than 100 blocks"),
    "a number of many digits": (b"name: " + b"9" * 10_000, ": "),
    "too large": (b"# " + b"x" * 2_000_000, "too large for a config: at most 1,000,000 bytes"),
    "not UTF-8": (b"name: sm\xff\xfeke\n", "cannot be read: it is not UTF-8 text"),
    "UTF-16": (SMOKE.encode("utf-16"), "cannot be read: it is not UTF-8 text"),
    "binary": (bytes(range(256)), "cannot be read: it is not UTF-8 text"),
    "NUL": (b"name: sm\0ke\n", ": "),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str):
    monkeypatch.chdir(tmp_path)
    content, said = FILES[case]
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    assert said in refusal(path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_no_file_a_folder_and_a_device_are_refused(tmp_path: Path):
    assert "there is no such config file" in refusal(tmp_path / "nothing.yaml")
    assert "is not a file, but a config must be one" in refusal(tmp_path)
    assert "is not a file, but a config must be one" in refusal(Path("/dev/zero"))
    assert "cannot be read: " in refusal(SHIPPED[0] / "below a file")
    assert "cannot be read: " in refusal(tmp_path / ("long" * 70))
    (tmp_path / "loop").symlink_to("loop")
    assert "cannot be read: " in refusal(tmp_path / "loop")


def test_merge_keys_are_allowed(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text(
        SMOKE.replace("evaluation:\n", "evaluation: &e\n").replace("seed: 1\n", "seed: 1\n  <<: {seed: 2}\n")
    )
    assert load_config(path).evaluation.seed == 1


def leaves(value: Any, keys: tuple = ()) -> Iterator[tuple]:
    """The places of all values that hold no others."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*keys, key))
    else:
        yield keys


def blocks(value: Any, keys: tuple = ()) -> Iterator[tuple]:
    """The places of all keys."""
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield (*keys, key)
        yield from blocks(inner, (*keys, key))


def said_of(content: dict[str, Any]) -> str:
    with pytest.raises(ReoptError) as caught:
        parse_config(content, "file.yaml")
    line = str(caught.value)
    assert line.startswith("file.yaml: ")
    assert line.isprintable()
    return line


# No key takes a value of these types, or of these sizes.
NEVER = st.one_of(
    st.booleans(),
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(), max_size=3),
    st.lists(st.none() | st.text(max_size=5), max_size=3),
    st.text().filter(lambda text: not text.isalnum()),
    st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e300, 10**400, -(10**400)]),
    st.binary(max_size=3) | st.dates() | st.datetimes(),
)


@settings(max_examples=20, deadline=None)
@given(keys=st.sampled_from(list(leaves(CONTENT))), value=NEVER)
def test_any_leaf_of_a_wrong_type_is_refused_by_name(keys: tuple, value: Any):
    assert "shown" in keys or str(keys[-2 if isinstance(keys[-1], int) else -1]) in said_of(changed(keys, value))


NEEDED = {  # without a default: what a config is about, and blocks of which a half says nothing
    *("name", "tasks", "num_steps", "optimizers", "units", "dimension", "log10_eigenvalues"),
    *("kind", "low", "high", "scale", "holds", "in_part"),
}


def at(content: Any, keys: tuple) -> Any:
    for key in keys:
        content = content[key]
    return content


@pytest.mark.parametrize("keys", list(blocks(CONTENT)), ids=lambda keys: ".".join(keys))
def test_any_key_misspelt_is_refused_and_one_missing_too_or_has_its_default(keys: tuple):
    assert "Odd" in said_of(changed((*keys[:-1], "Odd"), 1))
    free = keys[-2:-1] in (("tasks",), ("optimizers",), ("ranges",))  # of a name that the user chooses
    drawn = "ranges" in keys[:-1]  # of a baseline: each of its hyperparameters is needed
    without = changed(keys, GONE)
    if not free and (drawn or keys[-2:] == ("quadratic", "problem") or (keys[-1] in NEEDED and "clip" not in keys)):
        assert keys[-1] in said_of(without)
    elif not free and keys[-1] != "search":  # which is null where it is left out
        whole = filled(without, "file.yaml")
        assert type(at(whole, keys)) is type(at(CONTENT, keys))
        assert changed_in(whole, keys, at(CONTENT, keys)) == CONTENT  # and nothing else is other than in the file


def changed_in(content: dict[str, Any], keys: tuple, value: Any) -> dict[str, Any]:
    at(content, keys[:-1])[keys[-1]] = value
    return content


SMALLEST: dict[str, Any] = {
    "name": "mine",
    "tasks": {
        "quadratic": {
            "problem": {"dimension": 3, "log10_eigenvalues": [-2.0, 0.0]},
            "num_steps": 50,
            "optimizers": {"b": {"units": 4, "seeds": [3, 1]}, "a": {"units": 2}},
        }
    },
}


def test_what_is_left_out_is_filled_in_and_what_is_said_stays():
    for path in SHIPPED:  # they say everything, in the words that jobs were recorded with
        assert repr(read_filled(path)) == repr(read_yaml(path))
    whole = filled(SMALLEST, "file.yaml")
    task = whole["tasks"]["quadratic"]
    assert task["shown"] == "b-s3"
    assert task["own"] == {}
    assert task["optimizers"]["a"]["seeds"] == [0]
    assert task["optimizers"]["b"]["seeds"] == [3, 1]
    assert task["optimizers"]["a"]["training"]["schedule"] == {
        "kind": "cosine",
        "warmup_steps": 50,
        "final_fraction": 0.02,
    }
    assert whole["claims"] == CONTENT["claims"]  # the paper's criteria are those of every config
    assert filled(whole, "file.yaml") == whole
    assert parse_config(whole, "file.yaml") == parse_config(SMALLEST, "file.yaml")


def test_a_stage_finds_defaults_as_if_they_were_written_out(tmp_path: Path):
    whole = filled(SMALLEST, "file.yaml")
    files = {name: tmp_path / f"{name}.yaml" for name in ("short", "long")}
    files["short"].write_text(yaml.safe_dump(SMALLEST))
    files["long"].write_text(yaml.safe_dump(whole))
    for name in ("metatrain", "tune", "evaluate", "record", "fixed_points", "update_functions", "adaptation"):
        short, long = (
            Slice(file, name, task="quadratic", optimizer="a", baseline="adam")
            for file in (files["short"], files["long"])
        )
        assert short.stage == long.stage
        assert short.plain() == long.plain()
        assert section(whole, *short.stage.keys) == short.plain()  # what Snakemake compares


def test_a_block_of_a_tasks_own_is_whole():
    content = changed(("tasks", "quadratic", "own"), {"record": {"problems": 8, "seed": 0}})
    assert "tasks.quadratic.own.record.state_problems: missing key; allowed: whole number >= 1" in said_of(content)


# Of few letters: the table of all of Unicode takes longer to make than the rest of this file.
WORDS = st.text("aZ0_- .:#'\n\x00\u00e9\u4e2d\U0001f600", max_size=8)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=20, deadline=None)
@given(keys=st.sampled_from(list(blocks(CONTENT))), value=ANYTHING)
def test_any_value_anywhere_is_either_taken_or_refused_in_one_line(keys: tuple, value: Any):
    content = changed(keys, value)
    try:
        parse_config(content, "file.yaml")
    except ReoptError:
        said_of(content)


@settings(max_examples=50, deadline=None)
@given(content=st.binary(max_size=60) | st.text("{}[]:-&*!|>#%@`'\"\n\t aA01.<~?,", max_size=40).map(str.encode))
def test_any_bytes_are_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    path = tmp_path_factory.getbasetemp() / "anything.yaml"
    path.write_bytes(content)
    refusal(path)
