"""Optimizers that see more than their own gradient: component-wise, given a context.

What a parameter is told of the rest of its problem (averages over its array, losses, time, messages) is computed first,

    c, s' = sense(s, h, inputs)                    inputs: gradients, parameters, losses, step, number of steps
    h' = F(h, g; c),   dx = r(h', g; c)            of each parameter alone, as ever

and with the context held, `Joint.one(context)` is an `Optimizer` like any other: its arrays of context lead with the
axes of the parameters, and the slice of one parameter is what every analysis of one parameter takes. Parameters couple
through three averages alone, over their array, row and column.
"""

import itertools
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from reopt.core.errors import ReoptError
from reopt.optimizers.base import Optimizer
from reopt.tasks.base import Task

VALIDATED = 5  # steps from one look at held-out data to the next


class Layout(eqx.Module):
    """How a flat vector of parameters is cut into arrays of these shapes."""

    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)

    @property
    def bounds(self) -> np.ndarray:
        """Where each array begins, and the end."""
        return np.concatenate([[0], np.cumsum([int(np.prod(shape)) for shape in self.shapes])])

    @property
    def sizes(self) -> np.ndarray:
        """How many parameters each array has."""
        return np.diff(self.bounds)

    def per_array(self, values: Float[Array, "*problem param"]) -> Float[Array, "*problem array"]:
        """The mean over each array."""
        ends = self.bounds
        parts = [values[..., a:b].mean(axis=-1) for a, b in itertools.pairwise(ends)]
        return jnp.stack(parts, axis=-1)

    def spread(self, values: Float[Array, "*problem array"]) -> Float[Array, "*problem param"]:
        """A value an array, at each of its parameters."""
        return jnp.repeat(values, self.sizes, axis=-1, total_repeat_length=int(self.bounds[-1]))

    def array_mean(self, values: Float[Array, "*problem param"]) -> Float[Array, "*problem param"]:
        """The mean over the array that a parameter stands in."""
        return self.spread(self.per_array(values))

    def row_mean(self, values: Float[Array, "*problem param"]) -> Float[Array, "*problem param"]:
        """The mean over its row: along the largest axis but one; a vector's is its own value."""
        return self._along(values, 0)

    def column_mean(self, values: Float[Array, "*problem param"]) -> Float[Array, "*problem param"]:
        """The mean over its column: along the largest axis; a vector's is its own value."""
        return self._along(values, 1)

    def matrix_mean(self, values: Float[Array, "*problem param"]) -> Float[Array, "*problem param"]:
        """The mean over row and column: of a kernel that over its two largest axes, at each place of the others."""
        return self._along(self._along(values, 0), 1)

    def row_size(self) -> Int[np.ndarray, " param"]:
        """Over how many parameters the row mean of each goes."""
        return self._counts(0)

    def column_size(self) -> Int[np.ndarray, " param"]:
        """Over how many parameters the column mean of each goes."""
        return self._counts(1)

    def _axes(self, shape: tuple[int, ...]) -> tuple[int, int] | None:
        """The two largest axes, the smaller of them first; None of a vector."""
        if len(shape) < 2:
            return None
        order = sorted(range(len(shape)), key=lambda axis: (shape[axis], axis))
        return order[-2], order[-1]

    def _along(self, values: Array, which: int) -> Array:
        ends, parts = self.bounds, []
        for shape, a, b in zip(self.shapes, ends[:-1], ends[1:], strict=True):
            part, axes = values[..., a:b], self._axes(shape)
            if axes is not None:
                whole = part.reshape(*part.shape[:-1], *shape)
                axis = axes[which] - len(shape)
                part = jnp.broadcast_to(whole.mean(axis=axis, keepdims=True), whole.shape).reshape(part.shape)
            parts.append(part)
        return jnp.concatenate(parts, axis=-1)

    def _counts(self, which: int) -> np.ndarray:
        axes = [self._axes(shape) for shape in self.shapes]
        counts = [1 if pair is None else shape[pair[which]] for shape, pair in zip(self.shapes, axes, strict=True)]
        return np.repeat(counts, self.sizes)


def layout_of(task: Task) -> Layout:
    """The arrays of a task's network; of a task without `shapes` one vector."""
    shapes = getattr(task, "shapes", None)
    found = Layout(tuple(tuple(shape) for shape in shapes) if shapes is not None else ((task.num_params,),))
    if found.bounds[-1] != task.num_params:
        raise ReoptError(f"the task's shapes hold {found.bounds[-1]} numbers, but it has {task.num_params} parameters")
    return found


class Inputs(NamedTuple):
    """What a step is given of every problem; `validation`, a loss on held-out data, is NaN where none was looked at."""

    gradient: Float[Array, "problem param"]
    param: Float[Array, "problem param"]
    loss: Float[Array, " problem"]
    step: Int[Array, ""]
    num_steps: Int[Array, ""] | int
    validation: Float[Array, " problem"] | None = None


class State(NamedTuple):
    """`own` is a parameter's, `shared` a pytree with a leading axis of problems."""

    own: Float[Array, "problem param hidden"]
    shared: Any


class Joint(eqx.Module):
    """An optimizer whose parameters are told of each other; `sense` and `one` say what, and what each does with it."""

    sees_validation: ClassVar[bool] = False

    @abstractmethod
    def start(self, layout: Layout, params: Float[Array, "problem param"]) -> State:
        """The state before the first gradient."""

    @abstractmethod
    def sense(self, layout: Layout, state: State, inputs: Inputs) -> tuple[Any, Any]:
        """(context, shared'): arrays of context lead with `(problem, param)`."""

    @abstractmethod
    def one(self, context: Any) -> Optimizer:
        """The component-wise optimizer that this context makes; of `context[problem, param]` the slice of one."""

    def step(self, layout: Layout, state: State, inputs: Inputs) -> tuple[State, Float[Array, "problem param"], Any]:
        """(state', updates, context) of all parameters."""
        context, shared = self.sense(layout, state, inputs)
        own, updates = self.one(context)(state.own, inputs.gradient)
        return State(own, shared), updates, context


class Alone(Joint):
    """A component-wise optimizer among the others: nothing is sensed, and nothing told."""

    optimizer: Optimizer

    def start(self, layout: Layout, params: Array) -> State:
        del layout
        return State(self.optimizer.initial_states(params.shape).astype(params.dtype), ())

    def sense(self, layout: Layout, state: State, inputs: Inputs) -> tuple[Any, Any]:
        del layout, state, inputs
        return (), ()

    def one(self, context: Any) -> Optimizer:
        del context
        return self.optimizer


class JointRun(NamedTuple):
    """An unrolled optimization by a `Joint`; contexts and states are those of each step, where they are kept."""

    losses: Float[Array, "step problem"]
    final_params: Float[Array, "problem param"]
    params: Float[Array, "step problem param"] | None
    gradients: Float[Array, "step problem param"] | None
    updates: Float[Array, "step problem param"] | None
    states: State | None
    contexts: Any


def run_joint(
    joint: Joint,
    layout: Layout,
    params: Float[Array, "problem param"],
    losses_and_gradients: Callable[[Array, Array], tuple[Array, Array]],
    num_steps: int,
    *,
    keep: bool = False,
    horizon: Int[Array, ""] | int | None = None,
    validate: Callable[[Array], Array] | None = None,
) -> JointRun:
    """Run a `Joint` for `num_steps` steps; `losses_and_gradients(params, step)` is of all problems.

    **Arguments:** `keep` keeps what each step met; `horizon` is the number of steps that the optimizer is told;
    `validate` gives losses on held-out data, which it is told every `VALIDATED` steps.
    """
    told = num_steps if horizon is None else horizon

    def body(carry: Any, step: Array) -> tuple[Any, Any]:
        params, state = carry
        losses, gradients = losses_and_gradients(params, step)
        held_out = None
        if validate is not None:
            nothing = jnp.full_like(losses, jnp.nan)
            held_out = jax.lax.cond(step % VALIDATED == 0, validate, lambda _: nothing, params)
        given = Inputs(gradients, params, losses, step, told, held_out)
        after, updates, context = joint.step(layout, state, given)
        kept = (params, gradients, updates, state, context) if keep else None
        return (params + updates, after), (losses, kept)

    # For a derivative through the run a step is computed again: on CPUs that is faster than to store what it made.
    again = jax.checkpoint(body, prevent_cse=False)
    (final, _), (losses, kept) = jax.lax.scan(again, (params, joint.start(layout, params)), jnp.arange(num_steps))
    return JointRun(losses, final, *(kept if keep else (None,) * 5))


def slice_of(tree: Any, at: tuple[int | Array, ...]) -> Any:
    """The part of each array of a context at a place, such as (step, problem, param)."""
    return jax.tree.map(lambda leaf: leaf[at], tree)
