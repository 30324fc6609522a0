"""Meta-training of systems: estimates against closed forms, who begins anew, and runs that were killed."""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reopt.core.checkpoint import write_checkpoint
from reopt.core.errors import ReoptError
from reopt.optimizers.base import Optimizer
from reopt.optimizers.classical import SGD
from reopt.optimizers.joint import Alone, Inputs, Joint, layout_of
from reopt.systems import kinds, pipeline_training, training
from reopt.systems.catch import Catch
from reopt.systems.family import Family
from reopt.systems.schema import Pipeline, SystemEntry, Unrolled
from reopt.tasks.quadratic import Quadratic
from reopt.training import evolution

SMALL_FAMILY = Family(units=3)
estimate = jax.jit(pipeline_training.estimate, static_argnums=(1, 2, 6))


class Rate(Optimizer):
    """SGD whose logarithm of the rate is trained."""

    log_rate: Any

    @property
    def state_names(self) -> tuple[str, ...]:
        return ()

    def initial_state(self) -> Any:
        return jnp.zeros(0)

    def update(self, state: Any, gradient: Any) -> Any:
        del gradient
        return state

    def readout(self, state: Any, gradient: Any) -> Any:
        return SGD(jnp.exp(self.log_rate)).readout(state, gradient)


def entry(kind: str, recipe: Any, **settings: Any) -> SystemEntry:
    measure = "score" if kind == "optim4rl" else "objective"
    return SystemEntry(kind=kind, settings=settings, task="any", measure=measure, seeds=[0], training=recipe)


def test_backpropagation_is_the_derivative_of_the_mean_objective() -> None:
    task, key = Quadratic(3), jax.random.key(1)
    joint = Alone(Rate(jnp.log(jnp.asarray(0.3))))

    def mean(log_rate: Any) -> Any:
        batch = task.sample_batch(key, 8)
        return jnp.mean(evolution.objectives(Alone(Rate(log_rate)), task, batch, 10))

    sizes = {"problems": 8, "num_steps": 10, "held_out": False}
    objectives, gradient = training.backpropagated(joint, task, key, **sizes)
    at, step = float(jnp.log(0.3)), 1e-2
    slope = float(mean(jnp.asarray(at + step)) - mean(jnp.asarray(at - step))) / (2 * step)
    assert float(gradient.optimizer.log_rate) == pytest.approx(slope, rel=2e-3)
    assert float(objectives.mean()) == pytest.approx(float(mean(jnp.asarray(at))), rel=1e-6)


def test_problems_that_diverge_pull_no_weight() -> None:
    joint = Alone(Rate(jnp.log(jnp.asarray(1e30))))
    found, gradient = training.backpropagated(
        joint, Quadratic(3), jax.random.key(1), problems=4, num_steps=10, held_out=False
    )
    np.testing.assert_array_equal(found, 10.0)
    assert float(gradient.optimizer.log_rate) == 0


def test_evolution_and_backpropagation_agree_on_a_smooth_objective() -> None:
    task, joint = Quadratic(3), Alone(Rate(jnp.log(jnp.asarray(0.3))))
    sizes = {"num_steps": 10, "held_out": False}
    whole = jax.jit(lambda key: training.backpropagated(joint, task, key, problems=512, **sizes)[1])
    exact = whole(jax.random.key(2)).optimizer.log_rate
    one = jax.jit(lambda key: evolution.estimate(joint, task, key, problems=512, deviation=0.02, **sizes)[1])
    draws = [one(key).optimizer.log_rate for key in jax.random.split(jax.random.key(3), 16)]
    error = np.std(draws) / np.sqrt(len(draws))
    assert abs(float(exact) - np.mean(draws)) < 4 * error + 0.05 * abs(float(exact))


def test_each_agent_begins_anew_when_it_is_its_turn() -> None:
    recipe = Pipeline(estimator="pipeline", agents=5, interval=3, window=2)
    turns = np.stack([pipeline_training.begins_anew(recipe, jnp.asarray(at)) for at in range(6)])
    expected = [[i % 3 == at % 3 for i in range(5)] for at in range(6)]
    np.testing.assert_array_equal(turns, expected)


def test_a_window_of_the_pipeline_is_plain_descent_written_out() -> None:
    """Two updates on rollouts 5 and 6, the loss on rollout 7, and its slope in log rate by hand:

    d1 = -r g1,  d2 = d1 - r g2 - r H2 d1,  slope = g3 d2.  (Differences of losses would not do: A2C holds advantages.)
    """
    task, rate = Catch(units=4, episodes=3), 0.1
    recipe = Pipeline(estimator="pipeline", agents=2, interval=10, window=2)
    joint = Alone(Rate(jnp.log(jnp.asarray(rate))))
    population = pipeline_training.born(joint, task, recipe, jax.random.key(0))
    population = population._replace(ages=jnp.full(2, 5, jnp.int32))
    slope, loss = jax.jit(jax.grad(task.loss, argnums=1)), jax.jit(task.loss)

    def written_out(problem: Any) -> tuple[float, Any, float]:
        first = slope(problem, problem.start, 5)
        moved = problem.start - rate * first
        second, turned = jax.jvp(lambda params: slope(problem, params, 6), (moved,), (-rate * first,))
        end = moved - rate * second
        change = -rate * first - rate * second - rate * turned
        return float(loss(problem, end, 7)), end, float(slope(problem, end, 7) @ change)

    nobody = jnp.asarray(7)
    losses, gradient, after = estimate(joint, task, recipe, population, jax.random.key(1), nobody, 20)
    each = [written_out(jax.tree.map(lambda leaf, i=i: leaf[i], population.problems)) for i in range(2)]
    np.testing.assert_allclose(losses, [one[0] for one in each], rtol=1e-5)
    np.testing.assert_allclose(after.params, np.stack([one[1] for one in each]), atol=1e-6)
    np.testing.assert_array_equal(after.ages, 8)
    assert float(gradient.optimizer.log_rate) == pytest.approx(np.mean([one[2] for one in each]), rel=1e-4)


def test_newborn_agents_start_from_their_own_parameters_and_state() -> None:
    task = Catch(units=4, episodes=2)
    recipe = Pipeline(estimator="pipeline", agents=4, interval=2, window=1)
    joint = kinds.create("optim4rl", {"learning_rate": 0.1})
    population = pipeline_training.born(joint, task, recipe, jax.random.key(0))
    key = jax.random.key(5)
    _, _, after = estimate(joint, task, recipe, population, key, jnp.asarray(1), 20)
    fresh = task.sample_batch(key, 4)
    for i in (1, 3):  # whose turn it is
        np.testing.assert_array_equal(
            jax.random.key_data(after.problems.rollouts[i]), jax.random.key_data(fresh.rollouts[i])
        )
    for i in (0, 2):
        np.testing.assert_array_equal(after.problems.start[i], population.problems.start[i])


RECIPES = {
    "es": ("star", Unrolled(outer_steps=4, problems=3, validation=6, every=2), SMALL_FAMILY),
    "pipeline": (
        "optim4rl",
        Pipeline(estimator="pipeline", outer_steps=4, agents=3, interval=2, window=2, validation=4, every=2),
        Catch(units=4, episodes=2),
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("name", ["es", "pipeline"])
def test_a_run_that_was_killed_ends_with_the_same_bytes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, recipe, task = RECIPES[name]
    system, sizes = entry(kind, recipe), {"num_steps": 5, "seed": 1}
    whole = training.train(system, task, **sizes)
    file, looks = tmp_path / "state.safetensors", []
    monkeypatch.setattr(training, "SAVE_EVERY_SECONDS", -1.0)  # after each outer step

    class Killed(Exception):
        pass

    def stop(done: int, total: int, text: str) -> None:
        raise Killed

    with pytest.raises(Killed):  # after the first look, with the state of the step before it saved
        training.train(system, task, **sizes, state_file=file, report=stop)
    again = training.train(
        system, task, **sizes, state_file=file, report=lambda done, total, text: looks.append((done, text))
    )
    assert looks[0] == (1, "goes on from outer step 1")
    for one, other in zip(
        jax.tree.leaves(training._plain(whole)), jax.tree.leaves(training._plain(again)), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    kinds.save(tmp_path / "one.safetensors", whole.best, kind, {})
    kinds.save(tmp_path / "other.safetensors", again.best, kind, {})
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "other.safetensors").read_bytes()


@pytest.mark.long
@pytest.mark.parametrize("kind", ["velo", "hierarchical"])  # have numbers of Python among their weights
def test_a_step_leaves_the_types_of_the_state_so_that_it_is_compiled_once(kind: str) -> None:
    _, recipe, task = RECIPES["es"]
    loop = training.make_loop(entry(kind, recipe), task, 5, 1)
    after = loop.step(loop.start)
    for state in (after, loop.look(after)):
        assert [*map(jax.typeof, jax.tree.leaves(state))] == [*map(jax.typeof, jax.tree.leaves(loop.start))]


@pytest.mark.long
def test_a_state_of_another_run_is_not_gone_on_with(tmp_path: Path) -> None:
    kind, recipe, task = RECIPES["pipeline"]
    file, said = tmp_path / "state.safetensors", []
    write_checkpoint(file, {"x": np.zeros(2)}, {"seed": 5})
    training.train(
        entry(kind, recipe.model_copy(update={"outer_steps": 1})),
        task,
        num_steps=5,
        seed=1,
        state_file=file,
        report=lambda done, total, text: said.append(text),
    )
    assert "starts over" in said[0]
    assert "another run" in said[0]


SETTINGS: dict[str, dict[str, Any]] = {
    "star": {"nominal_scale": 0.1, "nominal": "none", "preconditioned": False},
    "velo": {"units": 4, "sets": 2},
    "hierarchical": {"units": 4, "hidden": 4},
    "optim4rl": {"log_inputs": True, "learning_rate": 0.2},
}


@pytest.mark.parametrize("kind", kinds.MODULES)
def test_a_checkpoint_loads_back_to_the_same_updates(kind: Any, tmp_path: Path) -> None:
    joint, file = kinds.create(kind, SETTINGS[kind], seed=3), tmp_path / "one.safetensors"
    kinds.save(file, joint, kind, SETTINGS[kind], seed=3)
    loaded = kinds.load(file)
    assert loaded.about["seed"] == 3
    layout, params = layout_of(SMALL_FAMILY), jax.random.normal(jax.random.key(0), (2, SMALL_FAMILY.num_params))
    gradient = 0.1 * jax.random.normal(jax.random.key(1), params.shape)
    losses = jnp.asarray([0.7, 0.3])
    given = Inputs(gradient, params, losses, jnp.asarray(2), 50, losses)

    @eqx.filter_jit
    def second(one: Joint) -> jax.Array:
        state, _, _ = one.step(layout, one.start(layout, params), given)
        return one.step(layout, state, given)[1]

    steps = [np.asarray(second(one)) for one in (joint, loaded.joint, kinds.Scaled(joint, jnp.asarray(3.0)))]
    np.testing.assert_array_equal(steps[0], steps[1])
    np.testing.assert_allclose(steps[2], 3 * steps[0], rtol=1e-6)
    assert np.abs(steps[0]).max() > 0


def test_what_is_no_checkpoint_of_a_system_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "one.safetensors"
    write_checkpoint(file, {"x": np.zeros(2, np.float32)}, {"kind": "banana", "settings": {}})
    with pytest.raises(ReoptError, match="none of a system"):
        kinds.load(file)
    write_checkpoint(file, {"x": np.zeros(2, np.float32)}, {"kind": "star", "settings": {}})
    with pytest.raises(ReoptError, match="missing or unknown"):
        kinds.load(file)
    write_checkpoint(file, {"x": np.full(2, np.nan, np.float32)}, {"kind": "star", "settings": {}})
    with pytest.raises(ReoptError, match="not finite"):
        kinds.load(file)
    with pytest.raises(ReoptError, match="cannot be made with the settings"):
        kinds.create("star", {"banana": 1})
