"""The parts of an examination: which rule makes them, in which files they are stored, what they are made from.

Plain data that imports nothing: the pipeline reads it each time that it plans.
"""

from typing import NamedTuple

FILES: dict[str, tuple[str, ...]] = {
    "recording": ("record.npz",),
    "points": ("fixed_points.npz",),
    "linearization": ("linearization.npz",),
    "modes": ("modes.csv",),
    "impulse": ("impulse.csv",),
    "linearized": ("linearized.csv", "linearized_problems.csv.gz"),
    "pca": ("pca.npz",),
    "update_functions": ("update_functions.csv.gz",),
    "clipping": ("clipping.csv",),
    "density": ("gradient_density.csv",),
    "schedule": ("schedule.csv", "schedule.json"),
    "adaptation": ("adaptation.csv", "adaptation.json", "adaptation_functions.csv.gz"),
    "operating": ("operating.csv.gz", "operating_functions.csv.gz"),
    "readings": ("readings.csv",),
    "ablation": ("causes.csv", "worth.csv"),
}
"""The files of each attribute of `Examination`, in a subject's folder."""


class Part(NamedTuple):
    """What one rule makes: attributes of `Examination`, from those it `needs` (and those that these were made from).

    `modules` run for it (and what they import); `keys` are the blocks of the config it reads, beside the task's.
    """

    makes: tuple[str, ...]
    needs: tuple[str, ...]
    modules: tuple[str, ...]
    keys: tuple[str, ...]
    title: str

    @property
    def files(self) -> tuple[str, ...]:
        """What it writes."""
        return files_of(*self.makes)


def files_of(*attributes: str) -> tuple[str, ...]:
    """The files of attributes of `Examination`, in this order."""
    return tuple(file for name in attributes for file in FILES[name])


PARTS: dict[str, Part] = {
    "record": Part(
        makes=("recording",),
        needs=(),
        modules=("reopt.dynamics.record",),
        keys=("record",),
        title="Recording",
    ),
    "fixed_points": Part(
        makes=("points",),
        needs=("recording",),
        modules=("reopt.dynamics.fixed_points", "reopt.mechanisms.effective_rate"),
        keys=("analysis.fixed_points",),
        title="Fixed points of",
    ),
    "linearize": Part(
        makes=("linearization", "modes", "impulse", "linearized"),
        needs=("points",),
        modules=("reopt.dynamics.linearization", "reopt.mechanisms.modes", "reopt.mechanisms.effective_rate"),
        keys=("evaluation",),
        title="Linearizing",
    ),
    "pca": Part(
        makes=("pca",),
        needs=("recording",),
        modules=("reopt.dynamics.pca",),
        keys=(),
        title="Principal components of",
    ),
    "update_functions": Part(
        makes=("update_functions", "clipping"),
        needs=("recording", "pca", "linearization"),
        modules=("reopt.mechanisms.update_function", "reopt.mechanisms.effective_rate"),
        keys=("analysis.clipping",),
        title="Update functions of",
    ),
    "gradient_density": Part(
        makes=("density",),
        needs=("recording",),
        modules=("reopt.mechanisms.update_function",),
        keys=("analysis.clipping",),
        title="Gradients met by",
    ),
    "schedule": Part(
        makes=("schedule",),
        needs=("pca", "linearization"),
        modules=("reopt.mechanisms.effective_rate",),
        keys=(),
        title="Autonomous trajectory of",
    ),
    "adaptation": Part(
        makes=("adaptation",),
        needs=("recording", "pca", "linearization"),
        modules=("reopt.mechanisms.constant_gradients", "reopt.mechanisms.effective_rate"),
        keys=("analysis.adaptation",),
        title="Constant gradients on",
    ),
    "operating_point": Part(
        makes=("operating",),
        needs=("recording",),
        modules=("reopt.mechanisms.operating_point", "reopt.mechanisms.effective_rate"),
        keys=("analysis.clipping",),
        title="Operating point of",
    ),
    "verdicts": Part(
        makes=("readings",),
        needs=("recording", "points", "pca", "linearization", "operating"),
        modules=("reopt.examination.verdicts",),
        keys=("analysis.clipping", "analysis.adaptation"),
        title="Verdicts on",
    ),
}
"""The rules of an examination, each after what it needs."""


def earlier(part: str) -> tuple[str, ...]:
    """The attributes that a part may read: what it needs, and what that was made from."""
    found: list[str] = []
    waiting = [*PARTS[part].needs]
    while waiting:
        attribute = waiting.pop()
        if attribute not in found:
            found.append(attribute)
            waiting += next(one.needs for one in PARTS.values() if attribute in one.makes)
    return tuple(name for name in FILES if name in found)
