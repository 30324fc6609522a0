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
import itertools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from reopt.errors import ReoptError
from reopt.optimizers.base import Optimizer


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
    """A leaf of the optax state: "vector" (part of h), "clock" (first value plus step) or "constant"."""

    name: str
    kind: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return int(np.prod(self.shape)) if self.kind == "vector" else 0


COUPLED = "couples parameters"
VALUES = "looks at parameter values"
SHAPES = "acts by the shape of arrays"
RANDOM = "draws random numbers"
MORE = "needs more than gradients"


class NotComponentWise(ReoptError):
    """Why an optax transformation is no optimizer of ours; `kind` is one of the five above."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


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
        return tuple(found)

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
        return self._pack(self.transformation.init(zero + self.held), zero, zero, zero)

    def update(self, state: Array, gradient: Array) -> Array:
        return jnp.vectorize(self._step, signature="(h),()->(h)")(state, gradient)

    def readout(self, state: Array, gradient: Array) -> Array:
        del gradient
        return state[..., -1]

    def _pack(self, inner: Any, moved: Array, step: Array, change: Array) -> Float[Array, " hidden"]:
        parts = zip(self.leaves, jax.tree.leaves(inner), strict=True)
        kept = [value.ravel() for leaf, value in parts if leaf.kind == "vector"]
        rest = [moved[None]] if self.displaced else []
        rest += [change[None]] if self.clock is None else [step[None], change[None]]
        return jnp.concatenate([part.astype(step.dtype) for part in (*kept, *rest)])

    def _step(self, state: Float[Array, " hidden"], gradient: Float[Array, ""]) -> Float[Array, " hidden"]:
        zero = jnp.zeros((), state.dtype)
        start = zero + self.held
        step = zero if self.clock is None else state[self.clock]
        moved = state[sum(leaf.size for leaf in self.leaves)] if self.displaced else zero
        values, structure = jax.tree.flatten(self.transformation.init(start))
        ends = itertools.accumulate(leaf.size for leaf in self.leaves)
        for i, (leaf, end) in enumerate(zip(self.leaves, ends, strict=True)):
            if leaf.kind == "vector":
                values[i] = _as_type(state[end - leaf.size : end].reshape(leaf.shape), values[i].dtype)
            elif leaf.kind == "clock":
                values[i] = values[i] + step.astype(values[i].dtype)
        inner = jax.tree.unflatten(structure, values)
        change, inner = self.transformation.update(gradient.astype(state.dtype), inner, start + moved)
        return self._pack(inner, moved + change, step + 1, change)


def _as_type(values: Array, dtype: Any) -> Array:
    """Components of a state in the type of their leaf; counts and flags are whole numbers."""
    return (values if jnp.issubdtype(dtype, jnp.inexact) else jnp.round(values)).astype(dtype)


def from_optax(
    transformation: optax.GradientTransformation, *, decay: bool = False, coupled: bool = False
) -> FromOptax:
    """An optax transformation as an optimizer of ours, which for each parameter equals optax's own.

    **Arguments:** with `decay`, a transformation with decoupled weight decay (AdamW) is taken too, without its decay,
    whose size stands in `weight_decay`; with `coupled`, one that couples parameters too, as one parameter alone sees
    it. Neither is the whole optimizer: see its `caveats`, and `reopt.training.evaluate_optax` for true runs.

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
        raise NotComponentWise(
            MORE,
            "this optax transformation cannot be run on parameters of any shape with their gradients alone: "
            f"{_told(error)}",
        ) from error


def _told(error: Exception) -> str:
    """Its type and the first line of what it says."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


_WATCHED = 256  # steps of a lone scalar: what counts to fewer than this and starts again is no count of steps
_PROBED = 24  # steps of a probe, at the least
_FEW = 3  # steps of the probe of a large matrix
_LARGEST = 4096  # rows of the largest matrix whose state is looked at
_NAMES = [f"vector[{i}]" for i in range(3)] + [f"matrix[{i}, {j}]" for i in range(2) for j in range(2)]


def _checked(transformation: Any, *, decay: bool, coupled: bool) -> FromOptax:
    """The transformation as an optimizer, once everything it must not do has been looked for."""
    waits, failure = 0, None
    try:
        leaves, waits = _classify(transformation)
    except ReoptError:
        raise
    except Exception as error:  # no state for a lone scalar: it may still be one for arrays, and couple them
        failure = error
    probe = _Probe(transformation, max(_PROBED, 3 * waits + 3))
    try:
        couplings = probe.couplings() or _large_couplings(transformation)
    except NotComponentWise:
        raise
    except Exception:  # it does not take vectors (orthogonalised momentum): then it is asked about matrices alone
        couplings = _matrix_couplings(transformation, 4)
        if not couplings:
            raise
    if couplings and not coupled:
        raise NotComponentWise(
            COUPLED,
            f"this optax transformation couples parameters: {couplings}; an optimizer here sees the gradient of "
            "its own parameter only (reopt dissect --coupled examines it as one parameter alone)",
        )
    if failure is not None and couplings:
        raise NotComponentWise(
            COUPLED,
            f"this optax transformation couples parameters ({couplings}), and a lone scalar it does not take "
            f"({_told(failure)}): so it cannot be examined as one parameter alone",
        )
    if failure is not None:
        raise failure
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
            SHAPES,
            f"this optax transformation treats {_NAMES[differs.argmax()]} otherwise than a lone scalar; "
            "an optimizer here acts on each parameter alone, whatever array it stands in",
        )
    return optimizer


def _classify(transformation: Any) -> tuple[tuple[_Leaf, ...], int]:
    """What each leaf of a lone parameter's state is, and how many steps go by before the parameter moves."""
    parameter = jnp.zeros(())
    state = transformation.init(parameter)
    named, _ = jax.tree_util.tree_flatten_with_path(state)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in named]
    for name, (_, value) in zip(names, named, strict=True):
        raw = value.dtype == jnp.uint32 and value.shape[-1:] == (2,)
        if raw or jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            raise NotComponentWise(
                RANDOM,
                f"this optax transformation draws random numbers: it keeps the random key {name!r}; an optimizer here "
                "is a function of its state and gradient",
            )
    traced = jax.make_jaxpr(lambda g, s: transformation.update(g, s, parameter)[1])(parameter, state).jaxpr
    constant = [new is old for new, old in zip(traced.outvars, traced.invars[1:], strict=True)]
    counts = [jnp.issubdtype(first.dtype, jnp.integer) for _, first in named]
    step, waits = jax.jit(transformation.update), 0
    for t in range(1, _WATCHED + 1):
        change, state = step(jnp.cos(jnp.asarray(1.0 * t)), state, parameter)
        waits += waits == t - 1 and not np.any(np.asarray(change))
        for i, ((_, first), now) in enumerate(zip(named, jax.tree.leaves(state), strict=True)):
            counts[i] = counts[i] and bool(np.all(np.asarray(now) == np.asarray(first) + t))
    leaves = []
    for name, (_, value), same, count in zip(names, named, constant, counts, strict=True):
        leaves.append(_Leaf(name, "constant" if same else "clock" if count else "vector", value.shape))
    return tuple(leaves), 0 if waits == _WATCHED else waits


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
            _like_parameters(update, at)
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


def _like_parameters(update: Any, params: dict[str, Array]) -> None:
    """**Raises** `NotComponentWise` where an update could not be added to the parameters."""
    given: Any = jax.tree.structure(update)
    if given != jax.tree.structure(params):
        found = f"a {type(update).__name__} for a dictionary of arrays"
    else:
        shapes = {name: (np.shape(update[name]), value.shape) for name, value in params.items()}
        found = ", ".join(f"{one} for {other}" for one, other in shapes.values() if one != other)
    if found:
        raise NotComponentWise(SHAPES, f"this optax transformation gives updates unlike its gradients: {found}")


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


def _large_couplings(transformation: Any) -> str:
    """Couplings in matrices so large that another state is kept for them (factored second moments); empty if none."""

    def pattern(rows: int) -> list[tuple]:
        """Shapes of the state, in terms of those of a matrix of `rows` rows and one column more."""
        state = jax.eval_shape(transformation.init, jax.ShapeDtypeStruct((rows, rows + 1), jnp.float32))
        terms = {rows: "rows", rows + 1: "columns"}
        return [tuple(terms.get(size, size) for size in leaf.shape) for leaf in jax.tree.leaves(state)]

    try:
        small, rows = pattern(2), 4
        while rows <= _LARGEST and pattern(rows) == small:
            rows *= 2
    except Exception:  # no state for matrices: what it does with them is seen elsewhere
        return ""
    if rows > _LARGEST:
        return ""
    found = _matrix_couplings(transformation, rows)
    return f"{found} in matrices of {rows} rows and {rows + 1} columns; not in small ones" if found else ""


def _matrix_couplings(transformation: Any, rows: int) -> str:
    """Whether one gradient of a matrix changes the update of another parameter of it, as words; empty if not."""
    params = jnp.ones((rows, rows + 1))
    step, runs = jax.jit(transformation.update), []
    for factor in (1.0, -1e12):
        state = transformation.init(params)
        for t in range(_FEW):
            gradient = jnp.cos(jnp.arange(params.size) + t).reshape(params.shape)
            update, state = step(gradient.at[0, 0].multiply(factor if t else 1.0), state, params)
        runs.append(np.asarray(update).ravel()[1:])
    differs = _differs(runs[0][None], runs[1][None])
    if not differs.any():
        return ""
    i, j = np.unravel_index(differs.argmax() + 1, params.shape)
    return f"the gradient of matrix[0, 0] changes the update of matrix[{i}, {j}]"


def _differs(one: np.ndarray, other: np.ndarray, rtol: float = 0.0) -> np.ndarray:
    """For each column, whether two arrays differ in it."""
    same = np.isclose(np.asarray(one), np.asarray(other), rtol=rtol, atol=0, equal_nan=True)
    return np.any(~same, axis=0)
