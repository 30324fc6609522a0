"""Catch against enumeration and a loss in plain numpy; Optim4RL's form, and that agents learn."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reopt.evaluation.unroll import unroll
from reopt.optimizers.classical import Adam
from reopt.optimizers.optim4rl import EPS, Optim4RL, create_optim4rl
from reopt.systems.catch import DISCOUNT, ENTROPY, LAMBDA, VALUE, Catch, advantages

TASK = Catch()


def test_the_agent_has_the_parameters_that_its_layers_have() -> None:
    assert TASK.num_params == 25 * 16 + 16 + 16 * 3 + 3 + 16 + 1 == 484


def test_a_random_agent_catches_as_often_as_enumeration_says() -> None:
    """All 3^4 sequences of moves, and 5 columns, are alike: the share in which the paddle ends under the ball."""
    ends = []
    for moves in itertools.product((-1, 0, 1), repeat=4):
        paddle = 2
        for move in moves:
            paddle = min(max(paddle + move, 0), 4)
        ends.append(paddle)
    expected = 2 * np.mean([end == ball for end in ends for ball in range(5)]) - 1
    blind = jnp.zeros(TASK.num_params)
    problem = TASK.sample(jax.random.key(0))
    scores = jax.jit(jax.vmap(lambda step: TASK.score(problem, blind, step)))(jnp.arange(400))
    assert float(scores.mean()) == pytest.approx(expected, abs=4 * float(scores.std()) / 20)


def test_a_perfect_agent_always_catches() -> None:
    """Hidden unit i sees the ball in column i, 5 + j the paddle in column j; the move is towards the ball."""
    task = Catch(units=25)
    hidden = np.zeros((25, 25))
    for cell in range(20):
        hidden[cell, cell % 5] = 1  # ball, in rows above the bottom
    for column in range(5):
        hidden[20 + column, 5 + column] = 1
    choose = np.zeros((25, 3))
    for column in range(5):
        choose[column] += 100 * np.array([-column, 0, column])
        choose[5 + column] += 100 * np.array([column, 0, -column])
    params = np.concatenate([hidden.ravel(), np.zeros(25), choose.ravel(), [0, 50.0, 0], np.zeros(25), [0]])
    problem = task.sample(jax.random.key(1))
    scores = [float(task.score(problem, jnp.asarray(params, jnp.float32), step)) for step in range(20)]
    assert np.mean(scores) == 1.0


def test_the_loss_is_that_of_a2c_written_out() -> None:
    problem = TASK.sample(jax.random.key(3))
    params = problem.start + 0.3 * jax.random.normal(jax.random.key(4), (TASK.num_params,))
    met = TASK.rollout(params, jax.random.fold_in(problem.rollouts, 7))
    logs, values = (np.asarray(one, float) for one in TASK.agent(params, met.boards))
    chosen, errors = [], []
    for episode in range(TASK.episodes):
        later = 0.0
        for t in reversed(range(4)):
            reward = float(met.rewards[episode]) if t == 3 else 0.0
            following = values[episode, t + 1] if t < 3 else 0.0
            later = reward + DISCOUNT * following - values[episode, t] + DISCOUNT * LAMBDA * later
            errors.append(later)
            chosen.append(logs[episode, t, int(met.moves[episode, t])])
    entropy = -(np.exp(logs) * logs).sum(-1).mean()
    expected = -np.mean(np.array(chosen) * errors) + VALUE * np.mean(np.square(errors)) - ENTROPY * entropy
    assert float(TASK.loss(problem, params, jnp.asarray(7))) == pytest.approx(expected, rel=1e-5)


def test_the_value_is_drawn_to_its_target_and_the_actor_is_not() -> None:
    """d of mean(A^2) by V is -2 A / n with the targets held: as in A2C with td(lambda) errors."""
    values = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)))
    rewards = jnp.asarray([1.0, -1.0, 1.0])
    found = jax.grad(lambda v: jnp.mean(jnp.square(advantages(v, rewards))))(values)
    np.testing.assert_allclose(found, -2 * advantages(values, rewards) / 12, rtol=1e-5)


@pytest.mark.long
def test_adam_learns_to_catch() -> None:
    problems = TASK.sample_batch(jax.random.key(5), 8)
    run = unroll(Adam(0.06), TASK, problems, 128)
    last = jax.vmap(lambda problem, params: TASK.score(problem, params, jnp.asarray(500)))(problems, run.final_params)
    assert float(last.mean()) > 0.85


def test_optim4rl_begins_as_sign_descent_and_never_moves_against_the_sign() -> None:
    optimizer = create_optim4rl(jax.random.key(0), learning_rate=0.02)
    gradient = jnp.asarray([0.0, 1e-6, -3.0, 50.0])
    state, update = optimizer(optimizer.initial_states((4,)), gradient)
    np.testing.assert_allclose(update, -0.02 * np.sign(gradient), rtol=1e-6)
    readouts = jax.random.normal(jax.random.key(1), (2, 8))
    other = Optim4RL(optimizer.first, optimizer.second, *readouts, jnp.asarray([0.1, -0.3]), 0.02)
    state, update = other(other(state, gradient)[0], gradient)
    assert (np.sign(update) == -np.sign(gradient)).all()
    first, second = np.asarray(state[:, :8] @ readouts[0]) + 0.1, np.asarray(state[:, 8:] @ readouts[1]) - 0.3
    expected = -0.02 * np.sign(gradient) * np.exp(first) / np.sqrt(np.exp(second) + EPS)
    np.testing.assert_allclose(update, expected, rtol=1e-5)


def test_no_derivative_goes_through_the_gradient() -> None:
    optimizer = create_optim4rl(jax.random.key(0))
    state = optimizer.initial_state()
    assert float(jax.grad(lambda g: optimizer(state, g)[1])(jnp.asarray(0.3))) == 0.0
