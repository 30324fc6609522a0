"""A positive control: readings of an optimizer whose values are known from somebody else's plots of the same recipe.

A method of reading is only as good as what it says of a case that is known. The readings are those that can be taken
from the published plots of the authors' tutorial optimizer (arXiv 2011.02159, public notebook): its meta-objective, the
mode that carries most of the update, the principal components of its states along single problems, its fixed points,
and its update function at the initial state.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from reopt.dynamics.pca import PCA, pca
from reopt.dynamics.record import record
from reopt.evaluation.evaluate import evaluate
from reopt.examination.examination import Examination
from reopt.mechanisms.modes import leading_mode, modes
from reopt.mechanisms.update_function import evaluate_update_functions

STEPS = 101  # of the runs whose states are looked at
PROBLEMS = 24
REACH = 0.5  # gradients up to which the update function is drawn
SHIFT = 2.0  # along a principal component, in units of the state

READINGS = {
    "meta_objective": "mean over the problems",
    "alpha": "rate of the mode with the largest |alpha / (1 - beta)|",
    "beta": "its |beta|",
    "second_beta": "largest |beta| of the other modes",
    "fixed_points": "fixed points at zero gradient",
    "pc1": f"share of the variance of states, one problem, {STEPS} steps; median over {PROBLEMS} problems",
    "pc1_offset": f"update moved by {SHIFT:g} along PC1 of one problem; median",
    "pc2_offset": f"update moved by {SHIFT:g} along PC2 of one problem; median",
    "slope": "of the update function at the initial state",
    "straightness": f"least slope over largest slope for |g| <= {REACH:g}, at the initial state",
}
"""Each reading, in words."""


class Known(NamedTuple):
    """A value that is known, and the range in which a reading agrees with it."""

    value: float
    low: float
    high: float


def readings(found: Examination, *, problems: int, seed: int) -> dict[str, float]:
    """The value of each of `READINGS`; the runs are on `problems` problems of `seed`.

    **Raises** `ReoptError` where the examination has no derivatives to read.
    """
    task = type(found.task).__name__.lower()
    runs = evaluate(
        found.optimizer,
        found.task,
        name=found.name,
        task_name=task,
        problems=problems,
        seed=seed,
        num_steps=found.settings.num_steps,
    )
    buffers = modes(found.linearization)
    leading = leading_mode(buffers)
    others = np.delete(np.abs(buffers.beta), leading)
    start = np.asarray(found.optimizer.initial_state(), np.float64)[None]
    slopes = evaluate_update_functions(found.optimizer, start, np.linspace(-REACH, REACH, 201))[1][0]
    sizes = np.abs(slopes)
    axes = _principal_axes(found, seed)
    first, second = (_offsets(found, [one.components[i] for one in axes if len(one.components) > i]) for i in (0, 1))
    return {
        "meta_objective": float(runs.table["meta_objective"].mean()),
        "alpha": float(abs(buffers.alpha[leading])),
        "beta": float(abs(buffers.beta[leading])),
        "second_beta": float(others.max()) if others.size else 0.0,
        "fixed_points": float(len(found.points.points)),
        "pc1": float(np.median([one.explained[0] for one in axes])),
        "pc1_offset": first,
        "pc2_offset": second,
        "slope": float(slopes[len(slopes) // 2]),
        "straightness": float(sizes.min() / sizes.max()) if len(set(np.sign(slopes))) == 1 else 0.0,
    }


def _principal_axes(found: Examination, seed: int) -> list[PCA]:
    """Of the states along each of `PROBLEMS` problems by itself."""
    runs = record(
        found.optimizer, found.task, seed=seed, num_steps=STEPS, problems=PROBLEMS, state_problems=PROBLEMS,
        max_params=found.task.num_params,
    )  # fmt: skip
    return [pca(runs.states[:, problem], clock=found.optimizer.clock) for problem in range(PROBLEMS)]


def _offsets(found: Examination, directions: list[np.ndarray]) -> float:
    """Median over directions of |u(h + SHIFT d) - u(h - SHIFT d)| / 2 at the reference h; NaN if there is none."""
    if not directions:
        return float("nan")
    point = found.linearization.point
    states = np.stack([point + sign * SHIFT * direction for direction in directions for sign in (1, -1)])
    updates = evaluate_update_functions(found.optimizer, states, np.zeros(1))[0][:, 0].reshape(-1, 2)
    return float(np.median(np.abs(updates[:, 0] - updates[:, 1])) / 2)


def control_table(values: Mapping[str, float], known: Mapping[str, Known]) -> pd.DataFrame:
    """Columns `reading, what, value, known, low, high, agrees`, a row for each value that is known."""
    rows = [
        (name, READINGS[name], values[name], *one, int(one.low <= values[name] <= one.high))
        for name, one in known.items()
    ]
    return pd.DataFrame(rows, columns=["reading", "what", "value", "known", "low", "high", "agrees"])
