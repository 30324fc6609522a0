"""The order in which the workers take files: the longest first, so that they end together."""

import pytest

LONGEST = (
    "tests/workflow/test_contract.py",
    "tests/dissection/test_planted.py",
    "tests/workflow/test_fifth_task.py",  # needs what the first has made
    "tests/dynamics/test_planted_systems.py",
    "tests/snakedvc/",
    "tests/training/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: next((i for i, name in enumerate(LONGEST) if item.nodeid.startswith(name)), 99))
