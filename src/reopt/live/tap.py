"""The tap: an optax transformation that is measured while it trains, and does just what it did without.

On most steps it counts. Every so many steps it calls the transformation a few times more, with other gradients
(`reopt.live.reading`), and writes one row to a log of fixed size in its state. Rows of steps that are not measured go
to a spare row of the log, so that it is written in place and never passes through the conditional.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from jaxtyping import Array, Bool, Float, Int, Int8, PyTree

from reopt.core.errors import ReoptError, shortened
from reopt.live.reading import CHANNELS, QUANTITIES, REASONS, choose, is_real, read


class TapState(eqx.Module):
    """The state of the wrapped transformation (`inner`), the count of steps and the log."""

    inner: PyTree
    count: Int[Array, ""]
    interval: Int[Array, ""]  # steps from one measurement to the next
    holds_parameters: Bool[Array, ""]
    steps: Int[Array, " row"]  # -1 where a row is empty; the last row is spare
    log: Float[Array, "row group channel"]
    reasons: Int8[Array, "row group quantity"]
    groups: tuple[str, ...] = eqx.field(static=True)


def tap(
    transformation: Any,
    every: int = 50,
    *,
    group: Callable[[str], str] | None = None,
    first: int = 0,
    rows: int = 64,
    samples: int | None = 1024,
) -> optax.GradientTransformationExtraArgs:
    """The same optax transformation, which also measures itself every so many steps; `tap_table` reads its state.

    Its updates and the state of what it wraps are those without the tap. It works inside `jit` and `lax.scan`, on any
    pytree of parameters, and passes extra arguments on. Measured are, for each group of parameters, the quantities of
    `reopt.live.reading`: the learning rate really used, memory, the share of elements clipped, saturation, adaptation.

    **Arguments:**

    - `transformation`: an `optax.GradientTransformation`. It is called about fifteen times in a step that is measured,
      so that prints or callbacks in it are seen as often. In `optax.MultiSteps`, put the tap inside.
    - `every`: steps from one measurement to the next. When the log is full, every second row is dropped and the
      interval doubles: the log covers the whole run, however long it is.
    - `group`: from the path of an array (`"layers/0/weight"`) to the name of its group; None: each array is a group.
    - `first`: the first step that is measured, counted from 0.
    - `rows`: measurements that are kept, an even number.
    - `samples`: about how many elements stand for each group; None: all of them.

    **Raises** `ReoptError` for arguments that are out of range.

    ```python
    import jax, jax.numpy as jnp, optax, reopt

    optimizer = reopt.tap(optax.sgd(optax.cosine_decay_schedule(0.1, 100), momentum=0.9), every=20)
    params = {"weight": jnp.ones((3, 4)), "bias": jnp.zeros(3)}

    def step(carry, _):
        params, state = carry
        gradients = jax.grad(lambda p: jnp.sum((p["weight"] @ jnp.arange(4.0) + p["bias"]) ** 2) / 100)(params)
        updates, state = optimizer.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), None

    (params, state), _ = jax.lax.scan(step, (params, optimizer.init(params)), length=100)
    table = reopt.tap_table(state)
    print(table[table["quantity"] == "learning_rate"])
    ```
    """
    for name, value, least in (("every", every, 1), ("first", first, 0), ("rows", rows, 2), ("samples", samples, 1)):
        if not (isinstance(value, int) and value >= least) and not (name == "samples" and value is None):
            raise ReoptError(f"tap: {name} must be a whole number of at least {least}, not {shortened(repr(value))}")
    if rows % 2:
        raise ReoptError(f"tap: rows must be even, for every second one is dropped when they are full; not {rows}")
    if not callable(getattr(transformation, "init", None)) or not callable(getattr(transformation, "update", None)):
        raise ReoptError(f"tap: {type(transformation).__name__} is no optax transformation: it lacks init or update")
    if isinstance(transformation, optax.MultiSteps):
        transformation = transformation.gradient_transformation()
    wrapped = optax.with_extra_args_support(transformation)

    def init(params: PyTree[Array]) -> TapState:
        owners, names = _grouped(params, group)
        del owners
        types = [leaf.dtype for leaf in jax.tree.leaves(params) if hasattr(leaf, "dtype") and is_real(leaf)]
        inner = wrapped.init(params)
        return TapState(
            inner=inner,
            count=jnp.zeros([], jnp.int32),
            interval=jnp.asarray(every, jnp.int32),
            holds_parameters=_holds_parameters(wrapped, params, inner),
            steps=jnp.full(rows + 1, -1, jnp.int32),
            log=jnp.zeros((rows + 1, len(names), len(CHANNELS)), jnp.result_type(jnp.float32, *types)),
            reasons=jnp.zeros((rows + 1, len(names), len(QUANTITIES)), jnp.int8),
            groups=names,
        )

    def update(
        updates: PyTree[Array], state: TapState, params: PyTree[Array] | None = None, **extra: Any
    ) -> tuple[PyTree[Array], TapState]:
        owners, names = _grouped(updates, group)
        if names != state.groups:
            raise ReoptError(f"tap: the gradients have the groups {names}, the parameters had {state.groups}")
        sampling = choose([jnp.asarray(leaf) for leaf in jax.tree.leaves(updates)], owners, len(names), samples)

        # Both branches hand on the gradients, so that the update waits for the measurement: what it writes in place of
        # state and parameters is read there, and would be copied at every step. An operation on the gradients in place
        # of this order would change which products and sums the compiler contracts, and so the last bits.
        def measure() -> tuple[Array, Array, Array, Array, PyTree]:
            def step(gradients: PyTree, inner: PyTree, params: PyTree) -> tuple[PyTree, PyTree]:
                return wrapped.update(gradients, inner, params, **extra)

            row, codes = read(step, updates, state.inner, params, sampling, state.holds_parameters)
            slot, interval = _slot(state.steps[:-1] - first, state.interval)
            return slot, interval, row.astype(state.log.dtype), codes, jax.lax.optimization_barrier(updates)

        def skip() -> tuple[Array, Array, Array, Array, PyTree]:
            spare = jnp.asarray(rows, jnp.int32)
            return spare, state.interval, jnp.zeros_like(state.log[0]), jnp.zeros_like(state.reasons[0]), updates

        due = (state.count >= first) & ((state.count - first) % state.interval == 0)
        slot, interval, row, codes, gradients = jax.lax.cond(due, measure, skip)
        put = jax.lax.dynamic_update_index_in_dim
        chosen, inner = wrapped.update(gradients, state.inner, params, **extra)
        return chosen, TapState(
            inner=inner,
            count=optax.safe_increment(state.count),
            interval=interval,
            holds_parameters=state.holds_parameters,
            steps=put(state.steps, state.count, slot, 0),
            log=put(state.log, row, slot, 0),
            reasons=put(state.reasons, codes, slot, 0),
            groups=state.groups,
        )

    return optax.GradientTransformationExtraArgs(init, update)  # type: ignore[arg-type]


def tap_table(state: PyTree) -> pd.DataFrame:
    """What a tap has measured: `step, group, quantity, value, low, high, elements, reason`, a row a measurement.

    `state` is the optimizer's state, or anything that holds it; of several taps in it, all are read. `low` and `high`
    are the quartiles of the learning rate over the elements of the group, `elements` how many of those
    looked at answer to their gradients. A value that could not be read is NaN, and `reason` says why.

    **Raises** `ReoptError` where there is no tap, or where the state is that of many runs at once (`vmap`).

    ```python
    import jax.numpy as jnp, optax, reopt

    optimizer = reopt.tap(optax.adamw(1e-3))
    params = jnp.arange(10.0)
    updates, state = optimizer.update(jnp.cos(params), optimizer.init(params), params)
    print(reopt.tap_table(state)[["quantity", "value", "reason"]])
    ```
    """
    taps = [one for one in jax.tree.leaves(state, is_leaf=_is_tap) if _is_tap(one)]
    if not taps:
        raise ReoptError("there is no tap in this state: wrap the transformation in reopt.tap before its init")
    return pd.concat([_table(one) for one in taps], ignore_index=True)


def _is_tap(part: Any) -> bool:
    return isinstance(part, TapState)


def _table(state: TapState) -> pd.DataFrame:
    steps, log, reasons = (np.asarray(part) for part in (state.steps, state.log, state.reasons))
    if steps.ndim != 1:
        raise ReoptError("this is the state of many runs: take one, as by jax.tree.map(lambda x: x[0], state)")
    rows = [row for row in np.argsort(steps[:-1]) if steps[row] >= 0]
    table = []
    for row in rows:
        for group, values, codes in zip(state.groups, log[row], reasons[row], strict=True):
            named = dict(zip(CHANNELS, values.astype(float), strict=True))
            for quantity, code in zip(QUANTITIES, codes, strict=True):
                spread = (named["low"], named["high"]) if quantity == "learning_rate" else (np.nan, np.nan)
                found = (int(steps[row]), group, quantity, named[quantity], *spread)
                table.append((*found, int(named["elements"]), REASONS[code]))
    columns = ["step", "group", "quantity", "value", "low", "high", "elements", "reason"]
    return pd.DataFrame(table, columns=columns)


def _grouped(tree: PyTree, group: Callable[[str], str] | None) -> tuple[list[int], tuple[str, ...]]:
    """The group of each array of a tree, as an index, and the names of the groups in the order in which they occur."""
    paths = [
        jax.tree_util.keystr(path, simple=True, separator="/") or "parameters"
        for path, _ in jax.tree_util.tree_leaves_with_path(tree)
    ]
    names = [path if group is None else group(path) for path in paths]
    for path, name in zip(paths, names, strict=True):
        if not isinstance(name, str):
            raise ReoptError(f"tap: group({path!r}) is {shortened(repr(name))}, not the name of a group")
    order = tuple(dict.fromkeys(names))
    return [order.index(name) for name in names], order


def _holds_parameters(wrapped: Any, params: PyTree, inner: PyTree) -> Bool[Array, ""]:
    """Whether the first state depends on the values of the parameters."""
    if not all(hasattr(leaf, "dtype") for leaf in jax.tree.leaves(params)):
        return jnp.zeros([], bool)  # placeholders, from which optax learns the layout of a state
    other = wrapped.init(jax.tree.map(lambda leaf: leaf + jnp.ones((), leaf.dtype) if is_real(leaf) else leaf, params))
    differs = [
        jnp.any(a != b)
        for a, b in zip(jax.tree.leaves(inner), jax.tree.leaves(other), strict=True)
        if hasattr(a, "dtype") and not jnp.issubdtype(a.dtype, jax.dtypes.prng_key)
    ]
    return jnp.any(jnp.stack(differs)) if differs else jnp.zeros([], bool)


def _slot(steps: Int[Array, " row"], interval: Int[Array, ""]) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """The row to write, and the interval from now on.

    `steps` are those of the rows, from the first that was measured (empty ones are negative). An empty row is taken
    first, then one between the steps of the present interval; where there is none, the interval doubles.
    """
    empty = steps < 0
    interval = jnp.where(jnp.any(empty | (steps % interval != 0)), interval, 2 * interval)
    free = jnp.where(jnp.any(empty), empty, steps % interval != 0)
    return jnp.argmax(free).astype(jnp.int32), interval
