"""Recording against the unroll, and principal components against a singular value decomposition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reopt.core.errors import ReoptError
from reopt.dynamics.pca import pca, project
from reopt.dynamics.record import record, refuse_other_recording
from reopt.evaluation.keys import problem_key
from reopt.evaluation.unroll import unroll
from reopt.optimizers.classical import SGD, Adam, Momentum
from reopt.optimizers.learned import create_learned
from reopt.tasks.quadratic import Quadratic


def test_recording_is_the_run_that_unroll_makes():
    task, momentum = Quadratic(), Momentum(0.5, 0.9)
    run = record(momentum, task, seed=3, num_steps=12, problems=4, state_problems=2)
    problems = task.sample_batch(problem_key("recording", 3), 4)
    np.testing.assert_allclose(run.losses, unroll(momentum, task, problems, 12).losses, rtol=1e-5)
    assert run.states.shape == (12, 2, 5, 1)
    assert run.states.dtype == np.float32
    # The state before step t, and what became of it.
    np.testing.assert_array_equal(run.states[0], 0)
    np.testing.assert_allclose(
        run.states[1:, ..., 0], 0.9 * run.states[:-1, ..., 0] + run.gradients[:-1, :2], rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(run.updates[:-1, :2], -0.5 * run.states[1:, ..., 0], rtol=1e-5)


def test_recording_keeps_evenly_spread_parameters():
    full = record(SGD(0.1), Quadratic(dimension=9), seed=0, num_steps=3, problems=2, state_problems=1)
    part = record(SGD(0.1), Quadratic(dimension=9), seed=0, num_steps=3, problems=2, state_problems=1, max_params=3)
    np.testing.assert_array_equal(part.params, [0, 4, 8])
    np.testing.assert_allclose(part.gradients, full.gradients[..., [0, 4, 8]], rtol=1e-5)
    np.testing.assert_allclose(part.losses, full.losses, rtol=1e-5)


def test_updates_are_kept_of_the_first_problems_and_gradients_of_all():
    run = record(SGD(0.1), Quadratic(), seed=1, num_steps=3, problems=70, state_problems=2)
    assert run.gradients.shape == (3, 70, 5)
    assert run.updates.shape == (3, 64, 5)
    np.testing.assert_allclose(run.updates, -0.1 * run.gradients[:, :64], rtol=1e-6)
    refuse_other_recording(run, SGD(0.1), "here")


def test_recording_refuses_more_states_than_problems():
    with pytest.raises(ReoptError, match="state_problems is 3"):
        record(SGD(0.1), Quadratic(), seed=0, num_steps=1, problems=2, state_problems=3)


def test_pca_equals_svd():
    rng = np.random.default_rng(0)
    states = (rng.normal(size=(7, 4, 3, 6)) * [5, 3, 2, 1, 0.5, 0.1]) @ np.linalg.qr(rng.normal(size=(6, 6)))[0] + 1.0
    found = pca(states, num_components=4)
    rows = states.reshape(-1, 6)
    _, singular, right = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(found.mean, rows.mean(axis=0))
    np.testing.assert_allclose(found.explained, singular[:4] ** 2 / np.sum(singular**2), rtol=1e-10)
    np.testing.assert_allclose(found.deviation, singular[:4] / np.sqrt(len(rows)), rtol=1e-10)
    np.testing.assert_allclose(np.abs(found.components), np.abs(right[:4]), atol=1e-9)
    assert np.all(found.components[np.arange(4), np.abs(found.components).argmax(axis=1)] > 0)
    assert found.projected.shape == (7, 4, 3, 3)
    np.testing.assert_allclose(found.projected, project(states, found), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.std(found.projected.reshape(-1, 3), axis=0), found.deviation[:3], rtol=1e-5)


def test_pca_gives_a_clock_no_weight_and_leaves_lost_runs_out():
    rng = np.random.default_rng(1)
    states = np.concatenate([rng.normal(size=(30, 2)) * [3, 1], np.arange(30.0)[:, None]], axis=1)
    states = np.concatenate([states, [[np.nan, 0, 30], [np.inf, 0, 31]]])
    found = pca(states, clock=2)
    assert found.components.shape == (2, 3)
    np.testing.assert_array_equal(found.components[:, 2], 0)
    np.testing.assert_allclose(found.explained.sum(), 1)
    assert np.isfinite(found.projected[:30]).all()
    clean = pca(states[:30], clock=2)
    np.testing.assert_allclose(found.components, clean.components)


@pytest.mark.parametrize("states", [np.zeros((5, 3)), np.zeros((4, 0)), np.full((2, 3), np.nan)])
def test_pca_of_states_without_variance(states):
    found = pca(states)
    np.testing.assert_array_equal(found.explained, 0)
    assert np.isfinite(found.components).all()


def test_recording_leaves_float32_alone():
    record(SGD(0.1), Quadratic(), seed=0, num_steps=2, problems=1, state_problems=1)
    assert jnp.zeros(1).dtype == jnp.float32


def recording_of(optimizer):
    return record(optimizer, Quadratic(), seed=0, num_steps=12, problems=3, state_problems=2)


@pytest.mark.parametrize(
    "optimizer", [SGD(0.1), Adam(0.01), Momentum(1e30, 0.9), create_learned(jax.random.key(1), cell="gru", units=3)]
)
def test_a_recording_is_known_to_be_its_optimizers(optimizer):
    """Also one of runs that leave the numbers at once (a rate of 1e30)."""
    refuse_other_recording(recording_of(optimizer), optimizer, "r.npz")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gradients": np.nan}, "no gradient that is finite"),
        ({"gradients": np.inf}, "no gradient that is finite"),
        ({"gradients": 0.0}, "no gradient that is finite"),
        ({"states": np.nan}, "begin in states"),
        ({"states": 0.0}, "states do not follow"),
        ({"states": np.inf}, "begin in states"),
        ({"updates": 0.0}, "updates do not follow"),
        ({"updates": np.nan}, "updates do not follow"),
        (dict.fromkeys(("gradients", "states", "updates", "losses"), np.nan), "no gradient"),
        (dict.fromkeys(("gradients", "states", "updates", "losses"), 0.0), "no gradient"),
    ],
)
def test_recorded_numbers_that_are_none_are_refused(change, said):
    optimizer = Momentum(0.1, 0.9)
    runs = recording_of(optimizer)
    filled = {name: np.full_like(getattr(runs, name), value) for name, value in change.items()}
    with pytest.raises(ReoptError, match=f"r.npz: .*{said}"):
        refuse_other_recording(runs._replace(**filled), optimizer, "r.npz")


def test_a_recording_of_another_optimizer_is_refused():
    with pytest.raises(ReoptError, match="of another optimizer"):
        refuse_other_recording(recording_of(Momentum(0.1, 0.9)), Momentum(0.2, 0.5), "r.npz")
