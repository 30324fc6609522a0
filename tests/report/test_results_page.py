"""The page of results and what is said of it in the terminal."""

import re
from pathlib import Path

import pytest
from planted_results import CONFIG, SCORES, plant

from reopt.core.errors import ReoptError
from reopt.report.page import results_page
from reopt.report.summary import summary


def made(folder: Path) -> str:
    return results_page(CONFIG, plant(folder))


def test_it_opens_on_who_is_better(tmp_path: Path) -> None:
    text = made(tmp_path)
    head = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text.partition("<body>")[2].partition('id="figures"')[0]))
    assert "Bowl (2 meta-trained runs)" in head
    assert "Bowl learned GRU-4 0.3500 [0.2235, 0.4765] Adam 0.4250 [0.3312, 0.5188] 4" in head
    assert "Replicates : in at least two thirds of the runs a learned optimizer beats every tuned baseline" in head
    assert "base64" not in text


def test_each_figure_has_its_caption_below_and_is_escaped(tmp_path: Path) -> None:
    figure = made(tmp_path).partition("<figure>")[2].partition("</figure>")[0]
    assert figure.index('src="figures/schedule.svg"') < figure.index("<figcaption>")
    assert "<b>(a)</b> The rate &lt;b&gt;|g|&lt;/b&gt;." in figure
    assert "<li><b>Bowl</b>: it falls.</li>" in figure


def test_every_verdict_is_there_with_its_number(tmp_path: Path) -> None:
    text = made(tmp_path)
    assert "holds<br>2/3: 0.5 [0.25, 0.75]" in text
    assert "fails<br>0/3: 12.3" in text
    assert "1 values in which" in text
    assert "<code>units &lt;b&gt;</code>" in text
    assert "nan" not in text


def test_its_links_lead_to_files_beside_it(tmp_path: Path) -> None:
    text = made(tmp_path)
    anchors = set(re.findall(r' id="([^"]+)"', text))
    for target in re.findall(r'(?:href|src)="([^"]+)"', text):
        if target.startswith("#"):
            assert target[1:] in anchors
        elif target != "claims_seeds.csv":  # not planted
            assert (tmp_path / target).exists(), target


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    folder = plant(tmp_path)
    (folder / "claims.csv").unlink()
    with pytest.raises(ReoptError, match=r"claims\.csv"):
        results_page(CONFIG, folder)


def test_the_terminal_says_what_is_there_and_what_to_open(tmp_path: Path) -> None:
    folder = plant(tmp_path)
    said = summary(CONFIG, Path("config/small.yaml"), folder)
    assert "2 meta-trained optimizers on 1 task, by config/small.yaml" in said
    assert "Bowl: GRU-4 (0.3500) beats Adam (0.4250), the best baseline" in said
    assert "1 hold, 0 hold in part, 1 fail and 0 are undetermined" in said
    assert "`snakemake --configfile config/small.yaml` makes what is missing" in said
    (folder / "index.html").touch()
    assert f"open {folder / 'index.html'} in a browser" in summary(CONFIG, Path("config/small.yaml"), folder)


def test_the_terminal_says_what_is_not_there_yet(tmp_path: Path) -> None:
    folder = plant(tmp_path, {name: values for name, values in SCORES.items() if name != "adam"})
    said = summary(CONFIG, Path("config/small.yaml"), folder)
    assert "Bowl: not all there yet (" in said
    assert "adam.csv" in said
