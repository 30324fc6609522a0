"""Runs of a tapped chain on gradients that are known beforehand, and what the readings must be."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd

import reopt

SHAPES = {"a": (6, 7), "b": (5,)}
STEPS = 101


def known_gradients(steps: int = STEPS, seed: int = 0) -> dict[str, np.ndarray]:
    """[step, *shape] of each array; the sizes of elements range over two decades."""
    generator = np.random.default_rng(seed)
    return {
        name: generator.normal(size=(steps, *shape)) * np.geomspace(0.05, 3, int(np.prod(shape))).reshape(shape)
        for name, shape in SHAPES.items()
    }


def start(dtype: Any = None) -> dict[str, jax.Array]:
    sizes = {name: int(np.prod(shape)) for name, shape in SHAPES.items()}
    return {name: jnp.linspace(-1, 2, size, dtype=dtype).reshape(SHAPES[name]) for name, size in sizes.items()}


def run(transformation: Any, gradients: dict[str, np.ndarray], params: Any = None, **options: Any) -> tuple[Any, Any]:
    """Parameters and state after all steps, in one scan, with all elements looked at."""
    options = {"every": 20, "samples": None} | options
    optimizer = reopt.tap(transformation, **options)
    params = start() if params is None else params
    gradients = jax.tree.map(lambda g, p: jnp.asarray(g, p.dtype), gradients, params)

    def step(carry: Any, gradient: Any) -> tuple[Any, None]:
        params, state = carry
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, optimizer.init(params)), gradients)[0]


def readings(transformation: Any, *, gradients: Any = None, params: Any = None, **options: Any) -> pd.DataFrame:
    gradients = known_gradients() if gradients is None else gradients
    return reopt.tap_table(run(transformation, gradients, params, **options)[1])


def values(table: pd.DataFrame, quantity: str, group: str = "a", column: str = "value") -> np.ndarray:
    return table[(table["quantity"] == quantity) & (table["group"] == group)][column].to_numpy()


def reasons(table: pd.DataFrame, quantity: str, group: str = "a") -> list[str]:
    """In the order of steps; each is empty exactly where there is a value."""
    rows = table[(table["quantity"] == quantity) & (table["group"] == group)]
    assert (rows["value"].isna() == (rows["reason"] != "")).all()
    return rows["reason"].tolist()
