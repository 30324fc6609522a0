"""The campaign of faults, see `campaign.py`: minutes, with another seed where REOPT_FUZZ_SEED is set."""

from pathlib import Path

import pytest
from campaign import Trial, fault
from kinds import SEED, TRIALS, results
from workshop import make_workshop

TRIAL = Trial("files", "", ("evaluate", "bad/c"), ("bad/c",))
REFUSED = {"code": 2, "out": "", "err": "reopt: error: bad/c is no c\n", "seconds": 1.0, "grown_mb": 0.0}
BEFORE = {"bad/c": ("file", 1)}


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workshop(tmp_path_factory.mktemp("campaign"))


@pytest.mark.long
@pytest.mark.parametrize("kind", TRIALS)
def test_every_fault_is_one_line_and_does_no_harm(kind: str, workshop: Path) -> None:
    print(f"REOPT_FUZZ_SEED={SEED}")
    wrong = [result.line for result in results(kind, workshop) if result.fault]
    assert not wrong, f"REOPT_FUZZ_SEED={SEED}: {len(wrong)} trials failed\n" + "\n".join(wrong)


def test_a_refusal_in_one_line_passes() -> None:
    assert fault(TRIAL, REFUSED, BEFORE, BEFORE) == ""


@pytest.mark.parametrize(
    ("change", "after", "said"),
    [
        ({"code": None}, {}, "hangs"),
        ({"seconds": 61.0}, {}, "hangs"),
        ({"err": "Traceback (most recent call last)\n"}, {}, "traceback"),
        ({"code": 70}, {}, "exit code 70"),
        ({"code": 0, "err": ""}, {}, "accepted"),
        ({"grown_mb": 1024.0}, {}, "takes 1024 MB"),
        ({"err": ""}, {}, "0 errors told"),
        ({"err": REFUSED["err"] * 2}, {}, "2 errors told"),
        ({"err": "reopt: error: banana\n"}, {}, "does not name the fault"),
        ({"err": f"reopt: error: bad/c {'x' * 5000}\n"}, {}, "characters"),
        ({"err": "reopt: error: bad/c: the subject's or task's own code failed\n"}, {}, "somebody's code"),
        ({"err": f"a warning\n{REFUSED['err']}"}, {}, "odd line: a warning"),
        ({}, {"bad/c": ("file", 2)}, "files touched: bad/c"),
        ({}, {"out.csv": ("file", 2)}, "files touched: out.csv"),
        ({}, {"canary": ("file", 0)}, "ran code"),
    ],
)
def test_anything_else_fails(change: dict, after: dict, said: str) -> None:
    assert said in fault(TRIAL, REFUSED | change, BEFORE, BEFORE | after)
