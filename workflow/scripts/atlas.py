"""Make the atlas of optimizers: an entry a subject in docs/atlas, and docs/atlas/index.json over all of them.

    python workflow/scripts/atlas.py subjects        write docs/atlas/subjects.txt, the keys of all subjects
    python workflow/scripts/atlas.py entries KEY ... write docs/atlas/KEY.json of each, and KEY.svg of those examined
    python workflow/scripts/atlas.py index           write docs/atlas/index.json: relatives of each, and versions

`snakemake atlas` does all of it, a batch of entries a job. The pages are made from these files when the site is built.
"""

import argparse
import json
import logging
import os
import sys
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

# Many small programs that run once: compiled without what costs more than it gains. XLA ends the process at a flag that
# it does not know. Before JAX is imported.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if version("jaxlib").startswith("0.10."):
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1")

from reopt.core.tables import write_json, write_text
from reopt.examination.atlas import Subject, catalogue, entry, glance, relatives

FOLDER = Path("docs/atlas")


def write_entry(key: str, subjects: Mapping[str, Subject]) -> None:
    """The entry of one subject, and its figure."""
    from reopt.figures import atlas
    from reopt.figures.save import save

    if key not in subjects:
        raise SystemExit(f"the atlas has no subject {key!r}: run `snakemake atlas_subjects`")
    made = entry(subjects[key])
    drawn = glance(made)
    facts = made.facts | {"caption": atlas.caption(drawn) if drawn else None}
    if drawn:
        save(atlas.figure(drawn), FOLDER / f"{key}.svg")
    write_json(FOLDER / f"{key}.json", facts)


def write_index() -> None:
    """Relatives of each subject, and what all entries were made with."""
    keys = (FOLDER / "subjects.txt").read_text(encoding="utf-8").split()
    entries = [json.loads((FOLDER / f"{key}.json").read_text(encoding="utf-8")) for key in keys]
    versions = {name: version(name) for name in ("optax", "jax")}
    write_json(FOLDER / "index.json", {"versions": versions, "relatives": relatives(entries)})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["subjects", "entries", "index"])
    parser.add_argument("keys", nargs="*", metavar="KEY")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("absl").setLevel(logging.ERROR)
    FOLDER.mkdir(exist_ok=True)
    if given.what == "subjects":
        write_text(FOLDER / "subjects.txt", "\n".join(catalogue()) + "\n")
    elif given.what == "index":
        write_index()
    elif given.keys:
        subjects = catalogue()
        for number, key in enumerate(given.keys, start=1):
            print(f"{number} of {len(given.keys)}: {key}", flush=True)
            write_entry(key, subjects)
    else:
        parser.error("entries: give a KEY")
    return 0


if __name__ == "__main__":
    sys.exit(main())
