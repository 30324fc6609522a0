"""One examination of one optimizer on one task: its parts, each made when it is first asked for, or read from files.

The pipeline makes one part a rule and stores it; `reopt dissect` makes all of them in one process; verdicts, claims,
figures and comparisons take an `Examination` and do not ask which it was.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
from jaxtyping import Float

from reopt.core.errors import ReoptError
from reopt.core.programs import release_programs
from reopt.dynamics.autonomous import CLOCK
from reopt.dynamics.fixed_points import FixedPoints, find_fixed_points, refuse_other_points, search_seeds
from reopt.dynamics.linearization import Linearization, linearize, refuse_other_linearization
from reopt.dynamics.pca import PCA, pca, refuse_no_pca
from reopt.dynamics.record import Recording, record, refuse_other_recording
from reopt.examination.far_range import FarRange, far_range, noise_in, reach_of
from reopt.examination.parts import FILES, PARTS
from reopt.examination.reference import (
    Reference,
    before_divergence,
    reference_point,
    settling_step,
    smooth_twin,
    state_after,
    telling_step,
)
from reopt.examination.settings import Settings
from reopt.examination.storage import load, paths_of, save
from reopt.mechanisms.constant_gradients import Adaptation, adaptation
from reopt.mechanisms.effective_rate import Schedule, schedule
from reopt.mechanisms.finite_probes import FiniteProbes
from reopt.mechanisms.modes import LinearizedRuns, impulse_response, linearized_runs, modes, modes_table
from reopt.mechanisms.noise import Noise
from reopt.mechanisms.operating_point import OperatingPoint, operating_point
from reopt.mechanisms.sign_updates import Switching, switching
from reopt.mechanisms.update_function import (
    Place,
    clipping,
    gradient_density,
    gradient_grid,
    gradient_limit,
    places,
    update_functions,
)
from reopt.optimizers.base import Optimizer
from reopt.optimizers.optax_bridge import from_optax
from reopt.tasks.base import Task

if TYPE_CHECKING:
    from reopt.mechanisms.ablation import Causes
    from reopt.mechanisms.base import Finding

T = TypeVar("T")
ELSEWHERE = 30.0  # times the rates of the runs: beyond that, rest is another regime


def _part(make: "Callable[[Examination], T]") -> "cached_property[T]":
    """An attribute that is read from the files of the examination where they are, else made, once."""
    name = make.__name__

    @wraps(make)
    def get(self: "Examination") -> T:
        if not self._reads(name):
            return make(self)
        found = load(name, self.stored, **self._sizes)  # type: ignore[arg-type]
        if self._optimizer is not None:
            _refuse_other(found, self._optimizer, self.stored)
        return found

    return cached_property(get)


def _refuse_other(found: Any, optimizer: Optimizer, where: Path | None) -> None:
    """**Raises** `ReoptError` where stored arrays are not those of this optimizer, or cannot be those of any."""
    if isinstance(found, Recording):
        refuse_other_recording(found, optimizer, where)
    elif isinstance(found, FixedPoints):
        refuse_other_points(found, optimizer, where)
    elif isinstance(found, Linearization):
        refuse_other_linearization(found, optimizer, where)
    elif isinstance(found, PCA):
        refuse_no_pca(found, where)


class Examination:
    """An optimizer examined on a task.

    **Arguments:** `stored` is a folder with parts that rules have made; `given` names the attributes that may be read
    from there (default: all whose files are there). Without an optimizer, nothing but what is stored can be had.

    Every attribute below is made when it is first asked for.

    **Raises** `ReoptError` where the optimizer has no derivatives to examine, or a stored part is damaged.
    """

    def __init__(
        self,
        optimizer: Optimizer | None,
        task: Task | None,
        settings: Settings | None = None,
        *,
        name: str = "optimizer",
        stored: Path | None = None,
        given: Iterable[str] | None = None,
    ) -> None:
        release_programs()
        self._optimizer = optimizer
        self._task = task
        self.settings = settings or Settings()
        self.name = name
        self.stored = stored
        self._given = frozenset(FILES if given is None else given)

    @property
    def optimizer(self) -> Optimizer:
        """What is examined. **Raises** `ReoptError` where only stored parts are known."""
        if self._optimizer is None:
            raise ReoptError(f"{self.stored} lacks parts of this examination: run the pipeline first, or `dvc pull`")
        return self._optimizer

    @property
    def task(self) -> Task:
        """The task it is examined on."""
        if self._task is None:
            raise ReoptError("this examination knows no task")
        return self._task

    # What the runs show

    @_part
    def recording(self) -> Recording:
        """States, gradients, updates and losses along runs, in float32 as in training."""
        s = self.settings
        return record(
            self.optimizer,
            self.task,
            seed=s.seed,
            num_steps=s.num_steps,
            problems=s.problems,
            state_problems=min(s.state_problems, s.problems),
            max_params=s.max_params,
        )

    @cached_property
    def met(self) -> Recording:
        """The recording, NaN from where a run diverged: what is met there tells of overflow."""
        return before_divergence(self.recording)

    @_part
    def pca(self) -> PCA:
        """Principal components of the states."""
        return pca(self.met.states, clock=self.optimizer.clock)

    @_part
    def density(self) -> pd.DataFrame:
        """Histograms of the gradients met, see `gradient_density`."""
        return gradient_density(self.met.gradients, num_bins=self.settings.bins)

    # Where it is looked at

    @cached_property
    def smooth(self) -> Optimizer:
        """The optimizer, or its twin that starts beside zeros at which the update has no slope."""
        return smooth_twin(self.optimizer, self.met)

    @cached_property
    def clock(self) -> float:
        """The step at which a clock is held: the last, or that of the peak of a rate that fades away."""
        num_steps = self.settings.num_steps
        return telling_step(schedule(self.smooth, num_steps=num_steps), num_steps)

    @cached_property
    def far_clock(self) -> float:
        """The step at which a clock is held under constant gradients: see `settling_step`."""
        return settling_step(self.smooth, self.linearization.point, self.clock)

    def coasted(self, step: int) -> Float[np.ndarray, " hidden"]:
        """The state after so many steps without a gradient."""
        return state_after(self.smooth, step)

    @_part
    def points(self) -> FixedPoints:
        """The fixed points at zero gradient, from visited and perturbed states."""
        s = self.settings
        seeds = search_seeds(
            self.smooth,
            self.met.states,
            visited=s.visited_seeds,
            perturbed=s.perturbed_seeds,
            perturbation=s.perturbation,
            seed=s.search_seed,
        )
        return find_fixed_points(
            self.smooth,
            seeds.states,
            kind=seeds.kind,
            tolerance=s.tolerance,
            max_iterations=s.max_iterations,
            merge_distance=s.merge_distance,
            clock=self.clock,
        )

    @cached_property
    def reference(self) -> Reference:
        """The state that is linearized at: an attractor where there is one."""
        return reference_point(self.smooth, self.points, clock=self.clock, num_steps=self.settings.num_steps)

    @property
    def settled(self) -> bool:
        """Whether the reference is a stable fixed point."""
        return self.reference.settled

    # Near the reference

    @_part
    def linearization(self) -> Linearization:
        """Derivatives of state update and readout at the reference, at zero gradient."""
        return linearize(self.smooth, self.reference.state, clock=self.clock)

    @_part
    def modes(self) -> pd.DataFrame:
        """The momentum buffers of the linearization, see `modes_table`."""
        return modes_table(modes(self.linearization))

    @_part
    def impulse(self) -> pd.DataFrame:
        """The update's answer to a small pulse of gradient, see `impulse_response`."""
        return impulse_response(self.smooth, self.linearization)

    @_part
    def linearized(self) -> LinearizedRuns:
        """The optimizer and its linearization on the evaluation problems."""
        s = self.settings
        return linearized_runs(
            self.optimizer,
            self.linearization,
            self.task,
            seed=s.evaluation_seed,
            num_steps=s.num_steps,
            problems=s.evaluation_problems,
        )

    # The update as a function of the gradient

    @cached_property
    def places(self) -> list[Place]:
        """The states in which the update function is looked at."""
        steps = self.settings.num_steps
        return places(
            self.smooth,
            point=self.linearization.point,
            states=self.met.states,
            pca=self.pca,
            linearization=self.linearization,
            shifts=tuple(self.settings.shifts),
            visited_steps=tuple(sorted({1, steps // 10, steps // 2})),
        )

    @_part
    def update_functions(self) -> pd.DataFrame:
        """Update against gradient at these places, see `reopt.mechanisms.update_function`."""
        return update_functions(self.smooth, self.places, self._grid())

    @_part
    def clipping(self) -> pd.DataFrame:
        """How the update functions saturate at these places, see `reopt.mechanisms.update_function.clipping`."""
        gradients = self.met.gradients
        limit = gradient_limit(gradients, factor=self.settings.range_factor)
        return clipping(self.smooth, self.places, gradients, limit=limit, reach=reach_of(self.met))

    @_part
    def operating(self) -> OperatingPoint:
        """The optimizer in the states that the runs meet, see `reopt.mechanisms.operating_point`."""
        return operating_point(self.smooth, self.met, self._grid(), clock=self.clock)

    @cached_property
    def rest_is_met(self) -> bool:
        """Whether the rate at rest is one that the runs know: within `ELSEWHERE` times their rates. Adam's is not, for
        its second moment is 0 there."""
        rest = self.clipping[self.clipping["place"] == "fixed_point"].iloc[0]
        here, met = abs(float(rest["slope_at_zero"])), np.abs(self.operating.spread("rate"))
        if rest["jump"] != 0 or not (np.isfinite(here) and np.isfinite(met).all() and met.max() > 0):
            return True
        return bool(met.min() / ELSEWHERE <= here <= met.max() * ELSEWHERE)

    @cached_property
    def working(self) -> Linearization:
        """Derivatives in a state of the runs, halfway, the signs of the gradients before averaged out."""
        state = self.operating.states[len(self.operating.states) // 2]
        clock = CLOCK if self.optimizer.clock is None else float(state[self.optimizer.clock])
        return linearize(self.smooth, state, clock=clock)

    def at_work(self) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Modes, update functions along the slow mode and impulse response in that state, as `modes`,
        `update_functions` and `impulse` have them at rest."""
        linear = self.working
        around = places(
            self.smooth,
            point=linear.point,
            states=self.met.states,
            linearization=linear,
            shifts=tuple(self.settings.shifts),
        )
        functions = update_functions(self.smooth, around, self._grid())
        return modes_table(modes(linear)), functions, impulse_response(self.smooth, linear)

    def _grid(self) -> Float[np.ndarray, " gradient"]:
        """Gradients at which update functions are kept."""
        gradients, s = self.met.gradients, self.settings
        linear = gradient_limit(gradients, quantile=0.9, factor=1.0)
        limit = gradient_limit(gradients, factor=s.range_factor)
        return gradient_grid(limit, linear_limit=linear, num_points=s.grid)

    # Without a gradient, and under a constant one

    @_part
    def schedule(self) -> Schedule:
        """The effective learning rate along the autonomous trajectory from the initial state, and the steps under a
        steady gradient of the size met most."""
        point, steps = self.linearization.point, self.settings.num_steps
        steady = gradient_limit(self.met.gradients, quantile=0.5, factor=1.0)
        return schedule(self.smooth, num_steps=steps, point=point, pca=self.pca, steady=steady)

    @_part
    def adaptation(self) -> Adaptation:
        """Fixed points under constant gradients in the range met, and the effective learning rate there."""
        s = self.settings
        low, high = (
            gradient_limit(self.met.gradients, quantile=part, factor=1.0) for part in (s.low_quantile, s.high_quantile)
        )
        return adaptation(
            self.smooth,
            point=self.linearization.point,
            limit=high,
            num_gradients=s.gradients,
            decades=math.log10(high / low) if high > low else 1.0,
            pca=self.pca,
            clock=self.far_clock,
        )

    # What the verdicts look at beside it

    @cached_property
    def far(self) -> FarRange:
        """Update functions and constant gradients far beyond the gradients met."""
        s = self.settings
        return far_range(
            self.smooth,
            self.met,
            Reference(self.linearization.point, self.settled),
            self.clipping,
            pca=self.pca,
            clock=self.far_clock,
            gradients=s.gradients,
            quantiles=(s.low_quantile, s.high_quantile),
        )

    @cached_property
    def switching(self) -> Switching | None:
        """Buffers before and behind a jump of the update with the sign of the gradient; None where it does not jump, or
        where what the gradients before do to the jump cannot be read."""
        if not (self.clipping["jump"].ne(0).any() or self.far.held["jump"].ne(0).any()):
            return None
        largest = gradient_limit(self.met.gradients, factor=1.0)
        found = switching(self.smooth, self.linearization.point, pulse=largest, clock=self.clock)
        return found if np.isfinite(found.response).all() else None

    @cached_property
    def finite(self) -> FiniteProbes:
        """Answers to gradients of the sizes met, where slopes at zero gradient say nothing."""
        starts = [one.state for one in self.places if one.place in ("initial", "fixed_point", "visited")]
        return FiniteProbes(
            self.smooth,
            np.stack(starts),
            self.met.gradients,
            clock=self.clock,
            num_steps=self.settings.num_steps,
        )

    @cached_property
    def noise(self) -> Noise:
        """Noise in the updates, in which nothing can be read."""
        return noise_in(self.optimizer, self.met, self.schedule)

    @cached_property
    def findings(self) -> "list[Finding]":
        """A verdict on each mechanism, with its readings."""
        from reopt.examination.verdicts import read

        return read(self)

    @_part
    def readings(self) -> pd.DataFrame:
        """The readings as one tidy table: mechanism, quantity, index, value, low, high, unit, verdict."""
        from reopt.examination.verdicts import readings_table

        return readings_table(self.findings)

    @_part
    def ablation(self) -> "Causes":
        """What each mechanism is worth, by taking it away; made by `reopt causes`, and read here."""
        raise ReoptError(f"{self.stored} has no {FILES['ablation'][0]}: `reopt causes` makes it")

    def without(self, mechanism: str) -> Optimizer:
        """The optimizer with a mechanism taken away (`Mechanism.remove`), to run and to compare.

        **Raises** `ReoptError` where there is no such mechanism, or no way to take it away.
        """
        from reopt.mechanisms.registry import mechanisms

        ways = {one.name: one.remove for one in mechanisms() if one.remove is not None}
        if mechanism not in ways:
            raise ReoptError(f"{mechanism!r} cannot be taken away; these can: {', '.join(ways)}")
        return ways[mechanism](self.optimizer, self.linearization)

    def make(self, part: str, folder: Path) -> None:
        """Make the part called `part` of `reopt.examination.parts.PARTS` anew, and write its files to `folder`."""
        for attribute in PARTS[part].makes:
            save(attribute, getattr(self, attribute), folder)

    def require(self, *attributes: str) -> None:
        """**Raises** `ReoptError` where one of these attributes is not stored."""
        for attribute in attributes:
            for path in paths_of(attribute, self.stored or Path()):
                if not path.exists():
                    raise ReoptError(f"there is no file {path}: `reopt analyse` makes it, part by part")

    def remarks(self, part: str) -> list[str]:
        """What a person should know of a part that was made."""
        if part == "fixed_points":
            settled = int((self.points.seed_result >= 0).sum())
            return [f"{len(self.points.points)} points; {settled} of {len(self.points.seed_result)} seeds converged"]
        if part == "linearize" and not self.settled:
            return ["no fixed point is stable; it is done at the least unstable one, or where the states end up"]
        if part == "verdicts":
            return [f"{finding.mechanism}: {finding.verdict}; {finding.why}" for finding in self.findings]
        return []

    @property
    def opened(self) -> list[Path]:
        """The files that stand behind what was read so far, in the order in which it was read."""
        return [
            path
            for name in vars(self)
            if name in FILES and self._reads(name)
            for path in paths_of(name, self.stored or Path())
        ]

    @property
    def _sizes(self) -> dict[str, int]:
        """What axes of stored arrays must measure."""
        if self._optimizer is None:
            return {}
        return {"hidden": self._optimizer.state_size, "step": self.settings.num_steps}

    def _reads(self, name: str) -> bool:
        if self.stored is None or name not in self._given:
            return False
        return self._optimizer is None or all(path.exists() for path in paths_of(name, self.stored))

    def origin(self, name: str) -> str:
        """Where an attribute is read from, to tell of what is wrong with it: its files, or "its NAME"."""
        if self.stored is None or not self._reads(name):
            return f"its {name}"
        return ", ".join(map(str, paths_of(name, self.stored)))

    def __repr__(self) -> str:
        made = ", ".join(name for name in FILES if name in vars(self)) or "nothing yet"
        caveats = getattr(self._optimizer, "caveats", ())
        return "\n".join([f"<Examination of {self.name}: {made}>", *caveats])


def examine(
    optimizer: Optimizer | Any,
    task: Task,
    settings: Settings | None = None,
    *,
    name: str = "optimizer",
    **changes: Any,
) -> Examination:
    """The examination of `optimizer` on `task`; each part is computed when it is first asked for.

    **Arguments:** `optimizer` is an optax transformation or an `Optimizer`; a decoupled weight decay is taken off, and
    what is printed says so. `changes` are fields of `Settings` that
    are other than in `settings`, for instance `num_steps`.

    **Raises** `ReoptError`, then, where the optimizer has no derivatives to examine.
    """
    if not isinstance(optimizer, Optimizer):
        optimizer = from_optax(optimizer, decay=True)
    return Examination(optimizer, task, replace(settings or Settings(), **changes), name=name)
