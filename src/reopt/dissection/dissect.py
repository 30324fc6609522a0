"""One call from an optimizer and a task to tables, figures and a page of verdicts."""

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reopt.artifacts.tables import write_arrays, write_table, write_text
from reopt.dissection.examine import Examination, examine
from reopt.dissection.page import page
from reopt.dissection.readings import FAINT, Finding, read, readings_table
from reopt.dynamics.pca import PCA
from reopt.figures import adaptation, clipping, momentum, performance, schedule
from reopt.figures.save import render, save
from reopt.optimizers.base import Optimizer
from reopt.optimizers.optax_bridge import FromOptax
from reopt.tasks.base import Task
from reopt.training.evaluate import Evaluation, evaluate
from reopt.training.evaluate_optax import evaluate_optax

Say = Callable[[str], None]
SHOWN_LAGS = 51  # of the impulse response in the figure


def _in_the_plane(basis: PCA) -> dict[str, np.ndarray]:
    """The principal components for drawing on two axes; states of fewer components have 0 on the others."""
    missing = max(0, 2 - len(basis.explained))
    return basis._asdict() | {
        "components": np.pad(basis.components, ((0, missing), (0, 0))),
        "explained": np.pad(basis.explained, (0, missing)),
        "projected": np.pad(basis.projected, [(0, 0)] * (basis.projected.ndim - 1) + [(0, missing)]),
    }


class Dissection:
    """The examination of one optimizer: `findings`, `readings` and `schedule` (tidy tables), `figures`, `write`."""

    def __init__(
        self,
        name: str,
        task: str,
        found: Examination,
        findings: list[Finding],
        runs: Evaluation,
        caveats: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.task = task
        self.examination = found
        self.findings = findings
        self.runs = runs
        self.caveats = caveats  # what the readings leave out, a sentence each

    @property
    def readings(self) -> pd.DataFrame:
        """mechanism, quantity, index, value, low, high, unit, verdict."""
        return readings_table(self.findings)

    @property
    def schedule(self) -> pd.DataFrame:
        """step, effective_learning_rate: along the autonomous trajectory."""
        return self.examination.schedule.table[["step", "effective_learning_rate"]]

    @cached_property
    def figures(self) -> dict[str, tuple[Figure, str]]:
        """(figure, caption) by name: performance, momentum, clipping, schedule, adaptation."""
        found, basis = self.examination, _in_the_plane(self.examination.pca)
        points = found.points._asdict()
        modes = found.modes[found.modes["participation"] > FAINT]
        impulse = found.impulse[found.impulse["lag"] < SHOWN_LAGS]
        data = {
            performance: performance.Performance(self.name, self.runs.curves, self.runs.table),
            momentum: momentum.Momentum(self.name, basis, points, found.update_functions, modes, impulse),
            clipping: clipping.Clipping(self.name, found.update_functions, found.clipping, found.density),
            schedule: schedule.Schedule(self.name, found.schedule.table, found.schedule.summary, basis),
            adaptation: adaptation.Adaptation(
                self.name, found.adaptation.table, found.adaptation.functions, found.adaptation.summary, basis
            ),
        }
        drawn = {}
        for module, one in data.items():
            tasks = {self.task: one}
            drawn[module.__name__.rpartition(".")[2]] = (module.figure(tasks), module.caption(tasks))  # type: ignore[attr-defined]
        return drawn

    def page(self) -> str:
        """The whole examination as one HTML page that needs no other file."""
        pictures = {name: (render(figure, "svg"), caption) for name, (figure, caption) in self.figures.items()}
        return page(self.name, self.task, self.findings, pictures, self.runs.table, self.caveats)

    def write(self, folder: Path) -> None:
        """readings.csv, schedule.csv, evaluation.csv, fixed_points.npz, figures (SVG and PNG), index.html."""
        write_table(folder / "readings.csv", self.readings)
        write_table(folder / "schedule.csv", self.schedule)
        write_table(folder / "evaluation.csv", self.runs.table)
        write_arrays(folder / "fixed_points.npz", self.examination.points._asdict())
        for name, (figure, _) in self.figures.items():
            save(figure, folder / f"{name}.svg", folder / f"{name}.png")
        write_text(folder / "index.html", self.page())


FILES = (
    "readings.csv",
    "schedule.csv",
    "evaluation.csv",
    "fixed_points.npz",
    *(
        f"{name}.{kind}"
        for name in ("performance", "momentum", "clipping", "schedule", "adaptation")
        for kind in ("svg", "png")
    ),
    "index.html",
)


def dissect(
    optimizer: Optimizer,
    task: Task,
    *,
    name: str = "optimizer",
    task_name: str = "task",
    num_steps: int = 201,
    problems: int = 64,
    seed: int = 0,
    rivals: Mapping[str, Optimizer] | None = None,
    say: Say = lambda text: None,
) -> Dissection:
    """Examine `optimizer` on `task`: its mechanisms, and its loss curves beside those of `rivals`.

    **Arguments:** `optimizer` is one of ours (`from_optax` makes one of an optax transformation); `problems` problems
    of `seed` are recorded, and as many others, at least 256, serve the loss curves; `say` is told of each part.

    **Raises** `ReoptError` where the optimizer cannot be examined.
    """
    say("recording, fixed points, linearization, update functions, schedule, adaptation")
    found = examine(optimizer, task, num_steps=num_steps, problems=problems, seed=seed)
    say("reading the mechanisms")
    findings = read(found, optimizer)
    parts = []
    for label, subject in {name: optimizer, **(rivals or {})}.items():
        say(f"loss curves of {label}")
        whole = subject.transformation if isinstance(subject, FromOptax) and subject.caveats else None
        judge = evaluate if whole is None else evaluate_optax  # the true optimizer, with all that it couples
        parts.append(
            judge(
                subject if whole is None else whole,
                task,
                name=label,
                task_name=task_name,
                problems=max(problems, 256),
                seed=seed,
                num_steps=num_steps,
            )
        )
    runs = Evaluation(pd.concat([part.table for part in parts]), pd.concat([part.curves for part in parts]))
    caveats = optimizer.caveats if isinstance(optimizer, FromOptax) else ()
    for caveat in caveats:
        say(caveat)
    return Dissection(name, task_name, found, findings, runs, caveats)
