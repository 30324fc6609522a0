"""An atlas of optimizers: what every subject that needs no training of its own is, in one entry each.

Subjects are all transformations of the installed optax (`reopt.optimizers.optax_walk`), the classes of `torch.optim`
that act on each parameter alone, and the learned optimizers that are shipped. An entry has the kind of the optimizer,
its verdicts and readings, what is foretold of it, and its answers to three sequences of gradients, by which `relatives`
finds which optimizers are equal, equal up to a constant, or near.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from reopt.core.errors import ReoptError
from reopt.examination.agreement import pairs
from reopt.examination.examination import Examination, examine
from reopt.examination.foretell import Foretelling, curvatures_of
from reopt.examination.matrix import read_matrix
from reopt.examination.trajectories import Componentwise, updates
from reopt.mechanisms.base import UNDETERMINED
from reopt.optimizers.base import Optimizer
from reopt.optimizers.optax_bridge import NotComponentWise, from_optax
from reopt.optimizers.refusals import MORE, RANDOM
from reopt.optimizers.torch_bridge import words as torch_optimizers
from reopt.shipped.cards import cards, load_shipped
from reopt.tasks.base import Task
from reopt.tasks.quadratic import Quadratic
from reopt.tasks.registry import task_module

if TYPE_CHECKING:
    from reopt.figures.atlas import Glance

STEPS, PROBLEMS = 40, 4  # of the examination of a classical optimizer
PROBE = 100  # steps of a sequence of gradients by which optimizers are compared
EQUAL = 1e-6  # relative difference of answers that are the same
SPARK = 33  # points of a small picture
NEAREST = 3  # optimizers named as near
NEAR = 0.5  # sine of the angle between answers beyond which they are not near
TORCH: tuple[tuple[str, dict[str, Any]], ...] = (
    ("SGD", {"lr": 1e-2}),
    ("SGD", {"lr": 1e-2, "momentum": 0.9}),
    ("SGD", {"lr": 1e-2, "momentum": 0.9, "nesterov": True}),
    ("Adam", {"lr": 1e-2}),
    ("Adam", {"lr": 1e-2, "amsgrad": True}),
    ("AdamW", {"lr": 1e-2}),
    ("NAdam", {"lr": 1e-2}),
    ("RAdam", {"lr": 1e-2}),
    ("Adamax", {"lr": 1e-2}),
    ("Adagrad", {"lr": 1e-2}),
    ("Adadelta", {"lr": 1.0}),
    ("RMSprop", {"lr": 1e-2}),
    ("RMSprop", {"lr": 1e-2, "momentum": 0.9, "centered": True}),
    ("Rprop", {"lr": 1e-2}),
    ("ASGD", {"lr": 1e-2}),
)


@dataclass(frozen=True)
class Subject:
    """An optimizer of the atlas: `key` is the name of its files, `make` gives it with the task that it is read on."""

    key: str
    name: str
    family: str  # "optax", "torch" or "learned"
    make: Callable[[], tuple[Any, Task, int]]  # optimizer, task, steps


class Entry(NamedTuple):
    """What the atlas says of a subject: `facts` can be written as JSON; `found` is None where it is not examined."""

    facts: dict[str, Any]
    found: Examination | None
    foretold: Foretelling | None


def catalogue() -> dict[str, Subject]:
    """All subjects by key."""
    from reopt.optimizers.optax_walk import walk

    found = [Subject(name, name, "optax", partial(_classical, tx)) for name, tx in walk()]
    for name, given in TORCH:
        key = "-".join(["torch", name, *(word for word in given if word != "lr")])
        words = ", ".join(f"{word}={value}" for word, value in given.items())
        made = getattr(torch_optimizers(), name)(**given)
        found.append(Subject(key, f"torch.optim.{name}({words})", "torch", partial(_classical, made)))
    for card in cards().values():
        found.append(Subject(card.name.replace("/", "-"), card.name, "learned", partial(_shipped, card.name)))
    return {one.key: one for one in found}


def _classical(optimizer: Any) -> tuple[Any, Task, int]:
    return optimizer, Quadratic(), STEPS


def _shipped(name: str) -> tuple[Any, Task, int]:
    card = cards()[name]
    module = task_module(card.task)
    task: Task = module.create(module.Settings(**card.problem))
    return load_shipped(name), task, card.scope.steps


def entry(subject: Subject) -> Entry:
    """Examine a subject, foretell, and ask for its answers. An optimizer that cannot be examined has its reason."""
    given, task, num_steps = subject.make()
    facts: dict[str, Any] = {"key": subject.key, "name": subject.name, "family": subject.family}
    try:
        optimizer = given if isinstance(given, Optimizer) else from_optax(given, decay=True)
    except NotComponentWise as error:
        facts |= {"kind": error.kind, "note": str(error)}
        return Entry(facts if error.kind in (MORE, RANDOM) else facts | {"matrix": _on_matrices(given)}, None, None)
    facts |= {"kind": "component-wise", "note": _note(optimizer), "answers": _rounded(answers(optimizer))}
    try:
        found = examine(optimizer, task, num_steps=num_steps, problems=PROBLEMS, name=subject.name)
        findings = found.findings
        compared = pairs(found, {one.mechanism: one for one in findings})
    except ReoptError as error:
        return Entry(facts | {"note": f"{facts['note']}; not examined: {error}".removeprefix("; ")}, None, None)
    if all(finding.verdict == UNDETERMINED for finding in findings):
        facts["note"] = f"{facts['note']}; nothing is told: {findings[0].why.rpartition('; ')[2]}".removeprefix("; ")
    facts["findings"] = [
        {
            "mechanism": one.mechanism,
            "verdict": one.verdict,
            "why": one.why,
            "readings": [[row[0], row[1], *(_short(value) for value in row[2:5]), row[5]] for row in one.readings],
        }
        for one in findings
    ]
    facts["sparks"] = {"update": _update_spark(found), "impulse": _impulse_spark(found)}
    facts["pairs"] = [sum(pair.agree for pair in compared), len(compared)]
    told = Foretelling(found, curvatures_of(task))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # runs beyond the edge overflow
        facts["foretold"] = told.sentences()
        facts["largest_stable"] = None if told.refusal else _short(told.threshold)
    return Entry(facts, found, told)


def _on_matrices(given: Any) -> list[str]:
    """What acts on arrays, as `reopt matrix` tells it."""
    try:
        return read_matrix(given).sentences()
    except ReoptError as error:
        return [str(error)]


def _note(optimizer: Optimizer) -> str:
    notes = []
    if decay := getattr(optimizer, "weight_decay", 0.0):
        notes.append(f"decoupled weight decay {decay:.3g} a step, taken off")
    if getattr(optimizer, "displaced", False):
        notes.append("follows the displacement of its parameter")
    return "; ".join(notes)


def _update_spark(found: Examination) -> list[list[float]]:
    """Update against gradient in a state of the runs, or at rest: a few points for a small picture."""
    table = found.operating.functions
    if len(table):
        steps = np.unique(table["step"])
        table = table[table["step"] == steps[len(steps) // 2]]
    else:
        functions = found.update_functions
        table = functions[(functions["place"] == "fixed_point") & (functions["shift"] == 0)]
    return _few(table.sort_values("gradient")[["gradient", "update"]].to_numpy(float))


def _impulse_spark(found: Examination) -> list[list[float]]:
    """Answer to a pulse against its lag, where the optimizer works."""
    from reopt.figures import momentum

    return _few(momentum.of(found).impulse[["lag", "response"]].to_numpy(float)[:SPARK])


def _few(points: np.ndarray) -> list[list[float]]:
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return []
    chosen = np.unique(np.linspace(0, len(points) - 1, SPARK).round().astype(int))
    return [[float(f"{value:.4g}") for value in points[at]] for at in chosen]


def _short(value: float) -> float | str:
    """Nine digits; JSON has no inf and no NaN."""
    return float(f"{value:.9g}") if np.isfinite(value) else str(float(value))


def _rounded(values: np.ndarray) -> list[list[float]]:
    return [[float(f"{value:.9g}") for value in row] for row in np.nan_to_num(values)]


def probe_gradients() -> Float[np.ndarray, "step sequence"]:
    """Normal ones of size 0.3, a slow growth from 1e-3 to 10, and 0.3 that turns its sign every seventh step."""
    steps = np.arange(PROBE)
    normal = 0.3 * np.random.default_rng(0).normal(size=PROBE)
    return np.stack([normal, np.geomspace(1e-3, 10.0, PROBE), 0.3 * (-1.0) ** (steps // 7)], axis=1)


def answers(optimizer: Optimizer) -> Float[np.ndarray, "sequence step"]:
    """The updates along `probe_gradients`, in float64."""
    gradients = probe_gradients()[..., None]
    return updates(Componentwise(optimizer), gradients, np.zeros_like(gradients))[..., 0].T


def glance(made: Entry) -> "Glance | None":
    """What the figure of an entry draws; None where the subject was not examined."""
    from reopt.figures import adaptation, clipping, foretold, momentum, schedule
    from reopt.figures.atlas import Glance

    found, told = made.found, made.foretold
    if found is None or told is None:
        return None
    stability = None
    if not told.refusal:
        tables = told.stability, told.locus, told.along
        stability = foretold.Stability(found.name, *tables, told.threshold, told.curvatures)
    parts = clipping.of(found), momentum.of(found), schedule.of(found), adaptation.of(found)
    return Glance(found.name, *parts, stability=stability)


def relatives(entries: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each entry with answers, by key: `equal` and `scaled`, keys of those whose answers are the same, or the same
    times a constant, of either sign, and `near`, up to three others as [key, sine of the angle between the answers].

    Each of the three sequences counts alike: answers are divided by the size of those of the sequence before the angle
    is taken.
    """
    known = {
        one["key"]: np.asarray(one["answers"], float)
        for one in entries
        if one.get("answers") and np.any(one["answers"])
    }
    keys = list(known)
    if not keys:
        return {}
    whole = np.stack([known[key].ravel() for key in keys])
    sizes = np.linalg.norm([known[key] for key in keys], axis=2, keepdims=True)
    shapes = np.stack([known[key] for key in keys]) / np.where(sizes > 0, sizes, 1.0)
    shapes = shapes.reshape(len(keys), -1)
    shapes /= np.linalg.norm(shapes, axis=1, keepdims=True)
    directions = whole / np.linalg.norm(whole, axis=1, keepdims=True)
    found = {}
    for at, key in enumerate(keys):
        gaps = np.linalg.norm(whole - whole[at], axis=1) / np.linalg.norm(whole[at])
        equal = [other for other, gap in zip(keys, gaps, strict=True) if other != key and gap < EQUAL]
        turned = np.minimum(*(np.linalg.norm(directions - sign * directions[at], axis=1) for sign in (1, -1)))
        scaled = [o for o, gap in zip(keys, turned, strict=True) if o != key and gap < EQUAL and o not in equal]
        sines = np.sqrt(np.clip(1 - np.square(shapes @ shapes[at]), 0, 1))
        others = [int(i) for i in np.argsort(sines, kind="stable") if keys[i] not in (key, *equal, *scaled)]
        near = [[keys[i], float(f"{sines[i]:.3g}")] for i in others[:NEAREST] if sines[i] < NEAR]
        found[key] = {"equal": equal, "scaled": scaled, "near": near}
    return found
