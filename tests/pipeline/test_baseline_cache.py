"""Tuned baselines that are kept: found again by all that decides them, by nothing else, and never in the way."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import reopt
from reopt.examination.settings import Settings
from reopt.pipeline import baseline_cache
from reopt.pipeline.baseline_cache import cache_folder, entry, keep, kept, task_digest
from reopt.pipeline.setting import Setting, tuned_rival
from reopt.tasks.base import Task

SIZES = {"problems": 3, "seed": 0, "num_steps": 5}
WINNER = {"baseline": "momentum", "hyperparameters": {"learning_rate": 0.1, "momentum": 0.9}}


class Hidden(Task):
    """x^2 plus a small wave, whose phase is no field of the task, and a loss that changes in its last step alone."""

    data: np.ndarray
    last: float = 0.0

    @property
    def num_params(self) -> int:
        return 2

    def sample(self, key):
        return jnp.ones(2)

    def initial_params(self, problem):
        return problem

    def loss(self, problem, params, step):
        return jnp.sum((params - jnp.asarray(self.data)) ** 2) + self.last * (step == 4)


def test_a_task_is_known_by_its_problems_and_losses() -> None:
    quadratic = reopt.tasks.Quadratic()
    home = task_digest(quadratic, **SIZES)
    assert task_digest(reopt.tasks.Quadratic(), **SIZES) == home
    others = [
        task_digest(reopt.tasks.Quadratic(log10_eigenvalues=(-3.0, 0.5)), **SIZES),
        task_digest(reopt.tasks.Quadratic(dimension=6), **SIZES),
        task_digest(quadratic, **SIZES | {"seed": 1}),
        task_digest(quadratic, **SIZES | {"problems": 4}),
        task_digest(Hidden(np.zeros(2)), **SIZES),
        task_digest(Hidden(np.array([0.0, 1e-6])), **SIZES),
        task_digest(Hidden(np.zeros(2), last=1e-3), **SIZES),
    ]
    assert len({home, *others}) == 1 + len(others)


def test_every_setting_and_version_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"draws": 2, "seed": 0, "ranges": {"learning_rate": {"low": 0.1, "high": 1.0, "scale": "log"}}}
    home = entry("momentum", "task", settings)
    assert entry("momentum", "task", dict(reversed(settings.items()))) == home
    found = {
        entry("adam", "task", settings),
        entry("momentum", "other", settings),
        entry("momentum", "task", settings | {"draws": 3}),
        entry("momentum", "task", settings | {"ranges": {}}),
    }
    monkeypatch.setattr(baseline_cache, "version", lambda package: "9" if package == "jaxlib" else "1")
    found.add(entry("momentum", "task", settings))
    monkeypatch.setattr(baseline_cache, "_source", lambda: "edited")
    found.add(entry("momentum", "task", settings))
    assert len(found - {home}) == 6


def test_the_second_call_reads_what_the_first_has_tuned(tmp_path: Path) -> None:
    def tuned(**changes: int) -> tuple[list[str], reopt.Optimizer]:
        said: list[str] = []
        sizes = {"draws": 4, "seed": 0} | changes
        where = Setting("quadratic", reopt.tasks.Quadratic(), Settings(num_steps=6), tmp_path)
        found = tuned_rival("momentum", where, say=said.append, cache=tmp_path / "cache", **sizes)
        assert found is not None
        return said, found

    said, first = tuned()
    assert said == ["tuning momentum: 4 draws"]
    (file,) = (tmp_path / "cache/baselines").iterdir()
    again, second = tuned()
    assert [line.split(",")[0] for line in again] == ["momentum as it was tuned before"]
    assert second == first
    assert tuned(draws=5)[0] == ["tuning momentum: 5 draws"]
    assert tuned(seed=1)[0] == ["tuning momentum: 4 draws"]
    file.write_text('{"cut": ')
    assert tuned() == (["tuning momentum: 4 draws"], first)


@pytest.mark.parametrize(
    "content",
    [
        '{"cut": ',
        "[]",
        "{}",
        json.dumps({"digest": "other", "winner": WINNER}),
        json.dumps({"digest": "d", "winner": WINNER | {"baseline": "banana"}}),
        json.dumps({"digest": "d", "winner": WINNER | {"hyperparameters": {"learning_rate": float("nan")}}}),
        json.dumps({"digest": "d", "winner": WINNER | {"hyperparameters": {"learning_rate": "0.1"}}}),
        json.dumps({"digest": "d", "winner": WINNER | {"hyperparameters": {"rate": 0.1}}}),
    ],
)
def test_what_is_not_whole_is_not_read(content: str, tmp_path: Path) -> None:
    assert keep(tmp_path, "d", WINNER) == ""
    assert kept(tmp_path, "d") == WINNER
    assert [path.name for path in (tmp_path / "baselines").iterdir()] == ["d.json"]
    (tmp_path / "baselines/d.json").write_text(content)
    assert kept(tmp_path, "d") is None


def test_that_every_draw_diverged_is_kept_too(tmp_path: Path) -> None:
    class Steep(Hidden):
        def loss(self, problem, params, step):
            return jnp.sum(1e30 * params**4)

    where = Setting("steep", Steep(np.zeros(2)), Settings(num_steps=12), tmp_path)
    said: list[str] = []
    for _ in range(2):
        assert tuned_rival("momentum", where, draws=2, seed=0, say=said.append, cache=tmp_path) is None
    assert [line.split()[0] for line in said] == ["tuning", "momentum"]


def test_a_folder_that_cannot_be_made_is_told_and_not_missed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said: list[str] = []
    where = Setting("quadratic", reopt.tasks.Quadratic(), Settings(num_steps=4), tmp_path)
    found = tuned_rival("momentum", where, draws=2, seed=0, say=said.append, cache=tmp_path / "file/cache")
    assert found is not None
    assert said[1].startswith("tuned momentum is not kept for later: cannot write ")
    assert len(said) == 2


def test_where_they_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("REOPT_CACHE")
    assert cache_folder() == tmp_path / ".cache/reopt"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / ".cache/reopt"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg/reopt"
    monkeypatch.setenv("REOPT_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.setenv("REOPT_CACHE", "")
    assert cache_folder() is None
