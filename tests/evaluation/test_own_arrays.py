"""Optax transformations judged on the arrays of a task's network, under their names, beside runs by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import reopt
from reopt.cli import app as cli
from reopt.evaluation.evaluate import problem_batches
from reopt.evaluation.evaluate_optax import arrays_of, evaluate_optax, names_of, vector_of
from reopt.optimizers.refusals import BY_NAME, NotComponentWise
from reopt.tasks.mnist import MNIST
from reopt.tasks.quadratic import Quadratic
from reopt.tasks.two_moons import TwoMoons

MOONS = TwoMoons((4, 3), 64)
DIGITS = MNIST(channels=(2,), kernels=(3,), strides=(4,), batch=4)
STEPS = 6


def objectives(transformation: Any, task: Any = MOONS) -> np.ndarray:
    return reopt.evaluate(transformation, task, problems=4, seed=3, num_steps=STEPS).table["meta_objective"].to_numpy()


def by_hand(transformation: Any) -> np.ndarray:
    """Mean of loss over initial loss along runs in Python, on weights and biases cut from the vector by hand."""
    (batch,) = problem_batches(MOONS, seed=3, count=4)
    sizes = [(2, 4), (4,), (4, 3), (3,), (3, 1), (1,)]
    ends = np.cumsum([int(np.prod(size)) for size in sizes])
    names = ["a/weight", "a/bias", "b/weight", "b/bias", "c/weight", "c/bias"]
    found = []
    for number in range(4):
        problem = jax.tree.map(lambda leaf: leaf[number], batch)  # noqa: B023
        pieces = np.split(np.asarray(MOONS.initial_params(problem)), ends[:-1])
        params = {name: piece.reshape(size) for name, piece, size in zip(names, pieces, sizes, strict=True)}

        def loss(params: Any) -> Any:
            flat = jnp.concatenate([jnp.ravel(params[name]) for name in names])
            return MOONS.loss(problem, flat, jnp.asarray(0))  # noqa: B023

        state, losses = transformation.init(params), []
        for _ in range(STEPS):
            value, gradients = jax.value_and_grad(loss)(params)
            losses.append(float(value))
            updates, state = transformation.update(gradients, state, params)
            params = optax.apply_updates(params, updates)
        found.append(np.mean(losses) / losses[0])
    return np.array(found)


@pytest.mark.parametrize(
    "transformation",
    [
        pytest.param(optax.sgd(0.3, momentum=0.5), marks=pytest.mark.long),
        optax.adamw(0.03, mask=lambda params: jax.tree.map(lambda x: x.ndim > 1, params), weight_decay=5),
        pytest.param(optax.lamb(0.1), marks=pytest.mark.long),
        pytest.param(optax.contrib.muon(0.1), marks=pytest.mark.long),
        pytest.param(optax.chain(optax.clip_by_global_norm(0.05), optax.sgd(1.0)), marks=pytest.mark.long),
        pytest.param(optax.adafactor(0.1, min_dim_size_to_factor=2), marks=pytest.mark.long),
    ],
    ids=["sgd", "decay of matrices", "lamb", "muon", "global norm", "adafactor"],
)
def test_curves_are_those_of_a_run_on_the_arrays_themselves(transformation: Any) -> None:
    np.testing.assert_allclose(objectives(transformation), by_hand(transformation), rtol=2e-5)


@pytest.mark.long
def test_what_acts_by_shape_differs_from_what_it_is_on_one_vector() -> None:
    masked = optax.adamw(0.03, mask=lambda params: jax.tree.map(lambda x: x.ndim > 1, params), weight_decay=5)
    assert np.abs(objectives(masked) - objectives(optax.adam(0.03))).min() > 1e-3
    steps = [objectives(optax.contrib.muon(0.1, ns_steps=count)) for count in (1, 5)]
    assert np.abs(steps[0] - steps[1]).min() > 1e-3


@pytest.mark.parametrize("task", [MOONS, DIGITS, Quadratic(5)], ids=["two moons", "mnist", "quadratic"])
def test_arrays_are_the_vector_in_order(task: Any) -> None:
    params = jnp.arange(float(task.num_params))
    arrays = arrays_of(task, params)
    np.testing.assert_array_equal(vector_of(task, arrays), params)
    assert len(jax.tree.leaves(arrays)) == len(names_of(task))
    if task is DIGITS:
        assert arrays["layer_0"]["weight"].shape == (3, 3, 1, 2)
        assert arrays["layer_1"]["bias"].shape == (10,)
    if isinstance(task, Quadratic):
        assert arrays["params"].shape == (5,)


def labelled(*slow: str) -> optax.GradientTransformation:
    """SGD that leaves the arrays of these names where they are."""
    return optax.multi_transform(
        {"slow": optax.set_to_zero(), "fast": optax.sgd(0.3)},
        lambda params: jax.tree_util.tree_map_with_path(
            lambda path, _: "slow" if any(getattr(key, "key", None) in slow for key in path) else "fast", params
        ),
    )


def test_labels_know_the_names_of_the_task_or_are_refused() -> None:
    still = objectives(labelled("weight", "bias"))
    np.testing.assert_allclose(still, 1.0, rtol=1e-6)
    assert (objectives(labelled("bias")) < 1.0).all()
    with pytest.raises(NotComponentWise, match="layer_0/weight, layer_0/bias, layer_1/weight") as caught:
        objectives(labelled("kernel"))
    assert caught.value.kind == BY_NAME


def test_labels_in_the_form_of_the_tasks_own_arrays_fit_them() -> None:
    """They fit no other arrays; the first layer is left where it is, or a part is looked up by its name."""
    rules = {"slow": optax.set_to_zero(), "fast": optax.sgd(0.3)}
    labels = {"layer_0": "slow", "layer_1": "slow", "layer_2": "slow"}
    np.testing.assert_allclose(objectives(optax.multi_transform(rules, labels)), 1.0, rtol=1e-6)
    assert (objectives(optax.multi_transform(rules, labels | {"layer_2": "fast"})) < 1.0).all()

    def looked_up(params: Any) -> Any:
        return {name: "fast" if name == "layer_2" else "slow" for name in params} | {"layer_0": "slow"}

    assert (objectives(optax.multi_transform(rules, looked_up)) < 1.0).all()
    with pytest.raises(NotComponentWise):
        objectives(optax.multi_transform(rules, {"encoder": "fast"}))


def test_random_numbers_and_further_arguments_are_still_refused() -> None:
    asked = {"name": "it", "task_name": "two_moons", "problems": 2, "seed": 0, "num_steps": 2}
    for transformation in (optax.chain(optax.sgd(0.1), optax.add_noise(0.1, 0.5, 0)), optax.polyak_sgd()):
        with pytest.raises(NotComponentWise):
            evaluate_optax(transformation, MOONS, **asked)
        with pytest.raises(NotComponentWise):
            reopt.evaluate(transformation, MOONS, problems=2, num_steps=2)


def test_the_command_says_on_what_it_ran(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XLA_FLAGS", "")
    words = "evaluate optax:lamb(0.1) optax:sgd(0.1) --task two_moons --steps 4 --problems 2"
    monkeypatch.setattr("sys.argv", ["reopt", *words.split()])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert not ended.value.code, said.err
    assert "lamb(0.1) does not act on each parameter alone: run on its arrays layer_0/weight, layer_0/bias, ..." in (
        said.out + said.err
    )
