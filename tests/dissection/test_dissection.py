"""Mechanisms planted in an optimizer are read back with their true numbers; where there are none, none are found."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from jaxtyping import Array

from reopt.cli import main
from reopt.dissection.examine import examine
from reopt.dissection.readings import COLUMNS, Finding, read, readings_table
from reopt.optimizers.base import Optimizer
from reopt.optimizers.classical import SGD, RMSProp
from reopt.optimizers.learned import create_learned
from reopt.optimizers.optax_bridge import from_optax
from reopt.tasks.quadratic import Quadratic

STEPS = 80


def findings_of(optimizer: Optimizer) -> dict[str, Finding]:
    found = examine(optimizer, Quadratic(), num_steps=STEPS, problems=8)
    return {finding.mechanism: finding for finding in read(found, optimizer)}


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


@pytest.mark.parametrize("threshold", [0.07, 1.9])
def test_the_threshold_of_a_tanh_clip_is_its_level(threshold: float):
    def squash(updates, state, params=None):
        del params
        return jax.tree.map(lambda g: threshold * jnp.tanh(g / threshold), updates), state

    tanh = optax.GradientTransformation(lambda params: optax.EmptyState(), squash)
    findings = findings_of(from_optax(optax.chain(tanh, optax.scale(-0.4))))
    assert findings["clipping"].verdict == "present"
    np.testing.assert_allclose(values_of(findings, "clipping", "threshold"), threshold, rtol=1e-2)
    assert verdicts_of(findings) | {"clipping": ""} == dict.fromkeys(findings, "absent") | {"clipping": ""}


def test_rmsprop_adapts_and_does_not_clip():
    decay = 0.93
    findings = findings_of(RMSProp(0.02, decay, 1e-10))
    assert verdicts_of(findings) == {
        "momentum": "absent",
        "clipping": "absent",  # its level follows the gradient
        "schedule": "absent",
        "adaptation": "present",
        "remainder": "absent",
    }
    assert abs(values_of(findings, "adaptation", "exponent")[0] + 1) < 0.01
    constant = values_of(findings, "adaptation", "time_constant")[0]
    assert abs(np.exp(-1 / constant) - decay) < 1e-4


def test_adam_of_optax_has_momentum_adaptation_and_a_bias_correction():
    rate, b1, b2, eps = 0.05, 0.85, 0.97, 1e-6
    optimizer = from_optax(optax.adam(rate, b1=b1, b2=b2, eps=eps))
    found = examine(optimizer, Quadratic(), num_steps=STEPS, problems=8)
    findings = {finding.mechanism: finding for finding in read(found, optimizer)}
    assert {findings[name].verdict for name in ("momentum", "schedule", "adaptation")} == {"present"}
    assert findings["clipping"].verdict == "absent"
    np.testing.assert_allclose(values_of(findings, "momentum", "beta_real"), b1, rtol=1e-6)
    assert abs(values_of(findings, "adaptation", "exponent")[0] + 1) < 0.01
    assert abs(np.exp(-1 / values_of(findings, "adaptation", "time_constant")[0]) - b2) < 1e-4
    rates = found.schedule.table["effective_learning_rate"].to_numpy()
    corrected = rate * (1 - b1) / eps / (1 - b1 ** np.arange(1, STEPS + 1))
    np.testing.assert_allclose(rates, corrected, rtol=1e-5)


class Aggregated(Optimizer):
    """Two real buffers and a pair of complex ones, as three, and their sum read out."""

    def initial_state(self) -> Array:
        return jnp.zeros(4)

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("slow", "fast", "real", "imaginary")

    def update(self, state: Array, gradient: Array) -> Array:
        slow, fast, real, imaginary = jnp.moveaxis(state, -1, 0)
        turned = 0.7 * real - 0.4 * imaginary, 0.4 * real + 0.7 * imaginary
        return jnp.stack([0.98 * slow + gradient, 0.3 * fast + gradient, turned[0] + gradient, turned[1]], axis=-1)

    def readout(self, state: Array, gradient: Array) -> Array:
        del gradient
        return -(0.02 * state[..., 0] - 0.1 * state[..., 1] + 0.3 * state[..., 2])


def test_real_negative_and_complex_modes_are_read_back():
    findings = findings_of(Aggregated())
    beta = values_of(findings, "momentum", "beta_real") + 1j * values_of(findings, "momentum", "beta_imag")
    alpha = values_of(findings, "momentum", "alpha_real") + 1j * values_of(findings, "momentum", "alpha_imag")
    order = np.lexsort((beta.imag, beta.real))
    np.testing.assert_allclose(beta[order], [0.3, 0.7 - 0.4j, 0.7 + 0.4j, 0.98], rtol=1e-6)
    np.testing.assert_allclose(alpha[order], [-0.1, 0.15, 0.15, 0.02], rtol=1e-6, atol=1e-12)
    assert findings["remainder"].verdict == "absent"


@pytest.mark.parametrize("optimizer", [SGD(0.5), create_learned(jax.random.key(3), cell="gru", units=8)])
def test_where_there_is_no_mechanism_none_is_found(optimizer: Optimizer):
    verdicts = verdicts_of(findings_of(optimizer))
    del verdicts["remainder"]  # an untrained network does not move: there is nothing to explain
    assert set(verdicts.values()) == {"absent"}


def test_adagrad_is_said_to_have_no_fixed_point():
    findings = findings_of(from_optax(optax.adagrad(0.5)))
    assert findings["adaptation"].verdict == "undetermined"
    assert "no fixed point" in findings["adaptation"].why
    assert findings["remainder"].verdict == "present"  # what was not read shows up as a gap


def test_an_update_that_jumps_is_a_clip_at_zero():
    findings = findings_of(from_optax(optax.sign_sgd(0.01)))
    assert findings["clipping"].verdict == "present"
    assert values_of(findings, "clipping", "threshold")[0] == 0
    assert findings["momentum"].verdict == "undetermined"
    table = readings_table(list(findings.values()))
    assert tuple(table.columns) == COLUMNS
    assert isinstance(table, pd.DataFrame)


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
