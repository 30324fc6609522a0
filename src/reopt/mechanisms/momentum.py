"""Momentum: how much of the answer to a gradient comes later, and by which buffers."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from reopt.core.errors import ReoptError
from reopt.mechanisms.base import (
    ABSENT,
    PRESENT,
    UNDETERMINED,
    Bounds,
    Finding,
    Findings,
    Mechanism,
    Row,
    exact,
    share,
    unless_rough,
    within,
)
from reopt.mechanisms.interventions import intervene, removed
from reopt.mechanisms.modes import impulse_memory, modes
from reopt.mechanisms.sign_updates import Switching

if TYPE_CHECKING:
    from reopt.examination.examination import Examination

BOUNDS = Bounds(absent=0.005, present=0.02)
FAINT = 1e-6  # modes with less than this share of all |alpha| are not listed
LONG = 4000  # lags over which memory behind a step is summed
EXACT = 1e-12  # relative error of what is exact to rounding
LATER = "of the response to a gradient comes in later steps"
AT_ONCE = 1e-12  # a |beta| that is no delay


def measure(found: "Examination", findings: Findings) -> Finding:
    """Modes of the linearization at rest (update = -sum_j Re(alpha_j v_j), v_j <- beta_j v_j + g), and its memory.

    A row of `alpha_real`, `alpha_imag` (update / gradient), `beta_real`, `beta_imag` (1) and `timescale` (steps,
    -1 / ln |beta|) a mode, by falling |alpha|; a complex pole is a pair of modes, conjugate to each other, each with
    half of the alpha of the one real buffer. What the update takes from a gradient at once is the mode with beta = 0
    (Nesterov's: lr) and the reading `direct`. `memory` is sum_{k>=1} |r_k| / sum_{k>=0} |r_k| of the impulse response
    r: beta for a single buffer, 0 without one. It does not depend on eigenvectors, which mislead where the Jacobian is
    far from normal.

    Where the update jumps with the sign of the gradient (sign-SGD, Lion) there is no slope; then the modes are those
    of what the sign is taken of, or of what comes after it (`reopt.mechanisms.sign_updates`), and alpha is in units of
    the response to a gradient at once: behind a step only ratios can be seen.

    An alpha is known to the rounding of the sums and eigenvectors that make it (`reopt.mechanisms.modes`): what is no
    more than that is 0, and where modes nearly coincide its interval is wide.

    Where no gradient is remembered at rest, single gradients of the sizes met are given as well
    (`reopt.mechanisms.finite_probes`), for a gate or mask may be closed there. `memory` is then the share of the answer
    that comes later and adds to the update, the largest over the sizes, with its range over them, and so is `direct`.

    First comes what holds where the optimizer works (`reopt.mechanisms.operating_point`): `memory_in_runs` and
    `rate_in_runs`, medians over the states of the runs with the range that holds 90% of them. Absent at rest and
    present there is undetermined.

    What this cannot see: modes with less than FAINT of all |alpha|; the single alphas of modes that coincide.
    """
    del findings
    count, isolated = len(found.points.points), bool(found.points.isolated.all())
    places = f"{count} fixed point{'s' * (count != 1)} at zero gradient"
    if not isolated:
        places = "without a gradient every state on a line stays where it is (a continuum of fixed points)"
    rows: list[Row] = [("fixed_points", 0, *exact(count if isolated else np.inf), "1")]
    answer = _at_rest(found) if found.switching is None else _behind_sign(found.switching)
    given = BOUNDS.verdict(answer.memory[0])
    if given == ABSENT:  # a gate that is closed at rest may hide a buffer
        given, answer = _at_finite_gradients(found, answer)
    in_runs, rows_in_runs, told = _in_runs(found)
    if given == ABSENT and BOUNDS.verdict(in_runs) == PRESENT:
        given, told = UNDETERMINED, f"{told}, but at rest it is absent"
    given, rough = unless_rough(found, given)
    rows += rows_in_runs
    rows += [("memory", 0, *answer.memory, "1"), ("direct", 0, *answer.direct, answer.unit), *_mode_rows(answer)]
    later = f"at rest {answer.memory[0]:.1%}; " if told else f"{answer.memory[0]:.1%} {LATER}; "
    why = f"{later}{places}" if np.isfinite(answer.memory[0]) else places
    return Finding("momentum", given, "; ".join(part for part in (told, why, answer.told, rough) if part), rows)


def _in_runs(found: "Examination") -> tuple[float, list[Row], str]:
    """Median memory, readings and words of the states of the runs."""
    memory, rate = (found.operating.spread(quantity) for quantity in ("memory", "rate"))
    rows: list[Row] = [("rate_in_runs", 0, *rate, "update / gradient")] if np.isfinite(rate[0]) and rate[0] else []
    if not np.isfinite(memory[0]):
        return np.nan, rows, ""
    return memory[0], [("memory_in_runs", 0, *memory, "1"), *rows], f"in the runs {_range(memory)} {LATER}"


def _range(values: tuple[float, float, float]) -> str:
    """A median in percent, with its range where that shows."""
    median, low, high = (f"{value:.1%}" for value in values)
    return median if low == high else f"{median} ({low} to {high})"


class _Answer(NamedTuple):
    """What an update takes from earlier gradients: buffers, the answer at once and the memory, as (value, low, high),
    and words on where it was read."""

    alpha: np.ndarray
    beta: np.ndarray
    error: np.ndarray
    direct: tuple[float, float, float]
    memory: tuple[float, float, float]
    told: str = ""
    unit: str = "update / gradient"


def _at_rest(found: "Examination") -> _Answer:
    """By the linearization."""
    table = found.modes
    alpha = (table["alpha_real"] + 1j * table["alpha_imag"]).to_numpy()
    beta = (table["beta_real"] + 1j * table["beta_imag"]).to_numpy()
    rounding = modes(found.linearization).rounding
    if (count := (table["kind"] == "mode").sum()) != rounding.size:  # the table may be one that was stored
        words = f"{count} momentum modes for a linearization with {rounding.size}"
        raise ReoptError(f"{found.origin('modes')}: {words}: it is damaged, or of another examination")
    error = np.maximum(EXACT * np.abs(alpha), np.append(rounding, np.zeros(alpha.size - rounding.size)))
    # Without a delay a mode is what the update takes from the gradient at once, by whatever way it came: a difference
    # of terms of the size of all alphas, of which no more is known than their rounding.
    at_once = np.abs(beta) < AT_ONCE
    total = float(np.real(alpha[at_once]).sum())
    direct = within(total, EXACT * float(np.abs(alpha[~at_once]).sum() + abs(total)))
    memory = share(impulse_memory(found.linearization))
    return _Answer(alpha[~at_once], beta[~at_once], error[~at_once], direct, memory)


def _behind_sign(step: Switching) -> _Answer:
    """By the gradients at which the update switches, or by the answers after the step."""
    response = np.abs(np.real(step.beta[None, :] ** np.arange(1, LONG)[:, None] @ step.alpha)).sum()
    where = "behind" if step.behind else "after"
    told = (
        f"buffers {where} the step by which the update follows a sign" if step.alpha.size else "no buffer by the step"
    )
    direct = within(step.direct, EXACT * float(np.abs(step.alpha).sum() + abs(step.direct)))
    memory = exact(float(response / (1 + response)))
    return _Answer(step.alpha, step.beta, EXACT * np.abs(step.alpha), direct, memory, told, "1")


def _at_finite_gradients(found: "Examination", rest: _Answer) -> tuple[str, _Answer]:
    """The verdict by single gradients of the sizes met, where none of them is remembered at rest."""
    probes = found.finite
    if probes.stateless or probes.silent:
        return ABSENT, rest
    seen = probes.memory()
    if not seen.answers:
        told = f"no gradient up to {probes.sizes[-1]:.3g} moves the update: there is nothing to read"
        return UNDETERMINED, rest._replace(memory=(np.nan,) * 3, told=told)
    given = BOUNDS.verdict(seen.share[0])
    dead = rest.direct[0] == 0 and not rest.alpha.size  # no slope at rest: all is read at finite gradients
    if dead:
        at_once = np.asarray(seen.direct) - float(np.real(seen.alpha).sum())
        rest = rest._replace(direct=tuple(at_once.tolist()), alpha=seen.alpha, beta=seen.beta, error=seen.error)
    if given == ABSENT and seen.other <= BOUNDS.present:
        return given, rest._replace(memory=seen.share) if dead else rest
    told = "read from single gradients of the sizes met, one sign against the other"
    if given != ABSENT:
        return given, rest._replace(memory=seen.share, told=told)
    told = "the update depends on the signs of gradients before, but not by adding them: a gate or a buffer"
    return UNDETERMINED, rest._replace(memory=(seen.share[0], 0.0, max(seen.share[2], seen.other)), told=told)


def _mode_rows(answer: _Answer) -> list[Row]:
    """A row for each part of alpha and beta, and the timescale, by falling |alpha|; the direct answer is one more."""
    direct, low, high = answer.direct
    alpha, beta = np.append(answer.alpha, direct), np.append(answer.beta, 0)
    error = np.append(answer.error, max(direct - low, high - direct))
    weight = np.abs(alpha) / max(np.abs(alpha).sum(), 1e-300)
    rows: list[Row] = []
    index = 0
    for i in np.argsort(-weight.round(9), kind="stable"):  # the last digits of a conjugate pair decide nothing
        if not weight[i] > FAINT:
            continue
        real = answer.direct if i == answer.alpha.size else within(alpha[i].real, error[i])
        size = abs(beta[i])
        timescale = 0.0 if size == 0 else -1 / np.log(size) if size != 1 else np.inf
        rows += [
            ("alpha_real", index, *real, answer.unit),
            ("alpha_imag", index, *within(alpha[i].imag, error[i]), answer.unit),
            ("beta_real", index, *within(beta[i].real, EXACT * size), "1"),
            ("beta_imag", index, *within(beta[i].imag, EXACT * size), "1"),
            ("timescale", index, *exact(timescale), "steps"),
        ]
        index += 1
    return rows


MECHANISM = Mechanism(
    name="momentum",
    number="memory: share of the response to a single gradient that comes after its own step",
    bounds=BOUNDS,
    measure=measure,
    order=10,
    remove=lambda optimizer, linearization: intervene(optimizer, linearization, removed("momentum")),
)
