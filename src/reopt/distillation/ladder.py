"""Distilling: a rule of few numbers (`reopt.optimizers.rules`) meta-trained to take a learned optimizer's place.

What is trained is the rule's own meta-objective, not its likeness to the learned one: a rule that explains nine tenths
of the updates of another may diverge where it runs by itself. Readings of the learned optimizer choose where the
training begins. Objectives above 1 count as 1 + log, or a problem that diverges would be all that the gradient sees.

A ladder of rules comes from taking parts away: from the rule with all parts the one that costs least is taken away and
the others trained on, until a heavy ball is left. The share that a rule keeps of what the learned optimizer gains,

    (J of the reference - J of the rule) / (J of the reference - J of the learned optimizer),

is paired over problems, with a bootstrap interval, and undefined where there is no gain to share out.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from reopt.core.errors import ReoptError
from reopt.core.limits import CEILING
from reopt.evaluation.keys import problem_key
from reopt.evaluation.unroll import batch_value_and_grad, meta_objective, start, unroll
from reopt.optimizers.base import Optimizer
from reopt.optimizers.rules import PARTS, Rule, numbers_of, rule
from reopt.tasks.base import Problem, Task
from reopt.training.cotangent_clipping import CotangentClipping, clip_cotangent

DRAWS = 2000  # of the bootstrap
AT_ONCE = 2**22  # numbers of it that are drawn at once
FAR = 1e6  # times its first loss: there a problem has diverged, and stands still
Report = Callable[[int, int, str], None]


class Recipe(NamedTuple):
    """How a rule is meta-trained: outer steps of `problems` problems, Adam at `rate` falling by a cosine."""

    outer_steps: int = 800
    problems: int = 64
    rate: float = 0.03
    validation: int = 512
    every: int = 50
    clipping: CotangentClipping = CotangentClipping(4.0, 16)


class Trained(NamedTuple):
    """A rule with the best numbers in validation, its objective there, and that at every look; how many outer steps
    led to it, those of the rule that it began from among them, and at how many the gradient was not finite."""

    rule: Rule
    validation: float
    seen: Float[np.ndarray, " look"]
    outer_steps: int = 0
    skipped: int = 0


def train_rule(
    begin: Rule,
    task: Task,
    recipe: Recipe,
    *,
    num_steps: int,
    seed: int,
    report: Report = lambda done, total, text: None,
) -> Trained:
    """Meta-train the numbers of a rule. The start is a candidate too: a training that fails leaves it.

    **Raises** `ReoptError` where the problems cannot be cut into the groups of the clipping.
    """
    group = recipe.clipping.group or recipe.problems
    if recipe.problems % group:
        raise ReoptError(f"{recipe.problems} problems cannot be cut into groups of {group}")
    warm = min(20, recipe.outer_steps // 10)
    schedule = optax.warmup_cosine_decay_schedule(0.0, recipe.rate, warm, recipe.outer_steps, 0.02 * recipe.rate)
    transform = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule, b2=0.99))
    keys = problem_key("training", seed), problem_key("validation", seed)
    held_out = task.sample_batch(keys[1], recipe.validation)
    fixed = begin.parts, begin.horizon

    @jax.jit
    def outer(numbers: Any, memory: Any, at: Array) -> tuple[Any, Any, Array]:
        problems = task.sample_batch(jax.random.fold_in(keys[0], at), recipe.problems)

        def objective(numbers: Any) -> Array:
            found = objectives(Rule(numbers, *fixed), task, problems, num_steps, recipe.clipping)
            return jnp.mean(jnp.where(found > 1, 1 + jnp.log(jnp.maximum(found, 1)), found))

        gradient = jax.grad(objective)(numbers)
        finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(gradient)]))
        gradient = jax.tree.map(lambda leaf: jnp.where(finite, leaf, 0), gradient)
        updates, stepped = transform.update(gradient, memory, numbers)
        keep = functools.partial(jax.tree.map, lambda new, old: jnp.where(finite, new, old))
        return keep(optax.apply_updates(numbers, updates), numbers), keep(stepped, memory), finite

    validate = jax.jit(lambda numbers: validation_objective(Rule(numbers, *fixed), task, held_out, num_steps))
    numbers, memory, skipped = begin.numbers, transform.init(begin.numbers), jnp.asarray(0)
    best, least, seen = numbers, float(validate(numbers)), []
    for at in range(recipe.outer_steps):
        numbers, memory, finite = outer(numbers, memory, jnp.asarray(at))
        skipped = skipped + ~finite
        if (at + 1) % recipe.every == 0 or at + 1 == recipe.outer_steps:
            value = float(validate(numbers))
            seen.append(value)
            if value < least:
                best, least = numbers, value
            report(at + 1, recipe.outer_steps, f"{begin.size} numbers, validation {least:.4f}")
    found = eqx.tree_at(lambda one: one.numbers, begin, best)
    return Trained(found, least, np.array(seen), recipe.outer_steps, int(skipped))


def validation_objective(optimizer: Optimizer, task: Task, problems: Problem, num_steps: int) -> Float[Array, ""]:
    """The mean meta-objective, a problem that diverges or is above it counted as `CEILING`."""
    found = meta_objective(unroll(optimizer, task, problems, num_steps).losses)
    return jnp.mean(jnp.minimum(jnp.nan_to_num(found, nan=CEILING, posinf=CEILING), CEILING))


def best_start(
    starts: Sequence[dict[str, Array]], task: Task, recipe: Recipe, *, num_steps: int, seed: int
) -> dict[str, Array]:
    """Of numbers at which a rule is a heavy ball, those that do best in validation."""
    held_out = task.sample_batch(problem_key("validation", seed), recipe.validation)
    judge = jax.jit(lambda one: validation_objective(Rule(one, (), num_steps), task, held_out, num_steps))
    found = [float(judge({name: numbers[name] for name in numbers_of(())})) for numbers in starts]
    return starts[int(np.argmin(found))]


def objectives(
    optimizer: Optimizer, task: Task, problems: Problem, num_steps: int, clipping: CotangentClipping
) -> Float[Array, " problem"]:
    """The meta-objective of each problem; on the way back cotangents are clipped at each step.

    A problem whose loss passes `FAR` times its first, or is not finite, stands still from there on: what overflows
    would make the gradient of all of them NaN.
    """

    @jax.custom_vjp
    def calm(params: Array, state: Array) -> tuple[Array, Array]:
        return params, state

    def back(_: None, turned: tuple[Array, Array]) -> tuple[Array, Array]:
        params, state = turned
        flat = state.reshape(len(state), -1)
        return clip_cotangent(params, clipping), clip_cotangent(flat, clipping).reshape(state.shape)

    calm.defvjp(lambda params, state: ((params, state), None), back)

    def body(carry: Any, step: Array) -> tuple[Any, Array]:
        params, state, alive, first = carry
        params, state = calm(params, state)
        losses, gradients = batch_value_and_grad(task, problems, params, step)
        first = jnp.where(step == 0, jax.lax.stop_gradient(losses), first)
        alive = alive & (losses <= FAR * first) & jnp.isfinite(gradients).all(axis=-1)
        moved, updates = optimizer(state, jnp.where(alive[:, None], gradients, 0))
        params = jnp.where(alive[:, None], params + updates, jax.lax.stop_gradient(params))
        state = jnp.where(alive[:, None, None], moved, jax.lax.stop_gradient(state))
        return (params, state, alive, first), jnp.where(alive, losses, FAR * first)

    params, state = start(optimizer, task, problems)
    alive, first = jnp.ones(len(params), bool), jnp.ones(len(params), params.dtype)
    losses = jax.lax.scan(jax.checkpoint(body), (params, state, alive, first), jnp.arange(num_steps))[1]
    return jnp.mean(losses, axis=0) / jax.lax.stop_gradient(losses[0])


def ladder(
    numbers: dict[str, Array],
    parts: Sequence[str],
    task: Task,
    recipe: Recipe,
    *,
    num_steps: int,
    seed: int,
    usual: float = 1.0,
    report: Report = lambda done, total, text: None,
) -> list[Trained]:
    """Rules with fewer and fewer parts, each trained from where the one before stood; the first has all of `parts`.

    Which part is taken away next is told by a quarter of the training without each. `usual` is the size of the
    gradients that are met: without the power law the rate takes its place there.

    **Raises** `ReoptError` for an unknown part.
    """
    numbers_of(tuple(parts))
    trial = recipe._replace(outer_steps=max(1, recipe.outer_steps // 4))
    left = [part for part in PARTS if part in parts]
    rungs, trials = len(left) + 1, len(left) * (len(left) + 1) // 2
    total, spent = rungs * recipe.outer_steps + trials * trial.outer_steps, 0

    def train(begin: Rule, recipe: Recipe) -> Trained:
        nonlocal spent
        before, spent = spent, spent + recipe.outer_steps
        return train_rule(
            begin,
            task,
            recipe,
            num_steps=num_steps,
            seed=seed,
            report=lambda done, _, text: report(before + done, total, text),
        )

    found = [train(rule(numbers, tuple(left), num_steps), recipe)]
    while left:
        numbers = numbers | found[-1].rule.numbers
        without = {part: tuple(one for one in left if one != part) for part in left}
        tried = {
            part: train(rule(_without(part, numbers, usual), rest, num_steps), trial) for part, rest in without.items()
        }
        gone = min(left, key=lambda part: tried[part].validation)
        left.remove(gone)
        begun = found[-1].outer_steps + trial.outer_steps
        after = train(tried[gone].rule, recipe)
        found.append(after._replace(outer_steps=begun + after.outer_steps))
    return found


def _without(part: str, numbers: dict[str, Array], usual: float) -> dict[str, Array]:
    if part != "power":
        return numbers
    size = usual**2 + jnp.exp(numbers["eps_log"])
    return numbers | {"rate_log": numbers["rate_log"] - numbers["p"] * jnp.log(size)}


class Share(NamedTuple):
    """A share of a gain, with its interval; NaN where the gain's own interval touches 0."""

    value: float
    low: float
    high: float


def kept_share(
    reference: Float[np.ndarray, " problem"],
    kept: Float[np.ndarray, " problem"],
    learned: Float[np.ndarray, " problem"],
    *,
    middle: Callable[..., Any] = np.mean,
    confidence: float = 0.95,
) -> Share:
    """The share of the gain of `learned` over `reference` that `kept` has: meta-objectives of the same problems each.

    `middle` is the mean or the median of the problems. A problem that diverges counts as 10.
    """
    values = [
        np.minimum(np.nan_to_num(one, nan=CEILING, posinf=CEILING), CEILING) for one in (reference, kept, learned)
    ]
    rng, count, parts = np.random.default_rng(0), len(values[0]), []
    for many in np.array_split(np.arange(DRAWS), min(DRAWS, -(-DRAWS * count // AT_ONCE))):
        at = rng.integers(count, size=(len(many), count))
        parts.append(np.stack([middle(one[at], axis=1) for one in values]))
    drawn = np.concatenate(parts, axis=1)
    tail = (1 - confidence) / 2
    gains = drawn[0] - drawn[2]
    if np.quantile(gains, tail) <= 0:
        return Share(np.nan, np.nan, np.nan)
    whole = [float(middle(one)) for one in values]
    low, high = np.quantile((drawn[0] - drawn[1]) / gains, [tail, 1 - tail])
    return Share((whole[0] - whole[1]) / (whole[0] - whole[2]), float(low), float(high))
