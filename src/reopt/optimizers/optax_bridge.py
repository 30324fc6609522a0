"""The bridge to optax, both ways.

Ours to optax (`as_optax`): a component-wise optimizer acts on every element of the parameters.

optax to ours (`from_optax`): the state of one parameter is what the transformation keeps for a lone scalar,
as a vector, then the step count (the clock) if it keeps one, then the update itself:

    h = (leaves, step, update),    h' = F(h, g),    dx = r(h') = update.

Leaves that are whole numbers but count no steps (the phase of an accumulation) are components like others, whose
derivative is 0. An optimizer of ours sees the gradient of its own parameter and nothing else. So a transformation
that couples parameters (a clipped global norm, LAMB), or looks at their values, is none; whether it does is found out
by running it on a few parameters. Three kinds of looking at values are told apart: decoupled weight decay,

    dx = r(h', g) - d x,    d the same for all parameters, whatever the gradients,

which can be taken off; a dependence on how far the parameter has moved from its start (schedule-free averaging), which
is a sum of updates, and so one more component of the state; and any other.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from reopt.core.errors import ReoptError
from reopt.optimizers.base import Optimizer
from reopt.optimizers.layouts import dependence, words_in
from reopt.optimizers.optax_steps import named_leaves, needs_more, refuse_odd_steps
from reopt.optimizers.refusals import BY_SHAPE, COUPLED, VALUES, NotComponentWise


def as_optax(optimizer: Optimizer) -> optax.GradientTransformation:
    """The optimizer as an optax transformation for any pytree of floating-point arrays.

    Its state is a pytree like the parameters, each leaf with one more axis for the optimizer's own state, in
    the leaf's type but at least float32. Its updates are dx in the gradient's type.
    """

    def states(leaf: Array) -> Array:
        leaf = jnp.asarray(leaf)
        return optimizer.initial_states(leaf.shape).astype(jnp.promote_types(leaf.dtype, jnp.float32))

    def advance(gradient: Array, state: Array) -> Array:
        return optimizer.update(state, jnp.asarray(gradient, state.dtype)).astype(state.dtype)

    def read(gradient: Array, state: Array) -> Array:
        return optimizer.readout(state, jnp.asarray(gradient, state.dtype)).astype(gradient.dtype)

    def update(updates: PyTree[Array], state: PyTree[Array], params: PyTree[Array] | None = None) -> Any:
        del params
        state = jax.tree.map(advance, updates, state)
        return jax.tree.map(read, updates, state), state

    return optax.GradientTransformation(lambda params: jax.tree.map(states, params), update)


class _Leaf(NamedTuple):
    """A leaf of the optax state: "vector" (part of h), "clock" (first value plus step) or "constant".

    A vector that takes other whole numbers as time goes by, from `phases[0]` to `phases[1]`, switches what a step does.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    phases: tuple[float, float] | None = None

    @property
    def size(self) -> int:
        return int(np.prod(self.shape)) if self.kind == "vector" else 0


class FromOptax(Optimizer):
    """A component-wise optax transformation; made by `from_optax`, which checks that it is one.

    - `weight_decay`: d of a decoupled decay, dx = r(h', g) - d x, a share of the parameter a step (the largest d
      among the first steps, if it follows a schedule); 0 without one. F and r are those at x = 0.
    - `displaced`: the state holds the parameter's displacement from its start, because the updates depend on it.
    - `couplings`: which parameters influence which, if the transformation couples them; F and r are then those of a
      problem with this one parameter. Where its value matters otherwise than by the two above, it is `held`.
    """

    transformation: Any = eqx.field(static=True)
    leaves: tuple[_Leaf, ...] = eqx.field(static=True)
    weight_decay: float = eqx.field(static=True, default=0.0)
    displaced: bool = eqx.field(static=True, default=False)
    couplings: str = eqx.field(static=True, default="")
    held: float = eqx.field(static=True, default=0.0)

    @property
    def caveats(self) -> tuple[str, ...]:
        """What F and r leave out of the transformation, a sentence each; whatever is read from them is without it."""
        return self.caveats_at(None)

    def caveats_at(self, point: Float[np.ndarray, " hidden"] | None) -> tuple[str, ...]:
        """The caveats of what is read in this state, which is one phase of a cycle."""
        found = []
        if self.weight_decay:
            found.append(
                f"Decoupled weight decay: each step also takes {self.weight_decay:.6g} of the parameter's value away; "
                "all readings are of the rest of the update, that of a parameter of value 0."
            )
        if self.couplings:
            value = "" if self.displaced else f", of value {self.held:g}"
            found.append(
                f"Conditional: this transformation couples parameters ({self.couplings}). All readings are those of a "
                f"problem with one scalar parameter{value}: no other gradient is there."
            )
        phases = [leaf for leaf in self.leaves if leaf.phases]
        if phases:
            span = ", ".join(f"{leaf.name} from {leaf.phases[0]:g} to {leaf.phases[1]:g}" for leaf in phases)  # type: ignore[index]
            where = "" if point is None else f", {', '.join(self._phases_at(point))}"
            found.append(
                f"Phases: the state holds whole numbers that are no clock and may switch what a step does ({span} "
                f"along a run). What is read in one state is that of one phase{where}, not of a whole cycle."
            )
        return tuple(found)

    def _phases_at(self, point: Float[np.ndarray, " hidden"]) -> list[str]:
        """The phases that a state is in, as words."""
        ends = itertools.accumulate(leaf.size for leaf in self.leaves)
        return [
            f"{leaf.name} {', '.join(f'{value:g}' for value in np.round(point[end - leaf.size : end]))}"
            for leaf, end in zip(self.leaves, ends, strict=True)
            if leaf.phases
        ]

    @property
    def state_names(self) -> tuple[str, ...]:
        vectors = [leaf for leaf in self.leaves if leaf.kind == "vector"]
        names = [f"{leaf.name}{list(i) or ''}" for leaf in vectors for i in np.ndindex(leaf.shape)]
        moved = ("displacement",) if self.displaced else ()
        return (*names, *moved, *(() if self.clock is None else ("step",)), "update")

    @property
    def clock(self) -> int | None:
        counts = any(leaf.kind == "clock" for leaf in self.leaves)
        return sum(leaf.size for leaf in self.leaves) + self.displaced if counts else None

    def initial_state(self) -> Array:
        zero = jnp.zeros(())
        return self._pack(_start(self.transformation, zero + self.held), zero, zero, zero)

    def update(self, state: Array, gradient: Array) -> Array:
        return jnp.vectorize(_traced_once(_Same(self)), signature="(h),()->(h)")(state, gradient)

    def readout(self, state: Array, gradient: Array) -> Array:
        del gradient
        return state[..., -1]

    def _pack(self, inner: Any, moved: Array, step: Array, change: Array) -> Float[Array, " hidden"]:
        parts = zip(self.leaves, jax.tree.leaves(inner), strict=True)
        kept = [jnp.ravel(value) for leaf, value in parts if leaf.kind == "vector"]
        rest = [moved[None]] if self.displaced else []
        rest += [change[None]] if self.clock is None else [step[None], change[None]]
        return jnp.concatenate([part.astype(step.dtype) for part in (*kept, *rest)])

    def _step(self, state: Float[Array, " hidden"], gradient: Float[Array, ""]) -> Float[Array, " hidden"]:
        zero = jnp.zeros((), state.dtype)
        start = zero + self.held
        step = zero if self.clock is None else state[self.clock]
        moved = state[sum(leaf.size for leaf in self.leaves)] if self.displaced else zero
        values, structure = jax.tree.flatten(_start(self.transformation, start))
        ends = itertools.accumulate(leaf.size for leaf in self.leaves)
        for i, (leaf, end) in enumerate(zip(self.leaves, ends, strict=True)):
            if leaf.kind == "vector":
                values[i] = _as_type(state[end - leaf.size : end].reshape(leaf.shape), values[i].dtype)
            elif leaf.kind == "clock":
                values[i] = values[i] + step.astype(values[i].dtype)
        inner = jax.tree.unflatten(structure, values)
        change, inner = self.transformation.update(gradient.astype(state.dtype), inner, start + moved)
        return self._pack(inner, moved + change, step + 1, change)


class _Same(NamedTuple):
    """An optimizer, the same as another where it is made of the same transformation in the same way."""

    optimizer: FromOptax

    def _parts(self) -> tuple:
        one = self.optimizer
        return id(one.transformation), one.leaves, one.displaced, one.held

    def __hash__(self) -> int:
        return hash(self._parts())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._parts() == other._parts()


@functools.lru_cache(maxsize=128)
def _traced_once(same: _Same) -> Callable[[Array, Array], Array]:
    """A step whose program is derived, batched and put into others without running the transformation's Python again:
    an examination does so a hundred times."""
    return jax.jit(same.optimizer._step, inline=True)


def _start(transformation: Any, params: Any) -> Any:
    """The state before the first gradient, numbers of Python in it as arrays."""
    return jax.tree.map(jnp.asarray, transformation.init(params))


def _as_type(values: Array, dtype: Any) -> Array:
    """Components of a state in the type of their leaf; counts and flags are whole numbers."""
    return (values if jnp.issubdtype(dtype, jnp.inexact) else jnp.round(values)).astype(dtype)


def from_optax(
    transformation: optax.GradientTransformation, *, decay: bool = False, coupled: bool = False
) -> FromOptax:
    """An optax transformation as an optimizer of ours, which for each parameter equals optax's own.

    **Arguments:** with `decay`, a transformation with decoupled weight decay (AdamW) is taken too, without its decay,
    whose size stands in `weight_decay`; with `coupled`, one that couples parameters too, as one parameter alone sees
    it. Neither is the whole optimizer: see its `caveats`, and `reopt.evaluation.evaluate_optax` for true runs.

    **Raises** `NotComponentWise`, a `ReoptError`, where it needs more than gradients, couples parameters, looks at
    their values or shapes, or draws random numbers.
    """
    if not (hasattr(transformation, "init") and hasattr(transformation, "update")):
        raise ReoptError(f"{transformation!r} is no optax transformation: it lacks init and update")
    try:
        return _checked(transformation, decay=decay, coupled=coupled)
    except ReoptError:
        raise
    except Exception as error:  # whatever foreign code raises
        raise needs_more(transformation, error, words_in(transformation)) from error


_WATCHED = 4096  # steps of a lone scalar: what counts to fewer than this and starts again is no count of steps
_LONGEST_WAIT = 256  # steps without an update after which one is waited for no longer
_PROBED = 24  # steps of a probe, at the least
_NAMES = [f"vector[{i}]" for i in range(3)] + [f"matrix[{i}, {j}]" for i in range(2) for j in range(2)]


def _checked(transformation: Any, *, decay: bool, coupled: bool) -> FromOptax:
    """The transformation as an optimizer, once everything it must not do has been looked for."""
    refuse_layouts(transformation)
    leaves, waits = _classify(transformation)
    probe = _Probe(transformation, max(_PROBED, 3 * waits + 3))
    couplings = probe.couplings()
    if couplings and not coupled:
        raise NotComponentWise(
            COUPLED,
            f"this optax transformation couples parameters: {couplings}; an optimizer here sees the gradient of "
            "its own parameter only (reopt dissect --coupled examines it as one parameter alone)",
        )
    optimizer = dataclasses.replace(FromOptax(transformation, leaves), couplings=couplings)
    if probe.values_matter():
        share = probe.decay()
        if share is not None and not decay:
            raise NotComponentWise(
                VALUES,
                "the updates of this optax transformation depend on the values of the parameters (weight decay); "
                "an optimizer here sees gradients only: set the decay to 0, or put the penalty into the loss",
            )
        if share is not None:
            optimizer = dataclasses.replace(optimizer, weight_decay=share)
        elif probe.follows_displacement():
            optimizer = dataclasses.replace(optimizer, displaced=True)
        elif couplings:
            optimizer = dataclasses.replace(optimizer, held=1.0)
        else:
            raise NotComponentWise(
                VALUES,
                "the updates of this optax transformation depend on the values of the parameters, and not by a "
                "decoupled weight decay: an optimizer here sees gradients only; set a decay to 0, or put the penalty "
                "into the loss",
            )
    if couplings:
        return optimizer
    # Leaves in bfloat16 round differently from program to program.
    differs = _differs(probe.walk(np.zeros(len(_NAMES)), optimizer.displaced), probe.alone(optimizer), rtol=1e-2)
    if differs.any():
        raise NotComponentWise(
            BY_SHAPE,
            f"this optax transformation treats {_NAMES[differs.argmax()]} otherwise than a lone scalar; "
            "an optimizer here acts on each parameter alone, whatever array it stands in",
        )
    return optimizer


def refuse_layouts(transformation: Any) -> None:
    """**Raises** `NotComponentWise` where the updates are drawn by chance or cannot be made from gradients alone, where
    steps are unlike those of optax (`reopt.optimizers.optax_steps`), or where updates depend on the shapes, names or
    nesting of the arrays that parameters stand in (`reopt.optimizers.layouts`)."""
    refuse_odd_steps(transformation)
    try:
        found = dependence(transformation)
    except NotComponentWise:
        raise
    except Exception as error:  # whatever foreign code raises
        raise needs_more(transformation, error, words_in(transformation)) from error
    if found is not None:
        raise NotComponentWise(
            found.kind,
            f"this optax transformation {found.kind}: {found.seen}; an optimizer here sees one flat vector of "
            "parameters without names: give the transformation without its mask, labels or norms of arrays",
        )


def _classify(transformation: Any) -> tuple[tuple[_Leaf, ...], int]:
    """What each leaf of a lone parameter's state is, and how many steps go by before the parameter moves."""
    parameter = jnp.zeros(())
    state = _start(transformation, parameter)
    named, names = named_leaves(state)
    traced = jax.make_jaxpr(lambda g, s: transformation.update(g, s, parameter)[1])(parameter, state).jaxpr
    constant = [new is old for new, old in zip(traced.outvars, traced.invars[1:], strict=True)]
    moves, seen = jax.jit(lambda state: _watched(transformation, parameter, state))(state)
    leaves = []
    for name, (_, first), same, values in zip(names, named, constant, seen, strict=True):
        kind = "constant" if same else "clock" if _counts(np.asarray(first), values) else "vector"
        leaves.append(_Leaf(name, kind, first.shape, _phases(first, values) if kind == "vector" else None))
    waits = int(np.argmax(moves)) if np.any(moves) else _WATCHED
    return tuple(leaves), 0 if waits >= _LONGEST_WAIT else waits


def _watched(transformation: Any, parameter: Array, start: Any) -> tuple[Array, list[Array]]:
    """Whether a lone parameter moved at each step, and the leaves of its state after it."""

    def step(state: Any, t: Array) -> tuple[Any, tuple[Array, list[Array]]]:
        change, state = transformation.update(jnp.cos(t), state, parameter)
        return state, (jnp.any(change != 0), jax.tree.leaves(state))

    return jax.lax.scan(step, start, jnp.arange(1.0, _WATCHED + 1))[1]


def _counts(first: np.ndarray, values: Array) -> bool:
    """Whether a whole number counts the steps."""
    steps = np.arange(1, _WATCHED + 1).reshape(-1, *[1] * first.ndim)
    return jnp.issubdtype(first.dtype, jnp.integer) and bool(np.all(np.asarray(values) == first + steps))


def _phases(first: Array, values: Array) -> tuple[float, float] | None:
    """The least and the largest of whole numbers that change; None of others."""
    every = np.concatenate([np.asarray(first)[None], np.asarray(values)]).astype(np.float64)
    if not every.size or np.ptp(every) == 0 or not np.array_equal(every, np.round(every)):
        return None
    return float(every.min()), float(every.max())


class _Probe:
    """Runs of a transformation on a vector and a matrix, with gradients and parameters of our choice."""

    def __init__(self, transformation: Any, num_steps: int) -> None:
        self.transformation = transformation
        rng = np.random.default_rng(0)
        # The parameters walk on their own, whatever the updates: only where they are looked at do they matter.
        self.params, self.gradients = rng.normal(size=(2, num_steps, len(_NAMES)))
        self._step = jax.jit(transformation.update)

    def run(self, gradients: np.ndarray, params: np.ndarray | None, start: np.ndarray | None = None) -> np.ndarray:
        """Updates `(step, 7)`; parameters of each step are given, or begin at `start` and follow the updates."""
        at = _tree(params[0] if start is None else start)  # type: ignore[index]
        state, updates = self.transformation.init(at), []
        for t, gradient in enumerate(gradients):
            at = at if params is None else _tree(params[t])
            update, state = self._step(_tree(gradient), state, at)
            updates.append(np.concatenate([np.ravel(update["vector"]), np.ravel(update["matrix"])]))
            at = jax.tree.map(jnp.add, at, update)
        return np.stack(updates)

    def couplings(self) -> str:
        """Which parameters influence which, as half a sentence; empty if none does."""
        base = self.run(self.gradients, self.params)
        reach = np.zeros((len(_NAMES), len(_NAMES)), bool)
        for i in range(len(_NAMES)):
            changed = self.gradients.copy()
            changed[1:, i] *= -1e12  # above any threshold of a norm, and of the other sign
            reach[i] = _differs(base, self.run(changed, self.params))
        np.fill_diagonal(reach, False)
        return _in_words(reach)

    def values_matter(self) -> bool:
        """Whether the updates depend on the values of the parameters."""
        one, other = (self.run(self.gradients, params) for params in (self.params, 3 * self.params + 1))
        return bool(_differs(one, other).any())

    def decay(self) -> float | None:
        """d of updates u - d x, with d the same for all parameters and all gradients, whatever the step; else None."""
        with jax.enable_x64(True):
            other = 3 * self.params + np.linspace(1, 2, len(_NAMES))
            found = []
            for gradients in (self.gradients, -0.3 * self.gradients[::-1]):
                change = self.run(gradients, self.params) - self.run(gradients, other)
                found.append(change / (other - self.params))
        shares = np.concatenate(found, axis=1)
        step = shares.mean(axis=1, keepdims=True)
        if not np.isfinite(shares).all() or not np.allclose(shares, step, rtol=1e-5, atol=1e-5 * np.abs(step).max()):
            return None
        return float(step[np.abs(step).argmax(), 0])

    def walk(self, start: np.ndarray, moving: bool) -> np.ndarray:
        """Updates of parameters that begin at `start`, and stay there or move with the updates."""
        params = None if moving else np.tile(start, (len(self.gradients), 1))
        return self.run(self.gradients, params, start)

    def follows_displacement(self) -> bool:
        """Whether the values matter only by how far the parameters have moved from where they began."""
        with jax.enable_x64(True):
            one, other = (self.walk(start, True) for start in (np.zeros(len(_NAMES)), self.params[0]))
        return bool(np.allclose(one, other, rtol=1e-6, atol=1e-9 * np.abs(one).max()))

    def alone(self, optimizer: FromOptax) -> np.ndarray:
        """Updates by `optimizer`, each parameter alone."""
        start = optimizer.initial_states((len(_NAMES),)).astype(jnp.float32)
        return np.asarray(
            jax.lax.scan(lambda h, g: optimizer(h, g), start, jnp.asarray(self.gradients, jnp.float32))[1]
        )


def _tree(flat: np.ndarray) -> dict[str, Array]:
    values = jnp.asarray(flat, float)
    return {"vector": values[:3], "matrix": values[3:].reshape(2, 2)}


def _in_words(reach: np.ndarray) -> str:
    """A matrix of which parameter influences which as half a sentence."""
    if not reach.any():
        return ""
    i, j = np.argwhere(reach)[0]
    others = ~np.eye(len(_NAMES), dtype=bool)
    of_vector = np.arange(len(_NAMES)) < 3
    within = of_vector[:, None] == of_vector[None, :]
    extent = f"{reach.sum()} of {others.sum()} pairs looked at"
    if reach[others].all():
        extent = "every parameter influences every other"
    elif (reach == (others & within)).all():
        extent = "within each array, every parameter influences every other"
    elif not reach[of_vector].any() and not reach[:, of_vector].any():
        extent = "within matrices, not vectors"
    return f"the gradient of {_NAMES[i]} changes the update of {_NAMES[j]}; {extent}"


def _differs(one: np.ndarray, other: np.ndarray, rtol: float = 0.0) -> np.ndarray:
    """For each column, whether two arrays differ in it."""
    same = np.isclose(np.asarray(one), np.asarray(other), rtol=rtol, atol=0, equal_nan=True)
    return np.any(~same, axis=0)
