"""Examine every optimizer of the installed optax, and write docs/optax.csv and the table in docs/optax.md.

    python workflow/scripts/optax_table.py [NAME ...]

With names only those are examined, the other rows stay. Each is made with its defaults (`reopt.optimizers.optax_walk`)
and examined as `reopt dissect` does, on a small quadratic. Exits with 1 if an examination fails. Takes about a quarter
of an hour.
"""

import argparse
import logging
import re
import sys
import warnings
from pathlib import Path

import jax
import optax
import pandas as pd

from reopt.artifacts.tables import write_table, write_text
from reopt.dissection.examine import examine
from reopt.dissection.readings import MECHANISMS, UNDETERMINED, read
from reopt.errors import ReoptError
from reopt.optimizers.optax_bridge import NotComponentWise, from_optax
from reopt.optimizers.optax_walk import walk
from reopt.tasks.quadratic import Quadratic

TABLE, PAGE = Path("docs/optax.csv"), Path("docs/optax.md")
STEPS, PROBLEMS = 40, 4


def row(name: str, transformation: object) -> dict[str, str]:
    """Name, kind, a note, and the verdict on each mechanism."""
    try:
        optimizer = from_optax(transformation, decay=True)  # type: ignore[arg-type]
    except NotComponentWise as error:
        told = re.split("[:;] an optimizer here", str(error))[0]  # without the remedy
        reason = told.partition(": ")[2] or told
        return {"name": name, "kind": error.kind, "note": reason}
    notes = []
    if optimizer.weight_decay:
        notes.append(f"decoupled weight decay {optimizer.weight_decay:.3g} a step, taken off")
    if optimizer.displaced:
        notes.append("follows the displacement of its parameter")
    found = {"name": name, "kind": "component-wise", "note": "; ".join(notes)}
    try:
        findings = read(examine(optimizer, Quadratic(), num_steps=STEPS, problems=PROBLEMS), optimizer)
    except ReoptError as error:
        return found | {"note": "; ".join([*notes, f"not examined: {error}"])}
    if all(finding.verdict == UNDETERMINED for finding in findings):
        notes.append(f"nothing is told: {findings[0].why.rpartition('; ')[2]}")
        found["note"] = "; ".join(notes)
    return found | {finding.mechanism: finding.verdict for finding in findings}


def table_text(table: pd.DataFrame) -> str:
    """The table in Markdown, with how many there are of each kind."""
    counts = ", ".join(f"{count} {kind}" for kind, count in table["kind"].value_counts().items())
    lines = [f"optax {optax.__version__}: {counts}.", ""]
    columns = ["name", "kind", *MECHANISMS, "note"]
    lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for _, one in table.iterrows():
        cells = [f"`{one['name']}`", *(str(one[column]).replace("|", "\\|") for column in columns[1:])]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="e.g. optax.lion; default: all")
    names = parser.parse_args().names
    warnings.simplefilter("ignore")
    logging.getLogger("absl").setLevel(logging.ERROR)
    kept = pd.read_csv(TABLE, keep_default_na=False).set_index("name").T.to_dict() if names else {}
    rows, failed = [], 0
    for name, transformation in walk():
        if names and name not in names and name in kept:
            rows.append({"name": name, **kept[name]})
            continue
        try:
            rows.append(row(name, transformation))
        except Exception as error:
            failed += 1
            rows.append({"name": name, "kind": "component-wise", "note": f"{type(error).__name__}: {error}"})
        print("; ".join(rows[-1].values()), flush=True)
        jax.clear_caches()  # thousands of programs would use up the maps a process may have
    table = pd.DataFrame(rows, columns=["name", "kind", *MECHANISMS, "note"]).fillna("")
    write_table(TABLE, table)
    pattern = r"(<!-- optax: generated -->\n).*?(<!-- end optax -->)"
    page = PAGE.read_text(encoding="utf-8")
    write_text(PAGE, re.sub(pattern, lambda m: m[1] + table_text(table) + m[2], page, flags=re.DOTALL))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
