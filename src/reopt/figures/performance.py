"""How well learned optimizers do beside tuned baselines and the theory (Fig. 1 of arXiv 2011.02159)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reopt.core.limits import CEILING
from reopt.figures.axes import arrange, keep_outer_labels, log_axis
from reopt.figures.landscape import Landscape, draw_landscape
from reopt.figures.palette import is_learned, label, look, order, split_seed, task_title
from reopt.figures.style import styled
from reopt.figures.summaries import family_interval, mean_interval
from reopt.optimizers.names import THEORY

if TYPE_CHECKING:
    from reopt.evaluation.evaluate import Evaluation
    from reopt.figures.view import View

CATEGORY = "Performance"
READS = {
    "judged": ("evaluation/{subject}.csv", "evaluation/{subject}.curves.csv"),
    "task": ("landscape.csv", "path.csv"),
}

LEAST = 0.1
"""Bands reach down to this share of the mean at most."""

ROW = 0.165
"""Height of a row of meta-objectives, in inches."""


class Performance(NamedTuple):
    """Evaluation on one task; `subject` is the learned optimizer drawn with its band, other runs are thin.

    curves: optimizer, step, mean, low, high (loss over initial loss). evaluation: optimizer, problem, meta_objective.
    """

    subject: str
    curves: pd.DataFrame
    evaluation: pd.DataFrame
    landscape: Landscape | None = None


def draw_curves(ax: Axes, data: Performance) -> None:
    """Mean loss over initial loss against the step, with its 95% band; other learned runs thin and without."""
    top, floor = 1.0, np.inf
    shown = split_seed(data.subject)[0]
    for subject in order(list(data.curves["optimizer"])):
        curve = data.curves[data.curves["optimizer"] == subject].sort_values("step")
        drawn = look(subject)
        family = split_seed(subject)[0]
        minor = is_learned(subject) and subject != data.subject
        ax.plot(
            curve["step"],
            curve["mean"],
            color=drawn.color,
            linestyle=drawn.dashes,
            gid=f"curve {subject}",
            linewidth=(0.6 if family == shown else 0.4) if minor else 1.6 if is_learned(subject) else 1.0,
            alpha=(0.6 if family == shown else 0.45) if minor else 1.0,
            # Baselines lie over the many thin lines, or these would hide them.
            zorder=4 if subject == data.subject else 2 if minor else 3,
        )
        if not minor:
            # An interval that reaches below zero has no lower end on a logarithmic axis.
            low = np.maximum(curve["low"], LEAST * curve["mean"])
            ax.fill_between(curve["step"], low, curve["high"], color=drawn.color, alpha=0.18, linewidth=0)
        positive = curve["mean"][(curve["mean"] > 0) & np.isfinite(curve["mean"])]
        if len(positive):
            floor, top = min(floor, float(positive.min())), max(top, min(float(positive.max()), CEILING))
    log_axis(ax, "y", labels=5)
    ax.set(xlabel="step", ylabel="loss / initial loss", ylim=(floor / 2 if np.isfinite(floor) else None, 1.5 * top))
    ax.set_xlim(0, float(data.curves["step"].max()))


def draw_objective(ax: Axes, data: Performance, families: Sequence[str]) -> None:
    """A row a family: mean meta-objective over its seeds, 95% interval over problems, and open points, one a seed.

    A number above `CEILING` counts as that, or one run that diverges would set the scale.
    """
    values = data.evaluation["meta_objective"].astype(float)
    diverged = np.isfinite(values) & (values > CEILING)
    evaluation = data.evaluation.assign(meta_objective=values.mask(diverged, CEILING))
    means = mean_interval(evaluation, "optimizer", "meta_objective").set_index("optimizer")["mean"]
    summary = family_interval(evaluation)
    for subject, mean in means.items():
        family = split_seed(str(subject))[0]
        if is_learned(family) and np.isfinite(mean) and sum(split_seed(str(s))[0] == family for s in means.index) > 1:
            ax.plot(
                mean,
                families.index(family),
                "o",
                markersize=3.5,
                markerfacecolor="none",
                markeredgecolor=look(family).color,
                markeredgewidth=0.6,
                alpha=0.8,
                gid=f"seed {subject}",
            )
    for family, (mean, low, high) in summary[["mean", "low", "high"]].iterrows():
        if not np.isfinite(mean):
            continue
        drawn = look(str(family))
        row = families.index(str(family))
        if np.isfinite(low):
            ax.plot([max(low, mean * 1e-2), high], [row, row], color=drawn.color, linewidth=1.2, solid_capstyle="butt")
        ax.plot(
            mean,
            row,
            drawn.marker,
            color=drawn.color,
            markersize=5.5 if family == "polyak" else 3.5,
            markeredgewidth=0.5,
            gid=f"objective {family}",
            zorder=3,
        )
    shown = split_seed(data.subject)[0]
    if shown in summary.index and np.isfinite(summary.loc[shown, "mean"]):
        ax.axvline(summary.loc[shown, "mean"], color=look(shown).color, linewidth=0.5, alpha=0.6, zorder=0)
    log_axis(ax, "x", labels=3)
    ax.set_yticks(range(len(families)), [look(family).label for family in families])
    ax.set(ylim=(len(families) - 0.5, -0.5), xlabel="meta-objective")
    ax.tick_params(axis="y", length=0)


def of_runs(name: str, runs: "Evaluation") -> Performance:
    """An optimizer beside its rivals, of what `evaluate` says of all of them."""
    return Performance(name, runs.curves, runs.table)


def data(view: "View") -> Performance:
    """Every optimizer that is evaluated on one task. **Raises** `ReoptError`."""
    judged = view.subjects["judged"]
    curves = pd.concat([view.table(f"evaluation/{subject}.curves.csv") for subject in judged])
    evaluation = pd.concat([view.table(f"evaluation/{subject}.csv") for subject in judged])
    around = Landscape(view.table("landscape.csv"), view.table("path.csv"))
    return Performance(view.shown, curves, evaluation, around)


@styled
def figure(tasks: Mapping[str, Performance]) -> Figure:
    """The loss around the path on each task, loss curves, and meta-objectives."""
    names = list(tasks)
    sketched = any(data.landscape is not None for data in tasks.values())
    panels = [*(["task"] if sketched else []), "curves", "objective"]
    subjects = order([subject for data in tasks.values() for subject in data.evaluation["optimizer"].unique()])
    families = list(dict.fromkeys(split_seed(subject)[0] for subject in subjects))
    rows = 0.5 + ROW * len(families)
    drawing, axes = arrange(
        names,
        panels,
        alone=[["task", "curves"], ["objective", "curves"]] if sketched else [["curves", "objective"]],
        height_alone=1.6 + rows if sketched else max(2.0, rows + 0.6),
        height_each=[*([1.3] if sketched else []), 1.8, rows],
        alone_options={"width_ratios": [1, 1.75], "height_ratios": [1.4, rows]}
        if sketched
        else {"width_ratios": [1.75, 1]},
    )
    for name, data in tasks.items():
        if data.landscape is not None:
            draw_landscape(axes[name, "task"], data.landscape, look(data.subject).color)
        elif sketched:
            axes[name, "task"].set_axis_off()
        draw_curves(axes[name, "curves"], data)
        draw_objective(axes[name, "objective"], data, families)
        if name != names[0]:
            axes[name, "objective"].set_yticklabels([])
    keep_outer_labels(axes, names)
    drawn = [look(family) for family in families]
    handles: list[Any] = [Line2D([], [], color=one.color, ls=one.dashes, label=one.label) for one in drawn]  # type: ignore[arg-type]
    drawing.legend(handles=handles, loc="outside lower center", ncols=4)
    return drawing


def caption(tasks: Mapping[str, Performance]) -> str:
    """What the figure shows, with the numbers behind its bands."""
    parts = []
    for name, data in tasks.items():
        summary = mean_interval(data.evaluation, "optimizer", "meta_objective").set_index("optimizer")
        learned = summary.loc[data.subject]
        family = split_seed(data.subject)[0]
        count = sum(_is_trained(subject) and split_seed(subject)[0] == family for subject in summary.index)
        baselines = summary[[not is_learned(subject) and subject not in THEORY for subject in summary.index]]
        best = baselines["mean"].idxmin() if len(baselines) else None
        text = (
            f"{task_title(name)}: {label(data.subject, seed=True)}, meta-objective {learned['mean']:.3g}"
            f" (95% interval {learned['low']:.3g} to {learned['high']:.3g}, {int(learned['count'])} problems)"
        )
        if best is not None and np.isfinite(baselines.loc[best, "mean"]):
            text += f"; best tuned baseline {label(best)}, {baselines.loc[best, 'mean']:.3g}"
        elif best is not None:
            text += "; every tuned baseline diverges on some problem"
        if count:
            text += f"; {count} meta-training seed{'s' if count != 1 else ''}"
        parts.append(text + ".")
    sketched = any(data.landscape is not None for data in tasks.values())
    curves, objectives = "bc" if sketched else "ab"
    sketch = (
        "(a) Loss of one test problem around the path of the learned optimizer (from circle to star): the plane through"
        " both and along the principal direction of the path across them, of two parameters their own plane;"
        " dark: low, contours at equal shares of the plane. "
    )
    trained = any(_is_trained(subject) for data in tasks.values() for subject in data.evaluation["optimizer"].unique())
    thin = "; thin lines are other meta-trained runs, a colour a family" if trained else ""
    seeds = " its meta-training seeds and" if trained else ""
    return (
        f"{'Learned optimizers' if trained else 'The optimizer'} beside tuned baselines. {sketch if sketched else ''}"
        f"({curves}) Loss over initial loss against the optimizer's step: mean over test problems (lines) and 95%"
        f" interval of the mean (bands, drawn down to a tenth of the mean at most){thin}. ({objectives})"
        f" Meta-objective, the loss averaged over the run over the initial loss (no unit), a row"
        f" {'a family' if trained else 'each'}:"
        f" mean over{seeds} test problems with its 95% interval over the problems, a number above {CEILING:g}"
        f" counted as that"
        f"{'; open points are the seeds' if trained else ''}. " + " ".join(parts)
    )


def _is_trained(subject: str) -> bool:
    """Whether it is a meta-trained run, FAMILY-sSEED, and not an optimizer that somebody brought along."""
    return is_learned(subject) and split_seed(subject)[1] is not None
