"""Pack the tables that are kept as .csv.gz from now on, and rename them in the records: nothing of them changes.

python campaign/convert.py laptop study
"""

import gzip
import hashlib
import json
import re
import sys
from pathlib import Path

RENAMED = re.compile(
    r"^(results/[^/]+/[^/]+/(?:optimizers/[^/]+/training|analysis/[^/]+/linearized_problems|baselines/[^/.]+))\.csv$"
)


def packed(path: str) -> str:
    return RENAMED.sub(r"\1.csv.gz", path)


def convert(root: Path) -> int:
    digests = {}
    for file in sorted(root.rglob("*.csv")):
        if RENAMED.match(file.as_posix()):
            content = gzip.compress(file.read_bytes(), mtime=0)
            target = Path(packed(file.as_posix()))
            target.write_bytes(content)
            file.unlink()
            digests[target.as_posix()] = hashlib.sha256(content).hexdigest()

    def renamed(value):
        if isinstance(value, str):
            return packed(value)
        if isinstance(value, list):
            return [renamed(one) for one in value]
        if isinstance(value, dict):
            found = {packed(key): renamed(one) for key, one in value.items()}
            return {
                key: f"sha256:{digests[key]}" if key in digests and isinstance(one, str) else one
                for key, one in found.items()
            }
        return value

    for file in sorted((root / ".records").glob("*.jsonl")):
        lines = []
        for line in file.read_text().splitlines():
            entry = json.loads(line)
            output = packed(entry["output"])
            sha256 = digests.get(output, entry["sha256"])
            lines.append(
                json.dumps({"output": output, "sha256": sha256, "record": renamed(entry["record"])}, sort_keys=True)
            )
        file.write_text("".join(f"{line}\n" for line in sorted(lines, key=lambda one: json.loads(one)["output"])))
    return len(digests)


for name in sys.argv[1:]:
    print(name, convert(Path("results") / name))
