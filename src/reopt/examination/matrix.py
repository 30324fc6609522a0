"""Optimizers that act on whole matrices of parameters: what they act by, on singular values, and through time.

An optimizer of matrices need not act on each parameter alone. What it acts by is told from symmetries. A rule that
follows rotations, u(R G Q^T) = R u(G) Q^T for orthogonal R and Q, sees nothing of a gradient but its singular values
and vectors: on G = U diag(s) V^T its first update is U diag(m(s)) V^T, and m, the spectral map, is all that is to be
read of it. A rule that follows permutations alone acts by element, or by element and by what is summed over rows,
columns or the whole array.

Momentum behind a map that forgets scale leaves no trace in a single pulse: what is left of a pulse is scaled up again.
Beside a strong constant gradient a small one is mapped linearly. There the answers to a pulse and to a step, both
small, have the ratio r_t = I_t / (I_0 + ... + I_t), whatever the map's gain at t: the impulse response I is known.
"""

import functools
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float

from reopt.core.errors import ReoptError
from reopt.core.foreign import told
from reopt.core.tables import rounded, write_table
from reopt.optimizers.layouts import _tolerance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPECTRAL = "by singular values"
TENSOR = "by element, and by sums over the array"
ELEMENT = "by element"
PLACE = "by place"
RANDOM = "by chance"
UNTOLD = "in a way that its rounding hides"

NAME = "weight"  # of the array: some transformations look for names
FILES = ("symmetry.csv", "spectral_map.csv", "impulse.csv")
PROBE = 4  # random steps by which symmetries are told
MOVES = 3  # of them at least an update follows, of
MOST_STEPS = 384  # at most
SAME = 1e-6  # relative difference of updates that are the same, in float64
COARSE = 1e-3  # of rounding: rotations are not told beyond
SHOCKS = (-1e6, 0.0)  # times the gradient of one element: beyond any threshold, and to none
DECADES = 5.0  # over which the singular values of a probe spread
SCALES = (1e-3, 1.0, 1e3)  # of the gradient, at which the map is read
LATE = (400, 6400)  # steps of a constant gradient before the pulse, and at most
LAGS = (60, 960)  # at which the answer is read, and at most where it is no exponential
SMALL = 1e-8  # of the pulse, over the constant gradient: a map may make it 500 times as large, and its cube counts
GUARD = 1e-3  # relative difference that an eps beside a norm may make
AGREE = 1e-6  # difference of impulse responses from two starts, or two sizes, that are the same


class Symmetry(NamedTuple):
    """Relative differences of updates: with rotated and with permuted gradients from the rotated and permuted updates,
    of other elements when one is changed, and of a second run from the first."""

    rotation: float
    permutation: float
    coupling: float
    repetition: float


class Momentum(NamedTuple):
    """`response`: share of the answer to a pulse at each lag; `memory`: the share after its own step; `beta`: the
    factor from lag to lag (NaN: there is none, or it changes); `direct`: what the first share is above that of the
    exponential behind it; `whole`: whether nothing to speak of comes after the lags that were looked at."""

    response: Float[np.ndarray, " lag"]
    memory: float
    beta: float
    direct: float
    whole: bool


class MatrixReading:
    """What is read of an optimizer of matrices; each part is made when it is first asked for.

    Printed, it is sentences; `write` makes a folder of tables and the figure.
    """

    def __init__(self, transformation: Any, shape: tuple[int, int], *, name: str = "optimizer", seed: int = 0) -> None:
        if not (hasattr(transformation, "init") and hasattr(transformation, "update")):
            raise ReoptError(f"{transformation!r} is no optax transformation: it lacks init and update")
        if len(shape) != 2 or min(shape) < 2:
            raise ReoptError(f"shape {tuple(shape)}: give rows and columns of a matrix, two at least of each")
        self.transformation, self.shape, self.name, self._seed = transformation, shape, name, seed
        rng = np.random.default_rng(seed)
        self._start = rng.normal(size=shape)
        self._left, self._right = (_orthogonal(rng, size) for size in shape)
        self._orders = tuple(rng.permutation(size) for size in shape)
        self._run = _runner(transformation)

    def _updates(self, gradients: np.ndarray, start: np.ndarray, every: int = 1, *, anew: bool = False) -> np.ndarray:
        """The updates along gradients, in float64, of parameters that stay where they are; the last `every`.

        With `anew` the transformation is traced once more, which what draws in Python does not take twice alike.
        """
        run = _runner(self.transformation) if anew else self._run
        try:
            with jax.enable_x64(True):
                return np.asarray(run(np.asarray(gradients, np.float64), np.asarray(start, np.float64)))[-every:]
        except Exception as error:  # whatever foreign code raises
            raise ReoptError(
                f"{self.name} takes no step on a matrix {self.shape[0]} x {self.shape[1]}: {told(error)}"
            ) from error

    @cached_property
    def _program(self) -> tuple[str, bool]:
        """The program of a first step, and whether its state holds a random key."""

        def first(gradient: Any, params: Any) -> Any:
            return self.transformation.update(
                {NAME: gradient}, self.transformation.init({NAME: params}), {NAME: params}
            )

        try:
            with jax.enable_x64(True):
                like = jax.ShapeDtypeStruct(self.shape, jnp.float64)
                state = self.transformation.init({NAME: jnp.asarray(self._start)})
                return str(jax.make_jaxpr(first)(like, like)), any(map(_is_key, jax.tree.leaves(state)))
        except Exception as error:  # whatever foreign code raises
            raise ReoptError(
                f"{self.name} takes no step on a matrix {self.shape[0]} x {self.shape[1]}: {told(error)}"
            ) from error

    @property
    def same(self) -> float:
        """Relative difference of updates that rounding makes, from the types that the program computes in."""
        return max(SAME, _tolerance(self._program[0]))

    @cached_property
    def _gradients(self) -> np.ndarray:
        """Random steps: so many that updates follow some of them. **Raises** `ReoptError` where none does."""
        count = PROBE
        while True:
            gradients = np.random.default_rng(self._seed + 1).normal(size=(count, *self.shape))
            updates = self._updates(gradients, self._start, count)
            if not np.isfinite(updates).all():
                raise ReoptError(f"{self.name} gives updates that are not finite for random gradients")
            moves = int(updates.any(axis=(1, 2)).sum())
            if moves >= MOVES:
                return gradients
            if count >= MOST_STEPS:
                raise ReoptError(f"{self.name} moves the matrix at {moves} of {count} steps: nothing can be told of it")
            count *= 2

    @cached_property
    def symmetry(self) -> Symmetry:
        """How far updates follow rotations and permutations, and whether elements influence each other."""
        count, start, gradients = len(self._gradients), self._start, self._gradients
        plain = self._updates(gradients, start, count)
        again = self._updates(gradients, start, count, anew=True)
        turned = self._updates(self._left @ gradients @ self._right.T, self._left @ start @ self._right.T, count)
        rows, columns = self._orders
        mixed = self._updates(gradients[:, rows][:, :, columns], start[rows][:, columns], count)
        coupling = 0.0
        for at in ((0, 0), (self.shape[0] - 1, self.shape[1] // 2)):
            others = np.ones(self.shape, bool)
            others[at] = False
            for shock in SHOCKS:
                changed = gradients.copy()
                changed[(slice(1, None), *at)] *= shock
                coupling = max(coupling, _apart(self._updates(changed, start, count)[:, others], plain[:, others]))
        return Symmetry(
            _apart(turned, self._left @ plain @ self._right.T),
            _apart(mixed, plain[:, rows][:, :, columns]),
            coupling,
            _apart(again, plain),
        )

    @cached_property
    def acts(self) -> str:
        """What it acts by: `SPECTRAL`, `ELEMENT`, `TENSOR`, `PLACE` or `RANDOM`; `UNTOLD` where it computes in 16 bits,
        whose rounding is as large as what tells these apart.

        A linear map of each element follows rotations too; it is told as what it is, by element.
        """
        found = self.symmetry
        if found.repetition > 0 or self._program[1]:
            return RANDOM
        if found.permutation == 0 == found.coupling:  # whatever the rounding
            return ELEMENT
        if self.same > COARSE:
            return UNTOLD
        if found.permutation > self.same and found.rotation > self.same:
            return PLACE
        if found.coupling <= self.same:
            return ELEMENT
        return SPECTRAL if found.rotation <= self.same else TENSOR

    @cached_property
    def spectral_map(self) -> pd.DataFrame:
        """scale, index, singular_in, singular_out, beside: singular values of a first gradient and of its update along
        the same vectors (above 0: uphill is minus, the direction of descent is told), and what is off these.

        `singular_in` is that at scale 1; the gradient was `scale` times as large, and held until a first update came.
        The parameters are 0, so that a decay of theirs is not in it.
        **Raises** `ReoptError` where it does not act by singular values.
        """
        self._refuse_others("a spectral map")
        count = min(self.shape)
        sizes = np.geomspace(1.0, 10.0**-DECADES, count)
        left, right = self._left[:, :count], self._right[:, :count]
        rows = []
        for scale in SCALES:
            gradient = scale * (left * sizes) @ right.T
            within = -left.T @ self._first(gradient) @ right
            off = np.abs(within - np.diag(np.diag(within))).max(axis=1)
            rows += [
                (scale, index, sizes[index], within[index, index], off[index] / np.abs(within).max())
                for index in range(count)
            ]
        return pd.DataFrame(rows, columns=["scale", "index", "singular_in", "singular_out", "beside"])

    def _first(self, gradient: np.ndarray) -> np.ndarray:
        """The first update under a gradient that is held, of parameters at 0."""
        count = PROBE
        while count <= MOST_STEPS:
            updates = self._updates(np.broadcast_to(gradient, (count, *self.shape)), np.zeros(self.shape), count)
            moved = updates.any(axis=(1, 2))
            if moved.any():
                return updates[np.argmax(moved)]
            count *= 2
        raise ReoptError(f"a spectral map is not read: {self.name} does not move from 0 under a gradient that is held")

    @cached_property
    def by_value(self) -> bool:
        """Whether updates depend on the values of the parameters."""
        count = len(self._gradients)
        plain, moved = (self._updates(self._gradients, factor * self._start, count) for factor in (1.0, 3.0))
        return _apart(moved, plain) > self.same

    @cached_property
    def scale_free(self) -> bool:
        """Whether a gradient a million times as large has the same first update, but for what guards a division."""
        table = self.spectral_map.pivot(index="index", columns="scale", values="singular_out")
        return bool(_apart(table[SCALES[0]].to_numpy(), table[SCALES[-1]].to_numpy()) < GUARD)

    @property
    def momentum(self) -> Momentum:
        """The answer to a small pulse beside a strong constant gradient, through time.

        **Raises** `ReoptError` where it does not act by singular values, or this answer is not linear or goes on
        changing for `LATE[1]` steps.
        """
        if isinstance(self._momentum, ReoptError):
            raise self._momentum
        return self._momentum

    @cached_property
    def _momentum(self) -> Momentum | ReoptError:
        try:
            self._refuse_others("momentum")
            lags = LAGS[0]
            while True:
                found = _momentum(self._settled(lags))
                if found.whole or lags >= LAGS[1]:
                    return found
                lags *= 4
        except ReoptError as error:
            return error

    def _settled(self, lags: int) -> np.ndarray:
        """The response to a pulse that comes so late that it is the same twice as late."""
        late = LATE[0]
        response = self._response(late, SMALL, lags)
        while True:
            later = self._response(2 * late, SMALL, lags)
            if not (np.isfinite(response).all() and np.isfinite(later).all()):
                raise ReoptError("momentum is not read: beside a constant gradient a small one moves nothing")
            if np.abs(later - response).max() <= AGREE * np.abs(later).max():
                break
            late, response = 2 * late, later
            if late >= LATE[1]:
                raise ReoptError(f"momentum is not read: the answer to a pulse still changes after {late} steps")
        smaller = self._response(2 * late, SMALL / 10, lags)
        if not np.abs(smaller - later).max() <= 100 * AGREE * np.abs(later).max():
            raise ReoptError("momentum is not read: beside a constant gradient a small one is not mapped linearly")
        return later

    def _response(self, late: int, small: float, lags: int) -> np.ndarray:
        """I_t / (sum of I): the pulse `small` times a constant gradient, along other singular vectors, at step `late`.

        Both along axes, so that sums of the two in one element do not round the small one off.
        """
        try:
            with jax.enable_x64(True):
                answers = np.asarray(_answers(self.transformation, self.shape, late, lags, small))
        except Exception as error:  # whatever foreign code raises
            raise ReoptError(f"momentum is not read: {told(error)}") from error
        pulse, step = answers
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = pulse / step
            sums = np.cumprod(np.concatenate([[1.0], 1 / (1 - ratios[1:])]))
            response = ratios * sums
        response[0] = 1.0
        return response / response.sum()

    def _refuse_others(self, what: str) -> None:
        if self.acts != SPECTRAL:
            raise ReoptError(f"{self.name} acts {self.acts}: {what} is read of what acts {SPECTRAL}")

    def sentences(self) -> list[str]:
        """What is read, a sentence each."""
        found, words = self.symmetry, f"a matrix {self.shape[0]} x {self.shape[1]}"
        lines = [f"on {words} it acts {self.acts}"]
        if self.acts == RANDOM:
            kept = "its state holds a random key" if self._program[1] else "the same gradients give other updates"
            return [f"{lines[0]}: {kept}"]
        if self.acts == UNTOLD:
            return [f"{lines[0]}: it computes in 16 bits"]
        lines[0] += (
            f": rotated gradients give rotated updates to {found.rotation:.1g}, permuted ones permuted to"
            f" {found.permutation:.1g}, and a gradient changes the updates of other elements by {found.coupling:.1g}"
        )
        if self.acts == ELEMENT:
            return [*lines, "each parameter is examined alone: `reopt dissect`"]
        if self.acts != SPECTRAL:
            return lines
        table = self.spectral_map[self.spectral_map["scale"] == 1.0]
        out = table["singular_out"].to_numpy()
        lines.append(
            f"singular values from {table['singular_in'].min():.0e} to 1 become {out.min():.4g} to {out.max():.4g}"
            f" (of 1: {out[0]:.4g}), beside them nothing above {table['beside'].max():.1g} of the largest"
        )
        lines.append("the size of the gradient is forgotten" if self.scale_free else "the size of the gradient counts")
        if self.by_value:
            lines.append("updates depend on the values of the parameters: these singular values are those at 0")
        try:
            memory = self.momentum
        except ReoptError as error:
            return [*lines, str(error)]
        factor = "" if np.isnan(memory.beta) else f", from lag to lag {memory.beta:.8g} of it"
        lines.append(
            f"{memory.memory:.4%} of the answer to a gradient comes after its own step"
            + ("" if memory.whole else f", of what comes within {len(memory.response)} steps")
            + factor
            + (f"; {memory.direct:.4%} at once, beside that exponential" if abs(memory.direct) > AGREE else "")
        )
        return lines

    def write(self, folder: Path | str, formats: Iterable[str] = ("svg", "png")) -> None:
        """symmetry.csv, of what acts by singular values also spectral_map.csv and impulse.csv, and the figure."""
        from reopt.figures.save import save

        folder = Path(folder)
        write_table(folder / FILES[0], rounded(pd.DataFrame([{"acts": self.acts, **self.symmetry._asdict()}])))
        if self.acts != SPECTRAL:
            for stale in (*FILES[1:], *(f"matrix.{kind}" for kind in formats)):
                (folder / stale).unlink(missing_ok=True)
            return
        write_table(folder / FILES[1], rounded(self.spectral_map))
        try:
            response = self.momentum.response
        except ReoptError:
            response = np.zeros(0)
        write_table(folder / FILES[2], rounded(pd.DataFrame({"lag": np.arange(len(response)), "response": response})))
        save(self.figure[0], *(folder / f"matrix.{kind}" for kind in formats))

    @property
    def figure(self) -> "tuple[Figure, str]":
        """(figure, caption). **Raises** `ReoptError` where it does not act by singular values."""
        from reopt.figures import matrix

        try:
            response = self.momentum.response
        except ReoptError:
            response = np.zeros(0)
        data = matrix.Matrix(self.name, self.spectral_map, response)
        return matrix.figure(data), matrix.caption(data)

    def __repr__(self) -> str:
        return "\n".join([f"{self.name}, on matrices", *self.sentences()])


def read_matrix(
    transformation: Any, shape: tuple[int, int] = (8, 6), *, name: str = "optimizer", seed: int = 0
) -> MatrixReading:
    """What an optax transformation acts by on a matrix of parameters: element, array or singular values; of the last
    the map of singular values, and momentum behind it.

    **Arguments:** `shape` is that of the matrix, which the transformation is given as the array `weight` of a dict;
    `seed` is that of the probing gradients.

    **Raises** `ReoptError` where the transformation takes no step on such a matrix.

    ```python
    import optax, reopt

    print(reopt.read_matrix(optax.contrib.muon(0.02)))
    ```
    """
    found = MatrixReading(transformation, tuple(shape), name=name, seed=seed)  # type: ignore[arg-type]
    _ = found.symmetry
    return found


def _runner(transformation: Any) -> Callable[[Any, Any], Any]:
    """(gradients, start) -> updates of the matrix alone, held at `start`; one program for all runs of one length."""

    @jax.jit
    def whole(gradients: Any, start: Any) -> Any:
        def step(state: Any, gradient: Any) -> tuple[Any, Any]:
            update, state = transformation.update({NAME: gradient}, state, {NAME: start})
            return state, update[NAME]

        state = jax.tree.map(jnp.asarray, transformation.init({NAME: start}))
        return jax.lax.scan(step, state, gradients)[1]

    return whole


@functools.partial(jax.jit, static_argnums=(0, 1, 3))
def _answers(transformation: Any, shape: tuple[int, int], late: Any, lags: int, small: Any) -> Any:
    """Of a pulse and of a step, the answer at each lag: half the difference of what +small and -small lead to."""

    def one(sign: Any, goes_on: Any) -> Any:
        def step(state: Any, at: Any) -> tuple[Any, Any]:
            there = jnp.where(goes_on, at >= late, at == late)
            gradient = jnp.zeros(shape).at[0, 0].set(1.0).at[1, 1].set(jnp.where(there, sign * small, 0.0))
            update, state = transformation.update({NAME: gradient}, state, {NAME: jnp.zeros(shape)})
            return state, update[NAME][1, 1]

        state = jax.tree.map(jnp.asarray, transformation.init({NAME: jnp.zeros(shape)}))
        state = jax.lax.fori_loop(0, late, lambda at, state: step(state, at)[0], state)
        return jax.lax.scan(step, state, late + jnp.arange(lags))[1]

    both = jax.vmap(jax.vmap(one, (0, None)), (None, 0))(jnp.array([1.0, -1.0]), jnp.array([False, True]))
    return both[:, 0] - both[:, 1]


def _is_key(value: Any) -> bool:
    kind = getattr(value, "dtype", None)
    raw = kind == jnp.uint32 and np.shape(value)[-1:] == (2,)
    return raw or (kind is not None and jnp.issubdtype(kind, jax.dtypes.prng_key))


def _orthogonal(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(size, size)))[0]


def _apart(found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference over the largest value; what is not finite in one alone is infinitely apart."""
    finite = np.isfinite(found) & np.isfinite(wanted)
    if not np.array_equal(np.isfinite(found), np.isfinite(wanted)):
        return np.inf
    size = float(np.abs(wanted[finite]).max(initial=0.0))
    return float(np.abs(found - wanted)[finite].max(initial=0.0)) / size if size else 0.0


def _momentum(response: np.ndarray) -> Momentum:
    memory, later = 1 - float(response[0]), response[1:]
    before, after = response[1:-1], response[2:]
    largest = float(np.abs(later).max())
    if largest <= AGREE:
        return Momentum(response, 0.0, np.nan, 0.0, True)
    whole = bool(np.abs(response[-5:]).max() <= AGREE)
    beta = float(before @ after / (before @ before))
    if not AGREE < beta < 1 or np.abs(after - beta * before).max() > AGREE * largest:
        return Momentum(response, memory, np.nan, 0.0, whole)
    first = float(later[0]) / beta  # of the exponential, at lag 0
    total = first / (1 - beta) + float(response[0]) - first
    return Momentum(response, 1 - float(response[0]) / total, beta, (float(response[0]) - first) / total, True)
