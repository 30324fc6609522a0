"""What a newcomer, a researcher and a lab do, from a bare virtual environment and an empty home, as scripts.

Each prints how long its steps took; run alone: `uv run python tests/people/newcomer.py`.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from lab import lab
from newcomer import newcomer
from person import Person
from researcher import researcher


@pytest.mark.parametrize(
    "one",
    [
        *(pytest.param(one, marks=pytest.mark.long) for one in (newcomer, researcher)),
        pytest.param(lab, marks=pytest.mark.system),
    ],
)
def test_each_gets_through(one: Callable[[Path], Person], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with capfd.disabled():
        person = one(tmp_path / one.__name__)
    assert len(person.steps) > 4
