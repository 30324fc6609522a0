"""Whether an optax transformation takes steps as optax's own do, and if not, what it does and how to change that.

A step leads from a gradient, a state and parameters to a pair: an update of the gradient's form, and a state of the
form of the one before, both made of numbers, whatever these numbers are. This is seen by tracing one step.
"""

import inspect
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reopt.core.errors import shortened
from reopt.core.foreign import told
from reopt.optimizers.refusals import MORE, RANDOM, NotComponentWise

_OUTSIDE = "a state is made of numbers: keep what is none in the function that makes the transformation"
_GRADIENTS_ALONE = (
    "an optimizer here is given gradients alone: leave that part out, or fix what it asks for, as in "
    "optax.GradientTransformation(tx.init, functools.partial(tx.update, value=1.0))"
)
_IN_PYTHON = (
    "it looks at the numbers of an array in Python (by `if`, float() or numpy), which cannot be compiled: use "
    "jnp.where, jax.lax.cond and jax.numpy"
)
_LIKE = "its init must give a state like those that its update gives"
_ANY_ARRAY = "it must take a step on any array of parameters, from gradient, state and parameters alone, under jax.jit"


def refuse_odd_steps(transformation: Any) -> None:
    """**Raises** `NotComponentWise` where init or update is no function, a state holds what is no real number or
    changes its form or types with a step, or update gives no pair of updates and state.

    What is raised on the way by the transformation is left to whoever runs it, see `needs_more`.
    """
    for part in ("init", "update"):
        if not callable(found := getattr(transformation, part)):
            raise NotComponentWise(MORE, f"this optax transformation's {part} is a {_kind(found)}, not a function")
    params = jnp.zeros(3)
    try:
        state = transformation.init(params)
    except Exception:  # it takes no vector: which the next one tells of
        return
    _refuse_kept(state)

    def step(gradient: Any, state: Any, params: Any) -> Any:
        update, state = _as_pair(transformation.update(gradient, state, params))
        form: Any = jax.tree.structure(update)
        if form != jax.tree.structure(gradient):
            words = shortened(_structure(form))
            raise NotComponentWise(MORE, f"this optax transformation gives {words} (* an array) to update one array")
        return update, state

    try:
        update, after = jax.eval_shape(step, params, state, params)
    except NotComponentWise:
        raise
    except Exception:
        return
    for leaf in jax.tree.leaves(update):
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            raise NotComponentWise(MORE, f"this optax transformation gives complex updates ({leaf.dtype})")
    _refuse_changed(state, after)


def _as_pair(given: Any) -> tuple[Any, Any]:
    """(updates, state) of an update. **Raises** `NotComponentWise` where it gives anything else."""
    if not (isinstance(given, tuple | list) and len(given) == 2):
        count = f" of {len(given)}" if isinstance(given, tuple | list) else ""
        raise NotComponentWise(
            MORE,
            f"this optax transformation's update gives a {_kind(given)}{count}, not a pair: it must return "
            "(updates, state)",
        )
    for _, leaf in _named(given[0]):
        if not _is_number(leaf):
            raise NotComponentWise(
                MORE, f"this optax transformation gives a {_kind(leaf)} for an update: it must give arrays of numbers"
            )
    _refuse_kept(given[1])
    return given[0], given[1]


def _refuse_changed(before: Any, after: Any) -> None:
    """**Raises** `NotComponentWise` where a step changes the structure, shapes or types of a state."""
    one: Any = jax.tree.structure(before)
    other: Any = jax.tree.structure(after)
    if one != other:
        raise NotComponentWise(
            MORE,
            "this optax transformation changes the structure of its state with a step, from "
            f"{shortened(_structure(one))} to {shortened(_structure(other))} (* an array): {_LIKE}",
        )
    for (name, old), (_, new) in zip(_named(before), _named(after), strict=True):
        old, new = (jax.eval_shape(jnp.asarray, value) for value in (old, new))
        for what, was, becomes in (("shape", old.shape, new.shape), ("type", old.dtype, new.dtype)):
            if was != becomes:
                raise NotComponentWise(
                    MORE,
                    f"this optax transformation changes the {what} of its state ({name or 'the whole of it'}) with a "
                    f"step, from {was} to {becomes}: {_LIKE}",
                )


def _structure(tree: Any) -> str:
    return str(tree).removeprefix("PyTreeDef(").removesuffix(")")


def named_leaves(state: Any) -> tuple[list[tuple[Any, Any]], list[str]]:
    """The leaves of a state with their paths, and the paths as words."""
    named, _ = jax.tree_util.tree_flatten_with_path(state)
    return named, [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in named]


def _named(tree: Any) -> list[tuple[str, Any]]:
    named, names = named_leaves(tree)
    return [(name, value) for name, (_, value) in zip(names, named, strict=True)]


def _kind(value: Any) -> str:
    kind = getattr(value, "dtype", None)
    name = "array" if isinstance(value, jax.Array) else type(value).__name__
    return name if kind is None else f"{name} of {kind}"


def _is_number(value: Any) -> bool:
    """Whether a leaf is made of numbers, as jax has them."""
    kind = getattr(value, "dtype", None)
    if kind is None:
        return isinstance(value, bool | int | float | complex)
    return jnp.issubdtype(kind, jnp.number) or kind == jnp.bool_


def _refuse_kept(state: Any) -> None:
    """**Raises** `NotComponentWise` where a leaf of a state is a random key, or not made of real numbers."""
    for name, value in _named(state):
        kind = getattr(value, "dtype", None)
        raw = kind == jnp.uint32 and np.shape(value)[-1:] == (2,)
        if raw or (kind is not None and jnp.issubdtype(kind, jax.dtypes.prng_key)):
            raise NotComponentWise(
                RANDOM,
                f"this optax transformation draws random numbers: it keeps the random key {name!r}; an optimizer here "
                "is a function of its state and gradient",
            )
        if not _is_number(value):
            raise NotComponentWise(
                MORE,
                f"this optax transformation keeps a {_kind(value)} in its state ({name or 'the whole of it'}): "
                f"{_OUTSIDE}",
            )
        if jnp.iscomplexobj(value):
            raise NotComponentWise(
                MORE,
                f"this optax transformation keeps complex numbers in its state ({name or kind}, {kind}): real ones do",
            )


def needs_more(transformation: Any, error: Exception, words: list[str]) -> NotComponentWise:
    """What to say of an error that a transformation raised; `words` are those in its code, which may name arguments."""
    asked = re.search(r"missing \d+ required (?:keyword-only|positional) arguments?: (.*)", str(error))
    names = re.findall(r"'(\w+)'", asked[1]) if asked else _extra_arguments(transformation, words)
    if names:
        return NotComponentWise(
            MORE, f"this optax transformation {MORE}: its update asks for {', '.join(names)}; {_GRADIENTS_ALONE}"
        )
    if isinstance(error, jax.errors.ConcretizationTypeError | jax.errors.TracerArrayConversionError):
        return NotComponentWise(MORE, f"this optax transformation cannot be run: {_IN_PYTHON}")
    said = re.sub(r"\w*Tracer\b", "array", told(error))
    return NotComponentWise(MORE, f"this optax transformation cannot be run: {said}; {_ANY_ARRAY}")


def _extra_arguments(transformation: Any, words: list[str]) -> list[str]:
    """Which of `words` an update takes as further arguments and cannot do without; none where it is not that."""
    try:
        taken = inspect.signature(transformation.update).parameters.values()
    except (TypeError, ValueError):
        return []
    if not any(one.kind is one.VAR_KEYWORD for one in taken):
        return []
    own = {one.name for one in taken}
    given = {word: jnp.ones(()) for word in words if word.isidentifier() and word not in own}

    def works(extra: dict[str, Any]) -> bool:
        at = jnp.ones(3)
        try:
            jax.eval_shape(lambda g: transformation.update(g, transformation.init(at), at, **extra)[0], at)
        except Exception:  # so not with these
            return False
        return True

    if works({}) or not works(given):
        return []
    return [name for name in given if not works({key: value for key, value in given.items() if key != name})]
