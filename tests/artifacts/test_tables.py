"""Tables as CSV, packed or not."""

import gzip

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reopt.artifacts.tables import read_table, rounded, write_table
from reopt.errors import ReoptError


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
