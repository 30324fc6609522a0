"""The examination of an optimizer of optax, and its door; random draws of all mechanisms are in `test_planted`."""

import numpy as np
import optax
import pandas as pd
import pytest

from reopt.cli import main
from reopt.dissection.examine import examine
from reopt.dissection.readings import COLUMNS, Finding, read
from reopt.optimizers.optax_bridge import from_optax
from reopt.tasks.quadratic import Quadratic

STEPS = 80


def values_of(findings: dict[str, Finding], mechanism: str, quantity: str) -> np.ndarray:
    return np.array([row[2] for row in findings[mechanism].readings if row[0] == quantity])


def verdicts_of(findings: dict[str, Finding]) -> dict[str, str]:
    return {name: finding.verdict for name, finding in findings.items()}


def test_clip_momentum_and_schedule_in_one_chain_are_each_read_back():
    rate, beta, threshold = 0.53, 0.83, 0.31
    cosine = optax.cosine_decay_schedule(rate, 2 * STEPS)
    chain = optax.chain(optax.clip(threshold), optax.trace(beta), optax.scale_by_schedule(cosine), optax.scale(-1.0))
    optimizer = from_optax(chain)
    found = examine(optimizer, Quadratic(), num_steps=STEPS, problems=8)
    findings = {finding.mechanism: finding for finding in read(found, optimizer)}
    assert verdicts_of(findings) == {
        "momentum": "present",
        "clipping": "present",
        "schedule": "present",
        "adaptation": "absent",
        "remainder": "absent",
    }
    # The modes are read with the clock at the last step.
    np.testing.assert_allclose(values_of(findings, "momentum", "alpha_real"), float(cosine(STEPS)), rtol=1e-6)
    np.testing.assert_allclose(values_of(findings, "momentum", "beta_real"), beta, rtol=1e-6)
    np.testing.assert_allclose(values_of(findings, "clipping", "threshold"), threshold, rtol=1e-2)
    np.testing.assert_allclose(values_of(findings, "clipping", "hardness"), 1, rtol=1e-6)
    rates = found.schedule.table["effective_learning_rate"].to_numpy()
    np.testing.assert_allclose(rates, [float(cosine(t)) for t in range(STEPS)], rtol=1e-5)
    assert values_of(findings, "remainder", "r2")[0] > 0.999


MINE = """
import jax
import jax.numpy as jnp
import optax

from reopt.tasks.base import Task

optimizer = optax.chain(optax.clip(0.5), optax.trace(0.8), optax.scale(-0.3))


class Bowl(Task):
    num_params = property(lambda self: 3)

    def sample(self, key):
        return jax.random.normal(key, (3,))

    def initial_params(self, problem):
        return problem

    def loss(self, problem, params, step):
        return jnp.sum(jnp.array([1.0, 0.1, 2.0]) * params**2)


task = Bowl()
"""


def test_an_optimizer_and_a_task_of_ones_own_are_dissected_in_any_folder(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    words = "dissect mine.py:optimizer --task mine.py:task --out out --steps 60 --problems 8 --draws 20"
    monkeypatch.setattr("sys.argv", ["reopt", *words.split()])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    readings = pd.read_csv("out/readings.csv")
    assert tuple(readings.columns) == COLUMNS
    assert (readings.groupby("mechanism")["verdict"].nunique() == 1).all()
    values = readings.set_index(["mechanism", "quantity"])["value"]
    np.testing.assert_allclose(values["momentum", "beta_real"], 0.8, rtol=1e-6)
    np.testing.assert_allclose(values["clipping", "threshold"], 0.5, rtol=1e-2)
    assert list(pd.read_csv("out/schedule.csv").columns) == ["step", "effective_learning_rate"]
    runs = pd.read_csv("out/evaluation.csv")
    assert set(runs["optimizer"]) == {"optimizer", "momentum", "rmsprop", "adam"}
    page = (tmp_path / "out/index.html").read_text()
    assert page.count("<img") == 5
    assert "http" not in page.replace("http://www.w3.org", "")
