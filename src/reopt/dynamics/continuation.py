"""Branches of fixed points h = F(h, g), followed in the constant gradient g.

Plain iteration does not come to rest where the slowest mode takes more steps than it is given, or where the point
repels; damped Newton from there stops at slow points. A branch that is followed from a point that is known leads to
them. Pseudo-arclength continuation (Keller, in Applications of Bifurcation Theory, Academic Press 1977; Allgower and
Georg, Introduction to Numerical Continuation Methods, SIAM 2003, chapters 2 and 6): the unknowns are y = (h, s) with
s = asinh(g / unit), which is the logarithm of g for what is large and g itself for what is small. A step goes along the
tangent t of the branch,

    y' = y + length t,   then Newton's method on   h - F(h, g(s)) = 0,   t (y - y') = 0,

so that it passes folds, where the branch turns back in g. The length grows while Newton's method needs few steps, and
is halved where it fails or the tangent has turned. Where the branch crosses a gradient that is asked for, damped Newton
at this gradient finishes the point.
"""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from threadpoolctl import threadpool_limits

from reopt.dynamics.autonomous import FreeSystem, jacobians
from reopt.dynamics.batches import argument, pad
from reopt.dynamics.root_finding import FEW, newton

LONGEST, SHORTEST, FIRST = 0.5, 1e-7, 0.05  # lengths of a step; 0.5 is a factor of 1.6 in a large gradient
CORRECTIONS = 8  # Newton steps back to the branch
EASY = 3  # Newton steps after which the next step is longer
SETTLED = 1e-4  # a Newton step that is this short has come to the branch: the next is far below
HELD = 8 * float(np.finfo(float).eps) / SETTLED  # size of a row of I - J in which rounding moves a state by that
TURN = 0.8  # least cosine between the tangents at both ends of a step
BEYOND = 1.0  # how far in s the branch is followed beyond the largest |gradient|, of either sign: it may come back


class Branch(NamedTuple):
    """A fixed point under each gradient asked for; NaN, with an infinite residual, where the branch was lost first."""

    states: Float[np.ndarray, "gradient free"]
    residual: Float[np.ndarray, " gradient"]  # ||h - F(h, g)||_2


class _Place(NamedTuple):
    """A place y = (h, s) on the branch and the unit tangent there, in units of `_scale`."""

    at: np.ndarray
    tangent: np.ndarray


class _Equation(NamedTuple):
    """h - F(h, g(s)) = 0 as a function of y = (h, s)."""

    system: FreeSystem
    unit: float
    tolerance: float

    def gradient(self, at: np.ndarray) -> float:
        return float(self.unit * np.sinh(at[-1]))

    def look(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(h - F(h, g), its derivative by y: [free, free + 1])."""
        # Products for few rows are cut within their sums, into as many parts as there are cores.
        states, gradients = pad(at[None, :-1], FEW), np.full(FEW, self.gradient(at))
        after, drive, matrices = (
            np.asarray(part)[0] for part in _derivatives(self.system, argument(states), argument(gradients))
        )
        slope = -drive * self.unit * np.cosh(at[-1])
        return at[:-1] - after, np.concatenate([np.eye(len(after)) - matrices, slope[:, None]], axis=1)

    def solved(self, state: np.ndarray, residual: float) -> bool:
        return residual <= self.tolerance * max(1.0, float(np.linalg.norm(state)))


def follow_branch(
    system: FreeSystem,
    start: Float[np.ndarray, " free"],
    gradient: float,
    targets: Sequence[float],
    *,
    unit: float,
    tolerance: float,
    max_steps: int = 400,
) -> Branch:
    """Fixed points under each of `targets` on the branch through the fixed point `start` under `gradient`.

    **Arguments:** `targets` go away from `gradient`, each farther than the last, on one side of it; `unit` is the
    |gradient| below which the branch is followed in g, above it in log g; `tolerance`: a point counts as found when
    ||h - F(h, g)||_2 <= tolerance max(1, ||h||); `max_steps` are those along the branch, for all targets together. Call
    it inside `double_precision`.

    Where a target lies beyond a fold the branch is followed around it. It is lost where it leaves the range of the
    gradients, where `max_steps` are spent, or where no step is short enough; nothing is said then of other branches.
    """
    found = Branch(np.full((len(targets), system.size), np.nan), np.full(len(targets), np.inf))
    if not len(targets) or not system.size:
        return found
    equation = _Equation(system, unit, tolerance)
    ends = np.arcsinh(np.array([gradient, *targets]) / unit)
    way, far = np.sign(ends[-1] - ends[0]), np.abs(ends).max() + BEYOND
    with threadpool_limits(1, "blas"), np.errstate(over="ignore", invalid="ignore"):
        place = _begin(equation, np.append(start, ends[0]), way)
        length, number = FIRST, 0
        for _ in range(max_steps):
            if place is None or length < SHORTEST or abs(place.at[-1]) > far:
                break
            reached, corrections = _step(equation, place, length)
            if reached is None:
                length *= 0.5
            elif way * reached.at[-1] < way * ends[number + 1]:
                place, length = reached, min(LONGEST, length * (1.5 if corrections <= EASY else 1.0))
            elif (landed := _land(equation, place, reached, targets[number], ends[number + 1])) is None:
                length *= 0.5
            else:  # the step may pass more targets: it is taken again from here
                found.states[number], found.residual[number] = landed
                place = _begin(equation, np.append(landed[0], ends[number + 1]), way, place)
                number += 1
                if number == len(targets):
                    break
    return found


def _scale(at: np.ndarray) -> np.ndarray:
    """What lengths along the branch are measured in: the state by its norm, s by itself."""
    scale = np.full(len(at), 1 + np.linalg.norm(at[:-1]))
    scale[-1] = 1.0
    return scale


def _begin(equation: _Equation, at: np.ndarray, way: float, before: _Place | None = None) -> _Place | None:
    """A place on the branch with the tangent that goes on as `before`, or toward larger `way` s; None without one."""
    along = np.append(np.zeros(len(at) - 1), way) if before is None else before.tangent
    tangent = _tangent(equation.look(at)[1], at, along)
    return None if tangent is None else _Place(at, tangent)


def _tangent(derivative: np.ndarray, at: np.ndarray, along: np.ndarray) -> np.ndarray | None:
    """The unit tangent on the side of `along`; None where the branch has none, or more than one."""
    tangent = _solve(derivative * _scale(at), np.zeros(len(at) - 1), along, 1.0)
    length = np.linalg.norm(tangent)
    return tangent / length if np.isfinite(length) and length > 0 else None


def _solve(rows: np.ndarray, gap: np.ndarray, last: np.ndarray, value: float) -> np.ndarray:
    """x with rows x = gap and last x = value, NaN if there is none; rows scaled to like size.

    A saturated gate makes all of its component's row small, and its gap: what is left of a row of size HELD is
    rounding, and the component stays as it is.
    """
    size = np.abs(rows).max(axis=1)
    held = np.flatnonzero(size <= HELD)
    scaled, side = rows / np.maximum(size, HELD)[:, None], gap / np.maximum(size, HELD)
    scaled[held], side[held] = np.eye(len(last))[held], 0.0
    try:
        return np.linalg.solve(np.concatenate([scaled, last[None]]), np.append(side, value))
    except np.linalg.LinAlgError:
        return np.full(len(last), np.nan)


def _step(equation: _Equation, place: _Place, length: float) -> tuple[_Place | None, int]:
    """(where a step along the tangent leads, None if it fails; Newton steps taken)."""
    aim = place.at + length * _scale(place.at) * place.tangent
    at, derivative, taken = _correct(equation, aim, place.tangent, length)
    tangent = None if at is None else _tangent(derivative, at, place.tangent)
    if at is None or tangent is None or tangent @ place.tangent < TURN:
        return None, taken
    return _Place(at, tangent), taken


def _correct(
    equation: _Equation, aim: np.ndarray, across: np.ndarray, reach: float
) -> tuple[np.ndarray | None, np.ndarray, int]:
    """Newton's method from `aim` to the branch, in the plane across `across`, no farther than `reach`.

    Gives (place, None if it fails; the derivative there; steps taken). It ends where the residual is small enough and
    so is the next step: where a mode is slow, a small residual may still be some way off.
    """
    at, scale = aim, _scale(aim)
    for taken in range(CORRECTIONS):
        gap, derivative = equation.look(at)
        if not (np.isfinite(gap).all() and np.isfinite(derivative).all()):
            break
        change = _solve(derivative * scale, gap, across, float(across @ ((at - aim) / scale)))
        small = equation.solved(at[:-1], float(np.linalg.norm(gap)))
        if small and np.linalg.norm(change) <= SETTLED:
            return at, derivative, taken
        at = at - scale * change
        if not np.linalg.norm((at - aim) / scale) <= reach:
            break  # it has left for another branch
    return None, np.zeros((0, len(aim))), CORRECTIONS


def _land(
    equation: _Equation, place: _Place, reached: _Place, target: float, end: float
) -> tuple[np.ndarray, float] | None:
    """(state, residual) under the gradient `target`, whose s is `end`, that a step passes; None if it is missed."""
    share = (end - place.at[-1]) / (reached.at[-1] - place.at[-1])
    between = np.append((1 - share) * place.at[:-1] + share * reached.at[:-1], end)
    reach = float(np.linalg.norm((reached.at - place.at) / _scale(place.at)))
    held = np.append(np.zeros(len(between) - 1), 1.0)
    at, _, _ = _correct(equation, between, held, reach)
    if at is None:
        return None
    sharp = newton(
        equation.system,
        at[None, :-1],
        np.array([target]),
        tolerance=equation.tolerance,
        max_iterations=30,
        chunk=1,
        polish=True,
    )
    state, residual = sharp.states[0], float(sharp.residual[0])
    return (state, residual) if equation.solved(state, residual) else None


@eqx.filter_jit
def _derivatives(system: FreeSystem, states: Array, gradients: Array) -> tuple[Array, Array, Array]:
    """F(h, g), dF/dg and dF/dh of each row."""
    after, drive = jax.vmap(lambda h, g: jax.jvp(lambda held: system.step(h, held), (g,), (jnp.ones_like(g),)))(
        states, gradients
    )
    return after, drive, jacobians(system, states, gradients)
