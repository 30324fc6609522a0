"""The results of a config as one HTML page: what came out, every figure with its caption, every verdict.

The page lies in the config's folder of results and shows the figures beside it; it needs nothing else, and no network.
"""

import re
from pathlib import Path
from typing import Any

import markupsafe
import pandas as pd

from reopt.core.grades import ARMS
from reopt.core.tables import read_table
from reopt.examination.page import environment
from reopt.figures.palette import VERDICTS, label, task_title
from reopt.pipeline.stages import judged, learned
from reopt.report.captions import Caption, ordered_figures, split_caption
from reopt.report.scores import contest
from reopt.report.verdicts import OPENINGS, cells, counted, replication, rows

PAGE = "index.html"
"""Name of the page in a config's folder of results."""


def results_page(config: dict[str, Any], results: Path) -> str:
    """The page as text. `config` is the content of the config file, `results` its folder of results.

    **Raises** `ReoptError` where a file that is shown is missing.
    """
    claims = read_table(results / "claims.csv", ("claim", "task", "cell", "statement", "verdict", "share", "seeds"))
    deviations = read_table(results / "deviations.csv").astype(object).fillna("").astype(str)
    titles = {task: task_title(task) for task in config["tasks"]}
    surroundings = environment(Path(__file__).parent)
    surroundings.filters |= {"panels": _panels, "written": label}
    return surroundings.get_template("page.html").render(
        name=config["name"],
        titles=titles,
        runs={task: len(learned(config, task)) for task in titles},
        contests=[contest(config, task, results) for task in titles if judged(config, task) != learned(config, task)],
        replication=[(*OPENINGS[group], text) for group, text in replication(claims).items() if text],
        figures=[(svg.stem, _caption(svg, list(titles.values()))) for svg in ordered_figures(results / "figures")],
        verdicts=[_verdicts(claims[claims["task"] == task], task) for task in titles],
        symbols={verdict: symbol for verdict, (symbol, _) in VERDICTS.items()},
        arms=ARMS,
        deviations=(list(deviations.columns), deviations.to_numpy().tolist()),
    )


def _caption(svg: Path, titles: list[str]) -> Caption:
    return split_caption(svg.with_suffix(".rst").read_text(encoding="utf-8"), titles)


def _verdicts(claims: pd.DataFrame, task: str) -> dict[str, Any]:
    return {"task": task, "counts": counted(claims), "cells": cells(claims), "rows": rows(claims)}


def _panels(text: str) -> markupsafe.Markup:
    """A caption whose references to panels, (a), (b), ..., stand out."""
    return markupsafe.Markup(re.sub(r"\(([a-z])\)", r"<b>(\1)</b>", str(markupsafe.escape(text))))
