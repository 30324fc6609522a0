"""What an optimizer will do, foretold from its linearization, and a run of it for each sentence.

On a curvature lambda the linearization where the optimizer rests says up to which lambda it goes to rest, and how fast
(`reopt.dynamics.closed_loop`); its largest update says how long a way must take; the linearization along its schedule
says at which steps a curvature is too much. All but the last are compared with a run of the optimizer itself.
"""

import importlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from reopt.core.errors import ReoptError
from reopt.core.tables import rounded, write_table
from reopt.dynamics.closed_loop import (
    coasting,
    eigenvalues,
    largest_stable_curvature,
    linear_run,
    pace,
    relay_cycles,
    run,
    standing_gain,
    where_it_rests,
)
from reopt.dynamics.linearization import Linearization, linearize
from reopt.examination.examination import Examination
from reopt.examination.settings import Settings
from reopt.mechanisms.update_function import evaluate_update_functions, gradient_limit
from reopt.optimizers.base import Optimizer
from reopt.optimizers.optax_bridge import from_optax
from reopt.tasks.base import Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILES = ("foretold.csv", "stability.csv", "locus.csv", "along.csv")
BESIDE = (0.98, 1.02)  # times the largest stable curvature, where runs go to rest and do not
INSIDE = (0.03, 0.1, 0.3, 0.6)  # times it, where the way to rest is compared
BEYOND = 1.1  # times it, where the amplitude is looked at
NEAR = 1e-4  # of the gradients over which the update is straight: errors with which runs begin
FOLDS = 30.0  # a run lasts until a linear error has changed by e to this power, or
LEAST, MOST = 400, 50_000  # at least and at most so many steps
HALF = 2.0  # by which an error must fall for a run to be said to settle, and
LEFT = 10.0  # rise not to
FAR = 300.0  # largest updates, the distance over which arrival is timed
ARRIVED = 0.01  # of a distance
ALONG = 24  # steps of the schedule at which the curvature that is too much is read
SAME = 0.02  # relative difference of steps that are as foretold
NOT_FORETOLD = "not foretold"
COLUMNS = ("what", "at", "foretold", "seen", "agrees", "words")


class Foretold(NamedTuple):
    """A sentence in numbers: what was foretold, what a run showed, whether it is the same (None: only looked at)."""

    what: str
    at: float  # the curvature, or the distance, that it is about
    foretold: float
    seen: float
    agrees: bool | None
    words: str


class Foretelling:
    """What is foretold of one optimizer; each part is made when it is first asked for.

    `rows` are the sentences with their runs, `stability` a table of curvature against spectral radius and rates,
    `along` the largest stable curvature along the schedule. Printed, it is the sentences.

    **Arguments:** `curvatures`, lowest and highest, are those of the task, if they are known.
    """

    def __init__(self, found: Examination, curvatures: tuple[float, float] | None = None) -> None:
        self.examination, self.curvatures = found, curvatures

    @property
    def _jumps(self) -> bool:
        return bool(self.examination.clipping["jump"].ne(0).any())

    @cached_property
    def rest(self) -> Linearization:
        """Where state and x rest. **Raises** `ReoptError` where the optimizer does not."""
        found = self.examination
        if self._jumps:
            raise ReoptError("the update jumps with the sign of the gradient: it has no slope where it rests")
        return where_it_rests(found.smooth, found.reference.state, clock=found.far_clock)

    @cached_property
    def threshold(self) -> float:
        """The largest stable curvature. **Raises** `ReoptError` where there is none, and says why."""
        return largest_stable_curvature(self.rest)

    @cached_property
    def refusal(self) -> str:
        """Why nothing is foretold by a linearization; empty where it is."""
        try:
            _ = self.threshold
        except ReoptError as error:
            return str(error)
        return ""

    @cached_property
    def unit(self) -> float:
        """A gradient over which the update is straight where it rests."""
        rest = self.examination.clipping[self.examination.clipping["place"] == "fixed_point"].iloc[0]
        half_slopes = rest[["half_slope_positive", "half_slope_negative"]].to_numpy(float)
        met = gradient_limit(self.examination.met.gradients, quantile=0.5, factor=1.0)
        return float(np.nanmin([met, *half_slopes]))

    @cached_property
    def rows(self) -> list[Foretold]:
        """All sentences."""
        if self.refusal:
            return [self._of_a_sign()] if self._jumps else []
        if not np.isfinite(self.threshold):
            return [*self._rates(), *self._arrival()]
        return [*self._edge(), *self._amplitude(), *self._rates(), *self._arrival()]

    @property
    def table(self) -> pd.DataFrame:
        """The sentences as a table: what, at, foretold, seen, agrees, words; of what is not foretold the reason."""
        refused = [Foretold(NOT_FORETOLD, np.nan, np.nan, np.nan, None, self.refusal)] if self.refusal else []
        return pd.DataFrame([*refused, *self.rows], columns=list(COLUMNS))

    @cached_property
    def stability(self) -> pd.DataFrame:
        """Curvature, spectral radius, rate of x and whether a slower mode was passed over; empty without a rest."""
        if self.refusal:
            return pd.DataFrame(columns=["curvature", "radius", "rate", "passed_over"])
        middle = self.threshold if np.isfinite(self.threshold) else 1 / standing_gain(self.rest)
        grid = middle * np.geomspace(1e-3, 10, 121)
        found = [pace(self.rest, value) for value in grid]
        table = pd.DataFrame(found).assign(curvature=grid)
        return table.assign(passed_over=table["radius"] > table["rate"] * (1 + 1e-9))[
            ["curvature", "radius", "rate", "passed_over"]
        ]

    @cached_property
    def locus(self) -> pd.DataFrame:
        """curvature, real, imag: eigenvalues of the closed loop as the curvature grows."""
        rows = [
            (value, one.real, one.imag)
            for value in self.stability["curvature"]
            for one in eigenvalues(self.rest, float(value))
        ]
        return pd.DataFrame(rows, columns=["curvature", "real", "imag"])

    @cached_property
    def along(self) -> pd.DataFrame:
        """step, largest_stable: of the linearization held at steps of the autonomous trajectory; NaN where none is."""
        found = self.examination
        steps = np.unique(np.linspace(0, found.settings.num_steps - 1, ALONG).round().astype(int))
        values = []
        states: Any = coasting(found.smooth, found.settings.num_steps) if not self.refusal else []
        for step in steps if not self.refusal else []:
            try:
                # The step as an array: as a number it would be compiled in, each time anew.
                linear = linearize(found.smooth, states[step], clock=np.asarray(float(step)))  # type: ignore[arg-type]
                values.append(largest_stable_curvature(linear))
            except ReoptError:
                values.append(np.nan)
        return pd.DataFrame({"step": steps[: len(values)], "largest_stable": values})

    def _run(self, error: float, curvature: float, steps: int) -> np.ndarray:
        rest, found = self.rest, self.examination
        state = rest.point.copy()
        return run(found.smooth, state, error, curvature, at=float(rest.gradient), steps=steps)

    def _under(self, gradient: float) -> np.ndarray:
        """x under a constant gradient, from rest."""
        return run(self.examination.smooth, self.rest.point, 0.0, 0.0, at=gradient, steps=int(2 * FAR))

    def _edge(self) -> list[Foretold]:
        """Runs just below and just beyond the largest stable curvature."""
        rows = []
        for factor in BESIDE:
            curvature = factor * self.threshold
            steps, settles = _steps(pace(self.rest, curvature).radius), factor < 1
            errors = np.abs(self._run(NEAR * self.unit / curvature, curvature, steps)) / (NEAR * self.unit / curvature)
            # Beyond it, what happens far from rest is another matter: it has left.
            ratio = float(errors[-max(steps // 10, 1) :].max() if settles else np.nan_to_num(errors, nan=np.inf).max())
            agrees = ratio < 1 / HALF if settles else ratio > LEFT
            told = "goes to rest: a small error ends at" if settles else "does not go to rest: a small error grows to"
            words = (
                f"on a curvature of {curvature:.4g}, {factor:g} of the largest stable one, it {told} {ratio:.3g} of"
                f" what it was within {steps} steps"
            )
            rows.append(Foretold("largest stable curvature", curvature, self.threshold, ratio, agrees, words))
        return rows

    def _amplitude(self) -> list[Foretold]:
        """What happens beyond: the error of the last tenth of a run, from three starts."""
        curvature = BEYOND * self.threshold
        starts = gradient_limit(self.examination.met.gradients, quantile=0.5, factor=1.0) * np.array([0.01, 1.0, 100.0])
        ends = []
        for start in starts:
            errors = np.abs(self._run(start / curvature, curvature, 3000))
            ends.append(float(np.nan_to_num(errors[-300:].max(), nan=np.inf)))
        bounded = all(np.isfinite(ends)) and max(ends) < 1e6 * starts.max() / curvature
        seen = f"circles within {max(ends):.3g} of the minimum" if bounded else "diverges"
        words = (
            f"on {BEYOND:g} times that curvature it {seen}, after 3,000 steps from starts at 0.01, 1 and 100 times the"
            " usual gradients"
        )
        return [Foretold("amplitude beyond", curvature, np.nan, max(ends), None, words)]

    def _rates(self) -> list[Foretold]:
        """Steps until a small error has shrunk to `ARRIVED`, on curvatures below."""
        middle = self.threshold if np.isfinite(self.threshold) else 1 / standing_gain(self.rest)
        rows = []
        for factor in INSIDE:
            curvature = factor * middle
            expected = pace(self.rest, curvature)
            steps = _steps(expected.radius)
            foretold = _shrunk(linear_run(self.rest, curvature, steps))
            start = NEAR * self.unit / curvature
            seen = _shrunk(self._run(start, curvature, steps) / start)
            agrees = foretold == seen or abs(seen - foretold) <= max(SAME * foretold, 1)
            over = expected.radius > expected.rate * (1 + 1e-9)
            told = f" (a slower mode, {expected.radius:.5f}, hardly reaches x)" if over else ""
            words = (
                f"on a curvature of {curvature:.4g} an error shrinks by {expected.rate:.5f} a step in the end{told},"
                f" and is below {ARRIVED:.0%} for good after {foretold:.0f} steps; seen {seen:.0f}"
            )
            rows.append(Foretold(f"steps to {ARRIVED:g}", curvature, foretold, seen, bool(agrees), words))
        return rows

    def _arrival(self) -> list[Foretold]:
        """How long a way must take: no update is larger than the largest. Nothing where updates grow without end."""
        found = self.examination
        reach = np.geomspace(self.unit, 1e6 * gradient_limit(found.met.gradients, factor=1.0), 24)
        held = [np.abs(np.diff(self._under(sign * size))) for size in reach for sign in (1, -1)]
        ends = np.array([one.max() for one in held]).reshape(-1, 2).max(axis=1)
        if not np.isfinite(ends).all() or ends[-1] > (1 + SAME) * ends[: len(reach) * 3 // 4].max():
            return []
        largest = float(ends.max())
        distance = FAR * largest
        middle = self.threshold if np.isfinite(self.threshold) else 1 / standing_gain(self.rest)
        curvature, least = 0.3 * middle, (1 - ARRIVED) * FAR
        errors = np.abs(self._run(distance, curvature, int(20 * FAR)))
        there = np.flatnonzero(errors <= ARRIVED * distance)
        seen = float(there[0]) if there.size else np.inf
        told = f"more than {len(errors)}" if np.isinf(seen) else f"{seen:.0f}"
        words = (
            f"under constant gradients the largest update is {largest:.3g}, so a way of {distance:.3g} takes at least"
            f" {least:.0f} steps; it took {told}"
        )
        return [Foretold("arrival", distance, least, seen, seen >= least, words)]

    def _of_a_sign(self) -> Foretold:
        """The cycle of an optimizer whose update follows a sign."""
        found = self.examination
        point, clock = found.linearization.point, found.clock
        steps = evaluate_update_functions(found.smooth, point[None], np.array([-1e-3, 1e-3]))[0][0]
        size = 0.5 * float(np.abs(np.diff(steps)[0]))
        step = found.switching
        response = np.ones(1) if step is None or not step.alpha.size else step.response
        behind = step is None or not step.alpha.size or step.behind
        sides = np.array(relay_cycles(response) if behind else [], float)
        state = point.copy()
        if found.optimizer.clock is not None:
            state[found.optimizer.clock] = clock
        errors = run(found.smooth, state, 100.5 * size, 1.0, at=0.0, steps=4000)
        seen = 0.5 * float(np.ptp(errors[-400:]))
        possible = 0.5 * sides * size
        nearest = possible[np.argmin(np.abs(possible - seen))] if sides.size else np.nan
        expected = float(nearest)
        agrees = bool(abs(seen - expected) <= SAME * size)
        told = ", ".join(f"{value:.4g}" for value in possible[:8]) + (" ..." if sides.size > 8 else "")
        told = f"x can circle by {told}; " if sides.size else ""
        words = f"the update follows a sign, and never comes to rest: {told}seen {seen:.4g}"
        return Foretold("cycle of a sign", 1.0, expected, seen, agrees, words)

    def sentences(self) -> list[str]:
        """What is foretold and seen, a sentence each; of what is not foretold the reason."""
        lines = []
        if self.refusal:
            lines.append(f"{NOT_FORETOLD}: {self.refusal}")
        elif np.isfinite(self.threshold):
            lines.append(f"largest stable curvature: {self.threshold:.6g}")
            if self.curvatures and self.threshold < self.curvatures[1]:
                lines.append(
                    f"curvatures of the task up to {self.curvatures[1]:.4g} are beyond it: in the limit it is unstable"
                    " there, and only a finite horizon hides it"
                )
        else:
            lines.append("stable on all curvatures that were looked at")
        told = {True: "as foretold", False: NOT_FORETOLD, None: "seen"}
        lines += [f"{told[row.agrees]}: {row.words}" for row in self.rows]
        if self.curvatures and len(self.along):
            early = self.along[self.along["largest_stable"] < self.curvatures[1]]
            if len(early):
                steps = ", ".join(str(int(step)) for step in early["step"][:6])
                lines.append(
                    f"held as it is at steps {steps}{' ...' if len(early) > 6 else ''} of its schedule, it is unstable"
                    f" on a curvature of {self.curvatures[1]:.4g}"
                )
        return [*lines, *getattr(self.examination.optimizer, "caveats", ())]

    def write(self, folder: Path | str, formats: Iterable[str] = ("svg", "png")) -> None:
        """foretold.csv, stability.csv, locus.csv, along.csv, and the figure `foretold` where there is a rest."""
        save = _drawing("save").save
        folder = Path(folder)
        tables = {"foretold": self.table, "stability": self.stability, "locus": self.locus, "along": self.along}
        for name, table in tables.items():
            write_table(folder / f"{name}.csv", rounded(table))
        if not self.refusal:
            save(self.figure[0], *(folder / f"foretold.{kind}" for kind in formats))

    def write_table(self, file: Path) -> None:
        """foretold.csv alone, as `file`."""
        write_table(file, rounded(self.table))

    @property
    def figure(self) -> "tuple[Figure, str]":
        """(figure, caption). **Raises** `ReoptError` where nothing is foretold by a linearization."""
        if self.refusal:
            raise ReoptError(f"there is nothing to draw: {self.refusal}")
        tables = self.stability, self.locus, self.along
        foretold = _drawing("foretold")
        data = foretold.Stability(self.examination.name, *tables, self.threshold, self.curvatures)
        return foretold.figure(data), foretold.caption(data)

    def __repr__(self) -> str:
        return "\n".join([f"{self.examination.name}, foretold and seen", *self.sentences()])


def foretell(
    optimizer: Optimizer | Any,
    task: Task,
    settings: Settings | None = None,
    *,
    name: str = "optimizer",
    curvatures: tuple[float, float] | None = None,
    say: Callable[[str], None] = lambda text: None,
    **changes: Any,
) -> Foretelling:
    """What `optimizer` will do on a curvature, foretold from its linearization, with a run for each sentence.

    **Arguments:** `optimizer` is an optax transformation or an `Optimizer`; a decoupled weight decay is taken off, from
    what is foretold and from the runs, and said. The gradients of its runs on `task` say
    what sizes are usual; `curvatures`, lowest and highest, are those of the task (default: of a `Quadratic` its own);
    `say` is told of each part; `changes` are fields of `Settings`.

    **Raises** `ReoptError` where the optimizer has no derivatives to examine.

    ```python
    import optax, reopt

    print(reopt.foretell(optax.sgd(0.1, momentum=0.9), reopt.tasks.Quadratic()))
    ```
    """
    if not isinstance(optimizer, Optimizer):
        optimizer = from_optax(optimizer, decay=True)
    found = Examination(optimizer, task, replace(settings or Settings(), **changes), name=name)
    result = Foretelling(found, curvatures or curvatures_of(task))
    say(f"where {name} rests")
    _ = result.refusal
    say("runs")
    _ = result.rows
    return result


def curvatures_of(task: Task) -> tuple[float, float] | None:
    """The lowest and the highest curvature of a task, where it says so."""
    if not hasattr(task, "log10_eigenvalues"):
        return None
    low, high = task.log10_eigenvalues
    return 10.0**low, 10.0**high


def _drawing(module: str) -> Any:
    """A module of the figures, by name: it is no source of the tables, which stay as they are when it is edited."""
    return importlib.import_module(f"reopt.figures.{module}")


def _shrunk(errors: np.ndarray) -> float:
    """The step from which on the error stays within `ARRIVED` of the first; inf where it does not."""
    above = np.flatnonzero(~(np.abs(errors) <= ARRIVED * np.abs(errors[0])))
    return float(above[-1] + 1) if above.size and above[-1] + 1 < len(errors) else np.inf


def _steps(rate: float, folds: float = FOLDS) -> int:
    """Steps in which a linear error changes by e to the power `folds`."""
    speed = abs(np.log(rate)) if rate > 0 else np.inf
    return int(np.clip(np.ceil(folds / max(speed, 1e-12)), LEAST, MOST))
