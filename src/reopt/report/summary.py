"""What is in the folder of results of a config, in a few lines for the terminal."""

from pathlib import Path
from typing import Any

from reopt.core.errors import ReoptError
from reopt.core.tables import read_table
from reopt.figures.palette import label, task_title
from reopt.pipeline.stages import learned
from reopt.report.page import PAGE
from reopt.report.scores import contest
from reopt.report.verdicts import counted

_OUTCOMES = {
    "learned": "beats",
    "baseline": "does not reach",
    "neither": "is no better and no worse than",
    "undetermined": "cannot be compared, one diverges, with",
}


def summary(config: dict[str, Any], file: Path, results: Path) -> str:
    """Runs, tasks and claims of a config, who is better on each task, and what to open or to run next.

    `config` is the content of the config file `file`, `results` its folder of results; what is missing there is named.
    """
    runs = sum(len(learned(config, task)) for task in config["tasks"])
    lines = [
        f"{results}: {_count(runs, 'meta-trained optimizer')} on {_count(len(config['tasks']), 'task')}, by {file}"
    ]
    lines += [f"  {_of_task(config, task, results)}" for task in config["tasks"]]
    if (results / "claims.csv").is_file():
        lines.append("  claims of the paper: " + counted(read_table(results / "claims.csv", ("verdict",))))
    if (results / PAGE).is_file():
        lines.append(f"  open {results / PAGE} in a browser: figures with captions, verdicts")
    else:
        lines.append(f"  `snakemake --configfile {file}` makes what is missing and its page, {results / PAGE}")
    return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _of_task(config: dict[str, Any], task: str, results: Path) -> str:
    title = task_title(task)
    try:
        found = contest(config, task, results)
    except ReoptError as error:
        return f"{title}: not all there yet ({error})"
    mine, rival = (f"{label(one.subject)} ({one.value})" for one in (found.learned, found.rival))
    return f"{title}: {mine} {_OUTCOMES[found.better]} {rival}, the best baseline"
