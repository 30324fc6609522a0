"""Shipped learned optimizers by name, each with a card: what it was trained on, how, and what it reached there."""

import functools
import hashlib
import importlib.resources
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, PyTree

from reopt.core.errors import ReoptError, shortened
from reopt.optimizers.base import Optimizer
from reopt.optimizers.learned import LearnedOptimizer
from reopt.optimizers.load import load_learned

FAR = 10.0  # factor in the median gradient of the first step, beyond which gradients are of another size
FAR_STEPS = 2.0  # factor in the number of steps


class OutOfRange(UserWarning):
    """A learned optimizer is used far outside what it was trained on."""


@dataclass(frozen=True)
class Scope:
    """What an optimizer was trained on.

    `steps` a run, `params` a problem; `low`, `median` and `high` are the 5%, 50% and 95% quantiles of the absolute
    gradients that are not zero at the first step, `largest` is the 99.9% quantile over whole runs.
    """

    steps: int
    params: int
    low: float
    median: float
    high: float
    largest: float


@dataclass(frozen=True)
class Score:
    """Mean meta-objective on held-out problems (loss over initial loss, mean over steps) and its 95% interval."""

    optimizer: str
    mean: float
    low: float
    high: float
    diverged: int  # problems on which the run left the finite numbers; they are left out of the mean

    def __str__(self) -> str:
        lost = f", diverges on {self.diverged}" if self.diverged else ""
        return f"{self.mean:.4f} [{self.low:.4f}, {self.high:.4f}]{lost}"


@dataclass(frozen=True, eq=False)
class Card:
    """What a shipped optimizer is for: its task and `problem` (the task's settings), what it was trained on (`scope`),
    the recipe in a line, its score and that of the best tuned baseline on the same held-out problems.

    `run` is the run of the pipeline that it is, `version` that of reopt which trained it, `sha256` that of its file.
    """

    name: str
    task: str
    problem: Mapping[str, Any]
    scope: Scope
    recipe: str
    score: Score
    baseline: Score
    problems: int  # held-out ones, of seed `seed`
    seed: int
    run: str
    version: str
    license: str
    sha256: str
    remark: str = ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Card) and (self.name, self.sha256) == (other.name, other.sha256)

    def __hash__(self) -> int:  # a static field of an optimizer, which compiled programs are found by
        return hash((self.name, self.sha256))

    @property
    def verdict(self) -> str:
        """The score held against that of the best baseline: "better", "worse", or "alike" where intervals overlap."""
        if self.score.diverged > self.baseline.diverged or self.score.low > self.baseline.high:
            return "worse"
        return "better" if self.score.high < self.baseline.low else "alike"

    def __str__(self) -> str:
        scope = self.scope
        settings = ", ".join(f"{key} {value}" for key, value in self.problem.items())
        lines = [
            self.name,
            f"task      {self.task}: {settings}",
            f"scope     {scope.steps} steps, {scope.params} parameters; gradients of the first step {scope.low:.2g} to "
            f"{scope.high:.2g} (median {scope.median:.2g}), of all steps up to {scope.largest:.2g}",
            f"recipe    {self.recipe}",
            f"score     {self.score}, {self.problems} problems of seed {self.seed}",
            f"baseline  {self.baseline}, {self.baseline.optimizer}, the best of the tuned ones",
            f"run       {self.run}, by reopt {self.version}",
            f"sha256    {self.sha256}",
            f"license   {self.license}",
        ]
        return "\n".join([*lines, *([f"remark    {self.remark}"] if self.remark else [])])


class ShippedOptimizer(LearnedOptimizer):
    """A learned optimizer that carries its card."""

    card: Card = eqx.field(static=True, kw_only=True)


def _folder() -> Traversable:
    return importlib.resources.files("reopt.shipped")


@dataclass(frozen=True)
class _Shipment:
    cards: Mapping[str, Card]
    left_out: Mapping[str, str] = field(default_factory=dict)


@functools.cache
def _shipment() -> _Shipment:
    try:
        content = json.loads(_folder().joinpath("cards.json").read_text(encoding="utf-8"))
        read = [card_of(one) for one in content["cards"]]
        return _Shipment(MappingProxyType({card.name: card for card in read}), content["left_out"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReoptError("the cards of the shipped optimizers are damaged or not there: install reopt again") from error


def card_of(content: dict[str, Any]) -> Card:
    """A card from what stands in `cards.json`."""
    parts = {"scope": Scope, "score": Score, "baseline": Score}
    return Card(**{key: parts[key](**value) if key in parts else value for key, value in content.items()})


def cards() -> Mapping[str, Card]:
    """The card of each shipped optimizer, by its name.

    **Raises** `ReoptError` where the installed files are damaged.

    ```python
    import reopt

    for name, card in reopt.cards().items():
        print(name, card.score, card.verdict)
    ```
    """
    return _shipment().cards


def card_named(name: str) -> Card:
    """The card of the shipped optimizer TASK/NETWORK. **Raises** `ReoptError`, with the names there are."""
    if (card := cards().get(name)) is not None:
        return card
    why = f" ({left_out}; `dvc pull` in a clone brings it)" if (left_out := _shipment().left_out.get(name)) else ""
    raise ReoptError(f"no shipped optimizer is called {shortened(name)!r}{why}; there are: {', '.join(cards())}")


def load_shipped(name: str) -> ShippedOptimizer:
    """The shipped optimizer TASK/NETWORK, its file held against the digest on its card. **Raises** `ReoptError`."""
    card = card_named(name)
    file = _folder().joinpath(f"{name}.safetensors")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ReoptError(f"the file of {name} cannot be read: install reopt again") from error
    if hashlib.sha256(content).hexdigest() != card.sha256:
        raise ReoptError(f"the file of {name} is not the one on its card (sha256): install reopt again")
    with importlib.resources.as_file(file) as path:
        optimizer = load_learned(path)
    parts = {part.name: getattr(optimizer, part.name) for part in fields(LearnedOptimizer)}
    return ShippedOptimizer(**parts, card=card)


def out_of_range(optimizer: Optimizer, gradients: PyTree[Array] = None, *, num_steps: int | None = None) -> list[str]:
    """What of a use lies far outside the card of an optimizer, a sentence each; none where it has no card.

    **Arguments:** `gradients` are those of the first step, a pytree of arrays: far outside is a median, over what is
    finite and not zero, more than `FAR` (10) times above or below that on the card. `num_steps` is how many steps are
    to be taken: far outside is more than `FAR_STEPS` (2) times as many as in training.
    """
    card = getattr(optimizer, "card", None)
    if not isinstance(card, Card):
        return []
    scope, found = card.scope, []
    leaves = [np.abs(np.asarray(leaf, np.float64)).ravel() for leaf in jax.tree.leaves(gradients)]
    every = np.concatenate([np.zeros(0), *leaves])
    sizes = every[np.isfinite(every) & (every > 0)]
    if len(sizes) and not 1 / FAR <= (ratio := float(np.median(sizes)) / scope.median) <= FAR:
        compared = f"{ratio:.3g} times as large" if ratio > 1 else f"{1 / ratio:.3g} times smaller"
        found.append(
            f"{card.name} was trained on gradients of about {scope.median:.2g} at the first step; these are "
            f"{compared} (median {float(np.median(sizes)):.2g}): scale them by {1 / ratio:.2g}, or expect it to fail"
        )
    if num_steps is not None and num_steps > FAR_STEPS * scope.steps:
        found.append(
            f"{card.name} was trained for {scope.steps} steps; {num_steps} are {num_steps / scope.steps:.3g} times as "
            "many: what it does later was never trained"
        )
    return found


def check_range(optimizer: Optimizer, gradients: PyTree[Array], *, num_steps: int | None = None) -> None:
    """Warn (`OutOfRange`) where a shipped optimizer is to be used far outside what it was trained on.

    For a training loop of one's own, once, before it is compiled: `gradients` are those of the first step (any pytree
    of arrays), `num_steps` how many steps are to be taken. See `out_of_range` for what is far.

    ```python
    import jax, jax.numpy as jnp, reopt

    optimizer = reopt.load("quadratic/gru32")
    gradients = jax.grad(lambda x: jnp.sum((x - 1) ** 2))(jnp.zeros(5))
    reopt.check_range(optimizer, gradients, num_steps=200)
    transformation = reopt.as_optax(optimizer)
    ```
    """
    for sentence in out_of_range(optimizer, gradients, num_steps=num_steps):
        warnings.warn(sentence, OutOfRange, stacklevel=2)
