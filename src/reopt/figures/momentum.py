"""Momentum: states around the fixed point, linear modes, response to a pulse (Fig. 2 of arXiv 2011.02159)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reopt.dynamics.stability import is_stable
from reopt.figures.axes import (
    color_bar,
    draw_panels,
    few_ticks,
    is_narrow,
    log_axis,
    pc_label,
    scale_colors,
    scale_steps,
    step_bar,
    zero_lines,
)
from reopt.figures.palette import NEGATIVE, POSITIVE, label, look, task_title
from reopt.figures.style import styled
from reopt.figures.summaries import in_the_plane, mode_kind, project
from reopt.mechanisms.momentum import FAINT
from reopt.optimizers import classical

if TYPE_CHECKING:
    from reopt.examination.examination import Examination
    from reopt.figures.view import View

CATEGORY = "Mechanisms"
READS = {
    "shown": ("pca", "points", "update_functions", "clipping", "modes", "impulse", "operating"),
    "seeds": ("modes",),
}

KINDS = {
    "positive": ("o", POSITIVE, "real, α > 0"),
    "negative": ("v", NEGATIVE, "real, α < 0"),
    "complex": ("D", "#009E73", "complex"),
}
"""Marker, colour and words for the kinds of modes."""


WORKING = (
    "Here (b) to (e) are not of the fixed point but of a state of a run, halfway, with the signs of the gradients"
    " before averaged out: at rest the slope at zero gradient holds only for gradients smaller than most that come. "
)


class Momentum(NamedTuple):
    """The reading of one optimizer at its attractor; fields as the analysis stores them.

    `polyak` is (alpha*, beta*), the best heavy ball for the task's range of eigenvalues, where one is known. `others`
    are the modes of other seeds; `working`: all but the states is read in a state of the runs, not at the attractor.
    """

    subject: str
    pca: Mapping[str, np.ndarray]
    fixed_points: Mapping[str, np.ndarray]
    update_functions: pd.DataFrame
    modes: pd.DataFrame
    impulse: pd.DataFrame
    polyak: tuple[float, float] | None = None
    others: Mapping[str, pd.DataFrame] = {}
    working: bool = False


def draw_states(ax: Axes, data: Momentum) -> None:
    """Visited states on the first two principal axes, coloured by step, and the fixed points."""
    projected = np.asarray(data.pca["projected"])
    steps = np.broadcast_to(np.arange(len(projected))[:, None, None], projected.shape[:3]).ravel()
    flat = projected.reshape(-1, projected.shape[-1])
    colors = scale_steps(steps)
    # As pixels also in vector files: thousands of points would make them huge.
    ax.scatter(
        flat[:, 0],
        flat[:, 1],
        c=steps,
        cmap=colors.cmap,
        norm=cast(Normalize, colors.norm),
        s=2.5,
        linewidths=0,
        rasterized=True,
        gid="states",
    )
    points = project(data.pca, data.fixed_points["points"])
    if len(points):
        stable = is_stable(data.fixed_points)
        for chosen, face in ((stable, "#D55E00"), (~stable, "none")):
            if chosen.any():
                ax.plot(
                    points[chosen, 0],
                    points[chosen, 1],
                    "*",
                    markersize=9,
                    markerfacecolor=face,
                    markeredgecolor="white" if face != "none" else "#D55E00",
                    markeredgewidth=0.6,
                    gid="fixed points",
                    linestyle="none",
                )
    explained = data.pca["explained"]
    ax.set(xlabel=pc_label(explained, 1), ylabel=pc_label(explained, 2))
    few_ticks(ax, 4)
    step_bar(ax, colors)


def draw_functions(ax: Axes, data: Momentum, place: str = "slow_mode") -> None:
    """Update against gradient at states shifted along the slow mode, and at the fixed point."""
    table = data.update_functions
    along = table[table["place"].isin([place, "fixed_point"])]
    colors = scale_colors(along["shift"], signed=True)
    for (_, shift), function in along.groupby(["place", "shift"], sort=True):
        function = function.sort_values("gradient")
        ax.plot(
            function["gradient"],
            function["update"],
            color=colors.to_rgba(shift),
            gid=f"shift {shift:g}",
            linewidth=1.6 if shift == 0 else 1.0,
        )
    zero_lines(ax, upright=True)
    ax.set(xlabel="gradient", ylabel="update")
    few_ticks(ax, 5)
    color_bar(ax, colors, "shift (σ)")


def draw_eigenvalues(ax: Axes, data: Momentum) -> None:
    """Eigenvalues of the linearised dynamics in the complex plane, the unit circle, and Polyak's momentum."""
    angle = np.linspace(0, 2 * np.pi, 181)
    ax.plot(np.cos(angle), np.sin(angle), color="#808080", linewidth=0.7, gid="unit circle")
    ax.axhline(0, color="#CCCCCC", linewidth=0.5, zorder=0)
    ax.axvline(0, color="#CCCCCC", linewidth=0.5, zorder=0)
    for other, modes in data.others.items():
        ax.plot(
            modes["beta_real"],
            modes["beta_imag"],
            "o",
            color="#808080",
            markersize=1.8,
            markeredgewidth=0,
            alpha=0.6,
            gid=f"eigenvalues {other}",
            zorder=3,
        )
    sizes = (0.5 if is_narrow(ax) else 1.0) * (5 + 45 * np.sqrt(data.modes["participation"].to_numpy(dtype=float)))
    kinds = mode_kind(data.modes)
    for kind, (marker, color, _) in KINDS.items():
        chosen = (kinds == kind).to_numpy()
        if chosen.any():
            ax.scatter(
                data.modes["beta_real"][chosen],
                data.modes["beta_imag"][chosen],
                s=sizes[chosen],
                marker=marker,
                c=color,
                alpha=0.75,
                linewidths=0,
                gid=f"eigenvalues {kind}",
            )
    if data.polyak is not None:
        ax.plot(
            data.polyak[1],
            0,
            "*",
            markerfacecolor="none",
            markeredgecolor="black",
            markersize=8,
            markeredgewidth=0.7,
            gid="polyak",
            zorder=1,
        )
    reach = max(1.08, 1.05 * float(data.modes["magnitude"].max()))
    ax.set(aspect="equal", xlim=(-reach, reach), ylim=(-reach, reach), xlabel="Re β", ylabel="Im β")
    ax.set_xticks([-1, 0, 1])
    ax.set_yticks([-1, 0, 1])


def draw_modes(ax: Axes, data: Momentum) -> None:
    """|β| of each mode against |α|, by kind; a star at Polyak's (α*, β*)."""
    for other, modes in data.others.items():
        size = np.hypot(modes["alpha_real"], modes["alpha_imag"])
        ax.plot(
            size[size > 0],
            modes["magnitude"][size > 0],
            "o",
            color="#808080",
            markersize=1.8,
            markeredgewidth=0,
            alpha=0.6,
            gid=f"modes {other}",
            zorder=3,
        )
    gain = np.hypot(data.modes["alpha_real"], data.modes["alpha_imag"])
    kinds = mode_kind(data.modes)
    for kind, (marker, color, words) in KINDS.items():
        chosen = (kinds == kind) & (gain > 0)
        if chosen.any():
            ax.plot(
                gain[chosen],
                data.modes["magnitude"][chosen],
                marker,
                color=color,
                linestyle="none",
                markersize=3.5,
                markeredgewidth=0,
                alpha=0.8,
                label=words,
                gid=f"modes {kind}",
            )
    if data.polyak is not None:
        ax.plot(
            *data.polyak,
            "*",
            markerfacecolor="none",
            markeredgecolor="black",
            markersize=10,
            markeredgewidth=0.8,
            label="Polyak (α*, β*)",
            linestyle="none",
            gid="polyak",
            zorder=1,
        )
    log_axis(ax, "x", labels=4)
    top = max(1.0, float(data.modes["magnitude"].max()))
    ax.axhline(1, color="#808080", linewidth=0.7, zorder=0)
    ax.set(xlabel="|α|", ylabel="|β|", ylim=(0, 1.05 * top))


def draw_impulse(ax: Axes, data: Momentum) -> None:
    """Response of the update to one small pulse of gradient: the optimizer, and its linearisation."""
    color = look(data.subject).color
    ax.plot(
        data.impulse["lag"], data.impulse["response"], color=color, linewidth=1.8, label="optimizer", gid="response"
    )
    ax.plot(
        data.impulse["lag"],
        data.impulse["linear"],
        color="black",
        linewidth=0.9,
        linestyle=(0, (3, 2)),
        label="linearised",
        gid="linear",
    )
    zero_lines(ax)
    ax.set(xlabel="steps after pulse", ylabel="update / pulse", xlim=(0, float(data.impulse["lag"].max())))


def of(found: "Examination") -> Momentum:
    """What an examination says; modes too faint to be listed in its readings are not drawn. In a state of the runs
    where the slope at rest holds only for gradients smaller than most that come."""
    basis, points = in_the_plane(found.pca), found.points._asdict()
    working = not found.rest_is_met and found.operating.states.size > 0
    table, functions, impulse = found.modes, found.update_functions, found.impulse
    if working:
        table, functions, impulse = found.at_work()
    return Momentum(
        found.name, basis, points, functions, table[table["participation"] > FAINT], impulse, working=working
    )


def data(view: "View") -> Momentum:
    """The shown run of one task, the modes of its other seeds, and Polyak's where they are known."""
    polyak = None
    if "log10_eigenvalues" in view.block["problem"]:
        theory = classical.polyak(*view.block["problem"]["log10_eigenvalues"])
        polyak = (float(theory.learning_rate), float(theory.momentum))
    others = {seed: view.examination(seed).modes for seed in view.subjects["seeds"]}
    return of(view.examination(view.shown))._replace(polyak=polyak, others=others)


@styled
def figure(tasks: Mapping[str, Momentum]) -> Figure:
    """States, update functions, eigenvalues, modes and impulse response."""
    names = list(tasks)
    drawing, axes = draw_panels(
        tasks,
        {
            "states": draw_states,
            "functions": draw_functions,
            "eigenvalues": draw_eigenvalues,
            "modes": draw_modes,
            "impulse": draw_impulse,
        },
        alone=[[[["states", "functions"]]], [[["eigenvalues", "modes", "impulse"]]]],
        height_alone=3.9,
        height_each=[1.55, 1.55, 1.25, 1.25, 1.25],
    )
    kinds = {kind for data in tasks.values() for kind in mode_kind(data.modes)}
    if len(names) == 1:  # among several there is room for it below alone
        axes[names[0], "impulse"].legend(loc="best")
    handles = [
        Line2D([], [], marker=marker, color=color, linestyle="none", markersize=4, markeredgewidth=0, label=words)
        for kind, (marker, color, words) in KINDS.items()
        if kind in kinds
    ]
    handles.append(
        Line2D(
            [], [], marker="*", color="#D55E00", linestyle="none", markersize=8, label="fixed point", markeredgewidth=0
        )
    )
    if any(data.polyak is not None for data in tasks.values()):
        handles.append(
            Line2D(
                [],
                [],
                marker="*",
                markerfacecolor="none",
                markeredgecolor="black",
                linestyle="none",
                markersize=8,
                markeredgewidth=0.8,
                label="Polyak (α*, β*)",
            )
        )
    if any(data.others for data in tasks.values()):
        handles.append(
            Line2D(
                [],
                [],
                marker="o",
                color="#808080",
                linestyle="none",
                markersize=2,
                markeredgewidth=0,
                label="other seeds",
            )
        )
    if len(names) > 1:
        responses = axes[names[0], "impulse"].get_legend_handles_labels()[0]
        handles += [line for line in responses if isinstance(line, Line2D)]
    drawing.legend(handles=handles, loc="outside lower center", ncols=4)
    return drawing


def caption(tasks: Mapping[str, Momentum]) -> str:
    """What the figure shows, with the dominant mode in numbers."""
    parts = []
    for name, data in tasks.items():
        projected = data.pca["projected"]
        text = (
            f"{task_title(name)}: {label(data.subject, seed=True)}; {projected.shape[1]} problems of"
            f" {projected.shape[2]} parameters over {projected.shape[0]} steps;"
            f" {_count(len(data.fixed_points['points']), 'fixed point')};"
            f" {_leading(data.modes)}"
        )
        if data.polyak is not None:
            text += f" (Polyak: α = {data.polyak[0]:.3g}, β = {data.polyak[1]:.3g})"
        parts.append(text + (f"; {len(data.others)} other seeds grey." if data.others else "."))
    return (
        "Momentum. (a) Hidden states on their first two principal axes (share of variance in brackets), coloured by"
        " step, and the fixed points at zero gradient (filled: stable). (b) Update against gradient at the fixed point"
        " and at states shifted from it along the slow mode (σ: standard deviations of the visited states). (c)"
        " Eigenvalues β of the dynamics linearised at the fixed point and the unit circle; area grows with the size of"
        " α. (d) The modes v ← βv + g, update −Re(αv). The gain of a mode is the size of α / (1 − β), its answer"
        " to a constant gradient. (e) Response of the update to one small pulse of gradient. "
        + (WORKING if any(data.working for data in tasks.values()) else "")
        + " ".join(parts)
    )


def _leading(modes: pd.DataFrame) -> str:
    """The mode of largest gain in numbers."""
    if not len(modes):
        return "no mode that answers to the gradient"
    top = modes.loc[modes["gain"].idxmax()]
    return (
        f"mode of largest gain: α = {_number(top['alpha_real'], top['alpha_imag'])},"
        f" β = {_number(top['beta_real'], top['beta_imag'])}, {100 * top['gain']:.0f}% of the gain of all"
    )


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _number(real: float, imaginary: float) -> str:
    if abs(imaginary) < 1e-9:
        return f"{real:.3g}"
    return f"{real:.3g} {'+' if imaginary > 0 else '−'} {abs(imaginary):.2g}i"
