"""Whether what says that it is an optimizer of ours is one: a real function of its own state and gradient alone."""

import re
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from reopt.core.errors import ReoptError
from reopt.optimizers.base import Optimizer

_SHAPE = (2, 3)
_STEPS = 24
_SHOCK = -1e12  # above any threshold of a norm, and of the other sign
_LARGEST_STATE = 100_000
CALLBACK = re.compile(r"\b(?:pure_callback|io_callback|debug_callback|debug_print|python_callback)\b")


def refuse_unsound(optimizer: Optimizer, words: str) -> None:
    """Run `optimizer`, called `words`, on six parameters. What its own code raises is passed on.

    **Raises** `ReoptError` where a state or an update has another shape or type than it must, Python is called back
    while it runs, a second run gives other updates, or one parameter's gradient changes another's update.
    """
    _refuse_misshapen(optimizer, words)
    program = _program(optimizer)
    if found := CALLBACK.search(program):
        raise ReoptError(
            f"{words} calls back into Python at every step ({found[0]}): it can neither be differentiated nor be "
            "trusted to do the same again"
        )
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(_STEPS, *_SHAPE)).astype(np.float32)
    first = _updates(optimizer, gradients)
    if program != _program(optimizer) or not np.array_equal(first, _updates(optimizer, gradients), equal_nan=True):
        raise ReoptError(
            f"{words} draws random numbers, or keeps something between runs: the same gradients give other updates "
            "when it is run again; an optimizer is a function of its state and gradient"
        )
    for at in np.ndindex(_SHAPE):
        changed = gradients.copy()
        changed[(slice(1, None), *at)] *= _SHOCK
        others = ~np.isclose(first, _updates(optimizer, changed), rtol=0, atol=0, equal_nan=True).all(axis=0)
        others[at] = False
        if others.any():
            raise ReoptError(
                f"{words} couples parameters: the gradient of parameter {list(at)} changes the update of parameter "
                f"{np.argwhere(others)[0].tolist()}; an optimizer sees the gradient of its own parameter only"
            )
    alone = np.stack([_updates(optimizer, gradients[:, *at]) for at in np.ndindex(_SHAPE)], axis=1).reshape(first.shape)
    scale = np.max(np.abs(first), initial=0.0, where=np.isfinite(first))
    if not np.allclose(alone, first, rtol=1e-2, atol=1e-4 * scale, equal_nan=True):
        raise ReoptError(
            f"{words} treats a parameter in an array otherwise than a lone one: an optimizer acts on each parameter "
            "alone, whatever array it stands in"
        )


def _refuse_misshapen(optimizer: Optimizer, words: str) -> None:
    """The names, shapes and types of states and updates, in float32 and float64."""
    names = optimizer.state_names
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
        raise ReoptError(f"{words}: its state_names are no texts")
    if len(names) > _LARGEST_STATE:
        raise ReoptError(f"{words} keeps {len(names)} numbers a parameter, more than {_LARGEST_STATE}")
    clock = optimizer.clock
    if clock is not None and clock not in range(len(names)):
        raise ReoptError(f"{words}: its clock is {clock!r}, but must be an index into its {len(names)} state_names")
    start: Any = optimizer.initial_state()
    if np.shape(start) != (len(names),):
        raise ReoptError(
            f"{words}: its initial state has shape {np.shape(start)}, but it names {len(names)} components"
        )
    kind = jnp.asarray(start).dtype
    if kind.kind not in "fiub" and not jnp.issubdtype(kind, jnp.floating):
        raise ReoptError(f"{words}: its initial state is of type {kind}, but must be of real numbers")
    for double in (False, True):
        with jax.enable_x64(double):
            wanted = jnp.dtype("float64" if double else "float32")
            gradient = jax.ShapeDtypeStruct(_SHAPE, wanted)
            state = jax.ShapeDtypeStruct((*_SHAPE, len(names)), wanted)
            found = jax.eval_shape(lambda h, g: optimizer(h, g), state, gradient)
        for what, one, like in (("a state", found[0], state), ("an update", found[1], gradient)):
            if getattr(one, "shape", None) != like.shape:
                raise ReoptError(f"{words} gives {what} of shape {np.shape(one)} for one of {like.shape}")
            if one.dtype != wanted:
                raise ReoptError(f"{words} gives {what} of dtype {one.dtype} where it is given {wanted}")


def _program(optimizer: Optimizer) -> str:
    """The program of one step, with its constants, without addresses."""
    gradient = jnp.zeros(_SHAPE, jnp.float32)
    state = optimizer.initial_states(_SHAPE).astype(jnp.float32)
    closed = jax.make_jaxpr(lambda h, g: optimizer(h, g))(state, gradient)
    constants = [np.asarray(value).tolist() for value in closed.consts if np.size(value) <= 100]
    return re.sub(r"0x[0-9a-f]+", "", f"{closed.jaxpr} {constants}")


@eqx.filter_jit
def _run(optimizer: Optimizer, gradients: Array) -> Array:
    start = optimizer.initial_states(gradients.shape[1:]).astype(gradients.dtype)
    return jax.lax.scan(lambda h, g: optimizer(h, g), start, gradients)[1]


def _updates(optimizer: Optimizer, gradients: Float[np.ndarray, "step ..."]) -> Float[np.ndarray, "step ..."]:
    return np.asarray(_run(optimizer, jnp.asarray(gradients)))
