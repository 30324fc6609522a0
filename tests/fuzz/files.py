"""Data files that are damaged, of another kind, or made to hurt: checkpoints, arrays, tables, JSON."""

import gzip
import io
import json
import pickle
import random
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import safetensors.numpy
from campaign import Trial
from workshop import CHECKPOINT, EXAMINED, TASK

from reopt.core.checkpoint import _digest

GIGABYTE = 2**30


class Target(NamedTuple):
    """A file that a command reads: where it stands in the folder `bad`, what a good one is, who reads it."""

    file: str
    good: str  # a file of the workshop, or a name of `GOOD`
    words: str

    @property
    def kind(self) -> str:
        return self.file.rpartition(".")[2]


STORED = "bad/momentum"  # a copy of an examination
ANALYSE = f"momentum {TASK} --out out --from {STORED}"
RESULTS = "results/laptop/quadratic"
TARGETS = (
    Target("bad/c.safetensors", CHECKPOINT, f"evaluate bad/c.safetensors {TASK} --out out.csv"),
    Target("bad/c.safetensors", CHECKPOINT, f"diff bad/c.safetensors polyak {TASK}"),
    Target("bad/s.safetensors", CHECKPOINT, f"metatrain gru2 {TASK} --out out --seed 1 --state bad/s.safetensors"),
    Target("bad/w.npz", "weights", f"evaluate bad/w.npz {TASK} --out out.csv"),
    Target("bad/m.json", f"{RESULTS}/baselines/momentum.json", f"evaluate bad/m.json {TASK} --out out.csv"),
    Target("bad/r.json", "recipe", f"metatrain gru2 {TASK} --out out --config bad/c.yaml --recipe bad/r.json"),
    *(
        Target(f"{STORED}/{file}", f"{EXAMINED}/{file}", f"analyse {part} {ANALYSE}")
        for file, parts in (
            ("record.npz", ("pca", "fixed_points", "update_functions", "gradient_density", "adaptation", "verdicts")),
            ("pca.npz", ("schedule", "update_functions", "adaptation")),
            ("fixed_points.npz", ("linearize",)),
            ("linearization.npz", ("schedule", "adaptation", "update_functions")),
        )
        for part in parts
    ),
    *(
        Target(f"{STORED}/{file}", f"{EXAMINED}/{file}", f"{command} momentum {TASK} --examination {STORED} --out out")
        for file, command in (
            ("record.npz", "beyond"),
            ("clipping.csv", "beyond"),
            ("clipping.csv", "causes"),
            ("linearization.npz", "causes"),
        )
    ),
    *(
        Target(f"{EXAMINED}/{file}", f"{EXAMINED}/{file}", f"dissect momentum {TASK} --out out --draws 0")
        for file in (
            *("record.npz", "modes.csv", "impulse.csv", "linearized.csv", "clipping.csv", "gradient_density.csv"),
            *("schedule.csv", "schedule.json", "adaptation.csv", "adaptation.json", "adaptation_functions.csv.gz"),
            *("update_functions.csv.gz", "readings.csv", "linearized_problems.csv.gz", "operating.csv.gz"),
            "operating_functions.csv.gz",
        )
    ),
    Target(f"{RESULTS}/conditions.csv", f"{RESULTS}/conditions.csv", "figure conditions --out out"),
)


def _weights() -> bytes:
    rng = np.random.default_rng(0)
    shapes = {"weight_ih": (9, 1), "weight_hh": (9, 3), "bias_ih": (9,), "bias_hh": (9,), "readout_weight": (3,)}
    arrays: dict[str, Any] = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return _npz(arrays | {"readout_bias": np.zeros(()), "convention": np.array("pytorch")})


def _npz(arrays: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=True, **arrays)
    return file.getvalue()


GOOD: dict[str, Callable[[], bytes]] = {
    "weights": _weights,
    "recipe": lambda: b'{"features": "raw", "input_scale": 1.0, "output_scale": 1.0, "learning_rate": 0.01}',
}


class _Payload:
    """Unpickled, it leaves a file behind."""

    def __reduce__(self) -> tuple:
        return (open, ("canary", "w"))


# Bytes


def _cut(whole: bytes, dice: random.Random) -> bytes:
    return whole[: dice.randrange(len(whole))]


def _flip(whole: bytes, dice: random.Random) -> bytes:
    found = bytearray(whole)
    for _ in range(dice.choice([1, 1, 2, 8])):
        found[dice.randrange(len(found))] ^= 1 << dice.randrange(8)
    return bytes(found)


def _zeroed(whole: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(whole))
    return whole[:at] + bytes(min(64, len(whole) - at)) + whole[at + 64 :]


def _inserted(whole: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(whole))
    return whole[:at] + dice.randbytes(dice.choice([1, 7, 64])) + whole[at:]


def _noise(whole: bytes, dice: random.Random) -> bytes:
    return dice.randbytes(len(whole))


BYTES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "cut": _cut,
    "flipped bits": _flip,
    "a run of zeros": _zeroed,
    "inserted bytes": _inserted,
    "noise": _noise,
    "empty": lambda whole, dice: b"",
    "twice": lambda whole, dice: whole + whole,
    "zeros": lambda whole, dice: bytes(len(whole)),
    "a pickle": lambda whole, dice: pickle.dumps({"a": _Payload()}),
    "a page": lambda whole, dice: b"<!DOCTYPE html><html><body>404</body></html>",
    "text": lambda whole, dice: "nä\n".encode("utf-16"),
    "a pointer": lambda whole, dice: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
}

# Arrays


def _filled(value: float) -> Callable[[np.ndarray, random.Random], Any]:
    return lambda array, dice: np.full_like(array, value) if array.dtype.kind == "f" else np.zeros_like(array)


def _some(value: float) -> Callable[[np.ndarray, random.Random], Any]:
    def change(array: np.ndarray, dice: random.Random) -> np.ndarray:
        if array.dtype.kind != "f" or not array.size:
            return array
        found = array.copy().ravel()
        found[dice.randrange(found.size)] = value
        return found.reshape(array.shape)

    return change


ARRAYS: dict[str, Callable[[np.ndarray, random.Random], Any]] = {
    "NaN": _filled(np.nan),
    "infinity": _filled(np.inf),
    "zero": _filled(0.0),
    "huge": _filled(1e38),
    "one NaN": _some(np.nan),
    "one infinity": _some(-np.inf),
    "one huge": _some(3e38),
    "complex": lambda a, dice: a.astype(complex) * 1j if a.dtype.kind in "fi" else a,
    "whole numbers": lambda a, dice: a.astype(np.int64) if a.dtype.kind == "i" else np.nan_to_num(a).astype(np.int16),
    "half": lambda a, dice: a.astype(np.float16) if a.dtype.kind == "f" else a,
    "big-endian": lambda a, dice: a.astype(a.dtype.newbyteorder(">")),
    "booleans": lambda a, dice: a.astype(bool),
    "text": lambda a, dice: np.full(a.shape, "x"),
    "times": lambda a, dice: np.zeros(a.shape, "datetime64[s]"),
    "records": lambda a, dice: np.zeros(a.shape, [("a", "f4"), ("b", "i8")]),
    "objects": lambda a, dice: np.array([_Payload(), None], object),
    "another axis": lambda a, dice: a[None],
    "no rows": lambda a, dice: a[:0] if a.ndim else np.zeros((0,)),
    "no columns": lambda a, dice: a[..., :0] if a.ndim else np.zeros((0,)),
    "more": lambda a, dice: np.concatenate([a, a], axis=-1) if a.ndim else np.array([a, a]),
    "transposed": lambda a, dice: a.T,
    "flat": lambda a, dice: a.ravel(),
    "other numbers": lambda a, dice: (a + 1).astype(a.dtype) if a.dtype.kind == "f" else a,
}
HARMLESS = (
    "big-endian",
    "half",
    "one huge",
    "transposed",
    "flat",
    "more",
    "other numbers",
    "whole numbers",
    "booleans",
)


def _arrays_changed(target: Target, whole: bytes, change: str, dice: random.Random) -> tuple[str, bytes]:
    """(which arrays, the file with them changed)."""
    if target.kind == "npz":
        with np.load(io.BytesIO(whole), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return _some_changed(arrays, change, dice, _npz)
    arrays = {name: np.asarray(array) for name, array in safetensors.numpy.load(whole).items()}
    (length,) = struct.unpack("<Q", whole[:8])
    envelope = json.loads(json.loads(whole[8 : 8 + length])["__metadata__"]["reopt"])

    def written(changed: dict[str, np.ndarray]) -> bytes:
        changed = {name: np.ascontiguousarray(array) for name, array in changed.items()}
        words = json.dumps(envelope | {"digest": _digest(envelope["description"], changed)})
        return safetensors.numpy.save(changed, {"reopt": words})

    return _some_changed(arrays, change, dice, written)


def _some_changed(
    arrays: dict[str, np.ndarray], change: str, dice: random.Random, write: Callable[[dict], bytes]
) -> tuple[str, bytes]:
    every = dice.random() < 0.5
    names = list(arrays) if every else [dice.choice(list(arrays))]
    try:
        with np.errstate(all="ignore"):  # of numbers that another type cannot hold
            changed = {name: ARRAYS[change](arrays[name], dice) for name in names}
        return ALL if every else names[0], write(arrays | changed)
    except (KeyError, ValueError, TypeError, safetensors.SafetensorError):  # of a type that this format has not
        return "not written", write({})


ALL = "all of its arrays"

# Tables and JSON

CELLS = ("", "nan", "inf", "-inf", "1e400", "text", "-1", "0", "1e308", "é", '"', "=1+1", "x" * 5000, "None", "True")


def _table_changed(whole: bytes, dice: random.Random) -> tuple[str, bytes]:
    """(what was done, a CSV with a column, a cell, or its rows changed)."""
    table = pd.read_csv(io.BytesIO(whole), dtype=str, keep_default_na=False)
    column = dice.choice(list(table.columns))
    kind = dice.choice(["missing", "renamed", "all", "all", "cell", "no rows", "one row", "twice", "mixed", "ragged"])
    value = dice.choice(CELLS)
    if kind == "missing":
        table = table.drop(columns=column)
    elif kind == "renamed":
        table = table.rename(columns={column: value or "other"})
    elif kind == "all":
        table[column] = value
    elif kind == "cell":
        table.loc[dice.randrange(len(table)), column] = value
    elif kind == "no rows":
        table = table[:0]
    elif kind == "one row":
        table = table[:1]
    elif kind == "twice":
        table = pd.concat([table, table])
    elif kind == "mixed":
        table = table.sample(frac=1.0, random_state=dice.randrange(2**31))
    text = table.to_csv(index=False)
    text += "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20\n" if kind == "ragged" else ""
    return f"{kind} {column} {value[:20]!r}", text.encode()


VALUES: tuple[Any, ...] = (
    *(None, True, "", "text", -1, 0, 1e308, float("nan"), float("inf"), 10**400, [], {}, [1], {"a": 1}, "x" * 5000),
)


def _json_changed(whole: bytes, dice: random.Random) -> tuple[str, bytes]:
    """(what was done, JSON with a value changed or missing)."""
    content = json.loads(whole)
    kind = dice.choice(["value", "value", "missing", "whole", "deep", "long number"])
    key, value = dice.choice(list(content)), dice.choice(VALUES)
    if kind in ("deep", "long number"):
        return kind, b"[" * 100_000 if kind == "deep" else b'{"a": ' + b"9" * 5000 + b"}"
    if kind == "missing":
        del content[key]
    elif isinstance(content[key], dict) and dice.random() < 0.7:
        content[key][dice.choice(list(content[key]))] = value
    else:
        content[key] = value
    return f"{kind} {key} {str(value)[:20]}", json.dumps(value if kind == "whole" else content).encode()


# Bombs


def _packed_zeros(size: int) -> bytes:
    """Raw deflate of `size` zeros, without packing all of them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * (size >> 20) + zlib.compressobj(9, zlib.DEFLATED, -15).flush()


def gzip_bomb(declared: int) -> bytes:
    """A gzip of a gigabyte of zeros that says it is `declared` bytes."""
    head = b"\x1f\x8b\x08\0\0\0\0\0\0\x03"
    return head + _packed_zeros(GIGABYTE) + struct.pack("<II", 0, declared & 0xFFFFFFFF)


def npz_bomb(name: str, declared: int) -> bytes:
    """An npz with an array of a gigabyte of zeros, whose directory says that it is `declared` bytes."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (GIGABYTE // 4,)})
    block = zlib.compressobj(9, zlib.DEFLATED, -15)
    content = block.compress(head.getvalue()) + block.flush(zlib.Z_FULL_FLUSH) + _packed_zeros(GIGABYTE)
    file, label = io.BytesIO(), f"{name}.npy".encode()
    sizes = struct.pack("<III", 0, len(content), declared)
    local = b"PK\3\4" + struct.pack("<HHHHH", 20, 0, 8, 0, 0) + sizes + struct.pack("<HH", len(label), 0) + label
    central = b"PK\1\2" + struct.pack("<HHHHHH", 20, 20, 0, 8, 0, 0) + sizes
    central += struct.pack("<HHHHHII", len(label), 0, 0, 0, 0, 0, 0) + label
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local) + len(content), 0)
    file.write(local + content + central + end)
    return file.getvalue()


def _header(length: int, text: bytes = b"{}") -> bytes:
    return struct.pack("<Q", length) + text


def _giant_tensor() -> bytes:
    head = json.dumps({"a": {"dtype": "F32", "shape": [GIGABYTE // 4], "data_offsets": [0, GIGABYTE]}}).encode()
    return struct.pack("<Q", len(head)) + head


def _npy(shape: str) -> bytes:
    """An npz whose one array says that it has this shape."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
        archive.writestr("states.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head)
    return file.getvalue()


BOMBS: dict[str, dict[str, Callable[[], tuple[bytes, int]]]] = {  # kind of file: name: (bytes, sparse size)
    "npz": {
        "a gigabyte of zeros": lambda: (npz_bomb("states", GIGABYTE + 128), 0),
        "a gigabyte that says it is small": lambda: (npz_bomb("states", 128), 0),
        "a shape of 1e18": lambda: (_npy("(10**18,)"), 0),
        "a huge shape": lambda: (_npy("(1000000000000000000,)"), 0),
        "a negative shape": lambda: (_npy("(-1, 3)"), 0),
        "a sparse gigabyte": lambda: (b"PK\3\4", GIGABYTE),
    },
    "safetensors": {
        "a head of 2^60 bytes": lambda: (_header(2**60), 0),
        "a head of 90 MB": lambda: (_header(90_000_000, b" " * 90_000_000), 0),
        "a head that is no JSON": lambda: (_header(4, b"[[[["), 0),
        "a sparse gigabyte of zeros": lambda: (_giant_tensor(), len(_giant_tensor()) + GIGABYTE),
    },
    "gz": {
        "a gigabyte of zeros": lambda: (gzip_bomb(GIGABYTE), 0),
        "a gigabyte that says it is small": lambda: (gzip_bomb(100), 0),
        "a table of another kind": lambda: (gzip.compress(b"a,b\n1,2\n"), 0),
    },
    "json": {"a sparse gigabyte": lambda: (b"{", GIGABYTE)},
    "csv": {"a sparse gigabyte": lambda: (b"a,b\n", GIGABYTE), "one line of 20 MB": lambda: (b"a," * 10_000_000, 0)},
}


def _placed(target: Target, content: bytes, sparse: int = 0) -> Callable[[Path], object]:
    """Put the changed file where the command looks, beside what it needs."""

    def place(workshop: Path) -> None:
        if target.file.startswith(STORED):
            shutil.copytree(workshop / EXAMINED, workshop / STORED)
        if "--config" in target.words:
            searched = (workshop / "config/laptop.yaml").read_text().replace("features: raw", "features: searched")
            block = "candidates: 1\n      features: [raw]\n      input_scale: [1.0]\n      learning_rate: [0.01]\n"
            block += "      optimizer: gru2\n      outer_steps: 1\n      output_scale: [1.0]\n      seed: 0\n"
            (workshop / "bad/c.yaml").write_text(searched.replace("search: null", f"search:\n      {block}"))
        with open(workshop / target.file, "wb") as file:
            file.write(content)
            if sparse:
                file.truncate(sparse)

    return place


def good(target: Target, workshop: Path) -> bytes:
    """The file as it should be."""
    return GOOD[target.good]() if target.good in GOOD else (workshop / target.good).read_bytes()


def _trial(target: Target, case: str, content: bytes, refused: bool | None = None, sparse: int = 0) -> Trial:
    short = Path(target.file).name
    prepare, about = _placed(target, content, sparse), (target.file, short, f"{Path(target.file).parent}")
    about += ("files below results/laptop",) if target.words.startswith("figure") else ()
    restore = () if target.file.startswith("bad/") else (target.file,)
    codes = (1, 2) if target.words.startswith("diff") else (2,)
    words = tuple(target.words.split())
    wrote = ("out", "bad/s.safetensors")  # the state of a finished run is removed
    return Trial("files", f"{short}: {case}", words, about, refused, prepare, wrote, restores=restore, codes=codes)


def trials(dice: random.Random, count: int, workshop: Path) -> Iterator[Trial]:
    """`count` files, every one that a command reads in turn; then every bomb, and good ones."""
    for number in range(count):
        target = TARGETS[number % len(TARGETS)]
        whole = good(target, workshop)
        if dice.random() < 0.35:
            kind = dice.choice(list(BYTES))
            yield _trial(target, kind, BYTES[kind](whole, dice))
        elif target.kind in ("npz", "safetensors"):
            change = dice.choice(list(ARRAYS))
            where, content = _arrays_changed(target, whole, change, dice)
            wrong = change in ("NaN", "infinity") or (
                change == "zero" and target.kind == "npz" and target.good != "weights"
            )
            yield _trial(target, f"{change} in {where}", content, True if wrong and where == ALL else None)
        elif target.kind == "json":
            yield _trial(target, *_json_changed(whole, dice))
        else:
            unpacked = gzip.decompress(whole) if target.kind == "gz" else whole
            case, text = _table_changed(unpacked, dice)
            yield _trial(target, case, gzip.compress(text) if target.kind == "gz" else text)
    for target in {one.kind: one for one in TARGETS}.values():
        for case, make in BOMBS[target.kind].items():
            content, sparse = make()
            yield _trial(target, case, content, True, sparse)
