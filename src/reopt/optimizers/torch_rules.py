"""The component-wise optimizers of `torch.optim` as dynamical systems h' = F(h, g), dx = r(h', g).

Classes, hyperparameters, their defaults and the components of a state are named as torch names them. The equations are
those of torch 2's `torch.optim` for one tensor at a time; its other implementations (`foreach`, `fused`, `capturable`)
compute the same up to rounding. They are held against recorded runs of torch (`tests/optimizers/test_torch.py`).

A gradient is seen with `weight_decay` x added (an L2 penalty, unless it is decoupled), and by torch with the other sign
if it maximizes. Here values x of parameters are 0: what depends on them is in `penalty` and `decoupled`, and `Whole`
takes steps with it.
"""

from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from reopt.core.errors import ReoptError
from reopt.optimizers.base import Optimizer


def _pair(values: Any) -> tuple[float, float]:
    one, other = values
    return float(one), float(other)


class TorchOptimizer(Optimizer):
    """An optimizer of `torch.optim`, made by `reopt.from_torch`; its fields are torch's hyperparameters."""

    lr: eqx.AbstractVar[float]
    maximize: eqx.AbstractVar[bool]

    # In the range that torch takes: a decay of a moment in [0, 1), others not below 0.
    decays: ClassVar[tuple[str, ...]] = ("betas",)

    def __check_init__(self) -> None:
        for name, value in vars(self).items():
            numbers = np.atleast_1d(np.asarray(value, np.float64))
            if not (np.isfinite(numbers) & (numbers >= 0)).all():
                raise ReoptError(f"torch's {type(self).__name__}: {name} is {value!r}, but must not be below 0")
            if name in self.decays and not (numbers < 1).all():
                raise ReoptError(f"torch's {type(self).__name__}: {name} is {value!r}, but must be below 1")

    @property
    def penalty(self) -> float:
        """c of an L2 penalty: what the optimizer sees is g + c x (g - c x where it maximizes, before its sign)."""
        decay = float(getattr(self, "weight_decay", 0.0))
        return 0.0 if self._is_decoupled else decay

    @property
    def _is_decoupled(self) -> bool:
        return bool(getattr(self, "decoupled_weight_decay", False))

    def decoupled(self, state: Float[Array, "*param hidden"]) -> Array | float:
        """d of a decoupled decay, dx = r(h', g) - d x, in the step that led to `state`."""
        del state
        return self.lr * float(getattr(self, "weight_decay", 0.0)) if self._is_decoupled else 0.0

    @property
    def sees_values(self) -> bool:
        """Whether a step depends on the value of its parameter."""
        return float(getattr(self, "weight_decay", 0.0)) != 0

    @property
    def caveats(self) -> tuple[str, ...]:
        """What F and r leave out, a sentence each."""
        found = []
        if self.penalty:
            found.append(
                f"L2 penalty: {type(self).__name__} adds {self.penalty:.6g} times the parameter's value to its "
                "gradient; the gradient of all readings is this sum, as if the penalty were part of the loss."
            )
        first = float(np.asarray(self.decoupled(self.update(self.initial_state(), jnp.zeros(())))))
        if first:
            found.append(
                f"Decoupled weight decay: each step also takes {first:.6g} of the parameter's value away; "
                "all readings are of the rest of the update, that of a parameter of value 0."
            )
        return tuple(found)

    def caveats_at(self, point: Any) -> tuple[str, ...]:
        """The same, whatever the state."""
        del point
        return self.caveats

    @property
    def transformation(self) -> "Whole":
        """The optimizer with all that depends on the values of parameters, in optax's interface."""
        return Whole(self)

    def initial_state(self) -> Array:
        return jnp.zeros(len(self.state_names))

    def update(self, state: Array, gradient: Array) -> Array:
        if not self.state_names:
            return state
        parts = self._next(self._seen(gradient), *jnp.moveaxis(state, -1, 0))
        return jnp.stack([jnp.broadcast_to(part, gradient.shape).astype(state.dtype) for part in parts], axis=-1)

    def readout(self, state: Array, gradient: Array) -> Array:
        return self._change(self._seen(gradient), *jnp.moveaxis(state, -1, 0))

    def _seen(self, gradient: Array) -> Array:
        return -gradient if self.maximize else gradient

    def _next(self, g: Array, *state: Array) -> tuple[Array, ...]:
        """The next components of the state."""
        raise NotImplementedError

    def _change(self, g: Array, *state: Array) -> Array:
        """The change of the parameter, from the next components."""
        raise NotImplementedError

    def consistent(self, kept: dict[str, float]) -> str:
        """What in the numbers that torch keeps beside the state does not follow from the hyperparameters; or nothing.

        **Arguments:** `kept` are the single numbers of a parameter's state, by torch's names, `step` among them.
        """
        del kept
        return ""


class Whole(eqx.Module):
    """A torch optimizer with weight decay of either kind, in optax's interface, for a tree of parameters.

    The state of each array is a dict by torch's names.
    """

    optimizer: TorchOptimizer

    def init(self, params: PyTree) -> PyTree:
        """The initial state of each parameter."""
        return jax.tree.map(self._start, params)

    def update(self, gradients: PyTree, state: PyTree, params: PyTree) -> tuple[PyTree, PyTree]:
        """(updates, next state)."""
        both = jax.tree.map(self._step, gradients, state, params)
        changes, states = (jax.tree.map(lambda one, at=at: one[at], both, is_leaf=_is_stepped) for at in (0, 1))
        return changes, states

    def _start(self, params: Array) -> dict[str, Array]:
        states = self.optimizer.initial_states(params.shape)
        states = states.astype(jnp.promote_types(params.dtype, jnp.float32))
        return dict(zip(self.optimizer.state_names, jnp.moveaxis(states, -1, 0), strict=True))

    def _step(self, gradient: Array, state: dict[str, Array], params: Array) -> "_Stepped":
        kind = self.optimizer
        sign = -1.0 if kind.maximize else 1.0
        kept = [state[name] for name in kind.state_names]
        before = jnp.stack(kept, axis=-1) if kept else jnp.zeros((*gradient.shape, 0), gradient.dtype)
        after, change = kind(before, gradient + sign * kind.penalty * params if kind.penalty else gradient)
        change = change - kind.decoupled(after) * params
        return _Stepped(change, dict(zip(kind.state_names, jnp.moveaxis(after, -1, 0), strict=True)))


class _Stepped(NamedTuple):
    """What a step makes of one array."""

    update: Array
    state: dict[str, Array]


def _is_stepped(one: Any) -> bool:
    return isinstance(one, _Stepped)


def _root(x: Array) -> Array:
    """The square root, whose derivative at 0 is taken as 0: there a second moment stands before the first gradient."""
    at_zero = x == 0
    return jnp.where(at_zero, 0.0, jnp.sqrt(jnp.where(at_zero, 1.0, x)))


def _mean(old: Array, new: Array, decay: float) -> Array:
    """decay old + (1 - decay) new, as torch rounds it for a first moment."""
    return old + (1 - decay) * (new - old) if decay > 0.5 else new - (new - old) * decay


def _square(old: Array, g: Array, decay: float) -> Array:
    return decay * old + (1 - decay) * (g * g)


class SGD(TorchOptimizer):
    """v' = m v + (1 - d) g (v' = g at the first step), dx = -lr v', or -lr (g + m v') with Nesterov's momentum.

    With dampening d the state has `begun`, 1 after the first step: torch has no buffer before it.
    """

    lr: float = 1e-3
    momentum: float = 0.0
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    maximize: bool = False

    def __check_init__(self) -> None:
        if self.nesterov and (self.momentum <= 0 or self.dampening != 0):
            raise ReoptError("torch's SGD: nesterov needs a momentum above 0 and no dampening")

    @property
    def state_names(self) -> tuple[str, ...]:
        if self.momentum == 0:
            return ()
        return ("momentum_buffer", "begun") if self.dampening else ("momentum_buffer",)

    def _next(self, g: Array, *state: Array) -> tuple[Array, ...]:
        buffer, *begun = state
        if not begun:
            return (self.momentum * buffer + g,)
        return self.momentum * buffer + (1 - self.dampening * begun[0]) * g, jnp.ones_like(buffer)

    def _change(self, g: Array, *state: Array) -> Array:
        if not state:
            return -self.lr * g
        return -self.lr * (g + self.momentum * state[0] if self.nesterov else state[0])


class Adam(TorchOptimizer):
    """m' = b1 m + (1 - b1) g, v' = b2 v + (1 - b2) g^2, dx = -lr / (1 - b1^t') m' / (sqrt(w / (1 - b2^t')) + eps).

    w is v', or with AMSGrad the largest v' so far: of those before their bias is corrected.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = eqx.field(default=(0.9, 0.999), converter=_pair)
    eps: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False
    maximize: bool = False
    decoupled_weight_decay: bool = False

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if self.amsgrad else ()), "step")

    @property
    def clock(self) -> int | None:
        return len(self.state_names) - 1

    def _next(self, g: Array, *state: Array) -> tuple[Array, ...]:
        m, v, *largest, t = state
        v = _square(v, g, self.betas[1])
        return _mean(m, g, self.betas[0]), v, *(jnp.maximum(old, v) for old in largest), t + 1

    def _change(self, g: Array, *state: Array) -> Array:
        m, *_, v, t = state
        root = _root(v) / jnp.sqrt(1 - self.betas[1] ** t)
        return -self.lr / (1 - self.betas[0] ** t) * m / (root + self.eps)


class AdamW(Adam):
    """Adam with a decoupled weight decay of 0.01 unless told otherwise: x' = x (1 - lr weight_decay) + dx."""

    weight_decay: float = 1e-2
    decoupled_weight_decay: bool = True


_TERMS = 54  # of the series of log(1 - q / 2), whose j-th is below 2^-j


class NAdam(TorchOptimizer):
    """Adam with Nesterov's momentum, the momentum rising with the step (Dozat 2016, with a warm-up):

    mu_t = b1 (1 - 0.96^(t psi) / 2), psi the `momentum_decay`, P_t = mu_1 ... mu_t,
    dx = -lr ((1 - mu_t') g / (1 - P_t') + mu_(t'+1) m' / (1 - P_(t'+1))) / (sqrt(v' / (1 - b2^t')) + eps).

    P_t, which torch keeps as `mu_product`, is a function of the clock:
    log P_t = t log b1 - sum_j 2^-j / j sum_(k <= t) 0.96^(j k psi).
    """

    lr: float = 2e-3
    betas: tuple[float, float] = eqx.field(default=(0.9, 0.999), converter=_pair)
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum_decay: float = 4e-3
    decoupled_weight_decay: bool = False
    maximize: bool = False

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq", "step")

    @property
    def clock(self) -> int | None:
        return 2

    def _next(self, g: Array, *state: Array) -> tuple[Array, ...]:
        m, v, t = state
        return _mean(m, g, self.betas[0]), _square(v, g, self.betas[1]), t + 1

    def _change(self, g: Array, *state: Array) -> Array:
        m, v, t = state
        denominator = _root(v / (1 - self.betas[1] ** t)) + self.eps
        now, after, product = self._mu(t), self._mu(t + 1), self.mu_product(t)
        plain = -self.lr * (1 - now) / (1 - product) * (g / denominator)
        return plain - self.lr * after / (1 - product * after) * (m / denominator)

    def _mu(self, t: Array) -> Array:
        return self.betas[0] * (1 - 0.5 * 0.96 ** (t * self.momentum_decay))

    def mu_product(self, t: Array) -> Array:
        """P_t, without the product: the same at any step for the same work."""
        if self.betas[0] == 0:
            return jnp.zeros_like(t)
        rate = -np.log(0.96) * self.momentum_decay
        total = t * np.log(self.betas[0])
        power, left = jnp.exp(-rate * t), -jnp.expm1(-rate * t)  # q^t and 1 - q^t of q = e^-rate; then of q^j
        factor, rest = power, left
        for j in range(1, _TERMS + 1):
            sums = t if rate == 0 else rest * (np.exp(-rate * j) / -np.expm1(-rate * j))
            total = total - 0.5**j / j * sums
            rest, factor = rest + factor * left, factor * power
        return jnp.exp(total)

    def consistent(self, kept: dict[str, float]) -> str:
        expected = float(self.mu_product(jnp.asarray(kept["step"])))
        given = kept.get("mu_product", expected)
        return (
            "" if np.isclose(given, expected, rtol=1e-4, atol=1e-30) else f"mu_product {given:.6g}, not {expected:.6g}"
        )


class RAdam(TorchOptimizer):
    """Adam whose denominator is left out while its variance is too large (Liu and others 2020):

    rho = rho_oo - 2 t' b2^t' / (1 - b2^t'), rho_oo = 2 / (1 - b2) - 1,
    dx = -lr m' / (1 - b1^t') s, s = 1 where rho <= 5, else
    s = sqrt((rho - 4) (rho - 2) rho_oo / ((rho_oo - 4) (rho_oo - 2) rho)) sqrt(1 - b2^t') / (sqrt(v') + eps).

    eps is added before the bias of v' is corrected.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = eqx.field(default=(0.9, 0.999), converter=_pair)
    eps: float = 1e-8
    weight_decay: float = 0.0
    decoupled_weight_decay: bool = False
    maximize: bool = False

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq", "step")

    @property
    def clock(self) -> int | None:
        return 2

    def _next(self, g: Array, *state: Array) -> tuple[Array, ...]:
        m, v, t = state
        return _mean(m, g, self.betas[0]), _square(v, g, self.betas[1]), t + 1

    def _change(self, g: Array, *state: Array) -> Array:
        m, v, t = state
        left = 1 - self.betas[1] ** t
        limit = 2 / (1 - self.betas[1]) - 1
        rho = limit - 2 * t * self.betas[1] ** t / left
        tractable = rho > 5
        far = jnp.where(tractable, rho, 6.0)  # so that no root is of a negative number where it is not used
        rectified = jnp.sqrt((far - 4) * (far - 2) * limit / ((limit - 4) * (limit - 2) * far)) if limit > 5 else 1.0
        scale = jnp.where(tractable, rectified * jnp.sqrt(left) / (_root(v) + self.eps), 1.0)
        return -self.lr * (m / (1 - self.betas[0] ** t)) * scale


class Adamax(TorchOptimizer):
    """m' = b1 m + (1 - b1) g, u' = max(b2 u, |g| + eps), dx = -lr / (1 - b1^t') m' / u' (Kingma and Ba 2015)."""

    lr: float = 2e-3
    betas: tuple[float, float] = eqx.field(default=(0.9, 0.999), converter=_pair)
    eps: float = 1e-8
    weight_decay: float = 0.0
    maximize: bool = False

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("exp_avg", "exp_inf", "step")

    @property
    def clock(self) -> int | None:
        return 2

    def _next(self, g: Array, *state: Array) -> tuple[Array, ...]:
        m, u, t = state
        return _mean(m, g, self.betas[0]), jnp.maximum(self.betas[1] * u, jnp.abs(g) + self.eps), t + 1

    def _change(self, g: Array, *state: Array) -> Array:
        m, u, t = state
        return -self.lr / (1 - self.betas[0] ** t) * (m / u)


class Adagrad(TorchOptimizer):
    """s' = s + g^2, dx = -lr / (1 + (t' - 1) lr_decay) g / (sqrt(s') + eps); a clock only with `lr_decay`."""

    lr: float = 1e-2
    lr_decay: float = 0.0
    weight_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10
    maximize: bool = False

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("sum", "step") if self.lr_decay else ("sum",)

    @property
    def clock(self) -> int | None:
        return 1 if self.lr_decay else None

    def initial_state(self) -> Array:
        return jnp.zeros(len(self.state_names)).at[0].set(self.initial_accumulator_value)

    def _next(self, g: Array, *state: Array) -> tuple[Array, ...]:
        total, *clock = state
        return total + g * g, *(t + 1 for t in clock)

    def _change(self, g: Array, *state: Array) -> Array:
        total, *clock = state
        rate = self.lr / (1 + (clock[0] - 1) * self.lr_decay) if clock else self.lr
        return -rate * (g / (_root(total) + self.eps))


class Adadelta(TorchOptimizer):
    """s' = rho s + (1 - rho) g^2, dx = -lr delta, a' = rho a + (1 - rho) delta^2,
    delta = g sqrt((a + eps) / (s' + eps)) (Zeiler 2012).

    In terms of the next state: a + eps = (a' + rho eps) / (rho + (1 - rho) g^2 / (s' + eps)).
    """

    lr: float = 1.0
    rho: float = 0.9
    eps: float = 1e-6
    weight_decay: float = 0.0
    maximize: bool = False
    decays: ClassVar = ("rho",)

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("square_avg", "acc_delta")

    def _next(self, g: Array, *state: Array) -> tuple[Array, ...]:
        square, moved = state
        square = _square(square, g, self.rho)
        delta = _root(moved + self.eps) / _root(square + self.eps) * g
        return square, _square(moved, delta, self.rho)

    def _change(self, g: Array, *state: Array) -> Array:
        square, moved = state
        ratio = g / _root(square + self.eps)
        before = (moved + self.rho * self.eps) / (self.rho + (1 - self.rho) * ratio * ratio)
        return -self.lr * (_root(before) * ratio)


class RMSprop(TorchOptimizer):
    """s' = alpha s + (1 - alpha) g^2, c = g / (sqrt(s') + eps), dx = -lr c, or dx = -lr b', b' = momentum b + c.

    Centred, the square of the mean gradient a' = alpha a + (1 - alpha) g is taken off s'.
    """

    lr: float = 1e-2
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centered: bool = False
    maximize: bool = False

    @property
    def state_names(self) -> tuple[str, ...]:
        mean = ("grad_avg",) if self.centered else ()
        return ("square_avg", *mean, *(("momentum_buffer",) if self.momentum > 0 else ()))

    def _next(self, g: Array, *state: Array) -> tuple[Array, ...]:
        square = _square(state[0], g, self.alpha)
        mean = [_mean(state[1], g, self.alpha)] if self.centered else []
        buffer = [self.momentum * state[-1] + self._scaled(g, square, *mean)] if self.momentum > 0 else []
        return square, *mean, *buffer

    def _change(self, g: Array, *state: Array) -> Array:
        return -self.lr * (state[-1] if self.momentum > 0 else self._scaled(g, *state))

    def _scaled(self, g: Array, square: Array, *mean: Array) -> Array:
        return g / (_root(square - mean[0] * mean[0] if mean else square) + self.eps)


class Rprop(TorchOptimizer):
    """dx = -sign(p') l': l' is l times eta+ where g p > 0, eta- where g p < 0, within `step_sizes`; p' = g, or 0 where
    g p < 0 (Riedmiller and Braun 1993; iRprop- of Igel and Huesken 2000)."""

    lr: float = 1e-2
    etas: tuple[float, float] = eqx.field(default=(0.5, 1.2), converter=_pair)
    step_sizes: tuple[float, float] = eqx.field(default=(1e-6, 50.0), converter=_pair)
    maximize: bool = False

    def __check_init__(self) -> None:
        if not 0 < self.etas[0] < 1 < self.etas[1]:
            raise ReoptError(f"torch's Rprop: etas are {self.etas}, but must be below and above 1")

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("prev", "step_size")

    def initial_state(self) -> Array:
        return jnp.asarray([0.0, self.lr])

    def _next(self, g: Array, *state: Array) -> tuple[Array, ...]:
        previous, size = state
        turn = g * previous
        factor = jnp.where(turn > 0, self.etas[1], jnp.where(turn < 0, self.etas[0], 1.0))
        return jnp.where(turn < 0, 0.0, g), jnp.clip(size * factor, *self.step_sizes)

    def _change(self, g: Array, *state: Array) -> Array:
        previous, size = state
        return -jnp.where(jnp.isnan(previous), 0.0, jnp.sign(previous)) * size  # torch's sign of NaN is 0


class ASGD(TorchOptimizer):
    """dx = -eta_t' (g + lambd x), eta_t = lr / (1 + lambd lr (t - 1))^alpha (Polyak and Juditsky 1992).

    The average `ax` that torch keeps beside the parameters acts on no step, and is left out.
    """

    lr: float = 1e-2
    lambd: float = 1e-4
    alpha: float = 0.75
    t0: float = 1e6
    weight_decay: float = 0.0
    maximize: bool = False

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("step",)

    @property
    def clock(self) -> int | None:
        return 0

    @property
    def sees_values(self) -> bool:
        return self.lambd != 0 or self.weight_decay != 0

    def decoupled(self, state: Array) -> Array | float:
        return self.lambd * self._eta(state[..., 0])

    def _eta(self, t: Array) -> Array:
        return self.lr / (1 + self.lambd * self.lr * (t - 1)) ** self.alpha

    def _next(self, g: Array, *state: Array) -> tuple[Array, ...]:
        return (state[0] + 1,)

    def _change(self, g: Array, *state: Array) -> Array:
        return -self._eta(state[0]) * g

    def consistent(self, kept: dict[str, float]) -> str:
        expected = float(self._eta(jnp.asarray(kept["step"] + 1)))
        given = kept.get("eta", expected)
        return "" if np.isclose(given, expected, rtol=1e-4) else f"eta {given:.6g}, not {expected:.6g}"


KINDS: dict[str, type[TorchOptimizer]] = {
    kind.__name__: kind
    for kind in (SGD, Adam, AdamW, NAdam, RAdam, Adamax, Adagrad, Adadelta, RMSprop, Rprop, ASGD)
}  # fmt: skip
