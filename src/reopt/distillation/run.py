"""A learned optimizer distilled: a ladder of rules beside tuned baselines and networks of as few numbers, all judged
on the same held-out problems."""

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import pandas as pd

from reopt.core.errors import ReoptError
from reopt.core.limits import CEILING
from reopt.core.tables import rounded, write_table, write_text
from reopt.distillation.code import optax_code, torch_code
from reopt.distillation.ladder import Recipe, Trained, best_start, kept_share, ladder, validation_objective
from reopt.dynamics.linear_theory import best_linear
from reopt.evaluation.evaluate import evaluate
from reopt.evaluation.keys import problem_key
from reopt.examination.effects import one_mode
from reopt.examination.examination import Examination
from reopt.examination.settings import Settings
from reopt.library import metatrain, tune
from reopt.mechanisms.update_function import gradient_limit
from reopt.optimizers.base import Optimizer
from reopt.optimizers.classical import Momentum
from reopt.optimizers.learned import LearnedOptimizer
from reopt.optimizers.optax_bridge import from_optax
from reopt.optimizers.rules import PARTS, heavy_ball, numbers_of
from reopt.pipeline.setting import RIVALS
from reopt.tasks.base import Task
from reopt.training.tune import EveryDrawDiverged
from reopt.version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from reopt.figures.distilled import Distilled

FILES = ("rule.py", "rule_torch.py", "distilled.json", "distilled.csv")
NETWORKS = (1, 2, 4)  # units of the GRUs beside the rules
ENOUGH = 0.95  # share of what the best rule gains, with which a smaller one is taken
SUBJECT, RULE, NETWORK, BASELINE, THEORY = "subject", "rule", "network", "baseline", "theory"
MOMENTA = (0.05, 0.995)  # with which a rule begins
SLOWER = (1.0, 0.1, 0.01)  # times a rate that was read

Say = Callable[[str], None]


class Distillation:
    """Rules of fewer and fewer numbers in place of an optimizer, and what each keeps; printed, a table.

    **Arguments:** `objectives` are the meta-objectives of each optimizer on the same problems, by name; `kinds` says
    what each is; `rules` are the trained rules by name, the one with all parts first; `validated` has the objectives of
    the baselines on the validation problems of the rules; `about` stands in the files.
    """

    def __init__(
        self,
        subject: str,
        objectives: Mapping[str, np.ndarray],
        kinds: Mapping[str, str],
        sizes: Mapping[str, int],
        rules: Mapping[str, Trained],
        validated: Mapping[str, float],
        about: Mapping[str, Any],
    ) -> None:
        self.subject, self.objectives, self.kinds, self.sizes = subject, objectives, kinds, sizes
        self.rules, self.validated, self.about = rules, validated, about

    @cached_property
    def reference(self) -> str:
        """The tuned baseline with the smallest mean."""
        known = [name for name, kind in self.kinds.items() if kind == BASELINE]
        if not known:
            raise ReoptError("there is no tuned baseline to compare with: let some be tuned (--draws)")
        return min(known, key=lambda name: _counted(self.objectives[name]).mean())

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row an optimizer: name, kind, numbers (NaN of baselines), parts, outer steps that led to it, mean, low,
        high, median, diverged, and the share of the subject's gain that it keeps, over the best baseline by mean and by
        median, and over the best linear method, with intervals."""
        theory = next((name for name, kind in self.kinds.items() if kind == THEORY), None)
        rows = []
        for name, values in self.objectives.items():
            counted = _counted(values)
            half = 1.96 * counted.std(ddof=1) / np.sqrt(len(counted))
            row: dict[str, Any] = {
                "name": name,
                "kind": self.kinds[name],
                "numbers": self.sizes.get(name, np.nan),
                "parts": " ".join(self.rules[name].rule.parts) if name in self.rules else "",
                "outer_steps": self._outer_steps(name),
                "mean": counted.mean(),
                "low": counted.mean() - half,
                "high": counted.mean() + half,
                "median": np.median(counted),
                "diverged": int((~np.isfinite(values) | (values > CEILING)).sum()),
            }
            ways: dict[str, tuple[str, Callable[..., Any]]] = {
                "share": (self.reference, np.mean),
                "share_of_median": (self.reference, np.median),
            }
            if theory:
                ways["share_over_linear"] = (theory, np.mean)
            for column, (over, middle) in ways.items():
                own = [self.objectives[one] for one in (over, name, self.subject)]
                kept = kept_share(*own, middle=middle)
                row |= {column: kept.value, f"{column}_low": kept.low, f"{column}_high": kept.high}
            rows.append(row)
        return pd.DataFrame(rows)

    def _outer_steps(self, name: str) -> float:
        if name in self.rules:
            return self.rules[name].outer_steps
        return self.about["recipe"]["outer_steps"] if self.kinds[name] == NETWORK else np.nan

    @cached_property
    def chosen(self) -> str:
        """The rule that is written out: the smallest whose gain over the best baseline, in validation, is nearly that
        of the best; where none is better than that baseline, the best."""
        start = min(self.validated.values())
        gains = {name: start - one.validation for name, one in self.rules.items()}
        best = max(gains, key=lambda name: gains[name])
        if gains[best] <= 0:
            return best
        enough = [name for name, gain in gains.items() if gain >= ENOUGH * gains[best]]
        return min(enough, key=lambda name: self.rules[name].rule.size)

    def write(self, folder: Path | str, formats: Iterable[str] = ("svg", "png")) -> None:
        """rule.py, rule_torch.py, distilled.json (every rule's numbers), distilled.csv and the figure distilled."""
        from reopt.figures.save import save

        folder, rule = Path(folder), self.rules[self.chosen].rule
        title = f"{self.subject} distilled to {rule.size} numbers, on {self.about['task']} (reopt {__version__})"
        write_text(folder / FILES[0], optax_code(rule, title))
        write_text(folder / FILES[1], torch_code(rule, title))
        rungs = {
            name: {
                "parts": list(one.rule.parts),
                "horizon": one.rule.horizon,
                "validation": one.validation,
                "outer_steps": one.outer_steps,
                "steps_skipped": one.skipped,
                "numbers": {key: np.asarray(value, float).tolist() for key, value in one.rule.numbers.items()},
            }
            for name, one in self.rules.items()
        }
        content = {"subject": self.subject, "chosen": self.chosen, **self.about, "rules": rungs}
        write_text(folder / FILES[2], json.dumps(content, indent=2) + "\n")
        write_table(folder / FILES[3], rounded(self.table))
        save(self.figure[0], *(folder / f"distilled.{kind}" for kind in formats))

    @property
    def drawn(self) -> "Distilled":
        """What the figure is drawn from."""
        from reopt.figures.distilled import Distilled

        return Distilled(self.subject, str(self.about["task"]), self.table, self.chosen)

    @property
    def figure(self) -> "tuple[Figure, str]":
        """(figure, caption)."""
        from reopt.figures import distilled

        return distilled.figure(self.drawn), distilled.caption(self.drawn)

    def sentences(self) -> list[str]:
        """What came out, a sentence an optimizer."""
        lines = []
        for row in self.table.sort_values(["kind", "numbers"]).itertuples():
            text = f"{row.name}: {row.mean:.4f} [{row.low:.4f}, {row.high:.4f}]"
            if row.kind in (RULE, NETWORK):
                text += f", {int(row.numbers)} numbers, keeps " + (
                    f"{row.share:.0%} [{row.share_low:.0%}, {row.share_high:.0%}] of the gain over {self.reference}"
                    if np.isfinite(row.share)
                    else f"an undefined share, for {self.subject} is not surely better than {self.reference}"
                )
            lines.append(text + (f"; diverges on {row.diverged}" if row.diverged else ""))
        return [*lines, f"written out: {self.chosen}, {self.rules[self.chosen].rule.size} numbers"]

    def __repr__(self) -> str:
        return "\n".join([f"{self.subject}, distilled on {self.about['task']}", *self.sentences()])


def distil(
    optimizer: Optimizer,
    task: Task,
    settings: Settings | None = None,
    *,
    rivals: Mapping[str, Optimizer] | None = None,
    parts: Sequence[str] = tuple(PARTS),
    recipe: Recipe | None = None,
    networks: Sequence[int] = NETWORKS,
    name: str = "optimizer",
    task_name: str = "task",
    seed: int = 0,
    say: Say = lambda text: None,
    report: Callable[[int, int, str], None] = lambda done, total, text: None,
) -> Distillation:
    """Meta-train rules of few numbers to take the place of `optimizer`, and judge what each keeps of its gain.

    **Arguments:** `rivals` are tuned baselines by name (default: momentum, RMSProp and Adam, tuned now); `parts` those
    of the largest rule; `recipe` how each rule is trained, and `networks` units of GRUs that are trained as long;
    `seed` draws training problems, those of `settings.evaluation_seed` judge.

    **Raises** `ReoptError` where the optimizer has no derivatives, or a part is unknown.

    ```python
    import reopt

    result = reopt.distil(reopt.load("quadratic/gru32"), reopt.tasks.Quadratic())  # takes minutes
    print(result)
    result.write("distilled")
    ```
    """
    settings, recipe = settings or Settings(), recipe or Recipe()
    numbers_of(tuple(parts))
    if not isinstance(optimizer, Optimizer):
        optimizer = from_optax(optimizer)
    rivals = _tuned(task, settings) if rivals is None else {key: one for key, one in rivals.items() if key != name}
    if not rivals:
        raise ReoptError("there is no tuned baseline to compare with: let some be tuned (--draws)")
    taken = {"best_linear", *rivals, *(f"gru-{units}" for units in networks)}
    if name in taken:
        raise ReoptError(f"an optimizer called {name!r} is among those to compare with: give it another name")
    found = Examination(optimizer, task, settings, name=name)
    say(f"readings of {name}, with which the rules begin")
    gradients = found.met.gradients
    usual, largest = (gradient_limit(gradients, quantile=part, factor=1.0) for part in (0.5, 0.999))
    starts = [
        heavy_ball(rate, float(np.clip(momentum, *MOMENTA)), largest=largest, usual=usual)
        for rate, momentum in _starts(found, rivals)
    ]
    start = best_start(starts, task, recipe, num_steps=settings.num_steps, seed=seed)
    rate, momentum = float(np.exp(start["rate_log"])), 1 / (1 + float(np.exp(-start["q0"])))
    say(f"a heavy ball of rate {rate:.3g} and momentum {momentum:.3f}")
    rungs = ladder(start, parts, task, recipe, num_steps=settings.num_steps, seed=seed, usual=usual, report=report)
    rules = {f"rule-{one.rule.size}": one for one in rungs}
    for key, trained in rules.items():
        if trained.skipped:
            say(f"{key}: the gradient was not finite at {trained.skipped} of {recipe.outer_steps} outer steps")
    subjects: dict[str, tuple[str, Optimizer]] = {name: (SUBJECT, optimizer)}
    subjects |= {key: (RULE, one.rule) for key, one in rules.items()}
    sizes = {key: one.rule.size for key, one in rules.items()}
    for units in networks:
        network = _network(units, optimizer, task, settings, recipe, seed=seed, usual=usual, rate=rate, say=say)
        if network is not None:
            subjects[f"gru-{units}"] = NETWORK, network
            sizes[f"gru-{units}"] = sum(leaf.size for leaf in jax.tree.leaves(network))
    subjects |= {key: (BASELINE, one) for key, one in rivals.items()}
    if hasattr(task, "log10_eigenvalues"):
        subjects["best_linear"] = THEORY, best_linear(task, num_steps=settings.num_steps)
    objectives = {}
    for key, (_, one) in subjects.items():
        runs = evaluate(
            one,
            task,
            name=key,
            task_name=task_name,
            problems=settings.evaluation_problems,
            seed=settings.evaluation_seed,
            num_steps=settings.num_steps,
        )
        objectives[key] = runs.table.sort_values("problem")["meta_objective"].to_numpy(float)
    about = {
        "task": task_name,
        "num_steps": settings.num_steps,
        "seed": seed,
        "judged_on": {"problems": settings.evaluation_problems, "seed": settings.evaluation_seed},
        "recipe": {key: value for key, value in recipe._asdict().items() if key != "clipping"},
        "reopt": __version__,
    }
    kinds = {key: kind for key, (kind, _) in subjects.items()}
    held_out = task.sample_batch(problem_key("validation", seed), recipe.validation)
    validated = {
        key: float(validation_objective(one, task, held_out, settings.num_steps)) for key, one in rivals.items()
    }
    return Distillation(name, objectives, kinds, sizes, rules, validated, about)


def _tuned(task: Task, settings: Settings) -> dict[str, Optimizer]:
    found = {}
    for name in RIVALS:
        with contextlib.suppress(EveryDrawDiverged):
            found[name] = tune(name, task, num_steps=settings.num_steps).optimizer
    return found


def _starts(found: Examination, rivals: Mapping[str, Optimizer]) -> list[tuple[float, float]]:
    """(rate, momentum) of heavy balls to begin from: as the optimizer answers a pulse at rest, as its updates go with
    the gradients that it meets, both also slower; and as tuned momentum.

    An adaptive optimizer at rest is far from any use of it: the first alone may diverge on every problem.
    """
    mode, met = one_mode(found.impulse), found.met
    kept = met.updates.shape[1]
    gradients, updates = met.gradients[:, :kept], met.updates
    good = np.isfinite(gradients) & np.isfinite(updates)
    along = -float(np.sum(gradients[good] * updates[good])) / max(float(np.sum(gradients[good] ** 2)), 1e-300)
    beta = mode.beta if np.isfinite(mode.beta) else 0.0
    read = [
        (rate, momentum) for rate in (mode.alpha, along) if np.isfinite(rate) and rate > 0 for momentum in (beta, 0.0)
    ]
    starts = [(rate * slower, momentum) for rate, momentum in read for slower in SLOWER]
    known = [(float(one.learning_rate), float(one.momentum)) for one in rivals.values() if type(one) is Momentum]
    return [*starts, *known] or [(0.1, 0.0)]


def _network(
    units: int,
    like: Optimizer,
    task: Task,
    settings: Settings,
    recipe: Recipe,
    *,
    seed: int,
    usual: float,
    rate: float,
    say: Say,
) -> LearnedOptimizer | None:
    """A GRU of so few units, trained as long as the rules; None where its training diverges."""
    learned = isinstance(like, LearnedOptimizer)
    scales = (like.input_scale, like.output_scale) if learned else (1 / usual, rate * usual)  # type: ignore[attr-defined]
    try:
        return metatrain(
            task,
            units=units,
            outer_steps=recipe.outer_steps,
            num_steps=settings.num_steps,
            problems=recipe.problems,
            learning_rate=0.01,
            input_scale=float(scales[0]),
            output_scale=float(scales[1]),
            input_fan_in="inputs",
            seed=seed,
            validation={"problems": recipe.validation, "every": min(recipe.every, recipe.outer_steps), "seed": 0},
        )
    except ReoptError as error:
        say(f"a GRU of {units} units is left out: {error}")
        return None


def _counted(values: np.ndarray) -> np.ndarray:
    """Meta-objectives, those of what diverges as the ceiling."""
    return np.minimum(np.nan_to_num(values, nan=CEILING, posinf=CEILING), CEILING)
