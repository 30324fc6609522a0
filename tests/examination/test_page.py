"""The page of an examination: everything that it is given is there, escaped, in an order that a reader expects."""

import re

import numpy as np
import pandas as pd

from reopt.examination.page import FEW, page
from reopt.mechanisms.base import Finding

ROWS = [("beta_real", i, 0.9 - 0.01 * i, 0.89, 0.91, "1") for i in range(FEW + 3)]
FINDINGS = [
    Finding("momentum", "present", "half of <it> comes later", ROWS),
    Finding("clipping", "undetermined", "nothing to look at", []),
]
RUNS = pd.DataFrame(
    {
        "optimizer": ["worse"] * 3 + ["better & best"] * 3 + ["lost"] * 3,
        "meta_objective": [0.5, 0.6, 0.7, 0.1, 0.2, 0.3, np.inf, 1.0, 1.0],
    }
)


def made() -> str:
    facts = {"runs": "201 steps"}
    pictures = {"momentum": (b"<svg/>", "What is <seen>.")}
    return page("mine", "quadratic", FINDINGS, pictures, RUNS, ("Beware.",), facts=facts, command="reopt dissect 'a b'")


def test_everything_that_is_given_is_on_the_page_and_escaped() -> None:
    text = made()
    for words in (
        "half of &lt;it&gt; comes later",
        "What is &lt;seen&gt;.",
        "better &amp; best",
        "201 steps",
        "Beware.",
    ):
        assert words in text
    assert "<code>reopt dissect &#39;a b&#39;</code>" in text
    assert "PHN2Zy8+" in text  # base64 of <svg/>
    assert "<it>" not in text


def test_optimizers_stand_by_their_mean_and_what_diverged_last() -> None:
    names = re.findall(r"<tr><td>([^<]+)</td><td class=\"number\">", made().partition("performance</h2>")[2])
    assert names[:3] == ["better &amp; best", "worse", "lost"]


def test_more_readings_than_a_few_unfold() -> None:
    seen, _, folded = made().partition("<details>")
    assert "<summary>3 more readings</summary>" in folded
    assert seen.count("<td>beta_real</td>") == FEW
    assert folded.count("<td>beta_real</td>") == 3


def test_it_reads_on_a_small_screen_and_in_the_dark() -> None:
    """What is wider than a small window scrolls in a box of its own; colours come by the reader's scheme."""
    text = made()
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    assert "prefers-color-scheme: dark" in text
    for wide in ("<table>", "<img "):
        for match in re.finditer(wide, text):
            assert text[: match.start()].rstrip().endswith('<div class="wide">')
