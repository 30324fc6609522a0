"""The meta-gradient in chunks of problems and blocks of steps: as fast as the matmuls, in the memory it is given.

The reverse pass is that of `reopt.training.meta_gradient` (see there for its equations). What differs is where time
and memory go:

- Gates are kept, not recomputed, and written once, into buffers that all chunks share. A chunk of problems is taken
  through forward and reverse pass before the next one starts, so that the memory is that of one chunk, and its
  weights and activations stay in the caches.
- Where that is still too much, the steps are cut into blocks: only the state at the start of a block is kept, and a
  block is run forward again before it is run backwards; the last one need not be.
- Devices take a share of the problems each; on a CPU a device a core, for two cores that work on problems of their
  own do not wait for each other in every matmul (`over_devices`).
- Recurrent weights are transposed once, not in each step.

Chunks, blocks, segments and devices change the result by rounding alone.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float

from reopt.errors import ReoptError
from reopt.optimizers.cells import GRU, Cell, Saved
from reopt.optimizers.learned import LearnedOptimizer
from reopt.tasks.base import Problem, Task
from reopt.training.meta_gradient import calm_cotangent
from reopt.training.unroll import batch_value_and_grad, start


class Plan(NamedTuple):
    """How a meta-gradient is cut up.

    `chunks` of problems, one after the other; `blocks` of steps, of which all but the last are run forward twice;
    `segment` steps whose weight gradients are one matmul.
    """

    chunks: int = 1
    blocks: int = 1
    segment: int = 4


WHOLE = Plan()


class _Buffers(NamedTuple):
    """What a block keeps; one row more of states than of steps."""

    state: Float[Array, "step_and_one row hidden"]
    saved: Any  # of the cell, stacked over steps


class _Path(NamedTuple):
    """Where the problems of a block have been."""

    losses: Float[Array, "step problem"]
    params: Float[Array, "step problem param"]
    gradients: Float[Array, "step problem param"]


class _Cotangent(NamedTuple):
    params: Float[Array, "problem param"]
    state: Float[Array, "row hidden"]


class _TransposedGRU(NamedTuple):
    """The reverse pass of a GRU with its weights laid out for it."""

    cell: GRU
    recurrent_gates: Float[Array, "gate_unit unit"]
    recurrent_candidate: Float[Array, "unit unit"]

    def backward(self, saved: Saved, state: Array, cotangent: Array) -> tuple[Array, Array, Any]:
        """As `GRU.backward`."""
        gates, candidate = saved
        update, reset = jnp.split(gates, 2, axis=-1)
        d_candidate = cotangent * (1 - update) * (1 - jnp.square(candidate))
        d_reset_state = d_candidate @ self.recurrent_candidate
        d_gates = jnp.concatenate([cotangent * (state - candidate), d_reset_state * state], axis=-1)
        d_gates = d_gates * gates * (1 - gates)
        d_state = cotangent * update + d_reset_state * reset + d_gates @ self.recurrent_gates
        d_features = d_candidate @ self.cell.input_candidate.T + d_gates @ self.cell.input_gates.T
        return d_state, d_features, (d_gates, d_candidate)


def _reverse(cell: Cell) -> Any:
    """The cell, or one with the same `backward` and transposed weights, which the compiler must not fold back."""
    if not isinstance(cell, GRU):
        return cell
    return _TransposedGRU(cell, *jax.lax.optimization_barrier((cell.recurrent_gates.T, cell.recurrent_candidate.T)))


def meta_value_and_grad(
    optimizer: LearnedOptimizer,
    task: Task,
    problems: Problem,
    *,
    num_steps: int,
    calm: float | None = None,
    plan: Plan = WHOLE,
) -> tuple[Float[Array, " problem"], LearnedOptimizer]:
    """Meta-objective of each problem, and the gradient of their mean with respect to the optimizer.

    **Arguments:** `calm` is None for the exact gradient, else the factor of the calmed backward pass, whose median is
    over all problems and which therefore takes them in one chunk.

    **Raises** `ReoptError` where the plan does not fit.
    """
    count = jax.tree.leaves(problems)[0].shape[0]
    if count % plan.chunks:
        raise ReoptError(f"{count} problems cannot be cut into {plan.chunks} chunks of one size")
    if calm is not None and plan.chunks > 1:
        raise ReoptError("a calmed backward pass needs all problems at once: one chunk")
    length = -(-num_steps // plan.blocks)
    one = jax.tree.map(lambda a: a[: count // plan.chunks], problems)

    def empty() -> _Buffers:
        params, state = start(optimizer, task, one)
        state = state.reshape(-1, state.shape[-1])
        saved = optimizer.cell.forward(state, optimizer.featurize(params.ravel()))[1]
        return _Buffers(
            jnp.zeros((length + 1, *state.shape), state.dtype),
            jax.tree.map(lambda a: jnp.zeros((length, *a.shape), a.dtype), saved),
        )

    buffers = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(empty))
    if plan.chunks == 1:
        objectives, gradient, _ = _chunk(optimizer, task, problems, num_steps, calm, plan, buffers)
        return objectives, gradient

    def add(carry: Any, chunk: Problem) -> Any:
        total, buffers = carry
        objectives, gradient, buffers = _chunk(optimizer, task, chunk, num_steps, calm, plan, buffers)
        return (jax.tree.map(lambda t, g: t + g / plan.chunks, total, gradient), buffers), objectives

    chunks = jax.tree.map(lambda a: a.reshape(plan.chunks, -1, *a.shape[1:]), problems)
    zeros = jax.tree.map(jnp.zeros_like, optimizer)
    (gradient, _), objectives = jax.lax.scan(add, (zeros, buffers), chunks)
    return objectives.ravel(), gradient


def over_devices(
    optimizer: LearnedOptimizer,
    task: Task,
    problems: Problem,
    devices: Sequence[jax.Device],
    *,
    num_steps: int,
    plan: Plan = WHOLE,
) -> tuple[Float[Array, " problem"], LearnedOptimizer]:
    """The exact `meta_value_and_grad`, with an equal share of the problems on each of `devices`."""
    count = jax.tree.leaves(problems)[0].shape[0]
    if count % len(devices):
        raise ReoptError(f"{count} problems cannot be shared out equally to {len(devices)} devices")

    def share(optimizer: LearnedOptimizer, problems: Problem) -> Any:
        objectives, gradient = meta_value_and_grad(optimizer, task, problems, num_steps=num_steps, plan=plan)
        return objectives, jax.lax.pmean(gradient, "device")

    split = PartitionSpec("device")
    mapped = jax.shard_map(
        share,
        mesh=Mesh(np.asarray(devices), ("device",)),
        in_specs=(PartitionSpec(), split),
        out_specs=(split, PartitionSpec()),
        check_vma=False,
    )
    return mapped(optimizer, problems)


def _chunk(
    optimizer: LearnedOptimizer,
    task: Task,
    problems: Problem,
    num_steps: int,
    calm: float | None,
    plan: Plan,
    buffers: _Buffers,
) -> tuple[Float[Array, " problem"], LearnedOptimizer, _Buffers]:
    """Objectives and gradient of one chunk, and the buffers for the next."""
    cell, scale, readout = optimizer.cell, optimizer.output_scale, optimizer.readout_weight
    units, reverse = cell.units, _reverse(cell)
    params, state = start(optimizer, task, problems)
    batch, state = params.shape[0], state.reshape(-1, state.shape[-1])
    length = -(-num_steps // plan.blocks)
    earlier = -(-num_steps // length) - 1  # blocks before the last
    tail = num_steps - earlier * length

    def move(params: Array, state: Array, step: Array) -> tuple:
        losses, gradients = batch_value_and_grad(task, problems, params, step)
        after, saved = cell.forward(state, optimizer.featurize(gradients.ravel()))
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
            d_state, d_features, deltas = reverse.backward(saved, state, d_next)
            (d_gradients,) = jax.vjp(optimizer.featurize, gradients.ravel())[1](d_features)
            turned = d_gradients.reshape(params.shape)
            _, curvature = jax.jvp(lambda p: gradient_of(p, first + at), (params,), (turned,))
            d_params = carry.params + curvature + weight[:, None] * gradients
            if calm is not None:
                d_params = calm_cotangent(d_params, calm)
                d_state = calm_cotangent(d_state.reshape(batch, -1), calm).reshape(d_state.shape)
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
    (params, state), (starts, losses) = jax.lax.scan(skim, (params, state), firsts)
    (_, _, buffers), path = forward((params, state, buffers), jnp.asarray(earlier * length), tail)
    losses = jnp.concatenate([losses.reshape(-1, batch), path.losses])
    weight = 1 / (num_steps * batch * losses[0])
    zeros = jax.tree.map(jnp.zeros_like, (cell, readout, optimizer.readout_bias))
    carry = (_Cotangent(jnp.zeros_like(params), jnp.zeros_like(state)), zeros)
    carry = backward(carry, (jnp.asarray(earlier * length), path, buffers), tail)

    def again(carry: Any, at: Any) -> tuple[Any, None]:
        carry, buffers = carry
        first, begin = at
        (_, _, buffers), path = forward((*begin, buffers), first, length)
        return (backward(carry, (first, path, buffers), length), buffers), None

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
