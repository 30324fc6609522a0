"""The tuned hyperparameters of the baselines, as a table."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from reopt.figures.axes import log_text
from reopt.figures.palette import VERDICTS, look, order, parameter_words, task_title
from reopt.figures.style import TEXT_WIDTH, styled

if TYPE_CHECKING:
    from reopt.figures.view import View

CATEGORY = "Task and training"
READS = {"baselines": ("baselines/{subject}.json",)}

Winners = Mapping[str, Mapping[str, Any]]

ORDER = ("learning_rate", "beta1", "beta2", "eps", "half_life")
"""Columns that stand first, in this order."""

ROLES = {"momentum": "beta1", "decay": "beta2"}
"""What does the same in another baseline stands in the same column."""

_LINE, _NAMES = 0.16, (0.05, 0.85)
"""Height of a row; left ends of the first two columns, in inches."""

_FIRST, _LAST = 2.2, TEXT_WIDTH - 0.05
"""Right ends of the first column of numbers and of the last, in inches."""


def _values(winner: Mapping[str, Any]) -> dict[str, tuple[str, float]]:
    """Name and value of each column's hyperparameter; what is searched as 1 − value is told so."""
    values = {}
    for name, value in winner["hyperparameters"].items():
        below_one = winner["ranges"][name][2] == "one_minus_log"
        values[ROLES.get(name, name)] = name, 1 - value if below_one else value
    return values


def _columns(tasks: Mapping[str, Winners]) -> dict[str, str]:
    """Columns and their heads."""
    heads = {}
    for winner in (winner for winners in tasks.values() for winner in winners.values()):
        for column, (name, _) in _values(winner).items():
            words = parameter_words(column).replace("learning rate", "rate")
            heads[column] = f"1 − {words}" if winner["ranges"][name][2] == "one_minus_log" else words
    return dict(
        sorted(heads.items(), key=lambda item: (ORDER.index(item[0]) if item[0] in ORDER else len(ORDER), item[0]))
    )


def number(value: float) -> str:
    """Three digits, large and small ones in powers of ten."""
    return log_text(float(f"{value:.3g}")) if value > 0 else f"{value:.3g}".replace("-", "−")


def data(view: "View") -> Winners:
    """One task's tuned baselines by name. **Raises** `ReoptError`."""
    return {name: view.json(f"baselines/{name}.json") for name in view.subjects["baselines"]}


@styled
def figure(tasks: Mapping[str, Winners]) -> Figure:
    """A row a task and baseline, a column a hyperparameter; those at the edge of their range are marked."""
    columns = _columns(tasks) | {"meta_objective": "objective"}
    step = (_LAST - _FIRST) / (len(columns) - 1)
    count = sum(map(len, tasks.values()))
    height = _LINE * (count + 1.6)
    drawing = Figure(figsize=(TEXT_WIDTH, height))
    ax = drawing.add_axes((0, 0, 1, 1), xlim=(0, TEXT_WIDTH), ylim=(height, 0))
    ax.set_axis_off()
    row = 0.8 * _LINE
    options: dict[str, Any] = {"va": "center", "fontsize": 7}
    for left, words in zip(_NAMES, ("task", "baseline"), strict=True):
        ax.text(left, row, words, fontweight="bold", **options)
    for place, words in enumerate(columns.values()):
        ax.text(_FIRST + place * step, row, words, ha="right", fontweight="bold", **options)
    for task, winners in tasks.items():
        ax.axhline(row + _LINE / 2, xmin=0.01, xmax=0.99, color="#CCCCCC", linewidth=0.5)
        for place, baseline in enumerate(order(list(winners))):
            row += _LINE
            winner = winners[baseline]
            if place == 0:
                ax.text(_NAMES[0], row, task_title(task), gid="task", **options)
            ax.text(_NAMES[1], row, look(baseline).label, color=look(baseline).color, gid="baseline", **options)
            values = _values(winner) | {"meta_objective": ("meta_objective", winner["meta_objective"])}
            for number_of_column, column in enumerate(columns):
                if column not in values:
                    continue
                name, value = values[column]
                at_edge = name in winner["at_edge"]
                ax.text(
                    _FIRST + number_of_column * step,
                    row,
                    number(value) + ("†" if at_edge else ""),
                    ha="right",
                    color=VERDICTS["fails"][1] if at_edge else "black",
                    gid=f"{task} {baseline} {name}",
                    **options,
                )
    return drawing


def caption(tasks: Mapping[str, Winners]) -> str:
    """What the table shows, and which values sit at the edge of their range."""
    edges = [
        f"{parameter_words(name)} of {look(baseline).label} on {task_title(task)}"
        for task, winners in tasks.items()
        for baseline in order(list(winners))
        for name in winners[baseline]["at_edge"]
    ]
    said = f"at the edge of their range (†): {', '.join(edges)}" if edges else "none is at the edge of its range"
    return (
        "Hyperparameters of the tuned baselines, each the best of a random search, with its meta-objective (no unit) on"
        f" the tuning problems. β₁ is also the momentum of the heavy ball, β₂ the decay of RMSProp; {said}."
    )
