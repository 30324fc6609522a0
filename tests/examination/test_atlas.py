"""The atlas: which optimizers are relatives, and that its list and its entries are those of this installation."""

import json
import logging
import warnings
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from reopt.examination.atlas import Subject, answers, catalogue, entry, glance, relatives
from reopt.figures.atlas import caption
from reopt.optimizers.optax_bridge import from_optax
from reopt.tasks.quadratic import Quadratic

ATLAS = Path("docs/atlas")


def answered(**optimizers: optax.GradientTransformation) -> list[dict]:
    return [{"key": key, "answers": answers(from_optax(tx)).tolist()} for key, tx in optimizers.items()]


def test_relatives_are_equal_scaled_or_near() -> None:
    """A chain of parts is the optimizer made of them; half the rate is half the update; Nesterov's is near Polyak's."""
    found = relatives(
        answered(
            adam=optax.adam(0.01),
            parts=optax.chain(optax.scale_by_adam(), optax.scale(-0.01)),
            half=optax.adam(0.005),
            upward=optax.scale_by_adam(),
            ball=optax.sgd(0.1, momentum=0.9),
            nesterov=optax.sgd(0.1, momentum=0.9, nesterov=True),
            still=optax.set_to_zero(),
        )
    )
    assert found["adam"]["equal"] == ["parts"]
    assert found["adam"]["scaled"] == ["half", "upward"]
    assert found["half"] == {**found["half"], "equal": [], "scaled": ["adam", "parts", "upward"]}
    assert found["ball"]["near"][0][0] == "nesterov"
    assert "still" not in found  # what never moves has no relatives


def test_the_distance_is_the_sine_of_the_angle() -> None:
    turned = [{"key": str(angle), "answers": [[np.cos(angle), np.sin(angle)]] * 3} for angle in (0.0, 0.3)]
    ((other, sine),) = relatives(turned)["0.0"]["near"]
    assert other == "0.3"
    assert sine == pytest.approx(np.sin(0.3), rel=1e-2)


def test_answers_are_the_updates_along_the_gradients() -> None:
    from reopt.examination.atlas import probe_gradients

    np.testing.assert_allclose(answers(from_optax(optax.sgd(0.25))), -0.25 * probe_gradients().T, rtol=1e-12)


@pytest.mark.filterwarnings("ignore")  # of optax, where it is called with arguments that it will ask for
def test_the_list_names_every_optimizer_that_is_installed() -> None:
    keys = (ATLAS / "subjects.txt").read_text(encoding="utf-8").split()
    assert keys == list(catalogue()), "run: uv run snakemake --force atlas_subjects"
    assert {path.stem for path in ATLAS.glob("*.json")} - {"index"} == set(keys)


def test_every_entry_has_its_verdicts_or_its_reason() -> None:
    keys = (ATLAS / "subjects.txt").read_text(encoding="utf-8").split()
    index = json.loads((ATLAS / "index.json").read_text(encoding="utf-8"))
    for key in keys:
        one = json.loads((ATLAS / f"{key}.json").read_text(encoding="utf-8"))
        assert one["key"] == key
        if one.get("findings"):
            assert (ATLAS / f"{key}.svg").is_file(), key
            assert len(one["foretold"]) > 0, key
            assert one["pairs"][0] == one["pairs"][1], key
        else:
            assert len(one["note"]) > 20, key
    assert "optax.amsgrad" not in index["relatives"]["torch-Adam-amsgrad"]["equal"]  # they differ by their correction
    assert "torch-Adam" in index["relatives"]["optax.adam"]["equal"]


def test_a_subject_that_couples_parameters_has_its_reason() -> None:
    made = entry(Subject("norm", "norm", "optax", lambda: (optax.clip_by_global_norm(1.0), Quadratic(), 40)))
    assert made.found is None
    assert glance(made) is None
    assert made.facts["kind"] == "couples parameters"


@pytest.mark.long
def test_an_entry_holds_what_the_examination_says(caplog: pytest.LogCaptureFixture) -> None:
    """SGD with rate r on a quadratic is stable up to a curvature of 2 / r; a soft clip bends its update."""
    caplog.set_level(logging.CRITICAL)

    soft = optax.stateless_with_tree_map(lambda update, param: -0.25 * jnp.tanh(update))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = entry(Subject("soft", "soft", "optax", lambda: (soft, Quadratic(), 40)))
    assert made.facts["largest_stable"] == pytest.approx(8.0, rel=1e-6)
    verdicts = {one["mechanism"]: one["verdict"] for one in made.facts["findings"]}
    assert verdicts == {**verdicts, "momentum": "absent", "clipping": "present", "schedule": "absent"}
    drawn = glance(made)
    assert drawn is not None
    assert "Factor by which an error shrinks" in caption(drawn)
    slopes = np.diff(np.array(made.facts["sparks"]["update"]), axis=0)
    assert (slopes[:, 1] <= 0).all()
