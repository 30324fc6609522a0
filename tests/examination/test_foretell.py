"""What is foretold of optimizers, with the runs that follow each sentence."""

import numpy as np
import optax
import pandas as pd
import pytest

import reopt
from reopt.cli import app as cli
from reopt.examination.foretell import FILES, foretell
from reopt.tasks.quadratic import Quadratic

SIZES = {"num_steps": 60, "problems": 4}


@pytest.mark.parametrize(
    ("optimizer", "edge"),
    [
        (optax.sgd(0.3, momentum=0.7), 2 * 1.7 / 0.3),
        pytest.param(optax.adam(0.02, b1=0.8, eps=0.05), 2 * 1.8 / 0.2 * 0.05 / 0.02, marks=pytest.mark.long),
        pytest.param(optax.rmsprop(0.02, eps=0.03, eps_in_sqrt=False), 3.0, marks=pytest.mark.long),
        pytest.param(optax.nadam(0.02, eps=0.05), 2 * 1.9 / 2.8 / (0.1 * 0.02 / 0.05), marks=pytest.mark.long),
    ],
)
def test_of_classical_optimizers_all_is_as_foretold(optimizer, edge: float) -> None:
    found = foretell(optimizer, Quadratic(), **SIZES)
    assert found.threshold == pytest.approx(edge, rel=1e-9)
    assert found.table["agrees"].dropna().all(), found
    below, beyond = found.rows[:2]
    assert (below.at, beyond.at) == pytest.approx((0.98 * edge, 1.02 * edge))
    assert below.seen < 0.5 < 10 < beyond.seen
    steps = found.table[found.table["what"] == "steps to 0.01"]
    np.testing.assert_allclose(steps["seen"], steps["foretold"], atol=1)


def test_a_decoupled_decay_is_taken_off_and_said() -> None:
    decayed = optax.chain(optax.trace(0.7), optax.add_decayed_weights(0.05), optax.scale(-0.3))
    found = foretell(decayed, Quadratic(), **SIZES)
    assert found.threshold == pytest.approx(2 * 1.7 / 0.3, rel=1e-9)  # that of heavy ball alone
    assert "takes 0.015 of the parameter's value away" in repr(found)
    examined = reopt.examine(decayed, Quadratic(), **SIZES)
    assert "takes 0.015 of the parameter's value away" in repr(examined)
    assert examined.linearization.readout @ examined.linearization.input == pytest.approx(-0.3)


@pytest.mark.long
@pytest.mark.parametrize("name", ["quadratic/gru64", "quadratic/gru32"])
def test_a_trained_network_is_unstable_in_the_limit_inside_its_range(name: str) -> None:
    found = foretell(reopt.load(name), Quadratic(), name=name, **SIZES)
    assert 0.1 < found.threshold < 1.0
    assert found.table["agrees"].dropna().all(), found
    assert any("only a finite horizon hides it" in line for line in found.sentences())


def test_a_sign_circles_as_foretold() -> None:
    """x is moved by 0.01 to either side of the minimum."""
    found = foretell(optax.sign_sgd(0.01), Quadratic(), **SIZES)
    (row,) = found.rows
    assert row.foretold == pytest.approx(0.005)
    assert row.agrees
    assert found.sentences()[0].startswith("not foretold: the update jumps")


@pytest.mark.long
def test_what_never_rests_says_so() -> None:
    found = foretell(optax.adagrad(0.1), Quadratic(), **SIZES)
    assert found.rows == []
    assert "does not come to rest by itself" in repr(found)
    assert found.table["what"].tolist() == ["not foretold"]
    assert "does not come to rest by itself" in found.table["words"][0]


def test_the_command_writes_tables_and_figure(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XLA_FLAGS", "")
    words = "foretell optax:sgd(0.1,momentum=0.5) --task quadratic --steps 30 --problems 4 --out told"
    monkeypatch.setattr("sys.argv", ["reopt", *words.split(), "--curvature", "0.1", "100"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    said = capsys.readouterr().out
    assert "largest stable curvature: 30" in said
    assert "curvatures of the task up to 100 are beyond it" in said
    assert {path.name for path in (tmp_path / "told").iterdir()} == {*FILES, "foretold.svg", "foretold.png"}
    assert pd.read_csv(tmp_path / "told/foretold.csv")["agrees"].dropna().all()
