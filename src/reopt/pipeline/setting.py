"""Where an examination takes place: the task, its horizon, and the tuned baselines to compare with."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from reopt.core.errors import ReoptError, shortened
from reopt.core.foreign import foreign
from reopt.core.schema import Range
from reopt.core.tables import read_table
from reopt.evaluation.evaluate import Evaluation
from reopt.examination.compare import Subject, subject_of
from reopt.examination.settings import Settings
from reopt.optimizers.base import Optimizer
from reopt.optimizers.load import build_baseline, load_baseline
from reopt.optimizers.soundness import CALLBACK
from reopt.pipeline import baseline_cache
from reopt.pipeline.config import load_config
from reopt.pipeline.slice import Slice, settings_from
from reopt.pipeline.subjects import load_object, made, named, resolve, split_object
from reopt.shipped.cards import cards
from reopt.tasks.base import Task
from reopt.tasks.registry import task_module, task_names
from reopt.training.tune import EARLY_STOPPING, EveryDrawDiverged, tune

RATE = Range(low=1e-4, high=100.0, scale="log")
_DECAY = Range(low=0.0, high=0.9999, scale="one_minus_log")
_EPS = Range(low=1e-8, high=10.0, scale="log")
RIVALS: dict[str, dict[str, Range]] = {  # wide ranges, for a task of which nothing is known
    "momentum": {"learning_rate": RATE, "momentum": Range(low=0.0, high=0.999, scale="one_minus_log")},
    "rmsprop": {"learning_rate": RATE, "decay": _DECAY, "eps": _EPS},
    "adam": {
        "learning_rate": RATE,
        "beta1": Range(low=0.0, high=0.99, scale="one_minus_log"),
        "beta2": _DECAY,
        "eps": _EPS,
    },
}
TUNING_PROBLEMS = 64


class Setting(NamedTuple):
    """A task by name, how optimizers are examined on it, and the folder in which baselines may lie tuned."""

    name: str
    task: Task
    settings: Settings
    results: Path


def setting_of(
    words: str,
    *,
    config: Path | None,
    steps: int | None,
    default: Path,
    problems: int | None = None,
    seed: int | None = None,
    subjects: Iterable[str] = (),
) -> Setting:
    """The setting of `--task WORDS`: a task of the config, an installed task with its defaults, or `file.py:task`.

    Without a `config` the file `default` is taken for one, if it is there. Where there is none, an installed task has
    the settings and steps that stand on the card of the first of the `subjects` that was trained on it. `steps`,
    `problems` and `seed`, where they are given, are used in place of all that.

    **Raises** `ReoptError`.
    """
    given = (steps, problems, seed)
    if ":" in words:
        name = words.rpartition(":")[2]
        return Setting(name, _as_task(load_object(words), words), _settings(Settings(), *given), Path("results"))
    if config is None and default.is_file():
        config = default
    if config is None:
        module = task_module(words)
        for card in filter(None, map(cards().get, subjects)):
            if card.task == words:
                task = module.create(module.Settings.model_validate(dict(card.problem)))
                return Setting(words, task, _settings(Settings(num_steps=card.scope.steps), *given), Path("results"))
        task = next(
            kind()
            for kind in vars(module).values()
            if isinstance(kind, type) and issubclass(kind, Task) and kind is not Task
        )
        return Setting(words, task, _settings(Settings(), *given), Path("results"))
    checked = load_config(config)
    if words not in checked.tasks:
        raise ReoptError(f"{config} has no task {words!r}; it has: {', '.join(checked.tasks)}")
    module, block = task_module(words), checked.tasks[words]
    task = module.create(module.Settings.model_validate(block.problem))
    return Setting(words, task, _settings(settings_from(checked, words), *given), Path("results") / checked.name)


def evaluation_setting(words: str, *, config: Path | None, default: Path, subjects: Iterable[str]) -> Setting:
    """Where optimizers are judged: as `setting_of` says, of a config its blocks on evaluation alone."""
    if ":" in words or (config is None and not default.is_file()):
        return setting_of(words, config=None, steps=None, default=default, subjects=subjects)
    read = Slice(config or default, "evaluate", task=words)
    block = read.block("evaluation")
    settings = Settings(num_steps=read.num_steps, evaluation_problems=block.problems, evaluation_seed=block.seed)
    return Setting(words, read.task, settings, read.results)


def _settings(settings: Settings, steps: int | None, problems: int | None, seed: int | None) -> Settings:
    """The settings with what was given in place of theirs."""
    changes: dict[str, int] = {}
    if steps is not None:
        changes["num_steps"] = steps
    if problems is not None:
        changes |= {"problems": problems, "evaluation_problems": max(problems, settings.evaluation_problems)}
    if seed is not None:
        changes |= {"seed": seed, "evaluation_seed": seed}
    return replace(settings, **changes)  # type: ignore[arg-type]


def _as_task(found: Any, words: str) -> Task:
    """A task from an object: a `Task`, or a function or class that gives one; seen to give finite losses."""
    if not isinstance(found, Task) and callable(found):
        with foreign(f"{shortened(words)}() failed"):
            found = found()
    if not isinstance(found, Task):
        known = ", ".join(task_names())
        raise ReoptError(
            f"{shortened(words)} is a {type(found).__name__}, not a reopt.tasks.base.Task (installed tasks: {known})"
        )
    with foreign(f"{shortened(words)} cannot give a problem and its loss"):
        problem = found.sample(jax.random.key(0))
        params = found.initial_params(problem)
        if params.shape != (found.num_params,) or not jnp.issubdtype(params.dtype, jnp.floating):
            raise ValueError(f"parameters {params.dtype}{list(params.shape)}, where it says it has {found.num_params}")
        slope = jax.value_and_grad(lambda x: found.loss(problem, x, jnp.zeros((), int)))
        if CALLBACK.search(str(jax.make_jaxpr(slope)(params))):
            raise ValueError("its loss calls back into Python at every step")
        loss, gradient = slope(params)
        if not (jnp.isfinite(loss) and jnp.isfinite(gradient).all()):
            raise ValueError(f"its first loss is {float(loss):g}, or its gradient is not finite")
    return found


def tuned_rivals(
    where: Setting,
    *,
    draws: int,
    seed: int,
    say: Callable[[str], None],
    cache: Path | None = None,
    report: Callable[[int, int, str], object] = lambda done, total, text: None,
) -> dict[str, Optimizer]:
    """Tuned baselines: those of the pipeline if they lie in the folder of results, else tuned now (0 draws: none), or
    read from the folder `cache` where they have been tuned before; `report` (done, total, text) is told how far
    what is tuned now is.
    """
    folder = where.results / where.name / "baselines"
    ready = {path.stem: load_baseline(path) for path in sorted(folder.glob("*.json")) if "." not in path.stem}
    if ready:
        say(f"baselines from {folder}")
        return ready
    rivals: dict[str, Optimizer] = {}
    for done, name in enumerate(RIVALS if draws else ()):
        begin = partial(report, done, len(RIVALS), f"tuning {name}")
        tuned = tuned_rival(name, where, draws=draws, seed=seed, say=say, cache=cache, begin=begin)
        if tuned is None:
            say(f"{name} is left out of the comparison: all {draws} draws of it diverged on this task")
        else:
            rivals[name] = tuned
    return rivals


def tuned_rival(
    name: str,
    where: Setting,
    *,
    draws: int,
    seed: int,
    say: Callable[[str], None],
    cache: Path | None = None,
    begin: Callable[[], object] = lambda: None,
) -> Optimizer | None:
    """A baseline of `RIVALS`, tuned on a task or read from the folder `cache`; None where every draw diverges.

    `begin` is called before it is tuned, not where it is read.
    """
    sizes = {"draws": draws, "problems": TUNING_PROBLEMS, "seed": seed, "num_steps": where.settings.num_steps}
    digest = ""
    winner: dict[str, Any] | None = None
    if cache is not None:
        same = {key: sizes[key] for key in ("problems", "seed", "num_steps")}
        ranges = {key: span.model_dump() for key, span in RIVALS[name].items()}
        settings = sizes | {"ranges": ranges, "early_stopping": EARLY_STOPPING}
        digest = baseline_cache.entry(name, baseline_cache.task_digest(where.task, **same), settings)
        winner = baseline_cache.kept(cache, digest)
    if winner is None:
        begin()
        say(f"tuning {name}: {draws} draws")
        try:
            winner = tune(name, where.task, RIVALS[name], **sizes)[1]
        except EveryDrawDiverged:
            winner = {"diverged": True}
        if cache is not None and (refusal := baseline_cache.keep(cache, digest, winner)):
            say(f"tuned {name} is not kept for later: {refusal}")
    else:
        say(f"{name} as it was tuned before, kept in {cache} (--no-cache tunes it again)")
    return None if winner == {"diverged": True} else build_baseline(name, winner["hyperparameters"])


def to_tune(subjects: Iterable[str], where: Setting) -> list[str]:
    """The baselines among SUBJECTs that are to be tuned here: none of a config, whose pipeline tunes them."""
    tuned = where.results / where.name / "baselines"
    bare = where.results == Path("results")
    return [
        words
        for words in dict.fromkeys(subjects)
        if bare and words in RIVALS and not (tuned / f"{words}.json").exists()
    ]


def is_baseline(words: str, name: str, where: Setting) -> bool:
    """Whether a SUBJECT is the config's tuned baseline of that name, and not another optimizer called the same."""
    file = where.results / where.name / "baselines" / f"{name}.json"
    return words == name or (file.exists() and Path(words).resolve() == file.resolve())


def subject_from_words(words: str, *, task: Task, task_name: str, results: Path) -> Subject:
    """A subject from a SUBJECT of the command line, see `reopt.pipeline.subjects.resolve`. **Raises** `ReoptError`."""
    if ":" in words and not Path(words).exists():
        found = made(load_object(words), words)
        if not isinstance(found, Optimizer):
            with foreign(f"{shortened(words)} cannot take a step"), named(words):
                return subject_of(split_object(words)[1], found)
    return subject_of(*resolve(words, task=task, task_name=task_name, results=results, decay=True))


class Made(NamedTuple):
    """What the pipeline has made of one of its runs: the folder of its examination, and that of the evaluations."""

    folder: Path
    evaluation: Path

    def evaluations(self, names: Iterable[str]) -> dict[str, Evaluation]:
        """The loss curves that are there, by name."""
        files = {name: [self.evaluation / f"{name}{kind}.csv" for kind in ("", ".curves")] for name in names}
        return {
            name: Evaluation(*(read_table(path) for path in pair))
            for name, pair in files.items()
            if all(path.exists() for path in pair)
        }


def made_by_pipeline(words: str, name: str, where: Setting) -> Made | None:
    """What there is of a subject that is a run or a tuned baseline of the config; None of any other."""
    home = where.results / where.name
    own = (home / "optimizers" / name / "best.safetensors", home / "baselines" / f"{name}.json")
    named = words in ("best", name) or any(path.exists() and Path(words).resolve() == path.resolve() for path in own)
    folder = home / "analysis" / name
    return Made(folder, home / "evaluation") if named and ":" not in words and folder.is_dir() else None
