"""Where two optimizers part first: step, gradient, parameter value, both states, and both updates.

The last word of a comparison in which no reading differs: from here on it can be followed by hand.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from reopt.dynamics.precision import double_precision
from reopt.examination.trajectories import Componentwise, Driven, Transformation, next_state, start_of
from reopt.optimizers.learned import cast

MOST_NUMBERS = 6  # of a state in a sentence


def first_difference(a: Transformation, b: Transformation, found: list[Driven], tolerance: float) -> str:
    """A sentence on the earliest update that differs by more than `tolerance`, in whichever sequence it is."""
    steps = [_first(one, tolerance) for one in found]
    one = found[int(np.argmin(steps))]
    step = min(steps)
    sequence, param = np.argwhere(one.difference[step] > tolerance)[0]
    drive = one.drive
    gradient, value = (float(part[step, sequence, param]) for part in (drive.gradients, drive.params))
    states = [
        _state(subject, drive.gradients[:step, sequence], drive.params[: step + 1, sequence], int(param))
        for subject in (a, b)
    ]
    updates = [float(side[step, sequence, param]) for side in (one.a, one.b)]
    return (
        f"first of all they differ at step {step} of {drive.family[sequence]} (sequence {sequence}, parameter {param}),"
        f" at gradient {gradient:.6g} and parameter value {value:.6g}: A's update is {updates[0]:.12g} from the state "
        f"{states[0]}, B's {updates[1]:.12g} from {states[1]}; "
        f"relative difference {one.difference[step, sequence, param]:.3g}"
    )


def _first(one: Driven, tolerance: float) -> int:
    """The first step at which some sequence differs; beyond the last where none does."""
    beyond = np.asarray(one.difference > tolerance).any(axis=(1, 2))
    return int(np.argmax(beyond)) if beyond.any() else np.iinfo(int).max


def _state(
    transformation: Transformation,
    gradients: Float[np.ndarray, "step param"],
    params: Float[np.ndarray, "step_and_one param"],
    param: int,
) -> str:
    """The state after these gradients, as far as it is of one parameter or of all, in words."""
    with double_precision():
        system: Any = cast(transformation, jnp.dtype("float64"))
        state = start_of(system, jnp.asarray(params[0]))
        step = jax.jit(lambda state, gradient, at: next_state(system, state, gradient, at)[0])
        for gradient, at in zip(gradients, params, strict=False):
            state = step(state, jnp.asarray(gradient), jnp.asarray(at))
        return _words(transformation, state, param, params.shape[1])


def _words(transformation: Transformation, state: Any, param: int, count: int) -> str:
    if isinstance(transformation, Componentwise):
        numbers = list(zip(transformation.optimizer.state_names, np.asarray(state)[param], strict=True))
    else:
        named, _ = jax.tree_util.tree_flatten_with_path(state)
        numbers = [
            (jax.tree_util.keystr(path, simple=True, separator="."), number)
            for path, leaf in named
            for number in _own(leaf, param, count)
        ]
    shown = ", ".join(f"{name or 'state'} {float(number):.6g}" for name, number in numbers[:MOST_NUMBERS])
    more = f" and {len(numbers) - MOST_NUMBERS} more" if len(numbers) > MOST_NUMBERS else ""
    return f"({shown}{more})" if numbers else "(none)"


def _own(leaf: Array, param: int, count: int) -> np.ndarray:
    """What of a leaf belongs to one of the parameters; all of it, where it is not laid out as they are."""
    values = np.asarray(leaf)
    return np.ravel(values[param] if values.ndim and len(values) == count else values)
