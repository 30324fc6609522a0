"""The config slice: what it holds, what it refuses, and that it compares by content."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakedvc import SnakedvcError, section
from snakedvc.sections import ordered

CONFIG = {"train": {"steps": 20, "rate": 1e-3}, "tasks": {"b": {"y": 1, "x": [1, {"d": 0, "c": 1}]}, "a": {}}}

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=4),
    max_leaves=12,
)


def test_values_by_key_path_sorted() -> None:
    found = section(CONFIG, "train.steps", "tasks.b", "train.steps")
    assert list(found.items()) == [("tasks.b", {"x": [1, {"c": 1, "d": 0}], "y": 1}), ("train.steps", 20)]
    assert repr(found) == repr(section(CONFIG, "tasks.b", "train.steps"))


@given(values, st.randoms())
def test_order_of_keys_does_not_matter_but_order_of_lists_does(value: object, dice) -> None:
    def shuffled(part: object) -> object:
        if isinstance(part, dict):
            keys = list(part)
            dice.shuffle(keys)
            return {key: shuffled(part[key]) for key in keys}
        return [shuffled(item) for item in part] if isinstance(part, list) else part

    assert repr(ordered(shuffled(value))) == repr(ordered(value))
    assert ordered(value) == value


@pytest.mark.parametrize(
    ("keypath", "words"),
    [
        ("train.stepz", "'train.stepz' does not exist: train has rate, steps"),
        ("train.steps.more", "train.steps has no keys, it is a value"),
        ("gone", "the top of the config has tasks, train"),
    ],
)
def test_missing_key_path_is_named(keypath: str, words: str) -> None:
    with pytest.raises(SnakedvcError, match=words):
        section(CONFIG, keypath)
