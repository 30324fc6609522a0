"""What the benchmarks compute beside their timings."""

import os
from pathlib import Path

import jax
import numpy as np
import pytest

from reopt.tasks.quadratic import Quadratic
from reopt.training.meta_gradient import meta_value_and_grad


@pytest.fixture(autouse=True)
def _root_is_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))


def test_the_exponent_of_a_power_is_found_with_certainty() -> None:
    from benchmarks.scaling import exponent

    sizes = (2, 5, 10, 20, 40)
    np.testing.assert_allclose(exponent(sizes, [0.3 * size**1.5 for size in sizes]), (1.5, 1.5, 1.5))


def test_the_interval_of_an_exponent_is_that_of_students_t() -> None:
    from benchmarks.scaling import exponent

    # log2 of the times is 0, 1 + e, 2, 3 - e, 4: the slope loses e / 5, and the residuals give its error.
    e = 0.1
    slope, low, high = exponent((1, 2, 4, 8, 16), list(2.0 ** np.array([0, 1 + e, 2, 3 - e, 4])))
    residuals = np.array([0, e, 0, -e, 0]) + e / 5 * np.array([-2, -1, 0, 1, 2])
    error = np.sqrt(np.sum(residuals**2) / 3 / 10)
    assert slope == pytest.approx(1 - e / 5)
    assert (high - low) / 2 == pytest.approx(3.182446 * error, rel=1e-5)  # t(3) at 97.5%


def test_eager_pytorch_has_the_same_gradient() -> None:
    python = os.environ.get("TORCH_PYTHON")
    if not python:
        pytest.skip("TORCH_PYTHON names no Python with torch")
    from benchmarks.meta_gradient import moving
    from benchmarks.torch_reference import Eager, difference

    task, optimizer = Quadratic(), moving(8)
    problems = task.sample_batch(jax.random.key(1), 4)
    ours = meta_value_and_grad(optimizer, task, problems, num_steps=30)[1]
    with Eager(python, optimizer, problems, 30) as eager:
        assert difference(ours, eager.gradient) < 1e-4
        eager.again()
