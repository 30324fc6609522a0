"""The figure of systems against rivals: where diamonds, intervals and dots stand, and which rows there are."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from reopt.figures.systems import BETTER, ORACLE, WORSE, caption, figure, name_of, rows_of


def row(seed: str, against: str, choice: str, difference: float, **more: Any) -> dict[str, Any]:
    half = 0.01 if seed == "all" else 0.02
    return {
        **{"system": "star", "form": "trained", "seed": seed, "task": "family", "measure": "objective", "mean": 0.4},
        **{"against": against, "choice": choice, "difference": difference},
        **{"low": difference - half, "high": difference + half, "better": 0.5},
        **more,
    }


TABLE = pd.DataFrame(
    [
        row(seed, against, choice, difference + shift)
        for against, choice, difference in (
            ("adam", "one", -0.05),
            ("adam", "each", 0.04),
            ("nominal", "one", 0.03),
            ("nominal", "each", 0.2),
            ("star_neither", "trained", -0.1),
            ("velo", "trained", 0.0),
        )
        for seed, shift in (("0", -0.01), ("1", 0.01), ("all", 0.0))
    ]
)


def test_the_rows_are_rivals_one_oracle_and_variants() -> None:
    rows = rows_of(TABLE, "star", ["star_neither"])
    assert list(zip(rows["against"], rows["choice"], strict=True)) == [
        ("adam", "one"),
        ("nominal", "one"),
        ("adam", "each"),
        ("star_neither", "trained"),
    ]


def test_diamonds_stand_at_the_mean_and_dots_at_the_seeds() -> None:
    (ax, *_) = figure(TABLE, {"star": ["star_neither"]}).axes
    dots = [line for line in ax.get_lines() if line.get_gid() == "seeds"]
    np.testing.assert_allclose(dots[0].get_xdata(), [-0.06, -0.04])
    assert [line.get_color() for line in dots] == [BETTER, WORSE, ORACLE, BETTER]
    means = [container.lines[0].get_xdata()[0] for container in ax.containers]
    assert means == pytest.approx([-0.05, 0.03, 0.04, -0.1])
    bars = [container.lines[2][0].get_segments()[0][:, 0] for container in ax.containers]
    np.testing.assert_allclose(bars[0], [-0.06, -0.04])
    assert [text.get_text() for text in ax.get_yticklabels()] == [
        "Adam",
        "Nominal term",
        "Adam, best for each",
        "neither",
    ]


def test_where_there_is_a_scaled_form_it_is_shown() -> None:
    scaled = TABLE.assign(form="scaled", difference=0.5)
    assert set(rows_of(pd.concat([TABLE, scaled]), "star", [])["difference"]) == {0.5}


def test_names_of_variants_say_what_differs() -> None:
    assert name_of("star_no_nominal_backpropagation") == "no nominal, backprop."
    assert name_of("optim4rl_log") == "Optim4RL, logarithms"


def test_the_caption_counts_the_meta_trainings() -> None:
    assert "Dots: 2 to 2 meta-trainings" in caption(TABLE)
