"""A researcher has an optimizer in a file and the wheel, no repository: dissects it, compares it, reads the page.

uv run python tests/people/researcher.py
"""

import csv
import re
import subprocess
import tempfile
from pathlib import Path

from person import ROOT, Person, must

CLIP, BETA, RATE = 0.3, 0.9, 0.05
"""What is in the optimizer: gradients are clipped at CLIP, then heavy ball."""

OPTIMIZER = """import optax

optimizer = optax.chain(optax.clip({clip}), optax.trace({beta}), optax.scale(-{rate}))
"""


def researcher(folder: Path) -> Person:
    """Do it all below a folder. **Raises** `Failed`."""
    person = Person(folder, "researcher")
    wheels = folder / "wheels"
    subprocess.run(["uv", "build", "--quiet", "--wheel", "--out-dir", str(wheels)], cwd=ROOT, check=True)
    (wheel,) = wheels.glob("*.whl")
    person.does("pip install of the wheel", "pip", "install", "--quiet", str(wheel))

    work = folder / "work"
    work.mkdir()
    (work / "mine.py").write_text(OPTIMIZER.format(clip=CLIP, beta=BETA, rate=RATE))
    (work / "theirs.py").write_text(OPTIMIZER.format(clip=2 * CLIP, beta=BETA, rate=RATE))
    words = ("--task", "quadratic", "--out")
    person.does("dissect", "reopt", "dissect", "mine.py:optimizer", *words, "examined", "--draws", "20", where=work)
    read = readings(work / "examined/readings.csv")
    for quantity, true in {"threshold": CLIP, "beta_real": BETA, "alpha_real": RATE}.items():
        must(abs(read[quantity] / true - 1) < 0.01, f"{quantity} is {true}, and read as {read[quantity]}")
    page = (work / "examined/index.html").read_text(encoding="utf-8")
    verdicts = re.findall(r'<a href="#(\w+)">\w+</a></td><td><span class="verdict (\w+)">', page)
    must(
        verdicts
        == [
            ("momentum", "present"),
            ("clipping", "present"),
            ("schedule", "absent"),
            ("adaptation", "absent"),
            ("remainder", "absent"),
        ],
        f"the page's verdicts are others: {verdicts}",
    )
    both = ("mine.py:optimizer", "theirs.py:optimizer", "--task", "quadratic")
    said = person.does("diff", "reopt", "diff", *both, where=work, ends=[1])
    must("clips at 0.3" in said and "clips at 0.6" in said, f"the difference is where the clips are:\n{said}")
    person.does("diff with itself", "reopt", "diff", both[0], both[0], *both[2:], where=work)
    return person


def readings(file: Path) -> dict[str, float]:
    """Value by quantity, of the first of each."""
    with file.open() as lines:
        rows = [(row["quantity"], float(row["value"])) for row in csv.DictReader(lines) if row["index"] == "0"]
    return dict(reversed(rows))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        researcher(Path(place))
