"""What the library offers beside its types: each function takes an optimizer of optax or of reopt, and a task."""

import tempfile
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from reopt.core.errors import ReoptError
from reopt.core.schema import Range
from reopt.evaluation.evaluate import Evaluation
from reopt.evaluation.evaluate import evaluate as _evaluate
from reopt.evaluation.evaluate_optax import evaluate_optax
from reopt.examination.compare import Difference, difference
from reopt.examination.settings import Settings
from reopt.optimizers.base import Optimizer
from reopt.optimizers.foreign_gru import load_npz
from reopt.optimizers.learned import LearnedOptimizer
from reopt.optimizers.load import build_baseline, load_baseline, load_learned
from reopt.optimizers.optax_bridge import from_optax
from reopt.optimizers.refusals import MORE, RANDOM, NotComponentWise
from reopt.optimizers.torch_rules import TorchOptimizer
from reopt.pipeline.config import LearnedConfig
from reopt.pipeline.setting import RIVALS
from reopt.pipeline.subjects import SHIPPED_NAME
from reopt.shipped.cards import OutOfRange, load_shipped
from reopt.shipped.use import task_out_of_range
from reopt.tasks.base import Task
from reopt.training.metatrain import Report, write_best
from reopt.training.metatrain import metatrain as _metatrain
from reopt.training.tune import tune as _tune


def load(path: Path | str) -> Optimizer:
    """An optimizer: a shipped one by its name (`mnist/gru16`, see `cards`), or from a file, which is a checkpoint of
    `metatrain` (`best.safetensors`), a tuned baseline (`adam.json`), or the weights of somebody else's GRU (`.npz`).

    A shipped one has its card as `.card`: what it was trained on, and what it reached there.

    **Raises** `ReoptError` where there is none of that name, or the file is none of these, or damaged.

    ```python
    import reopt

    optimizer = reopt.load("mnist/gru16")
    print(optimizer.card)
    ```
    """
    if SHIPPED_NAME.fullmatch(str(path)):
        return load_shipped(str(path))
    readers = {".safetensors": load_learned, ".json": load_baseline, ".npz": load_npz}
    kind = Path(path).suffix
    if kind not in readers:
        raise ReoptError(f"{path}: the name of an optimizer's file ends with {', '.join(readers)}")
    return readers[kind](Path(path))


def diff(
    a: Any,
    b: Any,
    task: Task,
    settings: Settings | None = None,
    *,
    names: tuple[str, str] = ("A", "B"),
    **changes: Any,
) -> Difference:
    """What sets two optimizers apart, mechanism by mechanism; printed, its sentences and the quantities that differ.

    **Arguments:** `names` are used in the sentences; `changes` are fields of `Settings`, for instance `num_steps=100`.

    **Raises** `ReoptError` where one of them cannot take a step.

    ```python
    import optax, reopt

    print(reopt.diff(optax.adam(1e-3), optax.nadam(1e-3), reopt.tasks.Quadratic()))
    ```
    """
    return difference(a, b, task, settings, names=names, **changes)


def evaluate(
    optimizer: Any,
    task: Task,
    *,
    problems: int = 256,
    seed: int = 0,
    num_steps: int = 201,
    name: str = "optimizer",
) -> Evaluation:
    """Run an optimizer on `problems` held-out problems of `seed`: `.table` (a row a problem: meta_objective, the mean
    over steps of loss / initial loss, and final_loss) and `.curves` (a row a step).

    An optax transformation that couples parameters or looks at their values, shapes or names is run on the arrays of
    the task's network (`layer_0/weight`, ...), or on one vector where the task has none. Of a shipped optimizer that is
    used far outside what it was trained on, it warns (`OutOfRange`, see `check_range`).

    **Raises** `ReoptError` where an optax transformation needs more than gradients and parameters, or draws random
    numbers.
    """
    try:
        subject = optimizer if isinstance(optimizer, Optimizer) else from_optax(optimizer)
    except NotComponentWise as error:
        if error.kind in (MORE, RANDOM):
            raise
        asked = {"name": name, "task_name": type(task).__name__.lower()}
        return evaluate_optax(optimizer, task, **asked, problems=problems, seed=seed, num_steps=num_steps)
    for sentence in task_out_of_range(subject, task, num_steps=num_steps, seed=seed):
        warnings.warn(sentence, OutOfRange, stacklevel=2)
    sizes = {"problems": problems, "seed": seed, "num_steps": num_steps}
    words = {"name": name, "task_name": type(task).__name__.lower()}
    if isinstance(subject, TorchOptimizer) and subject.sees_values:
        return evaluate_optax(subject.transformation, task, **words, **sizes)  # type: ignore[arg-type]
    return _evaluate(subject, task, **words, **sizes)  # type: ignore[arg-type]


class Tuned(NamedTuple):
    """A baseline after random search: the best draw as an optimizer, and the table of all draws."""

    optimizer: Optimizer
    hyperparameters: dict[str, float]
    meta_objective: float
    table: pd.DataFrame


def tune(
    baseline: str,
    task: Task,
    *,
    ranges: dict[str, tuple[float, float, str]] | None = None,
    draws: int = 200,
    problems: int = 64,
    seed: int = 0,
    num_steps: int = 201,
) -> Tuned:
    """Tune `sgd`, `momentum`, `rmsprop`, `adam` or `adam_decay` on tuning problems of `task`, by random search.

    **Arguments:** `ranges` gives (low, high, scale) for each hyperparameter, scale being "log", "linear" or
    "one_minus_log"; without it wide ranges are used, which are known for momentum, rmsprop and adam.

    **Raises** `ReoptError` where the baseline or its ranges are unknown, or every draw diverges.
    """
    if ranges is None and baseline not in RIVALS:
        raise ReoptError(f"no ranges are known for {baseline!r}, only for {', '.join(RIVALS)}: give `ranges`")
    spans = (
        RIVALS[baseline]
        if ranges is None
        else {key: Range(low=low, high=high, scale=scale) for key, (low, high, scale) in ranges.items()}  # type: ignore[arg-type]
    )
    table, winner = _tune(baseline, task, spans, draws=draws, problems=problems, seed=seed, num_steps=num_steps)
    best = winner["hyperparameters"]
    return Tuned(build_baseline(baseline, best), best, winner["meta_objective"], table)


def learned_settings(
    *,
    cell: str,
    units: int,
    outer_steps: int = 1000,
    problems: int = 64,
    learning_rate: float = 3e-3,
    input_scale: float = 1.0,
    output_scale: float = 1.0,
    input_fan_in: str = "units",
    seed: int = 0,
    **training: Any,
) -> LearnedConfig:
    """The settings of a meta-training as `metatrain` makes it, see there. **Raises** `ReoptError`."""
    group = next(size for size in range(min(16, problems), 0, -1) if problems % size == 0)
    block = {
        "problem": {},
        "outer_steps": outer_steps,
        "problems": problems,
        "learning_rate": learning_rate,
        "schedule": {"kind": "cosine", "warmup_steps": min(50, outer_steps // 10), "final_fraction": 0.02},
        "beta1": 0.9,
        "beta2": 0.99,
        "eps": 1e-8,
        "clip": {"kind": "norm", "value": 1.0},
        "l2_penalty": 0.0,
        "estimator": {"kind": "full"},
        "cotangent_clipping": {"factor": 4.0, "group": group},
        "average": 0.98,
        "memory_mb": 150.0,
        "validation": {"problems": 256, "every": min(50, outer_steps), "seed": 0},
    }
    try:
        return LearnedConfig.model_validate(
            {
                "cell": cell,
                "units": units,
                "features": "raw",
                "input_scale": input_scale,
                "output_scale": output_scale,
                "input_fan_in": input_fan_in,
                "seeds": [seed],
                "training": block | training,
            }
        )
    except ValueError as error:
        raise ReoptError(f"metatrain: {error}") from error


def metatrain(
    task: Task,
    *,
    cell: str = "gru",
    units: int = 32,
    outer_steps: int = 1000,
    num_steps: int = 201,
    problems: int = 64,
    learning_rate: float = 3e-3,
    input_scale: float = 1.0,
    output_scale: float = 1.0,
    input_fan_in: str = "units",
    seed: int = 0,
    out: Path | str | None = None,
    report: Report = lambda done, total, text: None,
    **training: Any,
) -> LearnedOptimizer:
    """Meta-train a learned optimizer on `task`: its best weights in validation.

    **Arguments:** `cell` is "gru", "lstm" or "vanilla"; gradients are multiplied by `input_scale`, updates by
    `output_scale` (choose them so that typical ones are of order 1); input weights start with variance 1 / `units`, as
    in the paper's code, or, with `input_fan_in` "inputs", of order 1; an outer step sees `problems` fresh problems of
    `num_steps` steps. `out`, a `.safetensors` file, keeps the checkpoint, and a run that was killed goes on from beside
    it. `training` are further keys of the config's block `training` (docs: config).

    **Raises** `ReoptError` where the run diverges or a setting is impossible.
    """
    settings = learned_settings(
        cell=cell,
        units=units,
        outer_steps=outer_steps,
        problems=problems,
        learning_rate=learning_rate,
        input_scale=input_scale,
        output_scale=output_scale,
        input_fan_in=input_fan_in,
        seed=seed,
        **training,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(out) if out is not None else Path(folder) / "best.safetensors"
        state = path.with_name(f"{path.stem}.state.safetensors")
        final, description = _metatrain(
            task,
            settings,
            task_name=type(task).__name__.lower(),
            num_steps=num_steps,
            seed=seed,
            state_file=state,
            report=report,
        )
        write_best(path, final, description)
        state.unlink(missing_ok=True)
        return load_learned(path)
