"""The paper's testable claims as statements with numbers (arXiv 2011.02159; T1 to T15 in docs/claims.md).

Each claim measures one number on each meta-trained run, with an interval where it is an average, and holds it
against a criterion that stood in the config before the run. A row of the table is a claim on a task for one
optimizer, over its meta-training seeds: it holds when every seed meets the criterion; `share` is the fraction that do,
with its Wilson interval (Wilson, JASA 22, 1927), which for five seeds is wide.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from reopt.artifacts.tables import read_arrays, read_json, read_table
from reopt.optimizers.classical import polyak

if TYPE_CHECKING:
    from reopt.config import ClaimsConfig

SLOW = 5.0  # steps: a mode with a longer timescale is slow
CEILING = 10.0  # meta-objective at which an optimizer has diverged; one that does not move has 1
VISIBLE = 0.01  # share of the momentum gain below which a mode is not counted
_ANALYSIS_FILES = (
    "fixed_points.npz",
    "modes.csv",
    "linearized_problems.csv",
    "pca.npz",
    "clipping.csv",
    "schedule.csv",
    "schedule.json",
    "adaptation.csv",
    "adaptation.json",
)
COLUMNS = (
    *("claim", "task", "cell", "statement", "value", "low", "high", "seeds"),
    *("share", "share_low", "share_high", "criterion", "verdict"),
)


class Measured(NamedTuple):
    """One number on one run; `low` and `high` are its interval, `met` whether it meets the criterion."""

    value: float
    low: float
    high: float
    met: bool


class Run:
    """One meta-trained run's results, read when they are asked for; `opened` says which files were, in order."""

    def __init__(self, folder: Path, subject: str, problem: dict[str, Any], baselines: list[str]) -> None:
        self.folder = folder
        self.subject = subject
        self.problem = problem
        self.baselines = baselines
        self.opened: list[Path] = []

    def _open(self, *parts: str) -> Path:
        path = self.folder.joinpath(*parts)
        if path not in self.opened:
            self.opened.append(path)
        return path

    def table(self, name: str) -> pd.DataFrame:
        return read_table(self._open("analysis", self.subject, f"{name}.csv"))

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        return read_arrays(self._open("analysis", self.subject, f"{name}.npz"))

    def summary(self, name: str, subject: str = "") -> dict[str, Any]:
        return read_json(self._open("analysis", subject or self.subject, f"{name}.json"))

    def evaluation(self, subject: str) -> pd.DataFrame:
        """A row an evaluation problem, the same problems in the same order for every subject."""
        table = read_table(self._open("evaluation", f"{subject}.csv"), ("problem", "meta_objective"))
        return table.sort_values("problem")


@dataclass(frozen=True)
class Claim:
    """A statement, the criterion in words, and how to measure it; `tasks` is None for all tasks.

    `measure` gives None where a task lacks what it measures.
    """

    name: str
    statement: str
    criterion: Callable[["ClaimsConfig"], str]
    measure: Callable[[Run, "ClaimsConfig"], Measured | None]
    tasks: tuple[str, ...] | None = None


def _exact(value: float, met: bool) -> Measured:
    """A property of one network, measured without sampling error."""
    return Measured(float(value), float(value), float(value), bool(met))


def _mean(values: np.ndarray, confidence: float) -> tuple[float, float, float]:
    half = stats.norm.ppf(0.5 + confidence / 2) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values)), float(np.mean(values) - half), float(np.mean(values) + half)


def _beats_baselines(run: Run, config: "ClaimsConfig") -> Measured:
    return _smallest(_gains(run, "meta_objective", -1, config.confidence))


def _more_accurate(run: Run, config: "ClaimsConfig") -> Measured | None:
    if "accuracy" not in run.evaluation(run.subject):
        return None
    return _smallest(_gains(run, "accuracy", 1, config.confidence))


def _gains(run: Run, column: str, better: int, confidence: float) -> list[tuple[float, float, float]]:
    """By how much the run is better than each baseline, paired by problem: (mean, low, high).

    A problem on which one of them diverges counts as `CEILING` for it: an infinite mean would compare nothing.
    """

    def values(subject: str) -> np.ndarray:
        return np.minimum(np.nan_to_num(run.evaluation(subject)[column].to_numpy(), nan=CEILING), CEILING)

    learned = values(run.subject)
    return [_mean(better * (learned - values(name)), confidence) for name in run.baselines]


def _smallest(gains: list[tuple[float, float, float]]) -> Measured:
    value, low, high = min(gains)
    return Measured(value, low, high, all(gain[1] > 0 for gain in gains))


def _one_fixed_point(run: Run, config: "ClaimsConfig") -> Measured:
    del config
    points = run.arrays("fixed_points")
    count = len(points["points"])
    met = count == 1 and points["residual"][0] < 1e-8 and points["spectral_radius"][0] < 1
    return _exact(count, met and bool(np.all(points["seed_result"] == 0)))


def _linearization_explains(run: Run, config: "ClaimsConfig") -> Measured:
    table = run.table("linearized_problems")
    generator = np.random.default_rng(0)
    real, linear = table["learned"].to_numpy(), table["linearized"].to_numpy()

    def share(index: Any) -> float:
        return float(np.log(np.mean(linear[index])) / np.log(np.mean(real[index])))

    value = share(slice(None))
    if not np.isfinite(value):  # the linearised optimizer diverges on some problem
        return Measured(-np.inf, -np.inf, -np.inf, met=False)
    draws = [share(generator.integers(0, len(real), len(real))) for _ in range(1000)]
    low, high = np.quantile(draws, [0.5 - config.confidence / 2, 0.5 + config.confidence / 2])
    return Measured(value, float(low), float(high), value >= config.linear_explains)


def _slow_modes_carry(run: Run, config: "ClaimsConfig") -> Measured:
    modes = run.table("modes")
    share = modes.loc[modes["timescale"] > SLOW, "gain"].sum()
    return _exact(share, share >= config.slow_mode_share)


def _polyak_mode(run: Run, config: "ClaimsConfig") -> Measured | None:
    if "log10_eigenvalues" not in run.problem:
        return None
    theory = polyak(*run.problem["log10_eigenvalues"])
    rate, momentum = float(theory.learning_rate), float(theory.momentum)
    mode = run.table("modes").sort_values("gain").iloc[-1]
    alpha = complex(mode["alpha_real"], mode["alpha_imag"])
    beta = complex(mode["beta_real"], mode["beta_imag"])
    distance = max(abs(alpha - rate) / rate, abs(beta - momentum) / momentum)
    return _exact(distance, distance <= config.polyak_tolerance)


def _low_dimensional(run: Run, config: "ClaimsConfig") -> Measured:
    first = run.arrays("pca")["explained"][0]
    return _exact(first, first >= config.low_dimensional)


def _vertical_shift(run: Run, config: "ClaimsConfig") -> Measured:
    table = run.table("clipping")
    slope = table.loc[table["place"] == "fixed_point", "slope_at_zero"].iloc[0]
    shifted = table.loc[table["place"] == "slow_mode", "slope_at_zero"]
    change = np.max(np.abs(shifted - slope)) / abs(slope)
    return _exact(change, change <= config.vertical_shift)


def _several_timescales(run: Run, config: "ClaimsConfig") -> Measured:
    del config
    modes = run.table("modes")
    slow = modes[(modes["timescale"] > SLOW) & (modes["gain"] > VISIBLE)]
    return _exact(len(slow), len(slow) >= 2)


def _at_start(run: Run) -> pd.Series:
    table = run.table("clipping")
    return table[table["place"] == "initial"].iloc[0]


def _saturates(run: Run, config: "ClaimsConfig") -> Measured:
    saturation = _at_start(run)["saturation"]
    return _exact(saturation, saturation <= config.saturation)


def _odd(run: Run, config: "ClaimsConfig") -> Measured:
    asymmetry = _at_start(run)["asymmetry"]
    return _exact(asymmetry, asymmetry <= config.asymmetry)


def _mainly_linear(run: Run, config: "ClaimsConfig") -> Measured:
    beyond = _at_start(run)["fraction_beyond"]
    return _exact(beyond, beyond <= config.beyond_threshold)


def _well_beyond(run: Run, config: "ClaimsConfig") -> Measured:
    beyond = _at_start(run)["fraction_beyond"]
    return _exact(beyond, beyond >= config.well_beyond)


def _same_threshold(run: Run, config: "ClaimsConfig") -> Measured:
    table = run.table("clipping")
    thresholds = table.loc[table["place"].isin(["initial", "fixed_point", "slow_mode", "visited"])]
    thresholds = thresholds[["threshold_positive", "threshold_negative"]].abs().to_numpy().ravel()
    if np.any(~np.isfinite(thresholds)):
        return _exact(np.inf, False)
    spread = (np.max(thresholds) - np.min(thresholds)) / np.median(thresholds)
    return _exact(spread, spread <= config.threshold_spread)


def _rate_peaks(run: Run, config: "ClaimsConfig") -> Measured:
    table = run.table("schedule")
    peak = int(table.loc[table["effective_learning_rate"].idxmax(), "step"])
    return _exact(peak, config.schedule_peak[0] <= peak <= config.schedule_peak[1])


def _rate_rises(run: Run, config: "ClaimsConfig") -> Measured:
    rate = run.table("schedule").sort_values("step")["effective_learning_rate"].to_numpy()
    rise = np.max(rate) / rate[0]
    return _exact(rise, rise >= config.schedule_rise)


def _rate_range(run: Run) -> float:
    rate = run.table("schedule")["effective_learning_rate"].to_numpy()
    return float(np.max(rate) / np.min(rate)) if np.min(rate) > 0 else np.inf


def _has_schedule(run: Run, config: "ClaimsConfig") -> Measured:
    found = _rate_range(run)
    return _exact(found, found >= config.schedule_rise)


def _has_no_schedule(run: Run, config: "ClaimsConfig") -> Measured:
    found = _rate_range(run)
    return _exact(found, found < config.schedule_rise)


def _s_curve(run: Run, config: "ClaimsConfig") -> Measured:
    table = run.table("adaptation")
    order = [abs(stats.spearmanr(table["gradient"], table[name]).statistic) for name in ("pc1", "pc2", "pc3")]
    best = np.nanmax(order)
    return _exact(best, best >= config.rank_correlation and bool(table["converged"].all()))


def _rate_falls(run: Run, config: "ClaimsConfig") -> Measured:
    table = run.table("adaptation")
    falls = []
    for _, arm in table[(table["arm"] != "zero") & table["converged"]].groupby("arm"):  # others have no rate
        falls.append(-stats.spearmanr(arm["gradient"].abs(), arm["effective_learning_rate_at_zero"]).statistic)
    return _exact(min(falls), min(falls) >= config.rank_correlation)


def _all_stable(run: Run, config: "ClaimsConfig") -> Measured:
    del config
    radius = run.table("adaptation")["spectral_radius"].max()
    return _exact(radius, radius < 1)


def _arms_symmetric(run: Run, config: "ClaimsConfig") -> Measured:
    symmetry = run.summary("adaptation")["symmetry"]
    symmetry = np.inf if symmetry is None else symmetry
    return _exact(symmetry, symmetry <= config.asymmetry)


def _like_rmsprop(run: Run, config: "ClaimsConfig") -> Measured:
    own, probe = run.summary("adaptation"), run.summary("adaptation", "rmsprop")
    exponent, low, high = (np.nan if own[key] is None else float(own[key]) for key in ("exponent", "low", "high"))
    return Measured(exponent, low, high, met=abs(exponent - probe["exponent"]) <= config.exponent_tolerance)


CLAIMS = (
    Claim(
        "T1a",
        "The learned optimizer beats every tuned baseline (smallest gain in meta-objective over a baseline)",
        lambda c: f"gain above 0 with a {c.confidence:.0%} interval that excludes 0, for each baseline",
        _beats_baselines,
    ),
    Claim(
        "T1b",
        "After the run its test accuracy is above that of every tuned baseline (smallest gain in accuracy)",
        lambda c: f"gain above 0 with a {c.confidence:.0%} interval that excludes 0, for each baseline",
        _more_accurate,
    ),
    Claim(
        "T2",
        "At zero gradient there is a single global fixed point (number found)",
        lambda c: "one point, every seed ends there, residual below 1e-8, spectral radius below 1",
        _one_fixed_point,
    ),
    Claim(
        "T3a",
        "The optimizer linearised at its fixed point performs like it (share of the drop in log meta-objective)",
        lambda c: f"at least {c.linear_explains}",
        _linearization_explains,
    ),
    Claim(
        "T3b",
        f"Slow modes carry the momentum (share of the gain in modes slower than {SLOW:.0f} steps)",
        lambda c: f"at least {c.slow_mode_share}",
        _slow_modes_carry,
    ),
    Claim(
        "T4",
        "The dominant mode is Polyak's optimal momentum (larger relative distance of alpha and beta)",
        lambda c: f"at most {c.polyak_tolerance}",
        _polyak_mode,
    ),
    Claim(
        "T5a",
        "States are low-dimensional (share of variance of the first component)",
        lambda c: f"at least {c.low_dimensional}",
        _low_dimensional,
    ),
    Claim(
        "T5b",
        "Moving along the slow mode shifts the update function vertically (largest relative change of its slope)",
        lambda c: f"at most {c.vertical_shift}",
        _vertical_shift,
    ),
    Claim(
        "T6",
        f"Several slow timescales, not one (modes slower than {SLOW:.0f} steps with over {VISIBLE:.0%} of the gain)",
        lambda c: "at least 2",
        _several_timescales,
    ),
    Claim(
        "T7a",
        "The update function saturates (slope at the largest gradient over slope at zero, initial state)",
        lambda c: f"at most {c.saturation}",
        _saturates,
    ),
    Claim(
        "T7b",
        "The update function is odd (relative asymmetry, initial state)",
        lambda c: f"at most {c.asymmetry}",
        _odd,
    ),
    Claim(
        "T8a",
        "Gradients fall mainly in the linear part (share beyond the clipping threshold)",
        lambda c: f"at most {c.beyond_threshold}",
        _mainly_linear,
        tasks=("quadratic",),
    ),
    Claim(
        "T8b",
        "Gradients reach well into the saturated part (share beyond the clipping threshold)",
        lambda c: f"at least {c.well_beyond}",
        _well_beyond,
        tasks=("rosenbrock",),
    ),
    Claim(
        "T9",
        "The clipping threshold is similar over the states visited (relative spread)",
        lambda c: f"at most {c.threshold_spread}; a state without threshold counts as infinite",
        _same_threshold,
    ),
    Claim(
        "T10a",
        "At zero gradient the effective learning rate first rises for about 25 steps (step of its peak)",
        lambda c: f"between {c.schedule_peak[0]} and {c.schedule_peak[1]}",
        _rate_peaks,
        tasks=("quadratic",),
    ),
    Claim(
        "T10b",
        "That rise is substantial (peak over initial effective learning rate)",
        lambda c: f"at least {c.schedule_rise}",
        _rate_rises,
        tasks=("quadratic",),
    ),
    Claim(
        "T11a",
        "At zero gradient the effective learning rate follows a schedule (largest over smallest)",
        lambda c: f"at least {c.schedule_rise}",
        _has_schedule,
        tasks=("two_moons", "mnist"),
    ),
    Claim(
        "T11b",
        "There is no autonomous schedule, for the initial state is the fixed point (largest over smallest rate)",
        lambda c: f"below {c.schedule_rise}",
        _has_no_schedule,
        tasks=("rosenbrock",),
    ),
    Claim(
        "T12",
        "Fixed points of constant gradients form a curve, an arm a sign (rank correlation along its best component)",
        lambda c: f"at least {c.rank_correlation}, every gradient with a fixed point",
        _s_curve,
    ),
    Claim(
        "T13",
        "Along both arms the effective learning rate falls as the gradient grows (rank correlation, weaker arm)",
        lambda c: f"at least {c.rank_correlation}",
        _rate_falls,
    ),
    Claim(
        "T14a",
        "All fixed points of constant gradients are stable (largest spectral radius)",
        lambda c: "below 1",
        _all_stable,
    ),
    Claim(
        "T14b",
        "The arms are symmetric (relative difference of their effective learning rates)",
        lambda c: f"at most {c.asymmetry}",
        _arms_symmetric,
    ),
    Claim(
        "T15",
        "Adaptation is RMSProp's (log-log slope of effective learning rate against gradient)",
        lambda c: f"within {c.exponent_tolerance} of the tuned RMSProp's own slope",
        _like_rmsprop,
    ),
)


def claims_files(config: dict[str, Any]) -> list[str]:
    """The files the claims are judged by, relative to the config's folder of results."""
    from reopt.stages import baselines_of, learned

    files = []
    for task in config["tasks"]:
        runs = learned(config, task)
        files += [f"{task}/evaluation/{subject}.csv" for subject in (*runs, *baselines_of(config, task))]
        files += [f"{task}/analysis/{subject}/{file}" for subject in runs for file in _ANALYSIS_FILES]
        files.append(f"{task}/analysis/rmsprop/adaptation.json")
    return files


def runs_of(config: dict[str, Any], task: str, optimizer: str, results: Path) -> list[Run]:
    """An optimizer's runs on a task, one a meta-training seed."""
    from reopt.stages import baselines_of

    block = config["tasks"][task]
    names = [f"{optimizer}-s{seed}" for seed in block["optimizers"][optimizer]["seeds"]]
    return [Run(results / task, name, block["problem"], baselines_of(config, task)) for name in names]


def judge(config: dict[str, Any], criteria: "ClaimsConfig", results: Path, only: str = "") -> pd.DataFrame:
    """The table of claims, or of one; `config` is the file's content, `results` its folder of results."""
    rows = []
    for task, block in config["tasks"].items():
        for optimizer in block["optimizers"]:
            runs = runs_of(config, task, optimizer, results)
            for claim in (one for one in CLAIMS if only in ("", one.name)):
                head = (claim.name, task, optimizer, claim.statement)
                rows.append((*head, *_over_seeds(claim, task, runs, criteria)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _over_seeds(claim: Claim, task: str, runs: list[Run], criteria: "ClaimsConfig") -> tuple:
    """The columns from `value` on."""
    criterion = claim.criterion(criteria)
    meant = claim.tasks is None or task in claim.tasks
    measured = [one for one in (claim.measure(run, criteria) for run in runs) if one] if meant else []
    if not measured:
        return (np.nan, np.nan, np.nan, 0, np.nan, np.nan, np.nan, criterion, "not testable")
    met = sum(one.met for one in measured)
    wilson = stats.binomtest(met, len(measured)).proportion_ci(criteria.confidence, method="wilson")
    verdict = "holds" if met == len(measured) else "fails"
    value = _mean_over_seeds(measured, criteria.confidence)
    return (*value, len(measured), met / len(measured), wilson.low, wilson.high, criterion, verdict)


def _mean_over_seeds(measured: list[Measured], confidence: float) -> tuple[float, float, float]:
    """Mean over seeds with its t interval; of fewer than three seeds the widest interval within a seed."""
    values = np.array([one.value for one in measured])
    if len(values) < 3 or not np.all(np.isfinite(values)):
        return float(np.mean(values)), min(one.low for one in measured), max(one.high for one in measured)
    half = stats.t.ppf(0.5 + confidence / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values)), float(np.mean(values) - half), float(np.mean(values) + half)
