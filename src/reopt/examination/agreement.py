"""Two ways to one number: readings that imply each other must agree, or neither says anything.

Each pair is read by ways that share no derivative, state or trajectory:

    momentum    sum of alpha, by the modes of J           =  clipping  slope of the update at zero gradient, at rest
    momentum    sum of alpha                              =  schedule  rate at the step whose clock is held, once the
                                                                       trajectory without gradients has come to rest
    momentum    memory, by the powers of J                =  momentum  memory, by alpha and beta
    clipping    slope of the update in the initial state  =  schedule  initial
    adaptation  rate on the arm at no gradient            =  clipping  slope at zero gradient, with the same clock
    momentum    sum of alpha beside a zero under a root   =  the same a little further from it

A pair agrees where the difference is within both intervals and the rounding of either way. What cannot be compared is
not: sums of modes behind a step, a trajectory that has not come to rest (which is said).
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from reopt.dynamics.autonomous import BESIDE
from reopt.dynamics.linearization import Linearization
from reopt.mechanisms.base import ABSENT, UNDETERMINED, Finding, Row
from reopt.mechanisms.modes import impulse_memory, modes
from reopt.mechanisms.momentum import BOUNDS as MEMORY
from reopt.mechanisms.update_function import evaluate_update_functions

if TYPE_CHECKING:
    from reopt.examination.examination import Examination

ROUNDING = 1e-10  # of sums of products, in units of their largest part
AT_REST = 1e-9  # distance of the trajectory's end from the point of rest, in units of the states met
SENSITIVE = 1e3  # times as far as its state, in relative terms, a rate may be
FURTHER = 1e20  # times as far from a zero
UNSETTLED = 1e-3  # relative difference of the last rate from that at rest that is worth a word


class Pair(NamedTuple):
    """Two readings that must agree: what they are, which mechanisms they belong to, both values, and how far apart
    they may be beyond their intervals."""

    words: str
    mechanisms: tuple[str, ...]
    one: tuple[float, float, float]  # value, low, high
    other: tuple[float, float, float]
    slack: float

    @property
    def agree(self) -> bool:
        """Whether the intervals, widened by the slack, overlap; what is no number says nothing."""
        if not np.isfinite([self.one[0], self.other[0]]).all():
            return True
        return max(self.one[1], self.other[1]) - min(self.one[2], self.other[2]) <= self.slack


def checked(found: "Examination", findings: list[Finding]) -> list[Finding]:
    """The findings; those whose readings contradict each other undetermined, with both numbers in their why."""
    told = {one.mechanism: one for one in findings}
    if not {"momentum", "clipping", "schedule", "adaptation"} <= set(told):
        return findings
    for pair in pairs(found, told):
        if not pair.agree:
            why = f"two ways to one number disagree: {pair.words} ({pair.one[0]:.9g} and {pair.other[0]:.9g})"
            for name in pair.mechanisms:
                told[name] = told[name]._replace(verdict=UNDETERMINED, why=f"{told[name].why}; {why}")
    if words := _not_at_rest(found, told):
        told["schedule"] = told["schedule"]._replace(why=f"{told['schedule'].why}; {words}")
    told["adaptation"] = _as_far_as_settled(found, told["adaptation"])
    return [told[one.mechanism] for one in findings]


def _as_far_as_settled(found: "Examination", finding: Finding) -> Finding:
    """The knee with an interval as wide as the law of the rate still moves while the clock goes on.

    A schedule that ends can keep the clock of the arms from where a bias correction is over: then the rates with half
    of that clock, each over that at rest, are others.
    """
    table, clock = found.far.middle.table, found.optimizer.clock
    good = (table["converged"] & (table["gradient"] != 0)).to_numpy()
    if clock is None or not good.any() or not _rows(finding, "knee"):
        return finding
    laws = []
    for step in (found.far_clock, np.floor(found.far_clock / 2)):
        states = np.concatenate([found.linearization.point[None], found.far.middle.states[good]])
        states[:, clock] = step
        rates = -evaluate_update_functions(found.smooth, states, np.zeros(1))[1][:, 0]
        if not np.isfinite(rates).all() or (rates == 0).any():
            return finding
        laws.append(rates[1:] / rates[0])
    moves = float(np.max(np.abs(laws[1] / laws[0] - 1)))
    if not moves > UNSETTLED:
        return finding
    rows = [
        (*row[:3], row[3] / (1 + moves), row[4] * (1 + moves), row[5]) if row[0] == "knee" else row
        for row in finding.readings
    ]
    words = f"with the clock at step {found.far_clock:.0f} the rates have settled to {moves:.1%} only"
    return finding._replace(readings=rows, why=f"{finding.why}; {words}")


def pairs(found: "Examination", findings: dict[str, Finding]) -> list[Pair]:
    """Every pair of readings of this examination that must agree."""
    made = [*_of_the_start(found), *_of_the_arms(found)]
    if found.switching is None:
        made += [*_of_the_slope(found, findings), *_of_the_memory(found, findings), *_beside_a_zero(found, findings)]
        made += _of_the_trajectory(found, findings)
    return made


def _rows(finding: Finding, quantity: str) -> list[Row]:
    return [row for row in finding.readings if row[0] == quantity]


def _alpha(findings: dict[str, Finding]) -> tuple[float, float, float]:
    """Sum of alpha over the modes listed, with its interval."""
    rows = np.array([row[2:5] for row in _rows(findings["momentum"], "alpha_real")]).reshape(-1, 3)
    value, low, high = rows.sum(axis=0)
    return float(value), float(low), float(high)


def _scale(linear: Linearization) -> float:
    """Size of the parts of the response at once, which may cancel in their sum."""
    return float(np.abs(linear.readout) @ np.abs(linear.input) + abs(linear.direct))


def _rounding(linear: Linearization) -> float:
    """How far the sum of alpha may be from C B + D by rounding: more where eigenvectors are nearly parallel."""
    found = modes(linear)
    faint = 1e-6 * len(found.alpha) * float(np.abs(found.alpha).sum() + abs(found.direct))  # modes that are not listed
    listed = np.abs(found.alpha) > 0
    parts = float(np.abs(found.alpha[listed]).sum())
    size = max(parts, _scale(linear))
    lost = 16 * np.finfo(float).eps * float(found.condition) * size if size > 0 else 0.0
    return ROUNDING * _scale(linear) + lost + (faint if _unlisted(linear) else 0.0)


def _unlisted(linear: Linearization) -> bool:
    """Whether there are modes that hear a gradient and are too faint to be listed."""
    found = modes(linear)
    sizes = np.append(np.abs(found.alpha), abs(found.direct))
    return bool(((sizes > 0) & (sizes <= 1e-6 * sizes.sum())).any())


def _of_the_slope(found: "Examination", findings: dict[str, Finding]) -> list[Pair]:
    slopes = _rows(findings["clipping"], "slope")
    if not slopes or not np.isfinite(slopes[0][2]):
        return []
    words = "the sum of alpha, and the slope of the update at zero gradient"
    slack = _rounding(found.linearization)
    return [Pair(words, ("momentum", "clipping"), _alpha(findings), slopes[0][2:5], slack)]


def _of_the_trajectory(found: "Examination", findings: dict[str, Finding]) -> list[Pair]:
    """Where the autonomous trajectory has come to the reference by the step whose clock is held."""
    rates = found.schedule.table["effective_learning_rate"].to_numpy()
    step = int(found.clock)
    if not found.settled or not np.isfinite(rates).all() or step >= len(rates) or not _came_to_rest(found, step):
        return []
    if found.clipping["jump"].ne(0).any():
        return []
    rate, alpha = float(rates[step]), _alpha(findings)
    half = ROUNDING * abs(rate)
    words = f"the sum of alpha, and the rate at step {step} of the schedule"
    slack = _rounding(found.linearization) + SENSITIVE * AT_REST * abs(rate)
    return [Pair(words, ("momentum", "schedule"), alpha, (rate, rate - half, rate + half), slack)]


def _came_to_rest(found: "Examination", step: int) -> bool:
    """Whether each component is at its value at rest by then, in units of the values that the runs met, and so is the
    rate: a second moment far below those met may still be on its way, and decide it."""
    free = np.setdiff1d(np.arange(found.optimizer.state_size), found.linearization.held)
    met = np.abs(np.asarray(found.met.states, np.float64))
    met = np.where(np.isfinite(met), met, 0.0).max(axis=tuple(range(met.ndim - 1)), initial=0.0)
    state, point = found.coasted(step), found.linearization.point
    if (np.abs(state - point)[free] > AT_REST * np.maximum(met[free], np.abs(state[free]))).any():
        return False
    here, rest = _rate(found, state), _rate(found, point)
    return abs(here - rest) <= SENSITIVE * AT_REST * max(abs(here), abs(rest))


def _not_at_rest(found: "Examination", findings: dict[str, Finding]) -> str:
    """What the rate would come to where the trajectory is still on its way at the end, if that is far off."""
    final = _rows(findings["schedule"], "final")
    rates = _rows(findings["clipping"], "slope")
    if not found.settled or not final or not rates or not np.isfinite(rates[0][2]) or found.switching is not None:
        return ""
    last, rest = final[0][2], rates[0][2]
    if found.clock != found.settings.num_steps - 1 or abs(last - rest) <= UNSETTLED * max(abs(last), abs(rest)):
        return ""
    return f"by the last step the state has not come to rest, where the rate is {rest:.6g} (the last is {last:.6g})"


def _of_the_memory(found: "Examination", findings: dict[str, Finding]) -> list[Pair]:
    """Memory by the modes listed, |sum_j alpha_j beta_j^k| summed over lags."""
    memory = _rows(findings["momentum"], "memory")
    parts = [
        np.array([row[2] for row in _rows(findings["momentum"], f"{name}_{part}")])
        for name in ("alpha", "beta")
        for part in ("real", "imag")
    ]
    if not memory or not parts[0].size or (np.hypot(parts[2], parts[3]) > 1 - 1e-4).any():
        return []  # too slow to be summed here
    rest = impulse_memory(found.linearization)
    if MEMORY.verdict(rest) == ABSENT and MEMORY.verdict(memory[0][2]) != ABSENT and _scale(found.linearization) > 0:
        return []  # the memory is that of finite gradients, alpha and beta are those at rest
    alpha, beta = parts[0] + 1j * parts[1], parts[2] + 1j * parts[3]
    slowest = float(np.abs(beta).max())
    lags = 2 if slowest < 1e-6 else int(np.ceil(np.log(1e-14) / np.log(slowest))) + 2
    response = np.abs(np.real(beta[None, :] ** np.arange(lags)[:, None] @ alpha))
    total = float(response.sum())
    if total == 0:
        return []
    value = float(response[1:].sum() / total)
    slack = (_rounding(found.linearization) + 1e-5 * float(np.abs(alpha).sum())) / total / (1 - slowest)
    words = "the memory by the powers of J, and that by alpha and beta"
    return [Pair(words, ("momentum",), memory[0][2:5], (value, value, value), slack)]


def _of_the_start(found: "Examination") -> list[Pair]:
    start = found.clipping[found.clipping["place"] == "initial"]
    rate = float(found.schedule.table["effective_learning_rate"].iloc[0])
    if not len(start) or found.clipping["jump"].ne(0).any():
        return []
    slope = -float(start["slope_at_zero"].iloc[0])
    words = "the first rate of the schedule, and the slope of the update in the initial state"
    return [Pair(words, ("schedule", "clipping"), (rate,) * 3, (slope,) * 3, ROUNDING * max(abs(rate), abs(slope)))]


def _of_the_arms(found: "Examination") -> list[Pair]:
    """The arm at no gradient begins at the reference: the rate there is the slope, with the clock of the arms."""
    table = found.far.middle.table
    rest = table[(table["arm"] == "zero") & table["converged"]]
    if not len(rest) or found.clipping["jump"].ne(0).any() or not found.settled:
        return []
    rate, slope = float(rest["effective_learning_rate_at_zero"].iloc[0]), _rate(found, found.linearization.point, True)
    slack = SENSITIVE * AT_REST * max(abs(rate), abs(slope))
    words = "the rate under no gradient, and the slope of the update at rest"
    return [Pair(words, ("adaptation", "clipping"), (rate,) * 3, (slope,) * 3, slack)]


def _rate(found: "Examination", state: np.ndarray, of_arms: bool = False) -> float:
    """Minus the slope at zero gradient in a state, with the clock of the reference or of the arms."""
    state = np.array(state, np.float64)
    if of_arms and found.optimizer.clock is not None:
        state[found.optimizer.clock] = found.far_clock
    return -float(evaluate_update_functions(found.smooth, state[None], np.zeros(1))[1][0, 0])


def _beside_a_zero(found: "Examination", findings: dict[str, Finding]) -> list[Pair]:
    """Where the reference stands beside a zero: a slope there that follows the distance has no limit."""
    state = found.linearization.point
    near = (state > 0) & (state <= BESIDE[-1])
    if not near.any():
        return []
    one, other = _rate(found, state), _rate(found, np.where(near, np.minimum(FURTHER * state, BESIDE[-1]), state))
    slack = ROUNDING * max(abs(one), abs(other))
    words = "the slope beside a zero under a root, and the same further from it"
    return [Pair(words, ("momentum", "clipping"), (one,) * 3, (other,) * 3, slack)]
