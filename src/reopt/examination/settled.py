"""The settled answer of an optimizer to a constant gradient, however long it would take to get there.

A run does not settle a second moment with a decay of 0.9999, one that starts at 1 and must fall below the square of a
tiny eps, or a bias correction. So the state of rest is solved for, with all counts of steps held,

    h <- F(h - (I - J)^-1 (h - F(h, g)), g),    J = dF/dh,

a Newton step and a plain one, by which what has no memory follows what has; each component in units of its own size.
Then the counts are held farther and farther on, until the answers do not change any more: a bias correction is over
there. Where they vanish or never settle (a schedule that ends at 0), the counts that make them so stay at the last step
of the run; where one count does both, the ratios of the answers still have a limit, and the answers themselves are
known only if the run had settled.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from reopt.core.errors import ReoptError
from reopt.dynamics.precision import double_precision
from reopt.optimizers.learned import cast

RUN = 1000  # steps of the run from whose end the state of rest is sought
FARTHER, FARTHEST = 4, 1e9  # factor between two places where counts are held, and the last of them
ITERATIONS = 60
CLOSE = 1e-12  # relative step from which on a search is done
SETTLED = 1e-6  # relative distance to the state of rest, and to the limit of the counts, that is still taken
MARGIN = 1e-9  # of a spectral radius from 1
SILENT = 1e-280  # an answer below this has lost its digits


class Settled(NamedTuple):
    """Answers, minus the updates, to each constant gradient in the state of rest, and their relative `error`.

    Where `scaled` only their ratios are known. Where nothing is, `answers` are NaN, and `why` says the reason.
    """

    answers: Float[np.ndarray, " gradient"]
    error: float = 0.0
    scaled: bool = False
    why: str = ""


def settled_answers(transformation: Any, gradients: Float[np.ndarray, " gradient"]) -> Settled:
    """The settled answers of an optax transformation (or what has its interface) on one parameter of value 0."""
    nothing = np.full(len(gradients), np.nan)
    with double_precision():
        system = cast(transformation, jnp.dtype("float64"))
        try:
            rest = _Rest(system, gradients)
            return _limit(rest)
        except ReoptError as error:
            return Settled(nothing, why=str(error))
        except Exception as error:  # whatever foreign code raises when it is differentiated
            return Settled(nothing, why=f"its state of rest cannot be solved for ({type(error).__name__})")


class _Rest:
    """States of rest of a transformation under constant gradients, with its counts of steps held."""

    def __init__(self, transformation: Any, gradients: np.ndarray) -> None:
        self.gradients = jnp.asarray(gradients)
        start, before, last, updates = _run(transformation, self.gradients)
        self.ran = -np.asarray(updates)
        names = [jax.tree.leaves(part) for part in (start, before, last)]
        self._structure = jax.tree.structure(last)
        self._transformation = transformation
        self._leaves = names[2]
        self._inexact = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in self._leaves]
        kinds = [_counts(*(np.asarray(part) for part in leaf)) for leaf in zip(*names, strict=True)]
        self._first = [np.asarray(leaf) for leaf in names[0]]
        self._counts = kinds
        self.counts = sum(int(kind.any()) for kind in kinds)
        for kind, inexact, old, new in zip(kinds, self._inexact, names[1], names[2], strict=True):
            if not inexact and not kind.all() and not np.array_equal(np.asarray(old), np.asarray(new)):
                raise ReoptError("it keeps a whole number that goes on changing under a constant gradient")
        floats = [leaf for leaf, inexact in zip(self._leaves, self._inexact, strict=True) if inexact]
        rows = [np.asarray(leaf, np.float64).reshape(len(gradients), -1) for leaf in floats]
        self._end = np.concatenate([np.zeros((len(gradients), 0)), *rows], axis=1)
        free = [~kind.reshape(-1) for kind, inexact in zip(kinds, self._inexact, strict=True) if inexact]
        self._free = np.flatnonzero(np.concatenate(free)) if free else np.zeros(0, int)
        self._step = eqx.filter_jit(jax.vmap(self._both, (0, 0, 0, None)))

    def _both(self, whole: Array, others: list[Array], gradient: Array, counts: Array) -> tuple[Array, Array, Array]:
        """F, dF/dh and the update at the free components of `whole`."""

        def advance(free: Array) -> tuple[Array, Array]:
            state = self._state(whole.at[self._free].set(free), others, counts)
            change, after = self._transformation.update(gradient[None], state, jnp.zeros(1))
            leaves = [leaf for leaf, inexact in zip(jax.tree.leaves(after), self._inexact, strict=True) if inexact]
            flat = jnp.concatenate([jnp.asarray(leaf, jnp.float64).ravel() for leaf in leaves] or [jnp.zeros(0)])
            return flat[self._free], change[0].astype(jnp.float64)

        free = whole[self._free]
        after, update = advance(free)
        return after, jax.jacfwd(lambda x: advance(x)[0])(free), update

    def _state(self, flat: Array, others: list[Array], counts: Array) -> Any:
        """The whole state of one sequence, with its counts set."""
        leaves, place, count, whole = [], 0, 0, iter(others)
        for leaf, kind, first, inexact in zip(self._leaves, self._counts, self._first, self._inexact, strict=True):
            shape, size = leaf.shape[1:], int(np.prod(leaf.shape[1:]))
            value = flat[place : place + size].reshape(shape) if inexact else next(whole)
            place += size if inexact else 0
            if kind.any():
                value = jnp.where(kind, jnp.asarray(first[0]) + counts[count].astype(leaf.dtype), value)
                count += 1
            leaves.append(value)
        return jax.tree.unflatten(self._structure, leaves)

    def solve(self, counts: Float[np.ndarray, " count"]) -> tuple[Float[np.ndarray, " gradient"], float]:
        """Answers at rest with these counts, and how far from rest the farthest state still is, relatively.

        **Raises** `ReoptError` where a state of rest is not found, or does not attract.
        """
        others = [leaf for leaf, inexact in zip(self._leaves, self._inexact, strict=True) if not inexact]
        states, free, held = self._end.copy(), self._free, jnp.asarray(counts)
        moved, radius = np.full(len(states), np.inf), np.zeros(len(states))
        for _ in range(ITERATIONS):
            after, jacobian, update = (
                np.asarray(part) for part in self._step(jnp.asarray(states), others, self.gradients, held)
            )
            new, moved, radius = _newton(states[:, free], after, jacobian)
            if moved.max(initial=0) <= CLOSE or not np.isfinite(moved).all():
                break
            states[:, free] = new
            after = np.asarray(self._step(jnp.asarray(states), others, self.gradients, held)[0])
            states[:, free] = np.where(np.isfinite(after), after, new)
        if not moved.max(initial=0) <= SETTLED:
            raise ReoptError("under a constant gradient its state comes to no rest")
        if radius.max(initial=0) > 1 + MARGIN:
            raise ReoptError("under a constant gradient its state of rest does not attract")
        # Where states of rest lie side by side, the way there decides: only a run that ended there tells which.
        marginal = radius > 1 - MARGIN
        if (np.abs(-update - self.ran) > SETTLED * np.abs(self.ran))[marginal].any():
            raise ReoptError("under a constant gradient its state hardly moves, and is not at rest")
        return -update, float(moved.max(initial=0))


def _counts(first: np.ndarray, before: np.ndarray, last: np.ndarray) -> Bool[np.ndarray, "..."]:
    """Which elements of a leaf [gradient, ...] count steps, whatever the gradient: elements without the first axis."""
    if last.dtype == bool:
        return np.zeros(last.shape[1:], bool)
    return ((last - before == 1) & (last - first == RUN)).all(axis=0)


@eqx.filter_jit
def _run(transformation: Any, gradients: Array) -> tuple[Any, Any, Any, Array]:
    """The states at the start, before and after the last step of a run, and the updates at that step."""
    params = jnp.zeros((len(gradients), 1))

    def body(carry: tuple[Any, Any, Array], _: None) -> tuple[tuple[Any, Any, Array], None]:
        state = carry[1]
        change, after = jax.vmap(transformation.update)(gradients[:, None], state, params)
        return (state, jax.tree.map(_as, after, state), change[:, 0].astype(jnp.float64)), None

    start = jax.tree.map(_long, jax.vmap(transformation.init)(params))
    (before, last, updates), _ = jax.lax.scan(body, (start, start, jnp.zeros(len(gradients))), None, length=RUN)
    return start, before, last, updates


def _as(after: Any, before: Any) -> Array:
    return jnp.asarray(after, jnp.asarray(before).dtype)


def _long(leaf: Any) -> Array:
    """Counts in 64 bits, and real numbers in double precision."""
    leaf = jnp.asarray(leaf)
    if jnp.issubdtype(leaf.dtype, jnp.floating):
        return leaf.astype(jnp.float64)
    return leaf.astype(jnp.int64) if leaf.dtype == jnp.int32 else leaf


def _newton(states: np.ndarray, after: np.ndarray, jacobian: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The Newton step from each row: (states, largest step relative to a component's size, spectral radius)."""
    new, moved, radius = states.copy(), np.zeros(len(states)), np.zeros(len(states))
    for i, (state, image, slope) in enumerate(zip(states, after, jacobian, strict=True)):
        sizes = np.maximum(np.abs(state), np.abs(image))
        units = np.where(sizes > 0, sizes, 1.0)
        with np.errstate(over="ignore", invalid="ignore"):
            scaled, gap = slope * units / units[:, None], (state - image) / units
        if not (np.isfinite(scaled).all() and np.isfinite(gap).all()):
            moved[i] = np.inf
            continue
        if state.size:
            # Least squares, for a largest moment met (AMSGrad) stays wherever it is.
            step = np.linalg.lstsq(np.eye(len(state)) - scaled, gap, rcond=None)[0]
            radius[i] = np.abs(np.linalg.eigvals(scaled)).max()
            new[i], moved[i] = state - step * units, max(np.abs(step).max(), np.abs(gap).max())
    return new, moved, radius


def _limit(rest: _Rest) -> Settled:
    """The answers with the counts as far on as they have a limit, else as the head of this module says."""
    if not rest.counts:
        return Settled(*rest.solve(np.zeros(0)))
    last = np.full(rest.counts, RUN - 1.0)
    found, ratios = _farther(rest, last, np.ones(rest.counts, bool))
    if found is not None:
        return found
    held, at_last = _last_answer(rest)
    if rest.counts > 1:
        alone = [_farther(rest, held, np.arange(rest.counts) == i)[0] is not None for i in range(rest.counts)]
        found = _farther(rest, held, np.array(alone))[0] if any(alone) else None
    known = found or ratios
    if known is None:
        raise ReoptError("its answers do not settle as its steps go on")
    if held[0] < RUN - 1:
        return known._replace(scaled=True, why=f"its rate is 0 at step {RUN - 1}")
    if found is not None:
        return found
    if abs(at_last[-1] - rest.ran[-1]) <= SETTLED * abs(rest.ran[-1]):
        return known._replace(answers=known.answers * at_last[-1])
    return known._replace(scaled=True, why="its rate vanishes before it has settled: no level is its own")


def _last_answer(rest: _Rest) -> tuple[np.ndarray, np.ndarray]:
    """The last step of the run at which it answers at all, or an earlier one by halves, and its answers at rest."""
    held = RUN - 1.0
    while True:
        counts = np.full(rest.counts, held)
        answers, _ = rest.solve(counts)
        if (np.abs(answers) > SILENT).any() or held < 1:
            return counts, answers
        held = np.floor(held / 2)


def _farther(
    rest: _Rest, last: np.ndarray, pushed: Bool[np.ndarray, " count"]
) -> tuple[Settled | None, Settled | None]:
    """Limits of the answers and of their ratios to the last of them, as the pushed counts go on; None without one.

    **Raises** `ReoptError` where no count on the way has a state of rest.
    """
    here, ratios, count, lost = np.full(len(rest.ran), np.nan), None, RUN - 1.0, None
    while count < FARTHEST:
        count *= FARTHER
        try:
            answers, error = rest.solve(np.where(pushed, count, last))
        except ReoptError as reason:
            lost = reason
            continue
        if not np.isfinite(answers).all() or not (np.abs(answers) > SILENT).all():
            return None, ratios
        change = float(np.abs(answers / here - 1).max())
        bends = float(np.abs(answers / answers[-1] / (here / here[-1]) - 1).max())
        if bends <= SETTLED:
            ratios = Settled(answers / answers[-1], max(bends, error))
        if change <= 10 * CLOSE:
            return Settled(answers, max(change, error)), ratios
        here = answers
    if lost is not None and np.isnan(here).all():
        raise lost
    return None, ratios
