"""The slice of one parameter, exactly: what the rest of its problem feels of it is computed again, not held.

`Joint.one` of a context holds what the others contribute to the averages over row, column and array. That is exact
where a parameter's gradient reaches its update through itself and these averages alone: of STAR and VeLO, in a vector.
Of a matrix the others' features feel it through row and column, and in the hierarchical optimizer what the LSTM says
does. Here each gradient is sensed again in the place of the one that was met, in the state and with the gradients of
the others that were met, and so is a value of the parameter.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from reopt.core.errors import ReoptError
from reopt.optimizers.base import Optimizer
from reopt.optimizers.joint import VALIDATED, Inputs, Joint, JointRun, Layout, State, slice_of


class Met(NamedTuple):
    """What every problem of a run met at a step: the state before it, and what the step was given."""

    state: State
    inputs: Inputs


def met(run: JointRun, step: int, num_steps: int, validate: Callable[[Array], Array] | None = None) -> Met:
    """What a run that was kept met at a step.

    **Arguments:** `num_steps` is what the optimizer was told; `validate` that of `run_joint`, where it was given one.

    **Raises** `ReoptError` where the run was not kept, or has no such step.
    """
    if run.params is None or run.gradients is None or run.states is None:
        raise ReoptError("the run was not kept: run_joint(..., keep=True)")
    if not 0 <= step < len(run.losses):
        raise ReoptError(f"the run has steps 0 to {len(run.losses) - 1}, and no step {step}")
    params, losses = run.params[step], run.losses[step]
    held_out = None
    if validate is not None:
        held_out = validate(params) if step % VALIDATED == 0 else jnp.full_like(losses, jnp.nan)
    inputs = Inputs(run.gradients[step], params, losses, jnp.asarray(step), jnp.asarray(num_steps), held_out)
    return Met(jax.tree.map(lambda leaf: leaf[step], run.states), inputs)


class ExactSlice(Optimizer):
    """A parameter of a problem; `state` and `inputs` are of that problem alone, with a leading axis of 1.

    `value` is the parameter's own, which an analysis may move (`reopt.systems.closed_loop`).
    """

    joint: Joint
    state: State
    inputs: Inputs
    param: Int[Array, ""]
    value: Float[Array, ""]
    layout: Layout = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)
    counts: int | None = eqx.field(static=True)

    @property
    def state_names(self) -> tuple[str, ...]:
        return self.names

    @property
    def clock(self) -> int | None:
        return self.counts

    def initial_state(self) -> Array:
        return self.joint.start(self.layout, self.inputs.param).own[0, self.param]

    def held(self, gradient: Float[Array, ""]) -> Optimizer:
        """The slice with a held context: that of this gradient."""
        given = self.inputs._replace(
            gradient=self.inputs.gradient.at[0, self.param].set(gradient),
            param=self.inputs.param.at[0, self.param].set(self.value),
        )
        context, _ = self.joint.sense(self.layout, self.state, given)
        return self.joint.one(jax.tree.map(lambda leaf: leaf[0, self.param], context))

    def update(self, state: Array, gradient: Array) -> Array:
        return self._each(lambda h, g: self.held(g).update(h, g), state, gradient)

    def readout(self, state: Array, gradient: Array) -> Array:
        return self._each(lambda h, g: self.held(g).readout(h, g), state, gradient)

    def _each(self, function: Callable[[Array, Array], Array], state: Array, gradient: Array) -> Array:
        """Of every place on the leading axes, each a copy of this parameter."""
        shape = jnp.broadcast_shapes(state.shape[:-1], gradient.shape)
        if not shape:
            return function(state, gradient)
        states = jnp.broadcast_to(state, (*shape, state.shape[-1])).reshape(-1, state.shape[-1])
        found = jax.vmap(function)(states, jnp.broadcast_to(gradient, shape).reshape(-1))
        return found.reshape(*shape, *found.shape[1:])


def exact_slice(joint: Joint, layout: Layout, at: Met, problem: int, param: int) -> ExactSlice:
    """The slice of a parameter at what was met.

    **Raises** `ReoptError` where there is no such problem or parameter.

        kept = run_joint(joint, layout, params, losses_and_gradients, 50, keep=True)
        one = exact_slice(joint, layout, met(kept, 20, 50), problem=0, param=3)
        state, update = one(kept.states.own[20, 0, 3], kept.gradients[20, 0, 3])
    """
    problems, params = at.inputs.gradient.shape
    if not (0 <= problem < problems and 0 <= param < params):
        raise ReoptError(f"there are {problems} problems of {params} parameters, and none at ({problem}, {param})")
    state = jax.tree.map(lambda leaf: leaf[problem : problem + 1], at.state)
    lone: dict[str, Any] = {
        name: None if value is None else value[problem : problem + 1]
        for name, value in at.inputs._asdict().items()
        if name not in ("step", "num_steps")
    }
    inputs = at.inputs._replace(**lone)
    # Only traced: the names follow from shapes.
    one = eqx.filter_eval_shape(lambda: joint.one(slice_of(joint.sense(layout, state, inputs)[0], (0, 0))))
    value = jnp.asarray(inputs.param[0, param])
    return ExactSlice(joint, state, inputs, jnp.asarray(param), value, layout, one.state_names, one.clock)


def left_out(joint: Joint, layout: Layout, at: Met, problem: int, param: int) -> tuple[float, float]:
    """(d update / d gradient of the slice whose context is held, that of the run), of one parameter.

    The gradient acts on the update at once, and through the state after the step. **Raises** as `exact_slice`.
    """
    exact = exact_slice(joint, layout, at, problem, param)
    held, whole = _slopes(exact, at.state.own[problem, param], at.inputs.gradient[problem, param])
    return float(held), float(whole)


@eqx.filter_jit
def _slopes(exact: ExactSlice, state: Array, gradient: Array) -> list[Array]:
    both = (exact.held(gradient), exact)
    return [jax.jacfwd(lambda g, one=one: one(state, g)[1])(gradient) for one in both]
