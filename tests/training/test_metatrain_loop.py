"""The loop of outer steps: compiled once, fed by the right problems, with any estimator of the meta-gradient."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reopt.config import (
    ExponentialSchedule,
    FullEstimator,
    LearnedConfig,
    PersistentEstimator,
    TruncatedEstimator,
    load_config,
)
from reopt.errors import ReoptError
from reopt.tasks.quadratic import Quadratic
from reopt.training.metatrain import (
    Loop,
    TrainingState,
    load_learned,
    log_columns,
    make_loop,
    metatrain,
    write_best,
    write_last,
)
from reopt.training.problem_keys import problem_key
from reopt.training.unroll import meta_objective, unroll

ROOT = Path(__file__).parents[2]
TASK, OTHER, STEPS = Quadratic(), Quadratic(log10_eigenvalues=(-1.0, 1.0)), 9


def settings(**training) -> LearnedConfig:
    entry = load_config(ROOT / "config/smoke.yaml").tasks["quadratic"].optimizers["gru16"]
    change = {"outer_steps": 20, "problems": 4, "average": 0.0, **training}
    change.setdefault("calm", entry.training.calm.model_copy(update={"group": 2}))
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


@pytest.mark.parametrize(
    "estimator",
    [
        TruncatedEstimator(kind="truncated", window=3),
        PersistentEstimator(kind="pes", window=3, deviation=0.01),
    ],
    ids=lambda one: one.kind,
)
def test_estimators_in_windows_train(estimator):
    loop = make_loop(TASK, TASK, STEPS, settings(estimator=estimator, calm=None), 0)
    state = run(loop, 1, 12)
    assert loop.run_to._cache_size() == 1
    assert not np.any(np.asarray(state.log.skipped)[:12])
    assert np.all(np.asarray(state.log.gradient_norm)[1:12] > 0)
    assert np.any(np.asarray(state.weights.readout_weight) != 0)
    # Four problems at three phases: in each outer step some are at their beginning, and some are not.
    assert len(set(np.asarray(state.running.step).tolist())) > 1


def test_the_exact_meta_gradient_trains_and_so_does_one_window_as_long_as_the_unroll():
    exact = settings(estimator=FullEstimator(kind="full"), calm=None)
    window = settings(estimator=TruncatedEstimator(kind="truncated", window=STEPS), calm=None)
    # Other problems: their keys are drawn otherwise. Both must get better on the same validation problems.
    for entry in (exact, window):
        log = run(make_loop(TASK, TASK, STEPS, entry, 0), 20).log
        validation = np.asarray(log.validation)
        assert validation[19] < validation[3] < 1


def test_a_budget_that_is_too_small_is_refused():
    with pytest.raises(ReoptError, match=r"memory_mb is 0\.001"):
        make_loop(TASK, TASK, STEPS, settings(memory_mb=0.001), 0)


def test_a_run_that_diverges_can_be_kept_with_the_best_it_had(tmp_path):
    """The learning rate grows without bound: the run learns at first and ends as soon as the window can tell."""
    wild = settings(outer_steps=200, learning_rate=0.003)
    growing = ExponentialSchedule.model_construct(kind="exponential", factor=30.0, every=20)
    wild = wild.model_copy(update={"training": wild.training.model_copy(update={"schedule": growing})})
    state_file = tmp_path / "state.safetensors"

    def train(**options):
        return metatrain(TASK, wild, task_name="quadratic", num_steps=STEPS, seed=0, state_file=state_file, **options)

    with pytest.raises(ReoptError, match="diverged by outer step"):
        train()
    for _ in range(2):  # it goes on from its state, and has nothing to do
        state, description = train(keep_diverged=True)
        ended = description["diverged"]
        assert 100 <= ended == int(state.step) < 200
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
