"""What reopt writes below a folder of results, to tell files that are not so from errors of ours that read them.

A file is told by the end of its path. Columns of a table hold numbers, but for those marked with `~`, which hold words;
of a JSON document its keys are listed. More columns and keys are no fault.
"""

from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

from reopt.core.errors import ReoptError
from reopt.core.provenance import file_digest
from reopt.core.tables import read_json, read_table

_JUDGED = "~optimizer ~task seed problem meta_objective final_loss"
_SHIFTED = "~subject ~axis ~value meta_objective low high diverged final problems worse"
_PC = "pc1 pc2 pc3"
FORMATS = {
    "claims.csv": "~claim ~task ~cell ~statement value low high seeds share share_low share_high ~criterion ~verdict",
    "analysis/*/adaptation.csv": f"gradient ~arm effective_learning_rate converged spectral_radius {_PC}",
    "analysis/*/adaptation.json": "converged exponent high low range symmetry",
    "analysis/*/adaptation_functions.csv.gz": "gradient_held ~place gradient update slope",
    "analysis/*/causes.csv": "~momentum ~clipping ~schedule ~adaptation ~variant meta_objective low high",
    "analysis/*/clipping.csv": "~place shift slope_at_zero threshold asymmetry hardness saturation",
    "analysis/*/foretold.csv": "~what at foretold seen ~agrees ~words",
    "analysis/*/gradient_density.csv": "~scale left right density ~phase",
    "analysis/*/impulse.csv": "lag response linear modes",
    "analysis/*/linearized.csv": "step learned linearized",
    "analysis/*/linearized_problems.csv.gz": "problem learned linearized",
    "analysis/*/modes.csv": "mode beta_real beta_imag alpha_real alpha_imag magnitude timescale gain ~kind",
    "analysis/*/operating.csv.gz": "met step problem param rate memory saturation rate_at_end",
    "analysis/*/operating_functions.csv.gz": "gradient step update slope",
    "analysis/*/readings.csv": "~mechanism ~quantity index value low high ~unit ~verdict",
    "analysis/*/schedule.csv": f"step effective_learning_rate {_PC}",
    "analysis/*/schedule.json": "final initial peak peak_step range shape",
    "analysis/*/update_functions.csv.gz": "~place shift gradient update slope",
    "analysis/*/worth.csv": "~mechanism ~quantity value low high",
    "baselines/*.csv.gz": "draw learning_rate meta_objective at_least steps ~at_edge",
    "baselines/*.json": "at_edge baseline diverged draws dropped hyperparameters meta_objective ranges",
    "beyond/*/beyond.csv": _SHIFTED,
    "beyond/*/*/transfer.csv": _SHIFTED,
    "beyond/*/first_to_break.csv": "~axis ~direction ~value ~mechanism ~diagnostic limit meta_objective final",
    "beyond/*/horizon.csv": "~subject step mean low high median",
    "conditions.csv": "problem condition_number largest_eigenvalue smallest_eigenvalue initial_loss",
    "evaluation/*.curves.csv": "~optimizer step mean low high median",
    "evaluation/*.csv": _JUDGED,
    "landscape.csv": "u v loss",
    "path.csv": "step u v distance loss",
    "optimizers/*/training.csv.gz": "outer_step meta_objective gradient_norm skipped validation",
    "recipe.csv": "candidate ~features input_scale output_scale learning_rate meta_objective",
}
_MAY_BE_EMPTY = ("first_to_break.csv",)


def misfit(path: Path) -> str:
    """In what a file below `results` is not as reopt writes it; empty where nothing is wrong with it, or known of it.

    **Raises** `ReoptError` where it cannot be read.
    """
    wanted = next((names.split() for pattern, names in FORMATS.items() if path.match(pattern)), [])
    content = read_json(path) if path.suffix == ".json" else read_table(path) if wanted else None
    if isinstance(content, pd.DataFrame):
        return _misfit_of_table(content, wanted, path.name in _MAY_BE_EMPTY) or _changed(path)
    if wanted and not isinstance(content, dict):
        return "it is no document with keys"
    missing = [name for name in wanted if name not in (content or {})]
    return f"it has no key {missing[0]!r}" if missing else _changed(path)


def _misfit_of_table(table: pd.DataFrame, wanted: list[str], may_be_empty: bool) -> str:
    names = [name.removeprefix("~") for name in wanted]
    if missing := [name for name in names if name not in table.columns]:
        return f"it has no column {missing[0]!r}"
    if table.empty and not may_be_empty:
        return "it has no rows"
    numbers = [name for name in wanted if not name.startswith("~")]
    words = [name for name in numbers if len(table) and not is_numeric_dtype(table[name])]
    return f"column {words[0]!r} holds words in place of numbers" if words else ""


def _changed(path: Path) -> str:
    """Whether a file's bytes are other than those that were recorded when it was made."""
    try:
        from snakedvc import SnakedvcError
        from snakedvc.records import all_records
    except ImportError:  # without it nothing was recorded
        return ""
    try:
        recorded = all_records(Path("results")).get(path.as_posix())
        changed = recorded is not None and file_digest(path) != recorded.sha256
    except (SnakedvcError, ReoptError):  # nothing can be held against it
        return ""
    return "its bytes are other than those recorded when it was made" if changed else ""
