"""A mark a run and mechanism, in the colour of its verdict."""

import figure_data
import pytest
from artists import legend_texts, names
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from reopt.figures import verdicts
from reopt.mechanisms.registry import mechanisms


def marks(table) -> dict[tuple[str, str], Rectangle]:
    drawn = verdicts.figure({"quadratic": table})
    found = drawn.findobj(lambda artist: isinstance(artist, Rectangle) and artist.get_gid())
    return {tuple(mark.get_gid().split(" ")[:2]): mark for mark in found}


def test_every_verdict_has_its_mark_and_colour() -> None:
    table = figure_data.verdicts()
    found = marks(table)
    assert len(found) == len(table)
    for row in table.itertuples():
        assert to_hex(found[row.subject, row.mechanism].get_facecolor()).upper() == verdicts.COLORS[row.verdict]
    assert legend_texts(verdicts.figure({"quadratic": table})) == ["present", "undetermined", "absent"]


def test_a_seed_stands_at_the_same_place_in_every_column_and_seeds_fill_the_cell() -> None:
    found = marks(figure_data.verdicts())
    columns = [mechanism.name for mechanism in mechanisms()]
    for seed in range(5):
        places = [found[f"gru32-s{seed}", name].get_x() - number for number, name in enumerate(columns)]
        assert places == pytest.approx([-0.45 + 0.18 * seed] * len(columns))
        assert found[f"gru32-s{seed}", columns[0]].get_width() == pytest.approx(0.18)
    assert found["gru256-s0", columns[0]].get_width() == pytest.approx(0.9)
    assert found["rmsprop", columns[0]].get_y() > found["vanilla32-s0", columns[0]].get_y()  # probes are last


def test_caption_tells_the_bounds_and_counts() -> None:
    text = verdicts.caption({"quadratic": figure_data.verdicts()})
    first, second, third = mechanisms()[:3]
    assert f"absent below {first.bounds.absent:g} and present above {first.bounds.present:g}" in text
    assert f"{first.name} in 14 of 14, {second.name} in 0 of 14, {third.name} in 7 of 14 (3 undetermined)" in text


def test_a_mechanism_that_was_not_measured_yet_has_no_column() -> None:
    table = figure_data.verdicts()
    drawn = verdicts.figure({"quadratic": table[table["mechanism"] != "clipping"]})
    assert not [name for name in names(drawn, "gru32-s0") if "clipping" in name]
    assert "clipping" not in {text.get_text() for text in drawn.axes[0].get_xticklabels()}
