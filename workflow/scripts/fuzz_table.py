"""Run the campaign of faults (tests/fuzz) and write docs/fuzz.csv: trials of each kind, and what became of them.

    python workflow/scripts/fuzz_table.py [--seed N]

`workflow/scripts/docs.py` puts the table into docs/faults.md. Exits with 1 if a trial fails. Takes about four minutes.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import pandas as pd

from reopt.core.tables import write_table

ROOT = Path(__file__).parents[2]
TABLE = Path("docs/fuzz.csv")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    sys.path.insert(0, str(ROOT / "tests/fuzz"))
    from kinds import TRIALS, results
    from workshop import make_workshop

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        workshop = make_workshop(Path(folder))
        for kind in TRIALS:
            found = list(results(kind, workshop, seed))
            for result in found:
                if result.fault:
                    print(result.line, flush=True)
            failed = sum(bool(result.fault) for result in found)
            done = sum(not result.fault and result.answer["code"] in (0, 1) for result in found)
            rows.append((kind, seed, len(found), done, len(found) - done - failed, failed))
            print(*rows[-1], flush=True)
    table = pd.DataFrame(rows, columns=["kind", "seed", "trials", "done", "refused", "failed"])
    write_table(TABLE, table)
    return int(table["failed"].sum() > 0)


if __name__ == "__main__":
    sys.exit(main())
