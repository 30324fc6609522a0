"""Probes at finite gradients, for rules that gate, sign or mask: where the slope at g = 0 says nothing.

Every reading here is the part of an answer that is odd or even under a change of sign, so that what follows the sign of
earlier gradients (a buffer) and what follows their size (a rate) are told apart without a derivative.

- **Memory.** From a state one gradient P is given, then k - 1 zeros, then a probe x. With f(P, x) the update then,
  A(P, x) = [f(P, x) - f(-P, x)] / 2. A rate that follows the size of P has none. A buffer adds to the update: A is
  there at x = 0, or, behind a gate that opens at some |x|, it is the same for all larger x of both signs, and grows
  with |P|. An A that does neither (a step that follows the agreement of two signs) is a memory, but no sum of earlier
  gradients; whether it is a buffer is then not told.
- **Rate.** After a history of gradients (none, constant, alternating) the states under it and under its mirror image
  are averaged: buffers cancel. There the rate is the secant [u(-x) - u(x)] / (2 x) at each size x that was met.
- **Schedule.** The same secant along the autonomous trajectory; where it is 0 throughout, that after the same gradient
  one step before.

Sizes reach from the small gradients met to 100 times the largest.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from reopt.dynamics.autonomous import FreeSystem
from reopt.dynamics.precision import double_precision, to_double
from reopt.mechanisms.sign_updates import response_modes
from reopt.mechanisms.update_function import evaluate_update_functions
from reopt.optimizers.base import Optimizer

SIZES = 14  # of gradients, a sign
LAGS = 30
LONG = 400  # lags over which buffers that were read are summed
REACH = 100.0  # times the largest gradient met
ROUNDING = 1e-10  # a difference below this share of the updates is rounding
SAME = 1e-3  # relative difference of what counts as the same
STEEPER = 1.1  # ratio from which on two values are not the same
IN_A_ROW = 3  # sizes, of probes and of pulses, by which a buffer behind a gate is told
MOST_MODES = 4
FIT = 1e-6  # of a response by its modes
GRID, SMALLEST = 600, 1e-3  # gradients by which an update function is followed, from this share of the sizes met on
WIDE = 1e12  # the largest state and gradient at which it is asked whether there is an update at all


class Memory(NamedTuple):
    """How the update remembers one finite gradient.

    `share` of the answer that comes later and adds to the update, the largest over the sizes of gradients, with its
    range; `other`, the largest share of a later update that depends on the sign of the gradient without adding to it;
    `direct`, minus the answer at once over the gradient, with its range; `alpha`, `beta` of the buffers, and the error
    of the alphas, where the later answers are a sum of powers; `answers` says that there was any update at all.
    """

    share: tuple[float, float, float]
    other: float
    direct: tuple[float, float, float]
    alpha: Complex[np.ndarray, " mode"]
    beta: Complex[np.ndarray, " mode"]
    error: Float[np.ndarray, " mode"]
    answers: bool


class Change(NamedTuple):
    """The largest relative range of a rate over what should not change it, at any size of the probe.

    `value` is NaN where no update was seen; `certain` says that it is a rate that changes, and not a buffer whose
    parts do not cancel.
    """

    value: float
    certain: bool


class Saturation(NamedTuple):
    """1 - slope far out over the largest secant, and the gradient at which that secant meets the level; over states."""

    fall: float
    threshold: float
    low: float
    high: float


class FiniteProbes:
    """An optimizer under finite gradients; each part is made when it is first asked for.

    **Arguments:** `starts` are whole states from which a gradient is given; `met` the gradients of recorded runs, in
    units of the gradient; a clock is held at `clock`; histories and the autonomous trajectory have `num_steps` steps.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        starts: Float[np.ndarray, "start hidden"],
        met: Float[np.ndarray, "..."],
        *,
        clock: float,
        num_steps: int,
    ) -> None:
        self.optimizer, self.starts, self.clock, self.num_steps = optimizer, starts, clock, num_steps
        self.sizes = probe_sizes(met)
        self._rates: tuple[np.ndarray, np.ndarray, np.ndarray, bool] | None = None

    @property
    def silent(self) -> bool:
        """Whether the update is 0 whatever the state and the gradient: then there is nothing to be found."""
        rng, scales = np.random.default_rng(0), np.geomspace(1 / WIDE, WIDE, 25)
        states = scales[:, None] * rng.normal(size=(25, self.optimizer.state_size))
        with double_precision():
            system = to_double(self.optimizer)
            pairs = [(sign * states, other * scales) for sign in (1, -1) for other in (1, -1)]
            updates = [system(jnp.asarray(state), jnp.asarray(gradient))[1] for state, gradient in pairs]
        return bool(np.all(np.asarray(updates) == 0))

    @property
    def stateless(self) -> bool:
        """Whether nothing but a clock is kept from step to step."""
        return self.optimizer.state_size == (self.optimizer.clock is not None)

    def memory(self) -> Memory:
        """How the update remembers one finite gradient."""
        with double_precision():
            system = FreeSystem(to_double(self.optimizer), self.clock)
            rows = jnp.asarray(system.restrict(self.starts))
            first, later = (np.asarray(a) for a in _pulses(system, rows, jnp.asarray(self.sizes), LAGS))
        return remembered(self.sizes, first, later)

    def rate_change(self) -> Change:
        """How the rate follows the gradients before, at the sizes met."""
        rates, mixed, odd = self._histories()
        with np.errstate(invalid="ignore"):
            value = _largest_range(rates, axis=1)
            if np.isfinite(value):
                return Change(value, odd)
            return Change(_largest_range(mixed[:, 1:], axis=1), False)

    def saturation(self) -> Saturation | None:
        """How the update levels off in the states of all histories, in which buffers cancel; None if it is 0 there."""
        grid = np.geomspace(SMALLEST * self.sizes[0], self.sizes[-1], GRID)
        both = evaluate_update_functions(self.optimizer, self._even_states(), np.concatenate([grid, -grid]))[0]
        level = 0.5 * (both[:, GRID:] - both[:, :GRID])
        level = level[np.isfinite(level).all(axis=1) & (np.abs(level).max(axis=1) > 0)]
        if not len(level):
            return None
        secants = np.abs(level / grid)
        steepest, below = secants.max(axis=1), (secants.argmax(axis=1) == 0).any()
        half = int(np.searchsorted(grid, 0.5 * grid[-1]))
        far = np.abs(level[:, -1] - level[:, half]) / (grid[-1] - grid[half])
        thresholds = np.abs(level).max(axis=1) / steepest
        apart = grid[1] / grid[0]
        low, high = 0.0 if below else float(thresholds.min() / apart), float(thresholds.max() * apart)
        return Saturation(float(1 - (far / steepest).max()), float(np.median(thresholds)), low, high)

    def schedule(self) -> Float[np.ndarray, "step size"]:
        """The rate by the secant at each size along the autonomous trajectory; no columns where no update was seen."""
        with double_precision():
            both = _secants(to_double(self.optimizer), jnp.asarray(self.sizes), self.num_steps)
            at_once, repeated = (np.asarray(a) for a in both)
        for rates in (at_once, repeated):
            seen = np.isfinite(rates).all(axis=0) & (rates != 0).any(axis=0)
            if seen.any():
                return rates[:, seen]
        return np.zeros((self.num_steps, 0))

    def _histories(self) -> tuple[np.ndarray, np.ndarray, bool]:
        """Rates [mark, history, size] in the mean states, means of the rates in both, and whether F and r are odd."""
        rates, mixed, _, odd = self._driven()
        return rates, mixed, odd

    def _even_states(self) -> Float[np.ndarray, "history hidden"]:
        return self._driven()[2]

    def _driven(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
        if self._rates is None:
            marks = tuple(sorted({max(self.num_steps // 8, 1), max(self.num_steps // 2, 1), self.num_steps}))
            with double_precision():
                system = FreeSystem(to_double(self.optimizer), self.clock)
                start = jnp.asarray(system.restrict(np.asarray(system.optimizer.initial_state())))
                found = _after_histories(system, start, jnp.asarray(self.sizes), marks)
                even, plus, minus, states = (np.asarray(a) for a in found)
            size = np.maximum(np.abs(plus), np.abs(minus)).max(axis=-1, keepdims=True)
            apart = np.abs(plus + np.flip(minus, axis=-1))  # u(-h, -x) = -u(h, x); sizes are -x .. x
            with np.errstate(invalid="ignore"):
                odd = bool(np.all(~np.isfinite(apart) | (apart <= SAME * size)))
            rates, one, other = (self._secant(values) for values in (even, plus, minus))
            self._rates = rates, 0.5 * (one + other), system.embed(states[-1]), odd
        return self._rates

    def _secant(self, updates: Float[np.ndarray, "mark history probe"]) -> np.ndarray:
        count = len(self.sizes)
        return (np.flip(updates[..., :count], axis=-1) - updates[..., count:]) / (2 * self.sizes)


def probe_sizes(met: Float[np.ndarray, "..."]) -> Float[np.ndarray, " size"]:
    """Sizes of gradients from the 5% quantile of those met (or a tenth of the largest) to `REACH` times the largest."""
    sizes = np.abs(np.asarray(met, np.float64)).ravel()
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    if not sizes.size:
        return np.geomspace(1e-2, REACH, SIZES)
    largest = float(np.quantile(sizes, 0.999))
    low = float(np.clip(np.quantile(sizes, 0.05), 1e-4 * largest, 0.1 * largest))
    return np.geomspace(low, REACH * largest, SIZES)


def remembered(
    sizes: Float[np.ndarray, " size"],
    first: Float[np.ndarray, "start sign size"],
    later: Float[np.ndarray, "start sign size lag probe"],
) -> Memory:
    """What the updates after a gradient say of its memory.

    **Arguments:** `first` are the updates at the gradients of both signs (plus, minus), `later` those after it, at the
    probes -x .. x with 0 in the middle.
    """
    at_once = 0.5 * (first[:, 0] - first[:, 1])
    odd = 0.5 * (later[:, 0] - later[:, 1])
    whole = np.abs(later).max(axis=1)
    odd = np.where(np.abs(odd) > ROUNDING * whole, odd, 0.0)
    good = np.isfinite(at_once) & np.isfinite(odd).all(axis=(2, 3))
    at_once, odd = np.where(good, at_once, 0), np.where(good[..., None, None], odd, 0)
    middle = odd[..., len(sizes)]
    added = np.abs(middle).sum(axis=2)
    gated = _plateaus(odd[:, :, 0])
    shares = np.maximum(_share(at_once, added), _share(at_once, np.abs(gated)))
    # Where no gradient is answered at once, as through a closed gate, all comes later: told only of what always delays.
    open_gate = at_once != 0
    known = shares[open_gate | ~open_gate.any(axis=1, keepdims=True)]
    # Of what the gradient moved, or the probe, whichever is more: after a probe of 0 there is nothing but memory.
    size = np.maximum(whole, np.abs(at_once)[..., None, None])
    with np.errstate(divide="ignore", invalid="ignore"):
        other = float(np.where(size > 0, np.abs(odd) / size, 0.0)[good].max(initial=0.0))
    direct = -(at_once / sizes)[good]
    direct = direct if direct.size else np.zeros(1)
    alpha, beta, error = _buffers(sizes, middle)
    spread = float(direct[-1]), float(direct.min()), float(direct.max())
    answers = bool(good.any() and (np.any(first != 0) or np.any(later != 0)))
    share = _whole_share(known, middle, alpha, beta, abs(spread[0]))
    return Memory(share, other, spread, alpha, beta, error, answers)


def _whole_share(
    known: np.ndarray, middle: np.ndarray, alpha: np.ndarray, beta: np.ndarray, at_once: float
) -> tuple[float, float, float]:
    """The largest share, its least and greatest: to the end where buffers were read; else it may be more than was seen.

    What was seen is all of it only where the last of the answers have faded.
    """
    value = float(known.max(initial=0.0))
    if alpha.size:
        after = float(np.abs(np.real(beta[None, :] ** np.arange(1, LONG)[:, None] @ alpha)).sum())
        value = after / (after + at_once)
        return value, value * (1 - FIT), min(value * (1 + FIT), 1.0)
    late = np.abs(middle[..., -LAGS // 4 :]).max(initial=0.0)
    faded = value == 0 or (np.abs(middle).max(initial=0.0) > 0 and late <= FIT * np.abs(middle).max())
    return value, float(known[known > 0].min(initial=value)), value if faded else 1.0


def _share(at_once: np.ndarray, after: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(after > 0, after / (np.abs(at_once) + after), 0.0)


def _plateaus(odd: Float[np.ndarray, "start size probe"]) -> Float[np.ndarray, "start size"]:
    """What a gradient adds to the update at all probes beyond a gate, where that grows with the gradient; else 0."""
    count = odd.shape[2] // 2
    right, left = odd[..., count + 1 :], np.flip(odd[..., :count], axis=-1)
    found = np.zeros(odd.shape[:2])
    for i in range(count - IN_A_ROW + 1):
        part = np.concatenate([right[..., i : i + IN_A_ROW], left[..., i : i + IN_A_ROW]], axis=-1)
        flat = np.ptp(part, axis=-1) <= SAME * np.abs(part).min(axis=-1)
        found = np.where((found == 0) & flat, part.mean(axis=-1), found)
    for row in found:
        heights = np.abs(row[row != 0])
        rising = (heights[1:] > STEEPER * heights[:-1]).sum() if heights.size else 0
        row[:] = row if rising >= IN_A_ROW - 1 else 0
    return found


def _buffers(
    sizes: Float[np.ndarray, " size"], middle: Float[np.ndarray, "start size lag"]
) -> tuple[Complex[np.ndarray, " mode"], Complex[np.ndarray, " mode"], Float[np.ndarray, " mode"]]:
    """alpha, beta of the later answers to the largest gradients, and by how much the alphas differ between them.

    None where the answers are no sum of a few powers, or of others for another gradient.
    """
    nothing = np.zeros(0, complex), np.zeros(0, complex), np.zeros(0)
    for start in middle:
        heard = np.flatnonzero(np.abs(start).max(axis=1) > 0)[-2:]
        if heard.size < 2:
            continue
        responses = -start[heard] / sizes[heard, None]
        if not np.isfinite(responses).all():
            continue
        (a, one), (b, other) = (response_modes(response) for response in responses)
        powers = one[None, :] ** np.arange(1, LAGS + 1)[:, None]
        fits = np.abs(powers @ a - responses[0]).max(initial=0) <= FIT * np.abs(responses[0]).max()
        if fits and 0 < one.size == other.size <= MOST_MODES and np.allclose(one, other, rtol=FIT, atol=FIT):
            return b, other, np.abs(a - b) + FIT * np.abs(b)
    return nothing


def _largest_range(rates: np.ndarray, axis: int) -> float:
    """The largest relative range along `axis`; NaN where all rates are 0."""
    finite = np.isfinite(rates).all(axis=axis)
    size = np.abs(rates).max(axis=axis)
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.where(finite & (size > 0), np.ptp(rates, axis=axis) / size, np.nan)
    return float(np.nanmax(change)) if np.isfinite(change).any() else np.nan


def _probes(sizes: Array) -> Array:
    """-x .. x without 0."""
    return jnp.concatenate([-sizes[::-1], sizes])


@eqx.filter_jit
def _pulses(system: FreeSystem, starts: Array, sizes: Array, num_lags: int) -> tuple[Array, Array]:
    """Updates at the gradients [start, sign, size], and later ones [start, sign, size, lag, probe]."""
    zero = jnp.zeros((), starts.dtype)
    probes = jnp.concatenate([-sizes[::-1], zero[None], sizes])

    def one(start: Array, pulse: Array) -> tuple[Array, Array]:
        state, at_once = system.advance(start, pulse)

        def wait(state: Array, _: None) -> tuple[Array, Array]:
            updates = jax.vmap(lambda probe: system.advance(state, probe)[1])(probes)
            return system.step(state, zero), updates

        return at_once, jax.lax.scan(wait, state, None, length=num_lags)[1]

    over_sizes = jax.vmap(one, (None, 0))
    over_signs = jax.vmap(over_sizes, (None, 0))
    return jax.vmap(over_signs, (0, None))(starts, jnp.stack([sizes, -sizes]))


@eqx.filter_jit
def _after_histories(system: FreeSystem, start: Array, sizes: Array, marks: tuple[int, ...]) -> tuple[Array, ...]:
    """Updates [mark, history, probe] in the mean states of a history and its mirror image, in those after the history,
    and in those after the mirror image; and the mean states [mark, history, free]. The first history has no gradient.
    """
    shape = jnp.concatenate([jnp.zeros(1), sizes, sizes]), jnp.concatenate([jnp.zeros(1 + len(sizes)), sizes])
    alternating = shape[1] > 0
    rows = jnp.tile(start, (len(alternating), 1))

    def advance(states: Array, step: Array) -> tuple[Array, Array]:
        sign = jnp.where(alternating & (step % 2 == 1), -1.0, 1.0)
        both = jnp.stack([sign * shape[0], -sign * shape[0]])
        states = jax.vmap(jax.vmap(system.step))(states, both)
        return states, states

    _, every = jax.lax.scan(advance, jnp.stack([rows, rows]), jnp.arange(marks[-1]))
    plus, minus = (jnp.stack([every[mark - 1, side] for mark in marks]) for side in (0, 1))
    probe = jax.vmap(jax.vmap(lambda h: jax.vmap(lambda x: system.advance(h, x)[1])(_probes(sizes))))
    even = 0.5 * (plus + minus)
    return probe(even), probe(plus), probe(minus), even


@eqx.filter_jit
def _secants(optimizer: Optimizer, sizes: Array, num_steps: int) -> tuple[Array, Array]:
    """Rates by the secant [step, size] along the autonomous trajectory, and those after the same gradient once."""

    def secant(state: Array, size: Array) -> tuple[Array, Array]:
        ends = [optimizer(state, sign * size) for sign in (1, -1)]
        again = [optimizer(after, sign * size)[1] for (after, _), sign in zip(ends, (1, -1), strict=True)]
        return (ends[1][1] - ends[0][1]) / (2 * size), (again[1] - again[0]) / (2 * size)

    def body(state: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
        rates = jax.vmap(secant, (None, 0))(state, sizes)
        return optimizer.update(state, jnp.zeros((), state.dtype)), rates

    start = jnp.asarray(optimizer.initial_state(), jnp.float64)
    return jax.lax.scan(body, start, None, length=num_steps)[1]
