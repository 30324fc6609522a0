"""Systems against their rivals and each other: paired differences over held-out problems and meta-trainings.

Differences are positive where the system is worse: its measure less the other's, of a score the other way round.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats

from reopt.core.errors import ReoptError
from reopt.core.tables import read_table
from reopt.systems.judge import is_score
from reopt.systems.schema import Form, SystemsConfig

ALL = "all"  # in place of a meta-seed
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean, and the ends of its interval."""

    mean: float
    low: float
    high: float


def over_seeds_and_problems(values: Float[np.ndarray, "seed problem"]) -> Interval:
    """The mean with a 95% interval for other meta-seeds and other problems than these.

    Both count as drawn at random, in a two-way layout without replication: with S seeds and P problems the variance of
    the mean is estimated by var(means of seeds) / S + var(means of problems) / P - var(what is left) / (S P), and its
    degrees of freedom after Satterthwaite (1946). Of one seed the interval is over problems alone.
    """
    values = np.asarray(values, float)
    seeds, problems = values.shape
    mean = float(values.mean())
    by_seed, by_problem = values.mean(axis=1), values.mean(axis=0)
    if seeds == 1:
        parts, degrees = np.array([by_problem.var(ddof=1) / problems]), np.array([problems - 1.0])
    else:
        left = values - by_seed[:, None] - by_problem[None] + mean
        free = (seeds - 1.0) * (problems - 1.0)
        rest = float((left**2).sum()) / free
        parts = np.array([by_seed.var(ddof=1) / seeds, by_problem.var(ddof=1) / problems, -rest / (seeds * problems)])
        degrees = np.array([seeds - 1.0, problems - 1.0, free])
    # By chance the estimate may come out below what the problems alone tell.
    variance = max(float(parts.sum()), float(by_problem.var(ddof=1)) / problems)
    if variance == 0:
        return Interval(mean, mean, mean)
    freedom = max(variance**2 / float((parts**2 / degrees).sum()), 1.0)
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom)) * float(np.sqrt(variance))
    return Interval(mean, mean - half, mean + half)


class Judged(NamedTuple):
    """Measures of held-out problems, `(problem,)`, by who they are of and by choice or form."""

    systems: dict[tuple[str, int, str], pd.DataFrame]
    rivals: dict[tuple[str, str, str], pd.DataFrame]


def read_judged(config: SystemsConfig, results: Path) -> Judged:
    """What the judging wrote below `results`. **Raises** `ReoptError` where a table is missing or another's."""
    systems: dict[tuple[str, int, str], pd.DataFrame] = {}
    rivals: dict[tuple[str, str, str], pd.DataFrame] = {}
    for name, entry in config.systems.items():
        for seed in entry.seeds:
            path = results / f"{entry.task}/systems/{name}-s{seed}/problems.csv"
            for form, part in _by_choice(path, config.judging.problems).items():
                systems[name, seed, form] = part
    for name, task in config.tasks.items():
        for rival in task.rivals:
            path = results / f"{name}/rivals/{rival}/problems.csv"
            for choice, part in _by_choice(path, config.judging.problems).items():
                rivals[name, rival, choice] = part
    return Judged(systems, rivals)


def _by_choice(path: Path, problems: int) -> dict[str, pd.DataFrame]:
    table = read_table(path, ("choice", "problem"))
    found = {str(choice): part.set_index("problem").sort_index() for choice, part in table.groupby("choice")}
    for part in found.values():
        if len(part) != problems:
            raise ReoptError(f"{path} holds {len(part)} problems, but the config says {problems}: judge again")
    return found


def difference(
    config: SystemsConfig, judged: Judged, system: str, form: str, against: str, choice: str
) -> Float[np.ndarray, "seed problem"]:
    """How much worse a system is than a rival (`choice` one or each) or another system, seed by seed as they stand."""
    entry = config.systems[system]
    sign = -1.0 if is_score(entry.measure) else 1.0
    own = np.stack([judged.systems[system, seed, form][entry.measure] for seed in entry.seeds])
    if against in config.systems:
        other = config.systems[against]
        its = np.stack([judged.systems[against, seed, choice][entry.measure] for seed in other.seeds])
        if other.seeds != entry.seeds:  # no pairs of seeds: against their mean
            its = its.mean(axis=0, keepdims=True)
    else:
        its = judged.rivals[entry.task, against, choice][entry.measure].to_numpy()[None]
    return sign * (own - its)


def forms(config: SystemsConfig, system: str) -> list[Form]:
    """The forms in which a system is judged."""
    return ["trained"] if len(config.systems[system].factors) == 1 else ["trained", "scaled"]


def opponents(config: SystemsConfig, system: str, form: Form) -> list[tuple[str, str]]:
    """(name, choice) of all that a system is compared with: rivals of its task, and systems there in the same form."""
    entry = config.systems[system]
    rivals = [(rival, choice) for rival in config.tasks[entry.task].rivals for choice in ("one", "each")]
    others = [
        (name, form if form in forms(config, name) else "trained")
        for name, one in config.systems.items()
        if one.task == entry.task and name != system
    ]
    return [*rivals, *others]


def summary(config: SystemsConfig, results: Path) -> pd.DataFrame:
    """A row a comparison and meta-seed, and one over all seeds.

    Columns: `system, form, seed, task, measure, mean` (of the system), `against, choice, other` (its mean),
    `difference, low, high` (positive: the system is worse), `better` (share of problems on which the system is better).
    """
    judged = read_judged(config, results)
    rows = []
    for system, entry in config.systems.items():
        for form in forms(config, system):
            own = np.stack([judged.systems[system, seed, form][entry.measure] for seed in entry.seeds])
            for against, choice in opponents(config, system, form):
                found = difference(config, judged, system, form, against, choice)
                sign = -1.0 if is_score(entry.measure) else 1.0
                every = [(str(seed), found[i : i + 1], own[i]) for i, seed in enumerate(entry.seeds)]
                for seed, part, mine in [*every, (ALL, found, own)]:
                    interval = over_seeds_and_problems(part)
                    rows.append(
                        {
                            **{"system": system, "form": form, "seed": seed, "task": entry.task},
                            **{"measure": entry.measure, "mean": mine.mean(), "against": against, "choice": choice},
                            "other": mine.mean() - sign * interval.mean,
                            **{"difference": interval.mean, "low": interval.low, "high": interval.high},
                            "better": float((part < 0).mean()),
                        }
                    )
    return pd.DataFrame(rows)


def verdicts(config: SystemsConfig, table: pd.DataFrame) -> pd.DataFrame:
    """A row a claim: it holds where the whole interval lies beyond its margin, fails where the whole of it does not.

    `table` is what `summary` gives; columns: `claim, statement, difference, low, high, margin, verdict`.
    """
    rows = []
    for name, claim in config.claims.items():
        choice = claim.choice if claim.against not in config.systems else None
        found = table[
            (table["system"] == claim.system)
            & (table["form"] == claim.form)
            & (table["against"] == claim.against)
            & (table["seed"].astype(str) == ALL)
        ]
        found = found if choice is None else found[found["choice"] == choice]
        (row,) = found.to_dict("records")
        rows.append(
            {
                **{"claim": name, "statement": claim.statement, "system": claim.system, "against": claim.against},
                **{key: row[key] for key in ("difference", "low", "high")},
                **{"margin": claim.margin, "verdict": verdict(row, claim.margin)},
            }
        )
    return pd.DataFrame(rows)


def verdict(row: Mapping[str, float], margin: float) -> str:
    """Of a difference with its interval, which should lie below -margin."""
    if row["high"] < -margin:
        return "holds"
    return "fails" if row["low"] >= -margin else "undetermined"


def panels(config: SystemsConfig) -> dict[str, list[str]]:
    """Systems with a panel of the figure, and for each its variants."""
    return {
        name: [variant for variant, one in config.systems.items() if one.variant_of == name]
        for name, entry in config.systems.items()
        if entry.variant_of is None
    }


COLUMNS = ("system", "form", "seed", "measure", "against", "choice", "difference", "low", "high")


def read_summary(path: Path) -> pd.DataFrame:
    """What `summary` gave, from its file. **Raises** `ReoptError`."""
    return read_table(path, COLUMNS).assign(seed=lambda table: table["seed"].astype(str))
