"""Hand-designed optimizers that systems are judged against, made of the settings that are tuned."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from reopt.core.errors import ReoptError
from reopt.core.schema import Range
from reopt.optimizers.joint import Alone, Joint
from reopt.optimizers.load import build_baseline
from reopt.optimizers.optim4rl import create_optim4rl
from reopt.optimizers.star import create_star
from reopt.systems.schema import RivalName
from reopt.training.tune import EDGE, _from_unit

SETTINGS: dict[RivalName, tuple[str, ...]] = {
    "momentum": ("learning_rate", "momentum"),
    "adam": ("learning_rate", "beta1", "beta2", "eps"),
    "adam_decay": ("learning_rate", "beta1", "beta2", "eps", "half_life"),
    "sign": ("learning_rate",),
    "nominal": ("learning_rate",),
}


def sign_descent(learning_rate: Array) -> Joint:
    """dx = -lr sign(g): Optim4RL without its networks."""
    optimizer = create_optim4rl(jax.random.key(0), learning_rate=1.0)
    size = jnp.stack([jnp.log(learning_rate), jnp.zeros_like(learning_rate)])
    return Alone(eqx.tree_at(lambda one: one.biases, optimizer, size))


def nominal_alone(learning_rate: Array) -> Joint:
    """STAR's nominal term without its black box: dx = -lr mean_i m_i / sqrt(v), decays as they are before training."""
    star = create_star(jax.random.key(0), step_scale=0.0, nominal_scale=1.0, exponent=1.0)
    last = star.network.biases[-1]
    bias = jnp.zeros_like(last).at[2].set(jnp.log(learning_rate))  # of the outputs d, m, a, r
    weights = jnp.zeros_like(star.network.weights[-1])
    return eqx.tree_at(lambda one: (one.network.weights[-1], one.network.biases[-1]), star, (weights, bias))


BUILDERS: dict[str, Callable[..., Joint]] = {"sign": sign_descent, "nominal": nominal_alone}


def build(rival: RivalName, settings: dict[str, Array]) -> Joint:
    """A rival of a number a setting. **Raises** `ReoptError` where settings are missing or unknown."""
    if set(settings) - set(SETTINGS[rival]) or "learning_rate" not in settings:
        raise ReoptError(f"the settings of {rival} are {', '.join(SETTINGS[rival])}, not {', '.join(settings)}")
    if rival in BUILDERS:
        return BUILDERS[rival](**settings)
    return Alone(build_baseline(rival, settings))


def draw(ranges: dict[str, Range], draws: int, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(places in the ranges, 0 to 1, `(draw, setting)` in the order of names; values by setting).

    A Latin hypercube: each setting has a draw in each of so many equal parts of its range.
    """
    names = sorted(ranges)
    random = np.random.default_rng(seed)
    unit = np.stack([(random.permutation(draws) + random.random(draws)) / draws for _ in names], axis=1)
    return unit, {name: _from_unit(unit[:, i], ranges[name]).astype(np.float32) for i, name in enumerate(names)}


def at_edge(ranges: dict[str, Range], unit: Any) -> list[str]:
    """The settings of a draw in the outer 5% of their ranges: their optimum may lie beyond."""
    return [name for name, place in zip(sorted(ranges), unit, strict=True) if place < EDGE or place > 1 - EDGE]
