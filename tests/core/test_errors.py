"""An error is one line that can be read, whatever is repeated in it."""

import pytest

from reopt.core.errors import ReoptError


@pytest.mark.parametrize("words", ["x" * 5000, "x y " * 2000, "é\u202e\0" * 3000, "a\nb\n" * 900, ""])
def test_an_error_is_one_line_of_readable_length(words):
    said = str(ReoptError(f"there is no file {words}: give another"))
    assert said.isprintable()
    assert len(said) <= 1200
    assert said.startswith("there is no file")
    assert said.endswith("give another")


def test_what_is_short_is_told_whole():
    assert str(ReoptError(f"no {'x' * 600}\n  there")) == f"no {'x' * 600} there"
