"""Are two optimizers the same, and if not, in what do they differ: `reopt diff`.

First directly: both are driven by the same gradients (`reopt.examination.trajectories`), and are equal if no update
differs by more than the tolerance; what was probed is said. If they differ under gradients that are not finite alone,
it is said what each does there. Else both are examined, and their readings compared: a quantity is the same if its
intervals overlap, within a share of their size that follows from how far the updates are apart (`SAME` at most). So a
difference of updates has its cause among the readings, or in what each keeps of its past
(`reopt.examination.histories`); where it has none, it is said where the updates part first: at which step, gradient and
states, and along which families and sizes of gradients they part at all.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import optax
import pandas as pd

from reopt.core.errors import ReoptError
from reopt.core.foreign import told
from reopt.core.tables import write_table
from reopt.examination import trajectories
from reopt.examination.dissect import Say
from reopt.examination.examination import Examination, examine
from reopt.examination.first_difference import first_difference
from reopt.examination.histories import compare_histories
from reopt.examination.not_finite import Row, compare_not_finite
from reopt.examination.settings import Settings
from reopt.examination.trajectories import Componentwise, Decay, Driven, Transformation
from reopt.mechanisms.base import ABSENT, PRESENT, UNDETERMINED, Finding
from reopt.mechanisms.registry import mechanisms
from reopt.mechanisms.update_function import Place, clipping
from reopt.optimizers.base import Optimizer
from reopt.optimizers.optax_bridge import FromOptax, from_optax, refuse_layouts
from reopt.optimizers.torch_rules import TorchOptimizer
from reopt.tasks.base import Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ("mechanism", "quantity", "index", "a_value", "a_low", "a_high", "b_value", "b_low", "b_high", "same")
FILES = ("difference.csv", "difference.svg", "difference.png")
TOLERANCE = 1e-6  # relative difference of updates that counts as none
SAME = 1e-4  # relative distance of the intervals of a reading that counts as none, where updates are far apart
FINEST = 1e-9  # and the least that is told from rounding
AMPLIFIED = 1e4  # how many times further apart updates may be than the reading that tells why (a beta beside 1)
NOTHING = 1e-9  # difference of readings in units of one (shares, ranges) that is rounding
NO_BUFFER = 1e-9  # a mode with |beta| below this is a direct answer to the gradient
OF_RUNS = (
    "fraction_clipped",
    "r2",
    "noise",
    "converged",
)  # tell more of the runs than of the optimizer: no sentence of theirs
MOST_MODES, MOST_NAMED, MOST_ROWS = 3, 4, 12  # in a sentence, and of a mechanism in the table; difference.csv has all
SHORTEST = 1000  # steps of the probes at least; else twice the horizon
HARD = 1.5  # hardness below which a clip is called hard
VERDICTS = {PRESENT: 1.0, ABSENT: 0.0, UNDETERMINED: np.nan}
Pairs = dict[tuple[str, str, int], tuple[float, float, float]]
Reading = tuple[float, float, float]  # value, low, high
Examined = tuple[Examination, dict[str, Finding]]


class Subject(NamedTuple):
    """An optimizer to compare: what takes steps, and what it was made of."""

    name: str
    transformation: Transformation
    origin: Any

    def componentwise(self) -> Optimizer:
        """What can be examined: for an optax transformation that looks at parameters, how it acts where they are 0.

        **Raises** `ReoptError` where it couples parameters: such a one can be compared, not examined.
        """
        if isinstance(self.origin, Optimizer):
            return self.origin

        def at_zero(gradient: Any, state: Any, params: Any = None) -> Any:
            del params
            return self.origin.update(gradient, state, optax.tree.zeros_like(gradient))

        return from_optax(optax.GradientTransformation(self.origin.init, at_zero))


def subject_of(name: str, found: Any) -> Subject:
    """A subject from an optimizer of ours or an optax transformation. **Raises** `ReoptError`."""
    if isinstance(found, FromOptax):
        found = found.transformation
    if isinstance(found, TorchOptimizer) and found.sees_values:
        return Subject(name, found.transformation, found)
    if isinstance(found, Optimizer):
        return Subject(name, Componentwise(found), found)
    if not (hasattr(found, "init") and hasattr(found, "update")):
        raise ReoptError(f"{name} is a {type(found).__name__}, not an optimizer of reopt or of optax")
    refuse_layouts(found)
    return Subject(name, found, found)


class Difference:
    """What sets two optimizers apart: `equal`, `largest`, `table`, `trajectories`, `words`, `figure`, `write`.

    `largest` is the largest relative difference of their updates; `table` has the columns of `difference.csv`, a row a
    quantity; `trajectories` a row a family of gradients; `words` are sentences, the first of them the answer.
    """

    def __init__(
        self,
        names: tuple[str, str],
        tolerance: float,
        found: list[Driven],
        table: pd.DataFrame,
        words: list[str],
    ) -> None:
        self.names = names
        self.tolerance = tolerance
        self.trajectories = trajectories.trajectories_table(found, tolerance)
        self.largest = float(self.trajectories["difference"].max())
        self.equal = self.largest <= tolerance
        self.table = table
        self.words = words
        self._driven = found

    @cached_property
    def updates(self) -> pd.DataFrame:
        """panel, step, gradient, a, b: the sequences of the figure."""
        probes = self._driven[-1]
        names = np.asarray(probes.drive.family)
        middle = trajectories.SIZES // 2 * 2
        chosen = {
            "pulse": (probes, int(np.flatnonzero(names == "pulses")[2]), 0),
            "constant": (probes, int(np.flatnonzero(names == "constant")[middle]), 0),
            "ramp": (probes, int(np.flatnonzero(names == "ramp")[0]), 0),
            "farthest": self._farthest(),
        }
        parts = []
        for panel, (one, sequence, param) in chosen.items():
            shown = len(one.a) if panel in ("ramp", "farthest") else min(len(one.a), trajectories.PULSE_GAP)
            at = (slice(shown), sequence, param)
            columns = {"gradient": one.drive.gradients[at], "a": one.a[at], "b": one.b[at]}
            parts.append(pd.DataFrame({"panel": panel, "step": np.arange(shown), **columns}))
        return pd.concat(parts, ignore_index=True)

    def _farthest(self) -> tuple[Driven, int, int]:
        one = max(self._driven, key=lambda part: part.difference.max())
        _, sequence, param = np.unravel_index(int(np.argmax(one.difference)), one.difference.shape)
        return one, int(sequence), int(param)

    @cached_property
    def figure(self) -> "tuple[Figure, str]":
        """(figure, caption): updates of both under the same gradients."""
        row = self.trajectories.iloc[0]
        words = f"{row['family']}, at step {row['step']}, relative difference {row['difference']:.2g}"
        from reopt.figures import difference as picture

        data = picture.Difference(*self.names, self.updates, words)
        return picture.figure(data), picture.caption(data)

    def __repr__(self) -> str:
        lines = [f"A: {self.names[0]}, B: {self.names[1]}", *self.words]
        return "\n".join(lines if self.equal else [*lines, "", table_text(self.table)])

    def write(self, folder: Path) -> None:
        """difference.csv, and the figure as SVG and PNG."""
        from reopt.figures.save import save

        write_table(folder / FILES[0], self.table)
        save(self.figure[0], *(folder / name for name in FILES[1:]))


def difference(
    a: Optimizer | Subject | Any,
    b: Optimizer | Subject | Any,
    task: Task,
    settings: Settings | None = None,
    *,
    names: tuple[str, str] = ("A", "B"),
    tolerance: float = TOLERANCE,
    say: Say = lambda text: None,
    **changes: Any,
) -> Difference:
    """Compare two optimizers, ours or optax's, on `task`.

    **Arguments:** the `problems` problems of `settings` give the runs; the probes go on for twice as long, at least
    1,000 steps. `say` is told of each part; `changes` are fields of `Settings`, for instance `num_steps=100`.

    **Raises** `ReoptError` where one of them cannot take a step.
    """
    one, other = (
        found if isinstance(found, Subject) else subject_of(name, found)
        for found, name in zip((a, b), names, strict=True)
    )
    settings = replace(settings or Settings(), **changes)
    say("driving both with the same gradients")
    found, usual = _same_gradients(one, other, task, settings)
    table = trajectories.trajectories_table(found, tolerance)
    rows = [_trajectory_row(row, tolerance) for _, row in table.iterrows()]
    if (largest := float(table["difference"].max())) <= tolerance:
        words = [_equal_words(largest, found)]
    else:
        words = []
        more: list[Row] = []
        finite = [part for part in found if part.finite]
        where = trajectories.trajectories_table(finite, tolerance)
        if (apart := float(where["difference"].max())) <= tolerance:
            words.append(f"different, but only where a gradient is not finite; otherwise equal to {_power(apart)}")
        else:
            words += [_farthest_words(where.iloc[0]), *_where_words(finite[-1], where, tolerance, settings.num_steps)]
            more, sentences = _tell_apart(one, other, finite, task, settings, usual=usual, tolerance=tolerance, say=say)
            words += sentences
        for part in (part for part in found if not part.finite):
            lost, sentences = compare_not_finite(part, tolerance if apart <= tolerance else np.inf)
            more, words = more + lost, words + sentences
        rows += more
    words.append(trajectories.probed(found))
    return Difference((one.name, other.name), tolerance, found, pd.DataFrame(rows, columns=list(COLUMNS)), words)


def _same_gradients(a: Subject, b: Subject, task: Task, settings: Settings) -> tuple[list[Driven], float]:
    """Both along runs of A, runs of B, gradients that are not finite, and the probes; and the usual size of the
    gradients met."""
    drives = []
    for subject, label in ((a, "A"), (b, "B")):
        sizes: dict[str, Any] = {name: getattr(settings, name) for name in ("seed", "num_steps", "problems")}
        with _running(subject):
            drives.append(trajectories.runs(subject.transformation, task, family=f"run of {label}", **sizes))
    met, params = (np.concatenate([getattr(d, part).ravel() for d in drives]) for part in ("gradients", "params"))
    usual = float(np.median(np.abs(met[met != 0]))) if np.any(met != 0) else 1.0
    drives.append(trajectories.not_finite(usual))
    drives.append(trajectories.probes(met, params, num_steps=max(2 * settings.num_steps, SHORTEST)))
    sides = []
    for subject in (a, b):
        with _running(subject):
            sides.append([trajectories.updates(subject.transformation, one.gradients, one.params) for one in drives])
    return [trajectories.apart(drive, *pair) for drive, *pair in zip(drives, *sides, strict=True)], usual


@contextlib.contextmanager
def _running(subject: Subject) -> Iterator[None]:
    """What an optimizer of optax raises while it runs becomes a `ReoptError`."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ReoptError) or isinstance(subject.transformation, Componentwise):
            raise
        raise ReoptError(f"{subject.name} cannot be run: {told(error)}") from error


def _tell_apart(
    a: Subject,
    b: Subject,
    found: list[Driven],
    task: Task,
    settings: Settings,
    *,
    usual: float,
    tolerance: float,
    say: Say,
) -> tuple[list[Row], list[str]]:
    """Rows and sentences on the mechanisms of two optimizers that are not equal."""
    decays = [_decay_of(subject, usual, settings.num_steps) for subject in (a, b)]
    rows, words = _compare_decay(*decays)
    bare = found
    if max(decay.dependence for decay in decays) > 0:  # from here on, as they act where the parameter is 0
        at_zero = [part.drive._replace(params=np.zeros_like(part.drive.params)) for part in found]
        bare = [trajectories.driven(a.transformation, b.transformation, drive) for drive in at_zero]
    apart = max(float(part.difference.max()) for part in bare)
    if apart <= tolerance:
        words.append(f"where the parameter is 0, they are equal to {_power(apart)} along the same trajectories")
    else:
        more, sentences = _compare_steady(a, b, bare[-1])
        rows, words = rows + more, words + sentences
    more, sentences = _compare_readings_of(a, b, bare, apart, task, settings, say=say, tolerance=tolerance)
    rows, words = rows + more, words + sentences
    if apart > tolerance:
        say("comparing what each keeps of its past")
        more, past = compare_histories(a.transformation, b.transformation, bare[-1], usual=usual, tolerance=tolerance)
        told = {sentence.partition(":")[0] for sentence in words}
        rows += more
        words += [sentence for mechanism, sentence in past if mechanism not in told]
    return rows, words + _unexplained(words, a, b, found, tolerance)


def _compare_readings_of(
    a: Subject,
    b: Subject,
    bare: list[Driven],
    apart: float,
    task: Task,
    settings: Settings,
    *,
    say: Say,
    tolerance: float,
) -> tuple[list[Row], list[str]]:
    """Rows and sentences on the readings of an examination, where both can be examined, or on why not."""
    rows: list[Row] = []
    words: list[str] = []
    optimizers = [_componentwise(subject) for subject in (a, b)]
    for optimizer, label in zip(optimizers, "AB", strict=True):
        if isinstance(optimizer, str):
            words.append(f"{label} cannot be examined: {optimizer}")
    if words:
        return rows, words
    try:
        examined = _examined(optimizers[: 2 if apart > tolerance else 1], task, settings, say)
    except ReoptError as error:
        return rows, [f"they cannot be examined: {error}"]
    for optimizer, label, (result, _) in zip(optimizers, "AB", examined, strict=False):
        if isinstance(optimizer, FromOptax | TorchOptimizer):
            words += [f"{label}: {caveat}" for caveat in optimizer.caveats_at(result.linearization.point)]
    more, sentences = _compare_finely(examined[0], examined[-1], apart)
    rows, words = rows + more, words + sentences
    if apart > tolerance and not any(sentence.startswith("clipping") for sentence in sentences):
        more, sentences = _compare_far_clipping(optimizers[0], optimizers[1], bare[-1], tolerance)  # type: ignore[arg-type]
        rows, words = rows + more, words + sentences
    return rows, words


def _examined(optimizers: list[Any], task: Task, settings: Settings, say: Say) -> "list[Examined]":
    examined = []
    for optimizer, label in zip(optimizers, "AB", strict=False):
        say(f"examining {label}")
        result = examine(optimizer, task, settings)
        examined.append((result, {one.mechanism: one for one in result.findings}))
    return examined


def _unexplained(words: list[str], a: Subject, b: Subject, found: list[Driven], tolerance: float) -> list[str]:
    """Where the updates part first, if no sentence names a mechanism or a reading in which they do."""
    causes = (
        "weight decay",
        "constant gradients",
        "lag",
        *(one.name for one in mechanisms() if one.name != "remainder"),
    )
    if any(sentence.startswith(causes) for sentence in words):
        return []
    where = first_difference(a.transformation, b.transformation, found, tolerance)
    return ["no reading of momentum, clipping, schedule or adaptation tells them apart", where]


def _componentwise(subject: Subject) -> Optimizer | str:
    """What can be examined of it, or why nothing can."""
    try:
        return subject.componentwise()
    except ReoptError as error:
        return str(error)


def table_text(table: pd.DataFrame) -> str:
    """The rows that differ, for reading: mechanism, quantity, and both values with their intervals."""

    def written(row: pd.Series, side: str) -> str:
        value, low, high = (float(row[f"{side}_{part}"]) for part in ("value", "low", "high"))
        if row["quantity"] == "present":
            return {1.0: PRESENT, 0.0: ABSENT}.get(value, UNDETERMINED)
        if np.isnan(value):
            return "-"
        wide = high - low > 1e-6 * abs(value)
        return f"{value:.6g} [{low:.4g}, {high:.4g}]" if wide else f"{value:.6g}"

    rows = [("mechanism", "quantity", "A", "B")]
    differs = table[~table["same"]]
    for _, row in differs.groupby("mechanism", sort=False).head(MOST_ROWS).iterrows():
        at = f"step {row['index']}" if row["mechanism"] == "trajectories" else row["index"] or ""
        rows.append((row["mechanism"], f"{row['quantity']} {at}".strip(), written(row, "a"), written(row, "b")))
    if more := len(differs) - len(rows) + 1:
        rows.append(("", f"and {more} more", "", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _trajectory_row(row: pd.Series, tolerance: float) -> Row:
    a, b = float(row["a"]), float(row["b"])
    return (
        "trajectories",
        str(row["family"]).replace(" ", "_"),
        int(row["step"]),
        *(a, a, a),
        *(b, b, b),
        bool(row["difference"] <= tolerance),
    )


def _power(largest: float) -> str:
    """The power of ten that a relative difference is within."""
    return f"1e{int(np.ceil(np.log10(max(largest, 1e-16)))):d}"


def _equal_words(largest: float, found: list[Driven]) -> str:
    exact = " (no bit differs)" if largest == 0 else ""
    steps, length = sum(one.a.size for one in found), max(len(one.a) for one in found)
    return f"equal to {_power(largest)} along the same trajectories{exact}: {steps:,} updates, up to {length:,} steps"


def _farthest_words(row: pd.Series) -> str:
    if not np.isfinite(row["difference"]):
        how = "only one of the updates is finite"
    else:
        how = f"relative difference {row['difference']:.2g}"
    return (
        f"different: at step {row['step']} of {row['family']}, at gradient {row['gradient']:.3g}, A's update is "
        f"{row['a']:.6g} and B's {row['b']:.6g} ({how})"
    )


def _where_words(probes: Driven, table: pd.DataFrame, tolerance: float, num_steps: int) -> list[str]:
    """From which step on, and at which sizes of a constant gradient, the updates part."""
    words = []
    # The ramp and others change their size with time, so that their first step says nothing of time.
    steady = np.isin(np.asarray(probes.drive.family), ["constant", "pulses", "flips"])
    beyond = (probes.difference[:, steady] > tolerance).any(axis=(1, 2))
    first = int(np.argmax(beyond))
    if beyond.any() and first > 0:
        after = ", beyond the horizon" if first >= num_steps else ""
        words.append(f"in time: equal up to step {first - 1}{after}, whatever the size of a steady gradient")
    small, large = _parting_sizes(probes, tolerance)
    if np.isfinite(small):
        words.append(f"in size: under constant gradients they differ only below {small:.3g}")
    if np.isfinite(large):
        words.append(f"in size: under constant gradients they differ only above {large:.3g}")
    same = table.loc[table["difference"] <= tolerance, "family"].tolist()
    if same:
        words.append(f"equal along: {', '.join(same)}")
    return words


def _parting_sizes(probes: Driven, tolerance: float) -> tuple[float, float]:
    """(size below which, size above which) alone constant gradients tell the two apart; NaN where it is not so."""
    constant = np.asarray(probes.drive.family) == "constant"
    sizes = np.abs(probes.drive.gradients[0, constant, 0])
    apart = (probes.difference[:, constant] > tolerance).any(axis=(0, 2))
    order = np.argsort(sizes, kind="stable")
    sizes, apart = sizes[order], np.asarray(apart)[order]
    if not apart.any() or apart.all():
        return np.nan, np.nan
    inside, outside = sizes[apart], sizes[~apart]
    small = float(outside.min()) if inside.max() < outside.min() else np.nan
    large = float(outside.max()) if inside.min() > outside.max() else np.nan
    return small, large


def _decay_of(subject: Subject, usual: float, num_steps: int) -> Decay:
    if isinstance(subject.transformation, Componentwise):
        return Decay(0.0, 0.0, 0.0, 0.0)
    return trajectories.weight_decay(subject.transformation, usual=usual, num_steps=num_steps)


def _compare_decay(a: Decay, b: Decay) -> tuple[list[Row], list[str]]:
    """Rows and a sentence on how the updates depend on the values of the parameters."""
    if a.dependence == 0 and b.dependence == 0:
        return [], []
    shares = [(one.share, one.low, one.high) for one in (a, b)]
    rows: list[Row] = [("weight_decay", "share", 0, *shares[0], *shares[1], _overlap(*shares, relative=1e-6))]
    if not all(np.isnan(one.penalty) for one in (a, b)):
        penalties = [(one.penalty, one.penalty, one.penalty) for one in (a, b)]
        alike = _overlap(*penalties, relative=1e-6)
        rows.append(("weight_decay", "penalty", 0, *penalties[0], *penalties[1], alike))
    alike = all(row[-1] for row in rows)
    said = [_decay_words(label, one) for label, one in zip("AB", (a, b), strict=True)]
    return rows, [] if alike else [f"weight decay: {'; '.join(said)}"]


def _decay_words(label: str, found: Decay) -> str:
    if found.dependence == 0:
        return f"{label} has none"
    if not np.isnan(found.penalty):
        return (
            f"{label}'s update depends on the parameter's value: an L2 penalty inside the gradient, to which "
            f"{found.penalty:.4g} of the value is added"
        )
    if np.isnan(found.share):
        return f"{label}'s update depends on the parameter's value, and not as a share of it"
    spread = "" if found.high - found.low <= 1e-6 * abs(found.high) else f" (from {found.low:.4g} to {found.high:.4g})"
    return (
        f"{label}'s update depends on the parameter's value: weight decay that takes {found.share:.4g} of it at each "
        f"step{spread}, which is learning rate times decay"
    )


def _compare_steady(a: Subject, b: Subject, probes: Driven) -> tuple[list[Row], list[str]]:
    """How the updates level off under constant gradients: where, and how sharply (where eps stands)."""
    constant = np.asarray(probes.drive.family) == "constant"
    largest = float(np.abs(probes.drive.gradients[:, constant]).max())
    found = [trajectories.steady(subject.transformation, largest=largest) for subject in (a, b)]
    rows: list[Row] = []
    for quantity in trajectories.QUANTITIES:
        one, other = (_steady_interval(getattr(side, quantity), side.error) for side in found)
        rows.append(("constant_gradients", quantity, 0, *one, *other, _overlap(one, other)))
    if all(row[-1] for row in rows):
        return rows, []
    said = [_steady_words(label, one) for label, one in zip("AB", found, strict=True)]
    return rows, [f"constant gradients: {'; '.join(said)}"]


def _steady_interval(value: float, error: float) -> tuple[float, float, float]:
    """A reading with its relative error on either side; a corner has none."""
    half = abs(value) * error if np.isfinite(value) else 0.0
    return value, value - half, value + half


def _steady_words(label: str, found: trajectories.Steady) -> str:
    if np.isnan(found.knee):
        return f"of {label} no level and no bend can be told: {found.why}"
    level = f"at {found.level:.4g} " if np.isfinite(found.level) else ""
    why = f" ({found.why})" if found.why else ""
    return f"{label}'s update levels off {level}from gradient {found.knee:.4g} on, {_bend(found.sharpness)}{why}"


def _bend(sharpness: float) -> str:
    known = {1.0: ", as g / (|g| + eps): eps outside the root", 2.0: ", as g / sqrt(g² + eps): eps inside the root"}
    if np.isinf(sharpness):
        return "with a corner, as a hard clip"
    return f"with sharpness {sharpness:.4g}" + next(
        (words for value, words in known.items() if abs(sharpness - value) < 1e-3), ""
    )


def _overlap(
    a: tuple[float, float, float], b: tuple[float, float, float], *, relative: float = SAME, absolute: float = 0.0
) -> bool:
    """Whether the intervals of two readings (value, low, high) overlap, or miss each other by little."""
    if any(np.isnan(x[0]) for x in (a, b)):
        return bool(np.isnan(a[0]) and np.isnan(b[0]))
    if a[0] == b[0]:
        return True
    gap = max(a[1], b[1]) - min(a[2], b[2])
    with np.errstate(invalid="ignore"):
        return bool(gap <= relative * max(abs(a[0]), abs(b[0])) + absolute)


def _pairs(findings: dict[str, Finding]) -> Pairs:
    """The readings by (mechanism, quantity, index), the modes of momentum in an order that does not depend on alpha:
    by falling |beta|; and those without memory (beta = 0) in one sum with the direct response."""
    found = {
        (finding.mechanism, row[0], row[1]): (row[2], row[3], row[4])
        for finding in findings.values()
        for row in finding.readings
    }
    modes = [key[2] for key in found if key[:2] == ("momentum", "beta_real")]
    beta = {i: complex(*(found["momentum", f"beta_{part}", i][0] for part in ("real", "imag"))) for i in modes}
    order = sorted((i for i in modes if abs(beta[i]) > NO_BUFFER), key=lambda i: (-abs(beta[i]), -beta[i].imag))
    place = {old: new for new, old in enumerate(order)}
    parts = {key[1] for key in found if key[0] == "momentum" and key[1].startswith(("alpha", "beta", "timescale"))}
    direct = [found["momentum", "alpha_real", i] for i in modes if i not in place]
    given = found.get(("momentum", "direct", 0), (0.0, 0.0, 0.0))
    if not np.isclose(given[0], sum(row[0] for row in direct), rtol=1e-9, atol=0):  # the same response, told twice
        direct.append(given)
    kept = {key: value for key, value in found.items() if key[0] != "momentum" or key[1] not in parts}
    low, high = (sum(row[side] for row in direct) for side in (1, 2))
    kept["momentum", "direct", 0] = (sum(row[0] for row in direct), low, high)
    for old, new in place.items():
        kept |= {("momentum", part, new): found["momentum", part, old] for part in sorted(parts)}
    return kept


def _compare_finely(a: Examined, b: Examined, apart: float) -> tuple[list[Row], list[str]]:
    """Rows and sentences on the readings, compared the more finely the closer the updates are, until one differs.

    Readings whose intervals are within `relative` of their size are the same. It begins below the difference of the
    updates, and goes down to where a reading could not be its cause, or is rounding.
    """
    relative = min(SAME, 0.5 * apart)
    least = max(FINEST, min(SAME, apart / AMPLIFIED))
    while True:
        relative = max(relative, least)
        rows, words = _compare_readings(a, b, relative)
        if relative == least or any(not sentence.startswith("remainder") for sentence in words):
            return rows, words
        relative /= 10


def _compare_readings(a: Examined, b: Examined, relative: float) -> tuple[list[Row], list[str]]:
    """A row a reading, and a sentence a mechanism that differs."""
    rows: list[Row] = []
    words: list[str] = []
    idle: list[str] = []
    readings = _pairs(a[1]), _pairs(b[1])
    missing = (np.nan, np.nan, np.nan)
    for mechanism in (one.name for one in mechanisms()):
        verdicts = [side[mechanism].verdict for side in (a[1], b[1])]
        one, other = (VERDICTS[given] for given in verdicts)
        rows.append((mechanism, "present", 0, one, one, one, other, other, other, verdicts[0] == verdicts[1]))
        keys = [key for key in dict.fromkeys([*readings[0], *readings[1]]) if key[0] == mechanism]
        differs: dict[str, tuple[Reading, Reading]] = {}
        for key in keys:
            pair = readings[0].get(key, missing), readings[1].get(key, missing)
            # Rounding of an alpha, a beta or a rate that is 0 is no difference.
            size = max((abs(v[0]) for k, v in (*readings[0].items(), *readings[1].items()) if _kin(k, key)), default=0)
            rounding = NOTHING if key[1] in ("relative_range", "memory") else 1e-9 * size
            same = _overlap(*pair, relative=relative, absolute=rounding if np.isfinite(rounding) else 0.0)
            same |= key[1] in ("peak_step", "step_peak_step") and verdicts == [ABSENT, ABSENT]
            rows.append((*key, *pair[0], *pair[1], same))
            if not same and key[1] not in OF_RUNS:
                differs[key[1] if key[2] == 0 else f"{key[1]}[{key[2]}]"] = pair
        if (differs or verdicts[0] != verdicts[1]) and mechanism != "remainder":
            sentence = _sentence(mechanism, verdicts, readings, differs)
            if mechanism == "schedule":
                sentence += _rates_words(a[0], b[0])
            # Of a plain rate two mechanisms tell, and it is told as schedule.
            told_elsewhere = verdicts == [ABSENT, ABSENT] and mechanism in ("momentum", "clipping")
            (idle if told_elsewhere else words).append(sentence)
    words = words or idle
    for label, side in zip("AB", (a[1], b[1]), strict=True):
        if side["remainder"].verdict == PRESENT:
            words.append(f"remainder: {label} does something that none of these mechanisms explains")
    return rows, words


def _kin(key: tuple[str, str, int], other: tuple[str, str, int]) -> bool:
    """Whether two readings have one unit and purpose: alphas and what answers beside them, betas, or one quantity."""
    return key[0] == other[0] and _kind_of(key) == _kind_of(other)


def _kind_of(key: tuple[str, str, int]) -> str:
    first = key[1].partition("_")[0]
    return "alpha" if key[0] == "momentum" and first == "direct" else first


def _sentence(
    mechanism: str,
    verdicts: list[str],
    readings: tuple[Pairs, Pairs],
    differs: dict[str, tuple[Reading, Reading]],
) -> str:
    describe = {"momentum": _momentum, "clipping": _clipping, "schedule": _schedule, "adaptation": _adaptation}
    said = [
        UNDETERMINED if given == UNDETERMINED else describe.get(mechanism, _plainly)(given, side)
        for given, side in zip(verdicts, readings, strict=True)
    ]
    values = ", ".join(f"{name} {_apart(*pair)}" for name, pair in list(differs.items())[:MOST_NAMED])
    if said[0] == said[1]:
        return f"{mechanism}: both {said[0]}; but not the same {values}"
    text = f"{mechanism}: A: {said[0]}; B: {said[1]}"
    close = {name: pair for name, pair in differs.items() if _overlap(*pair)}
    if close and len(close) == len(differs):
        text += f"; not the same {values}"
    if mechanism == "momentum" and verdicts == [PRESENT, PRESENT]:
        direct = [abs(_direct(side)) > 0 for side in readings]
        if direct[0] != direct[1]:
            which = direct.index(True)
            nesterov = _nesterov(readings[which])
            how = " as Nesterov's momentum does (alpha = beta times the direct response)" if nesterov else ""
            text += f"; {'AB'[which]} alone answers a gradient directly besides its buffers{how}"
    return text


def _apart(a: Reading, b: Reading) -> str:
    """Both values with their intervals, in as many digits as it takes to see them differ."""
    size = max(abs(a[0]), abs(b[0]))
    near = abs(a[0] - b[0]) / size if size > 0 and np.isfinite(size) else 1.0
    digits = 6 if not near > 0 else int(np.clip(2 - np.log10(near), 4, 15))
    return " and ".join(f"{value:.{digits}g} [{low:.{digits}g}, {high:.{digits}g}]" for value, low, high in (a, b))


def _value(side: Pairs, mechanism: str, quantity: str, index: int = 0) -> float:
    return float(side.get((mechanism, quantity, index), (np.nan,))[0])


def _number(real: float, imaginary: float = 0.0) -> str:
    if not abs(imaginary) > 1e-9 * abs(real):
        return f"{real:.6g}"
    return f"{real:.6g}{imaginary:+.6g}i"


def _modes(side: Pairs) -> list[list[float]]:
    """alpha_real, alpha_imag, beta_real, beta_imag of each mode with a memory."""
    parts = ("alpha_real", "alpha_imag", "beta_real", "beta_imag")
    count = sum(key[:2] == ("momentum", "beta_real") for key in side)
    return [[_value(side, "momentum", part, index) for part in parts] for index in range(count)]


def _direct(side: Pairs) -> float:
    """The direct response; 0 where it is rounding beside the alphas, which have its unit."""
    direct, largest = _value(side, "momentum", "direct"), max((abs(complex(*m[:2])) for m in _modes(side)), default=0.0)
    return 0.0 if abs(direct) <= NOTHING * largest else direct


def _nesterov(side: Pairs) -> bool:
    """Whether the modes are one real buffer with alpha = beta x direct response."""
    modes, direct = _modes(side), _direct(side)
    return len(modes) == 1 and bool(abs(modes[0][0] - modes[0][2] * direct) <= 1e-6 * abs(modes[0][0]))


def _momentum(given: str, side: Pairs) -> str:
    if given == ABSENT:
        return "none"
    modes, direct = _modes(side), _direct(side)
    leading = sorted(modes, key=lambda mode: -abs(complex(*mode[:2])))[:MOST_MODES]
    text = ", ".join(f"beta = {_number(*mode[2:])} (alpha = {_number(*mode[:2])})" for mode in leading)
    text = text if len(modes) <= MOST_MODES else f"of largest alpha {text}"
    more = f", direct response {direct:.6g}" if abs(direct) > 0 else ""
    return f"{'one mode' if len(modes) == 1 else f'{len(modes)} modes'}, {text}{more}"


def _clipping(given: str, side: Pairs) -> str:
    if given == ABSENT:
        return "none"
    threshold, hardness = _value(side, "clipping", "threshold"), _value(side, "clipping", "hardness")
    if threshold == 0:
        return "by sign"
    return f"clips at {threshold:.4g} ({'hard' if hardness < HARD else 'soft'})"


def _schedule(given: str, side: Pairs) -> str:
    initial, peak, final = (_value(side, "schedule", quantity) for quantity in ("initial", "peak", "final"))
    if given == ABSENT:
        return f"constant rate {initial:.6g}"
    rise = "" if peak in (initial, final) else f" over {peak:.6g} (step {_value(side, 'schedule', 'peak_step'):.0f})"
    return f"rate from {initial:.6g}{rise} to {final:.6g}"


def _plainly(given: str, side: Pairs) -> str:
    """Of a mechanism that has no words of its own here."""
    del side
    return "none" if given == ABSENT else given


def _adaptation(given: str, side: Pairs) -> str:
    if given == ABSENT:
        return "none"
    names = {"exponent": "exponent", "knee": "knee at gradient", "time_constant": "time constant"}
    values = {words: _value(side, "adaptation", quantity) for quantity, words in names.items()}
    return ", ".join(f"{words} {value:.4g}" for words, value in values.items() if np.isfinite(value)) or "present"


def _rates_words(a: Examination, b: Examination) -> str:
    """From which step the effective learning rates part, or their constant ratio."""
    one, other = (found.schedule.table["effective_learning_rate"].to_numpy() for found in (a, b))
    size = np.maximum(np.abs(one), np.abs(other))
    if not np.isfinite(size).all() or not (size > 0).all():
        return ""
    apart = np.abs(one - other) > TOLERANCE * size
    first = int(np.argmax(apart))
    if apart.any() and first > 0:
        return f"; the rates are equal up to step {first - 1}"
    ratio = other / one if (one != 0).all() else np.array([np.nan])
    if apart.any() and np.ptp(ratio) <= TOLERANCE * np.abs(ratio).max():
        return f"; B's rate is {ratio[0]:.6g} times A's throughout"
    return ""


def _compare_far_clipping(a: Optimizer, b: Optimizer, probes: Driven, tolerance: float) -> tuple[list[Row], list[str]]:
    """Where updates part under large gradients alone: a threshold beyond the reach of the examination.

    Read in the initial state, up to the largest gradient that the probes have.
    """
    _, above = _parting_sizes(probes, tolerance)
    if not np.isfinite(above):
        return [], []
    limit = float(np.abs(probes.drive.gradients).max())
    levels = []
    for optimizer in (a, b):
        place = Place("initial", 0.0, np.asarray(optimizer.initial_state(), np.float64))
        levels.append(float(clipping(optimizer, [place], np.zeros(1), limit=limit)["threshold"].iloc[0]))
    one, other = levels
    same = _overlap((one, one, one), (other, other, other))
    said = [
        f"{label} does not clip" if np.isnan(level) else f"{label} clips at {level:.6g}"
        for label, level in zip("AB", levels, strict=True)
    ]
    row: Row = ("clipping", "far_threshold", 0, one, one, one, other, other, other, same)
    where = "beyond the gradients that the examination reaches"
    return [row], [] if same else [f"clipping, {where}: {'; '.join(said)}"]
