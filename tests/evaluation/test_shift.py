"""Runs away from home, in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reopt.core.limits import CEILING
from reopt.evaluation.evaluate import evaluate
from reopt.evaluation.rescaled import Rescaled
from reopt.evaluation.shift import Setup, beyond, build, is_worse, problems_for, run, scales, score, transfer
from reopt.evaluation.unroll import batch_value_and_grad
from reopt.optimizers.classical import SGD, Momentum, RMSProp
from reopt.tasks.mnist import MNIST
from reopt.tasks.quadratic import Quadratic

PROBLEM = {"dimension": 3, "log10_eigenvalues": [-2.0, 0.0]}
SETUPS = {
    "quadratic": Setup(PROBLEM, 20),
    "rosenbrock": Setup({"start_x": [-2.0, 2.0], "start_y": [-1.0, 3.0]}, 30),
}
SOME = {"problems": 6, "seed": 4, "num_steps": 20}
TASK = build("quadratic", PROBLEM)


def rescaled(factor: float) -> Rescaled:
    return Rescaled(TASK, jnp.asarray(factor, jnp.float32))


@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_sgd_on_a_rescaled_loss_is_sgd_of_another_rate(factor: float):
    there = run(SGD(0.2 / factor), rescaled(factor), **SOME)
    np.testing.assert_allclose(there / factor, run(SGD(0.2), TASK, **SOME), rtol=1e-4)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_rmsprop_without_epsilon_does_not_see_the_scale(factor: float):
    optimizer = RMSProp(0.05, 0.9, 0.0)
    there, here = run(optimizer, rescaled(factor), **SOME), run(optimizer, TASK, **SOME)
    np.testing.assert_allclose(there / factor, here, rtol=1e-3)
    np.testing.assert_allclose(score(there).meta_objective, score(here).meta_objective, rtol=1e-3)


def test_gradients_of_a_rescaled_task_are_the_factor_times_its_own_with_minibatches_too():
    task = MNIST(pixels=14, channels=(2,), kernels=(3,), strides=(4,), activation="elu", batch=5)
    problems = task.sample_batch(jax.random.key(0), 2)
    params = jax.vmap(task.initial_params)(problems)
    for step in (0, 3):
        one, other = (
            batch_value_and_grad(which, problems, params, jnp.asarray(step))
            for which in (task, Rescaled(task, jnp.asarray(8.0)))
        )
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(8 * a, b, rtol=1e-5, atol=1e-7)


def test_the_first_horizon_is_the_evaluation():
    optimizer = Momentum(0.3, 0.8)
    judged = evaluate(optimizer, TASK, name="m", task_name="quadratic", **SOME)
    long = run(optimizer, TASK, **SOME | {"num_steps": 200})
    short = run(optimizer, TASK, **SOME)
    np.testing.assert_allclose(long[:20], short, rtol=1e-5)
    np.testing.assert_allclose(score(long[:20]).meta_objective, judged.table["meta_objective"], rtol=1e-5)


def test_scores_of_a_geometric_loss_and_of_one_that_diverges():
    step = np.arange(100)
    found = score(np.stack([0.9**step, 3.0**step, np.where(step < 50, 1.0, np.nan)], axis=1))
    assert found.meta_objective[0] == pytest.approx((1 - 0.9**100) / (100 * 0.1))
    assert found.final[0] == pytest.approx(0.9**90 * (1 - 0.9**10) / (10 * 0.1))
    assert found.meta_objective[1:].tolist() == found.final[1:].tolist() == [CEILING, CEILING]
    assert found.diverged.tolist() == [False, True, True]


def test_worse_is_more_than_a_tenth_and_more_than_chance():
    home = np.linspace(0.5, 1.5, 50)
    assert not is_worse(1.09 * home, home)
    assert is_worse(1.11 * home, home)
    lucky = home.copy()
    lucky[0] += 20.0  # one problem alone: the mean is over by 40%
    assert not is_worse(lucky, home)


def test_problems_are_fewer_of_many_parameters():
    assert problems_for(Quadratic(5), 2048) == 256
    assert problems_for(Quadratic(5), 8) == 8
    assert [problems_for(Quadratic(size), 2048) for size in (256, 1000)] == [128, 32]


def test_the_table_has_every_axis_and_home_is_the_same_in_each():
    found = beyond(SGD(0.5), SETUPS["quadratic"], subject="sgd", home="quadratic", problems=8, seed=1)
    table = found.table
    assert table.groupby("axis", sort=False).size().to_dict() == {"horizon": 4, "scale": 7, "condition": 5}
    assert set(table["problems"]) == {8}
    at_home = table[(table["value"] == 1.0) & (table["axis"] != "condition")]
    decades = table[(table["axis"] == "condition") & (table["value"] == 2.0)]
    assert len({*at_home["meta_objective"], *decades["meta_objective"]}) == 1
    assert not at_home["worse"].any()
    scale = table[table["axis"] == "scale"].set_index("value")
    # lr 0.5 on eigenvalues up to 1: at ten times the loss, steps of up to 5 against a limit of 2.
    assert scale["diverged"][1000.0] == 1
    assert scale["meta_objective"][1000.0] == CEILING
    assert scale["worse"].tolist() == [True, True, True, False, True, True, True]
    steps = found.curve["step"]
    assert (steps.iloc[0], steps.iloc[-1]) == (0, 199)
    assert found.curve["mean"].iloc[0] == 1


def test_on_another_task_worse_is_worse_than_standing_still():
    some = {"subject": "sgd", "onto": "quadratic", "problems": 8, "seed": 1}
    rows = {rate: transfer(SGD(rate), SETUPS["quadratic"], **some) for rate in (0.5, 50.0)}
    assert [table["worse"].item() for table in rows.values()] == [False, True]
    home = beyond(SGD(0.5), SETUPS["quadratic"], subject="sgd", home="quadratic", problems=8, seed=1).table
    assert rows[0.5]["meta_objective"].item() == home["meta_objective"].iloc[0]
    assert rows[50.0]["diverged"].item() == 1


def test_one_compiled_run_serves_all_factors():
    changes = list(scales(TASK, 20))
    assert len({jax.tree.structure(change.task) for change in changes}) == 1
    assert [change.home for change in changes] == [False] * 3 + [True] + [False] * 3
