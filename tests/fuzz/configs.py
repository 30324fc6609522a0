"""Configs that are no configs, or nearly one: values, keys, structure and bytes changed at random."""

import copy
import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from campaign import Trial
from workshop import TASK, tiny_config

FILE = "bad/c.yaml"
READERS = (
    f"check-config {FILE}",
    f"evaluate polyak {TASK} --out out.csv --config {FILE}",
    f"analyse record polyak {TASK} --out out --config {FILE}",
    f"metatrain gru2 {TASK} --out out --config {FILE}",
    f"search {TASK} --out out --config {FILE}",
    f"tune momentum {TASK} --out out --config {FILE}",
    f"dissect polyak {TASK} --out out --config {FILE}",
    f"diff polyak momentum {TASK} --config {FILE}",
    f"estimate --config {FILE}",
    f"claims --out out.csv --config {FILE}",
    f"figure conditions --out out --config {FILE}",
    f"trace T2 {TASK} --cell gru2 --config {FILE}",
    f"deviations --out out.csv --config {FILE} --reference config/laptop.yaml",
    f"deviations --out out.csv --reference {FILE}",
)
VALUES: tuple[Any, ...] = (
    *(None, True, "", "text", "1e-8", "searched", "../up", "\u202eabc\u0000", "é" * 5000, "null"),
    *(-1, 0, 1, 10**9, -(10**30), 10**400, 0.5, -0.0, 1e308, 1e-320, math.nan, math.inf, -math.inf),
    *([], {}, [[]], [None], {"a": {"b": []}}, [1, 1], ["x"] * 1000, {"kind": "banana"}, {"kind": None}),
)
EXTREMES: dict[str, tuple[str, ...]] = {  # allowed by themselves: the end of what a key may be, and who reads it
    "analysis.clipping.range_factor=1e30": ("update_functions", "verdicts"),
    "analysis.clipping.range_factor=1e-300": ("update_functions", "verdicts"),
    "analysis.clipping.shifts=[1e30, -1e30]": ("update_functions",),
    "analysis.adaptation.low_quantile=0.0": ("adaptation", "verdicts"),
    "analysis.adaptation.high_quantile=1.0": ("adaptation",),
    "analysis.fixed_points.perturbation=1e30": ("fixed_points",),
    "analysis.fixed_points.tolerance=1e-300": ("fixed_points", "adaptation"),
    "analysis.fixed_points.tolerance=1e30": ("fixed_points",),
    "analysis.fixed_points.merge_distance=1e30": ("fixed_points",),
    "analysis.fixed_points.max_iterations=1": ("fixed_points",),
    "tasks.quadratic.num_steps=2": ("record", "schedule", "verdicts"),
    "tasks.quadratic.problem.log10_eigenvalues=[-30.0, 30.0]": ("record",),
    "tasks.quadratic.problem.log10_eigenvalues=[30.0, 38.0]": ("record",),
    "tasks.quadratic.problem.dimension=1": ("record",),
}


def _places(content: Any, at: tuple = ()) -> Iterator[tuple]:
    """Where there is something in a config: the keys that lead to it."""
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        yield (*at, key)
        if isinstance(value, dict | list):
            yield from _places(value, (*at, key))


def _at(content: Any, keys: tuple) -> Any:
    for key in keys:
        content = content[key]
    return content


def changed(content: dict[str, Any], dice: random.Random) -> tuple[str, dict[str, Any]]:
    """(what was done, a config with one or two places changed)."""
    content, said = copy.deepcopy(content), []
    for _ in range(dice.choice([1, 1, 1, 2])):
        *way, key = dice.choice(list(_places(content)))
        inside, name = _at(content, tuple(way)), ".".join(map(str, (*way, key)))
        kind = dice.choice(["value", "value", "value", "missing", "extra", "list", "moved"])
        if kind == "value":
            inside[key] = copy.deepcopy(dice.choice(VALUES))
            name += f"={str(inside[key])[:30]}"
        elif kind == "missing":
            del inside[key]
        elif kind == "extra" and isinstance(inside, dict):
            inside[dice.choice(["odd", "", "é", "x" * 5000, "__class__", "kind"])] = 1
        elif kind == "list":
            inside[key] = [inside[key]]
        else:
            content["moved"] = inside[key]
        said.append(f"{kind} {name}")
    return ", ".join(said), content


def _bomb(depth: int) -> bytes:
    lines = ["a0: &a0 {x: 1}", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, depth))]
    return "\n".join(lines).encode()


def _flipped(whole: bytes, dice: random.Random) -> bytes:
    cut = bytearray(whole)
    for _ in range(dice.choice([1, 3, 30])):
        cut[dice.randrange(len(cut))] = dice.randrange(256)
    return bytes(cut)


TEXTS: dict[str, bytes] = {  # none of which is a config
    "empty": b"",
    "a comment": b"# nothing\n",
    "NUL": b"name: a\0b\n",
    "latin-1": "name: é\n".encode("latin-1"),
    "UTF-16": "name: laptop\n".encode("utf-16"),
    "a list": b"- 1\n- 2\n",
    "a number": b"1\n",
    "infinity": b".inf\n",
    "unclosed": b"name: [\n}",
    "a tab": b"name:\n\t- 1\n",
    "two documents": b"name: a\n---\nname: b\n",
    "a command": b"name: !!python/object/apply:os.system ['touch canary']\n",
    "a module": b"name: !!python/module:antigravity\n",
    "an object": b"!!python/object/new:type {args: [z, !!python/tuple [], {}]}\n",
    "aliases": _bomb(30),
    "a loop": b"name: &a [*a]\ntasks: &b {x: *b}\n",
    "an unknown alias": b"name: *nowhere\n",
    "merges": b"a: &a {<<: *a}\nname: x\n",
    "a merged number": b"<<: 3\nname: x\n",
    "deep lists": b"name: " + b"[" * 50_000,
    "deep blocks": b"{a: " * 20_000,
    "deep indents": b"".join(b" " * i + b"a:\n" for i in range(1200)),
    "a key twice": b"name: a\nname: b\n",
    "a key that is a list": b"? [1, 2]\n: 3\n",
    "a key that is a block": b"? {a: 1}\n: 3\n",
    "a date": b"name: 2026-02-30\n",
    "a long number": b"name: " + b"9" * 5000 + b"\n",
    "a long key": b"x" * 5000 + b": 1\n",
    "too large": b"#" * 2_000_000,
    "binary": b"name: !!binary '*'\n",
    "a set": b"name: !!set [1]\n",
    "pairs": b"name: !!omap 3\n",
    "sexagesimal": b"name: 190:20:30\n",
    "ELF": b"\x7fELF" + bytes(range(256)),
}


def _written(content: bytes) -> Callable[[Path], object]:
    return lambda workshop: (workshop / FILE).write_bytes(content)


def trials(dice: random.Random, count: int) -> Iterator[Trial]:
    """`count` configs: a third text that is none, the others changed in places; and the ends of what is allowed."""
    content = tiny_config()
    whole = yaml.safe_dump(content).encode()
    for number in range(count):
        if number % 3 == 0:
            name = list(TEXTS)[number // 3 % len(TEXTS)]
            words = READERS[dice.randrange(len(READERS))]
            yield Trial("configs", name, tuple(words.split()), (FILE,), True, _written(TEXTS[name]))
        elif number % 3 == 1:
            said, odd = changed(content, dice)
            text = yaml.safe_dump(odd, allow_unicode=True).encode("utf-8", "surrogatepass")
            yield Trial("configs", said, ("check-config", FILE), (FILE,), None, _written(text))
        else:
            cut = dice.random() < 0.3
            text = whole[: dice.randrange(len(whole) - 200)] if cut else _flipped(whole, dice)
            said = "cut" if cut else "flipped"
            yield Trial("configs", said, ("check-config", FILE), (FILE,), cut or None, _written(text))
    yield from _extremes(dice, count // 20)


def _extremes(dice: random.Random, count: int) -> Iterator[Trial]:
    pairs = [(change, part) for change, parts in EXTREMES.items() for part in parts]
    for change, part in dice.sample(pairs, min(count, len(pairs))):
        content = tiny_config()
        key, _, value = change.partition("=")
        *way, last = key.split(".")
        _at(content, tuple(way))[last] = yaml.safe_load(value.replace("e", ".0e")) if "." not in value else eval(value)
        stored = (
            ()
            if part == "record" or "num_steps" in change
            else ("--from", "results/laptop/quadratic/analysis/momentum")
        )
        words = ("analyse", part, "momentum", *TASK.split(), "--out", "out", "--config", FILE, *stored)
        yield Trial("configs", change, words, (), None, _written(yaml.safe_dump(content).encode()))
