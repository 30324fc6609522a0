"""Checkpoints: round trip, and that no damaged file is ever loaded."""

import os
import pickle
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save_file

from reopt.core.atomic import write_atomically
from reopt.core.checkpoint import read_checkpoint, write_checkpoint
from reopt.core.errors import ReoptError

ARRAYS = {
    "weights": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4),
    "log.skipped": np.array([True, False, True]),
    "step": np.array(7, np.int32),
    "empty": np.zeros((0, 2), np.float64),
    "odd": np.array([np.nan, np.inf, -0.0]),
}
DESCRIPTION = {"task": "quadratic", "seed": 3, "rate": 1e-3, "name": "Größe", "nested": {"list": [1, None, True]}}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "whole.safetensors"
    write_checkpoint(path, ARRAYS, DESCRIPTION)
    return path


def refusal(path: Path) -> str:
    """The one sentence with which a file is refused."""
    with pytest.raises(ReoptError) as caught:
        read_checkpoint(path)
    sentence = str(caught.value)
    assert str(path) in sentence
    assert "\n" not in sentence
    return sentence


def test_round_trip(checkpoint: Path):
    arrays, description = read_checkpoint(checkpoint)
    assert description == DESCRIPTION
    assert set(arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape)
        assert arrays[name].tobytes() == array.tobytes()  # bit by bit: NaN and -0.0 too


KINDS = hnp.floating_dtypes(sizes=(32, 64)) | hnp.integer_dtypes() | hnp.boolean_dtypes()
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@settings(max_examples=50, deadline=None)
@given(
    arrays=st.dictionaries(
        st.text(st.characters(codec="utf-8"), max_size=8).filter(lambda name: name != "__metadata__"),
        KINDS.flatmap(lambda kind: hnp.arrays(kind.newbyteorder("="), SHAPES)),
        max_size=4,
    ),
    description=st.dictionaries(st.text(max_size=5), st.integers() | st.floats(allow_nan=False) | st.text()),
)
def test_round_trip_of_anything(tmp_path_factory: pytest.TempPathFactory, arrays: dict, description: dict):
    path = tmp_path_factory.getbasetemp() / "anything.safetensors"
    write_checkpoint(path, arrays, description)
    read, text = read_checkpoint(path)
    assert text == description
    assert {name: (a.dtype, a.shape, a.tobytes()) for name, a in read.items()} == {
        name: (a.dtype, a.shape, a.tobytes()) for name, a in arrays.items()
    }


def test_equal_contents_give_equal_bytes(checkpoint: Path, tmp_path: Path):
    """In any order, in any memory layout, and from another process with another hash seed."""
    other = tmp_path / "other.safetensors"
    turned = {name: np.array(array, order="F") for name, array in reversed(ARRAYS.items())}
    write_checkpoint(other, turned, dict(reversed(DESCRIPTION.items())))
    assert other.read_bytes() == checkpoint.read_bytes()
    script = (
        "import sys; from reopt.core.checkpoint import *\n"
        "arrays, description = read_checkpoint(sys.argv[1]); write_checkpoint(sys.argv[2], arrays, description)"
    )
    for seed in "12":
        again = tmp_path / f"again{seed}.safetensors"
        environment = os.environ | {"PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", script, checkpoint, again], env=environment, check=True)
        assert again.read_bytes() == checkpoint.read_bytes()


@pytest.mark.parametrize("tenths", range(10))
def test_a_cut_file_is_refused(checkpoint: Path, tenths: int):
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: len(whole) * tenths // 10])
    assert "not a readable checkpoint" in refusal(checkpoint)


def test_a_file_short_or_long_by_one_byte_is_refused(checkpoint: Path):
    whole = checkpoint.read_bytes()
    for content in (whole[:-1], whole + b"\0", b"\0" + whole):
        checkpoint.write_bytes(content)
        refusal(checkpoint)


def test_a_flipped_bit_anywhere_is_refused(checkpoint: Path):
    whole = checkpoint.read_bytes()
    for index in range(len(whole)):
        content = bytearray(whole)
        content[index] ^= 1 << (index * 5 + index // 8) % 8
        checkpoint.write_bytes(content)
        refusal(checkpoint)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_overwritten_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    path = tmp_path_factory.getbasetemp() / "overwritten.safetensors"
    write_checkpoint(path, ARRAYS, DESCRIPTION)
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    new = data.draw(st.binary(min_size=1, max_size=40))
    content = whole[:at] + new + whole[at + len(new) :]
    if content != whole:
        path.write_bytes(content)
        refusal(path)


def test_foreign_files_are_refused(checkpoint: Path, tmp_path: Path):
    foreign = tmp_path / "foreign"
    foreign.write_bytes(pickle.dumps(ARRAYS))
    assert "not a readable checkpoint" in refusal(foreign)
    np.savez(foreign, **ARRAYS)
    assert "not a readable checkpoint" in refusal(tmp_path / "foreign.npz")
    foreign.write_text("weights: 1\n")
    assert "not a readable checkpoint" in refusal(foreign)
    save_file(ARRAYS, foreign)
    assert "not a checkpoint written by reopt" in refusal(foreign)
    for metadata in ("", "[]", '{"description": 3, "digest": ""}', '{"description": "{}"}'):
        save_file(ARRAYS, foreign, {"reopt": metadata})
        assert "damaged" in refusal(foreign)


def test_a_pickle_is_not_run(tmp_path: Path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    (tmp_path / "trap").write_bytes(pickle.dumps(Trap()))
    refusal(tmp_path / "trap")
    assert not (tmp_path / "sprung").exists()


def test_arrays_of_one_checkpoint_under_the_description_of_another_are_refused(checkpoint: Path, tmp_path: Path):
    other = tmp_path / "other.safetensors"
    write_checkpoint(other, ARRAYS | {"weights": ARRAYS["weights"] + 1}, DESCRIPTION)
    one, two = checkpoint.read_bytes(), other.read_bytes()
    data = sum(array.nbytes for array in ARRAYS.values())
    other.write_bytes(one[:-data] + two[-data:])
    assert "do not match the digest" in refusal(other)


def test_no_file_and_no_file_name(checkpoint: Path, tmp_path: Path):
    assert "there is no checkpoint" in refusal(tmp_path / "nothing.safetensors")
    assert "is a folder" in refusal(tmp_path)
    assert "there is no checkpoint" in refusal(checkpoint / "below a file")
    refusal(tmp_path / ("long" * 100))


def test_a_write_that_fails_leaves_the_earlier_file(checkpoint: Path):
    """The disk is as good as full: files may not grow beyond 200 bytes."""
    before = checkpoint.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
        with pytest.raises(ReoptError, match=r"cannot write .*whole.safetensors: File too large"):
            write_checkpoint(checkpoint, ARRAYS, DESCRIPTION | {"seed": 4})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert checkpoint.read_bytes() == before
    assert list(checkpoint.parent.iterdir()) == [checkpoint]


def test_where_nothing_can_be_written_it_says_so(checkpoint: Path, tmp_path: Path):
    for path in (tmp_path, checkpoint / "below a file", tmp_path / ("long" * 100)):
        with pytest.raises(ReoptError, match="cannot write"):
            write_checkpoint(path, ARRAYS, DESCRIPTION)
    write_checkpoint(tmp_path / "new" / "folders" / "file", ARRAYS, DESCRIPTION)
    assert read_checkpoint(tmp_path / "new" / "folders" / "file")[1] == DESCRIPTION


def test_a_process_killed_while_writing_leaves_the_earlier_file(checkpoint: Path):
    before = checkpoint.read_bytes()
    script = (
        "import os, signal, sys; from pathlib import Path; from reopt.core.atomic import write_atomically\n"
        "def write(path):\n"
        "    path.write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomically(Path(sys.argv[1]), write)"
    )
    killed = subprocess.run([sys.executable, "-c", script, checkpoint], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert checkpoint.read_bytes() == before


def test_an_error_of_the_writer_is_not_swallowed(tmp_path: Path):
    def write(path: Path) -> None:
        path.write_bytes(b"half")
        raise ZeroDivisionError

    (tmp_path / "file").write_bytes(b"earlier")
    with pytest.raises(ZeroDivisionError):
        write_atomically(tmp_path / "file", write)
    assert (tmp_path / "file").read_bytes() == b"earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
