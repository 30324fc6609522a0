"""Stored parts of a run in which an effect is planted, so that its grade is known by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reopt.core.tables import write_table
from reopt.dynamics.linearization import Linearization
from reopt.dynamics.pca import PCA
from reopt.dynamics.record import Recording
from reopt.examination.parts import files_of
from reopt.examination.storage import COLUMNS, save
from reopt.mechanisms.constant_gradients import Adaptation
from reopt.mechanisms.effective_rate import Schedule
from reopt.mechanisms.modes import LinearizedRuns

STEPS, PROBLEMS = 16, 2
SIZES = np.array([0.25, 0.5, 0.75, 0.9, 0.95, 0.999])
"""Gradients held; those met, evenly spread up to 1, have the quantiles g50 = 0.5, g90 = 0.9, g99.9 = 0.999."""


def write(folder: Path, parts: dict[str, Any]) -> None:
    """Store some attributes of an examination."""
    for attribute, part in parts.items():
        save(attribute, whole(attribute, part), folder)


def whole(attribute: str, part: Any) -> Any:
    """The part with what its files must have and no claim reads: numbers that are not known, and no words."""
    if isinstance(part, pd.DataFrame):
        return complete(part, files_of(attribute)[0])
    if isinstance(part, Schedule | Adaptation):
        tables = {
            name: complete(table, file)
            for (name, table), file in zip(part._asdict().items(), files_of(attribute), strict=False)
            if isinstance(table, pd.DataFrame)
        }
        rates = dict.fromkeys(("converged", "low", "high", "knee", "range", "symmetry", "fastest", "slowest"))
        told = {"shape": "other", "finite": False} if attribute == "schedule" else {**rates, "hysteresis": False}
        return part._replace(**tables, summary=told | part.summary)
    return part


def complete(table: pd.DataFrame, file: str) -> pd.DataFrame:
    """A table with all columns that its file must have."""
    numbers, texts = (words.split() for words in COLUMNS[file].split("|"))
    unknown = {**dict.fromkeys(numbers, 0.0), **dict.fromkeys(texts, "x"), "mode": np.arange(len(table))}
    return table.assign(**{name: unknown[name] for name in (*numbers, *texts) if name not in table})


def recording(*, r2: float = 1.0, early: float = 0.0) -> Recording:
    """Gradients with the quantiles of `SIZES`; updates of which one linear step, of no more than the state, foretells
    `r2`; losses of which 90% is gone after a quarter, until when a share `early` of the gradients is beyond 2."""
    gradients = np.resize(np.linspace(0, 1, 1001), (STEPS, PROBLEMS, 1001))
    gradients[: STEPS // 4, :, : round(1000 * early)] = 3.0
    gradients = gradients.astype(np.float32)
    foretold = np.resize([1.0, -1.0, 1.0, -1.0], STEPS)
    missed = np.resize([1.0, 1.0, -1.0, -1.0], STEPS) * np.sqrt(1 / r2 - 1)
    states = np.zeros((STEPS, 1, 1001, 1), np.float32) + 2 * foretold[:, None, None, None]
    updates = np.zeros_like(gradients) + (foretold + missed)[:, None, None]
    losses = np.where(np.arange(STEPS) < STEPS // 4, 1.0, 0.01)[:, None] * np.ones(PROBLEMS)
    return Recording(
        states.astype(np.float32), gradients, updates.astype(np.float32), losses.astype(np.float32), np.arange(1001)
    )


def linearization() -> Linearization:
    """h' = h / 2, update h'."""
    one, zero = np.ones(1), np.zeros(())
    return Linearization(0 * one, 0.5 * one[:, None], 0 * one, one, zero, zero, zero, np.zeros(0, int))


def linearized(kept: float) -> LinearizedRuns:
    """Meta-objectives of which the linearised run keeps the share `kept` of the drop in their logarithm."""
    problems = pd.DataFrame({"problem": range(4), "learned": 0.1, "linearized": 0.1**kept})
    return LinearizedRuns(pd.DataFrame({"step": [0], "learned": [1.0], "linearized": [1.0]}), problems)


def impulse(response: np.ndarray) -> pd.DataFrame:
    """A pulse response, of the optimizer as of its linearization."""
    return pd.DataFrame({"lag": range(len(response)), "response": response, "linear": response, "modes": response})


def pca(*explained: float) -> PCA:
    """So much of the variance in each component."""
    count = len(explained)
    return PCA(np.zeros(count), np.eye(count), np.array(explained), np.ones(count), np.zeros((1, 3), np.float32))


def functions(*, saturation: float = 1.0, asymmetry: float = 0.0, offset: float = 0.0) -> pd.DataFrame:
    """u = -g + asymmetry g^2, whose slope at |g| = 0.999 is `saturation` times that at 0; along PC1 offset at 0."""
    grid = np.linspace(-4, 4, 8001)
    slope = -1 + (1 - saturation) * np.minimum(np.abs(grid) / 0.999, 2)
    rows = [("initial", 0.0, 0.0), ("fixed_point", 0.0, 0.0), ("pc1", -1.0, -offset), ("pc1", 1.0, offset)]
    return pd.concat(
        pd.DataFrame(
            {
                "place": place,
                "shift": shift,
                "gradient": grid,
                "update": -grid + asymmetry * grid**2 + moved,
                "slope": slope,
            }
        )
        for place, shift, moved in rows
    )


def clipping(*, spread: float = 1.0, lost: int = 0, slope: float = -1.0, beyond: float = 0.0, far: float = 1.0):
    """Update functions with a slope of -1 at zero (`slope` along PC1), that halves at 1, or at `spread` in a half of
    the states; in `lost` of eight nowhere. The initial one at 2."""
    places = ["fixed_point", *["visited"] * 7, "initial", "pc1"]
    half = np.array([1.0] * 4 + [spread] * 4 + [2.0, 1.0])
    half[1 : 1 + lost] = np.nan
    table = pd.DataFrame({"place": places, "shift": 0.0, "slope_at_zero": [*[-1.0] * 9, slope]})
    return table.assign(
        half_slope_positive=half,
        half_slope_negative=half,
        saturation=far,
        fraction_beyond_half_slope=beyond,
    )


def schedule(*rates: float) -> Schedule:
    """Effective learning rates, step by step."""
    table = pd.DataFrame({"step": range(len(rates)), "effective_learning_rate": rates})
    return Schedule(table, {})


def adaptation(
    *,
    cosine: float = -1.0,
    jump: float = 1.0,
    fall: tuple[float, float] = (1.0, 1.0),
    other: float = 0.0,
    exponent: float = 0.0,
    missed: int = 0,
    unstable: int = 0,
) -> Adaptation:
    """An arm of points a sign, at an angle of the given cosine; the last step of each is `jump` times the others.

    The rate falls from g50 to g99.9 by `fall` (negative, positive), by the power `exponent` of |g| beyond g90, and is
    less by the share `other` in the negative arm. `missed` points have not been found, `unstable` repel.
    """
    along = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 5.0 + jump])
    parts = []
    for sign, name, way, share in (
        (-1, "negative", (cosine, np.sqrt(1 - cosine**2)), fall[0]),
        (1, "positive", (1, 0), fall[1]),
    ):
        rate = np.interp(np.log(SIZES), np.log([0.5, 0.999]), [1.0, share]) * np.maximum(SIZES / 0.9, 1) ** exponent
        parts.append(
            pd.DataFrame({"gradient": sign * SIZES, "arm": name, "pc1": along * way[0], "pc2": along * way[1]}).assign(
                effective_learning_rate_at_zero=rate * (1 - other * (sign < 0))
            )
        )
    zero = pd.DataFrame(
        {"gradient": [0.0], "arm": "zero", "pc1": 0.0, "pc2": 0.0, "effective_learning_rate_at_zero": 1.0}
    )
    table = pd.concat([parts[0][::-1], zero, parts[1]], ignore_index=True).assign(pc3=0.0)
    order = np.argsort(-table["gradient"].abs().to_numpy(), kind="stable")
    table = table.assign(converged=True, stable=True, spectral_radius=0.9)
    table.loc[order[:missed], ["converged", "stable"]] = False
    table.loc[order[:missed], "effective_learning_rate_at_zero"] = np.nan
    table.loc[order[:unstable], "stable"] = False
    empty = pd.DataFrame({"gradient_held": [], "place": [], "gradient": [], "update": [], "slope": []})
    return Adaptation(table, {"exponent": -1.0}, empty, np.zeros((0, 0)))


def readings(names: list[str], verdicts: dict[str, str], r2: float = 0.995) -> pd.DataFrame:
    """Readings in which each mechanism has this verdict; the remainder is told by `r2`."""
    rows = [
        (name, "r2" if name == "remainder" else "number", 0, r2, r2 - 0.001, r2 + 0.001, "1", verdicts[name])
        for name in names
    ]
    columns = ["mechanism", "quantity", "index", "value", "low", "high", "unit", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def write_readings(folder: Path, names: list[str], verdicts: dict[str, str], r2: float = 0.995) -> None:
    """Store such readings."""
    write_table(folder / files_of("readings")[0], readings(names, verdicts, r2))
