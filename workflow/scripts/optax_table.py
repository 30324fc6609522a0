"""Write docs/optax.csv, and the table in docs/optax.md, from the atlas (docs/atlas): a row an optimizer of optax."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from reopt.core.tables import write_table, write_text
from reopt.mechanisms.registry import mechanisms

ATLAS, TABLE, PAGE = Path("docs/atlas"), Path("docs/optax.csv"), Path("docs/optax.md")


def row(entry: dict[str, Any]) -> dict[str, str]:
    """Name, kind, a note, the verdict on each mechanism, and how many pairs of readings that imply each other agree."""
    told = re.split("[:;] an optimizer here", entry["note"])[0]  # without the remedy
    note = told if entry["kind"] == "component-wise" else told.partition(": ")[2] or told
    found = {"name": entry["name"], "kind": entry["kind"], "note": note}
    if "pairs" in entry:
        found["pairs"] = "{} of {}".format(*entry["pairs"])
    return found | {one["mechanism"]: one["verdict"] for one in entry.get("findings", [])}


def table_text(table: pd.DataFrame, version: str) -> str:
    """The table in Markdown, with how many there are of each kind."""
    counts = ", ".join(f"{count} {kind}" for kind, count in table["kind"].value_counts().items())
    agree, compared = (sum(int(one.split(" of ")[at]) for one in table["pairs"] if one) for at in (0, 1))
    lines = [
        f"optax {version}: {counts}. Of {compared} pairs of readings that imply each other, {agree} agree.",
        "",
    ]
    columns = ["name", "kind", *(one.name for one in mechanisms()), "note"]
    lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for _, one in table.iterrows():
        cells = [f"`{one['name']}`", *(str(one[column]).replace("|", "\\|") for column in columns[1:])]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    keys = (ATLAS / "subjects.txt").read_text(encoding="utf-8").split()
    rows = [
        row(json.loads((ATLAS / f"{key}.json").read_text(encoding="utf-8"))) for key in keys if key.startswith("optax.")
    ]
    table = pd.DataFrame(rows, columns=["name", "kind", *(one.name for one in mechanisms()), "note", "pairs"]).fillna(
        ""
    )
    version = json.loads((ATLAS / "index.json").read_text(encoding="utf-8"))["versions"]["optax"]
    write_table(TABLE, table)
    pattern = r"(<!-- optax: generated -->\n).*?(<!-- end optax -->)"
    page = PAGE.read_text(encoding="utf-8")
    write_text(PAGE, re.sub(pattern, lambda m: m[1] + table_text(table, version) + m[2], page, flags=re.DOTALL))
    return 0


if __name__ == "__main__":
    sys.exit(main())
