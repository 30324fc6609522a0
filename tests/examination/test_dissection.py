"""The examination of an optimizer of optax, and its door; random draws of all mechanisms are in `test_planted`."""

import platform
import re

import numpy as np
import optax
import pandas as pd
import pytest

from reopt.cli.app import main
from reopt.core.errors import ReoptError
from reopt.evaluation.evaluate_optax import evaluate_optax
from reopt.examination.dissect import dissect, drawn_figures, written_files
from reopt.examination.examination import examine
from reopt.examination.settings import Settings
from reopt.examination.verdicts import COLUMNS, read
from reopt.figures.registry import figures
from reopt.mechanisms.base import Finding
from reopt.mechanisms.registry import mechanisms
from reopt.optimizers.classical import SGD, Adam
from reopt.optimizers.optax_bridge import from_optax
from reopt.pipeline.setting import Setting, is_baseline
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
    findings = {finding.mechanism: finding for finding in read(found)}
    assert verdicts_of(findings) == {
        "momentum": "present",
        "clipping": "present",
        "schedule": "present",
        "adaptation": "absent",
        "remainder": "absent",
    }
    # The modes are read with the clock at the last step, which counts from 0.
    np.testing.assert_allclose(values_of(findings, "momentum", "alpha_real"), float(cosine(STEPS - 1)), rtol=1e-6)
    np.testing.assert_allclose(values_of(findings, "momentum", "beta_real"), beta, rtol=1e-6)
    np.testing.assert_allclose(values_of(findings, "clipping", "threshold"), threshold, rtol=1e-2)
    np.testing.assert_allclose(values_of(findings, "clipping", "hardness"), 1, rtol=1e-6)
    rates = found.schedule.table["effective_learning_rate"].to_numpy()
    np.testing.assert_allclose(rates, [float(cosine(t)) for t in range(STEPS)], rtol=1e-5)
    assert values_of(findings, "remainder", "r2")[0] > 0.999


@pytest.mark.long
def test_a_decay_and_a_clipped_norm_are_taken_and_said_and_the_loss_curves_are_true():
    small = Settings(num_steps=20, problems=2, visited_seeds=8, perturbed_seeds=2, gradients=5, evaluation_problems=4)
    rate, decay, threshold = 0.02, 0.3, 0.7
    adamw = optax.adamw(rate, weight_decay=decay)
    found = dissect(adamw, Quadratic(), small)
    assert f"takes {rate * decay:.6g} of the parameter's value away" in found.caveats[0]
    true = evaluate_optax(adamw, Quadratic(), name="a", task_name="quadratic", problems=4, seed=0, num_steps=20)
    np.testing.assert_array_equal(found.runs.table["meta_objective"], true.table["meta_objective"])
    clipped = optax.chain(optax.clip_by_global_norm(threshold), optax.sgd(rate, momentum=0.5))
    with pytest.raises(ReoptError, match="couples parameters"):
        dissect(clipped, Quadratic(), small)
    found = dissect(clipped, Quadratic(), small, coupled=True)
    assert found.caveats[0].startswith("Conditional: this transformation couples parameters")
    findings = {finding.mechanism: finding for finding in found.findings}
    np.testing.assert_allclose(values_of(findings, "clipping", "threshold"), threshold, rtol=1e-2)


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


def test_performance_and_each_mechanism_with_a_figure_of_an_examination_are_drawn():
    names = [mechanism.name for mechanism in mechanisms()]
    assert drawn_figures() == ["performance", *(name for name in names if name in figures() and name != "remainder")]
    assert set(drawn_figures()) == {"performance", "momentum", "clipping", "schedule", "adaptation"}
    assert {f"{name}.svg" for name in drawn_figures()} < set(written_files())


@pytest.mark.long
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
    assert list(pd.read_csv("out/schedule.csv").columns[:2]) == ["step", "effective_learning_rate"]
    runs = pd.read_csv("out/evaluation.csv")
    assert set(runs["optimizer"]) == {"optimizer", "momentum", "rmsprop", "adam"}
    page = (tmp_path / "out/index.html").read_text()
    assert page.count("<img") == 5
    assert "http" not in page.replace("http://www.w3.org", "")
    assert f"Made by <code>reopt {words}</code>." in page
    assert "60 steps" in page
    assert f"Python {platform.python_version()}" in page
    for finding in readings.groupby("mechanism")["verdict"].first().items():
        assert '<h2 id="{0}">{0} <span class="verdict {1}">{1}</span></h2>'.format(*finding) in page


@pytest.mark.long
def test_a_rival_that_diverges_or_has_the_same_name_is_shown_beside_what_is_examined():
    """Rate 1e30 leaves float32 at the second step; the phase of an accumulation over 3 steps is told on the page."""
    said: list[str] = []
    found = dissect(
        optax.MultiSteps(optax.sgd(0.1), 3),
        Quadratic(),
        name="adam",
        rivals={"adam": Adam(0.1), "sgd": SGD(1e30)},
        num_steps=20,
        problems=2,
        evaluation_problems=3,
        say=said.append,
    )
    assert found.name == "adam (examined)"
    means = found.runs.table.groupby("optimizer")["meta_objective"].mean()
    assert set(means.index) == {"adam (examined)", "adam", "sgd"}
    np.testing.assert_array_equal(np.isfinite(means[["adam (examined)", "adam", "sgd"]]), [True, True, False])
    assert "adam is also the name of an optimizer beside it: the one examined is called adam (examined)" in said
    assert [line for line in said if "diverged" in line] == ["sgd diverged on 3 of 3 problems, and is shown so"]
    page = found.page()
    assert re.search(
        r'<td>sgd</td><td class="number">-</td>\s*<td class="number">diverged on 3 of 3 problems</td>', page
    )
    assert re.search(r"class=\"caveat\">Phases: .*mini_step from 0 to 2, .* of one phase, mini_step [0-2], ", page)


def test_only_the_tuned_baseline_itself_takes_its_place_among_the_rivals(tmp_path):
    where = Setting("quadratic", Quadratic(), Settings(), tmp_path)
    file = tmp_path / "quadratic/baselines/adam.json"
    file.parent.mkdir(parents=True)
    file.touch()
    assert is_baseline("adam", "adam", where)
    assert is_baseline(str(file), "adam", where)
    for words in ("mine.py:adam", "package.module:adam", "elsewhere/adam.json", "adam.npz", "runs/adam.safetensors"):
        assert not is_baseline(words, "adam", where)
