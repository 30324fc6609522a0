"""Which mechanism breaks first away from home.

A run away from home is recorded as the one at home was, and four shares are read off either, each of which says that
a mechanism is used where meta-training has not seen it:

    clipping     share of the gradients beyond the half-slope gradient at the initial state, of their sign
    adaptation   share of the gradients smaller than those among which adaptation was seen at home
    states       share of the hidden states outside the range of those at home, on their first principal axes
    momentum     share of the final states at which dF/dh has a spectral radius over 1: the state itself is unstable

The limit of each is its share at home plus `MARGIN`. The first to break is the mechanism that is farthest above its
limit at the mildest change at which the optimizer is worse than at home (see `reopt.evaluation.shift`).
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from reopt.dynamics.autonomous import FreeSystem, beside_zero, jacobians_at
from reopt.dynamics.pca import PCA, pca, project
from reopt.dynamics.precision import double_precision, to_double
from reopt.dynamics.record import Recording, finite_states, record
from reopt.evaluation.shift import HORIZONS, Setup, build, conditions, scales
from reopt.mechanisms.update_function import gradient_limit
from reopt.optimizers.base import Optimizer

MECHANISMS = ("clipping", "adaptation", "states", "momentum")
NONE = "none of these"
MARGIN = 0.1
"""Share by which a diagnostic may exceed that at home."""
AXES = 3  # principal axes on which the range of states is looked at
SLACK = 0.01  # of that range, on either side
ORDERED = ("horizon", "scale", "condition")


class Home(NamedTuple):
    """What is held against the runs away from home."""

    positive: float  # half-slope gradients at the initial state, |g|; NaN where there is none
    negative: float
    small: float  # |g|, the smallest among which adaptation was seen
    basis: PCA
    low: Float[np.ndarray, " axis"]  # range of the states
    high: Float[np.ndarray, " axis"]


class Recipe(NamedTuple):
    """How runs are recorded: as `reopt.dynamics.record.record` takes it."""

    seed: int
    problems: int
    state_problems: int
    max_params: int


def home_of(optimizer: Optimizer, runs: Recording, *, positive: float, negative: float, low_quantile: float) -> Home:
    """What the runs at home say.

    **Arguments:** `positive` and `negative` are the half-slope gradients at the initial state; `low_quantile` of the
    |gradients| met is the smallest among which adaptation was seen.
    """
    basis = pca(runs.states, clock=optimizer.clock)
    rows = project(finite_states(runs.states), basis, AXES)
    if not len(rows):
        rows = np.zeros((1, rows.shape[1]))
    low, high = rows.min(axis=0), rows.max(axis=0)
    slack = SLACK * (high - low)
    small = gradient_limit(runs.gradients, quantile=low_quantile, factor=1.0)
    return Home(positive, negative, small, basis, low - slack, high + slack)


def diagnostics(optimizer: Optimizer, runs: Recording, home: Home) -> dict[str, float]:
    """The share of each mechanism, between 0 and 1.

    What is no number has left every range: such a gradient is beyond them (if there are any), such a state is
    outside, and unstable.
    """
    gradients = np.asarray(runs.gradients, np.float64)
    lost = ~np.isfinite(gradients)
    clips = np.isfinite(home.positive) or np.isfinite(home.negative)
    beyond = (gradients > home.positive) | (gradients < -home.negative) | (lost & clips)  # NaN is over nothing
    states = project(runs.states, home.basis, AXES)
    inside = ((states >= home.low) & (states <= home.high)).all(axis=-1)
    radius = spectral_radii(optimizer, runs)
    return {
        "clipping": float(beyond.mean()),
        "adaptation": float((np.abs(gradients) < home.small).mean()),
        "states": float(1 - inside.mean()),
        "momentum": float((~(radius <= 1)).mean()),
    }


def spectral_radii(optimizer: Optimizer, runs: Recording) -> Float[np.ndarray, " state"]:
    """Spectral radius of dF/dh at the last recorded states under their gradients, a clock held; NaN of a lost run."""
    final = runs.states[-1]
    gradients = np.asarray(runs.gradients[-1][: len(final)], np.float64).ravel()
    rows = final.reshape(len(gradients), -1)
    radii = np.full(len(gradients), np.nan)
    fine = np.isfinite(rows).all(axis=1) & np.isfinite(gradients)
    with double_precision():
        # A schedule is looked at where the run ends.
        clock = float(np.median(rows[fine, optimizer.clock])) if optimizer.clock is not None and fine.any() else 0.0
        system = FreeSystem(to_double(optimizer), clock)
        if not system.size:
            return np.where(fine, 0.0, np.nan)
        if fine.any():
            at = beside_zero(system, system.restrict(rows[fine]), gradients[fine])
            jacobian = jacobians_at(system, at, gradients[fine])
            known = np.isfinite(jacobian).all(axis=(1, 2))
            found = np.full(len(jacobian), np.nan)
            found[known] = np.abs(np.linalg.eigvals(jacobian[known])).max(axis=1)
            radii[fine] = found
    return radii


def _runs(
    optimizer: Optimizer, name: str, setup: Setup, at_home: Recording, recipe: Recipe
) -> Iterator[tuple[str, float, Recording]]:
    """(axis, value, recording): along the horizon, the last stretch that is as long as a run at home."""
    task, steps = build(name, setup.problem), setup.num_steps
    long = record(optimizer, task, num_steps=max(HORIZONS) * steps, **recipe._asdict())
    for times in HORIZONS:
        last = slice((times - 1) * steps, times * steps)
        part = Recording(long.states[last], long.gradients[last], long.updates[last], long.losses[last], long.params)
        yield "horizon", float(times), at_home if times == 1 else part
    for change in (*scales(task, steps), *conditions(name, setup)):
        runs = at_home if change.home else record(optimizer, change.task, num_steps=steps, **recipe._asdict())
        yield change.axis, float(change.value), runs


def breaking(
    optimizer: Optimizer, setup: Setup, at_home: Recording, home: Home, *, name: str, recipe: Recipe
) -> pd.DataFrame:
    """Columns `axis, value, mechanism, diagnostic, limit, crossed`, along the axes whose values are ordered.

    **Arguments:** `at_home` is the recording at home of the task called `name`, made as `recipe` says; so are those
    away from home. Along the horizon the last stretch that is as long as a run at home is looked at.
    """
    limits = {key: share + MARGIN for key, share in diagnostics(optimizer, at_home, home).items()}
    rows = [
        (axis, value, mechanism, share, limits[mechanism], share > limits[mechanism])
        for axis, value, runs in _runs(optimizer, name, setup, at_home, recipe)
        for mechanism, share in diagnostics(optimizer, runs, home).items()
    ]
    return pd.DataFrame(rows, columns=["axis", "value", "mechanism", "diagnostic", "limit", "crossed"])


def first_to_break(beyond: pd.DataFrame, breaking: pd.DataFrame, *, home: Mapping[str, float]) -> pd.DataFrame:
    """The mildest change at which the optimizer is worse than at home, and the mechanism that it breaks.

    **Arguments:** `beyond` is the table of `reopt.evaluation.shift`; `home` gives the value at home of each axis.

    A row an axis and a `direction` (larger, smaller) in which something gets worse: `value`, the mildest change at
    which it does; `mechanism`, of those over their limit there the one that is farthest above it, or "none of these";
    its `diagnostic` and `limit`; `meta_objective` and `final` there. An axis without such a row does not break it.
    """
    rows = []
    for axis in ORDERED:
        table = beyond[(beyond["axis"] == axis) & beyond["worse"].astype(bool)]
        table = table.assign(value=table["value"].astype(float))
        for direction, sign in (("larger", 1), ("smaller", -1)):
            side = table[sign * (table["value"] - home.get(axis, np.nan)) > 0]
            if side.empty:
                continue
            worst = side.loc[(side["value"] * sign).idxmin()]
            seen = breaking[(breaking["axis"] == axis) & np.isclose(breaking["value"], worst["value"])]
            over = seen[seen["crossed"].astype(bool)]
            found = {"mechanism": NONE, "diagnostic": np.nan, "limit": np.nan}
            if len(over):
                found = over.loc[(over["diagnostic"] - over["limit"]).idxmax(), list(found)].to_dict()
            rows.append(
                {"axis": axis, "direction": direction, "value": worst["value"]}
                | found
                | {"meta_objective": worst["meta_objective"], "final": worst["final"]}
            )
    columns = ["axis", "direction", "value", "mechanism", "diagnostic", "limit", "meta_objective", "final"]
    return pd.DataFrame(rows, columns=columns)


def values_at_home(name: str, setup: Setup) -> dict[str, float]:
    """The value of each ordered axis at which nothing is changed."""
    own = {change.axis: float(change.value) for change in conditions(name, setup) if change.home}
    return {"horizon": 1.0, "scale": 1.0} | own
