"""The best that any linear method can do on quadratics, and the method that does it.

On a quadratic f(x) = 1/2 (x - x*)^T H (x - x*) a linear first-order method (any number of momentum buffers, any
schedule of rates, the same for all parameters and problems) has after t steps the error x_t - x* = p_t(H) (x_0 - x*),
with p_t a polynomial of degree t and p_t(0) = 1. Over a sample of problems the mean of f(x_t) / f(x_0) is then

    sum_j w_j p_t(lambda_j)^2,    w = lambda c^2 / (sum of lambda c^2 of the problem) / (number of problems),

with c the coordinates of x_0 - x* along the eigenvectors. Its least value over all such p_t is the Christoffel
function of the measure w at 0 (Szego 1939, theorem 3.1.3),

    1 / sum_{k <= t} q_k(0)^2,    q_k the orthonormal polynomials of w,

and is taken by the kernel polynomials, which obey a three-term recurrence. So one heavy ball with a schedule,
x_{t+1} = x_t - a_t g + b_t (x_t - x_{t-1}), is best at every step at once; its a and b are those
of the conjugate residual method on the whole sample (Stiefel 1955). No linear method, learned or not, goes below.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from reopt.core.errors import ReoptError
from reopt.evaluation.keys import problem_key
from reopt.optimizers.base import Optimizer
from reopt.tasks.base import Task

PROBLEMS = 6000
"""Problems of the sample that stands for a task."""
STEPS = 1000
DONE = 1e-8  # mean loss over the initial one, beyond which a schedule does not go on


class Measure(NamedTuple):
    """Weights at eigenvalues; the weights sum to 1."""

    nodes: Float[np.ndarray, " node"]
    weights: Float[np.ndarray, " node"]


class HeavyBall(NamedTuple):
    """x_{t+1} = x_t - rate_t g_t + momentum_t (x_t - x_{t-1})."""

    rates: Float[np.ndarray, " step"]
    momenta: Float[np.ndarray, " step"]


def spectral_measure(task: Task, *, seed: int, problems: int = PROBLEMS) -> Measure:
    """The measure of the first `problems` problems of `seed`, which are none that anything is judged on.

    **Raises** `ReoptError` where the task's problems are no quadratics with a Hessian.

    ```python
    import reopt
    from reopt.dynamics.linear_theory import spectral_measure

    measure = spectral_measure(reopt.tasks.Quadratic(), seed=0, problems=100)
    ```
    """
    key = problem_key("theory", seed)
    problem = jax.vmap(lambda number: task.sample(jax.random.fold_in(key, number)))(jnp.arange(problems))
    if not hasattr(problem, "hessian") or not hasattr(problem, "minimizer"):
        raise ReoptError("the best linear method is known for quadratics alone: this task has no Hessian")
    hessians = np.asarray(problem.hessian, np.float64)
    offsets = np.asarray(problem.start, np.float64) - np.asarray(problem.minimizer, np.float64)
    nodes, vectors = np.linalg.eigh((hessians + np.swapaxes(hessians, 1, 2)) / 2)
    losses = nodes * np.einsum("pij,pi->pj", vectors, offsets) ** 2
    return Measure(nodes.ravel(), (losses / losses.sum(axis=1, keepdims=True) / problems).ravel())


def least_losses(measure: Measure, num_steps: int) -> Float[np.ndarray, " step"]:
    """The least mean of f(x_t) / f(x_0) that a linear method can have, at t = 0 to `num_steps` - 1.

    The orthonormal polynomials come from Lanczos's recurrence, with full orthogonalization.
    """
    nodes, root = measure.nodes, np.sqrt(measure.weights)
    basis, at_zero = np.zeros((num_steps, len(nodes))), np.full(num_steps, np.inf)
    basis[0] = root / np.linalg.norm(root)
    at_zero[0], before, link = 1 / np.linalg.norm(root), 0.0, 0.0
    for k in range(num_steps - 1):
        following = nodes * basis[k]
        middle = float(basis[k] @ following)
        for _ in range(2):
            following -= basis[: k + 1].T @ (basis[: k + 1] @ following)
        size = float(np.linalg.norm(following))
        if size < 1e-12 * np.abs(nodes).max():  # as many polynomials as distinct eigenvalues: the loss can be 0
            break
        at_zero[k + 1] = (-middle * at_zero[k] - link * before) / size
        before, link = at_zero[k], size
        basis[k + 1] = following / size
    return 1 / np.cumsum(at_zero**2)


def linear_bound(measure: Measure, num_steps: int) -> float:
    """The meta-objective (mean over steps) below which no linear method goes on this sample."""
    return float(least_losses(measure, num_steps).mean())


def best_heavy_ball(measure: Measure, num_steps: int, *, done: float = DONE) -> HeavyBall:
    """The schedule whose losses are `least_losses`, until they are below `done`; then it stands still.

    By the conjugate residual method, whose direction is the heavy ball's last step: it takes rate and momentum from
    the errors as they are, rounding included, where a recurrence without that feedback is unstable. Beyond `done` the
    last factors would fit the sample's own eigenvalues, and other problems pay for it.
    """
    rates, momenta = np.zeros(num_steps), np.zeros(num_steps)
    residual = np.sqrt(measure.weights)
    image = measure.nodes * residual
    direction, direction_image = residual, image
    energy, ratio, last = float(residual @ image), 0.0, 1.0
    for step in range(num_steps):
        if residual @ residual < done:
            break
        rate = energy / float(direction_image @ direction_image)
        rates[step], momenta[step] = rate, rate * ratio / last
        residual = residual - rate * direction_image
        image = measure.nodes * residual
        after = float(residual @ image)
        energy, ratio, last = after, after / energy, rate
        direction, direction_image = residual + ratio * direction, image + ratio * direction_image
    return HeavyBall(rates, momenta)


def losses_of(measure: Measure, method: HeavyBall) -> Float[np.ndarray, " step"]:
    """Mean of f(x_t) / f(x_0) over the sample, at t = 0 to the last step before which the method has moved."""
    now, before, found = np.ones_like(measure.nodes), np.ones_like(measure.nodes), []
    for rate, momentum in zip(method.rates, method.momenta, strict=True):
        found.append(float(measure.weights @ now**2))
        now, before = now - rate * measure.nodes * now + momentum * (now - before), now
    return np.array(found)


class ScheduledHeavyBall(Optimizer):
    """dx_t = b_t dx_{t-1} - a_t g, with a and b by step; after their end the last ones go on."""

    rates: Float[Array, " step"]
    momenta: Float[Array, " step"]

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("last_update", "step")

    @property
    def clock(self) -> int | None:
        return 1

    def initial_state(self) -> Array:
        return jnp.zeros(2)

    def update(self, state: Array, gradient: Array) -> Array:
        place = jnp.clip(jax.lax.stop_gradient(state[..., 1]).astype(int), 0, len(self.rates) - 1)
        rate, momentum = (jnp.asarray(table, state.dtype)[place] for table in (self.rates, self.momenta))
        return jnp.stack([momentum * state[..., 0] - rate * gradient, state[..., 1] + 1], axis=-1)

    def readout(self, state: Array, gradient: Array) -> Array:
        del gradient
        return state[..., 0]


def best_linear(task: Task, *, num_steps: int = STEPS, seed: int = 0, problems: int = PROBLEMS) -> ScheduledHeavyBall:
    """The best linear method for a task of quadratics, by a sample of its problems, with a margin for others.

    A longer schedule begins with a shorter one: the best method for one number of steps is that for all.

    **Raises** `ReoptError` where the task has no quadratics.
    """
    measure = with_margin(spectral_measure(task, seed=seed, problems=problems))
    method = best_heavy_ball(measure, num_steps)
    return ScheduledHeavyBall(jnp.asarray(method.rates, jnp.float32), jnp.asarray(method.momenta, jnp.float32))


def with_margin(measure: Measure, *, share: float = 1e-4, room: float = 0.01, nodes: int = 400) -> Measure:
    """The measure with a `share` of its weight spread over its whole range and a little beyond.

    What is best for a sample alone may grow without bound between its eigenvalues and beyond the largest.
    """
    low, high = float(measure.nodes.min()) / (1 + room), float(measure.nodes.max()) * (1 + room)
    even = 0.5 * (low + high) + 0.5 * (high - low) * np.cos(np.pi * (np.arange(nodes) + 0.5) / nodes)
    spread = np.concatenate([even, np.geomspace(low, high, nodes)]) if low > 0 else even
    weights = np.full(len(spread), share / len(spread))
    return Measure(np.concatenate([measure.nodes, spread]), np.concatenate([(1 - share) * measure.weights, weights]))


def nonlinear_share(reference: float, learned: float, bound: float) -> float:
    """Of the gain of `learned` over `reference`, meta-objectives both, the share that no linear method can have.

    1 where the bound is no better than the reference; NaN where there is no gain.
    """
    gain = reference - learned
    if not gain > 0:
        return float("nan")
    return float(np.clip((min(bound, reference) - learned) / gain, 0, 1))
