"""Readings that imply each other agree for every optimizer that optax has."""

import logging
import warnings

import pandas as pd
import pytest

from reopt.core.errors import ReoptError
from reopt.examination.agreement import pairs
from reopt.examination.examination import examine
from reopt.mechanisms.registry import mechanisms
from reopt.optimizers.optax_bridge import from_optax
from reopt.optimizers.optax_walk import walk
from reopt.tasks.quadratic import Quadratic

NAMES = [one.name for one in mechanisms()]
APART = 40  # one of so many that were examined, and one of so many that were refused, are tried again


def the_table() -> pd.DataFrame:
    return pd.read_csv("docs/optax.csv", keep_default_na=False).set_index("name")


def test_two_ways_to_one_number_agree_in_every_row_of_the_table():
    """The table is made by a rule, `snakemake optax_table`; those that cannot be examined say why."""
    table = the_table()
    examined = table[table["momentum"] != ""]
    assert len(examined) > 50
    agree, compared = examined["pairs"].str.split(" of ", expand=True).astype(int).to_numpy().T
    assert (agree == compared).all()
    assert (compared > 0).mean() > 0.8
    assert (table.loc[table["momentum"] == "", "note"] != "").all()


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_the_table_is_what_the_examination_says(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.CRITICAL)
    table = the_table()
    was_examined = table["momentum"] != ""
    chosen = {*table.index[was_examined][::APART], *table.index[~was_examined][::APART]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        subjects = {name: transformation for name, transformation in walk() if name in chosen}
    assert set(subjects) == chosen
    examined = set()
    for name, transformation in subjects.items():
        try:
            found = examine(from_optax(transformation, decay=True), Quadratic(), num_steps=40, problems=4)
            findings = found.findings
        except ReoptError:  # coupled, or refused with its reason
            continue
        examined.add(name)
        assert {one.mechanism: one.verdict for one in findings} == table.loc[name, NAMES].to_dict(), name
        for pair in pairs(found, {one.mechanism: one for one in findings}):
            assert pair.agree, (name, pair)
        assert not any("disagree" in one.why for one in findings), (name, findings)
    assert examined == chosen & set(table.index[was_examined])
