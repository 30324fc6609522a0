"""Tables as CSV, packed or not."""

import gzip
import io
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reopt.core.errors import ReoptError
from reopt.core.tables import read_arrays, read_json, read_table, rounded, write_table
from reopt.optimizers.foreign_gru import load_npz


def test_a_packed_table_reads_back_and_has_the_same_bytes_each_time(tmp_path):
    table = pd.DataFrame({"place": ["a", "b"], "update": [0.1, -1 / 3], "step": [1, 2]})
    for name in ("one.csv.gz", "two.csv.gz", "plain.csv"):
        write_table(tmp_path / name, table)
    pd.testing.assert_frame_equal(read_table(tmp_path / "one.csv.gz"), table)
    assert (tmp_path / "one.csv.gz").read_bytes() == (tmp_path / "two.csv.gz").read_bytes()
    assert gzip.decompress((tmp_path / "one.csv.gz").read_bytes()) == (tmp_path / "plain.csv").read_bytes()


@pytest.mark.parametrize("damage", [lambda whole: whole[:-9], lambda whole: whole[:12] + b"xxxx" + whole[16:]])
def test_a_packed_table_that_is_not_whole_is_refused(tmp_path, damage):
    path = tmp_path / "cut.csv.gz"
    write_table(path, pd.DataFrame({"value": np.arange(1000.0)}))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ReoptError, match="not a readable CSV table"):
        read_table(path)


@given(
    st.floats(allow_nan=True, allow_infinity=True).filter(lambda value: not 1e300 < abs(value) < np.inf),
    st.integers(1, 15),
)
def test_rounding_keeps_the_leading_digits(value, digits):
    (kept,) = rounded(pd.DataFrame({"value": [value]}), digits)["value"]
    if np.isfinite(value):
        assert abs(kept - value) <= 0.5001 * 10.0 ** (1 - digits) * abs(value) + 1e-307
    else:
        assert np.array_equal(kept, value, equal_nan=True)


def test_rounding_leaves_words_and_whole_numbers_alone():
    table = pd.DataFrame({"word": ["x"], "count": [123456789], "value": [1.23456789]})
    assert rounded(table, 3).iloc[0].tolist() == ["x", 123456789, 1.23]


@pytest.mark.long
def test_an_archive_that_unpacks_to_far_more_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "bomb.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**28,)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as file:
        file.write(header.getvalue())
        for _ in range(2**10):
            file.write(bytes(2**20))
    tracemalloc.start()
    for read in (read_arrays, load_npz):
        with pytest.raises(ReoptError, match="bytes that unpack to"):
            read(path)
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()


def test_a_header_that_asks_for_more_than_is_there_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**12,)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", header.getvalue() + bytes(40))
    with pytest.raises(ReoptError, match="not as large as the array"):
        read_arrays(path)


@pytest.mark.parametrize("said", [2**28 + 2**24, 3])
def test_a_packed_table_that_unpacks_to_far_more_is_refused_whatever_it_says_of_its_size(tmp_path, said):
    path = tmp_path / "t.csv.gz"
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    names = packer.compress(b"a\n") + packer.flush(zlib.Z_FULL_FLUSH)
    zeros = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    packed = names + zeros * (2**8 + 2**4) + packer.flush()
    path.write_bytes(gzip.compress(b"", mtime=0)[:10] + packed + struct.pack("<II", 0, said))
    tracemalloc.start()
    with pytest.raises(ReoptError, match=r"t\.csv\.gz .* it unpacks to over"):
        read_table(path)
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()


@pytest.mark.parametrize("content", [bytes(100), b"a," * 2**20])
def test_a_first_line_that_holds_no_names_is_refused(tmp_path, content):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(ReoptError, match="no names of columns"):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize(("name", "read"), [("t.json", read_json), ("t.csv", read_table)])
def test_what_is_too_large_is_refused_unread(tmp_path, name, read):
    with open(tmp_path / name, "wb") as file:
        file.truncate(2**30)
    tracemalloc.start()
    with pytest.raises(ReoptError, match="is larger than"):
        read(tmp_path / name)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
