"""What one step of an optax transformation does with its gradients, read by probes at its true state.

The transformation is called beside the training at the state s, parameters p and gradient g of one step; u(g) is its
update and s' its next state. With e small, K large and t = sign(g) max(|g|, a tenth of the largest |g| of the array):

    derivative    D_i = du_i/dg_i, along t on every other element, then on the rest: what the other half of the elements
                  does to u_i (0 in a chain that acts element by element) is told from what its own does
    response      R = u(g) - u(0): what this step owes to this gradient. Momentum and weight decay are in both updates.
    coasting      u1 = u(0) at s', u2 = u(0) at the state after that, both at p = 0: steps without gradient and decay

Then, over the elements of a group whose update answers to their gradient at all (K t or -K t changes it),

    learning_rate    median of -D_i over the elements that are not clipped, with quartiles
    secant_rate      -<R, g> / <g, g>
    saturation       1 - <Du(g) g, R> / <R, R>: 0 where twice the gradient gives twice the response, 1 where it gives
                     the same
    memory           <u2, u1> / <u1, u1>: what is left of an update one step later if no gradient comes
    clipped          share of elements with D_i = 0 whose update stays as it is under K t or under -K t, not both
    adaptation       slope of log(-D_i) against log|g_i| over the elements that are not clipped

A number that these probes cannot tell is NaN and has a reason.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, subjaxprs
from jaxtyping import Array, Bool, Float, Int8, PyTree

QUANTITIES = ("learning_rate", "secant_rate", "saturation", "memory", "clipped", "adaptation")
CHANNELS = (*QUANTITIES, "low", "high", "elements")
"""Columns of a row of the log; `low` and `high` are of the learning rate."""

REASONS = (
    "",
    "a gradient or an update is not finite",
    "no derivative can be taken of the transformation",
    "no update answers to its gradient at this step: frozen, a rate of 0, or gradients are accumulated",
    "elements are coupled: the update of one depends on the gradients of others (see secant_rate)",
    "the update follows the sign of the gradient alone at this step, or all is clipped (see secant_rate)",
    "every element is clipped",
    "no element has a finite derivative, as before its first gradient that is not 0",
    "all gradients are 0",
    "the gradient's part of the update is lost in rounding",
    "the state holds copies of parameters",
    "the state holds a random key",
    "the update depends on the parameters otherwise than by weight decay",
    "the next step answers to no gradient: gradients are accumulated (put the tap inside), or the rate is 0 there",
    "too few elements, or their gradients are all of one size",
    "most derivatives are of the wrong sign",
)
"""By code, why a quantity was not read."""

(
    READ,
    NOT_FINITE,
    NO_DERIVATIVE,
    FROZEN,
    COUPLED,
    SIGN,
    ALL_CLIPPED,
    FRESH,
    NO_GRADIENT,
    ROUNDING,
    HOLDS_PARAMETERS,
    RANDOM,
    VALUES,
    SILENT,
    FEW,
    NEGATIVE,
) = range(len(REASONS))

LARGE, SMALL = 1e4, 1e-3  # K and e
FEWEST = 8  # elements in a slope

Update = Callable[[PyTree, PyTree, PyTree], tuple[PyTree, PyTree]]
"""Gradients, state and parameters to updates and the next state."""


class Sampling(NamedTuple):
    """Which elements of which arrays stand for each group: every `strides[k]`-th of the k-th array."""

    groups: int
    members: tuple[int | None, ...]  # the group of each array; None where it holds no real numbers
    strides: tuple[int, ...]
    valid: np.ndarray  # [group, sample]
    dtype: Any
    eps: np.ndarray  # [group, 1], rounding of the coarsest type of the group


def is_real(leaf: Any) -> bool:
    """Whether it is an array of real floating-point numbers."""
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def choose(leaves: Sequence[Array], owners: Sequence[int], groups: int, samples: int | None) -> Sampling:
    """About `samples` elements a group, in proportion to the sizes of its arrays, one at least of each; None: all.

    A stride shares no divisor with the length of a row (all axes but the first), so that it meets all columns alike.
    """
    members = tuple(owner if is_real(leaf) and leaf.size else None for leaf, owner in zip(leaves, owners, strict=True))
    totals = [sum(leaf.size for leaf, m in zip(leaves, members, strict=True) if m == group) for group in range(groups)]
    strides, counts, eps = [], [0] * groups, np.zeros((groups, 1))
    for leaf, member in zip(leaves, members, strict=True):
        stride = 1 if samples is None or member is None else -(-totals[member] // samples)
        while stride > 1 and math.gcd(stride, math.prod(leaf.shape[1:])) > 1:
            stride += 1
        strides.append(stride)
        if member is not None:
            counts[member] += -(-leaf.size // stride)
            eps[member] = max(eps[member, 0], float(jnp.finfo(leaf.dtype).eps))
    valid = np.arange(max([1, *counts])) < np.array(counts)[:, None]
    types = [leaf.dtype for leaf, member in zip(leaves, members, strict=True) if member is not None]
    return Sampling(groups, members, tuple(strides), valid, jnp.result_type(jnp.float32, *types), eps)


def read(
    update: Update,
    gradients: PyTree[Array],
    state: PyTree[Array],
    params: PyTree[Array] | None,
    sampling: Sampling,
    holds_parameters: Bool[Array, ""],
) -> tuple[Float[Array, "group channel"], Int8[Array, "group quantity"]]:
    """A row of the log, as named in `CHANNELS`, and the reason (`REASONS`) of each of the quantities."""
    probes = _probe(update, gradients, state, params, sampling)
    return _quantities(probes, sampling, holds_parameters, _holds_key(state))


class _Probes(NamedTuple):
    """Sampled elements [group, sample] of gradients, updates and derivatives."""

    gradient: Array
    update: Array
    without: Array  # u(0)
    small: Array  # u(e g)
    plus: Array  # u(K t)
    minus: Array  # u(-K t)
    coasting: tuple[Array, Array]  # u1, u2
    driven: tuple[Array, Array]  # the same steps with large gradients
    valued: tuple[Array, Array] | None  # u1 at p and at p / 2
    own: Array | None  # D
    others: Array | None  # what the other half of the elements does
    along: Array | None  # derivative along g


def _probe(update: Update, gradients: PyTree, state: PyTree, params: PyTree, sampling: Sampling) -> _Probes:
    leaves, structure = jax.tree.flatten(gradients)
    real = [k for k, member in enumerate(sampling.members) if member is not None]

    def tree(values: Sequence[Array]) -> PyTree:
        filled = list(leaves)
        for k, value in zip(real, values, strict=True):
            filled[k] = value.astype(leaves[k].dtype)
        return jax.tree.unflatten(structure, filled)

    def step(values: Sequence[Array], state: PyTree = state, params: PyTree = params) -> tuple[list[Array], PyTree]:
        updates, after = update(tree(values), state, params)
        found = jax.tree.leaves(updates)
        return [found[k] for k in real], after

    def pick(values: Sequence[Array]) -> Array:
        rows: list[list[Array]] = [[] for _ in range(sampling.groups)]
        for k, value in zip(real, values, strict=True):
            member = sampling.members[k]
            assert member is not None
            rows[member].append(value.reshape(-1)[:: sampling.strides[k]].astype(sampling.dtype))
        width = sampling.valid.shape[1]
        filled = [jnp.concatenate([*row, jnp.zeros(width - sum(map(len, row)), sampling.dtype)]) for row in rows]
        return jnp.stack(filled)

    given = [leaves[k] for k in real]
    direction = [_direction(leaf) for leaf in given]
    starts = np.cumsum([0, *(leaf.size for leaf in given)])
    even = [
        (jnp.arange(leaf.size, dtype=jnp.uint32).reshape(leaf.shape) + int(start) % 2) % 2 == 0
        for leaf, start in zip(given, starts, strict=False)
    ]
    nothing = [jnp.zeros_like(leaf) for leaf in given]
    large = [
        jnp.clip(
            LARGE * t.astype(sampling.dtype), -float(jnp.finfo(t.dtype).max) / 4, float(jnp.finfo(t.dtype).max) / 4
        )
        for t in direction
    ]
    chosen, after = step(given)
    still = _scaled(params, 0.0)
    first, second_state = step(nothing, after, still)
    second, _ = step(nothing, second_state, still)

    def against(updates: Sequence[Array]) -> list[Array]:
        """Large gradients that push against these updates, so that they change even where a sign is all that counts."""
        return [jnp.where(u < 0, -jnp.abs(g), jnp.abs(g)) for u, g in zip(updates, large, strict=True)]

    own = others = along = None
    halves = [
        [jnp.where(mask, t, 0) for mask, t in zip(even, direction, strict=True)],
        [jnp.where(mask, 0, t) for mask, t in zip(even, direction, strict=True)],
    ]
    tangents = _derivatives(lambda values: step(values)[0], given, [*halves, given])
    if tangents is not None:
        of_even, of_odd, along = map(pick, tangents)
        is_even = pick([mask.astype(leaf.dtype) for mask, leaf in zip(even, given, strict=True)]) > 0
        t = jnp.where(sampling.valid, pick(direction), 1)
        own, others = jnp.where(is_even, of_even, of_odd) / t, jnp.where(is_even, of_odd, of_even)
    valued = None
    if params is not None:
        valued = pick(step(nothing, after, params)[0]), pick(step(nothing, after, _scaled(params, 0.5))[0])
    return _Probes(
        gradient=pick(given),
        update=pick(chosen),
        without=pick(step(nothing)[0]),
        small=pick(step([SMALL * leaf for leaf in given])[0]),
        plus=pick(step(large)[0]),
        minus=pick(step([-value for value in large])[0]),
        coasting=(pick(first), pick(second)),
        driven=(pick(step(against(first), after, still)[0]), pick(step(against(second), second_state, still)[0])),
        valued=valued,
        own=own,
        others=others,
        along=along,
    )


def _derivatives(
    function: Callable[[list[Array]], list[Array]], point: list[Array], directions: list[list[Array]]
) -> list[list[Array]] | None:
    """Forward derivatives along each of the directions, or None where the function has none."""

    def along(direction: list[Array]) -> list[Array]:
        return jax.jvp(function, (point,), (direction,))[1]

    try:
        traced = jax.make_jaxpr(along)(point)
    except Exception:  # whatever somebody's transformation raises
        return None
    # A function with a backward pass of its own is refused only when the program is compiled.
    return None if _backward_only(traced.jaxpr) else [along(direction) for direction in directions]


def _backward_only(jaxpr: Jaxpr) -> bool:
    return any(equation.primitive.name == "custom_lin" for equation in jaxpr.eqns) or any(
        map(_backward_only, subjaxprs(jaxpr))
    )


def _direction(leaf: Array) -> Array:
    """t of an array; 1 where all of it is 0."""
    size = jnp.maximum(jnp.abs(leaf), jnp.max(jnp.abs(leaf)) / 10)
    return jnp.where(leaf < 0, -size, jnp.where(size > 0, size, 1)).astype(leaf.dtype)


def _scaled(params: PyTree, factor: float) -> PyTree:
    """The real arrays among the parameters times a factor."""
    return jax.tree.map(lambda leaf: (factor * leaf).astype(leaf.dtype) if is_real(leaf) else leaf, params)


def _holds_key(state: PyTree) -> bool:
    """Whether a state holds what looks like a random key."""
    leaves = [leaf for leaf in jax.tree.leaves(state) if hasattr(leaf, "dtype")]
    return any(
        jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        or (leaf.dtype == jnp.uint32 and leaf.shape[-1:] in ((2,), (4,)))
        for leaf in leaves
    )


def _quantities(
    probes: _Probes, sampling: Sampling, holds_parameters: Array, holds_key: bool
) -> tuple[Float[Array, "group channel"], Int8[Array, "group quantity"]]:
    g, u, valid = probes.gradient, probes.update, jnp.asarray(sampling.valid)
    tolerance = 4 * jnp.asarray(sampling.eps, g.dtype)

    def same(a: Array, b: Array) -> Array:
        return jnp.abs(a - b) <= tolerance * jnp.maximum(jnp.abs(a), jnp.abs(b))

    def count(mask: Array) -> Array:
        return jnp.sum(mask, axis=1)

    own = jnp.zeros_like(g) if probes.own is None else probes.own
    stays_plus, stays_minus = same(probes.plus, u), same(probes.minus, u)
    live = valid & (~(stays_plus & stays_minus) | (jnp.isfinite(own) & (own != 0)))
    number = count(live)

    response = u - probes.without
    flat = live & (own == 0)
    clipped = flat & (stays_plus ^ stays_minus)
    sign = _follows_the_sign(probes, response, live & ~same(u, probes.without) & (g != 0), live, flat)
    answers = live & jnp.isfinite(own) & ~flat
    rates = -own

    # Scaled to a largest gradient of 1, so that squares neither vanish nor overflow.
    largest = jnp.max(jnp.where(live, jnp.abs(g), 0), axis=1)
    unit = jnp.where(live, g, 0) / jnp.where(largest > 0, largest, 1)[:, None]
    secant = -_dot(jnp.where(live, response, 0), unit) / (_dot(unit, unit) * largest)
    lost = jnp.asarray(sampling.eps)[:, 0] * _norm(jnp.where(live, u, 0)) > 0.01 * _norm(jnp.where(live, response, 0))

    along = jnp.full_like(g, jnp.nan) if probes.along is None else probes.along
    seen = live & jnp.isfinite(along)
    saturation = 1 - _share(jnp.where(seen, along, 0), jnp.where(seen, response, 0))

    one, two = (jnp.where(live, part, 0) for part in probes.coasting)
    memory = jnp.where(_norm(one) > 0, _share(two, one), 0)
    silent = ~jnp.all(
        jnp.stack(
            [
                jnp.any(live & ~same(driven, coasting), axis=1)
                for driven, coasting in zip(probes.driven, probes.coasting, strict=True)
            ]
        ),
        axis=0,
    )
    low, middle, high = _quantiles(rates, answers, (0.25, 0.5, 0.75))
    fit = answers & (rates > 0) & (g != 0)
    slope, spread = _slope(jnp.log(jnp.abs(g)), jnp.log(rates), fit)

    unfinished = jnp.any(valid & ~(jnp.isfinite(g) & jnp.isfinite(u)), axis=1)
    no_derivative = jnp.full(sampling.groups, probes.own is None)
    frozen = number == 0
    coupled = jnp.zeros_like(frozen)
    if probes.others is not None:
        coupled = jnp.any(live & jnp.isfinite(probes.others) & (probes.others != 0), axis=1)
    element_wise = [
        (unfinished, NOT_FINITE),
        (no_derivative, NO_DERIVATIVE),
        (frozen, FROZEN),
        (coupled, COUPLED),
        (sign, SIGN),
    ]
    whole: list[tuple[Array, int]] = [
        (unfinished, NOT_FINITE),
        (frozen, FROZEN),
        (largest == 0, NO_GRADIENT),
        (lost, ROUNDING),
    ]
    reasons: dict[str, list[tuple[Array, int]]] = {
        "learning_rate": [*element_wise, (count(clipped) == number, ALL_CLIPPED), (count(answers) == 0, FRESH)],
        "secant_rate": whole,
        "saturation": [*whole, (no_derivative, NO_DERIVATIVE)],
        "memory": [
            (unfinished, NOT_FINITE),
            (frozen, FROZEN),
            (jnp.full_like(frozen, holds_parameters), HOLDS_PARAMETERS),
            (jnp.full_like(frozen, holds_key), RANDOM),
            (_follows_values(probes, live, tolerance), VALUES),
            (silent, SILENT),
        ],
        "clipped": element_wise,
        "adaptation": [
            *element_wise,
            (2 * count(fit) < count(answers & (g != 0)), NEGATIVE),
            ((count(fit) < FEWEST) | (spread < 1e-6), FEW),
        ],
    }
    share = count(clipped) / jnp.maximum(number, 1)
    values = jnp.stack([middle, secant, saturation, memory, share, slope], axis=1)
    codes = jnp.stack([_first(reasons[name]) for name in QUANTITIES], axis=1)
    values = jnp.where(codes == READ, values, jnp.nan)
    low, high = (jnp.where(codes[:, 0] == READ, part, jnp.nan) for part in (low, high))
    row = jnp.concatenate([values, jnp.stack([low, high, number.astype(values.dtype)], axis=1)], axis=1)
    return row.astype(sampling.dtype), codes.astype(jnp.int8)


def _follows_the_sign(
    probes: _Probes, response: Array, moved: Array, live: Array, flat: Array
) -> Bool[Array, " group"]:
    """Whether the update depends on the gradient's sign alone.

    Either it jumps as soon as there is a gradient (the first step of Adam), or no element has a derivative, and most do
    not leave the ends of their range for a small gradient either (Lion).
    """
    jumps = moved & (jnp.abs(probes.small - probes.without) >= 0.5 * jnp.abs(response))
    range_ = probes.plus - probes.minus
    place = (probes.small - probes.minus) / jnp.where(range_ == 0, 1, range_)
    between = flat & (place > 0.05) & (place < 0.95)
    no_slope = jnp.sum(flat, axis=1) == jnp.sum(live, axis=1)
    return (2 * jnp.sum(jumps, axis=1) > jnp.sum(moved, axis=1)) | (
        no_slope & (2 * jnp.sum(between, axis=1) <= jnp.sum(live, axis=1))
    )


def _follows_values(probes: _Probes, live: Array, tolerance: Array) -> Bool[Array, " group"]:
    """Whether the update without gradient depends on the parameters otherwise than in proportion."""
    if probes.valued is None:
        return jnp.zeros(len(live), bool)
    still, (full, half) = probes.coasting[0], probes.valued
    bend = _norm(jnp.where(live, half - still - (full - still) / 2, 0))
    size, change = _norm(jnp.where(live, jnp.abs(full) + jnp.abs(still), 0)), _norm(jnp.where(live, full - still, 0))
    return ~(bend <= 1e-3 * change + tolerance[:, 0] * size)


def _first(cases: Sequence[tuple[Array, int]]) -> Array:
    """The code of the first condition that holds in each group; `READ` where none does."""
    code = jnp.full(cases[0][0].shape, READ)
    for condition, reason in reversed(cases):
        code = jnp.where(condition, reason, code)
    return code


def _dot(a: Array, b: Array) -> Array:
    return jnp.sum(a * b, axis=1)


def _norm(a: Array) -> Array:
    largest = jnp.max(jnp.abs(a), axis=1)
    scale = jnp.where(largest > 0, largest, 1)
    return largest * jnp.sqrt(jnp.sum((a / scale[:, None]) ** 2, axis=1))


def _share(a: Array, b: Array) -> Array:
    """<a, b> / <b, b>, whatever the units of b."""
    largest = jnp.max(jnp.abs(b), axis=1, keepdims=True)
    scale = jnp.where(largest > 0, largest, 1)
    return _dot(a / scale, b / scale) / _dot(b / scale, b / scale)


def _quantiles(values: Array, mask: Array, levels: Sequence[float]) -> list[Array]:
    """Quantiles over the masked elements of each row, linear between neighbours."""
    ordered = jnp.sort(jnp.where(mask, values, jnp.inf), axis=1)
    last = jnp.maximum(jnp.sum(mask, axis=1) - 1, 0)
    found = []
    for level in levels:
        place = level * last.astype(values.dtype)
        below = jnp.floor(place).astype(int)
        above = jnp.minimum(below + 1, last)
        a, b = (jnp.take_along_axis(ordered, index[:, None], axis=1)[:, 0] for index in (below, above))
        found.append(a + (place - below) * (b - a))
    return found


def _slope(x: Array, y: Array, mask: Array) -> tuple[Array, Array]:
    """The least-squares slope of y against x over the masked elements of each row, and the variance of x."""
    number = jnp.maximum(jnp.sum(mask, axis=1, keepdims=True), 1)
    x, y = jnp.where(mask, x, 0), jnp.where(mask, y, 0)
    dx = jnp.where(mask, x - jnp.sum(x, axis=1, keepdims=True) / number, 0)
    dy = jnp.where(mask, y - jnp.sum(y, axis=1, keepdims=True) / number, 0)
    return _dot(dx, dy) / _dot(dx, dx), _dot(dx, dx) / number[:, 0]
