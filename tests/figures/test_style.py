"""The style: the user's settings and fonts change nothing; optimizers keep their looks."""

import colorsys
import itertools
from pathlib import Path

import matplotlib
import pytest
import seaborn
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, FontProperties, fontManager

from reopt.figures.axes import log_axis, log_text
from reopt.figures.palette import VERDICTS, is_learned, label, look, order, split_seed, task_title
from reopt.figures.save import render
from reopt.figures.style import FONT, RC, THEME, style

BASELINES = ["sgd", "momentum", "rmsprop", "adam", "adam_decay", "polyak"]


@pytest.mark.parametrize("weight", ["normal", "bold"])
def test_font_is_the_one_matplotlib_brings(weight: str) -> None:
    file = Path(fontManager.findfont(FontProperties(family=[FONT], weight=weight), fallback_to_default=False))
    assert file.parent == Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    assert file.name == {"normal": "DejaVuSans.ttf", "bold": "DejaVuSans-Bold.ttf"}[weight]


def test_what_the_style_does_not_set_itself_is_seaborns() -> None:
    seaborns = {**seaborn.plotting_context("paper"), **seaborn.axes_style("ticks")}
    used = {key: value for key, value in seaborns.items() if not key.startswith("font.")}
    assert used.keys() <= RC.keys()
    assert {key: used[key] for key in THEME} == THEME


def _sample() -> bytes:
    with style():
        figure = Figure(figsize=(2, 1))
        figure.subplots().set(title="sample −1", xlabel="x")
    return render(figure, "png", dpi=50)


def test_system_font_of_the_same_name_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    before = _sample()
    serif = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSerif.ttf")
    impostor = FontEntry(
        fname=serif, name="DejaVu Sans", style="normal", variant="normal", weight=400, stretch="normal", size="scalable"
    )
    monkeypatch.setattr(fontManager, "ttflist", [impostor, *fontManager.ttflist])
    assert _sample() == before


def test_users_settings_change_nothing_and_come_back() -> None:
    before = _sample()
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 10, "axes.grid": True}):
        assert _sample() == before
        assert matplotlib.rcParams["font.size"] == 30


def test_seed_is_split_from_the_name() -> None:
    assert split_seed("gru32-s12") == ("gru32", 12)
    assert split_seed("adam") == ("adam", None)
    assert split_seed("my-s-optimizer") == ("my-s-optimizer", None)


def test_written_names() -> None:
    assert label("gru32-s0") == "GRU-32"
    assert label("gru32-s3", seed=True) == "GRU-32 (seed 3)"
    assert label("lstm_16_calm-s0") == "LSTM-16 calm"
    assert label("adam_decay") == "Adam, decayed"
    assert label("strange") == "strange"
    assert task_title("two_moons") == "Two moons"
    assert task_title("my_task") == "My task"


def test_seeds_look_alike_and_all_else_differs() -> None:
    assert look("gru32-s0") == look("gru32-s7")
    looks = [look(name) for name in [*BASELINES, "gru32", "lstm32", "vanilla32"]]
    assert len({drawn.color for drawn in looks}) == len(looks)
    channels = {(drawn.dashes, drawn.marker) for drawn in looks[: len(BASELINES)]}
    assert len(channels) == len(BASELINES), "colour must not be the only channel"


def test_larger_cells_are_darker() -> None:
    lightness = [colorsys.rgb_to_hls(*to_rgb(look(name).color))[1] for name in ("gru32", "gru64", "gru256")]
    assert lightness[0] > lightness[1] > lightness[2]


def test_colours_differ_in_any_company() -> None:
    distances = [
        sum((a - b) ** 2 for a, b in zip(to_rgb(look(one).color), to_rgb(look(other).color), strict=True)) ** 0.5
        for one, other in itertools.combinations([*BASELINES, "gru32"], 2)
    ]
    assert min(distances) > 0.25


def test_order_is_baselines_theory_learned() -> None:
    names = ["gru32-s10", "polyak", "adam", "gru32-s2", "sgd", "adam"]
    assert order(names) == ["sgd", "adam", "polyak", "gru32-s2", "gru32-s10"]
    assert [is_learned(name) for name in order(names)] == [False, False, False, True, True]


def test_verdicts_have_symbol_and_colour_of_their_own() -> None:
    assert set(VERDICTS) == {"holds", "in part", "fails", "undetermined", "not testable"}
    assert len({symbol for symbol, _ in VERDICTS.values()}) == len({color for _, color in VERDICTS.values()}) == 5


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (0.1, "0.1"),
        (0.001, "0.001"),
        (1e-4, "10⁻⁴"),
        (2e-5, "2×10⁻⁵"),
        (1e12, "10¹²"),
        (1000.0, "1000"),
        (-1.0, ""),
    ],
)
def test_values_on_logarithmic_axes(value: float, text: str) -> None:
    assert log_text(value) == text


@pytest.mark.parametrize(
    ("low", "high", "texts"), [(0.03, 0.6, ["0.05", "0.1", "0.2", "0.5"]), (5e-6, 2, ["10⁻⁵", "1"])]
)
def test_short_logarithmic_axes_label_more_than_decades(low: float, high: float, texts: list[str]) -> None:
    with style():
        figure = Figure()
        ax = figure.subplots()
        log_axis(ax, "x")
        ax.set_xlim(low, high)
        figure.draw_without_rendering()
    ticks = [tick for tick in ax.xaxis.get_major_ticks() + ax.xaxis.get_minor_ticks() if low <= tick.get_loc() <= high]
    labelled = {tick.label1.get_text() for tick in ticks} - {""}
    assert set(texts) <= labelled
    assert len(labelled) <= 6
