"""What each mechanism is worth: the meta-objective with momentum, clipping, schedule and adaptation taken away.

All 2^4 combinations run on the same problems, so that single removals, removals from what is left without the others,
Shapley values and interactions are contrasts of the same sixteen numbers a problem. With v(R) the meta-objective
without the mechanisms R:

    alone        v({i}) - v({})                      what the intact optimizer loses with mechanism i
    last         v(all) - v(all but {i})             what i gives where it is the only one left
    shapley      the mean of v(R + {i}) - v(R) over all orders of removal; over the mechanisms they sum to `all`
    sum, all     of `alone` over the mechanisms; v(all) - v({})
    interaction  all - sum, and of pairs v({i, j}) - v({i}) - v({j}) + v({})

What is taken away how is told in `reopt.mechanisms.interventions`.
"""

import itertools
from math import factorial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float

from reopt.core.errors import ReoptError
from reopt.core.limits import CEILING
from reopt.dynamics.linearization import Linearization, linearized_optimizer
from reopt.dynamics.precision import double_precision, to_double
from reopt.evaluation.evaluate import mean_interval, problem_batches
from reopt.evaluation.unroll import batch_value_and_grad, unroll
from reopt.mechanisms.effective_rate import jump_at_zero
from reopt.mechanisms.interventions import MECHANISMS, ClippedInput, Summed, intervene, removed
from reopt.optimizers.base import Optimizer
from reopt.optimizers.learned import cast
from reopt.tasks.base import Problem, Task

MOST_PARAMS, MOST_STATES = 2**16, 2**22  # of all problems: parameters, and components of their states
MOST_PROBLEMS, FEWEST_PROBLEMS = 512, 32
COMBINATIONS = tuple(itertools.product((False, True), repeat=len(MECHANISMS)))  # of what is removed; the intact first

ONLY_MOMENTUM = tuple(name == "momentum" for name in MECHANISMS)


class Causes(NamedTuple):
    """The runs, and what follows from them; both tidy, meta-objectives without unit, intervals of 95%.

    `table` has a row a subject: `momentum`, `clipping`, `schedule`, `adaptation` (each "kept" or "removed"); `variant`
    ("factorial"; "linearised", "input_clipped" and "tuned_momentum" have no mechanism removed by hand;
    "momentum_replaced" has its slow modes removed, and the updates of the tuned momentum added instead);
    `meta_objective`, `low`, `high`; `difference`, `difference_low`, `difference_high` to the intact optimizer, paired;
    `diverged`, the share of problems that were not finite or above the ceiling; `problems`, their number.

    `worth` has a row a contrast: `mechanism` (one, a pair as "a x b", or "four"), `quantity` ("alone", "last",
    "shapley", "interaction", "sum", "all"), `value`, `low`, `high`.
    """

    table: pd.DataFrame
    worth: pd.DataFrame


def num_problems(task: Task, optimizer: Optimizer, wanted: int) -> int:
    """How many of `wanted` problems are run: of many parameters or large states fewer, but at least 32."""
    few = min(MOST_PARAMS // task.num_params, MOST_STATES // (task.num_params * max(1, optimizer.state_size)))
    return min(wanted, MOST_PROBLEMS, max(FEWEST_PROBLEMS, few))


def half_slope_range(clipping: pd.DataFrame) -> tuple[float, float]:
    """(low, high) beyond which the update function at the fixed point has less than half its slope, from the table of
    `reopt.mechanisms.update_function`; infinite on a side that has none. **Raises** `ReoptError` for another table."""
    rows = clipping[clipping["place"] == "fixed_point"]
    if len(rows) != 1:
        raise ReoptError(f"a table of clipping has one row of place fixed_point, not {len(rows)}")
    high, low = (float(rows[f"half_slope_{side}"].iloc[0]) for side in ("positive", "negative"))
    return -np.nan_to_num(low, nan=np.inf), np.nan_to_num(high, nan=np.inf)


def causes(
    optimizer: Optimizer,
    linearization: Linearization,
    task: Task,
    *,
    seed: int,
    num_steps: int,
    problems: int,
    half_slope: tuple[float, float],
    tuned_momentum: Optimizer | None = None,
) -> Causes:
    """Run all combinations, and beside them the linearised optimizer, the optimizer with inputs clipped at
    `half_slope`, (low, high), and if there is a `tuned_momentum` this, by itself and in place of the slow modes, on the
    first `problems` evaluation problems of `seed`.

    Problems and optimizers are what they are in float32, and the runs are in float64. With a mechanism taken away many
    runs are chaotic: float32's matmuls, or the last digits of a decomposition in float64, are rounded otherwise on
    another processor, and such a run makes other results of that (see `reopt.core.determinism`). Where the response
    jumps at g = 0 (inputs by sign), the slope there is the secant over the median |gradient| met at the start.
    """
    batches = list(problem_batches(task, seed=seed, count=problems))
    probe = _probe(optimizer, linearization, task, batches)
    intact = intervene(optimizer, linearization, removed(), probe=probe)
    combinations = [removed(*itertools.compress(MECHANISMS, chosen)) for chosen in COMBINATIONS]
    without = [eqx.tree_at(lambda tree: tree.removed, intact, chosen) for chosen in combinations]
    others: dict[str, Optimizer] = {
        "linearised": linearized_optimizer(linearization),
        "input_clipped": ClippedInput(optimizer, *half_slope),
    }
    if tuned_momentum is not None:
        others["tuned_momentum"] = tuned_momentum
        if optimizer.clock is None:
            others["momentum_replaced"] = Summed(without[COMBINATIONS.index(ONLY_MOMENTUM)], tuned_momentum)
    runs = _Runs(task, batches, num_steps)
    factorial_values = np.stack([runs.meta_objectives(subject) for subject in without])
    values = np.concatenate([factorial_values, *(runs.meta_objectives(subject)[None] for subject in others.values())])
    variants = ["factorial"] * len(COMBINATIONS) + list(others)
    states = [*COMBINATIONS, *(ONLY_MOMENTUM if name == "momentum_replaced" else COMBINATIONS[0] for name in others)]
    return Causes(_table(states, variants, values), worth(np.minimum(factorial_values, CEILING)))


class _Runs:
    """The same problems for every subject, in float64; what is not a number counts as infinite."""

    def __init__(self, task: Task, batches: list[Problem], num_steps: int) -> None:
        self.batches = batches
        self._run = eqx.filter_jit(lambda subject, batch: unroll(subject, task, batch, num_steps).losses)

    def meta_objectives(self, subject: Optimizer) -> Float[np.ndarray, " problem"]:
        with double_precision():
            double = to_double(subject)
            runs = [np.asarray(self._run(double, cast(batch, jnp.dtype("float64")))) for batch in self.batches]
        losses = np.concatenate(runs, axis=1)
        with np.errstate(invalid="ignore", over="ignore"):
            values = np.mean(losses, axis=0) / losses[0]
        return np.where(np.isnan(values), np.inf, values)


def _probe(optimizer: Optimizer, linearization: Linearization, task: Task, batches: list[Problem]) -> float | None:
    """None where the slope at g = 0 is a derivative; else the median |gradient| at the start of the problems."""
    with double_precision():
        double = to_double(optimizer)

        def update(state: Array, gradient: Array) -> Array:
            return double(state, gradient)[1]

        if float(jump_at_zero(update, jnp.asarray(linearization.point))) == 0:
            return None

        @jax.jit
        def first(batch: Problem) -> Array:
            return batch_value_and_grad(task, batch, jax.vmap(task.initial_params)(batch), jnp.asarray(0))[1]

        gradients = [np.asarray(first(cast(batch, jnp.dtype("float64")))) for batch in batches]
    sizes = np.abs(np.concatenate(gradients))
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    return float(np.median(sizes)) if sizes.size else 1.0


def _table(
    states: list[tuple[bool, ...]], variants: list[str], values: Float[np.ndarray, "row problem"]
) -> pd.DataFrame:
    counted = np.minimum(values, CEILING)
    mean, low, high = mean_interval(counted.T)
    difference, difference_low, difference_high = mean_interval((counted - counted[0]).T)
    words = np.where(np.array(states), "removed", "kept")
    return pd.DataFrame(
        dict(zip(MECHANISMS, words.T, strict=True))
        | {
            "variant": variants,
            "meta_objective": mean,
            "low": low,
            "high": high,
            "difference": difference,
            "difference_low": difference_low,
            "difference_high": difference_high,
            "diverged": np.mean(values > CEILING, axis=1),
            "problems": values.shape[1],
        }
    )


def worth(values: Float[np.ndarray, "combination problem"]) -> pd.DataFrame:
    """The contrasts of the sixteen runs, in the order of `COMBINATIONS`, with intervals over problems; see above."""
    rows, weights = zip(*_contrasts(), strict=True)
    value, low, high = mean_interval((np.stack(weights) @ values).T)
    names = pd.DataFrame(rows, columns=["mechanism", "quantity"])
    return names.assign(value=value, low=low, high=high)


def _contrasts() -> list[tuple[tuple[str, str], Float[np.ndarray, " combination"]]]:
    """(mechanism, quantity) of each contrast, and its weights on the combinations."""
    count, everything = len(MECHANISMS), frozenset(MECHANISMS)
    unit = dict(
        zip((frozenset(itertools.compress(MECHANISMS, c)) for c in COMBINATIONS), np.eye(2**count), strict=True)
    )

    def v(*names: str) -> np.ndarray:
        return unit[frozenset(names)]

    found: list[tuple[tuple[str, str], np.ndarray]] = []
    for name in MECHANISMS:
        rest = everything - {name}
        shapley = np.zeros(2**count)
        for size in range(count):
            share = factorial(size) * factorial(count - size - 1) / factorial(count)
            for before in itertools.combinations(sorted(rest), size):
                shapley += share * (v(*before, name) - v(*before))
        found.append(((name, "alone"), v(name) - v()))
        found.append(((name, "last"), v(*everything) - v(*rest)))
        found.append(((name, "shapley"), shapley))
    for one, other in itertools.combinations(MECHANISMS, 2):
        found.append(((f"{one} x {other}", "interaction"), v(one, other) - v(one) - v(other) + v()))
    total, whole = sum(v(name) - v() for name in MECHANISMS), v(*everything) - v()
    four = (("sum", total), ("all", whole), ("interaction", whole - total))
    return found + [(("four", quantity), np.asarray(weights)) for quantity, weights in four]
