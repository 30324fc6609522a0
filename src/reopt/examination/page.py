"""The examination as one self-contained HTML page: a verdict a mechanism, the picture that shows it, its numbers."""

import base64
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd

from reopt.evaluation.evaluate import mean_interval
from reopt.examination.verdicts import Finding

FEW = 12  # readings of a mechanism that are seen at once; the others unfold


def page(
    name: str,
    task: str,
    findings: list[Finding],
    pictures: Mapping[str, tuple[bytes, str]],
    runs: pd.DataFrame | None = None,
    caveats: tuple[str, ...] = (),
    *,
    facts: Mapping[str, str] | None = None,
    command: str | None = None,
    tables: str = "readings.csv",
) -> str:
    """The page as text. `pictures` is (SVG, caption) by figure name, `runs` the table of `evaluate`, if rivals ran,
    `caveats` what holds of all readings, `facts` how it was made (task, steps, versions), `command` what makes it
    again, `tables` where all readings are."""
    return _template().render(
        name=name,
        task=task,
        findings=findings,
        pictures={
            key: {"source": base64.b64encode(svg).decode(), "caption": text} for key, (svg, text) in pictures.items()
        },
        objectives=[] if runs is None else _objectives(runs),
        caveats=caveats,
        facts=facts or {},
        command=command,
        tables=tables,
        few=FEW,
    )


def environment(folder: Path) -> jinja2.Environment:
    """Templates of a folder, which escape what they are given, and beside them the style of all pages, `style.css`."""
    loader = jinja2.FileSystemLoader([folder, Path(__file__).parent])
    return jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, loader=loader)


@cache
def _template() -> jinja2.Template:
    surroundings = environment(Path(__file__).parent)
    surroundings.filters["digits"] = _digits
    return surroundings.get_template("page.html")


def _digits(value: float) -> str:
    return f"{value:.6g}" if np.isfinite(value) else str(value)


def _objectives(runs: pd.DataFrame) -> list[tuple[str, float, float, float, str]]:
    """Mean meta-objective of each optimizer with its interval, the best first; then those that diverged, on what."""
    rows = []
    for name, table in runs.groupby("optimizer", sort=False):
        values = table["meta_objective"].to_numpy()
        lost = int((~np.isfinite(values)).sum())
        mean, low, high = (np.inf, np.nan, np.nan) if lost else mean_interval(values)
        rows.append((str(name), float(mean), float(low), float(high), f"{lost} of {len(values)}" if lost else ""))
    return sorted(rows, key=lambda row: row[1])
