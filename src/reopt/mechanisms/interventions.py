"""Taking mechanisms away from an optimizer, each by itself or several at once, while it runs.

One step of an optimizer is the map S(h, g) = (F(h, g), r(F(h, g), g)): next state and update. With the fixed point h*
at g = 0 and the Jacobian J there, the interventions are

    schedule      start every parameter from h* instead of the initial state; a clock stands still at its value in h*
    clipping      a response that is linear in the gradient, with its slope at g = 0:
                  S(h, 0) + g dS/dg(h, 0) in place of S(h, g)
    adaptation    a response that does not depend on the state: S(h, 0) + [S(h*, g) - S(h*, 0)]
    both of them  S(h, 0) + g dS/dg(h*, 0)
    momentum      after the update is read, the part of h' - h* in the slow modes of J is dropped from the state

The response is that of state and update together, so that an optimizer whose readout bends (RMSProp divides there) is
intervened upon like one whose state update does. A linear response differs from the true one mostly beyond the
threshold of the clipping, and joins it smoothly at g = 0; a state within bounds (a tanh cell's) can then leave them,
which is part of what the clipping was worth. With adaptation removed, a clock still runs in the response: what depends
on it is a schedule.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from scipy.linalg import schur, solve_sylvester

from reopt.core.limits import SLOW_STEPS
from reopt.dynamics.autonomous import TINY
from reopt.dynamics.linearization import Linearization
from reopt.mechanisms.modes import modes
from reopt.optimizers.base import Optimizer

SILENT = 1e-9  # a mode with less than this share of the largest |alpha| hears no gradient, or moves no parameter


class Removed(NamedTuple):
    """Which mechanisms are taken away; traced, so that all combinations share one compiled program."""

    momentum: Bool[Array, ""]
    clipping: Bool[Array, ""]
    schedule: Bool[Array, ""]
    adaptation: Bool[Array, ""]


MECHANISMS = Removed._fields


def removed(*names: str) -> Removed:
    """The named mechanisms are taken away, the others kept."""
    if unknown := set(names) - set(MECHANISMS):
        raise ValueError(f"no mechanism is called {', '.join(sorted(unknown))}")
    return Removed(*(jnp.asarray(name in names) for name in MECHANISMS))


class Intervened(Optimizer):
    """An optimizer without some of its mechanisms. Its state is the optimizer's, and the update just made.

    `projector` is that onto the slow modes. `probe` is the |gradient| over which the slope at g = 0 is a secant; None
    takes the derivative, which says nothing where the response jumps at g = 0 (inputs by sign and logarithm).
    """

    optimizer: Optimizer
    removed: Removed
    point: Float[Array, " hidden"]
    projector: Float[Array, "hidden hidden"]
    probe: float | None = eqx.field(static=True, default=None)

    @property
    def state_names(self) -> tuple[str, ...]:
        return (*self.optimizer.state_names, "update")

    @property
    def clock(self) -> int | None:
        return self.optimizer.clock

    def initial_state(self) -> Array:
        own = jnp.asarray(self.optimizer.initial_state(), self.point.dtype)
        return jnp.append(jnp.where(self.removed.schedule, self.point, own), 0.0)

    def update(self, state: Array, gradient: Array) -> Array:
        # A switch runs the chosen branch alone; those with a linear response cost three times the plain one.
        responses = (self._step, self._linear, self._stateless, self._stateless_linear)
        chosen = self.removed.clipping + 2 * self.removed.adaptation
        # A method of a traced module has no hash, which a branch must have.
        branches = [lambda *given, respond=respond: respond(*given) for respond in responses]
        after = jax.lax.switch(chosen, branches, state[..., :-1], gradient)
        state, update = after[..., :-1], after[..., -1:]
        state = jax.lax.cond(self.removed.momentum, lambda whole: self._without_slow(whole), lambda whole: whole, state)
        if self.clock is not None:
            held = jnp.where(self.removed.schedule, self.point[self.clock], state[..., self.clock])
            state = state.at[..., self.clock].set(held)
        return jnp.concatenate([state, update], axis=-1)

    def readout(self, state: Array, gradient: Array) -> Array:
        del gradient
        return state[..., -1]

    def _step(self, state: Array, gradient: Array) -> Array:
        """S(h, g): the next state, and the update as one more component."""
        after, update = self.optimizer(state, gradient)
        return jnp.concatenate([after, update[..., None]], axis=-1)

    def _at_zero(self, state: Array) -> tuple[Array, Array]:
        """S(h, 0) and dS/dg there."""
        zero = jnp.zeros(state.shape[:-1], state.dtype)
        if self.probe is None:
            return jax.jvp(lambda gradient: self._step(state, gradient), (zero,), (jnp.ones_like(zero),))
        rise = self._step(state, zero + self.probe) - self._step(state, zero - self.probe)
        return self._step(state, zero), rise / (2 * self.probe)

    def _reference(self, state: Array) -> Array:
        """h*, with the clock that the state shows: a single row where there is none."""
        if self.clock is None:
            return self.point
        return jnp.broadcast_to(self.point, state.shape).at[..., self.clock].set(state[..., self.clock])

    def _linear(self, state: Array, gradient: Array) -> Array:
        value, slope = self._at_zero(state)
        return value + gradient[..., None] * slope

    def _stateless(self, state: Array, gradient: Array) -> Array:
        reference = self._reference(state)
        rest = self._step(reference, jnp.zeros(reference.shape[:-1], state.dtype))
        response = self._step(jnp.broadcast_to(reference, state.shape), gradient) - rest
        return self._step(state, jnp.zeros_like(gradient)) + response

    def _stateless_linear(self, state: Array, gradient: Array) -> Array:
        _, slope = self._at_zero(self._reference(state))
        return self._step(state, jnp.zeros_like(gradient)) + gradient[..., None] * slope

    def _without_slow(self, state: Array) -> Array:
        # Accelerators would round the inputs of a matmul.
        slow = jnp.matmul(state - self.point, self.projector.T, precision=jax.lax.Precision.HIGHEST)
        return state - slow


class ClippedInput(Optimizer):
    """An optimizer that is shown its gradients clipped to [low, high]."""

    optimizer: Optimizer
    low: float
    high: float

    @property
    def state_names(self) -> tuple[str, ...]:
        return self.optimizer.state_names

    @property
    def clock(self) -> int | None:
        return self.optimizer.clock

    def initial_state(self) -> Array:
        return self.optimizer.initial_state()

    def update(self, state: Array, gradient: Array) -> Array:
        return self.optimizer.update(state, jnp.clip(gradient, self.low, self.high))

    def readout(self, state: Array, gradient: Array) -> Array:
        return self.optimizer.readout(state, jnp.clip(gradient, self.low, self.high))


class Summed(Optimizer):
    """Two optimizers of the same gradients, neither with a clock: their updates are added."""

    one: Optimizer
    other: Optimizer

    @property
    def state_names(self) -> tuple[str, ...]:
        return (
            *(f"one {name}" for name in self.one.state_names),
            *(f"other {name}" for name in self.other.state_names),
        )

    def initial_state(self) -> Array:
        return jnp.concatenate([self.one.initial_state(), self.other.initial_state()])

    def update(self, state: Array, gradient: Array) -> Array:
        own, rest = self._parts(state)
        return jnp.concatenate([self.one.update(own, gradient), self.other.update(rest, gradient)], axis=-1)

    def readout(self, state: Array, gradient: Array) -> Array:
        own, rest = self._parts(state)
        return self.one.readout(own, gradient) + self.other.readout(rest, gradient)

    def _parts(self, state: Array) -> tuple[Array, Array]:
        size = self.one.state_size
        return state[..., :size], state[..., size:]


def intervene(
    optimizer: Optimizer, linearization: Linearization, without: Removed, *, probe: float | None = None
) -> Intervened:
    """The optimizer without some mechanisms, around the fixed point of its linearization; in jax's default precision.

    `probe` is that of `Intervened`.
    """
    dtype = jnp.result_type(float)
    # Beside a zero under a root, and not on it: the point may be nearer to it than a float32 can be.
    near = (linearization.point > 0) & (linearization.point < TINY)
    point = jnp.asarray(np.where(near, TINY, linearization.point), dtype)
    projector = jnp.asarray(slow_projector(linearization), dtype)
    return Intervened(optimizer, without, point, projector, probe)


def slow_projector(
    linearization: Linearization, *, slow_steps: float = SLOW_STEPS
) -> Float[np.ndarray, "hidden hidden"]:
    """The spectral projector of J onto its slow modes: it commutes with J, and the other modes are its null space.

    Slow are modes with |beta| > exp(-1 / slow_steps) that carry a response to the gradient; one without (alpha = 0)
    keeps something else, such as a second moment. Modes with equal beta are not told apart. The projector comes from
    the ordered real Schur form, for eigenvectors of a defective J do not span the space. A held clock is no mode.
    """
    size = len(linearization.point)
    free = np.setdiff1d(np.arange(size), linearization.held)
    whole = np.zeros((size, size))
    if not free.size:
        return whole
    found = modes(linearization)
    loudest = max(float(np.abs(found.alpha).max()), abs(float(found.direct)))
    heard = np.abs(found.alpha) > SILENT * loudest
    silent = [beta for beta in found.beta[~heard] if not (np.abs(found.beta[heard] - beta) < 1e-9).any()]

    def carries(real: float, imaginary: float) -> bool:
        if np.hypot(real, imaginary) <= np.exp(-1 / slow_steps):
            return False
        return not any(abs(complex(real, imaginary) - beta) < 1e-9 for beta in silent)

    form, basis, count = schur(linearization.jacobian[np.ix_(free, free)], output="real", sort=carries)
    slow, fast, coupling = form[:count, :count], form[count:, count:], form[:count, count:]
    inside = np.zeros_like(form)
    inside[:count, :count] = np.eye(count)
    if 0 < count < len(free):
        inside[:count, count:] = solve_sylvester(slow, -fast, coupling)
    whole[np.ix_(free, free)] = basis @ inside @ basis.T
    return whole
