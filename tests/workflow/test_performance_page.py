"""docs/performance.md shows the numbers of the JSON beside it and no others, and the plot is made from them."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reopt.core.errors import ReoptError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("performance", ROOT / "workflow/scripts/performance.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scaling(name: str, exponent: float) -> dict:
    points = [
        {"value": size, "median_s": 0.01 * size**exponent, "spread_s": [0.009 * size**exponent, 0.011 * size**exponent]}
        for size in (2, 4, 8, 16, 32)
    ]
    empty = {"ratio": None, "peak_fraction": None, "reference_median_s": None}
    return empty | {
        "work": name,
        "median_s": points[-1]["median_s"],
        "runs": 3,
        "held": {"steps": 64},
        "points": points,
        "exponent": exponent,
        "exponent_interval": [exponent - 0.125, exponent + 0.125],
    }


CONTENT = {
    "machine": {"processor": "Cpu 9", "devices": ["a", "b"], "python": "3.11", "jax": "0.1", "matmul_peak_flops": 8e10},
    "results": [
        {
            "work": "meta_gradient_gru256",
            "ratio": 4.0,
            "peak_fraction": 0.75,
            "median_s": 1.5,
            "reference_median_s": 6.0,
            "runs": 7,
            "spread_s": [1.25, 1.75],
            "reference_spread_s": [5.5, 6.5],
            "temporaries_mb": 61.0,
            "reference_temporaries_mb": 433.0,
            "must": "ratio >= 3",
        },
        {
            "work": "matmuls_alone_gru256",
            "ratio": None,
            "peak_fraction": 0.9,
            "median_s": 1.2,
            "reference_median_s": None,
            "runs": 7,
            "flops": 7.2e10,
            "rows": 40,
        },
        scaling("scaling_units", 1.75),
        scaling("scaling_steps", 1.0),
    ],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "performance.md").write_bytes((ROOT / "docs/performance.md").read_bytes())
    (tmp_path / "performance.json").write_text(json.dumps(CONTENT))
    return tmp_path


def test_tables_show_what_was_measured(script, folder: Path) -> None:
    text = script.pages(folder)[folder / "performance.md"].decode()
    row = "| `meta_gradient_gru256` | 1.5 | [1.25, 1.75] | 6 | [5.5, 6.5] | 4 | 75% | 61 | 433 | 7 | ratio >= 3 |"
    assert row in text
    assert "Cpu 9, 2 devices" in text
    assert "reaches 80 GFLOP/s" in text
    assert "are 72 GFLOP. Alone, at their own shapes of 40 rows a device, they take 1.2 s (60 GFLOP/s" in text
    assert "1.25 times as long" in text
    assert "| units | 2 | 32 | steps 64 | 1.75 | [1.62, 1.88] | 3 |" in text


def test_the_page_is_in_step_once_written_and_out_of_step_after_an_edit(script, folder: Path) -> None:
    made = script.pages(folder)
    for path, content in made.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    assert script.pages(folder) == made  # the same bytes, picture too
    edited = json.loads(json.dumps(CONTENT))
    edited["results"][0]["median_s"] = 1.625
    (folder / "performance.json").write_text(json.dumps(edited))
    assert "1.62" in script.pages(folder)[folder / "performance.md"].decode()


def test_the_plot_holds_points_and_a_line_of_the_exponent(script) -> None:
    rows = script.scaling_rows(CONTENT)
    figure = script.scaling_figure(rows)
    assert [ax.get_xlabel() for ax in figure.axes] == ["units", "steps of the unroll"]
    lines = {line.get_gid(): line for line in figure.axes[0].get_lines()}
    sizes, times = lines["fit"].get_data()
    np.testing.assert_allclose(times, 0.01 * sizes**1.75)  # the points lie on the power that was fitted
    np.testing.assert_allclose(lines["medians"].get_ydata(), times)


def test_timed_runs_stand_beside_their_prediction(script, folder: Path) -> None:
    assert "No run has been timed yet" in script.estimates_text(folder)
    table = pd.DataFrame(
        {
            "task": "quadratic",
            "subject": ["gru64-s0", "all"],
            "minutes": [8.0, 2.0],
            "measured_minutes": [10.0, np.nan],
            "predicted_to_measured": [0.8, np.nan],
        }
    )
    table.to_csv(folder / "estimates.csv", index=False)
    assert "| `quadratic` `gru64-s0` | 8 | 10 | 0.8 |" in script.estimates_text(folder)
    assert "`all`" not in script.estimates_text(folder)


def test_a_missing_measurement_or_block_names_the_remedy(script, folder: Path) -> None:
    with pytest.raises(ReoptError, match="no block 'results'"):
        script.with_block("text", "results", "")
    (folder / "performance.json").unlink()
    with pytest.raises(ReoptError, match="python -m benchmarks"):
        script.pages(folder)


def test_the_committed_page_is_that_of_the_committed_json(script, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (ROOT / "docs/performance.json").is_file():
        pytest.skip("nothing has been measured yet")
    monkeypatch.chdir(ROOT)
    for path, content in script.pages().items():
        assert path.read_bytes() == content, f"out of step: {path}; repair with: {script.REPAIR}"
