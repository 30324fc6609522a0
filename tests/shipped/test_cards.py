"""Shipped optimizers: each is the file on its card, does what the card says, and is known when it is far from home."""

import dataclasses
import json
import math
import shutil
import sys
from importlib.resources import files
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reopt
from reopt.cli import app as cli
from reopt.core.errors import ReoptError
from reopt.optimizers.load import load_learned
from reopt.pipeline.subjects import resolve
from reopt.shipped import cards as shipped
from reopt.shipped.use import first_gradients, task_out_of_range
from reopt.tasks.registry import task_module

FOLDER = Path(str(files("reopt.shipped")))
CARD = reopt.cards()["quadratic/gru32"]


def call(words: str, patch: pytest.MonkeyPatch) -> int:
    """The exit code of `reopt WORDS` in this process."""
    patch.setattr(sys, "argv", ["reopt", *words.split()])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code or 0


def task_of(card: reopt.Card) -> reopt.Task:
    module = task_module(card.task)
    return module.create(module.Settings.model_validate(card.problem))


@pytest.mark.parametrize("name", reopt.cards())
def test_each_is_loaded_with_its_card(name: str) -> None:
    optimizer = reopt.load(name)
    assert optimizer.card == reopt.cards()[name]
    assert isinstance(optimizer, reopt.LearnedOptimizer)
    same = load_learned(FOLDER / f"{name}.safetensors")
    gradients, states = jnp.array([0.3, -2.0, 0.0]), same.initial_states((3,))
    for ours, theirs in zip(optimizer(states, gradients), same(states, gradients), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_there_is_one_of_every_task_and_all_are_small() -> None:
    assert {card.task for card in reopt.cards().values()} == {"quadratic", "rosenbrock", "two_moons", "mnist"}
    assert {f"{path.parent.name}/{path.stem}" for path in FOLDER.glob("*/*.safetensors")} == set(reopt.cards())
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 1_000_000


def test_it_reaches_what_its_card_says() -> None:
    """On the first problems of the card's seed: within three standard errors of the mean over all of them."""
    count = 256
    found = reopt.evaluate(
        reopt.load(CARD.name), task_of(CARD), problems=count, seed=CARD.seed, num_steps=CARD.scope.steps
    )
    error = (CARD.score.high - CARD.score.low) / 2 / 1.96 * math.sqrt(CARD.problems / count)
    assert abs(found.table["meta_objective"].mean() - CARD.score.mean) < 3 * error


def test_it_stays_what_it_is_through_transformations() -> None:
    optimizer = reopt.load(CARD.name)
    doubled = jax.tree.map(lambda leaf: 2 * leaf, optimizer)
    assert doubled.card == CARD
    assert hash(jax.tree.structure(optimizer)) == hash(jax.tree.structure(reopt.load(CARD.name)))
    transformation = reopt.as_optax(optimizer)
    params = {"w": jnp.ones((2, 3))}
    updates, _ = transformation.update(params, transformation.init(params))
    expected = optimizer(optimizer.initial_states((2, 3)), params["w"])[1]
    np.testing.assert_array_equal(updates["w"], expected)


def test_an_unknown_name_gets_the_names_there_are() -> None:
    for load in (reopt.load, shipped.card_named, lambda name: resolve(name, task=None, task_name="", results=Path())):
        with pytest.raises(ReoptError, match=r"no shipped optimizer is called 'mnist/gru17'; there are: .*mnist/gru16"):
            load("mnist/gru17")
    with pytest.raises(ReoptError, match=r"quadratic/paper' \(it is 0.8 MB.*dvc pull"):
        reopt.load("quadratic/paper")


def test_a_subject_may_be_a_name_and_a_file_of_that_name_goes_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    there = {"task": task_of(CARD), "task_name": "quadratic", "results": Path("results")}
    name, optimizer = resolve(CARD.name, **there)
    assert (name, optimizer.card) == (CARD.name, CARD)
    Path("quadratic/gru32").mkdir(parents=True)  # of results, say
    assert resolve(CARD.name, **there)[0] == CARD.name


@pytest.mark.parametrize("damage", ["flipped", "gone", "cards", "no cards"])
def test_a_damaged_installation_is_told_from_bad_input(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(FOLDER, tmp_path / "shipped")
    file, listed = tmp_path / f"shipped/{CARD.name}.safetensors", tmp_path / "shipped/cards.json"
    if damage == "flipped":
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 4]))
    elif damage == "gone":
        file.unlink()
    elif damage == "cards":
        listed.write_text(listed.read_text().replace('"scope"', '"extent"'))
    else:
        listed.unlink()
    monkeypatch.setattr(shipped, "_folder", lambda: tmp_path / "shipped")
    shipped._shipment.cache_clear()
    try:
        with pytest.raises(ReoptError, match="install reopt again"):
            reopt.load(CARD.name)
    finally:
        shipped._shipment.cache_clear()


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        ((0.1, 0.2), (0.3, 0.4), "better"),
        ((0.1, 0.3), (0.2, 0.4), "alike"),
        ((0.3, 0.4), (0.1, 0.2), "worse"),
        ((0.1, 0.2, 1), (0.3, 0.4, 0), "worse"),
        ((0.1, 0.2, 1), (0.3, 0.4, 1), "better"),
    ],
)
def test_scores_are_held_against_each_other_by_their_intervals(ours: tuple, theirs: tuple, verdict: str) -> None:
    def score(low: float, high: float, diverged: int = 0) -> shipped.Score:
        return shipped.Score("x", (low + high) / 2, low, high, diverged)

    assert dataclasses.replace(CARD, score=score(*ours), baseline=score(*theirs)).verdict == verdict


@pytest.mark.parametrize("scale", [1e-6, 1 / 11, 1 / 9, 1.0, 9.0, 11.0, 1e6])
def test_gradients_of_another_size_are_seen(scale: float) -> None:
    """Planted: log-normal sizes about `scale` times the median on the card, among zeros and what is not finite."""
    sizes = np.exp(np.random.default_rng(0).normal(size=1001))
    sizes *= scale * CARD.scope.median / np.median(sizes)
    signs = np.random.default_rng(1).choice([-1, 1], sizes.size)
    gradients = {"w": (signs * sizes)[:1000].reshape(10, 100), "b": np.append((signs * sizes)[1000:], [0.0, np.nan])}
    said = shipped.out_of_range(reopt.load(CARD.name), gradients, num_steps=CARD.scope.steps)
    if 0.1 <= scale <= 10:
        assert said == []
    else:
        (line,) = said
        words = f"{scale:.3g} times as large" if scale > 1 else f"{1 / scale:.3g} times smaller"
        assert words in line
        assert f"scale them by {1 / scale:.2g}," in line


def test_gradients_that_say_nothing_are_not_judged() -> None:
    optimizer = reopt.load(CARD.name)
    for nothing in (None, {}, np.zeros(3), np.full(2, np.nan)):
        assert shipped.out_of_range(optimizer, nothing) == []
    assert shipped.out_of_range(load_learned(FOLDER / f"{CARD.name}.safetensors"), np.full(3, 1e9)) == []


def test_many_more_steps_than_in_training_are_seen() -> None:
    optimizer, steps = reopt.load(CARD.name), CARD.scope.steps
    assert shipped.out_of_range(optimizer, num_steps=2 * steps) == []
    (line,) = shipped.out_of_range(optimizer, num_steps=10 * steps)
    assert f"trained for {steps} steps; {10 * steps} are 10 times as many" in line


def test_ones_own_training_is_warned_once() -> None:
    optimizer = reopt.load(CARD.name)
    with pytest.warns(reopt.OutOfRange, match="1e\\+04 times as large") as found:
        reopt.check_range(optimizer, np.full(7, 1e4 * CARD.scope.median), num_steps=CARD.scope.steps)
    assert len(found) == 1
    assert found[0].filename == __file__
    reopt.check_range(optimizer, np.full(7, CARD.scope.median), num_steps=CARD.scope.steps)


class Steep(reopt.Task):
    """A quadratic whose losses, and so gradients, are `scale` times as large."""

    inner: reopt.Task
    scale: float

    @property
    def num_params(self) -> int:
        return self.inner.num_params

    def sample(self, key):
        return self.inner.sample(key)

    def initial_params(self, problem):
        return self.inner.initial_params(problem)

    def loss(self, problem, params, step):
        return self.scale * self.inner.loss(problem, params, step)


def test_an_evaluation_on_a_task_of_other_gradients_warns() -> None:
    optimizer, home = reopt.load(CARD.name), task_of(CARD)
    steep = first_gradients(Steep(home, 100.0), seed=3)
    np.testing.assert_allclose(steep, 100 * first_gradients(home, seed=3), rtol=1e-3, atol=1e-2)  # float32
    assert task_out_of_range(optimizer, home, num_steps=CARD.scope.steps) == []
    with pytest.warns(reopt.OutOfRange, match="quadratic/gru32 was trained on gradients of about"):
        reopt.evaluate(optimizer, Steep(home, 1e3), problems=2, num_steps=3)


@pytest.mark.parametrize("name", reopt.cards())
def test_every_optimizer_is_at_home_on_the_task_of_its_card(name: str) -> None:
    optimizer = reopt.load(name)
    assert task_out_of_range(optimizer, task_of(optimizer.card), num_steps=optimizer.card.scope.steps) == []


@pytest.mark.long
def test_a_dissection_far_from_home_says_so_beside_the_readings() -> None:
    sizes = {"problems": 2, "visited_seeds": 8, "perturbed_seeds": 2, "gradients": 5, "evaluation_problems": 4}
    found = reopt.dissect(reopt.load(CARD.name), Steep(task_of(CARD), 1e3), num_steps=20, **sizes)
    (caveat,) = found.caveats
    assert "times as large" in caveat
    assert caveat in repr(found)


def test_the_command_lists_them_and_shows_a_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("optimizers --out table.csv", monkeypatch) == 0
    shown = capsys.readouterr().out
    for name, card in reopt.cards().items():
        (line,) = (one for one in shown.splitlines() if f" {name} " in one)
        assert str(card.score) in line
        assert f" {card.verdict} " in line
    assert len(Path("table.csv").read_text().splitlines()) == 1 + len(reopt.cards())
    assert call(f"optimizers {CARD.name} --out card.json", monkeypatch) == 0
    assert CARD.sha256 in capsys.readouterr().out
    assert shipped.card_of(json.loads(Path("card.json").read_text())) == CARD
    assert call("optimizers mnist/gru17", monkeypatch) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "there are: " in line
