"""One call from an optimizer and a task to tables, figures and a page of verdicts."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property, partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from reopt.core.atomic import write_atomically
from reopt.core.tables import rounded, write_table, write_text
from reopt.evaluation.evaluate import Evaluation, evaluate
from reopt.evaluation.evaluate_optax import evaluate_optax
from reopt.examination.examination import Examination
from reopt.examination.parts import FILES as PART_FILES
from reopt.examination.parts import PARTS, files_of
from reopt.examination.settings import Settings
from reopt.figures.registry import figure_module, figures
from reopt.mechanisms.base import Finding
from reopt.mechanisms.registry import mechanisms
from reopt.optimizers.base import Optimizer
from reopt.optimizers.optax_bridge import FromOptax, from_optax
from reopt.optimizers.torch_rules import TorchOptimizer
from reopt.shipped.cards import out_of_range
from reopt.tasks.base import Task
from reopt.version import versions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Say = Callable[[str], None]
Report = Callable[[int, int, str], object]
FORMATS = ("svg", "png")  # of figures
STORED = tuple(name for name in PART_FILES if name not in ("recording", "linearized", "ablation"))


def drawn_figures() -> list[str]:
    """Figures of a dissection: performance, and those of a mechanism's name that can be drawn of an examination."""
    found = figures()
    return ["performance", *(one.name for one in mechanisms() if one.name in found and found[one.name].examines)]


def written_files(formats: Iterable[str] = FORMATS) -> list[str]:
    """What `Dissection.write` writes."""
    pictures = [f"{name}.{kind}" for name in drawn_figures() for kind in formats]
    return [*files_of(*STORED), "evaluation.csv", *pictures, "index.html"]


class Dissection:
    """The examination of one optimizer, its verdicts, and its loss curves beside those of others.

    `findings` are the verdicts with their readings, `readings` and `schedule` tidy tables, `figures` (figure, caption)
    by name; `write` puts all of it into a folder. Printed, it is a table of the verdicts.
    """

    def __init__(self, found: Examination, task_name: str, runs: Evaluation, caveats: tuple[str, ...] = ()) -> None:
        self.examination = found
        self.name = found.name
        self.task = task_name
        self.runs = runs
        self.caveats = caveats  # what the readings leave out, a sentence each

    @property
    def findings(self) -> list[Finding]:
        """A verdict on each mechanism, with why and its readings."""
        return self.examination.findings

    @property
    def readings(self) -> pd.DataFrame:
        """mechanism, quantity, index, value, low, high, unit, verdict."""
        return self.examination.readings

    @property
    def schedule(self) -> pd.DataFrame:
        """step, effective_learning_rate: along the autonomous trajectory."""
        return self.examination.schedule.table[["step", "effective_learning_rate"]]

    @cached_property
    def figures(self) -> "dict[str, tuple[Figure, str]]":
        """(figure, caption) by name: performance, and each mechanism that has a figure."""
        drawn = {}
        for name in drawn_figures():  # imported here, when something is drawn
            module = figure_module(name)
            data = module.of_runs(self.name, self.runs) if name == "performance" else module.of(self.examination)
            tasks = {self.task: data}
            drawn[name] = (module.figure(tasks), module.caption(tasks))
        return drawn

    @cached_property
    def _svg(self) -> dict[str, bytes]:
        """Each figure as SVG, which is both a file and a part of the page."""
        from reopt.figures.save import render

        return {name: render(figure, "svg") for name, (figure, _) in self.figures.items()}

    @property
    def facts(self) -> dict[str, str]:
        """How it was made: the task, its runs, the versions."""
        found, s = self.examination, self.examination.settings
        return {
            "task": f"{self.task}, {found.task.num_params} parameters",
            "runs": f"{s.num_steps} steps",
            "loss curves": f"{s.evaluation_problems} problems of seed {s.evaluation_seed}",
            "readings": f"states and gradients of {s.problems} problems of seed {s.seed}",
            "versions": versions(),
        }

    def page(self, command: str | None = None) -> str:
        """The whole examination as one HTML page that needs no other file; `command` is named as what makes it."""
        from reopt.examination.page import page

        pictures = {name: (self._svg[name], caption) for name, (_, caption) in self.figures.items()}
        given = self.name, self.task, self.findings, pictures, self.runs.table, self.caveats
        return page(*given, facts=self.facts, command=command)

    def write(self, folder: Path | str, command: str | None = None, formats: Iterable[str] = FORMATS) -> None:
        """The tables and arrays of the examination, evaluation.csv, figures and index.html.

        `command` is said on the page to be what makes it again; `formats` of figures are "svg", "png" and "pdf".
        """
        from reopt.examination.storage import save as store
        from reopt.figures.save import save

        folder, formats, page = Path(folder), tuple(formats), self.page(command)  # where that fails, nothing is written
        stored = {attribute: getattr(self.examination, attribute) for attribute in STORED}
        for attribute, value in stored.items():
            store(attribute, value, folder)
        write_table(folder / "evaluation.csv", rounded(self.runs.table))
        for name, (figure, _) in self.figures.items():
            save(figure, *(folder / f"{name}.{kind}" for kind in formats if kind != "svg"))
            if "svg" in formats:
                write_atomically(folder / f"{name}.svg", partial(Path.write_bytes, data=self._svg[name]))
        write_text(folder / "index.html", page)

    def __repr__(self) -> str:
        width = max(len(finding.mechanism) for finding in self.findings)
        lines = [f"{self.name} on {self.task}"]
        for finding in self.findings:
            lines.append(f"{finding.mechanism:<{width}}  {finding.verdict:<12}  {finding.why}")
        return "\n".join([*lines, *self.caveats])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{escape(one.mechanism)}</th><td>{one.verdict}</td><td>{escape(one.why)}</td></tr>"
            for one in self.findings
        )
        return f"<table><caption>{escape(self.name)} on {escape(self.task)}</caption>{rows}</table>"


def dissect(
    optimizer: Optimizer | Any,
    task: Task,
    settings: Settings | None = None,
    *,
    name: str = "optimizer",
    task_name: str | None = None,
    rivals: Mapping[str, Optimizer] | None = None,
    say: Say = lambda text: None,
    report: Report = lambda done, total, text: None,
    stored: Path | None = None,
    known: Mapping[str, Evaluation] | None = None,
    coupled: bool = False,
    **changes: Any,
) -> Dissection:
    """Examine `optimizer` on `task`: its mechanisms, and its loss curves beside those of `rivals`.

    **Arguments:** `optimizer` is an optax transformation or an `Optimizer`; of a transformation decoupled weight decay
    (AdamW) is taken off, and with `coupled` one that couples parameters is examined as one parameter alone sees it:
    `caveats` say either, and the loss curves are true; `task_name` is for titles (default: the name of the task's
    class); where a rival has the `name` of the optimizer, this is called NAME (examined); `say` is told of each part,
    and `report` (done, total, text) of how far it is, in seconds as they usually are; parts that are in the folder
    `stored`, and loss curves that are `known`, are read, not made again; `changes` are fields of `Settings`, for
    instance `num_steps=100`.

    **Raises** `ReoptError` where the optimizer cannot be examined.

    ```python
    import optax, reopt

    print(reopt.dissect(optax.adam(1e-3), reopt.tasks.Quadratic()))
    ```
    """
    if not isinstance(optimizer, Optimizer):
        optimizer = from_optax(optimizer, decay=True, coupled=coupled)
    task_name = task_name or type(task).__name__.lower()
    settings = replace(settings or Settings(), **changes)
    rivals = rivals or {}
    if name in rivals:
        say(f"{name} is also the name of an optimizer beside it: the one examined is called {name} (examined)")
        name = f"{name} (examined)"
    found = Examination(optimizer, task, settings, name=name, stored=stored)
    steps = _Steps(report, [*PARTS, *(_CURVES for label in (name, *rivals) if label not in (known or {}))])
    for part, told in PARTS.items():
        if part != "verdicts":
            say(f"{told.title} {name}")
            with steps(part, f"{told.title.lower()} {name}"):
                for attribute in told.makes:
                    if attribute in STORED:
                        getattr(found, attribute)
    say(f"verdicts on {name}")
    with steps("verdicts", f"verdicts on {name}"):
        _ = found.findings
    parts = []
    for label, subject in {name: optimizer, **rivals}.items():
        if label in (known or {}):
            parts.append((known or {})[label])
            continue
        say(f"loss curves of {label}")
        with steps(_CURVES, f"loss curves of {label}"):
            parts.append(_loss_curves(subject, task, settings, label, task_name))
    for line in filter(None, (_diverged(part.table) for part in parts)):
        say(line)
    runs = Evaluation(pd.concat([part.table for part in parts]), pd.concat([part.curves for part in parts]))
    caveats: tuple[str, ...] = ()
    if isinstance(optimizer, FromOptax | TorchOptimizer):
        caveats = optimizer.caveats_at(found.linearization.point)
    outside = out_of_range(optimizer, found.recording.gradients[0], num_steps=settings.num_steps)
    caveats += tuple(f"{line}." for line in outside)
    for caveat in caveats:
        say(caveat)
    return Dissection(found, task_name, runs, caveats)


_CURVES = "curves"
# Seconds of CPU of each step, of Adam on the quadratic, rounded; a step that is not named takes next to nothing. Of a
# heavy ball all are a quarter of that, of a trained GRU-32 up to double: only their proportions count.
_USUAL = {
    **{"fixed_points": 16, "linearize": 2, "update_functions": 2, "adaptation": 8, "operating_point": 4},
    **{"verdicts": 6, _CURVES: 2},
}


class _Steps:
    """Reports how far a sequence of steps is: a step counts as many units as seconds that it usually takes."""

    def __init__(self, report: Report, steps: list[str]) -> None:
        self._report = report
        self._total = sum(_USUAL.get(step, 0) for step in steps)
        self._done = 0

    @contextlib.contextmanager
    def __call__(self, step: str, text: str) -> Iterator[None]:
        self._report(self._done, self._total, text)
        yield
        self._done += _USUAL.get(step, 0)
        self._report(self._done, self._total, text)


def _diverged(table: pd.DataFrame) -> str:
    """A line on an optimizer that diverged on some problem; empty for others."""
    lost = int((~np.isfinite(table["meta_objective"].astype(float))).sum())
    return f"{table['optimizer'].iloc[0]} diverged on {lost} of {len(table)} problems, and is shown so" if lost else ""


def _loss_curves(subject: Optimizer, task: Task, settings: Settings, name: str, task_name: str) -> Evaluation:
    """Of the true optimizer, with all that it couples."""
    sizes = {
        "name": name,
        "task_name": task_name,
        "problems": settings.evaluation_problems,
        "seed": settings.evaluation_seed,
        "num_steps": settings.num_steps,
    }
    if isinstance(subject, FromOptax | TorchOptimizer) and subject.caveats:
        return evaluate_optax(subject.transformation, task, **sizes)  # type: ignore[arg-type]
    return evaluate(subject, task, **sizes)  # type: ignore[arg-type]
