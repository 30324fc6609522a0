"""Optimizers of torch: equal to recorded runs of torch's own (see make_torch_golden.py), and refused where they are not
of our type. No test here imports torch."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reopt
from reopt.evaluation.evaluate_optax import evaluate_optax
from reopt.examination.trajectories import relative_difference
from reopt.mechanisms import momentum
from reopt.optimizers import torch_rules as rules
from reopt.optimizers.refusals import BY_SHAPE, COUPLED, MORE, NotComponentWise
from reopt.optimizers.soundness import refuse_unsound
from reopt.optimizers.torch_bridge import from_torch, torch_states, words
from reopt.pipeline.subjects import load_object, resolve

GOLDEN = dict(np.load(Path(__file__).parent / "golden" / "torch.npz"))
LABELS = sorted({label.partition("/")[0] for label in GOLDEN if "/" in label})
RESTORED = 25


def state_dict(label: str) -> dict[str, Any]:
    """What the optimizer's `state_dict()` was after 25 steps, with arrays for tensors."""
    start = f"{label}/state/"
    kept = {key.removeprefix(start): value for key, value in GOLDEN.items() if key.startswith(start)}
    return {"state": {0: kept} if kept else {}, "param_groups": [json.loads(str(GOLDEN[f"{label}/group"]))]}


def run(label: str, state: np.ndarray | None, first: int) -> tuple[np.ndarray, np.ndarray]:
    """(parameters after each step from `first` on, torch's own)"""
    optimizer = from_torch(state_dict(label), name=str(GOLDEN[f"{label}/name"]))
    whole = optimizer.transformation
    values = GOLDEN["values"][first:] if optimizer.sees_values else np.zeros_like(GOLDEN["values"][first:])
    with jax.enable_x64(True):
        kept = whole.init(jnp.zeros(4))
        if state is not None:
            kept = dict(zip(optimizer.state_names, jnp.moveaxis(jnp.asarray(state), -1, 0), strict=True))

        def step(kept, seen):
            gradient, value = seen
            change, kept = whole.update(gradient, kept, value)
            return kept, value + change

        given = jnp.asarray(GOLDEN["gradients"][first:]), jnp.asarray(values)
        after = np.asarray(jax.lax.scan(step, kept, given)[1])
    return after, GOLDEN[f"{label}/after"][first:]


def assert_same(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert relative_difference(ours[:, None], theirs[:, None]).max() <= 1e-14


def test_the_recorded_runs_are_of_every_class() -> None:
    assert {str(GOLDEN[f"{label}/name"]) for label in LABELS} == rules.KINDS.keys()
    assert len(LABELS) >= 16


@pytest.mark.parametrize("label", LABELS)
def test_a_run_from_the_start_is_that_of_torch(label: str) -> None:
    assert_same(*run(label, None, 0))


@pytest.mark.parametrize("label", LABELS)
def test_a_run_restored_from_its_state_goes_on_as_that_of_torch(label: str) -> None:
    (state,) = torch_states(state_dict(label), name=str(GOLDEN[f"{label}/name"]))
    stateless = label == "sgd, maximizing"
    assert (state is None) == stateless
    if not stateless:
        assert_same(*run(label, state, RESTORED))


@pytest.mark.parametrize("label", LABELS)
def test_only_those_that_look_at_values_say_so(label: str) -> None:
    """Recorded from parameters of other values: where these matter, steps without them are others."""
    optimizer = from_torch(state_dict(label), name=str(GOLDEN[f"{label}/name"]))
    looks = any(word in label for word in ("penalty", "adamw", "decoupled", "asgd"))
    assert optimizer.sees_values == looks
    assert bool(optimizer.caveats) == looks
    with jax.enable_x64(True):
        state, change = optimizer.initial_states((4,)), jnp.asarray(GOLDEN["gradients"][0])
        alone = np.asarray(optimizer(state, change)[1])
    differs = ~np.isclose(GOLDEN[f"{label}/after"][0], (GOLDEN["values"][0] if looks else 0) + alone, rtol=1e-9, atol=0)
    assert differs.any() == looks


@pytest.mark.parametrize("name", rules.KINDS)
def test_each_is_an_optimizer_with_slopes_before_the_first_gradient(name: str) -> None:
    optimizer = rules.KINDS[name]()
    refuse_unsound(optimizer, name)
    slopes = jax.jacobian(lambda h, g: optimizer(h, g)[1], argnums=(0, 1))(optimizer.initial_state(), jnp.zeros(()))
    assert all(np.isfinite(slope).all() for slope in slopes)


few = settings(max_examples=10, deadline=None, derandomize=True)


@few
@given(st.floats(1e-4, 1), st.floats(0, 0.99), st.floats(0, 0.3), st.booleans(), st.booleans())
def test_weight_decay_of_both_kinds_is_that_of_optax(rate, beta, decay, decoupled, maximizes) -> None:
    """A penalty is a decay before Adam, a decoupled one AdamW; who maximizes sees the other sign of the loss alone."""
    ours = rules.Adam(rate, (beta, 0.99), 1e-6, decay, maximize=maximizes, decoupled_weight_decay=decoupled)
    adam = optax.adamw(rate, beta, 0.99, 1e-6, weight_decay=decay) if decoupled else optax.chain(
        optax.add_decayed_weights(decay), optax.adam(rate, beta, 0.99, 1e-6)
    )  # fmt: skip
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x = jnp.asarray(rng.normal(size=3))
        kept, theirs = ours.transformation.init(x), adam.init(x)
        for g in jnp.asarray(rng.normal(size=(4, 3))):
            change, kept = ours.transformation.update(-g if maximizes else g, kept, x)
            expected, theirs = adam.update(g, theirs, x)
            np.testing.assert_allclose(change, expected, rtol=1e-10, atol=1e-14)
            x = x + change


def test_the_product_of_nadams_momenta_is_known_at_any_step() -> None:
    """Its series against the product itself, with and without a warm-up."""
    for psi in (4e-3, 0.1, 0.0):
        optimizer = rules.NAdam(momentum_decay=psi)
        steps = np.arange(1, 400.0)
        product = np.cumprod(0.9 * (1 - 0.5 * 0.96 ** (steps * psi)))
        with jax.enable_x64(True):
            np.testing.assert_allclose(optimizer.mu_product(jnp.asarray(steps)), product, rtol=1e-12)


@pytest.mark.long
def test_damped_momentum_is_read_with_its_own_numbers() -> None:
    """v <- 0.8 v + 0.75 g in the long run: alpha is 0.2 times 0.75."""
    damped = rules.SGD(lr=0.2, momentum=0.8, dampening=0.25)
    found = reopt.examine(damped, reopt.tasks.Quadratic(), num_steps=40, problems=4)
    told = momentum.measure(found, {})
    assert told.verdict == "present"
    read = {row[0]: row[2] for row in told.readings}
    np.testing.assert_allclose([read["alpha_real"], read["beta_real"]], [0.15, 0.8], rtol=1e-6)


@pytest.mark.long
def test_a_true_run_has_the_weight_decay() -> None:
    sizes = {"problems": 4, "seed": 0, "num_steps": 20}
    task, ours, theirs = reopt.tasks.Quadratic(), rules.AdamW(0.1, weight_decay=0.5), optax.adamw(0.1, weight_decay=0.5)
    expected = evaluate_optax(theirs, task, name="adamw", task_name="quadratic", **sizes).table["meta_objective"]
    found = reopt.evaluate(ours, task, **sizes).table["meta_objective"]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    alone = reopt.evaluate(rules.AdamW(0.1, weight_decay=0.0), task, **sizes).table["meta_objective"]
    assert (abs(found - alone) > 5e-4).all()  # far beyond the tolerance above


@pytest.mark.parametrize(
    ("name", "kind"), [("LBFGS", MORE), ("SparseAdam", MORE), ("Muon", BY_SHAPE), ("Adafactor", COUPLED)]
)
def test_those_that_are_not_of_single_parameters_are_refused_with_the_reason(name: str, kind: str) -> None:
    with pytest.raises(NotComponentWise, match=f"torch's {name} is no optimizer of single parameters") as refused:
        load_object(f"torch:{name}(lr=0.1)")
    assert refused.value.kind == kind


def test_a_subject_by_its_words_is_the_class_with_these_hyperparameters() -> None:
    assert load_object("torch:Adam(lr=3e-3, betas=(0.8, 0.9), foreach=False)") == rules.Adam(3e-3, (0.8, 0.9))
    assert load_object("torch.optim:SGD(0.1, 0.9, nesterov=True)") == rules.SGD(0.1, 0.9, nesterov=True)
    given = {"task": reopt.tasks.Quadratic(), "task_name": "quadratic", "results": Path("nowhere")}
    assert resolve("torch:RAdam", **given) == ("RAdam", rules.RAdam())
    with pytest.raises(reopt.ReoptError, match="without weight decay alone"):
        resolve("torch:AdamW", **given)
    assert resolve("torch:AdamW", **given, decay=True)[1].caveats[0].startswith("Decoupled weight decay")


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ("torch:Adam(lr=-1.0)", "lr is -1.0, but must not be below 0"),
        ("torch:Adam(betas=(0.9, 1.0))", "must be below 1"),
        ("torch:Adam(momentum=0.9)", "no hyperparameter 'momentum', but lr, betas"),
        ("torch:Adam(0.1, lr=0.1)", "given lr twice"),
        ("torch:Adam(lr='fast')", "no number, pair of numbers or flag"),
        ("torch:Adam(betas=0.9)", "no number, pair of numbers or flag"),
        ("torch:SGD(nesterov=True)", "nesterov needs a momentum"),
        ("torch:Rprop(etas=(1.1, 1.2))", "below and above 1"),
        ("torch:Adamm(lr=0.1)", "torch.optim has no 'Adamm'"),
        ("torch:load('nowhere.pt', 'Adam')", r"reopt\[torch\]|cannot read"),
    ],
)
def test_what_torch_would_refuse_is_refused_in_a_line(said: str, match: str) -> None:
    with pytest.raises(reopt.ReoptError, match=match):
        load_object(said)
    assert set(vars(words())) >= rules.KINDS.keys()


def test_what_is_no_state_or_of_another_making_is_refused() -> None:
    state = state_dict("adam")
    with pytest.raises(reopt.ReoptError, match="a state does not tell whose it is"):
        from_torch(state)
    with pytest.raises(reopt.ReoptError, match="lacks 'state' and 'param_groups'"):
        from_torch({"weight": np.zeros(3)}, name="Adam")
    with pytest.raises(reopt.ReoptError, match="a dict_keys is no torch optimizer"):
        from_torch(state.keys())
    with pytest.raises(reopt.ReoptError, match="no hyperparameter 'amsgrad'"):
        from_torch(state, name="RAdam")
    state["param_groups"][0]["amsgrad"] = True
    with pytest.raises(reopt.ReoptError, match="has no max_exp_avg_sq"):
        torch_states(state, name="Adam")


class Mine:
    """As somebody subclasses an optimizer of torch."""

    param_groups: tuple = ()

    def state_dict(self) -> dict:
        return {"state": {}, "param_groups": []}


def test_an_optimizer_of_other_code_is_refused_though_it_looks_like_torch() -> None:
    with pytest.raises(reopt.ReoptError, match=r"Mine is not of torch\.optim: its steps are not known"):
        from_torch(Mine())


def test_groups_with_different_hyperparameters_are_chosen_by_number() -> None:
    state = state_dict("adam")
    (one,) = state["param_groups"]
    state["param_groups"] = [one, one | {"lr": 0.5, "params": [1]}]
    with pytest.raises(reopt.ReoptError, match="2 groups of parameters have different hyperparameters"):
        from_torch(state, name="Adam")
    with pytest.raises(reopt.ReoptError, match="no group 2 of parameters, but 2"):
        from_torch(state, name="Adam", group=2)
    assert from_torch(state, name="Adam", group=1).lr == 0.5
    first, second = torch_states(state, name="Adam")
    assert first is not None
    assert first.shape == (4, 3)
    assert second is None


@pytest.mark.parametrize(("label", "changed"), [("nadam", {"betas": [0.8, 0.999]}), ("asgd", {"lr": 0.05})])
def test_hyperparameters_that_were_changed_on_the_way_are_noticed(label: str, changed: dict[str, Any]) -> None:
    state = state_dict(label)
    state["param_groups"][0] |= changed
    with pytest.raises(reopt.ReoptError, match="were changed on the way"):
        torch_states(state, name=str(GOLDEN[f"{label}/name"]))
