"""The meta-gradient: the derivative of the meta-objective through a whole unroll, by a reverse pass of its own.

The unroll is h' = cell(h, features(g)), x' = x + s (w^T h' + b), with g the gradient of the loss at x. Its exact
reverse pass runs backwards over the steps; at each one

    dh'  += s dx' w                          readout
    dh, dfeatures, deltas = cell.backward    no weight gradient yet
    dg    = dfeatures through the features
    dx    = dx' + H(x) dg + g / (T B f(x_0))     H: the inner problem's Hessian, exact second-order terms

The weight gradients are sums over steps of outer products of what went in with `deltas`; they wait until a segment
of steps is done and are then one large matmul, which is where plain autodiff through `lax.scan` loses its time.
The forward pass keeps parameters and states; a segment's gates are recomputed for all its steps at once.

Calming (a departure from the paper, on purpose biased): the meta-gradient of long unrolls is dominated by a few
problems whose trajectories are chaotic. With `calm = c`, at every step of the reverse pass the cotangent of each
problem (its parameters; its states taken together) is cut to c times the median norm over the batch, and one
that is not finite becomes zero. The forward pass is untouched.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from reopt.optimizers.learned import LearnedOptimizer
from reopt.tasks.base import Problem, Task
from reopt.training.unroll import batch_value_and_grad, start


def calm_cotangent(cotangent: Float[Array, "problem ..."], factor: float) -> Array:
    """Cut each problem's cotangent to `factor` times the median norm over the batch; not finite becomes zero."""
    axes = tuple(range(1, cotangent.ndim))
    squared = jnp.sum(jnp.square(cotangent), axis=axes, keepdims=True)
    finite = jnp.isfinite(squared)
    norm = jnp.sqrt(jnp.where(finite, squared, 0))
    ordered = jnp.sort(norm.ravel())
    count = ordered.shape[0]
    limit = factor * 0.5 * (ordered[(count - 1) // 2] + ordered[count // 2])
    scale = jnp.where(norm > limit, limit / jnp.where(norm > 0, norm, 1), 1)
    return jnp.where(finite, cotangent * scale, 0)


class _Kept(NamedTuple):
    """What the forward pass keeps of each step, stacked over steps."""

    params: Float[Array, "step problem param"]
    state: Float[Array, "step problem param hidden"]


class _Cotangent(NamedTuple):
    params: Float[Array, "problem param"]
    state: Float[Array, "problem param hidden"]


def meta_value_and_grad(
    optimizer: LearnedOptimizer,
    task: Task,
    problems: Problem,
    *,
    num_steps: int,
    calm: float | None = None,
    segment: int = 8,
) -> tuple[Float[Array, " problem"], LearnedOptimizer]:
    """Meta-objective of each problem, and the gradient of their mean with respect to the optimizer.

    **Arguments:** `calm` is None for the exact gradient, else the factor of the calmed backward pass. `segment` is
    the number of steps whose gates are recomputed and whose weight gradients are taken together; it changes the
    result by rounding alone.
    """
    params, state = start(optimizer, task, problems)
    cell, scale = optimizer.cell, optimizer.output_scale
    units, (batch, num_params) = cell.units, params.shape

    def forward(carry, step):
        params, state = carry
        losses, gradients = batch_value_and_grad(task, problems, params, step)
        next_state, updates = optimizer(state, gradients)
        return (params + updates, next_state), (losses, _Kept(params, state))

    (_, last_state), (losses, kept) = jax.lax.scan(forward, (params, state), jnp.arange(num_steps))
    weight = 1 / (num_steps * batch * losses[0])

    def gradient_of(params, step):
        return batch_value_and_grad(task, problems, params, step)[1]

    def backward(carry, at):
        step, params, state, saved = at
        d_update = scale * carry.params
        d_next = carry.state.at[..., :units].add(d_update[..., None] * optimizer.readout_weight)
        d_state, d_features, deltas = cell.backward(saved, state, d_next)
        gradients = gradient_of(params, step)
        (d_gradients,) = jax.vjp(optimizer.featurize, gradients)[1](d_features)
        _, curvature = jax.jvp(lambda p: gradient_of(p, step), (params,), (d_gradients,))
        d_params = carry.params + curvature + weight[:, None] * gradients
        if calm is not None:
            d_params, d_state = calm_cotangent(d_params, calm), calm_cotangent(d_state, calm)
        return _Cotangent(d_params, d_state), (deltas, d_update)

    def backward_segment(carry, at):
        cotangent, grads = carry
        steps, kept, next_state = at
        features = optimizer.featurize(jax.vmap(gradient_of)(kept.params, steps))
        _, saved = cell.forward(kept.state, features)
        cotangent, (deltas, d_update) = jax.lax.scan(
            backward, cotangent, (steps, kept.params, kept.state, saved), reverse=True
        )
        d_cell = cell.weight_gradient(kept.state, features, saved, deltas)
        hidden = jnp.concatenate([kept.state[1:], next_state[None]])[..., :units]
        d_weight = d_update.ravel() @ hidden.reshape(-1, units)
        grads = jax.tree.map(jnp.add, grads, (d_cell, d_weight, jnp.sum(d_update)))
        return (cotangent, grads), None

    # Whole segments run inside one scan; the steps left over come last in time, so they go first backwards.
    segment = min(segment, num_steps)
    whole = num_steps // segment
    cut = whole * segment
    steps = jnp.arange(num_steps)
    zeros = jax.tree.map(jnp.zeros_like, (cell, optimizer.readout_weight, optimizer.readout_bias))
    carry = (_Cotangent(jnp.zeros_like(params), jnp.zeros_like(state)), zeros)
    if cut < num_steps:
        carry, _ = backward_segment(carry, (steps[cut:], jax.tree.map(lambda a: a[cut:], kept), last_state))

    def split(a):
        return a[:cut].reshape(whole, segment, *a.shape[1:])

    following = jnp.concatenate(
        [kept.state[segment:cut:segment], (kept.state[cut] if cut < num_steps else last_state)[None]]
    )
    (cotangent, grads), _ = jax.lax.scan(
        backward_segment, carry, (split(steps), jax.tree.map(split, kept), following), reverse=True
    )
    d_cell, d_weight, d_bias = grads
    d_start = jnp.sum(cotangent.state.reshape(batch * num_params, -1), axis=0)
    gradient = eqx.tree_at(
        lambda o: (o.cell, o.start, o.readout_weight, o.readout_bias),
        optimizer,
        (d_cell, d_start, d_weight, d_bias),
    )
    return jnp.mean(losses, axis=0) / losses[0], gradient
