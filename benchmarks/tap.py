"""Training with a tap against the same training without, in one process, turn by turn."""

import statistics
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

from benchmarks.timing import result, turn_by_turn
from reopt.live.tap import tap

STEPS, EVERY = 1000, 50
CASES = {
    "tap_mlp256_adam": (256, 128, lambda: optax.adam(1e-3)),
    "tap_mlp256_clipped_adamw": (256, 128, lambda: optax.chain(optax.clip(0.01), optax.adamw(1e-3))),
    "tap_mlp64_adam": (64, 32, lambda: optax.adam(1e-3)),
}
"""Width of a network of three layers on scikit-learn's digits, samples in a batch, and the optimizer."""


def training(width: int, batch: int, optimizer: Any) -> tuple[Any, Any, Any]:
    """`STEPS` steps as one compiled program, with its first parameters and state."""
    digits = load_digits()
    images, targets = jnp.asarray(digits.data / 16, jnp.float32), jnp.asarray(digits.target)
    params, static = eqx.partition(eqx.nn.MLP(64, 10, width, 2, key=jax.random.key(0)), eqx.is_inexact_array)

    def loss(params: Any, chosen: jax.Array) -> jax.Array:
        logits = jax.vmap(eqx.combine(params, static))(images[chosen])
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets[chosen]).mean()

    def step(carry: Any, index: jax.Array) -> tuple[Any, None]:
        params, state = carry
        chosen = jax.random.randint(jax.random.fold_in(jax.random.key(1), index), (batch,), 0, len(images))
        updates, state = optimizer.update(jax.grad(loss)(params, chosen), state, params)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def train(params: Any, state: Any) -> Any:
        return jax.lax.scan(step, (params, state), jnp.arange(STEPS))[0]

    return train, params, optimizer.init(params)


def interval(ratios: list[float], draws: int = 10_000) -> tuple[float, float]:
    """The 95% interval of the median of paired ratios, by bootstrap over the pairs."""
    generator = np.random.default_rng(0)
    medians = np.median(generator.choice(ratios, (draws, len(ratios))), axis=1)
    low, high = np.quantile(medians, (0.025, 0.975))
    return float(low), float(high)


def run(runs: int, peak: float) -> list[dict]:
    """Each case with and without a tap; the ratio is the median over pairs of runs that follow each other."""
    del peak
    rows = []
    for name, (width, batch, make) in CASES.items():
        with_tap, without = training(width, batch, tap(make(), EVERY)), training(width, batch, make())
        timing = turn_by_turn(lambda p=with_tap: p[0](*p[1:]), lambda p=without: p[0](*p[1:]), max(runs, 5))
        ratios = [ours / bare for ours, bare in zip(timing.ours, timing.reference, strict=True)]
        row = result(name, timing, must="time with the tap <= 1.05 times that without")
        low, high = interval(ratios)
        row |= {"ratio": statistics.median(ratios), "ratio_is": "time with the tap over that without, paired runs"}
        rows.append(row | {"ratio_interval": [low, high], "steps": STEPS, "every": EVERY})
    return rows
