"""Progress of a dissection: shares of the whole that only grow, lines with a percentage and the time that is left."""

import re
import sys
from pathlib import Path

import pytest

import reopt
from reopt.cli import app as cli
from reopt.cli import progress
from reopt.cli.progress import Reporter
from reopt.examination.dissect import dissect, drawn_figures

SMALL = reopt.Settings(num_steps=20, problems=2, visited_seeds=8, perturbed_seeds=2, gradients=5, evaluation_problems=4)


def test_shares_of_the_work_are_hundredths_of_the_whole(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    clock = iter(range(0, 1000, 10))  # seconds
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with Reporter("work") as report:
        first, rest = report.share(0.0, 0.25), report.share(0.25, 1.0)
        assert not rest.used
        first(0, 2, "a")
        first(1, 2, "b")
        rest(0, 3, "c")
        rest(3, 3, "d")
        assert rest.used
    assert capsys.readouterr().err.splitlines() == [
        "work: 0/100 (0%), a",
        "work: 12/100 (12%), b, 2:27 left",  # 20 s for 12 hundredths
        "work: 25/100 (25%), c, 1:30 left",  # 30 s for 25
        "work: 100/100 (100%), d",
    ]


def test_a_dissection_reports_all_of_its_steps_in_order() -> None:
    met: list[tuple[int, int]] = []
    rivals = {"sgd": reopt.optimizers.SGD(0.1)}
    dissect(
        reopt.optimizers.Momentum(0.1, 0.5),
        reopt.tasks.Quadratic(),
        SMALL,
        rivals=rivals,
        report=lambda done, total, text: met.append((done, total)),
    )
    done = [one for one, _ in met]
    assert done == sorted(done)
    assert done[0] == 0
    assert {total for _, total in met} == {done[-1]}


@pytest.mark.long
def test_figures_come_in_the_formats_that_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    words = "dissect quadratic/gru32 --task quadratic --steps 20 --problems 2 --draws 2 --format pdf --out out"
    monkeypatch.setattr(sys, "argv", ["reopt", *words.split()])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.pdf")}
    assert set(found) == {f"{name}.pdf" for name in drawn_figures()}
    assert all(content.startswith(b"%PDF") for content in found.values())
    assert not [*(tmp_path / "out").glob("*.svg"), *(tmp_path / "out").glob("*.png")]
    said = capsys.readouterr().err
    shares = [int(percent) for percent in re.findall(r"/100 \((\d+)%\)", said)]
    assert shares[0] == 0
    assert shares[-1] == 100
