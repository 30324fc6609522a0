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

from collections.abc import Iterable
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

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPECTRAL = "by singular values"
TENSOR = "by element, and by sums over the array"
ELEMENT = "by element"
PLACE = "by place"
RANDOM = "by chance"

NAME = "weight"  # of the array: some transformations look for names
FILES = ("symmetry.csv", "spectral_map.csv", "impulse.csv")
PROBE = 4  # random steps by which symmetries are told
SAME = 1e-6  # relative difference of updates that are the same
SHOCKS = (-1e6, 0.0)  # times the gradient of one element: beyond any threshold, and to none
DECADES = 5.0  # over which the singular values of a probe spread
SCALES = (1e-3, 1.0, 1e3)  # of the gradient, at which the map is read
LATE = (400, 6400)  # steps of a constant gradient before the pulse, and at most
LAGS = 60
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
    exponential behind it."""

    response: Float[np.ndarray, " lag"]
    memory: float
    beta: float
    direct: float


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
        self._gradients = rng.normal(size=(PROBE, *shape))
        self._left, self._right = (_orthogonal(rng, size) for size in shape)
        self._orders = tuple(rng.permutation(size) for size in shape)

    def _updates(self, gradients: np.ndarray, start: np.ndarray, every: int = 1) -> np.ndarray:
        """The updates along gradients, in float64, of parameters that stay where they are; the last `every`."""
        try:
            with jax.enable_x64(True):
                return np.asarray(_run(self.transformation, jnp.asarray(gradients), jnp.asarray(start)))[-every:]
        except Exception as error:  # whatever foreign code raises
            raise ReoptError(
                f"{self.name} takes no step on a matrix {self.shape[0]} x {self.shape[1]}: {told(error)}"
            ) from error

    @cached_property
    def symmetry(self) -> Symmetry:
        """How far updates follow rotations and permutations, and whether elements influence each other."""
        count, start, gradients = len(self._gradients), self._start, self._gradients
        plain = self._updates(gradients, start, count)
        again = self._updates(gradients, start, count)
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
        """What it acts by: `SPECTRAL`, `ELEMENT`, `TENSOR`, `PLACE` or `RANDOM`.

        A linear map of each element follows rotations too; it is told as what it is, by element.
        """
        found = self.symmetry
        if found.repetition > 0:
            return RANDOM
        if found.permutation > SAME and found.rotation > SAME:
            return PLACE
        if found.coupling <= SAME:
            return ELEMENT
        return SPECTRAL if found.rotation <= SAME else TENSOR

    @cached_property
    def spectral_map(self) -> pd.DataFrame:
        """scale, index, singular_in, singular_out, beside: singular values of a first gradient and of its update along
        the same vectors (above 0: uphill is minus, the direction of descent is told), and what is off these.

        `singular_in` is that at scale 1; the gradient was `scale` times as large.
        **Raises** `ReoptError` where it does not act by singular values.
        """
        self._refuse_others("a spectral map")
        count = min(self.shape)
        sizes = np.geomspace(1.0, 10.0**-DECADES, count)
        left, right = self._left[:, :count], self._right[:, :count]
        rows = []
        for scale in SCALES:
            gradient = scale * (left * sizes) @ right.T
            within = -left.T @ self._updates(gradient[None], self._start)[0] @ right
            off = np.abs(within - np.diag(np.diag(within))).max(axis=1)
            rows += [
                (scale, index, sizes[index], within[index, index], off[index] / np.abs(within).max())
                for index in range(count)
            ]
        return pd.DataFrame(rows, columns=["scale", "index", "singular_in", "singular_out", "beside"])

    @cached_property
    def scale_free(self) -> bool:
        """Whether a gradient a million times as large has the same first update, but for what guards a division."""
        table = self.spectral_map.pivot(index="index", columns="scale", values="singular_out")
        return bool(_apart(table[SCALES[0]].to_numpy(), table[SCALES[-1]].to_numpy()) < GUARD)

    @cached_property
    def momentum(self) -> Momentum:
        """The answer to a small pulse beside a strong constant gradient, through time.

        **Raises** `ReoptError` where it does not act by singular values, or this answer is not linear or goes on
        changing for `LATE[1]` steps.
        """
        self._refuse_others("momentum")
        late = LATE[0]
        response = self._response(late, SMALL)
        while True:
            later = self._response(2 * late, SMALL)
            if not (np.isfinite(response).all() and np.isfinite(later).all()):
                raise ReoptError("momentum is not read: beside a constant gradient a small one moves nothing")
            if np.abs(later - response).max() <= AGREE * np.abs(later).max():
                break
            late, response = 2 * late, later
            if late >= LATE[1]:
                raise ReoptError(f"momentum is not read: the answer to a pulse still changes after {late} steps")
        smaller = self._response(2 * late, SMALL / 10)
        if not np.abs(smaller - later).max() <= 100 * AGREE * np.abs(later).max():
            raise ReoptError("momentum is not read: beside a constant gradient a small one is not mapped linearly")
        return _momentum(later)

    def _response(self, late: int, small: float) -> np.ndarray:
        """I_t / (sum of I): the pulse `small` times a constant gradient, along other singular vectors, at step `late`.

        Both along axes, so that sums of the two in one element do not round the small one off.
        """
        strong, weak = np.zeros(self.shape), np.zeros(self.shape)
        strong[0, 0], weak[1, 1] = 1.0, small
        constant = np.broadcast_to(strong, (late + LAGS, *self.shape))
        answers = []
        for steps in (slice(late, late + 1), slice(late, None)):
            both = []
            for sign in (1, -1):  # what is even in the pulse is no answer to it
                gradients = constant.copy()
                gradients[steps] += sign * weak
                both.append(self._updates(gradients, self._start, LAGS))
            answers.append((both[0] - both[1])[:, 1, 1])
        pulse, step = answers
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = pulse / step
        sums = [1.0]
        for ratio in ratios[1:]:
            sums.append(sums[-1] / (1 - ratio))
        response = ratios * np.array(sums)
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
            return [f"{lines[0]}: the same gradients give other updates"]
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
        try:
            memory = self.momentum
        except ReoptError as error:
            return [*lines, str(error)]
        factor = "" if np.isnan(memory.beta) else f", from lag to lag {memory.beta:.8g} of it"
        lines.append(
            f"{memory.memory:.4%} of the answer to a gradient comes after its own step{factor}"
            + (f"; {memory.direct:.4%} at once, beside that exponential" if abs(memory.direct) > AGREE else "")
        )
        return lines

    def write(self, folder: Path | str, formats: Iterable[str] = ("svg", "png")) -> None:
        """symmetry.csv, of what acts by singular values also spectral_map.csv and impulse.csv, and the figure."""
        from reopt.figures.save import save

        folder = Path(folder)
        write_table(folder / FILES[0], rounded(pd.DataFrame([{"acts": self.acts, **self.symmetry._asdict()}])))
        if self.acts != SPECTRAL:
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


def _run(transformation: Any, gradients: Any, start: Any) -> Any:
    """Updates of the matrix alone, held at `start`."""

    def step(state: Any, gradient: Any) -> tuple[Any, Any]:
        update, state = transformation.update({NAME: gradient}, state, {NAME: start})
        return state, update[NAME]

    def whole(gradients: Any, start: Any) -> Any:
        state = jax.tree.map(jnp.asarray, transformation.init({NAME: start}))
        return jax.lax.scan(step, state, gradients)[1]

    return jax.jit(whole)(gradients, start)


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
    memory = 1 - float(response[0])
    before, after = response[1:-1], response[2:]
    later = response[1:]
    if memory <= AGREE or not before.any():
        return Momentum(response, max(memory, 0.0), np.nan, 0.0)
    beta = float(before @ after / (before @ before))
    if np.abs(after - beta * before).max() > AGREE * np.abs(later).max():
        return Momentum(response, memory, np.nan, 0.0)
    whole = float(later[0]) / beta / (1 - beta) if beta < 1 else np.inf  # of the exponential, from lag 0 on
    total = whole + float(response[0]) - float(later[0]) / beta
    direct = (float(response[0]) - float(later[0]) / beta) / total
    return Momentum(response, 1 - float(response[0]) / total, beta, direct)
