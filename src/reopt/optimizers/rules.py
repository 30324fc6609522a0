"""A family of optimizers in a few numbers each, whose parts have names: what a learned one can be distilled to.

With the gradient g, the velocity u and the state of one parameter, the whole family is

    r  = a / (|a| + (k1 lr g^2 + k2 u^2 / lr) / 2),   a = -g u      agreement of gradient and last step, in (-1, 1)
    b  = sigmoid(q0 + q1 r + q2 r^2)                                momentum; without the gate it is constant
    l' = d l + e (r - r0)                                           gain of the step, in logarithm
    s' = c2 s + (1 - c2) g^2                                        second moment, corrected for its start
    x  = c tanh(g / c) (s' + eps)^(-p)                              clipping, and a power law of adaptation
    u' = b u - lr exp(l') x,    dx = u' - c0 lr exp(l') x           heavy ball, and what acts at once

and with a schedule log lr and q0 are also moved by a line of knots in the logarithm of the step. A rule has some of the
parts; `heavy ball`, two numbers, is in all.
"""

from collections.abc import Mapping
from types import MappingProxyType

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from reopt.core.errors import ReoptError
from reopt.optimizers.base import Optimizer

KNOTS = 4  # of a schedule, beside its start
TINY = 1e-30

PARTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "gate": ("q1", "q2"),
        "gain": ("d_logit", "e", "r0"),
        "clip": ("c_log",),
        "power": ("p", "eps_log", "c2_logit"),
        "direct": ("c0",),
        "schedule": ("rate_knots", "push_knots"),
    }
)
"""The numbers of each part; gate and gain share `AGREEMENT`."""

ALWAYS = ("rate_log", "q0")
AGREEMENT = ("k1_log", "k2_log")


def numbers_of(parts: tuple[str, ...]) -> tuple[str, ...]:
    """The names of a rule's numbers, in order. **Raises** `ReoptError` for an unknown part."""
    for part in parts:
        if part not in PARTS:
            raise ReoptError(f"no part of a rule is called {part!r}; there are: {', '.join(PARTS)}")
    shared = AGREEMENT if {"gate", "gain"} & set(parts) else ()
    return (*ALWAYS, *shared, *(name for part in PARTS if part in parts for name in PARTS[part]))


class Rule(Optimizer):
    """A member of the family: its `numbers` by name, without bounds on any of them, and its `parts`.

    `horizon` is the step at which the last knot of a schedule stands.
    """

    numbers: dict[str, Float[Array, "..."]]
    parts: tuple[str, ...] = eqx.field(static=True, default=())
    horizon: int = eqx.field(static=True, default=201)

    @property
    def state_names(self) -> tuple[str, ...]:
        return (
            "velocity",
            *(("gain",) if "gain" in self.parts else ()),
            *(("second_moment",) if "power" in self.parts else ()),
            *(("step",) if self._counts else ()),
        )

    @property
    def _counts(self) -> bool:
        return bool({"power", "schedule"} & set(self.parts))

    @property
    def clock(self) -> int | None:
        return self.state_names.index("step") if self._counts else None

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return int(sum(np.size(value) for value in self.numbers.values()))

    def initial_state(self) -> Array:
        return jnp.zeros(len(self.state_names))

    def update(self, state: Array, gradient: Array) -> Array:
        n, old = self._numbers(state), self._named(state)
        g, u, time = gradient, old["velocity"], old.get("step", jnp.zeros_like(gradient))
        rate, push = self._rate_and_push(n, time)
        new: dict[str, Array] = {}
        if "k1_log" in n:
            a = -g * u
            size = 0.5 * (jnp.exp(n["k1_log"]) * rate * g * g + jnp.exp(n["k2_log"]) * u * u / rate)
            r = a / (jnp.abs(a) + size + TINY)
            if "gate" in self.parts:
                push = push + n["q1"] * r + n["q2"] * r * r
            if "gain" in self.parts:
                new["gain"] = jax.nn.sigmoid(n["d_logit"]) * old["gain"] + n["e"] * (r - n["r0"])
        if "power" in self.parts:
            decay = jax.nn.sigmoid(n["c2_logit"])
            new["second_moment"] = decay * old["second_moment"] + (1 - decay) * g * g
        if self._counts:
            new["step"] = time + 1
        velocity = jax.nn.sigmoid(push) * u - self._step(n, new, g)
        return jnp.stack([velocity, *new.values()], axis=-1)

    def readout(self, state: Array, gradient: Array) -> Array:
        new = self._named(state)
        if "direct" not in self.parts:
            return new["velocity"]
        n = self._numbers(state)
        return new["velocity"] - n["c0"] * self._step(n, new, gradient)

    def _step(self, n: Mapping[str, Array], new: Mapping[str, Array], g: Array) -> Array:
        """lr exp(l') x, of the state after the step."""
        time, x = new.get("step", jnp.ones_like(g)), g
        if "clip" in self.parts:
            x = jnp.exp(n["c_log"]) * jnp.tanh(g / jnp.exp(n["c_log"]))
        if "power" in self.parts:
            s = new["second_moment"] / (1 - jax.nn.sigmoid(n["c2_logit"]) ** time)
            x = x * (s + jnp.exp(n["eps_log"])) ** -n["p"]
        rate = self._rate_and_push(n, time - 1)[0]
        return rate * jnp.exp(new["gain"]) * x if "gain" in self.parts else rate * x

    def _rate_and_push(self, n: Mapping[str, Array], time: Array) -> tuple[Array, Array]:
        """lr, and q0, of a step."""
        if "schedule" not in self.parts:
            return jnp.exp(n["rate_log"]), n["q0"]
        at = jnp.log1p(jax.lax.stop_gradient(time)) / np.log1p(self.horizon) * KNOTS
        return jnp.exp(n["rate_log"] + _line(at, n["rate_knots"])), n["q0"] + _line(at, n["push_knots"])

    def _numbers(self, like: Array) -> dict[str, Array]:
        return {name: jnp.asarray(value, like.dtype) for name, value in self.numbers.items()}

    def _named(self, state: Array) -> dict[str, Array]:
        return {name: state[..., at] for at, name in enumerate(self.state_names)}


def _line(at: Array, knots: Float[Array, " knot"]) -> Array:
    """The broken line from 0 at 0 through the knots at 1, 2, ...; level after the last."""
    rises = jnp.diff(jnp.concatenate([jnp.zeros(1, knots.dtype), knots]))
    return jnp.sum(rises * jnp.clip(at[..., None] - np.arange(KNOTS), 0, 1), axis=-1)


def heavy_ball(rate: float, momentum: float, *, largest: float, usual: float) -> dict[str, Array]:
    """Numbers of all parts at which a rule is a heavy ball, with clipping far out and no adaptation.

    **Arguments:** `largest` and `usual` are sizes of the gradients that are met.
    """
    push = float(np.log(momentum / (1 - momentum)))
    start = {
        "rate_log": np.log(rate),
        "q0": push,
        "k1_log": 0.0,
        "k2_log": 0.0,
        "q1": 0.0,
        "q2": 0.0,
        "d_logit": 2.0,
        "e": 0.0,
        "r0": 0.0,
        "c_log": np.log(3 * largest),
        "p": 0.0,
        "eps_log": 2 * np.log(usual),
        "c2_logit": 2.0,
        "c0": 0.0,
        "rate_knots": np.zeros(KNOTS),
        "push_knots": np.zeros(KNOTS),
    }
    return {name: jnp.asarray(value, jnp.float32) for name, value in start.items()}


def rule(numbers: Mapping[str, Array], parts: tuple[str, ...], horizon: int) -> Rule:
    """The rule of these parts, with its share of the numbers."""
    return Rule({name: jnp.asarray(numbers[name]) for name in numbers_of(parts)}, tuple(parts), horizon)
