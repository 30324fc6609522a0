"""SGD, momentum, Nesterov, RMSProp and Adam as dynamical systems h' = F(h, g), dx = r(h', g).

Each equals its optax twin (optax 0.2.8), named in its docstring with the convention where optax offers several.
The analyses of the paper use an Adam without bias correction; here the correction is kept, as a clock.
"""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from reopt.optimizers.base import Optimizer
from reopt.optimizers.names import BASELINE_NAMES

Scalar = float | Float[Array, ""]


def _lift(value: Scalar, like: Array) -> Array:
    """A hyperparameter as an array of the dtype of `like`."""
    return jnp.asarray(value, like.dtype)


class SGD(Optimizer):
    """dx = -lr g.  Twin: `optax.sgd(lr)`."""

    learning_rate: Scalar
    hyperparameters: ClassVar = ("learning_rate",)

    @property
    def state_names(self) -> tuple[str, ...]:
        return ()

    def initial_state(self) -> Array:
        return jnp.zeros(0)

    def update(self, state: Array, gradient: Array) -> Array:
        del gradient
        return state

    def readout(self, state: Array, gradient: Array) -> Array:
        del state
        return -_lift(self.learning_rate, gradient) * gradient


class Momentum(Optimizer):
    """v' = beta v + g, dx = -lr v'.  Twin: `optax.sgd(lr, momentum=beta)` (no dampening of g)."""

    learning_rate: Scalar
    momentum: Scalar
    hyperparameters: ClassVar = ("learning_rate", "momentum")

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("velocity",)

    def initial_state(self) -> Array:
        return jnp.zeros(1)

    def update(self, state: Array, gradient: Array) -> Array:
        return _lift(self.momentum, state) * state + gradient[..., None]

    def readout(self, state: Array, gradient: Array) -> Array:
        del gradient
        return -_lift(self.learning_rate, state) * state[..., 0]


class Nesterov(Momentum):
    """v' = beta v + g, dx = -lr (beta v' + g).  Twin: `optax.sgd(lr, momentum=beta, nesterov=True)`."""

    def readout(self, state: Array, gradient: Array) -> Array:
        return -_lift(self.learning_rate, state) * (_lift(self.momentum, state) * state[..., 0] + gradient)


class RMSProp(Optimizer):
    """s' = decay s + (1 - decay) g^2, dx = -lr g / sqrt(s' + eps).

    Twin: `optax.rmsprop(lr, decay, eps)`: eps inside the root, s starts at 0, not centred, no momentum.
    """

    learning_rate: Scalar
    decay: Scalar
    eps: Scalar = 1e-8
    hyperparameters: ClassVar = ("learning_rate", "decay", "eps")

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("second_moment",)

    def initial_state(self) -> Array:
        return jnp.zeros(1)

    def update(self, state: Array, gradient: Array) -> Array:
        decay = _lift(self.decay, state)
        return decay * state + (1 - decay) * jnp.square(gradient)[..., None]

    def readout(self, state: Array, gradient: Array) -> Array:
        lr, eps = _lift(self.learning_rate, state), _lift(self.eps, state)
        return -lr * gradient / jnp.sqrt(state[..., 0] + eps)


class Adam(Optimizer):
    """m' = b1 m + (1 - b1) g, s' = b2 s + (1 - b2) g^2, t' = t + 1,
    dx = -lr_t (m' / (1 - b1^t')) / (sqrt(s' / (1 - b2^t')) + eps),  lr_t = lr 2^(-t / half_life).

    Twin: `optax.adam(schedule, b1, b2, eps)` (eps outside the root, bias correction) with
    `optax.exponential_decay(lr, half_life, 0.5)`; without a half-life the rate is constant.
    """

    learning_rate: Scalar
    beta1: Scalar = 0.9
    beta2: Scalar = 0.999
    eps: Scalar = 1e-8
    half_life: Scalar | None = None
    hyperparameters: ClassVar = ("learning_rate", "beta1", "beta2", "eps", "half_life")

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("first_moment", "second_moment", "step")

    @property
    def clock(self) -> int | None:
        return 2

    def initial_state(self) -> Array:
        return jnp.zeros(3)

    def update(self, state: Array, gradient: Array) -> Array:
        b1, b2 = _lift(self.beta1, state), _lift(self.beta2, state)
        m = b1 * state[..., 0] + (1 - b1) * gradient
        s = b2 * state[..., 1] + (1 - b2) * jnp.square(gradient)
        return jnp.stack([m, s, state[..., 2] + 1], axis=-1)

    def readout(self, state: Array, gradient: Array) -> Array:
        del gradient
        b1, b2 = _lift(self.beta1, state), _lift(self.beta2, state)
        m, s, t = state[..., 0], state[..., 1], state[..., 2]
        lr = _lift(self.learning_rate, state)
        if self.half_life is not None:
            lr = lr * jnp.exp2(-(t - 1) / _lift(self.half_life, state))
        # sqrt has no derivative at 0, where s stands before the first gradient of a parameter that gets none.
        positive = s > 0
        root = jnp.where(positive, jnp.sqrt(jnp.where(positive, s, 1) / (1 - b2**t)), 0)
        return -lr * (m / (1 - b1**t)) / (root + _lift(self.eps, state))


def polyak(low: float, high: float) -> Momentum:
    """Heavy ball with Polyak's optimal rates for eigenvalues between 10^low and 10^high:
    alpha = 4 / (sqrt L + sqrt l)^2,  beta = ((sqrt L - sqrt l) / (sqrt L + sqrt l))^2."""
    low, high = 10.0 ** (low / 2), 10.0 ** (high / 2)
    return Momentum(learning_rate=4 / (high + low) ** 2, momentum=((high - low) / (high + low)) ** 2)


BASELINES: dict[str, type[Optimizer]] = dict(
    zip(BASELINE_NAMES, (SGD, Momentum, Nesterov, RMSProp, Adam, Adam), strict=True)
)
