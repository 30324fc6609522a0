"""The readings of a positive control, on an optimizer for which each is known in closed form."""

import numpy as np
import pytest

from reopt.evaluation.evaluate import evaluate
from reopt.examination.control import READINGS, Known, control_table, readings
from reopt.examination.examination import examine
from reopt.optimizers.classical import Momentum
from reopt.tasks.quadratic import Quadratic

RATE, BETA = 1.3, 0.85


@pytest.fixture(scope="module")
def values() -> dict[str, float]:
    found = examine(Momentum(RATE, BETA), Quadratic(), num_steps=120, problems=4)
    return readings(found, problems=32, seed=5)


def test_a_heavy_ball_reads_as_it_is(values: dict[str, float]) -> None:
    """v' = beta v + g, dx = -rate v': one mode (rate, beta), a straight update of slope -rate, one fixed point.

    Its state has one component, so PC1 has all of the variance, and a shift by 2 moves the update by 2 rate beta.
    """
    expected = {
        "alpha": RATE,
        "beta": BETA,
        "second_beta": 0.0,
        "fixed_points": 1.0,
        "pc1": 1.0,
        "pc1_offset": 2 * RATE * BETA,
        "slope": -RATE,
        "straightness": 1.0,
    }
    assert {name: values[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    assert set(values) == set(READINGS)


def test_the_meta_objective_is_that_of_an_evaluation(values: dict[str, float]) -> None:
    runs = evaluate(Momentum(RATE, BETA), Quadratic(), name="m", task_name="q", problems=32, seed=5, num_steps=120)
    assert values["meta_objective"] == pytest.approx(runs.table["meta_objective"].mean(), rel=1e-9)


def test_a_reading_agrees_within_its_range_and_not_outside() -> None:
    values = dict.fromkeys(READINGS, 1.0) | {"pc1": 0.95, "beta": np.nan}
    known = {"pc1": Known(0.95, 0.93, 0.97), "alpha": Known(3.6, 3.0, 4.2), "beta": Known(0.9, 0.8, 1.0)}
    table = control_table(values, known).set_index("reading")
    assert table["agrees"].to_dict() == {"pc1": 1, "alpha": 0, "beta": 0}
    assert table.loc["alpha", ["value", "known", "low", "high"]].tolist() == [1.0, 3.6, 3.0, 4.2]
