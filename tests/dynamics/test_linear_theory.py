"""The best linear method on quadratics: classical values, every linear method above it, one method that takes it."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.special import roots_jacobi

from reopt.core.errors import ReoptError
from reopt.dynamics.linear_theory import (
    DONE,
    HeavyBall,
    Measure,
    ScheduledHeavyBall,
    best_heavy_ball,
    best_linear,
    least_losses,
    linear_bound,
    losses_of,
    nonlinear_share,
    spectral_measure,
)
from reopt.evaluation.evaluate import evaluate
from reopt.evaluation.keys import problem_key
from reopt.evaluation.unroll import unroll
from reopt.optimizers.classical import polyak
from reopt.tasks.quadratic import Quadratic
from reopt.tasks.rosenbrock import Rosenbrock

TASK = Quadratic()
STEPS = 60


def jacobi(a: float, b: float, count: int = 300) -> Measure:
    """(1 - y)^a (1 + y)^b on y in [-1, 1], moved to [0, 1] and normed; Gauss's nodes, exact to degree 2 count - 1."""
    nodes, weights = roots_jacobi(count, a, b)
    return Measure((nodes + 1) / 2, weights / weights.sum())


@pytest.fixture(scope="module")
def measure() -> Measure:
    return spectral_measure(TASK, seed=3, problems=400)


def test_legendre_and_chebyshev_give_the_classical_values() -> None:
    """At an end of the interval q_k^2 is 2 k + 1 for Legendre's weight, whose sum is (t + 1)^2, and 2 (1 for k = 0)
    for Chebyshev's, whose sum is 2 t + 1."""
    steps = np.arange(40)
    np.testing.assert_allclose(least_losses(jacobi(0, 0), 40), 1 / (steps + 1.0) ** 2, rtol=1e-10)
    np.testing.assert_allclose(least_losses(jacobi(-0.5, -0.5), 40), 1 / (2 * steps + 1.0), rtol=1e-10)


def test_jacobi_gives_the_classical_value() -> None:
    """For (1 - y)^a (1 + y)^b at y = -1: sum_{k<=t} q_k^2 = (b+2)_t (a+b+2)_t / ((a+1)_t t!), (x)_t rising factorials.

    Of a = 0 and b = 0 this is (t + 1)^2 (Szego 1939, (4.5.8)).
    """
    a, b = 0.7, 1.6
    got = 1 / least_losses(jacobi(a, b), 25)
    expected = [1.0]
    for t in range(24):
        expected.append(expected[-1] * (b + 2 + t) * (a + b + 2 + t) / ((a + 1 + t) * (t + 1)))
    np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_two_eigenvalues_are_done_after_two_steps() -> None:
    one, two = Measure(np.array([0.3, 0.3]), np.full(2, 0.5)), Measure(np.array([0.1, 0.9]), np.array([0.5, 0.5]))
    assert least_losses(one, 4)[1:] == pytest.approx(0, abs=1e-20)
    assert least_losses(two, 4)[2:] == pytest.approx(0, abs=1e-20)
    assert losses_of(two, best_heavy_ball(two, 4, done=1e-30))[2:] == pytest.approx(0, abs=1e-20)


def test_one_heavy_ball_takes_the_bound_at_every_step(measure: Measure) -> None:
    found, least = losses_of(measure, best_heavy_ball(measure, 201)), least_losses(measure, 201)
    going = least > DONE
    assert 100 < going.sum() < 201
    np.testing.assert_allclose(found[going], least[going], rtol=1e-6, atol=1e-12)
    assert (found[~going] <= DONE).all()
    assert found.mean() == pytest.approx(linear_bound(measure, 201), rel=1e-6)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_no_linear_method_is_below(measure: Measure, data: st.DataObject) -> None:
    """Heavy balls with schedules drawn at random, and the best one with its numbers moved a little."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    best = best_heavy_ball(measure, STEPS)
    if data.draw(st.booleans()):
        size = 10.0 ** data.draw(st.floats(-6, -0.5))
        method = HeavyBall(*(part * (1 + size * rng.standard_normal(STEPS)) for part in best))
    else:
        method = HeavyBall(10.0 ** rng.uniform(-2, 0.8, STEPS), rng.uniform(0, 1, STEPS))
    assert (losses_of(measure, method) >= least_losses(measure, STEPS) * (1 - 1e-9)).all()


def test_the_optimizer_runs_as_its_polynomials_say() -> None:
    """The meta-objective of a run in float64 on the very problems of the sample is that of the measure."""
    measure = spectral_measure(TASK, seed=3, problems=40)
    method = best_heavy_ball(measure, STEPS)
    key = problem_key("theory", 3)
    drawn = jax.vmap(lambda number: TASK.sample(jax.random.fold_in(key, number)))(jnp.arange(40))
    with jax.enable_x64(True):
        problems = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), drawn)
        optimizer = ScheduledHeavyBall(jnp.asarray(method.rates), jnp.asarray(method.momenta))
        losses = np.asarray(unroll(optimizer, TASK, problems, STEPS).losses)
    # The Hessians are rounded to float32 and so not quite symmetric, which later steps amplify.
    np.testing.assert_allclose((losses / losses[0]).mean(axis=1)[:25], least_losses(measure, 25), rtol=1e-5)


def test_polyak_is_above_and_the_best_linear_method_close_to_the_bound_on_other_problems() -> None:
    bound = linear_bound(spectral_measure(TASK, seed=0, problems=2000), 201)
    assert 0.044 < bound < 0.047
    judged = {"problems": 4096, "seed": 11, "num_steps": 201, "task_name": "quadratic"}
    best = evaluate(best_linear(TASK, num_steps=201, problems=2000), TASK, name="best", **judged)
    theory = evaluate(polyak(-3.0, 0.0), TASK, name="polyak", **judged)
    gap = theory.table["meta_objective"] - best.table["meta_objective"]
    assert gap.mean() > 2 * gap.std() / np.sqrt(len(gap))


def test_the_share_that_no_linear_method_can_have() -> None:
    assert nonlinear_share(0.0464, 0.0275, 0.0457) == pytest.approx(0.963, abs=1e-3)
    assert nonlinear_share(0.0464, 0.0275, 0.02) == 0
    assert nonlinear_share(0.0464, 0.0275, 0.05) == 1
    assert np.isnan(nonlinear_share(0.0464, 0.05, 0.0457))


def test_other_tasks_are_refused() -> None:
    with pytest.raises(ReoptError, match="quadratics alone"):
        spectral_measure(Rosenbrock(), seed=0, problems=2)
