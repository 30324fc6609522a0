"""Whether a transformation's update of a parameter depends on the tree of arrays that the parameter stands in.

A problem's parameters are one flat vector here. A transformation that looks at shapes (Muon, factored second moments),
at how parameters are divided into arrays (LAMB), or at names and nesting (a mask, labels by path) is on this vector
not what it is on the arrays of a network. Found out by behaviour: the same numbers are laid out as different trees, and
the updates of each number compared. What cannot be tried in all cases, names and sizes of arrays, is traced: where
the program is another one, it is run.
"""

import functools
import re
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from reopt.core.foreign import told
from reopt.optimizers.refusals import (
    BY_GROUP,
    BY_NAME,
    BY_NESTING,
    BY_SHAPE,
    RANDOM,
    NotComponentWise,
)
from reopt.optimizers.soundness import CALLBACK

_NUMBERS = 24
_SHORTEST, _LONGEST = 24, 384  # steps of a run: as many as it takes to see it move
_MOVES = 3
_SHOCK = 1e12  # above any threshold of a norm
_ROUNDING = 1e-3  # the most that amplified rounding may be, as a share of the largest update
_LARGEST = 2**20  # numbers in the largest array that is run
_SOURCES = ("optax", "jax", "numpy", "chex", "functools", "equinox")  # whose functions name no parameters
_COMMON = (
    *("bias", "weight", "kernel", "scale", "b", "w", "beta"),
    *("gamma", "embedding", "embed", "norm", "LayerNorm_0", "layer_norm", "bn"),
    *("head", "encoder", "decoder", "backbone", "layers", "linear", "Dense_0"),
    *("conv", "attention", "mlp", "params", "lora_a", "lora_b", "frozen"),
)
_MOST_WORDS, _MOST_PAIRED, _MOST_OBJECTS = 24, 6, 2000


class Dependence(NamedTuple):
    """What an update depends on: one of the kinds above, and half a sentence with the case in which it was seen."""

    kind: str
    seen: str


Layout = Any  # a tree of arrays of indices into the numbers


def dependence(transformation: Any) -> Dependence | None:
    """What of the layout the updates depend on; None if nothing was found.

    **Raises** `NotComponentWise` where a second run gives other updates, or updates are shaped unlike gradients, and
    whatever the transformation raises on a flat vector, if it does so on a tree of arrays as well.
    """
    try:
        hash(transformation)
    except TypeError:  # made of arrays
        return _dependence.__wrapped__(transformation)
    return _dependence(transformation)


@functools.lru_cache(maxsize=64)
def _dependence(transformation: Any) -> Dependence | None:
    with jax.enable_x64(True):
        try:
            runs = _Runs(transformation)
        except NotComponentWise:
            raise
        except Exception as error:
            if found := _taken_instead(transformation):
                return Dependence(found, f"a lone vector it does not take ({told(error)})")
            raise
        return runs.by_layout() or _by_names(runs) or _by_size(runs)


def _taken_instead(transformation: Any) -> str:
    """What of the layout matters to a transformation that takes no vector; empty if it takes nothing else either."""
    own = words_in(transformation)
    numbers = np.arange(_NUMBERS)
    layouts: list[tuple[str, Layout]] = [
        (BY_SHAPE, numbers.reshape(4, 6)),
        (BY_NESTING, {"w": numbers}),
        (BY_NESTING, {"a": {"w": numbers}}),
        *((BY_NAME, dict.fromkeys(own[:count], numbers)) for count in range(1, len(own) + 1)),
    ]
    for kind, layout in layouts:
        try:
            at = jax.tree.map(lambda index: jnp.asarray(index, float), layout)
            jax.make_jaxpr(lambda g, p: transformation.update(g, transformation.init(p), p))(at, at)
        except Exception:  # so not like this
            continue
        return kind
    return ""


class _Runs:
    """Runs of a transformation on the same numbers in different layouts."""

    def __init__(self, transformation: Any) -> None:
        self.transformation = transformation
        self._step = jax.jit(lambda gradient, state, params: transformation.update(gradient, state, params))
        self.flat = np.arange(_NUMBERS)
        program = self.trace(self.flat)
        if found := CALLBACK.search(program):
            raise NotComponentWise(
                RANDOM,
                f"this optax transformation calls back into Python at every step ({found[0]}): it cannot be trusted to "
                "do the same again; an optimizer here is a function of its state and gradient",
            )
        self.tolerance = _tolerance(program)
        self.num_steps = _SHORTEST
        self.reference = self.run(self.flat, self.num_steps)
        while (self.reference != 0).any(axis=1).sum() < _MOVES and self.num_steps < _LONGEST:
            self.num_steps *= 2
            self.reference = self.run(self.flat, self.num_steps)
        again = self.run(self.flat, self.num_steps)
        if not np.array_equal(self.reference, again, equal_nan=True) or program != self.trace(self.flat):
            raise NotComponentWise(
                RANDOM,
                "this optax transformation draws random numbers: the same gradients give other updates when it is run "
                "again; an optimizer here is a function of its state and gradient",
            )

    def trace(self, layout: Layout) -> str:
        """The program of a first step, without addresses."""
        arrays = jax.tree.map(lambda index: jax.ShapeDtypeStruct(np.shape(index), jnp.float64), layout)

        def first(gradient: Any, params: Any) -> Any:
            return self.transformation.update(gradient, self.transformation.init(params), params)

        closed = jax.make_jaxpr(first)(arrays, arrays)
        constants = [np.asarray(value).tolist() for value in closed.consts if np.size(value) <= _NUMBERS]
        return re.sub(r"0x[0-9a-f]+", "", f"{closed.jaxpr} {constants}")

    def run(self, layout: Layout, num_steps: int) -> Float[np.ndarray, "step number"]:
        """Updates of the numbers; their gradients become huge in the last third of the steps."""
        count = sum(np.size(index) for index in jax.tree.leaves(layout))
        rng = np.random.default_rng(0)
        state: Any = None
        updates = np.empty((num_steps, count))
        for t in range(num_steps):
            gradient, params = rng.normal(size=(2, count))
            gradient *= _SHOCK if 3 * t >= 2 * num_steps else 1.0
            at = jax.tree.map(lambda index, values=params: np.asarray(values[index]), layout)
            state = self.transformation.init(jax.tree.map(jnp.asarray, at)) if state is None else state
            change, state = self._step(
                jax.tree.map(lambda index, values=gradient: np.asarray(values[index]), layout), state, at
            )
            _like_parameters(change, at)
            for index, values in zip(jax.tree.leaves(layout), jax.tree.leaves(change), strict=True):
                updates[t, index] = np.asarray(values, np.float64)
        return updates

    def differs(self, layout: Layout, other: Layout | None = None, num_steps: int = 0) -> str:
        """How a layout is treated otherwise than the flat vector, or than `other`, as words; empty if it is not."""
        steps = num_steps or self.num_steps
        try:
            reference = self.reference if other is None else self.run(other, steps)
            found = self.run(layout, steps)
        except Exception as error:  # whatever foreign code raises
            return f"it fails: {told(error)}"
        if not (far := self._far(found, reference)).any():
            return ""
        turned = self.run(jax.tree.map(np.flip, self.flat if other is None else other), steps)
        if not (far := self._far(found, reference, np.abs(turned - reference))).any():
            return ""  # no more than rounding, in a transformation that amplifies it
        t, i = np.argwhere(far)[0]
        return f"at step {t + 1} the update of one parameter is {found[t, i]:.4g}, not {reference[t, i]:.4g}"

    def _far(self, found: np.ndarray, reference: np.ndarray, rounding: np.ndarray | float = 0.0) -> np.ndarray:
        """Where two runs differ by more than rounding, of which an example is given."""
        largest = np.nanmax(np.abs(reference), axis=1, keepdims=True, initial=0.0)
        with np.errstate(invalid="ignore", over="ignore"):
            allowed = self.tolerance * largest + np.minimum(100 * np.max(rounding), _ROUNDING * largest)
            near = (np.abs(found - reference) <= allowed) | (found == reference)
        return ~near & ~(np.isnan(found) & np.isnan(reference))

    def by_layout(self) -> Dependence | None:
        """What differs between the flat vector and a nested tree of several arrays of every rank."""
        flat = self.flat
        arrays = [flat[3:9].reshape(2, 3), flat[9], flat[10:18].reshape(2, 2, 2), flat[18:22].reshape(1, 2, 2, 1)]
        several = {"first": {"a": flat[:3]}, "then": [*arrays, flat[22:]]}
        if not (seen := self.differs(several)):
            return None
        for kind, words, layout in self._simpler():
            if told := self.differs(layout):
                return Dependence(kind, f"{words}, {told}")
        return Dependence(BY_SHAPE, f"in a tree of arrays of several ranks, {seen}")

    def _simpler(self) -> Iterator[tuple[str, str, Layout]]:
        """Layouts that differ from the flat vector in one thing each."""
        yield BY_SHAPE, "as a matrix in place of a vector", self.flat.reshape(4, 6)
        yield BY_SHAPE, "as an array of three axes in place of a vector", self.flat.reshape(2, 3, 4)
        yield BY_SHAPE, "as an array of four axes in place of a vector", self.flat.reshape(2, 2, 2, 3)
        yield BY_GROUP, "as two vectors in place of one", [self.flat[:5], self.flat[5:]]
        yield BY_NESTING, "as the entry of a dictionary in place of a lone vector", {"w": self.flat}
        yield BY_NESTING, "two dictionaries deep in place of a lone vector", {"a": {"b": self.flat}}
        yield BY_SHAPE, "as scalars in place of a vector", list(self.flat)


def _like_parameters(update: Any, params: Any) -> None:
    """**Raises** `NotComponentWise` where an update could not be added to the parameters."""
    given: Any = jax.tree.structure(update)
    wanted: Any = jax.tree.structure(params)
    shapes = [
        (np.shape(a), np.shape(b)) for a, b in zip(jax.tree.leaves(update), jax.tree.leaves(params), strict=False)
    ]
    found = "" if given == wanted else f"a tree {given} for {wanted}"
    if found := found or ", ".join(f"{one} for {other}" for one, other in shapes if one != other):
        raise NotComponentWise(BY_SHAPE, f"this optax transformation gives updates unlike its gradients: {found}")


def _tolerance(program: str) -> float:
    """How far updates may differ by rounding, as a share of the largest, from the types a program computes in."""
    if re.search(r"\b(bf16|f16)\[", program):
        return 1e-2
    return 1e-4 if re.search(r"\bf32\[\d", program) else 1e-6 if "f32[" in program else 1e-9


def _by_names(runs: _Runs) -> Dependence | None:
    """Whether names that its own code mentions, or common ones, change the program, and with it the updates."""
    own = words_in(runs.transformation)
    neutral_names = {word: f"q{i:03d}" for i, word in enumerate(sorted({*own, *_COMMON}))}
    for shape in ((2,), (2, 2)):
        named = _named(own, lambda word: word, shape)
        neutral = _named(own, lambda word: neutral_names[word], shape)
        try:
            if runs.trace(named) == runs.trace(neutral):
                continue
            seen = runs.differs(named, neutral, runs.num_steps)
        except Exception as error:  # whatever foreign code raises
            seen = f"it fails: {told(error)}"
        if seen:
            return Dependence(BY_NAME, f"under other names, {seen}")
    return None


def _named(own: list[str], called: Callable[[str], str], shape: tuple[int, ...]) -> Layout:
    """Arrays under each name, in an entry of each name; in the order of the names, so that new ones keep it."""
    size, first = int(np.prod(shape)), 0
    tree: dict[str, dict[str, np.ndarray]] = {}
    for outer in sorted({*own, *_COMMON}):
        for inner in sorted({outer, *(own[:_MOST_PAIRED] if outer in own else ())}):
            tree.setdefault(called(outer), {})[called(inner)] = np.arange(first, first + size).reshape(shape)
            first += size
    return tree


def words_in(transformation: Any) -> list[str]:
    """Words in the functions that a transformation is made of, and in what they hold: what may name a parameter."""
    found: dict[str, None] = {}
    queue, seen = [transformation], set[int]()
    while queue and len(seen) < _MOST_OBJECTS:
        item = queue.pop(0)
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, str):
            if len(item) <= 80 and not re.search(r"\w\s+\w", item):
                found.update(dict.fromkeys(re.findall(r"\w+", item)))
        else:
            queue += _parts(item)
    return list(found)[:_MOST_WORDS]


def _parts(item: Any) -> list[Any]:
    """What an object is made of, as far as it can name parameters."""
    if isinstance(item, dict):
        return [*item.keys(), *item.values()]
    if isinstance(item, tuple | list | set | frozenset):
        return list(item)
    if isinstance(item, re.Pattern):
        return [item.pattern]
    if isinstance(item, CodeType):
        return list(item.co_consts)
    if isinstance(item, FunctionType):
        cells = [cell.cell_contents for cell in item.__closure__ or () if _filled(cell)]
        if (item.__module__ or "").partition(".")[0] in _SOURCES:
            return cells  # a mask, labels, an inner transformation
        code = item.__code__
        used = [item.__globals__[name] for name in _names(code) if name in item.__globals__]
        plain = [value for value in used if isinstance(value, str | tuple | list | set | frozenset | dict | re.Pattern)]
        local = [value for value in used if isinstance(value, FunctionType) and value.__module__ == item.__module__]
        return [*cells, code, *plain, *local, *(item.__defaults__ or ()), *(item.__kwdefaults__ or {}).values()]
    if hasattr(item, "func") and hasattr(item, "keywords"):  # a partial function
        return [item.func, *item.args, *item.keywords.values()]
    if isinstance(item, type) or type(item).__module__.partition(".")[0] in ("jax", "jaxlib", "numpy", "builtins"):
        return [item.__func__, item.__self__] if hasattr(item, "__func__") else []
    return [*getattr(item, "__dict__", {}).values(), vars(type(item)).get("__call__")]


def _names(code: CodeType) -> set[str]:
    """Global names in a function's code and in the functions inside it."""
    inner = [_names(part) for part in code.co_consts if isinstance(part, CodeType)]
    return set(code.co_names).union(*inner)


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _by_size(runs: _Runs) -> Dependence | None:
    """Whether larger arrays are treated otherwise: where the program changes from one size to four times as much."""
    for axes in (1, 2):
        before, size = None, 4
        while size**axes <= 16 * _LARGEST:
            now = _of_any_size(runs.trace(np.broadcast_to(0, (size,) * axes)))
            if before is not None and now != before and size**axes <= _LARGEST and (seen := _grown(runs, size, axes)):
                return Dependence(BY_SHAPE, f"in an array of {size**axes} numbers in place of smaller ones, {seen}")
            before, size = now, 4 * size
    return None


def _of_any_size(program: str) -> str:
    return re.sub(r"[\[(][\d, ]*[\])]", "[]", program)


def _grown(runs: _Runs, size: int, axes: int) -> str:
    """How an array of this size is treated otherwise than arrays a quarter as long, or a vector; empty if it is not."""
    count, small = size**axes, (size // 4) ** axes
    whole = np.arange(count).reshape((size,) * axes)
    parts = [np.arange(first, first + small).reshape((size // 4,) * axes) for first in range(0, count, small)]
    steps = min(runs.num_steps, _SHORTEST // 4)
    return runs.differs(whole, parts, steps) or (runs.differs(whole, np.arange(count), steps) if axes > 1 else "")
