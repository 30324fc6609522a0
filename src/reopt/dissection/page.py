"""The examination as one self-contained HTML page: a verdict a mechanism, its numbers, the picture that shows it."""

import base64
from collections.abc import Mapping
from html import escape

import numpy as np
import pandas as pd

from reopt.dissection.readings import Finding
from reopt.training.evaluate import mean_interval

MOST_ROWS = 40  # readings a mechanism on the page; readings.csv has all
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
table { border-collapse: collapse; margin: .5rem 0 1rem; font-size: .9rem; }
th, td { text-align: left; padding: .15rem .9rem .15rem 0; border-bottom: 1px solid #ddd; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; }
.caveat { background: #fff3d6; padding: .3rem .8rem; }
.verdict { padding: .1rem .6rem; border-radius: 1rem; font-weight: 600; font-size: .85rem; }
.present { background: #0072b2; color: white; } .absent { background: #e5e5e5; } .undetermined { background: #e69f00; }
figcaption { font-size: .85rem; color: #444; white-space: pre-line; }
"""


def page(
    name: str,
    task: str,
    findings: list[Finding],
    pictures: Mapping[str, tuple[bytes, str]],
    runs: pd.DataFrame,
    caveats: tuple[str, ...] = (),
) -> str:
    """The page as text. `pictures` is (SVG, caption) by figure name, `runs` the table of `evaluate`, `caveats` what
    holds of all readings."""
    head = f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{escape(name)} on {escape(task)}</title>"
    rows = "".join(
        f"<tr><td><a href='#{one.mechanism}'>{one.mechanism}</a></td><td>{_badge(one.verdict)}</td>"
        f"<td>{escape(one.why)}</td></tr>"
        for one in findings
    )
    parts = [
        head,
        f"<style>{_STYLE}</style>",
        f"<h1>{escape(name)} on {escape(task)}</h1>",
        *(
            f"<p class='caveat'>{escape(caveat)} The loss curves are those of the whole optimizer.</p>"
            for caveat in caveats
        ),
        f"<table><tr><th>mechanism</th><th>verdict</th><th>why</th></tr>{rows}</table>",
        "<h2 id='performance'>performance</h2>",
        _objectives(runs),
        _picture(pictures, "performance"),
    ]
    for one in findings:
        parts.append(f"<h2 id='{one.mechanism}'>{one.mechanism} {_badge(one.verdict)}</h2><p>{escape(one.why)}</p>")
        parts.append(_numbers(one))
        parts.append(_picture(pictures, one.mechanism))
    return "\n".join(parts) + "\n"


def _badge(verdict: str) -> str:
    return f"<span class='verdict {verdict}'>{verdict}</span>"


def _picture(pictures: Mapping[str, tuple[bytes, str]], name: str) -> str:
    if name not in pictures:
        return ""
    content, caption = pictures[name]
    source = "data:image/svg+xml;base64," + base64.b64encode(content).decode()
    return f"<figure><img alt='{name}' src='{source}'><figcaption>{escape(caption)}</figcaption></figure>"


def _number(value: float) -> str:
    return f"{value:.6g}" if np.isfinite(value) else str(value)


def _numbers(finding: Finding) -> str:
    if not finding.readings:
        return ""
    rows = "".join(
        f"<tr><td>{quantity}</td><td class='number'>{index}</td><td class='number'>{_number(value)}</td>"
        f"<td class='number'>[{_number(low)}, {_number(high)}]</td><td>{escape(unit)}</td></tr>"
        for quantity, index, value, low, high, unit in finding.readings[:MOST_ROWS]
    )
    more = len(finding.readings) - MOST_ROWS
    rest = f"<p>and {more} more rows in readings.csv</p>" if more > 0 else ""
    head = "<tr><th>quantity</th><th>index</th><th>value</th><th>interval</th><th>unit</th></tr>"
    return f"<table>{head}{rows}</table>{rest}"


def _objectives(runs: pd.DataFrame) -> str:
    rows = []
    for name, table in runs.groupby("optimizer", sort=False):
        mean, low, high = mean_interval(table["meta_objective"].to_numpy())
        rows.append(
            (
                mean,
                f"<tr><td>{escape(str(name))}</td><td class='number'>{_number(mean)}</td>"
                f"<td class='number'>[{_number(low)}, {_number(high)}]</td></tr>",
            )
        )
    body = "".join(row for _, row in sorted(rows))
    return f"<table><tr><th>optimizer</th><th>meta-objective</th><th>95% interval</th></tr>{body}</table>"
