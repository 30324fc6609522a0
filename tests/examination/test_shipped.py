"""`reopt dissect` on shipped subjects gives the numbers of the pipeline's examination, for every file that both write.

Not of two moons and MNIST, and not of the loss curves: what is shipped of these is not of the present code, see
`.campaign/README.md`. One subject, computed anew; more with `REOPT_SHIPPED_SUBJECTS`, others with another
`REOPT_SHIPPED_SEED`.
"""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reopt.core.tables import read_arrays

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "results/study"
TASKS = ("quadratic", "rosenbrock")
SEED = int(os.environ.get("REOPT_SHIPPED_SEED", "4"))
QUICKLY = ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS")
SUBJECTS = int(os.environ.get("REOPT_SHIPPED_SUBJECTS", "1"))


def drawn(count: int) -> list[Path]:
    """Folders of shipped subjects: one a task, of tasks in any order, then others."""
    rng = random.Random(SEED)
    found = {task: sorted((SHIPPED / task / "optimizers").glob("*-s*")) for task in TASKS}
    if not all(found.values()):
        return []
    chosen = [rng.choice(found[task]) for task in rng.sample(TASKS, len(TASKS))]
    rest = [one for runs in found.values() for one in runs if one not in chosen]
    return [*chosen, *rng.sample(rest, len(rest))][:count]


def difference(one: Path, other: Path) -> float:
    """The largest difference of two tables or files of arrays, relative to the number; words must be the same."""
    if one.suffix == ".npz":
        mine, theirs = read_arrays(one), read_arrays(other)
    else:
        mine, theirs = (dict(pd.read_csv(path).items()) for path in (one, other))
    assert list(mine) == list(theirs)
    worst = 0.0
    for name, values in mine.items():
        a, b = np.asarray(values), np.asarray(theirs[name])
        assert a.shape == b.shape, (one, name)
        if a.dtype.kind not in "fiuc":
            assert (a == b).all() or pd.isna(a[a != b]).all(), (one, name)
            continue
        assert (np.isfinite(a) == np.isfinite(b)).all(), (one, name)
        known = np.isfinite(a) & (a != b)
        if known.any():
            a, b = a[known], b[known]
            worst = max(worst, float((np.abs(a - b) / np.maximum(np.abs(a), np.abs(b))).max()))
    return worst


@pytest.mark.long
@pytest.mark.skipif(not (SHIPPED / "rosenbrock/optimizers").is_dir(), reason="`dvc pull` brings the shipped results")
def test_dissect_gives_the_numbers_of_the_pipeline(tmp_path: Path) -> None:
    for subject in drawn(SUBJECTS):
        task = subject.parts[-3]
        out = tmp_path / task / subject.name
        words = [str(subject / "best.safetensors"), "--task", task, "--config", "config/study.yaml", "--out", str(out)]
        # What there is of it would be read otherwise, and compared with itself.
        command = [sys.executable, "-m", "reopt", "dissect", *words, "--anew"]
        # Compiled as the pipeline's: the last digits of others grow along a run.
        environment = {name: value for name, value in os.environ.items() if name not in QUICKLY}
        subprocess.run(command, check=True, cwd=ROOT, env=environment, timeout=600)
        analysis, compared = subject.parents[1] / "analysis" / subject.name, 0
        for made in sorted([*out.glob("*.npz"), *out.glob("*.csv"), *out.glob("*.csv.gz")]):
            if (stored := analysis / made.name).exists():
                assert difference(stored, made) <= 1e-9, (subject, made.name)
                compared += 1
        assert compared >= 10
