"""The bridge to optax, both ways.

Ours to optax (`as_optax`): a component-wise optimizer acts on every element of the parameters.

optax to ours (`from_optax`): the state of one parameter is what the transformation keeps for a lone scalar,
as a vector, then the step count (the clock) if it keeps one, then the update itself:

    h = (floating-point leaves, step, update),    h' = F(h, g),    dx = r(h') = update.

An optimizer of ours sees the gradient of its own parameter and nothing else. So a transformation that couples
parameters (a clipped global norm, LAMB), or looks at their values (weight decay), is none; whether it does is
found out by running it on a few parameters.
"""

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


class FromOptax(Optimizer):
    """A component-wise optax transformation; made by `from_optax`, which checks that it is one."""

    transformation: Any = eqx.field(static=True)
    leaves: tuple[_Leaf, ...] = eqx.field(static=True)

    @property
    def state_names(self) -> tuple[str, ...]:
        vectors = [leaf for leaf in self.leaves if leaf.kind == "vector"]
        names = [f"{leaf.name}{list(i) or ''}" for leaf in vectors for i in np.ndindex(leaf.shape)]
        return (*names, *(() if self.clock is None else ("step",)), "update")

    @property
    def clock(self) -> int | None:
        counts = any(leaf.kind == "clock" for leaf in self.leaves)
        return sum(leaf.size for leaf in self.leaves) if counts else None

    def initial_state(self) -> Array:
        parameter = jnp.zeros(())
        return self._pack(self.transformation.init(parameter), parameter, parameter)

    def update(self, state: Array, gradient: Array) -> Array:
        return jnp.vectorize(self._step, signature="(h),()->(h)")(state, gradient)

    def readout(self, state: Array, gradient: Array) -> Array:
        del gradient
        return state[..., -1]

    def _pack(self, inner: Any, step: Array, change: Array) -> Float[Array, " hidden"]:
        parts = zip(self.leaves, jax.tree.leaves(inner), strict=True)
        kept = [value.ravel() for leaf, value in parts if leaf.kind == "vector"]
        rest = [change[None]] if self.clock is None else [step[None], change[None]]
        return jnp.concatenate([part.astype(step.dtype) for part in (*kept, *rest)])

    def _step(self, state: Float[Array, " hidden"], gradient: Float[Array, ""]) -> Float[Array, " hidden"]:
        parameter = jnp.zeros((), state.dtype)  # its value has no influence: `from_optax` made sure
        step = parameter if self.clock is None else state[self.clock]
        values, structure = jax.tree.flatten(self.transformation.init(parameter))
        ends = itertools.accumulate(leaf.size for leaf in self.leaves)
        for i, (leaf, end) in enumerate(zip(self.leaves, ends, strict=True)):
            if leaf.kind == "vector":
                values[i] = state[end - leaf.size : end].reshape(leaf.shape).astype(values[i].dtype)
            elif leaf.kind == "clock":
                values[i] = values[i] + step.astype(values[i].dtype)
        inner = jax.tree.unflatten(structure, values)
        change, inner = self.transformation.update(gradient.astype(state.dtype), inner, parameter)
        return self._pack(inner, step + 1, change)


def from_optax(transformation: optax.GradientTransformation) -> FromOptax:
    """An optax transformation as an optimizer of ours, which for each parameter equals optax's own.

    **Raises** `ReoptError` where it needs more than gradients, couples parameters, looks at their values or
    shapes, or keeps something that is neither floating-point nor a count of steps.
    """
    if not (hasattr(transformation, "init") and hasattr(transformation, "update")):
        raise ReoptError(f"{transformation!r} is no optax transformation: it lacks init and update")
    try:
        optimizer = FromOptax(transformation, _classify(transformation))
        _check(optimizer)
    except ReoptError:
        raise
    except Exception as error:  # whatever foreign code raises
        reason = (str(error).splitlines() or [""])[0]
        raise ReoptError(
            "this optax transformation cannot be run on parameters of any shape with their gradients alone: "
            f"{type(error).__name__}: {reason}"
        ) from error
    return optimizer


_STEPS = 4


def _classify(transformation: Any) -> tuple[_Leaf, ...]:
    """What each leaf of a lone parameter's state is."""
    parameter = jnp.zeros(())
    state = transformation.init(parameter)
    named, _ = jax.tree_util.tree_flatten_with_path(state)
    traced = jax.make_jaxpr(lambda g, s: transformation.update(g, s, parameter)[1])(parameter, state).jaxpr
    constant = [new is old for new, old in zip(traced.outvars, traced.invars[1:], strict=True)]
    counts = np.full(len(named), True)
    for t in range(1, _STEPS + 1):
        _, state = transformation.update(jnp.asarray(0.5 - 0.3 * t), state, parameter)
        for i, ((_, first), now) in enumerate(zip(named, jax.tree.leaves(state), strict=True)):
            counts[i] &= jnp.issubdtype(first.dtype, jnp.integer) and bool(jnp.all(now == first + t))
    leaves = []
    for i, (path, value) in enumerate(named):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        kind = "constant" if constant[i] else "clock" if counts[i] else "vector"
        if kind == "vector" and not jnp.issubdtype(value.dtype, jnp.floating):
            raise ReoptError(
                f"this optax transformation keeps {name!r} of type {value.dtype}, which counts no steps; "
                "only floating-point values and such counts can be the state of an optimizer here"
            )
        leaves.append(_Leaf(name, kind, value.shape))
    return tuple(leaves)


def _check(optimizer: FromOptax) -> None:
    """Run the transformation on a vector and a matrix: each element must do what a lone parameter does."""
    rng = np.random.default_rng(0)
    names = [f"vector[{i}]" for i in range(3)] + [f"matrix[{i}, {j}]" for i in range(2) for j in range(2)]

    def tree(flat: Array) -> dict[str, Array]:
        return {"vector": flat[:3], "matrix": flat[3:].reshape(2, 2)}

    @jax.jit
    def run(gradients: Array, params: Array) -> Array:
        transformation: Any = optimizer.transformation
        state, updates = transformation.init(tree(params[0])), []
        for gradient, at in zip(gradients, params, strict=True):
            update, state = transformation.update(tree(gradient), state, tree(at))
            updates.append(jnp.concatenate([update["vector"], update["matrix"].ravel()]))
        return jnp.stack(updates)

    # The parameters walk on their own, whatever the updates: only where they are looked at do they matter.
    params, gradients = rng.normal(size=(2, _STEPS, len(names))).astype(np.float32)
    base = run(gradients, params)
    for i, name in enumerate(names):
        changed = gradients.copy()
        changed[1:, i] *= -1e12  # above any threshold of a norm, and of the other sign
        differs = _differs(base, run(changed, params))
        differs[i] = False
        if differs.any():
            raise ReoptError(
                f"this optax transformation couples parameters: the gradient of {name} changes the update of "
                f"{names[differs.argmax()]}; an optimizer here sees the gradient of its own parameter only"
            )
    if _differs(base, run(gradients, 3 * params + 1)).any():
        raise ReoptError(
            "the updates of this optax transformation depend on the values of the parameters (weight decay); "
            "an optimizer here sees gradients only: set the decay to 0, or put the penalty into the loss"
        )
    start = optimizer.initial_states((len(names),)).astype(jnp.float32)
    _, alone = jax.lax.scan(lambda h, g: optimizer(h, g), start, jnp.asarray(gradients))
    differs = _differs(base, alone, rtol=1e-2)  # leaves in bfloat16 round differently from program to program
    if differs.any():
        raise ReoptError(
            f"this optax transformation treats {names[differs.argmax()]} otherwise than a lone scalar; "
            "an optimizer here acts on each parameter alone, whatever array it stands in"
        )


def _differs(one: Array, other: Array, rtol: float = 0.0) -> np.ndarray:
    """For each column, whether two arrays differ in it."""
    same = np.isclose(np.asarray(one), np.asarray(other), rtol=rtol, atol=0, equal_nan=True)
    return np.any(~same, axis=0)
