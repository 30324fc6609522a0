"""Two optimizers driven by the same gradients, and how far apart their updates are.

The gradients are those of runs of either optimizer on a task, and probes: sequences made to reach what runs may not
(very large and very small gradients, pulses, changes of sign, none at all, steps beyond the horizon, and gradients that
are not finite). Both optimizers see the same parameter values as well, so that one that looks at them (weight decay)
cannot hide. All in float64.

The difference of two updates a_t, b_t is measured against the updates of that time,

    d_t = |a_t - b_t| / m_t,    m_t = max(|a_t|, |b_t|, m_{t-1} / 2),

so that a small update counts as much as a large one, but not the rounding of one that just passes through zero.
What this cannot see: a difference that shows only under gradients, parameter values or after steps not among these.
`probed` says which they were.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float

from reopt.dynamics.precision import double_precision
from reopt.evaluation.keys import problem_key
from reopt.evaluation.unroll import batch_value_and_grad
from reopt.examination.settled import settled_answers
from reopt.optimizers.base import Optimizer
from reopt.optimizers.learned import cast
from reopt.tasks.base import Task

MOST_PARAMS = 64  # of a problem that are kept
PULSE_GAP = 250  # steps between pulses: long for most memories, short of underflow for all but the shortest
SIZES = 29  # of constant gradients
SMALLEST, LARGEST = 1e-16, 1e12  # sizes of gradients that are reached whatever the task's own are
NO_UPDATE = 1e-290  # below this an update has lost its digits
TINY = 1e-30  # a gradient so small that any optimizer with an eps answers it in proportion
# Sizes at the ends of float32 (its smallest number, subnormal; its largest) and of float64 (what squares to 0 and to
# inf; no subnormal ones, of which XLA makes 0 on a CPU).
EXTREMES = (3e-308, 1e-150, 1.4e-45, 1e-40, 1e-30, 1e20, 3.4e38, 1e150, 1e300)
EXTREME_GAP = 100  # steps between gradients of such a size among usual ones
NOT_FINITE = {"nan": np.nan, "plus_inf": np.inf, "minus_inf": -np.inf}  # families, and the gradient of each
LOST_AT, LOST_STEPS, MOST_LOST = 20, 300, 200  # step of the first such gradient, of all, and the most in a row

Transformation = Any  # what has optax's init and update; a pytree, so that arrays in it need no new compilation


class Componentwise(eqx.Module):
    """An optimizer of ours with optax's interface, for one array of parameters."""

    optimizer: Optimizer

    def init(self, params: Float[Array, " param"]) -> Array:
        """The initial state of each parameter."""
        states = self.optimizer.initial_states(params.shape)
        return states.astype(jnp.promote_types(params.dtype, jnp.float32))

    def update(self, gradient: Array, state: Array, params: Array | None = None) -> tuple[Array, Array]:
        """(updates, next state); the values of the parameters have no influence."""
        del params
        state, update = self.optimizer(state, gradient)
        return update, state


class Drive(NamedTuple):
    """Sequences of gradients, and parameter values beside them; `family` names each sequence."""

    family: tuple[str, ...]
    gradients: Float[np.ndarray, "step sequence param"]
    params: Float[np.ndarray, "step sequence param"]


class Driven(NamedTuple):
    """A drive, the updates of both optimizers along it, and their relative difference d."""

    drive: Drive
    a: Float[np.ndarray, "step sequence param"]
    b: Float[np.ndarray, "step sequence param"]
    difference: Float[np.ndarray, "step sequence param"]

    @property
    def finite(self) -> bool:
        """Whether its gradients are finite numbers."""
        return self.drive.family[0] not in NOT_FINITE


def updates(
    transformation: Transformation,
    gradients: Float[np.ndarray, "step sequence param"],
    params: Float[np.ndarray, "step sequence param"],
) -> Float[np.ndarray, "step sequence param"]:
    """The updates along given gradients and parameter values, each sequence on its own, in float64."""
    with double_precision():
        system: Any = cast(transformation, jnp.dtype("float64"))
        return np.asarray(_updates(system, jnp.asarray(gradients), jnp.asarray(params)))


@eqx.filter_jit
def _updates(transformation: Transformation, gradients: Array, params: Array) -> Array:
    def body(state: Any, given: tuple[Array, Array]) -> tuple[Any, Array]:
        return jax.vmap(lambda *parts: next_state(transformation, *parts))(state, *given)

    start = jax.vmap(lambda at: start_of(transformation, at))(params[0])
    return jax.lax.scan(body, start, (gradients, params))[1]


def start_of(transformation: Transformation, params: Array) -> Any:
    """The state before the first gradient, as `next_state` takes it."""
    return jax.tree.map(_long, transformation.init(params))


def next_state(transformation: Transformation, state: Any, gradient: Array, params: Array) -> tuple[Any, Array]:
    """(next state, update), in the types of the state before and in float64."""
    change, after = transformation.update(gradient, state, params)
    return _like(after, state), change.astype(jnp.float64)


def _long(leaf: Any) -> Array:
    """A count of steps in 64 bits: divided as a count of 32, it would make a schedule of float32."""
    leaf = jnp.asarray(leaf)
    return leaf.astype(jnp.int64) if leaf.dtype == jnp.int32 else leaf


def _like(after: Any, before: Any) -> Any:
    """The next state in the types of the one before: some write float32 into theirs whatever the parameters are."""
    return jax.tree.map(lambda new, old: jnp.asarray(new, jnp.asarray(old).dtype), after, before)


@eqx.filter_jit
def _run(transformation: Transformation, task: Task, key: Array, kept: Array, problems: int, num_steps: int) -> Any:
    batch = task.sample_batch(key, problems)
    params = jax.vmap(task.initial_params)(batch)

    def body(carry: Any, step: Array) -> tuple[Any, tuple[Array, Array]]:
        params, state = carry
        _, gradients = batch_value_and_grad(task, batch, params, step)
        change, after = jax.vmap(transformation.update)(gradients, state, params)
        return (params + change, _like(after, state)), (gradients[:, kept], params[:, kept])

    return jax.lax.scan(body, (params, jax.vmap(transformation.init)(params)), jnp.arange(num_steps))[1]


def runs(transformation: Transformation, task: Task, *, family: str, seed: int, num_steps: int, problems: int) -> Drive:
    """Gradients and parameters along runs on `problems` problems of the task (those that `record` takes), float32 as
    in training. Where a run left the finite numbers, gradients are 0 from there."""
    kept = np.unique(np.linspace(0, task.num_params - 1, min(MOST_PARAMS, task.num_params)).round().astype(int))
    key = problem_key("recording", seed)
    met = _run(transformation, task, key, jnp.asarray(kept), problems, num_steps)
    gradients, params = (np.nan_to_num(np.asarray(part, np.float64), posinf=0, neginf=0) for part in met)
    return Drive((family,) * problems, gradients, params)


def probes(gradients: Float[np.ndarray, "..."], params: Float[np.ndarray, "..."], *, num_steps: int) -> Drive:
    """Probing sequences of `num_steps` steps on one parameter, of sizes around those of the `gradients` met.

    Families: zeros; pulses (one gradient every 250 steps); constant (29 sizes, both signs); ramp (slowly growing over
    the whole range of sizes, both signs); flips (of sign, at every step and at every 7th); random (at the usual size,
    and of all sizes); spikes (usual ones, and a rare one 1,000 times the largest met); extreme (of sizes at the ends
    of float32 and float64, constant in both signs, and one every 100 steps among usual ones). Parameters are drawn anew
    at each step, of the size of the `params` met.
    """
    sizes = np.abs(gradients[gradients != 0])
    usual, largest = (float(np.median(sizes)), float(sizes.max())) if sizes.size else (1.0, 1.0)
    low, high = min(SMALLEST, 1e-6 * usual), max(LARGEST, 1e4 * largest)
    steps = np.arange(num_steps)
    rng = np.random.default_rng(0)
    found: list[tuple[str, np.ndarray]] = [("zeros", np.zeros(num_steps))]
    for size in (1e-6 * usual, usual, 1e3 * largest):
        found += [("pulses", sign * size * (steps % PULSE_GAP == 0)) for sign in (1, -1)]
    for size in np.geomspace(low, high, SIZES):
        found += [("constant", np.full(num_steps, sign * size)) for sign in (1, -1)]
    ramp = np.geomspace(low, high, num_steps)
    found += [("ramp", ramp), ("ramp", -ramp)]
    found += [("flips", usual * (-1.0) ** steps), ("flips", largest * (-1.0) ** (steps // 7))]
    for _ in range(2):
        normal = rng.normal(size=num_steps)
        wide = np.exp(rng.uniform(np.log(low), np.log(high), num_steps)) * np.sign(normal)
        rare = np.where(rng.uniform(size=num_steps) < 0.02, 1e3 * largest, usual)
        found += [("random", usual * normal), ("random", wide), ("spikes", rare * rng.normal(size=num_steps))]
    among = usual * rng.normal(size=num_steps)
    for size in EXTREMES:
        found += [("extreme", np.full(num_steps, sign * size)) for sign in (1, -1)]
        found.append(("extreme", np.where(steps % EXTREME_GAP == EXTREME_GAP // 2, size, among)))
    rms = float(np.sqrt(np.mean(np.square(params)))) if params.size else 0.0
    walk = (rms if 0 < rms < 1e6 else 1.0) * rng.normal(size=(num_steps, len(found), 1))
    return Drive(tuple(name for name, _ in found), np.stack([row for _, row in found], axis=1)[..., None], walk)


def not_finite(usual: float) -> Drive:
    """Gradients that are not finite, then usual ones, on three parameters side by side.

    Of NaN, of infinity and of minus infinity, a family each: once, for all parameters or for the first alone; at the
    first step; 200 in a row; and at every 7th step.
    """
    rng = np.random.default_rng(2)
    steps = np.arange(LOST_STEPS)
    in_a_row = (steps >= LOST_AT) & (steps < LOST_AT + MOST_LOST)
    lost = [steps == LOST_AT, steps == LOST_AT, steps == 0, in_a_row, steps % 7 == 6]
    ordinary, values = rng.normal(size=(2, LOST_STEPS, len(lost), 3))
    where = np.repeat(np.stack(lost, axis=1)[..., None], 3, axis=-1)
    where[:, 1, 1:] = False
    gradients = [np.where(where, value, usual * ordinary) for value in NOT_FINITE.values()]
    names = tuple(name for name in NOT_FINITE for _ in lost)
    return Drive(names, np.concatenate(gradients, axis=1), np.tile(values, (1, len(NOT_FINITE), 1)))


def relative_difference(
    a: Float[np.ndarray, "step sequence param"], b: Float[np.ndarray, "step sequence param"]
) -> Float[np.ndarray, "step sequence param"]:
    """d of the head of this module; 0 where both are the same infinity or both are NaN, inf where one is."""
    size = np.fmax(np.abs(a), np.abs(b))
    alike = (a == b) | (np.isnan(a) & np.isnan(b))
    finite = np.isfinite(a) & np.isfinite(b)
    size = np.where(finite, size, 0.0)
    for step in range(1, len(size)):
        size[step] = np.maximum(size[step], 0.5 * size[step - 1])
    with np.errstate(all="ignore"):
        found = np.where(alike | (size < NO_UPDATE), 0.0, np.abs(a - b) / size)
    return np.where(finite, found, np.where(alike, 0.0, np.inf))


def driven(a: Transformation, b: Transformation, drive: Drive) -> Driven:
    """Both optimizers along the same sequences."""
    return apart(drive, *(updates(subject, drive.gradients, drive.params) for subject in (a, b)))


def apart(
    drive: Drive, a: Float[np.ndarray, "step sequence param"], b: Float[np.ndarray, "step sequence param"]
) -> Driven:
    """The updates of both along a drive, and how far apart they are."""
    return Driven(drive, a, b, relative_difference(a, b))


def probed(found: list[Driven]) -> str:
    """What a comparison has looked at, as a sentence: the bounds of what it can say."""
    gradients, params = (
        np.concatenate([np.abs(getattr(one.drive, part)).ravel() for one in found]) for part in ("gradients", "params")
    )
    sizes = gradients[np.isfinite(gradients) & (gradients > 0)]
    lost = " or ".join(str(value) for value in NOT_FINITE.values())
    return (
        f"probed: {gradients.size:,} updates of each, in 64 bits, up to {max(len(one.a) for one in found):,} steps "
        "from the initial state on, and no states but those that this leads to; gradients of 0 and of sizes from "
        f"{sizes.min():.2g} to {sizes.max():.2g}, and {lost} from once to {MOST_LOST} in a row; parameter values up to "
        f"{params.max():.3g}"
    )


def trajectories_table(found: list[Driven], tolerance: float) -> pd.DataFrame:
    """A row a family, by falling difference: `family`, `difference` (the largest), where it is (`step`, `gradient`,
    `a`, `b`), and `first_step`, the first at which some sequence of it differs by more than `tolerance` (-1: none)."""
    rows = []
    for one in found:
        names = np.asarray(one.drive.family)
        for family in dict.fromkeys(one.drive.family):
            chosen = names == family
            part = one.difference[:, chosen]
            at = np.unravel_index(int(np.argmax(part)), part.shape)
            beyond = (part > tolerance).any(axis=(1, 2))
            rows.append(
                {
                    "family": family,
                    "difference": float(part[at]),
                    "step": int(at[0]),
                    "gradient": float(one.drive.gradients[:, chosen][at]),
                    "a": float(one.a[:, chosen][at]),
                    "b": float(one.b[:, chosen][at]),
                    "first_step": int(np.argmax(beyond)) if beyond.any() else -1,
                }
            )
    return pd.DataFrame(rows).sort_values("difference", ascending=False, kind="stable", ignore_index=True)


class Decay(NamedTuple):
    """How an update depends on the parameter's value x: `dependence`, the largest relative change of the update when x
    is set to 0; where it is minus a share of x whatever the gradient, that share a step (else NaN); and where x acts as
    a part c x of the gradient, this `penalty` c (else NaN)."""

    dependence: float
    share: float
    low: float
    high: float
    penalty: float = np.nan


def weight_decay(transformation: Transformation, *, usual: float, num_steps: int) -> Decay:
    """Read off the weight decay: -(u(g, x) - u(g, 0)) / x, median and range over steps (a schedule moves it).

    Formula of decoupled decay: dx = u(g) - lambda x, with lambda the product of learning rate and weight decay (from
    outside no more than the product can be seen); unit: 1 / step. A penalty inside the gradient (L2) has no share,
    unless the optimizer is linear and has no memory: there u(g, x) = u(g + c x, 0). c is the ratio of the first answers
    to a tiny value and a tiny gradient, and is taken if the equation holds along the runs.
    """
    rng = np.random.default_rng(1)
    values = 1.0 + rng.uniform(size=num_steps)
    zeros = np.zeros(num_steps)
    gradients = np.stack([zeros, zeros, usual * rng.normal(size=num_steps), zeros], axis=1)
    others = 1.0 + rng.uniform(size=num_steps)  # of which a momentum that has taken up the values before tells
    params = np.stack([values, 1e3 * values, values, others], axis=1)
    both = np.concatenate([params, np.zeros_like(params)], axis=1)[..., None]
    moved = updates(transformation, np.concatenate([gradients, gradients], axis=1)[..., None], both)[..., 0]
    with_params, without = np.split(moved, 2, axis=1)
    dependence = float(relative_difference(with_params[..., None], without[..., None]).max())
    if dependence == 0:
        return Decay(0.0, 0.0, 0.0, 0.0)
    shares = -(with_params - without) / params
    own = shares[:, 0]
    size = np.abs(shares).max()
    proportional = np.abs(shares - own[:, None]).max() <= 1e-6 * size
    if not (np.isfinite(shares).all() and proportional):
        return Decay(dependence, np.nan, np.nan, np.nan, _penalty(transformation, gradients, params))
    return Decay(dependence, float(np.median(own)), float(own.min()), float(own.max()))


def _penalty(
    transformation: Transformation,
    gradients: Float[np.ndarray, "step sequence"],
    params: Float[np.ndarray, "step sequence"],
) -> float:
    """c of u(g, x) = u(g + c x, 0) along these gradients and values; NaN where it is not so."""
    tiny = np.array([[0.0, TINY]])
    to_value, to_gradient = updates(transformation, tiny[..., None], tiny[:, ::-1, None])[0, :, 0]
    if not (np.isfinite(to_value) and np.isfinite(to_gradient) and to_gradient != 0):
        return np.nan
    found = float(to_value / to_gradient)
    inside = updates(transformation, (gradients + found * params)[..., None], np.zeros_like(params)[..., None])
    outside = updates(transformation, gradients[..., None], params[..., None])
    return found if relative_difference(inside, outside).max() <= 1e-6 else np.nan


class Steady(NamedTuple):
    """The settled answer to constant gradients: |update| = level |g| / (|g|^p + knee^p)^(1/p), p the `sharpness`.

    `error` is the largest relative distance of a settled answer from this formula, or from its limit; `why` says why
    a number is not known.
    """

    level: float
    knee: float
    sharpness: float
    error: float = 0.0
    why: str = ""


QUANTITIES = Steady._fields[:3]
PROPER = 0.01  # relative distance from a straight line, and from a plateau, at either end of the sizes
ROUNDS = 8  # of the fit, each of which takes what is left of the bend at either end away
TINIEST = 1e-36  # the smallest constant gradient: its square is far from underflow


def steady(transformation: Transformation, *, largest: float = LARGEST) -> Steady:
    """How the update levels off under constant gradients, once the state has settled (`reopt.examination.settled`).

    Small gradients are answered in proportion, large ones all alike; in between one number, the sharpness, says how:
    1 is lr g / (|g| + eps), eps outside the root; 2 is lr g / sqrt(g^2 + eps), eps inside it, its knee sqrt(eps);
    infinity is a hard clip at the knee. Units: `level` of an update, `knee` of a gradient. NaN, and why, where the
    state does not settle, or the update does not level off, or not in proportion below, for gradients from TINIEST to
    `largest`. Counts of steps are taken to their limit; a schedule that has none but 0 stays at step 999.
    """
    decades = int(np.ceil(np.log10(largest / TINIEST)))
    sizes = np.geomspace(TINIEST, largest, decades + 1)
    found = settled_answers(transformation, sizes)
    answers = found.answers
    if found.why and not found.scaled:
        return Steady(np.nan, np.nan, np.nan, why=found.why)
    read = levelled(sizes, answers)
    if np.isnan(read.knee):
        return read
    return Steady(np.nan if found.scaled else read.level, *read[1:3], max(found.error, read.error), found.why)


def levelled(sizes: Float[np.ndarray, " gradient"], answers: Float[np.ndarray, " gradient"]) -> Steady:
    """`Steady` of answers, minus the updates, to gradients of rising `sizes`, a decade apart."""
    if not (answers > 0).all():
        return Steady(np.nan, np.nan, np.nan, why="it does not answer every constant gradient against its sign")
    inverse = sizes / answers
    if abs(inverse[1] / inverse[0] - 1) > PROPER:
        return Steady(np.nan, np.nan, np.nan, why=f"it does not answer in proportion down to {sizes[0]:g}")
    if abs(answers[-2] / answers[-1] - 1) > PROPER:
        return Steady(np.nan, np.nan, np.nan, why=f"it does not level off up to {sizes[-1]:.3g}")
    bend = _bend(sizes, answers)
    if bend is None:
        return Steady(np.nan, np.nan, np.nan, why="it does not level off in one bend")
    return Steady(*bend, _misfit(sizes, answers, *bend))


def _bend(sizes: np.ndarray, answers: np.ndarray) -> tuple[float, float, float] | None:
    """(level, knee, sharpness) by the answers at either end and the one nearest to the knee; None if none fit."""
    level, slope, sharpness = answers[-1], answers[0] / sizes[0], np.inf
    for _ in range(ROUNDS):
        knee = level / slope
        nearest = int(np.argmin(np.abs(np.log(sizes / knee))))
        ratio, bent = float(sizes[nearest] / knee), float(slope * sizes[nearest] / answers[nearest])
        if bent <= max(1.0, ratio) * (1 + 1e-9):
            return float(level), float(knee), np.inf
        if bent >= (1 + ratio**0.1) ** 10:
            return None
        low, high = 0.1, 100.0  # the bend falls with p, from a wide one to the corner of a clip
        for _ in range(60):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if (1 + ratio**middle) ** (1 / middle) > bent else (low, middle)
        sharpness = low
        ends = [(1 + float(x) ** sharpness) ** (1 / sharpness) for x in (knee / sizes[-1], sizes[0] / knee)]
        level, slope = answers[-1] * ends[0], answers[0] / sizes[0] * ends[1]
    return float(level), float(level / slope), float(sharpness)


def _misfit(sizes: np.ndarray, answers: np.ndarray, level: float, knee: float, sharpness: float) -> float:
    """Largest relative distance of the answers from the formula of `Steady`."""
    small, large = np.minimum(sizes, knee), np.maximum(sizes, knee)
    bent = large if np.isinf(sharpness) else large * (1 + (small / large) ** sharpness) ** (1 / sharpness)
    return float(np.abs(answers / (level * sizes / bent) - 1).max())
