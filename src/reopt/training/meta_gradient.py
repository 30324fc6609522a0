"""The meta-gradient: the derivative of the meta-objective through a whole unroll, by a reverse pass of its own.

The unroll is h' = cell(h, features(g)), x' = x + s (w^T h' + b), with g the gradient of the loss at x. Its exact
reverse pass runs backwards over the steps; at each one

    dh'  += s dx' w                          readout
    dh, dfeatures, deltas = cell.backward    no weight gradient yet
    dg    = dfeatures through the features
    dx    = dx' + H(x) dg + g / (T B f(x_0))     H: the inner problem's Hessian, exact second-order terms

What makes it fast:

- The weight gradients are sums over steps of outer products of what went in with `deltas`; they wait until a segment
  of steps is done and are then one large matmul, which is where plain autodiff through `lax.scan` loses its time.
- Gates are kept, not recomputed, and written once, into buffers that all chunks share. A chunk of problems is taken
  through forward and reverse pass before the next one starts, so that the memory is that of one chunk, and its
  weights and activations stay in the caches.
- Where that is still too much, the steps are cut into blocks: only the state at the start of a block is kept, and a
  block is run forward again before it is run backwards; the last one need not be.
- Devices take a share of the problems each; on a CPU a device a core, for two cores that work on problems of their
  own do not wait for each other in every matmul.
- Recurrent weights are parted and transposed once, not in each step.

Chunks, blocks, segments and devices change the result by rounding alone.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from reopt.core.errors import ReoptError
from reopt.evaluation.unroll import batch_value_and_grad, start
from reopt.optimizers.learned import LearnedOptimizer
from reopt.tasks.base import Problem, Task
from reopt.training.chunking import WHOLE, Plan, over_devices
from reopt.training.cotangent_clipping import CotangentClipping, clip_cotangent


class _Buffers(NamedTuple):
    """What a block keeps; one row more of states than of steps."""

    state: Float[Array, "step_and_one row hidden"]
    saved: Any  # of the cell, stacked over steps


Workspace = Any  # buffers, with a leading axis of devices


class _Path(NamedTuple):
    """Where the problems of a block have been."""

    losses: Float[Array, "step problem"]
    params: Float[Array, "step problem param"]
    gradients: Float[Array, "step problem param"]


class _Cotangent(NamedTuple):
    params: Float[Array, "problem param"]
    state: Float[Array, "row hidden"]


def meta_value_and_grad(
    optimizer: LearnedOptimizer,
    task: Task,
    problems: Problem,
    *,
    num_steps: int,
    cotangent_clipping: CotangentClipping | None = None,
    plan: Plan = WHOLE,
    devices: Sequence[jax.Device] = (),
) -> tuple[Float[Array, " problem"], LearnedOptimizer]:
    """Meta-objective of each problem, and the gradient of their mean with respect to the optimizer.

    **Arguments:** `cotangent_clipping` is None for the exact gradient. `devices` take an equal share of the problems
    each, of which `plan` speaks; none: all are where the caller is.

    **Raises** `ReoptError` where the problems cannot be cut as `plan`, `cotangent_clipping` and `devices` say.
    """
    size: Any = {"num_steps": num_steps, "plan": plan, "devices": devices}
    workspace = make_workspace(optimizer, task, problems, **size)
    return meta_gradient_in(workspace, optimizer, task, problems, cotangent_clipping=cotangent_clipping, **size)[:2]


def make_workspace(
    optimizer: LearnedOptimizer,
    task: Task,
    problems: Problem,
    *,
    num_steps: int,
    plan: Plan = WHOLE,
    devices: Sequence[jax.Device] = (),
) -> Workspace:
    """Room for what a meta-gradient keeps, to be used again and again; `problems` may be shapes alone.

    **Raises** `ReoptError` where the problems cannot be cut as `plan` and `devices` say.
    """
    parts = _parts(problems, plan, devices)
    length = -(-num_steps // plan.blocks)

    def kept(optimizer: LearnedOptimizer, problems: Problem) -> _Buffers:
        count = jax.tree.leaves(problems)[0].shape[0] // parts
        params, state = start(optimizer, task, jax.tree.map(lambda a: a[:count], problems))
        state = state.reshape(-1, state.shape[-1])
        saved = optimizer.cell.forward(state, optimizer.featurize(params.ravel()))[1]
        shape = (max(1, len(devices)),)
        return _Buffers(
            jnp.zeros((*shape, length + 1, *state.shape), state.dtype),
            jax.tree.map(lambda a: jnp.zeros((*shape, length, *a.shape), a.dtype), saved),
        )

    return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(kept, optimizer, problems))


def meta_gradient_in(
    workspace: Workspace,
    optimizer: LearnedOptimizer,
    task: Task,
    problems: Problem,
    *,
    num_steps: int,
    cotangent_clipping: CotangentClipping | None = None,
    plan: Plan = WHOLE,
    devices: Sequence[jax.Device] = (),
) -> tuple[Float[Array, " problem"], LearnedOptimizer, Workspace]:
    """As `meta_value_and_grad`, in a workspace made for the same sizes, which comes back for the next one.

    In a loop over outer steps this saves filling it with zeros each time.
    """
    count = jax.tree.leaves(problems)[0].shape[0]
    chunk = count // _parts(problems, plan, devices)
    if cotangent_clipping is not None and chunk % (cotangent_clipping.group or count):
        group = cotangent_clipping.group or count
        raise ReoptError(f"chunks of {chunk} problems would part groups of {group}: see `CotangentClipping`")

    def share(workspace: Workspace, optimizer: LearnedOptimizer, problems: Problem) -> Any:
        buffers = jax.tree.map(lambda a: a[0], workspace)
        objectives, gradient, buffers = _share(optimizer, task, problems, num_steps, cotangent_clipping, plan, buffers)
        if len(devices) > 1:
            gradient = jax.lax.pmean(gradient, "device")
        return objectives, gradient, jax.tree.map(lambda a: a[None], buffers)

    if len(devices) < 2:
        return share(workspace, optimizer, problems)
    mapped = over_devices(share, devices, (True, False, True), (True, False, True))
    return mapped(workspace, optimizer, problems)


def _parts(problems: Problem, plan: Plan, devices: Sequence[jax.Device]) -> int:
    """Into how many chunks the problems are cut, over all devices."""
    count = jax.tree.leaves(problems)[0].shape[0]
    parts = plan.chunks * max(1, len(devices))
    if count % parts:
        raise ReoptError(f"{count} problems cannot be cut into {parts} chunks of one size")
    return parts


def _share(
    optimizer: LearnedOptimizer,
    task: Task,
    problems: Problem,
    num_steps: int,
    cotangent_clipping: CotangentClipping | None,
    plan: Plan,
    buffers: _Buffers,
) -> tuple[Array, LearnedOptimizer, _Buffers]:
    """Objectives and gradient of one device's problems, chunk by chunk, and the buffers."""
    if plan.chunks == 1:
        return _chunk(optimizer, task, problems, num_steps, cotangent_clipping, plan, buffers)

    def add(carry: Any, chunk: Problem) -> Any:
        total, buffers = carry
        objectives, gradient, buffers = _chunk(optimizer, task, chunk, num_steps, cotangent_clipping, plan, buffers)
        return (jax.tree.map(lambda t, g: t + g / plan.chunks, total, gradient), buffers), objectives

    chunks = jax.tree.map(lambda a: a.reshape(plan.chunks, -1, *a.shape[1:]), problems)
    zeros = jax.tree.map(jnp.zeros_like, optimizer)
    (gradient, buffers), objectives = jax.lax.scan(add, (zeros, buffers), chunks)
    return objectives.ravel(), gradient, buffers


def _chunk(
    optimizer: LearnedOptimizer,
    task: Task,
    problems: Problem,
    num_steps: int,
    cotangent_clipping: CotangentClipping | None,
    plan: Plan,
    buffers: _Buffers,
) -> tuple[Float[Array, " problem"], LearnedOptimizer, _Buffers]:
    """Objectives and gradient of one chunk, and the buffers for the next."""
    cell, scale, readout = optimizer.cell, optimizer.output_scale, optimizer.readout_weight
    units = cell.units
    layout = jax.lax.optimization_barrier(cell.layout())  # which the compiler must not fold back
    params, state = start(optimizer, task, problems)
    batch, state = params.shape[0], state.reshape(-1, state.shape[-1])
    length = -(-num_steps // plan.blocks)
    earlier = -(-num_steps // length) - 1  # blocks before the last
    tail = num_steps - earlier * length

    def move(params: Array, state: Array, step: Array) -> tuple:
        losses, gradients = batch_value_and_grad(task, problems, params, step)
        after, saved = cell.forward(state, optimizer.featurize(gradients.ravel()), layout)
        after = jax.lax.optimization_barrier(after)  # else the gates are computed again for the readout
        updates = optimizer.readout(after, gradients.ravel())
        return params + updates.reshape(params.shape), after, saved, (losses, params, gradients)

    def forward(carry: Any, first: Array, steps: int) -> tuple[Any, _Path]:
        """A block, keeping all; carry is (params, state, buffers)."""
        params, state, buffers = carry

        def body(carry: Any, at: Array) -> tuple[Any, Any]:
            params, state, buffers = carry
            params, state, saved, seen = move(params, state, first + at)
            buffers = _Buffers(_put(buffers.state, state, at + 1), _put(buffers.saved, saved, at))
            return (params, state, buffers), seen

        buffers = buffers._replace(state=_put(buffers.state, state, 0))
        carry, seen = jax.lax.scan(body, (params, state, buffers), jnp.arange(steps))
        return carry, _Path(*seen)

    def skim(carry: Any, first: Array) -> tuple[Any, Any]:
        """A block, keeping its start and losses alone."""

        def body(carry: Any, at: Array) -> tuple[Any, Array]:
            params, state, _, (losses, _, _) = move(carry[0], carry[1], first + at)
            return (params, state), losses

        after, losses = jax.lax.scan(body, carry, jnp.arange(length))
        return after, (carry, losses)

    def gradient_of(params: Array, step: Array) -> Array:
        return batch_value_and_grad(task, problems, params, step)[1]

    def backward(carry: Any, block: tuple[Array, _Path, _Buffers], steps: int) -> Any:
        """A block backwards; carry is the cotangent of its end, and the gradients so far."""
        first, path, kept = block

        def body(carry: _Cotangent, at: Array) -> tuple[_Cotangent, Any]:
            params, gradients, state, saved = _take((path.params, path.gradients, kept.state, kept.saved), at)
            d_update = scale * carry.params.ravel()
            d_next = carry.state.at[:, :units].add(d_update[:, None] * readout)
            d_state, d_features, deltas = cell.backward(layout, saved, state, d_next)
            (d_gradients,) = jax.vjp(optimizer.featurize, gradients.ravel())[1](d_features)
            turned = d_gradients.reshape(params.shape)
            _, curvature = jax.jvp(lambda p: gradient_of(p, first + at), (params,), (turned,))
            d_params = carry.params + curvature + weight[:, None] * gradients
            if cotangent_clipping is not None:
                d_params = clip_cotangent(d_params, cotangent_clipping)
                d_state = clip_cotangent(d_state.reshape(batch, -1), cotangent_clipping).reshape(d_state.shape)
            return _Cotangent(d_params, d_state), (deltas, d_update)

        def segment(carry: Any, at: Array, steps: int) -> tuple[Any, None]:
            cotangent, grads = carry
            cotangent, (deltas, d_update) = jax.lax.scan(body, cotangent, at + jnp.arange(steps), reverse=True)
            state, gradients, saved = _cut((kept.state, path.gradients, kept.saved), at, steps)
            d_cell = cell.weight_gradient(state, optimizer.featurize(gradients.reshape(steps, -1)), saved, deltas)
            hidden = _cut(kept.state, at + 1, steps)[..., :units].reshape(-1, units)
            here = (d_cell, d_update.ravel() @ hidden, jnp.sum(d_update))
            return (cotangent, jax.tree.map(jnp.add, grads, here)), None

        size = min(plan.segment, steps)
        whole = steps // size
        if steps > whole * size:  # the steps left over come last in time
            carry, _ = segment(carry, jnp.asarray(whole * size), steps - whole * size)
        return jax.lax.scan(lambda c, at: segment(c, at, size), carry, size * jnp.arange(whole), reverse=True)[0]

    firsts = length * jnp.arange(earlier)
    begun = []  # losses of the blocks before the last
    if earlier:
        (params, state), (starts, skimmed) = jax.lax.scan(skim, (params, state), firsts)
        begun = [skimmed.reshape(-1, batch)]
    last = jnp.asarray(earlier * length)
    (_, _, buffers), path = forward((params, state, buffers), last, tail)
    losses = jnp.concatenate([*begun, path.losses])
    weight = 1 / (num_steps * batch * losses[0])
    zeros = jax.tree.map(jnp.zeros_like, (cell, readout, optimizer.readout_bias))
    carry = (_Cotangent(jnp.zeros_like(params), jnp.zeros_like(state)), zeros)
    carry = backward(carry, (last, path, buffers), tail)

    def again(carry: Any, at: Any) -> tuple[Any, None]:
        carry, buffers = carry
        first, begin = at
        (_, _, buffers), path = forward((*begin, buffers), first, length)
        return (backward(carry, (first, path, buffers), length), buffers), None

    if earlier:
        (carry, buffers), _ = jax.lax.scan(again, (carry, buffers), (firsts, starts), reverse=True)
    cotangent, (d_cell, d_weight, d_bias) = carry
    gradient = eqx.tree_at(
        lambda o: (o.cell, o.start, o.readout_weight, o.readout_bias),
        optimizer,
        (d_cell, jnp.sum(cotangent.state, axis=0), d_weight, d_bias),
    )
    return jnp.mean(losses, axis=0) / losses[0], gradient, buffers


def _put(rows: Any, row: Any, at: Array | int) -> Any:
    return jax.tree.map(lambda a, b: jax.lax.dynamic_update_index_in_dim(a, b, at, 0), rows, row)


def _take(rows: Any, at: Array) -> Any:
    return jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, at, 0, keepdims=False), rows)


def _cut(rows: Any, at: Array, count: int) -> Any:
    return jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, at, count, 0), rows)
