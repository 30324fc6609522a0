"""Equal optimizers are called equal, different ones are told apart, and it is said in what they differ."""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Array

from reopt.cli.app import main
from reopt.examination import trajectories
from reopt.examination.compare import COLUMNS, Difference, difference
from reopt.examination.trajectories import Driven, driven, probes, steady, trajectories_table, weight_decay
from reopt.optimizers.classical import Adam, Momentum, Nesterov, RMSProp
from reopt.optimizers.learned import create_learned
from reopt.tasks.quadratic import Quadratic

STEPS = 60
few = settings(max_examples=5, deadline=None, derandomize=True)
rates = st.floats(1e-4, 1.0)
betas = st.floats(0.3, 0.99)


class Optax(eqx.Module):
    """An optax optimizer with its hyperparameters as arrays: draws of them share one compilation."""

    make: Callable[..., optax.GradientTransformation] = eqx.field(static=True)
    values: tuple[Array, ...]

    def init(self, params):
        return self.make(*self.values).init(params)

    def update(self, gradients, state, params=None):
        return self.make(*self.values).update(gradients, state, params)


def arrays(*values: float) -> tuple[Array, ...]:
    return tuple(jnp.asarray(value) for value in values)


def adam(rate, b1, b2, eps):
    return optax.adam(rate, b1, b2, eps)


def adamw(rate, b1, decay):
    return optax.adamw(rate, b1, weight_decay=decay)


def clipped(threshold, rate):
    return optax.chain(optax.clip(threshold), optax.scale(-1.0), optax.scale_by_learning_rate(rate, flip_sign=False))


def rmsprop_inside(rate, decay, eps):
    return optax.rmsprop(rate, decay, eps)


def rmsprop_outside(rate, decay, eps):
    return optax.rmsprop(rate, decay, eps, eps_in_sqrt=False)


def stepped(first, second, boundary):
    return optax.sgd(lambda step: jnp.where(step < boundary, first, second))


def under_probes(a, b, num_steps: int = 600) -> Driven:
    return driven(a, b, probes(np.array([0.3, -0.1]), np.array([1.0]), num_steps=num_steps))


def compare(a, b, **options) -> Difference:
    return difference(a, b, Quadratic(), num_steps=STEPS, problems=4, **options)


@pytest.mark.long
@few
@given(rates, betas, st.floats(0.9, 0.9999), st.floats(-9, -4))
def test_adam_of_optax_and_ours_are_equal(rate: float, b1: float, b2: float, log_eps: float) -> None:
    values = arrays(rate, b1, b2, 10.0**log_eps)
    found = compare(Optax(adam, values), Adam(*values))
    assert found.equal
    assert found.largest < 1e-9
    assert found.words[0].startswith("equal to 1e-")
    assert found.table["same"].all()
    assert set(found.table["quantity"]) >= {"run_of_A", "run_of_B", "zeros", "pulses", "constant", "flips", "ramp"}


@few
@given(rates, betas, st.floats(-6, -2))
def test_the_weight_decay_of_adamw_is_read_and_adam_has_none(rate: float, b1: float, log_decay: float) -> None:
    decay = 10.0**log_decay
    found = weight_decay(Optax(adamw, arrays(rate, b1, decay)), usual=0.1, num_steps=STEPS)
    np.testing.assert_allclose([found.share, found.low, found.high], rate * decay, rtol=1e-6)
    none = weight_decay(Optax(adam, arrays(rate, b1, 0.99, 1e-8)), usual=0.1, num_steps=STEPS)
    assert none[:4] == (0, 0, 0, 0)
    assert np.isnan(none.penalty)


@pytest.mark.long
def test_adam_and_adamw_differ_in_weight_decay_and_in_nothing_else() -> None:
    found = compare(optax.adam(0.02), optax.adamw(0.02, weight_decay=0.3), names=("adam", "adamw"))
    assert not found.equal
    assert found.names == ("adam", "adamw")
    told = [sentence for sentence in found.words if sentence.startswith("weight decay")]
    assert len(told) == 1
    assert "A has none; B's update depends on the parameter's value: weight decay that takes 0.006" in told[0]
    assert any("where the parameter is 0, they are equal to 1e-" in sentence for sentence in found.words)
    assert not any(sentence.startswith(("momentum", "clipping", "schedule", "adapt")) for sentence in found.words)
    table = found.table.set_index(["mechanism", "quantity"])
    np.testing.assert_allclose(table.loc[("weight_decay", "share"), "b_value"], [0.006], rtol=1e-6)
    assert table.loc[["momentum", "clipping", "schedule", "adaptation"], "same"].all()


@pytest.mark.long
@pytest.mark.parametrize(("rate", "beta"), [(0.31, 0.83), (0.007, 0.4)])
def test_nesterov_is_told_from_momentum_by_its_direct_response(rate: float, beta: float) -> None:
    found = compare(Momentum(*arrays(rate, beta)), Nesterov(*arrays(rate, beta)))
    assert not found.equal
    told = next(sentence for sentence in found.words if sentence.startswith("momentum"))
    assert "B alone answers a gradient directly besides its buffers as Nesterov's momentum does" in told
    table = found.table.set_index(["mechanism", "quantity", "index"])
    direct, alpha, beta_read = (table.loc[("momentum", name, 0)] for name in ("direct", "alpha_real", "beta_real"))
    np.testing.assert_allclose([direct["a_value"], direct["b_value"]], [0, rate], rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose([alpha["a_value"], alpha["b_value"]], [rate, rate * beta], rtol=1e-5)
    np.testing.assert_allclose([beta_read["a_value"], beta_read["b_value"]], beta, rtol=1e-5)
    assert beta_read["same"]
    assert not direct["same"]
    assert not any(sentence.startswith(("clipping", "adaptation", "weight")) for sentence in found.words)


@few
@given(st.floats(-3, 9), rates)
def test_a_clip_is_found_however_far_out_it_is(log_threshold: float, rate: float) -> None:
    threshold = 10.0**log_threshold
    found = under_probes(Optax(clipped, arrays(threshold, rate)), Optax(clipped, arrays(jnp.inf, rate)))
    table = trajectories_table([found], 1e-6).set_index("family")
    assert table.loc["constant", "difference"] > 0.5
    assert table.loc["zeros", "difference"] == 0
    clip, none = (steady(Optax(clipped, arrays(level, rate))) for level in (threshold, jnp.inf))
    np.testing.assert_allclose([clip.level, clip.knee], [threshold * rate, threshold], rtol=1e-5)
    assert math.isinf(clip.sharpness)
    assert math.isnan(none.knee)


@few
@given(rates, st.floats(0.5, 0.98), st.floats(-12, -2))
def test_eps_inside_and_outside_the_root_are_told_apart(rate: float, decay: float, log_eps: float) -> None:
    eps = 10.0**log_eps
    inside, outside = Optax(rmsprop_inside, arrays(rate, decay, eps)), Optax(rmsprop_outside, arrays(rate, decay, eps))
    found = under_probes(inside, outside)
    assert trajectories_table([found], 1e-6)["difference"].max() > 0.1
    one, other = steady(inside), steady(outside)
    np.testing.assert_allclose([one.level, other.level], rate, rtol=1e-5)
    np.testing.assert_allclose([one.knee, other.knee], [math.sqrt(eps), eps], rtol=1e-3)
    np.testing.assert_allclose([one.sharpness, other.sharpness], [2, 1], rtol=1e-3)
    same = under_probes(inside, trajectories.Componentwise(RMSProp(*arrays(rate, decay, eps))))
    assert same.difference.max() < 1e-9


@few
@given(st.integers(1, 550), rates, st.floats(1.0001, 3))
def test_schedules_that_part_late_are_told_by_the_step(boundary: int, rate: float, ratio: float) -> None:
    at = jnp.asarray(boundary)
    late = Optax(stepped, (*arrays(rate, rate * ratio), at))
    found = under_probes(late, Optax(stepped, (*arrays(rate, rate), at)))
    table = trajectories_table([found], 1e-6).set_index("family")
    assert table.loc["constant", "first_step"] == boundary
    np.testing.assert_allclose(table.loc["constant", "difference"], 1 - 1 / ratio, rtol=1e-3)


def test_learned_optimizers_are_equal_to_themselves_only() -> None:
    nets = [create_learned(jax.random.key(seed), cell="gru", units=8) for seed in (0, 0, 1)]
    readout = jax.random.normal(jax.random.key(9), (8,))
    a, again, b = (
        trajectories.Componentwise(eqx.tree_at(lambda net: net.readout_weight, net, readout)) for net in nets
    )
    assert under_probes(a, again).difference.max() == 0
    assert under_probes(a, b).difference.max() > 0.1


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1.0, 1e-3], [1.0, 1e-3 * (1 + 1e-7)], [0, 2e-3 * 1e-7]),  # measured against half of the one before
        ([np.nan, np.inf, 2.0], [np.nan, np.inf, 1.0], [0, 0, 0.5]),
        ([np.nan, 1.0], [1.0, np.inf], [np.inf, np.inf]),
        ([0.0, 0.0], [0.0, 1e-200], [0, 1]),
    ],
)
def test_the_relative_difference_of_updates(a, b, expected) -> None:
    found = trajectories.relative_difference(np.reshape(a, (-1, 1, 1)), np.reshape(b, (-1, 1, 1)))
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-6)


MINE = """
import jax.numpy as jnp
import optax

from reopt.optimizers.classical import Adam, Momentum, Nesterov

theirs = optax.adam(1e-3)
ours = Adam(1e-3)
heavy = Momentum(jnp.asarray(0.2), jnp.asarray(0.7))
nesterov = Nesterov(jnp.asarray(0.2), jnp.asarray(0.7))
norm = optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(0.2))
number = 3
"""


def run(monkeypatch, words: str) -> int:
    monkeypatch.setattr("sys.argv", ["reopt", "diff", *words.split()])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


@pytest.mark.long
def test_the_command_says_by_its_exit_code_whether_two_are_equal(tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    options = f"--task quadratic --steps {STEPS} --problems 4 --out out"
    assert run(monkeypatch, f"mine.py:theirs mine.py:ours {options}") == 0
    assert "equal to 1e-" in capsys.readouterr().out
    assert pd.read_csv("out/difference.csv")["same"].all()

    assert run(monkeypatch, f"mine.py:heavy mine.py:nesterov {options}") == 1
    said = capsys.readouterr().out
    assert "momentum: A: one mode, beta = 0.7" in said
    assert "Nesterov" in said
    table = pd.read_csv("out/difference.csv")
    assert tuple(table.columns) == COLUMNS
    assert not table["same"].all()
    assert (tmp_path / "out/difference.svg").read_bytes().startswith(b"<?xml")

    assert run(monkeypatch, f"mine.py:heavy mine.py:number {options}") == 2
    assert run(monkeypatch, f"mine.py:heavy nowhere.safetensors {options}") == 2
    errors = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("reopt: error:") for line in errors) == 2


def test_one_that_couples_parameters_is_compared_though_it_cannot_be_examined() -> None:
    found = compare(optax.sgd(0.2), optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(0.2)))
    assert not found.equal
    assert any("B cannot be examined: this optax transformation couples parameters" in words for words in found.words)
    assert any("under constant gradients they differ only above" in words for words in found.words)
