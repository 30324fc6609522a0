"""The verdicts on the claims, counted and in groups."""

import pandas as pd
import pytest
from planted_results import claims

from reopt.pipeline.claims import claims as every_claim
from reopt.report.verdicts import SHORT, cells, counted, counts, replication, rows


def test_counts_leave_out_what_cannot_be_tested() -> None:
    assert counts(claims()) == {"holds": 1, "in part": 0, "fails": 1, "undetermined": 0}
    assert counted(claims()) == "1 hold, 0 hold in part, 1 fail and 0 are undetermined"


def test_a_row_a_claim_with_the_number_of_seeds_and_the_effect() -> None:
    assert cells(claims()) == ["gru4"]
    assert rows(claims()) == [
        ("T1a", "It wins", [("holds", "2/3: 0.5 [0.25, 0.75]")]),
        ("T2", "One point", [("fails", "0/3: 12.3")]),
        ("T4", "Polyak", [("not testable", "")]),
    ]


@pytest.mark.parametrize(("met", "group"), [(8, "most"), (7, "some"), (3, "some"), (2, "few")])
def test_a_claim_goes_by_its_share_of_all_runs(met: int, group: str) -> None:
    """Of 12 runs in two families: at least two thirds are 8, at most one in six 2."""
    row = {"claim": "T1a", "verdict": "in part", "seeds": 6}
    table = pd.DataFrame([row | {"share": min(met, 6) / 6}, row | {"share": max(met - 6, 0) / 6}])
    found = {name: text for name, text in replication(table).items() if text}
    assert found == {group: f"beats every tuned baseline (T1a, {met}/12)"}


def test_every_claim_of_the_paper_has_its_words() -> None:
    assert {claim.name for claim in every_claim() if claim.name.startswith("T")} == set(SHORT)
