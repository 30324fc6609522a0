"""Two optimizers driven by the same gradients, and how far apart their updates are.

The gradients are those of runs of either optimizer on a task, and probes: sequences made to reach what runs may not
(very large and very small gradients, pulses, changes of sign, none at all, steps beyond the horizon). Both optimizers
see the same parameter values as well, so that one that looks at them (weight decay) cannot hide. All in float64.

The difference of two updates a_t, b_t is measured against the updates of that time,

    d_t = |a_t - b_t| / m_t,    m_t = max(|a_t|, |b_t|, m_{t-1} / 2),

so that a small update counts as much as a large one, but not the rounding of one that just passes through zero.
What this cannot see: a difference that shows only under gradients, parameter values or after steps not among these.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float

from reopt.dynamics.precision import double_precision
from reopt.optimizers.base import Optimizer
from reopt.optimizers.learned import cast
from reopt.tasks.base import Task
from reopt.training.problem_keys import problem_key
from reopt.training.unroll import batch_value_and_grad

MOST_PARAMS = 64  # of a problem that are kept
PULSE_GAP = 250  # steps between pulses: long for most memories, short of underflow for all but the shortest
SIZES = 29  # of constant gradients
SMALLEST, LARGEST = 1e-16, 1e12  # sizes of gradients that are reached whatever the task's own are
NO_UPDATE = 1e-290  # below this an update has lost its digits

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
        change, after = jax.vmap(transformation.update)(given[0], state, given[1])
        return _like(after, state), change.astype(jnp.float64)

    start = jax.tree.map(_long, jax.vmap(transformation.init)(params[0]))
    return jax.lax.scan(body, start, (gradients, params))[1]


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
    and of all sizes); spikes (usual ones, and a rare one 1,000 times the largest met). Parameters are drawn anew at
    each step, of the size of the `params` met.
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
    rms = float(np.sqrt(np.mean(np.square(params)))) if params.size else 0.0
    walk = (rms if 0 < rms < 1e6 else 1.0) * rng.normal(size=(num_steps, len(found), 1))
    return Drive(tuple(name for name, _ in found), np.stack([row for _, row in found], axis=1)[..., None], walk)


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
    one, other = (updates(subject, drive.gradients, drive.params) for subject in (a, b))
    return Driven(drive, one, other, relative_difference(one, other))


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
    is set to 0; and, where it is minus a share of x whatever the gradient, that share a step (else NaN)."""

    dependence: float
    share: float
    low: float
    high: float


def weight_decay(transformation: Transformation, *, usual: float, num_steps: int) -> Decay:
    """Read off the weight decay: -(u(g, x) - u(g, 0)) / x, median and range over steps (a schedule moves it).

    Formula of decoupled decay: dx = u(g) - lambda x, with lambda the product of learning rate and weight decay (from
    outside no more than the product can be seen); unit: 1 / step. A penalty inside the gradient (L2) is seen as a
    dependence, without a share unless the optimizer is linear.
    """
    rng = np.random.default_rng(1)
    values = 1.0 + rng.uniform(size=num_steps)
    gradients = np.stack([np.zeros(num_steps), np.zeros(num_steps), usual * rng.normal(size=num_steps)], axis=1)
    params = np.stack([values, 1e3 * values, values], axis=1)
    both = np.concatenate([params, np.zeros_like(params)], axis=1)[..., None]
    moved = updates(transformation, np.concatenate([gradients, gradients], axis=1)[..., None], both)[..., 0]
    with_params, without = moved[:, :3], moved[:, 3:]
    dependence = float(relative_difference(with_params[..., None], without[..., None]).max())
    if dependence == 0:
        return Decay(0.0, 0.0, 0.0, 0.0)
    shares = -(with_params - without) / params
    own = shares[:, 0]
    size = np.abs(shares).max()
    proportional = np.abs(shares - own[:, None]).max() <= 1e-6 * size
    if not (np.isfinite(shares).all() and proportional):
        return Decay(dependence, np.nan, np.nan, np.nan)
    return Decay(dependence, float(np.median(own)), float(own.min()), float(own.max()))


class Steady(NamedTuple):
    """The settled answer to constant gradients: |update| = level |g| / (|g|^p + knee^p)^(1/p), p the `sharpness`."""

    level: float
    knee: float
    sharpness: float


PROPER = 0.01  # relative distance from a straight line, and from a plateau, at either end of the sizes


def steady(one: Driven, side: Float[np.ndarray, "step sequence param"]) -> Steady:
    """How the update levels off under constant gradients, from the last step of the probes of that family.

    Small gradients are answered in proportion, large ones all alike; in between one number, the sharpness, says how:
    1 is lr g / (|g| + eps), eps outside the root; 2 is lr g / sqrt(g^2 + eps), eps inside it, its knee sqrt(eps);
    infinity is a hard clip at the knee. Units: `level` of an update, `knee` of a gradient. NaN where the update does
    not level off, or not in proportion below, within the sizes probed; a schedule multiplies the level.
    """
    held = one.drive.gradients[-1, :, 0]
    chosen = (np.asarray(one.drive.family) == "constant") & (held > 0)
    sizes, answers = held[chosen], -side[-1, chosen, 0]
    nothing = Steady(np.nan, np.nan, np.nan)
    if not (np.isfinite(answers).all() and (answers > 0).all()):
        return nothing
    inverse = sizes / answers
    flat = abs(inverse[1] / inverse[0] - 1) < PROPER
    level = answers[-1]
    if not flat or abs(answers[-2] / level - 1) > PROPER:
        return nothing
    knee = float(inverse[0] * level)
    nearest = int(np.argmin(np.abs(np.log(sizes / knee))))
    ratio, bent = float(sizes[nearest] / knee), float(inverse[nearest] / inverse[0])
    if bent <= max(1.0, ratio) * (1 + 1e-9):
        return Steady(float(level), knee, np.inf)
    if bent >= (1 + ratio**0.1) ** 10:
        return nothing
    low, high = 0.1, 100.0  # the bend falls with p, from a wide one to the corner of a clip
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if (1 + ratio**middle) ** (1 / middle) > bent else (low, middle)
    return Steady(float(level), knee, low)
