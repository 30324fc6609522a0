"""Mechanisms taken away: planted ones leave what is known to be left; the contrasts of the sixteen runs are exact."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from reopt.core.errors import ReoptError
from reopt.core.limits import CEILING
from reopt.dynamics.linearization import Linearization, linearize
from reopt.evaluation.evaluate import evaluate
from reopt.mechanisms.ablation import COMBINATIONS, causes, half_slope_range, num_problems, worth
from reopt.mechanisms.interventions import MECHANISMS, Summed, intervene, removed, slow_projector
from reopt.optimizers.base import Optimizer
from reopt.optimizers.classical import SGD, Adam, Momentum, RMSProp
from reopt.optimizers.learned import create_learned
from reopt.tasks.quadratic import Quadratic

TASK = Quadratic(3, (-2.0, 0.0))
STEPS = 30


class Stateless(Optimizer):
    """An optimizer without a state."""

    @property
    def state_names(self) -> tuple[str, ...]:
        return ()

    def initial_state(self):
        return jnp.zeros(0)

    def update(self, state, gradient):
        return state


class ClippedSGD(Stateless):
    """dx = -lr clip(g, -t, t)."""

    rate: float
    threshold: float

    def readout(self, state, gradient):
        return -self.rate * jnp.clip(gradient, -self.threshold, self.threshold)


class WarmedSGD(Optimizer):
    """dx = -lr (1 - w') g, w' = 0.8 w from w = 1: a warm-up that no gradient changes."""

    rate: float

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("cold",)

    def initial_state(self):
        return jnp.ones(1)

    def update(self, state, gradient):
        return 0.8 * state

    def readout(self, state, gradient):
        return -self.rate * (1 - state[..., 0]) * gradient


class Signed(Stateless):
    """dx = -lr sign(g)."""

    rate: float

    def readout(self, state, gradient):
        return -self.rate * jnp.sign(gradient)


def _learned(units: int = 5):
    """A small network with weights of its own everywhere; its updates are small, so that no run diverges."""
    optimizer = create_learned(jax.random.key(0), cell="gru", units=units)
    weights = [scale * jax.random.normal(jax.random.key(n), (units,)) for n, scale in ((1, 0.3), (2, 0.03))]
    return eqx.tree_at(lambda o: (o.start, o.readout_weight), optimizer, weights)


def _updates(optimizer: Optimizer, gradients: np.ndarray) -> np.ndarray:
    def run(subject, met):
        return jax.lax.scan(lambda state, gradient: subject(state, gradient), subject.initial_states((4,)), met)[1]

    return np.asarray(eqx.filter_jit(run)(optimizer, jnp.asarray(gradients)))


GRADIENTS = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)


def _without(optimizer: Optimizer, *names: str, point=None, probe=None) -> np.ndarray:
    linear = linearize(optimizer, np.zeros(optimizer.state_size) if point is None else point, clock=100.0)
    return _updates(intervene(optimizer, linear, removed(*names), probe=probe), GRADIENTS)


def test_heavy_ball_without_momentum_is_gradient_descent():
    np.testing.assert_array_equal(_without(Momentum(0.2, 0.9), "momentum"), _updates(SGD(0.2), GRADIENTS))
    # Its buffer is linear and forgets nothing of its start: there is nothing else to take away.
    kept = _updates(Momentum(0.2, 0.9), GRADIENTS)
    np.testing.assert_allclose(_without(Momentum(0.2, 0.9), "clipping", "schedule", "adaptation"), kept, rtol=2e-5)


def test_a_buffer_of_four_steps_is_no_slow_mode():
    kept = _updates(Momentum(0.2, 0.78), GRADIENTS)
    np.testing.assert_allclose(_without(Momentum(0.2, 0.78), "momentum"), kept, rtol=1e-6)


def test_clipped_descent_without_clipping_is_gradient_descent():
    clipped = ClippedSGD(0.2, 0.5)
    np.testing.assert_array_equal(_without(clipped, "clipping"), _updates(SGD(0.2), GRADIENTS))
    np.testing.assert_array_equal(_without(clipped, "momentum", "schedule"), _updates(clipped, GRADIENTS))


def test_a_warm_up_without_its_schedule_has_the_full_rate_at_once():
    np.testing.assert_array_equal(_without(WarmedSGD(0.2), "schedule"), _updates(SGD(0.2), GRADIENTS))
    factor = 1 - 0.8 ** np.arange(1, 13)[:, None]
    np.testing.assert_allclose(_without(WarmedSGD(0.2), "clipping"), -0.2 * factor * GRADIENTS, rtol=1e-5)


def test_a_decay_by_the_clock_stands_still_without_the_schedule():
    decayed = Adam(0.1, 0.0, 0.9, half_life=50.0)
    found = _without(decayed, "schedule", "adaptation", point=np.array([0.0, 0.0, 100.0]))
    # From h* with its second moment of 0, a response to g alone; the rate is that of the clock, which goes on no step.
    second = 0.1 * np.square(GRADIENTS) / (1 - 0.9**101)
    np.testing.assert_allclose(found, -0.1 * 0.25 * GRADIENTS / (np.sqrt(second) + 1e-8), rtol=1e-4)


def test_rmsprop_without_adaptation_answers_to_the_last_gradient_alone():
    rmsprop = RMSProp(0.1, 0.9, 0.01)
    expected = -0.1 * GRADIENTS / np.sqrt(0.1 * np.square(GRADIENTS) + 0.01)
    np.testing.assert_allclose(_without(rmsprop, "adaptation"), expected, rtol=1e-5)
    np.testing.assert_allclose(_without(rmsprop, "adaptation", "clipping"), -0.1 * GRADIENTS / 0.1, rtol=1e-5)
    # Its second moment is slow, but no momentum: it carries no linear response.
    np.testing.assert_allclose(_without(rmsprop, "momentum"), _updates(rmsprop, GRADIENTS), rtol=1e-6)


def test_a_sign_has_the_slope_of_its_secant():
    np.testing.assert_allclose(_without(Signed(0.1), "clipping", probe=0.5), -0.2 * GRADIENTS, rtol=1e-6)
    linear = linearize(Signed(0.1), np.zeros(0))
    found = causes(Signed(0.1), linear, TASK, seed=0, num_steps=5, problems=4, half_slope=(-1.0, 1.0))
    without = found.table.set_index("clipping").loc["removed", "difference"]
    assert (without.abs() > 1e-3).all()


def test_the_slow_projector_commutes_with_the_jacobian_and_keeps_a_defective_block():
    jacobian = np.array([[0.95, 1.0, 0.2, 0.0], [0, 0.95, 0.1, 0.3], [0, 0, 0.5, -0.4], [0, 0, 0.4, 0.5]])
    zero = np.float64(0)
    linear = Linearization(
        np.zeros(4), jacobian, np.ones(4), np.ones(4), zero, zero, zero, np.array([], int)
    )  # fmt: skip
    projector = slow_projector(linear)
    np.testing.assert_allclose(projector @ jacobian, jacobian @ projector, atol=1e-12)
    np.testing.assert_allclose(projector @ projector, projector, atol=1e-12)
    assert np.trace(projector) == pytest.approx(2)
    assert np.abs(np.linalg.eigvals(jacobian @ (np.eye(4) - projector))).max() == pytest.approx(np.hypot(0.5, 0.4))


@pytest.fixture(scope="module")
def network():
    optimizer = _learned()
    state = optimizer.initial_state()
    for _ in range(500):
        state = optimizer.update(state, jnp.zeros(()))
    linear = linearize(optimizer, np.asarray(state))
    found = causes(
        optimizer, linear, TASK, seed=3, num_steps=STEPS, problems=8, half_slope=(-0.5, np.inf),
        tuned_momentum=Momentum(0.5, 0.5),
    )  # fmt: skip
    return optimizer, linear, found


def test_the_intact_combination_is_the_optimizer_itself(network):
    optimizer, _, found = network
    table = evaluate(optimizer, TASK, name="x", task_name="quadratic", problems=8, seed=3, num_steps=STEPS).table
    intact = found.table.iloc[0]
    assert 0 < table["meta_objective"].max() < CEILING
    assert intact["meta_objective"] == pytest.approx(table["meta_objective"].mean(), rel=1e-6)
    assert (intact["difference"], intact["difference_low"], intact["difference_high"]) == (0, 0, 0)
    assert list(intact[list(MECHANISMS)]) == ["kept"] * 4
    others = ["linearised", "input_clipped", "tuned_momentum", "momentum_replaced"]
    assert list(found.table["variant"]) == ["factorial"] * 16 + others


def test_differences_are_those_of_the_means_and_the_contrasts_follow_from_them(network):
    found = network[2]
    runs = found.table[found.table["variant"] == "factorial"]
    np.testing.assert_allclose(runs["difference"], runs["meta_objective"] - runs["meta_objective"].iloc[0], atol=1e-12)
    cost = {tuple(row[list(MECHANISMS)] == "removed"): row["difference"] for _, row in runs.iterrows()}
    value = found.worth.set_index(["mechanism", "quantity"])["value"]
    assert value["clipping", "alone"] == pytest.approx(cost[False, True, False, False], abs=1e-12)
    last = cost[True, True, True, True] - cost[True, False, True, True]
    assert value["clipping", "last"] == pytest.approx(last, abs=1e-12)
    assert value["four", "all"] == pytest.approx(cost[True, True, True, True], abs=1e-12)
    pair = cost[True, False, False, True] - cost[True, False, False, False] - cost[False, False, False, True]
    assert value["momentum x adaptation", "interaction"] == pytest.approx(pair, abs=1e-12)


def test_shapley_values_sum_to_the_cost_of_all(network):
    for table in (network[2].worth, worth(np.random.default_rng(1).lognormal(size=(16, 40)))):
        value = table.set_index(["mechanism", "quantity"])["value"]
        total = sum(value[name, "shapley"] for name in MECHANISMS)
        assert total == pytest.approx(value["four", "all"], abs=1e-12)
        assert value["four", "sum"] + value["four", "interaction"] == pytest.approx(value["four", "all"], abs=1e-12)


def test_contrasts_of_costs_that_add_but_for_one_pair():
    cost = np.array([1.0, 2.0, 4.0, 8.0])
    shift = np.linspace(-1, 1, 50)  # differs between problems, not between combinations: it cancels
    values = np.array([cost @ gone + 6 * (gone[0] and gone[3]) + shift for gone in COMBINATIONS])
    table = worth(values).set_index(["mechanism", "quantity"])
    expected = {"momentum": (1, 7, 4), "clipping": (2, 2, 2), "schedule": (4, 4, 4), "adaptation": (8, 14, 11)}
    for name, numbers in expected.items():
        found = [table.loc[(name, quantity), "value"] for quantity in ("alone", "last", "shapley")]
        assert found == pytest.approx(numbers)
    assert table.loc[("momentum x adaptation", "interaction"), "value"] == pytest.approx(6)
    assert table.loc[("clipping x schedule", "interaction"), "value"] == pytest.approx(0)
    assert [table.loc[("four", q), "value"] for q in ("sum", "all", "interaction")] == pytest.approx([15, 21, 6])
    np.testing.assert_allclose(table["low"], table["high"], atol=1e-9)


def test_the_order_of_parameters_does_not_matter(network):
    optimizer, linear, _ = network
    subject = intervene(optimizer, linear, removed(*MECHANISMS))
    order = np.array([2, 0, 3, 1])
    np.testing.assert_allclose(
        _updates(subject, GRADIENTS)[:, order], _updates(subject, GRADIENTS[:, order]), rtol=1e-5
    )


def test_clipping_and_adaptation_removed_leave_a_linear_answer_at_the_fixed_point(network):
    """At h*, without history, all combinations of the two answer to a small gradient alike, and those without clipping
    to any."""
    optimizer, linear, _ = network
    for names in (("clipping",), ("clipping", "adaptation")):
        subject = intervene(optimizer, linear, removed("schedule", *names))
        (update,) = _updates(subject, 3 * GRADIENTS[:1])
        expected = linear.offset + 3 * GRADIENTS[0] * (linear.readout @ linear.input + linear.direct)
        np.testing.assert_allclose(update, expected, rtol=1e-4, atol=1e-6)


def test_the_tuned_momentum_takes_the_place_of_the_slow_modes():
    """Heavy ball has no other modes: without them it answers to the last gradient alone, and the rates add up."""
    linear = linearize(Momentum(0.1, 0.9), np.zeros(1))
    subject = Summed(intervene(Momentum(0.1, 0.9), linear, removed("momentum")), Momentum(0.05, 0.8))
    expected = _updates(SGD(0.1), GRADIENTS) + _updates(Momentum(0.05, 0.8), GRADIENTS)
    np.testing.assert_allclose(_updates(subject, GRADIENTS), expected, rtol=1e-6)
    given = {"seed": 0, "num_steps": STEPS, "problems": 4, "half_slope": (-1.0, 1.0)}
    table = causes(Momentum(0.1, 0.9), linear, TASK, tuned_momentum=Momentum(0.05, 0.8), **given).table
    row = table[table["variant"] == "momentum_replaced"].iloc[0]
    run = evaluate(subject, TASK, name="x", task_name="quadratic", problems=4, seed=0, num_steps=STEPS).table
    assert row["momentum"] == "removed"
    assert row["meta_objective"] == pytest.approx(run["meta_objective"].mean(), rel=1e-5)


def test_runs_that_diverge_count_as_the_ceiling_and_are_told():
    # Undamped beyond 2 / lambda_max: the losses of every problem overflow.
    wild = ClippedSGD(1e6, 1e-9)
    linear = linearize(wild, np.zeros(0))
    table = causes(wild, linear, TASK, seed=0, num_steps=STEPS, problems=4, half_slope=(-np.inf, np.inf)).table
    gone = table[table["clipping"] == "removed"]
    assert (gone["diverged"] == 1).all()
    assert (gone["meta_objective"] == CEILING).all()
    assert table.loc[0, "diverged"] == 0
    assert table.loc[0, "meta_objective"] < 1


def test_inputs_clipped_is_the_optimizer_on_clipped_gradients():
    linear = linearize(SGD(0.5), np.zeros(0))
    table = causes(SGD(0.5), linear, TASK, seed=0, num_steps=STEPS, problems=4, half_slope=(-0.1, 0.1)).table
    clipped = evaluate(
        ClippedSGD(0.5, 0.1), TASK, name="x", task_name="quadratic", problems=4, seed=0, num_steps=STEPS
    ).table["meta_objective"]
    row = table[table["variant"] == "input_clipped"].iloc[0]
    assert row["meta_objective"] == pytest.approx(clipped.mean(), rel=1e-6)
    assert row["difference"] > 0.01


def test_the_half_slope_range_is_that_at_the_fixed_point_and_infinite_where_there_is_none():
    table = pd.DataFrame(
        {
            "place": ["initial", "fixed_point"],
            "half_slope_positive": [2.7, 0.75],
            "half_slope_negative": [np.nan, np.nan],
        }
    )
    assert half_slope_range(table) == (-np.inf, 0.75)
    with pytest.raises(ReoptError, match="not 0"):
        half_slope_range(table.iloc[:1])


def test_fewer_problems_of_many_parameters_or_large_states():
    assert num_problems(Quadratic(5), SGD(0.1), 2048) == 512
    assert num_problems(Quadratic(5), SGD(0.1), 100) == 100
    assert num_problems(Quadratic(1000), Momentum(0.1, 0.9), 2048) == 65
    assert num_problems(Quadratic(1000), _learned(100), 2048) == 41
    assert num_problems(Quadratic(10_000), _learned(100), 2048) == 32
