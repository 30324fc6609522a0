"""Fixed points of a GRU-256 from 1,024 seeds under 64 constant gradients, against a search by Adam.

The reference minimises q = 0.5 ||F(h, g) - h||^2 of every row (seed x gradient) by 1,000 Adam steps at rate 0.01, as
one compiled loop in float32, its gradient by reverse differentiation; this is twice as fast as in float64. It is run
on `REFERENCE_SEEDS` evenly spread seeds under all gradients, once in full for what it finds; a timed run takes
`TIMED_STEPS` of its steps, and the time is scaled by the number of steps and of rows. Its work a step and row is
constant, and larger batches are no faster a row. Both searches are timed by turns, compilation excluded.

    uv run python -m benchmarks fixed_points --out FILE.json
"""

import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from reopt.dynamics.autonomous import FreeSystem, jacobians
from reopt.dynamics.fixed_point_families import FixedPointsOver, find_fixed_points_over
from reopt.dynamics.precision import double_precision, to_double
from reopt.dynamics.root_finding import newton
from reopt.optimizers.base import Optimizer
from reopt.optimizers.learned import create_learned
from reopt.optimizers.load import load_learned

UNITS, SEEDS, GRADIENTS, REFERENCE_SEEDS = 256, 1024, 64, 16
ADAM_STEPS, TIMED_STEPS, ADAM_RATE, REACHED = 1000, 100, 0.01, 1e-8
TRAINED = Path("results/study/quadratic/optimizers/paper-s675/best.safetensors")
MUST = "ratio >= 10"
TOLERANCE = 5e-12  # relative to ||h|| < 16: below 1e-10


def random_gru(units: int = UNITS, gain: float = 3.0, seed: int = 0) -> Optimizer:
    """An untrained GRU whose candidate's recurrent weights are `gain` times the usual, with random biases."""
    optimizer = create_learned(jax.random.key(seed), cell="gru", units=units)
    keys = jax.random.split(jax.random.key(seed + 1), 2)
    return eqx.tree_at(
        lambda o: (o.cell.recurrent_candidate, o.cell.bias_gates, o.cell.bias_candidate),
        optimizer,
        (
            gain * optimizer.cell.recurrent_candidate,
            0.5 * jax.random.normal(keys[0], (2 * units,)),
            0.5 * jax.random.normal(keys[1], (units,)),
        ),
    )


@eqx.filter_jit
def adam_search(
    optimizer: Optimizer, states: jax.Array, gradients: jax.Array, steps: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(states, q of each row) after `steps` steps."""
    rule = optax.adam(ADAM_RATE)

    def speeds(states):
        return 0.5 * jnp.sum(jnp.square(optimizer.update(states, gradients) - states), axis=-1)

    def step(_, carry):
        states, memory = carry
        updates, memory = rule.update(jax.grad(lambda h: jnp.sum(speeds(h)))(states), memory)
        return states + updates, memory

    states, _ = jax.lax.fori_loop(0, steps, step, (states, rule.init(states)))
    return states, speeds(states)


def compare(
    optimizer: Optimizer, found: FixedPointsOver, states: np.ndarray, speed: np.ndarray, gradients: np.ndarray
) -> dict[str, Any]:
    """What of the reference's finds (rows [gradient, seed]) is among ours."""
    picked = _picked(found.seed_result.shape[1])
    reached = speed < REACHED
    ours = (found.seed_result[:, picked] >= 0) & (found.seed_residual[:, picked] < 1e-10)
    unstable, lost, distinct = 0, 0, 0
    with double_precision():
        system = FreeSystem(to_double(optimizer))
        for number in range(len(gradients)):
            rows = system.restrict(states[number][reached[number]])
            kept: list[np.ndarray] = []
            for row in rows:
                if all(np.linalg.norm(row - other) > 1e-2 for other in kept):
                    kept.append(row)
            distinct += len(kept)
            if not kept:
                continue
            held = np.full(len(kept), gradients[number])
            # A speed of 1e-8 is no fixed point yet: Newton says whether one is there.
            sharp = newton(system, np.array(kept), held, tolerance=TOLERANCE, max_iterations=30, chunk=8)
            for row, residual in zip(sharp.states, sharp.residual, strict=True):
                matrix = np.asarray(jacobians(system, jnp.asarray(row[None]), jnp.asarray(held[:1])))[0]
                if residual < 1e-10 and np.abs(np.linalg.eigvals(matrix)).max() > 1 + 1e-9:
                    unstable += 1
                    here = system.restrict(found.points[found.gradient == number])
                    lost += not (np.linalg.norm(here - row, axis=1) < 1e-6).any()
    return {
        "reference_rows": int(reached.size),
        "reference_rows_below_1e-8": int(reached.sum()),
        "of_these_ours_below_1e-10": int((reached & ours).sum()),
        "reference_distinct_points": distinct,
        "reference_unstable_points": unstable,
        "reference_unstable_points_lost": lost,
        "points": len(found.points),
        "points_unstable": int((found.unstable_directions > 0).sum()),
        "largest_residual": float(found.residual.max(initial=0)),
        "seeds_not_converged": int((found.seed_result == -1).sum()),
        "seeds_diverged": int((found.seed_result == -2).sum()),
    }


def _picked(seeds: int) -> np.ndarray:
    return np.linspace(0, seeds - 1, min(REFERENCE_SEEDS, seeds)).round().astype(int)


def measure(optimizer: Optimizer, work: str, repeats: int, *, scale: float = 0.5) -> dict[str, Any]:
    """Time both searches `repeats` times, by turns, and compare what they found."""
    rng = np.random.default_rng(0)
    seeds = (scale * rng.standard_normal((SEEDS, optimizer.state_size))).astype(np.float32)
    gradients = np.linspace(-1, 1, GRADIENTS)
    picked = seeds[_picked(SEEDS)]
    rows = jnp.asarray(np.tile(picked, (GRADIENTS, 1)))
    held = jnp.asarray(np.repeat(gradients, len(picked)).astype(np.float32))
    states, speed = jax.block_until_ready(adam_search(optimizer, rows, held, jnp.asarray(ADAM_STEPS)))
    scale_up = ADAM_STEPS / TIMED_STEPS * len(seeds) / len(picked)
    timed = jnp.asarray(TIMED_STEPS)
    find_fixed_points_over(optimizer, seeds, gradients, tolerance=TOLERANCE)  # compiles
    times, reference = [], []
    for _ in range(repeats):
        begin = time.perf_counter()
        jax.block_until_ready(adam_search(optimizer, rows, held, timed))
        reference.append(scale_up * (time.perf_counter() - begin))
        begin = time.perf_counter()
        found = find_fixed_points_over(optimizer, seeds, gradients, tolerance=TOLERANCE)
        times.append(time.perf_counter() - begin)
    shape = (GRADIENTS, len(picked))
    states, speed = np.asarray(states).reshape(*shape, -1), np.asarray(speed).reshape(shape)
    median, reference_median = float(np.median(times)), float(np.median(reference))
    return {
        "work": work,
        "must": MUST,
        "ratio": reference_median / median,
        "peak_fraction": None,
        "median_s": median,
        "reference_median_s": reference_median,
        "runs": len(times),
        "spread_s": [min(times), max(times)],
        "reference_spread_s": [min(reference), max(reference)],
        "reference_scaled_from": {"seeds": len(picked), "steps": TIMED_STEPS},
        **compare(optimizer, found, states, speed, gradients),
    }


def run(runs: int, peak: float) -> list[dict[str, Any]]:
    """The random GRU-256 of gain 3, and the trained one where it has been pulled."""
    del peak
    rows = [measure(random_gru(), "fixed_points_gru256", runs)]
    if TRAINED.is_file():
        rows.append(measure(load_learned(TRAINED), "fixed_points_trained_gru256", runs))
    return rows
