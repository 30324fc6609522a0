"""Mechanisms planted in optimizers over random draws are read back with their true numbers, each and in chains.

`REOPT_PLANTED_DRAWS=200 uv run pytest tests/dissection/test_planted.py` draws 200 of each instead of a few.
"""

import os
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from drawn import Drawn, drawn
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from jaxtyping import Array

from reopt.examination.examination import Examination, examine
from reopt.examination.verdicts import read
from reopt.mechanisms.base import Finding
from reopt.mechanisms.effective_rate import schedule
from reopt.mechanisms.sign_updates import response_modes, switching
from reopt.optimizers.base import Optimizer
from reopt.optimizers.optax_bridge import from_optax
from reopt.tasks.quadratic import Quadratic

STEPS = 60
PRESENT, ABSENT = "present", "absent"


def draws(examples: int, **strategies: st.SearchStrategy) -> Callable:
    """`examples` draws, or as many as REOPT_PLANTED_DRAWS says."""
    count = int(os.environ.get("REOPT_PLANTED_DRAWS", examples))
    return lambda test: settings(
        max_examples=count, deadline=None, derandomize=True, database=None, phases=[Phase.generate]
    )(given(**strategies)(test))


def log_uniform(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(np.log10(low), np.log10(high)).map(lambda power: 10.0**power)


def memory(slowest: float, fastest: float) -> st.SearchStrategy[float]:
    """beta by log-uniform 1 - beta."""
    return log_uniform(slowest, fastest).map(lambda rest: 1 - rest)


def dissected(optimizer: Optimizer) -> tuple[Examination, dict[str, Finding]]:
    found = examine(optimizer, Quadratic(), num_steps=STEPS, problems=4)
    return found, {finding.mechanism: finding for finding in read(found)}


def values(finding: Finding, quantity: str) -> np.ndarray:
    return np.array([row[2] for row in finding.readings if row[0] == quantity])


def value(finding: Finding, quantity: str) -> float:
    (only,) = values(finding, quantity)
    return float(only)


def modes(finding: Finding) -> dict[complex, complex]:
    """alpha by beta."""
    parts = [values(finding, f"{name}_{part}") for name in ("beta", "alpha") for part in ("real", "imag")]
    return dict(zip(parts[0] + 1j * parts[1], parts[2] + 1j * parts[3], strict=True))


def assert_modes(finding: Finding, planted: dict[complex, complex]) -> None:
    """The modes that were planted and no others, to 1e-6."""
    found = modes(finding)
    assert len(found) == len(planted)
    for beta, alpha in planted.items():
        nearest = min(found, key=lambda other: abs(other - beta))
        assert abs(nearest - beta) <= 1e-6 * abs(beta)
        assert abs(found[nearest] - alpha) <= 1e-6 * abs(alpha)


def verdicts(findings: dict[str, Finding]) -> dict[str, str]:
    return {name: finding.verdict for name, finding in findings.items()}


def none_but(**present: str) -> dict[str, str]:
    names = ("momentum", "clipping", "schedule", "adaptation", "remainder")
    return dict.fromkeys(names, ABSENT) | present


class Buffers(Optimizer):
    """v_j <- beta_j v_j + g, dx = -(direct g + sum_j Re(alpha_j v_j)), with complex alpha and beta."""

    alpha: Array  # [mode, 2]: real and imaginary part
    beta: Array
    direct: Array

    @property
    def state_names(self) -> tuple[str, ...]:
        return tuple(f"{part}{i}" for i in range(self.alpha.shape[0]) for part in ("real", "imaginary"))

    def initial_state(self) -> Array:
        return jnp.zeros(self.alpha.size)

    def update(self, state: Array, gradient: Array) -> Array:
        real, imaginary = state[..., ::2], state[..., 1::2]
        turn, cross = jnp.asarray(self.beta, state.dtype).T
        moved = turn * real - cross * imaginary + gradient[..., None], cross * real + turn * imaginary
        return jnp.stack(moved, axis=-1).reshape(state.shape)

    def readout(self, state: Array, gradient: Array) -> Array:
        real, imaginary = jnp.asarray(self.alpha, state.dtype).T
        out = jnp.sum(real * state[..., ::2] - imaginary * state[..., 1::2], axis=-1)
        return -(out + jnp.asarray(self.direct, state.dtype) * gradient)


def buffers(planted: dict[complex, complex], direct: float = 0.0) -> Buffers:
    """Five buffers, those that are not planted without weight."""
    both = np.zeros((2, 5, 2))
    for i, (beta, alpha) in enumerate(planted.items()):
        both[:, i] = [[np.real(alpha), np.imag(alpha)], [np.real(beta), np.imag(beta)]]
    with jax.enable_x64(True):
        return Buffers(jnp.asarray(both[0]), jnp.asarray(both[1]), jnp.asarray(direct))


@pytest.mark.long
@draws(
    4,
    rate=log_uniform(1e-4, 10),
    beta=st.one_of(memory(1e-3, 0.999), log_uniform(1e-6, 1e-1), st.sampled_from([0.999, 0.9])),
    nesterov=st.booleans(),
)
def test_momentum_and_nesterov(rate: float, beta: float, nesterov: bool):
    planted = {beta: rate * beta, 0: rate} if nesterov else {beta: rate}
    _, findings = dissected(buffers({beta: planted[beta]}, rate if nesterov else 0.0))
    assert_modes(findings["momentum"], {b: a for b, a in planted.items() if abs(a) > 1e-5 * rate})
    share = sum(abs(a * b / (1 - b)) for b, a in planted.items())
    share = share / (share + sum(planted.values()))
    if not 0.004 < share < 0.021:  # between the bounds of the verdict
        assert findings["momentum"].verdict == (PRESENT if share > 0.02 else ABSENT)
    assert {findings[name].verdict for name in ("clipping", "schedule", "adaptation", "remainder")} == {ABSENT}


@pytest.mark.long
@draws(
    4,
    rates=st.lists(log_uniform(1e-2, 1), min_size=5, max_size=5),
    betas=st.permutations([0.0, 0.3, -0.5, 0.7, 0.9, 0.97, 0.99, 0.999]),
    signs=st.lists(st.sampled_from([-1.0, 1.0]), min_size=5, max_size=5),
    count=st.integers(2, 5),
)
def test_aggregated_momentum_has_all_its_modes(rates: list, betas: list, signs: list, count: int):
    planted = {beta: 0.01 * sign * rate for beta, sign, rate in zip(betas[:count], signs, rates, strict=False)}
    _, findings = dissected(buffers(planted))
    assert_modes(findings["momentum"], planted)
    assert findings["momentum"].verdict == PRESENT
    assert findings["remainder"].verdict == ABSENT


@pytest.mark.long
@draws(
    4,
    size=st.floats(0.1, 0.99),
    angle=st.floats(0.1, 3.0),
    weight=log_uniform(1e-3, 0.1),
    phase=st.floats(-1.5, 1.5),
    slow=st.sampled_from([None, 0.5, 0.995]),
)
def test_complex_poles_come_as_pairs(size: float, angle: float, weight: float, phase: float, slow: float | None):
    beta, alpha = size * np.exp(1j * angle), weight * np.exp(1j * phase)
    real = {} if slow is None else {slow: 0.02}
    _, findings = dissected(buffers({beta: alpha} | real))
    # Re(alpha v) is one buffer of complex rates, or a pair of conjugate ones with half of it each.
    assert_modes(findings["momentum"], {beta: alpha / 2, beta.conjugate(): alpha.conjugate() / 2} | real)
    assert findings["remainder"].verdict == ABSENT


def squash(threshold: Array) -> optax.GradientTransformation:
    def update(updates, state, params=None):
        del params
        return jax.tree.map(lambda g: threshold * jnp.tanh(g / threshold), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


NEUTRAL = 1e30  # a threshold that no gradient reaches


def clips(h: Array) -> optax.GradientTransformation:
    """Four clips of which the draw takes one: tanh and hard, before and behind momentum."""
    before, behind = (squash(h[2]), optax.clip(h[3])), (squash(h[4]), optax.clip(h[5]))
    return optax.chain(*before, optax.trace(h[1]), *behind, optax.scale(-h[0]))


@pytest.mark.long
@draws(
    5,
    rate=log_uniform(1e-3, 1),
    threshold=log_uniform(1e-3, 3),
    beta=st.just(0.0) | memory(1e-2, 0.9),
    hard=st.booleans(),
    behind=st.booleans(),
)
def test_clips_alone_and_on_either_side_of_momentum(
    rate: float, threshold: float, beta: float, hard: bool, behind: bool
):
    thresholds = np.full(4, NEUTRAL)
    thresholds[2 * behind + hard] = threshold
    found, findings = dissected(drawn(clips, rate, beta, *thresholds))
    assert verdicts(findings) == none_but(clipping=PRESENT, momentum=PRESENT if beta else ABSENT)
    clip = findings["clipping"]
    assert abs(value(clip, "threshold") / threshold - 1) < 0.01
    # tanh: the slope 1 - tanh^2 falls to 0.1 at artanh(sqrt(0.9)), to 0.9 at artanh(sqrt(0.1)).
    hardness = 1.0 if hard else np.arctanh(0.9**0.5) / np.arctanh(0.1**0.5)
    assert abs(value(clip, "hardness") / hardness - 1) < 1e-6
    beyond = np.mean(np.abs(found.recording.gradients) > threshold)
    assert abs(value(clip, "fraction_clipped") - beyond) < 0.01
    assert_modes(findings["momentum"], {beta: rate})


COUNTS = np.arange(STEPS)
SHAPES = {
    "cosine": lambda a, b: optax.cosine_decay_schedule(1.0, int(10 + 80 * a), alpha=0.0 if b < 0.5 else b),
    "exponential": lambda a, b: optax.exponential_decay(1.0, int(1 + 40 * a), 0.1 + 0.8 * b, staircase=a > b),
    "warmup": lambda a, b: optax.linear_schedule(0.5 * b, 1.0, int(2 + 80 * a)),
    "warmup and cosine": lambda a, b: optax.warmup_cosine_decay_schedule(0.0, 1.0, int(1 + 20 * a), int(30 + 40 * b)),
    "piecewise": lambda a, b: optax.piecewise_constant_schedule(1.0, {int(3 + 20 * a): 0.1 + b / 2, 40: 0.0}),
}


@pytest.mark.parametrize(
    "shape", [pytest.param(it, marks=pytest.mark.long) if it in ("warmup", "exponential") else it for it in SHAPES]
)
@draws(2, a=st.floats(0, 1), b=st.floats(0, 1), rate=log_uniform(1e-4, 10))
def test_the_schedules_of_optax_at_every_step(shape: str, a: float, b: float, rate: float):
    planted = SHAPES[shape](a, b)
    chain = optax.chain(optax.trace(0.7), optax.scale_by_schedule(planted), optax.scale(-rate))
    rates = schedule(from_optax(chain), num_steps=STEPS).table["effective_learning_rate"].to_numpy()
    # A rate of 0 (to optax's own rounding) is read as 0.
    np.testing.assert_allclose(rates, rate * np.array([float(planted(t)) for t in COUNTS]), rtol=1e-5, atol=1e-7 * rate)


def by_table(h: Array) -> optax.GradientTransformation:
    """A schedule whose rates are the last STEPS + 1 hyperparameters."""
    return optax.scale_by_schedule(lambda count: -jnp.take(h[-STEPS - 1 :], jnp.clip(count, 0, STEPS)))


CHAINS = {
    "clip, rms, trace, schedule": lambda h: optax.chain(
        optax.clip(h[0]), optax.scale_by_rms(h[1], eps=1e-12), optax.trace(h[2]), by_table(h)
    ),
    "clip, trace, schedule, rms": lambda h: optax.chain(
        optax.clip(h[0]), optax.trace(h[2]), optax.scale_by_rms(h[1], eps=1e-12), by_table(h)
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("kind", CHAINS)
@draws(
    3,
    threshold=log_uniform(1e-2, 2),
    decay=memory(5e-3, 0.3),
    beta=st.floats(0.1, 0.98),
    rate=log_uniform(1e-3, 0.1),
    shape=st.sampled_from(list(SHAPES)),
)
def test_clip_momentum_schedule_and_rmsprop_at_once(
    kind: str, threshold: float, decay: float, beta: float, rate: float, shape: str
):
    planted = rate * np.array([float(SHAPES[shape](0.4, 0.6)(t)) for t in range(STEPS + 1)])
    optimizer = drawn(CHAINS[kind], threshold, decay, beta, *planted)
    found, findings = dissected(optimizer)
    assert verdicts(findings) == dict.fromkeys(findings, PRESENT) | {"remainder": ABSENT}
    assert abs(value(findings["clipping"], "threshold") / threshold - 1) < 0.01
    assert min(abs(b - beta) for b in modes(findings["momentum"])) < 1e-6 * beta
    assert abs(value(findings["adaptation"], "exponent") + 1) < 0.01
    assert abs(value(findings["adaptation"], "beta2") - decay) < 1e-4
    rates = found.schedule.table["effective_learning_rate"].to_numpy()
    np.testing.assert_allclose(rates, planted[:STEPS] / 1e-6, rtol=1e-5, atol=1e-7 * planted.max() / 1e-6)
    assert value(findings["remainder"], "r2") > 0.99


@pytest.mark.long
@draws(3, rate=log_uniform(1e-3, 0.1), decay=memory(1e-3, 0.3))
def test_rmsprop(rate: float, decay: float):
    planted = np.full(STEPS + 1, rate)
    _, findings = dissected(drawn(CHAINS["clip, rms, trace, schedule"], NEUTRAL, decay, 0.0, *planted))
    assert verdicts(findings) == none_but(adaptation=PRESENT)
    assert abs(value(findings["adaptation"], "exponent") + 1) < 0.01
    assert abs(value(findings["adaptation"], "beta2") - decay) < 1e-4
    assert abs(np.exp(-1 / value(findings["adaptation"], "time_constant")) - decay) < 1e-4


def adam(h: Array) -> optax.GradientTransformation:
    return optax.chain(optax.scale_by_adam(h[1], h[2], eps=h[3]), optax.scale(-h[0]))


@pytest.mark.long
@draws(3, rate=log_uniform(1e-3, 0.1), b1=memory(1e-2, 0.8), b2=memory(1e-3, 0.2), eps=log_uniform(1e-30, 1e-5))
def test_adam(rate: float, b1: float, b2: float, eps: float):
    """The rate at rest follows the bias correction of the first moment alone, which is no schedule."""
    found, findings = dissected(drawn(adam, rate, b1, b2, eps))
    assert {findings[name].verdict for name in ("momentum", "adaptation")} == {PRESENT}
    assert {findings[name].verdict for name in ("clipping", "schedule", "remainder")} == {ABSENT}
    assert min(abs(b - b1) for b in modes(findings["momentum"])) < 1e-6
    assert abs(value(findings["adaptation"], "exponent") + 1) < 0.01
    assert abs(value(findings["adaptation"], "beta2") - b2) < 1e-4
    rates = found.schedule.table["effective_learning_rate"].to_numpy()
    np.testing.assert_allclose(rates, rate * (1 - b1) / eps / (1 - b1 ** (COUNTS + 1.0)), rtol=1e-5)
    alpha = values(findings["momentum"], "alpha_real")
    np.testing.assert_allclose(alpha.sum(), value(findings["schedule"], "final"), rtol=1e-9)
    np.testing.assert_allclose(alpha[0], rate * (1 - b1) / eps / (1 - b1**STEPS), rtol=1e-9)


def adagrad(h: Array) -> optax.GradientTransformation:
    return optax.chain(optax.scale_by_rss(h[1]), optax.scale(-h[0]))


@pytest.mark.long
@draws(4, rate=log_uniform(1e-2, 1), start=log_uniform(1e-6, 0.1))
def test_adagrad_is_said_to_have_no_fixed_point(rate: float, start: float):
    _, findings = dissected(drawn(adagrad, rate, start))
    assert findings["adaptation"].verdict == "undetermined"
    assert "no fixed point" in findings["adaptation"].why
    assert findings["remainder"].verdict == PRESENT  # what was not read shows up as a gap


def lion(h: Array) -> optax.GradientTransformation:
    return optax.chain(optax.scale_by_lion(h[0], h[1]), by_table(h))


@pytest.mark.long
@draws(
    4,
    rate=log_uniform(1e-4, 0.1),
    b1=st.just(0.0) | st.floats(0.1, 0.99),
    b2=memory(1e-3, 0.5),
    shape=st.sampled_from([None, "cosine"]),
)
def test_the_buffer_behind_the_sign_of_lion_and_none_of_sign_sgd(rate: float, b1: float, b2: float, shape: str | None):
    planted = np.full(STEPS + 1, rate)
    if shape:
        planted *= [float(SHAPES[shape](0.9, 0.6)(t)) for t in range(STEPS + 1)]
    found, findings = dissected(drawn(lion, b1, b2, *planted))
    there = {True: PRESENT, False: ABSENT}
    # With b1 = 0 it is sign-SGD.
    assert verdicts(findings) == none_but(clipping=PRESENT, momentum=there[b1 > 0], schedule=there[bool(shape)])
    assert value(findings["clipping"], "threshold") == 0
    alpha = b1 * (1 - b2) / (b2 * (1 - b1))
    assert_modes(findings["momentum"], {b2: alpha, 0: 1 - alpha} if b1 else {0: 1.0})
    np.testing.assert_allclose(found.schedule.table["effective_learning_rate"], planted[:STEPS], rtol=1e-5)


def trace_of_sign(h: Array) -> optax.GradientTransformation:
    return optax.chain(optax.scale_by_sign(), optax.trace(h[1]), optax.scale(-h[0]))


@draws(4, rate=log_uniform(1e-4, 0.1), beta=memory(1e-2, 0.7))
def test_a_buffer_after_a_sign_is_told_from_one_behind_it(rate: float, beta: float):
    found = switching(drawn(trace_of_sign, rate, beta), np.zeros(2))
    assert not found.behind
    np.testing.assert_allclose(found.response, beta ** np.arange(41), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose([found.alpha[0], found.beta[0], found.direct], [1, beta, 0], rtol=1e-6, atol=1e-9)


@draws(4, slow=st.floats(0.9, 0.999), fast=st.floats(-0.5, 0.5).filter(lambda b: abs(b) > 0.05), share=st.floats(-2, 2))
def test_a_response_is_taken_apart_into_its_modes(slow: float, fast: float, share: float):
    lags = np.arange(1, 41)
    alpha, beta = response_modes(slow**lags + (3 + share) * fast**lags)
    np.testing.assert_allclose(beta, [slow, fast], rtol=1e-6)
    np.testing.assert_allclose(alpha, [1, 3 + share], rtol=1e-6)


def test_a_drawn_optimizer_is_the_one_of_optax():
    one, other = drawn(adam, 0.1, 0.9, 0.99, 1e-8), from_optax(optax.adam(0.1, 0.9, 0.99, 1e-8))
    assert isinstance(one, Drawn)
    state, gradients = one.initial_states((3,)), jnp.array([0.3, -2.0, 0.0])
    for _ in range(3):
        state, update = one(state, gradients)
    also = other.initial_states((3,))
    for _ in range(3):
        also, expected = other(also, gradients)
    np.testing.assert_allclose(update, expected, rtol=1e-5)
