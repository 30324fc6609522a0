"""Testable claims as statements with numbers: the paper's (arXiv 2011.02159; T1 to T15), one of linear theory
(L1), and one a mechanism (M-NAME).

Each claim measures one effect on each meta-trained run, over the gradients that it met, with an interval where it is an
average, and grades it by criteria that stood in the config before the run: it holds, holds in part, or fails; what
cannot be read says nothing, and is undetermined. A row of the table is a claim on a task for one optimizer: the effect
over its meta-training seeds with its interval, and the middle grade. `share` is the fraction of the seeds, of those
determined, in which it holds, with its Wilson interval (Wilson, JASA 22, 1927), which for five seeds is wide.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from reopt.core.grades import (
    FAILS,
    HOLDS,
    IN_PART,
    NOT_TESTABLE,
    PAPER_ARM,
    TUTORIAL_ARM,
    UNDETERMINED,
    Grade,
    arm_of,
    middle_grade,
)
from reopt.core.limits import CEILING, SLOW_STEPS
from reopt.core.tables import read_table
from reopt.dynamics.linear_theory import nonlinear_share
from reopt.dynamics.record import Recording
from reopt.dynamics.stability import is_stable
from reopt.examination import effects
from reopt.examination.examination import Examination
from reopt.mechanisms import remainder
from reopt.mechanisms.base import ABSENT, PRESENT, Mechanism
from reopt.mechanisms.registry import mechanisms
from reopt.optimizers.classical import polyak
from reopt.optimizers.names import BEST_LINEAR, POLYAK

if TYPE_CHECKING:
    from reopt.pipeline.config import ClaimsConfig

VISIBLE = 0.01  # share of the momentum gain below which a mode is not counted
PLACES = ("initial", "fixed_point")
DRAWS = 2000  # of the bootstrap over problems
COLUMNS = (
    *("claim", "task", "cell", "statement", "value", "low", "high", "seeds"),
    *("share", "share_low", "share_high", "criterion", "verdict"),
)
SEED_COLUMNS = ("claim", "task", "cell", "subject", "value", "low", "high", "grade", "beside")


class Measured(NamedTuple):
    """One effect on one run; `low` and `high` are its interval, `beside` what else is known of it, in words."""

    value: float
    low: float
    high: float
    grade: Grade
    beside: str = ""


class Judged(NamedTuple):
    """The table of claims (`COLUMNS`), and a row a claim and run (`SEED_COLUMNS`)."""

    claims: pd.DataFrame
    seeds: pd.DataFrame


class Run:
    """One meta-trained run's results, read when they are asked for: its examination, and its evaluation."""

    def __init__(self, folder: Path, subject: str, problem: dict[str, Any], baselines: list[str]) -> None:
        self.folder = folder
        self.subject = subject
        self.problem = problem
        self.baselines = baselines
        self._examinations: dict[str, Examination] = {}
        self._evaluations: dict[str, Path] = {}

    @property
    def found(self) -> Examination:
        """The run's own examination."""
        return self.examination(self.subject)

    @property
    def met(self) -> Recording:
        """What it met on the recorded problems."""
        return self.found.met

    @cached_property
    def quantiles(self) -> effects.Met:
        """The range of the gradients that it met."""
        return effects.gradients_met(self.met)

    def examination(self, subject: str) -> Examination:
        """What is stored of the examination of a subject on this task."""
        if subject not in self._examinations:
            stored = self.folder / "analysis" / subject
            self._examinations[subject] = Examination(None, None, stored=stored, name=subject)
        return self._examinations[subject]

    def evaluation(self, subject: str) -> pd.DataFrame:
        """A row an evaluation problem, the same problems in the same order for every subject."""
        path = self._evaluations.setdefault(subject, self.folder / "evaluation" / f"{subject}.csv")
        return read_table(path, ("problem", "meta_objective")).sort_values("problem")

    @property
    def opened(self) -> list[Path]:
        """The files that were read, in order, those of examinations first."""
        return [*(path for one in self._examinations.values() for path in one.opened), *self._evaluations.values()]


@dataclass(frozen=True)
class Claim:
    """A statement, the criterion in words, and how to measure it; `tasks` is None for all tasks.

    `measure` gives None where a task lacks what it measures. A claim on one `arm` of the paper is tested on that alone,
    where a task has such an optimizer.
    """

    name: str
    statement: str
    criterion: Callable[["ClaimsConfig"], str]
    measure: Callable[[Run, "ClaimsConfig"], Measured | None]
    tasks: tuple[str, ...] | None = None
    arm: str | None = None

    def meant(self, task: str, optimizer: str, block: dict[str, Any]) -> bool:
        """Whether it is tested on an optimizer of a task, `block` being the task's block of the config."""
        if self.tasks is not None and task not in self.tasks:
            return False
        of_arm = [name for name in block["optimizers"] if self.arm and arm_of(name) == self.arm]
        return not of_arm or optimizer in of_arm


def _mean(values: np.ndarray, confidence: float) -> tuple[float, float, float]:
    half = stats.norm.ppf(0.5 + confidence / 2) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values)), float(np.mean(values) - half), float(np.mean(values) + half)


def _if(met: bool) -> Grade:
    return HOLDS if met else FAILS


def _exact(value: float, grade: Grade, beside: str = "") -> Measured:
    """A property of one network, measured without sampling error; a value that is not a number says nothing."""
    return Measured(*effects.exactly(value), UNDETERMINED if np.isnan(value) else grade, beside)


def _worse(*grades: Grade) -> Grade:
    """The worst of several grades; undetermined where one is and none fails."""
    return min(grades, key=(FAILS, UNDETERMINED, IN_PART, HOLDS).index)


def _beats_baselines(run: Run, config: "ClaimsConfig") -> Measured:
    return _smallest(run, "meta_objective", -1, CEILING, config.confidence)


def _more_accurate(run: Run, config: "ClaimsConfig") -> Measured | None:
    if "accuracy" not in run.evaluation(run.subject):
        return None
    return _smallest(run, "accuracy", 1, 0.0, config.confidence)


def _smallest(run: Run, column: str, better: int, lost: float, confidence: float) -> Measured:
    """The smallest gain over a baseline, paired by problem; beside it that of the median problem.

    A problem on which one of them diverges counts as `lost` for it, and nothing counts as worse.
    """

    def values(subject: str) -> np.ndarray:
        found = np.nan_to_num(run.evaluation(subject)[column].to_numpy(float), nan=lost, posinf=lost, neginf=lost)
        return np.minimum(found, CEILING)

    learned = values(run.subject)
    gains = [better * (learned - values(name)) for name in run.baselines]
    value, low, high = min(_mean(gain, confidence) for gain in gains)
    apart = all(_mean(gain, confidence)[1] > 0 for gain in gains)
    middle = min(float(np.median(gain)) for gain in gains)
    return Measured(value, low, high, _if(apart), f"smallest median gain {middle:.3g}")


def _one_fixed_point(run: Run, config: "ClaimsConfig") -> Measured:
    found = run.found.points
    count, attracts = len(found.points), is_stable(found)
    shares = np.array([np.mean(found.seed_result == i) if attracts[i] else 0.0 for i in range(count)])
    share = float(shares.max(initial=0.0))
    grade = IN_PART if share >= config.single_basin else FAILS
    beside = f"{count} points, {int(attracts.sum())} of them stable"
    return _exact(share, HOLDS if count == 1 and share == 1 and found.residual[0] < 1e-8 else grade, beside)


def _linearization_explains(run: Run, config: "ClaimsConfig") -> Measured:
    table = run.found.linearized.problems
    real, linear = (
        np.minimum(table[name].fillna(CEILING).to_numpy(), CEILING).mean() for name in ("learned", "linearized")
    )
    share = float(np.log(linear) / np.log(real)) if 0 < real < 1 and linear > 0 else np.nan
    r2 = effects.linear_update(run.met, run.found.linearization, config.confidence)
    grade = config.linear_update.grade(r2.value)
    if grade == HOLDS and not share >= config.linear_explains:
        grade = IN_PART
    return Measured(*r2, grade, f"linearised, it keeps {share:.2f} of the drop in log meta-objective")


def _delayed(run: Run, config: "ClaimsConfig") -> Measured:
    share = effects.delayed_response(run.found.impulse)
    return _exact(share, config.delayed_response.grade(share))


def _polyak_mode(run: Run, config: "ClaimsConfig") -> Measured | None:
    if "log10_eigenvalues" not in run.problem:
        return None
    theory = polyak(*run.problem["log10_eigenvalues"])
    rate, momentum = float(theory.learning_rate), float(theory.momentum)
    mode = effects.one_mode(run.found.impulse)
    distance = max(abs(mode.alpha / rate - 1), abs(mode.beta / momentum - 1))
    grade = config.polyak_tolerance.grade(distance) if mode.r2 > config.one_mode else FAILS
    beside = f"alpha {mode.alpha:.3g} for {rate:.3g}, beta {mode.beta:.3f} for {momentum:.3f}, R² {mode.r2:.2f}"
    return _exact(distance, grade if np.isfinite(mode.r2) else UNDETERMINED, beside)


def _low_dimensional(run: Run, config: "ClaimsConfig") -> Measured:
    explained = run.found.pca.explained
    first, three = float(explained[0]), float(explained[:3].sum())
    part = IN_PART if three >= config.low_dimensional.in_part else FAILS
    return _exact(first, HOLDS if first >= config.low_dimensional.holds else part, f"first three {three:.2f}")


def _vertical_shift(run: Run, config: "ClaimsConfig") -> Measured:
    found, size = run.found, run.quantiles.g90
    change, offset = effects.vertical_shift(found.update_functions, found.clipping, "pc1", size)
    grade = _worse(config.vertical_shift.grade(change), config.vertical_offset.grade(offset))
    return _exact(change, grade, f"offset {offset:.2f} of the update at g90")


def _several_timescales(run: Run, config: "ClaimsConfig") -> Measured:
    del config
    modes = run.found.modes
    slow = modes[(modes["timescale"] > SLOW_STEPS) & (modes["gain"] > VISIBLE)]
    return _exact(len(slow), _if(len(slow) >= 2))


def _at_start(run: Run) -> pd.Series:
    table = run.found.clipping
    return table[table["place"] == "initial"].iloc[0]


def _saturates(run: Run, config: "ClaimsConfig") -> Measured:
    far = float(_at_start(run)["saturation"])
    here = effects.slope_ratio(run.found.update_functions, "initial", run.quantiles.g999)
    met = (here <= config.saturation) + (far <= config.saturation)
    grade = UNDETERMINED if np.isnan(far) else (FAILS, IN_PART, HOLDS)[met]
    return _exact(here, grade, f"{far:.2f} at the end of the grid")


def _odd(run: Run, config: "ClaimsConfig") -> Measured:
    both = [effects.asymmetry(run.found.update_functions, place, run.quantiles.g99) for place in PLACES]
    worse = float(np.max(both))
    return _exact(
        worse, config.asymmetry.grade(worse), f"{both[0]:.2f} at the initial state, {both[1]:.2f} at the point"
    )


def _mainly_linear(run: Run, config: "ClaimsConfig") -> Measured:
    beyond = float(_at_start(run)["fraction_beyond_half_slope"])
    return _exact(beyond, _if(beyond <= config.beyond_threshold))


def _well_beyond(run: Run, config: "ClaimsConfig") -> Measured:
    beyond = effects.beyond_while_losing(run.met, _at_start(run), config.confidence)
    every = float(_at_start(run)["fraction_beyond_half_slope"])
    return Measured(*beyond, config.well_beyond.grade(beyond.value), f"{every:.1%} over whole runs")


def _same_half_slope(run: Run, config: "ClaimsConfig") -> Measured:
    spread, missing = effects.threshold_quartiles(run.found.clipping)
    beside = f"{missing:.0%} of the states have none"
    if missing > config.threshold_missing:
        return Measured(spread, spread, spread, FAILS, beside)
    return _exact(spread, config.threshold_spread.grade(spread), beside)


def _rates(run: Run) -> np.ndarray:
    return run.found.schedule.table.sort_values("step")["effective_learning_rate"].to_numpy(float)


def _rise(run: Run) -> float:
    rate = _rates(run)
    return float(np.max(rate) / rate[0]) if rate[0] > 0 else np.nan


def _rate_peaks(run: Run, config: "ClaimsConfig") -> Measured:
    rise, rate = _rise(run), _rates(run)
    peak = float(np.argmax(rate)) if np.isfinite(rate).all() else np.nan
    early, late = config.schedule_peak
    part = IN_PART if rise >= config.schedule_rise.holds else FAILS
    return _exact(peak, HOLDS if early <= peak <= late else part, f"rises to {rise:.2f} of the initial rate")


def _rate_rises(run: Run, config: "ClaimsConfig") -> Measured:
    rise = _rise(run)
    return _exact(rise, config.schedule_rise.grade(rise))


def _rate_ends_lower(run: Run, config: "ClaimsConfig") -> Measured:
    rate = _rates(run)
    fall = float(rate[-1] / np.max(rate)) if np.max(rate) > 0 else np.nan
    return _exact(fall, config.schedule_fall.grade(fall))


def _rate_range(run: Run) -> float:
    rate = _rates(run)
    if not np.isfinite(rate).all():
        return np.nan
    return float(np.max(rate) / np.min(rate)) if np.min(rate) > 0 else np.inf


def _has_schedule(run: Run, config: "ClaimsConfig") -> Measured:
    found = _rate_range(run)
    return _exact(found, _if(found >= config.schedule_rise.holds))


def _has_no_schedule(run: Run, config: "ClaimsConfig") -> Measured:
    found = _rate_range(run)
    return _exact(found, _if(found < config.schedule_rise.holds))


def _s_curve(run: Run, config: "ClaimsConfig") -> Measured:
    line = effects.curve(run.found.adaptation.table, run.quantiles)
    found = config.points_found.grade(line.found)
    if line.cosine < config.opposite_arms.holds and line.jump <= config.largest_jump:
        shape = HOLDS
    else:
        shape = IN_PART if line.cosine < config.opposite_arms.in_part else FAILS
    beside = f"{line.found:.0%} found, longest step {line.jump:.0%} of the curve"
    if found == FAILS:  # without its points the curve is not there, whatever the others look like
        return Measured(line.cosine, line.cosine, line.cosine, FAILS, beside)
    return _exact(line.cosine, _worse(found, shape), beside)


def _rate_falls(run: Run, config: "ClaimsConfig") -> Measured:
    falls = effects.rate_fall(run.found.adaptation.table, run.quantiles)
    met = sum(fall <= config.rate_fall for fall in falls)
    beside = f"negative arm {falls[0]:.2f}, positive arm {falls[1]:.2f}"
    return _exact(float(np.max(falls)), (FAILS, IN_PART, HOLDS)[met], beside)


def _all_stable(run: Run, config: "ClaimsConfig") -> Measured:
    table = run.found.adaptation.table
    here = table[table["converged"].to_numpy(bool) & (table["gradient"].abs() <= run.quantiles.g999 * 1.000001)]
    share = float(effects.stable(here).mean()) if len(here) else np.nan
    beside = f"largest spectral radius {here['spectral_radius'].max():.3f}"
    return _exact(share, config.stable_points.grade(share), beside)


def _arms_symmetric(run: Run, config: "ClaimsConfig") -> Measured:
    difference = effects.arm_difference(run.found.adaptation.table, run.quantiles)
    return _exact(difference, config.arm_difference.grade(difference))


def _like_rmsprop(run: Run, config: "ClaimsConfig") -> Measured:
    slope = effects.far_exponent(run.found.adaptation.table, run.quantiles)
    own = run.examination("rmsprop").adaptation.summary["exponent"]
    return Measured(*slope, config.exponent.grade(slope.value), f"the tuned RMSProp's own {own}")


def _beyond_linear(run: Run, config: "ClaimsConfig") -> Measured | None:
    """Of the gain over Polyak's momentum the share that the best linear method leaves, with a bootstrap interval.

    Problems are drawn together for all three: they differ more among themselves than optimizers do on one.
    """
    if "log10_eigenvalues" not in run.problem:
        return None
    own, bound, reference = (
        np.minimum(run.evaluation(name)["meta_objective"].fillna(CEILING).to_numpy(float), CEILING)
        for name in (run.subject, BEST_LINEAR, POLYAK)
    )
    gain = _mean(reference - own, config.confidence)
    beside = f"gain over Polyak's momentum {gain[0]:.3g} [{gain[1]:.3g}, {gain[2]:.3g}]"
    if not gain[1] > 0:
        return Measured(np.nan, np.nan, np.nan, UNDETERMINED, f"{beside}: there is none to share out")
    weights = np.random.default_rng(0).multinomial(len(own), np.full(len(own), 1 / len(own)), size=DRAWS) / len(own)
    drawn = [nonlinear_share(*means) for means in zip(*(weights @ one for one in (reference, own, bound)), strict=True)]
    tail = (1 - config.confidence) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    value = nonlinear_share(reference.mean(), own.mean(), bound.mean())
    return Measured(value, float(low), float(high), config.beyond_linear.grade(value), beside)


PAPER = (
    Claim(
        "T1a",
        "It beats every tuned baseline (smallest gain in meta-objective over a baseline)",
        lambda c: f"gain above 0 with a {c.confidence:.0%} interval that excludes 0, for each baseline",
        _beats_baselines,
    ),
    Claim(
        "T1b",
        "It ends more accurate than every tuned baseline (smallest gain in test accuracy)",
        lambda c: f"gain above 0 with a {c.confidence:.0%} interval that excludes 0, for each baseline",
        _more_accurate,
    ),
    Claim(
        "T2",
        "At zero gradient it has one global fixed point (share of the starts in the largest stable basin)",
        lambda c: (
            f"one stable point and every start there (in part: {c.single_basin} of the starts in one stable basin)"
        ),
        _one_fixed_point,
    ),
    Claim(
        "T3a",
        "It is linear near this point (R² of the one-step linear update after a quarter of the run)",
        lambda c: f"{c.linear_update}; holds only if, linearised, it keeps {c.linear_explains} of the log-loss drop",
        _linearization_explains,
    ),
    Claim(
        "T3b",
        f"It implements momentum (share of the pulse response at lags of {effects.DELAYED} and more)",
        lambda c: str(c.delayed_response),
        _delayed,
    ),
    Claim(
        "T4",
        "Its momentum is Polyak's optimal one (larger relative distance of alpha and beta of a fitted mode)",
        lambda c: f"{c.polyak_tolerance}, R² of the one-mode fit above {c.one_mode}; of the tutorial's recipe",
        _polyak_mode,
        arm=TUTORIAL_ARM,
    ),
    Claim(
        "T5a",
        "States are low-dimensional (share of variance of the first component)",
        lambda c: f"at least {c.low_dimensional.holds} (in part: {c.low_dimensional.in_part} of the first three)",
        _low_dimensional,
    ),
    Claim(
        "T5b",
        "The first component shifts the update function vertically (largest relative change of its slope)",
        lambda c: f"{c.vertical_shift}, and an offset, in updates at g90, of {c.vertical_offset}",
        _vertical_shift,
    ),
    Claim(
        "T6",
        f"Several slow timescales (modes slower than {SLOW_STEPS:.0f} steps with over {VISIBLE:.0%} of the gain each)",
        lambda c: "at least 2; of the paper's recipe",
        _several_timescales,
        arm=PAPER_ARM,
    ),
    Claim(
        "T7a",
        "The update function saturates (slope at g99.9 over slope at zero, initial state)",
        lambda c: f"at most {c.saturation}, and so at the end of the grid (in part: one of both)",
        _saturates,
    ),
    Claim(
        "T7b",
        "The update function is odd (relative asymmetry within g99, initial state and fixed point)",
        lambda c: str(c.asymmetry),
        _odd,
    ),
    Claim(
        "T8a",
        "Gradients fall mainly in the linear part (share beyond the half-slope gradient)",
        lambda c: f"at most {c.beyond_threshold}",
        _mainly_linear,
        tasks=("quadratic",),
    ),
    Claim(
        "T8b",
        "Gradients reach well into saturation (share beyond the half-slope gradient until 90% of the loss is gone)",
        lambda c: str(c.well_beyond),
        _well_beyond,
        tasks=("rosenbrock",),
    ),
    Claim(
        "T9",
        "Clipping is alike in all states visited (ratio of the quartiles of the half-slope gradient)",
        lambda c: f"{c.threshold_spread}, at most {c.threshold_missing:.0%} of the states without one",
        _same_half_slope,
    ),
    Claim(
        "T10a",
        "Without a gradient its learning rate rises for about 25 steps (step of the peak of the effective rate)",
        lambda c: f"between {c.schedule_peak[0]} and {c.schedule_peak[1]} (in part: rises to {c.schedule_rise.holds})",
        _rate_peaks,
        tasks=("quadratic",),
    ),
    Claim(
        "T10b",
        "That rise is substantial (peak over initial effective learning rate)",
        lambda c: str(c.schedule_rise),
        _rate_rises,
        tasks=("quadratic",),
    ),
    Claim(
        "T10c",
        "Then it falls (final over peak effective learning rate)",
        lambda c: str(c.schedule_fall),
        _rate_ends_lower,
        tasks=("quadratic",),
    ),
    Claim(
        "T11a",
        "Without a gradient its learning rate follows a schedule (largest over smallest effective rate)",
        lambda c: f"at least {c.schedule_rise.holds}",
        _has_schedule,
        tasks=("two_moons", "mnist"),
    ),
    Claim(
        "T11b",
        "It has no schedule, for it starts at its fixed point (largest over smallest effective rate)",
        lambda c: f"below {c.schedule_rise.holds}",
        _has_no_schedule,
        tasks=("rosenbrock",),
    ),
    Claim(
        "T12",
        "Constant gradients have fixed points on an S, an arm a sign (median cosine between the arms above g50)",
        lambda c: (
            f"below {c.opposite_arms.holds} (in part: {c.opposite_arms.in_part}), a point for {c.points_found} of the"
            f" gradients within g99.9, no step above {c.largest_jump:.0%} of the curve"
        ),
        _s_curve,
    ),
    Claim(
        "T13",
        "Along both arms the learning rate falls (effective rate at g99.9 over that at g50, weaker arm)",
        lambda c: f"at most {c.rate_fall} in both arms (in part: in one)",
        _rate_falls,
    ),
    Claim(
        "T14a",
        "All these points are stable (share of those within g99.9)",
        lambda c: str(c.stable_points),
        _all_stable,
    ),
    Claim(
        "T14b",
        "The arms are symmetric (median relative difference of their effective learning rates above g50)",
        lambda c: str(c.arm_difference),
        _arms_symmetric,
    ),
    Claim(
        "T15",
        "Adaptation is RMSProp's (log-log slope of effective learning rate against gradient beyond g90)",
        lambda c: f"{c.exponent}; RMSProp's is -1 far out",
        _like_rmsprop,
    ),
)
OWN = (
    Claim(
        "L1",
        "Most of its gain over Polyak's momentum no linear method can have (share beyond the best linear method)",
        lambda c: f"{c.beyond_linear}, where its gain has an interval above 0",
        _beyond_linear,
    ),
)
"""Claims of our own, from what is known of linear methods (`reopt.dynamics.linear_theory`)."""


def claims() -> tuple[Claim, ...]:
    """The paper's claims, that of theory, then what the examination finds: a claim for each mechanism."""
    return (*PAPER, *OWN, *(_finds(mechanism) for mechanism in mechanisms()))


def _finds(mechanism: Mechanism) -> Claim:
    """That the examination finds this mechanism; of the remainder, that there is none."""
    if mechanism.name == remainder.MECHANISM.name:
        return Claim(
            f"M-{mechanism.name}",
            "The mechanisms found explain the updates (R² of updates written out of them)",
            lambda c: f"{mechanism.name} absent: less than {mechanism.bounds.absent} of the updates",
            _explained,
        )
    return Claim(
        f"M-{mechanism.name}",
        f"The examination finds {mechanism.name.replace('_', ' ')} (1 present, 0 absent)",
        lambda c: f"present: above {mechanism.bounds.present} in {mechanism.number}",
        lambda run, c: _present(run, mechanism.name),
    )


def _present(run: Run, mechanism: str) -> Measured:
    verdict = _verdict(run, mechanism)["verdict"]
    return _exact({PRESENT: 1.0, ABSENT: 0.0, UNDETERMINED: np.nan}[verdict], _if(verdict == PRESENT))


def _explained(run: Run, config: "ClaimsConfig") -> Measured:
    del config
    row = _verdict(run, remainder.MECHANISM.name)
    grade = UNDETERMINED if row["verdict"] == UNDETERMINED else _if(row["verdict"] == ABSENT)
    return Measured(float(row["value"]), float(row["low"]), float(row["high"]), grade)


def _verdict(run: Run, mechanism: str) -> pd.Series:
    """The first of a mechanism's readings; its verdict stands in each."""
    readings = run.found.readings
    return readings[readings["mechanism"] == mechanism].iloc[0]


def runs_of(config: dict[str, Any], task: str, optimizer: str, results: Path) -> list[Run]:
    """An optimizer's runs on a task, one a meta-training seed."""
    from reopt.pipeline.stages import baselines_of

    block = config["tasks"][task]
    names = [f"{optimizer}-s{seed}" for seed in block["optimizers"][optimizer]["seeds"]]
    return [Run(results / task, name, block["problem"], baselines_of(config, task)) for name in names]


def judge(
    config: dict[str, Any],
    criteria: "ClaimsConfig",
    results: Path,
    *,
    only: str = "",
    at: tuple[str, str] | None = None,
) -> Judged:
    """The table of claims, and of the runs behind it.

    **Arguments:** `config` is the file's content, `results` its folder of results; `only` one claim, and `at` one task
    and optimizer.

    **Raises** `ReoptError` where a file of a run is missing or damaged.
    """
    rows, seeds = [], []
    for task, block in config["tasks"].items():
        for optimizer in block["optimizers"]:
            if at not in (None, (task, optimizer)):
                continue
            runs = runs_of(config, task, optimizer, results)
            for claim in (one for one in claims() if only in ("", one.name)):
                tested = runs if claim.meant(task, optimizer, block) else []
                measured = [(run.subject, one) for run in tested if (one := claim.measure(run, criteria))]
                head, criterion = (claim.name, task, optimizer), claim.criterion(criteria)
                together = over_seeds([one for _, one in measured], criterion, criteria.confidence)
                rows.append((*head, claim.statement, *together))
                seeds += [(*head, subject, *one) for subject, one in measured]
    return Judged(pd.DataFrame(rows, columns=list(COLUMNS)), pd.DataFrame(seeds, columns=list(SEED_COLUMNS)))


def over_seeds(measured: list[Measured], criterion: str, confidence: float) -> tuple:
    """The columns from `value` on, over those seeds that are determined."""
    if not measured:
        return (np.nan, np.nan, np.nan, 0, np.nan, np.nan, np.nan, criterion, NOT_TESTABLE)
    verdict = middle_grade(one.grade for one in measured)
    known = [one for one in measured if one.grade != UNDETERMINED]
    if not known:
        return (np.nan, np.nan, np.nan, 0, np.nan, np.nan, np.nan, criterion, verdict)
    met = sum(one.grade == HOLDS for one in known)
    wilson = stats.binomtest(met, len(known)).proportion_ci(confidence, method="wilson")
    value = _mean_over_seeds(known, confidence)
    return (*value, len(known), met / len(known), wilson.low, wilson.high, criterion, verdict)


def _mean_over_seeds(measured: list[Measured], confidence: float) -> tuple[float, float, float]:
    """Mean over seeds with its t interval; of fewer than three seeds the widest interval within a seed."""
    values = np.array([one.value for one in measured])
    if len(values) < 3 or not np.all(np.isfinite(values)):
        return float(np.mean(values)), min(one.low for one in measured), max(one.high for one in measured)
    half = stats.t.ppf(0.5 + confidence / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values)), float(np.mean(values) - half), float(np.mean(values) + half)
