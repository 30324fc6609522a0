"""Catch: a ball falls down a small board, and a paddle at the bottom must be under it; an agent learns by A2C.

An episode begins with the ball in the top row, in a column drawn evenly, and the paddle in the middle. At each step the
paddle goes left, stays or goes right, and the ball falls by a row; in the bottom row the reward is 1 if the paddle is
under it, else -1, and the next episode begins. A rollout is so many whole episodes that no state of the environment
need be carried, and the loss is a function of parameters and step as that of every task:

    loss = mean(-log p(a) A) + 0.5 mean(A^2) - 0.01 mean(entropy),   A_t = d_t + gamma lambda A_{t+1}
    d_t = r_t + gamma V_{t+1} - V_t                                     (V is 0 after the end; A of the actor is held)

The rollout is drawn from the problem's key and the step, with the parameters held.
"""

from typing import Annotated, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray
from pydantic import Field

from reopt.core.schema import Section
from reopt.tasks.base import Task
from reopt.tasks.networks import Shape, initial_weights, num_weights, unflatten

MOVES = 3
DISCOUNT, LAMBDA = 0.995, 0.95
VALUE, ENTROPY = 0.5, 0.01  # weights in the loss


class Settings(Section):
    """The task's block in the config."""

    side: Annotated[int, Field(ge=3, le=21, description="rows and columns of the board")] = 5
    units: Annotated[int, Field(ge=1, le=1024, description="of the agent's hidden layer")] = 16
    episodes: Annotated[int, Field(ge=1, le=4096, description="of a rollout")] = 20


class CatchProblem(NamedTuple):
    """An agent before training, and the key of its rollouts."""

    start: Float[Array, " param"]
    rollouts: PRNGKeyArray


class Rollout(NamedTuple):
    """What an agent met: boards, its moves (0, 1, 2), and the reward at the end of each episode."""

    boards: Float[Array, "episode step cell"]
    moves: Int[Array, "episode step"]
    rewards: Float[Array, " episode"]


class Catch(Task):
    """The game on a board of `side` x `side`, for an agent of one hidden layer; a rollout has `episodes`."""

    side: int = eqx.field(static=True, default=5)
    units: int = eqx.field(static=True, default=16)
    episodes: int = eqx.field(static=True, default=20)

    @property
    def shapes(self) -> list[Shape]:
        """Of the hidden layer, the preferences for moves, and the value."""
        return [(self.side**2, self.units), (self.units,), (self.units, MOVES), (MOVES,), (self.units, 1), (1,)]

    @property
    def num_params(self) -> int:
        return num_weights(self.shapes)

    def sample(self, key: Array) -> CatchProblem:
        key_start, key_rollouts = jax.random.split(key)
        return CatchProblem(initial_weights(key_start, self.shapes), key_rollouts)

    def initial_params(self, problem: CatchProblem) -> Array:
        return problem.start

    def agent(self, params: Array, boards: Float[Array, "*board cell"]) -> tuple[Array, Array]:
        """(log probabilities of the moves, value) of boards."""
        hidden, bias, choose, chosen, judge, judged = unflatten(params, self.shapes)
        seen = jax.nn.relu(jnp.matmul(boards.astype(params.dtype), hidden, precision="highest") + bias)
        preferences = jnp.matmul(seen, choose, precision="highest") + chosen
        value = jnp.matmul(seen, judge, precision="highest") + judged
        return jax.nn.log_softmax(preferences), value[..., 0]

    def board(self, row: Int[Array, ""], ball: Array, paddle: Array) -> Float[Array, "*episode cell"]:
        """Ones where the ball and the paddle are."""
        cells = jnp.arange(self.side**2)
        at = (row * self.side + ball)[..., None], ((self.side - 1) * self.side + paddle)[..., None]
        return jnp.maximum(cells == at[0], cells == at[1]).astype(jnp.float32)

    def rollout(self, params: Array, key: PRNGKeyArray) -> Rollout:
        """Whole episodes played by these parameters, through which no derivative goes."""
        params = jax.lax.stop_gradient(params)
        key_ball, key_moves = jax.random.split(key)
        ball = jax.random.randint(key_ball, (self.episodes,), 0, self.side)
        paddle = jnp.full(self.episodes, self.side // 2)

        def step(paddle: Array, at: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
            row, key = at
            board = self.board(row, ball, paddle)
            move = jax.random.categorical(key, self.agent(params, board)[0])
            return jnp.clip(paddle + move - 1, 0, self.side - 1), (board, move)

        rows = jnp.arange(self.side - 1)
        paddle, (boards, moves) = jax.lax.scan(step, paddle, (rows, jax.random.split(key_moves, self.side - 1)))
        rewards = jnp.where(paddle == ball, 1.0, -1.0).astype(params.dtype)
        return Rollout(jnp.swapaxes(boards, 0, 1), moves.T, rewards)

    def loss(self, problem: CatchProblem, params: Array, step: Array) -> Array:
        met = self.rollout(params, jax.random.fold_in(problem.rollouts, step))
        logs, values = self.agent(params, met.boards)
        advantage = advantages(values, met.rewards)
        chosen = jnp.take_along_axis(logs, met.moves[..., None], axis=-1)[..., 0]
        entropy = -jnp.sum(jnp.exp(logs) * logs, axis=-1)
        actor = -jnp.mean(chosen * jax.lax.stop_gradient(advantage))
        return actor + VALUE * jnp.mean(jnp.square(advantage)) - ENTROPY * jnp.mean(entropy)

    def score(self, problem: CatchProblem, params: Array, step: Array) -> Float[Array, ""]:
        """Mean return of the episodes of that step's rollout, -1 to 1."""
        return jnp.mean(self.rollout(params, jax.random.fold_in(problem.rollouts, step)).rewards)


def advantages(values: Float[Array, "episode step"], rewards: Float[Array, " episode"]) -> Array:
    """A of each step: what came against what was expected; what is expected of the next step is held."""
    held = jax.lax.stop_gradient(values)
    following = jnp.concatenate([held[:, 1:], jnp.zeros_like(held[:, :1])], axis=1)
    reward = jnp.zeros_like(held).at[:, -1].set(rewards)
    error = reward + DISCOUNT * following - held

    def back(later: Array, now: Array) -> tuple[Array, Array]:
        total = now + DISCOUNT * LAMBDA * later
        return total, total

    summed = jax.lax.scan(back, jnp.zeros_like(rewards), error.T, reverse=True)[1].T
    target = jax.lax.stop_gradient(summed + held)
    return target - values


def create(settings: Settings) -> Catch:
    """The task as its block in the config says."""
    return Catch(settings.side, settings.units, settings.episodes)
