"""The loop of outer steps: compiled once, fed by the right problems, with any estimator of the meta-gradient."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from reopt.core.errors import ReoptError
from reopt.core.tables import write_table
from reopt.evaluation.keys import problem_key
from reopt.evaluation.unroll import meta_objective, unroll
from reopt.optimizers.load import load_learned
from reopt.pipeline.config import (
    ExponentialSchedule,
    FullEstimator,
    LearnedConfig,
    PersistentEstimator,
    TruncatedEstimator,
    load_config,
)
from reopt.tasks.quadratic import Quadratic
from reopt.training.metatrain import Loop, TrainingState, log_columns, make_loop, metatrain, write_best, write_last

ROOT = Path(__file__).parents[2]
TASK, OTHER, STEPS = Quadratic(), Quadratic(log10_eigenvalues=(-1.0, 1.0)), 9


def settings(**training) -> LearnedConfig:
    entry = load_config(ROOT / "config/smoke.yaml").tasks["quadratic"].optimizers["gru16"]
    change = {"outer_steps": 20, "problems": 4, "average": 0.0, **training}
    change.setdefault("cotangent_clipping", entry.training.cotangent_clipping.model_copy(update={"group": 2}))
    schedule = entry.training.schedule.model_copy(update={"warmup_steps": 2})
    validation = entry.training.validation.model_copy(update={"problems": 6, "every": 4})
    changed = entry.training.model_copy(update=change | {"schedule": schedule, "validation": validation})
    return entry.model_copy(update={"units": 4, "training": changed})


def run(loop: Loop, *ends: int) -> TrainingState:
    state = loop.start
    for end in ends:
        state = loop.run_to(state, jnp.asarray(end, jnp.int32))
    return state


def leaves(tree) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def test_the_loop_is_compiled_once_and_its_parts_make_the_whole():
    loop = make_loop(TASK, TASK, STEPS, settings(), 0)
    parts = run(loop, 1, 3, 20)
    assert loop.run_to._cache_size() == 1  # what a second compilation would raise
    whole = run(make_loop(TASK, TASK, STEPS, settings(), 0), 20)
    for one, other in zip(leaves(parts), leaves(whole), strict=True):
        np.testing.assert_array_equal(one, other)


def test_problems_of_the_training_task_train_and_those_of_the_task_validate():
    mixed = run(make_loop(TASK, OTHER, STEPS, settings(), 0), 20)
    alike = run(make_loop(OTHER, OTHER, STEPS, settings(), 0), 20)
    for one, other in zip(leaves(mixed.weights), leaves(alike.weights), strict=True):
        np.testing.assert_array_equal(one, other)
    made = np.flatnonzero(np.isfinite(mixed.log.validation))
    np.testing.assert_array_equal(made, [3, 7, 11, 15, 19])
    assert np.all(np.asarray(mixed.log.validation)[made] != np.asarray(alike.log.validation)[made])


def test_validation_is_the_mean_meta_objective_of_the_average():
    state = run(make_loop(TASK, TASK, STEPS, settings(), 0), 20)
    problems = TASK.sample_batch(problem_key("validation", 0), 6)
    expected = jnp.mean(meta_objective(unroll(state.average, TASK, problems, STEPS).losses))
    np.testing.assert_allclose(state.log.validation[-1], expected, rtol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize(
    "estimator",
    [
        TruncatedEstimator(kind="truncated", window=3),
        PersistentEstimator(kind="pes", window=3, deviation=0.01),
    ],
    ids=lambda one: one.kind,
)
def test_estimators_in_windows_train(estimator):
    loop = make_loop(TASK, TASK, STEPS, settings(estimator=estimator, cotangent_clipping=None), 0)
    state = run(loop, 1, 12)
    assert loop.run_to._cache_size() == 1
    assert not np.any(np.asarray(state.log.skipped)[:12])
    assert np.all(np.asarray(state.log.gradient_norm)[1:12] > 0)
    assert np.any(np.asarray(state.weights.readout_weight) != 0)
    # Four problems at three phases: in each outer step some are at their beginning, and some are not.
    assert len(set(np.asarray(state.running.step).tolist())) > 1


@pytest.mark.long
def test_the_exact_meta_gradient_trains_and_so_does_one_window_as_long_as_the_unroll():
    exact = settings(estimator=FullEstimator(kind="full"), cotangent_clipping=None)
    window = settings(estimator=TruncatedEstimator(kind="truncated", window=STEPS), cotangent_clipping=None)
    # Other problems: their keys are drawn otherwise. Both must get better on the same validation problems.
    for entry in (exact, window):
        log = run(make_loop(TASK, TASK, STEPS, entry, 0), 20).log
        validation = np.asarray(log.validation)
        assert validation[19] < validation[3] < 1


def test_a_budget_that_is_too_small_is_refused():
    with pytest.raises(ReoptError, match=r"memory_mb is 0\.001"):
        make_loop(TASK, TASK, STEPS, settings(memory_mb=0.001), 0)


def wild_settings() -> LearnedConfig:
    """The learning rate grows without bound: the run learns at first and diverges."""
    wild = settings(outer_steps=200, learning_rate=0.003)
    growing = ExponentialSchedule.model_construct(kind="exponential", factor=30.0, every=20)
    return wild.model_copy(update={"training": wild.training.model_copy(update={"schedule": growing})})


class Killed(Exception):
    """What stops a run in the middle of it."""


def bytes_of(entry: LearnedConfig, folder: Path, stops: tuple[int, ...] = ()) -> dict[str, bytes]:
    """The files of a run that is killed once it has come to each of the steps `stops`, and goes on each time."""
    folder.mkdir()
    left = list(stops)

    def report(done: int, total: int, text: str) -> None:
        if left and done >= left[0] and "goes on" not in text:
            del left[0]
            raise Killed

    while True:
        try:
            state, description = metatrain(
                TASK,
                entry,
                task_name="quadratic",
                num_steps=STEPS,
                seed=0,
                state_file=folder / "state",
                keep_diverged=True,
                report=report,
            )
            break
        except Killed:
            continue
    assert not left
    write_best(folder / "best", state, description)
    write_last(folder / "last", state, description)
    write_table(folder / "log", pd.DataFrame(log_columns(state)))
    return {name: (folder / name).read_bytes() for name in ("best", "last", "log")}


@pytest.mark.long
@pytest.mark.parametrize("diverging", [True, False])
def test_bytes_do_not_follow_the_clock(diverging, tmp_path, monkeypatch):
    """One step at a time, as many as may be, and killed at random steps: the same bytes, which are those of the loop
    run without a stop where nothing diverges."""
    entry = wild_settings() if diverging else settings(outer_steps=70)
    made = []
    for seconds, stops in ((0.0, ()), (1e6, ()), (1e6, (3, 31, 67)), (0.0, (1, 50, 51))):
        monkeypatch.setattr("reopt.training.metatrain.CHUNK_SECONDS", seconds)
        monkeypatch.setattr("reopt.training.metatrain.SAVE_EVERY_SECONDS", seconds / 1e9 - 1)
        made.append(bytes_of(entry, tmp_path / str(len(made)), stops))
    assert made[1:] == made[:-1]
    ended = made[0]["log"].count(b"\n") - 1
    if diverging:
        assert ended in (100, 150)
    else:
        assert ended == 70
        whole = run(make_loop(TASK, TASK, STEPS, entry, 0), 70)
        kept = leaves(load_learned(tmp_path / "0" / "last"))
        for one, other in zip(kept, leaves(whole.weights), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_run_that_diverges_can_be_kept_with_the_best_it_had(tmp_path):
    wild = wild_settings()
    state_file = tmp_path / "state.safetensors"

    def train(**options):
        return metatrain(TASK, wild, task_name="quadratic", num_steps=STEPS, seed=0, state_file=state_file, **options)

    with pytest.raises(ReoptError, match="diverged by outer step"):
        train()
    for _ in range(2):  # it goes on from its state, and has nothing to do
        state, description = train(keep_diverged=True)
        ended = description["diverged"]
        assert ended == int(state.step)
        assert ended in (100, 150)
    columns = log_columns(state)
    assert columns["outer_step"].tolist() == list(range(1, ended + 1))
    assert float(state.best_validation) == np.nanmin(columns["validation"]) < 1

    write_best(tmp_path / "best.safetensors", state, description)
    problems = TASK.sample_batch(problem_key("validation", wild.training.validation.seed), 6)
    best = meta_objective(unroll(load_learned(tmp_path / "best.safetensors"), TASK, problems, STEPS).losses)
    np.testing.assert_allclose(np.mean(best), state.best_validation, rtol=1e-5)

    write_last(tmp_path / "last.safetensors", state, description)
    for read, kept in zip(leaves(load_learned(tmp_path / "last.safetensors")), leaves(state.weights), strict=True):
        np.testing.assert_array_equal(read, kept)
