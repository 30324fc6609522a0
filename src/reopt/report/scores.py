"""What each optimizer reached on the held-out problems of a task, and whether the learned one beats the baselines."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reopt.core.checkpoint import read_checkpoint
from reopt.core.errors import ReoptError
from reopt.core.tables import read_table
from reopt.evaluation.evaluate import mean_interval
from reopt.optimizers.names import THEORY
from reopt.pipeline.stages import block, judged, learned, lookup
from reopt.pipeline.subjects import best_checkpoint


class Score(NamedTuple):
    """What an optimizer reached on the held-out problems of a task; `lost` of them, on which it diverged, left out."""

    subject: str
    kind: str
    mean: float
    low: float
    high: float
    lost: int

    @property
    def learned(self) -> bool:
        """Whether it was meta-trained."""
        return self.kind.startswith("learned")

    @property
    def value(self) -> str:
        """Its mean, in words."""
        return score_text(self.mean)

    @property
    def interval(self) -> str:
        """Its interval, and on how many problems it diverged, in words."""
        text = f"[{score_text(self.low)}, {score_text(self.high)}]"
        return text + (f", but diverges on {self.lost} of them, left out here" if self.lost else "")


class Contest(NamedTuple):
    """The learned optimizer that was best in validation beside the best baseline, on the same problems of a task.

    `gain` is by how much its meta-objective is lower, the mean over problems, with a 95% interval from `low` to `high`;
    NaN where one of them diverges on a problem.
    """

    task: str
    learned: Score
    rival: Score
    problems: int
    gain: float
    low: float
    high: float

    @property
    def better(self) -> str:
        """Which of them is better: learned, baseline, neither (the interval holds 0), undetermined (one diverges)."""
        if self.low > 0:
            return "learned"
        if self.high < 0:
            return "baseline"
        return "neither" if self.low <= 0 <= self.high else "undetermined"


def score_text(value: float) -> str:
    """A meta-objective with four decimals; a huge one with two digits."""
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.2g}"


def evaluation(folder: Path, subject: str) -> "pd.Series[float]":
    """Meta-objectives of a subject by problem; `folder` is that of the task's results. **Raises** `ReoptError`."""
    columns = ("problem", "meta_objective")
    return read_table(folder / f"evaluation/{subject}.csv", columns).set_index("problem")["meta_objective"]


def scores(config: dict[str, Any], task: str, results: Path) -> list[Score]:
    """What each optimizer reached, best first; those that diverge somewhere last.

    `config` is the file's content, `results` its folder of results. **Raises** `ReoptError` where a file is missing.
    """
    folder, found = results / task, []
    for subject in judged(config, task):
        values = evaluation(folder, subject).to_numpy()
        finite = np.isfinite(values)
        kind = "learned" if subject in learned(config, task) else "theory" if subject in THEORY else "baseline"
        if ended := _diverged(folder / f"optimizers/{subject}/best.safetensors"):
            kind += f", meta-training diverged at outer step {ended:,}"
        found.append(Score(subject, kind, *mean_interval(values[finite]), len(values) - int(finite.sum())))
    return sorted(found, key=lambda score: (score.lost > 0, score.mean))


def contest(config: dict[str, Any], task: str, results: Path) -> Contest:
    """The learned optimizer of a task against the best baseline.

    **Raises** `ReoptError` where a file is missing, where there is no baseline, or where the best run is none of the
    config's.
    """
    chosen = best_checkpoint(results / task / "optimizers").parent.name
    found = scores(config, task, results)
    mine = next((score for score in found if score.subject == chosen), None)
    rival = next((score for score in found if not score.learned), None)
    if mine is None:
        raise ReoptError(f"{results / task / 'optimizers' / chosen} is of no run of the config: move it elsewhere")
    if rival is None:
        raise ReoptError(f"{task} has no baseline that {chosen} could be compared with")
    gains = (evaluation(results / task, rival.subject) - evaluation(results / task, chosen)).to_numpy()
    gain = mean_interval(gains) if np.isfinite(gains).all() else (np.nan,) * 3
    return Contest(task, mine, rival, problems_of(config, task), *map(float, gain))


def problems_of(config: dict[str, Any], task: str) -> int:
    """How many held-out problems of a task there are."""
    count: int = lookup(config, block(config, task, "evaluation"))["problems"]
    return count


def _diverged(checkpoint: Path) -> int:
    """The outer step at which a learned optimizer's run ended early; 0 where it did not, and for baselines."""
    return read_checkpoint(checkpoint)[1].get("diverged", 0) if checkpoint.exists() else 0
