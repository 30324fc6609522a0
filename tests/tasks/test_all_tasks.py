"""What every task promises: problems that batch, keys that decide, finite losses, and an exact meta-gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reopt.evaluation.unroll import batch_value_and_grad, meta_objective, unroll
from reopt.optimizers.learned import LearnedOptimizer, create_learned
from reopt.tasks.base import Task
from reopt.tasks.mnist import MNIST
from reopt.tasks.quadratic import Quadratic
from reopt.tasks.registry import task_module, task_names
from reopt.tasks.rosenbrock import Rosenbrock
from reopt.tasks.two_moons import TwoMoons
from reopt.training.meta_gradient import meta_value_and_grad

_TINY = {"channels": (2,), "kernels": (3,), "strides": (4,), "batch": 4}
TASKS = {
    "quadratic": Quadratic(3),
    "rosenbrock": Rosenbrock(),
    "two moons": TwoMoons((3,)),
    "two moons, some points": TwoMoons((3, 2), 20),
    "mnist, ELU": MNIST(**_TINY),
    "mnist, ReLU": MNIST(activation="relu", **_TINY),
}
every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS.keys())


def test_no_task_is_left_out():
    kinds = {type(task) for task in TASKS.values()}
    assert task_names() == sorted(kind.__module__.rpartition(".")[2] for kind in kinds)
    for name in task_names():
        assert {"Settings", "create"} <= vars(task_module(name)).keys()


def same(one, other) -> bool:
    """Whether two problems are, keys of minibatches too."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(
        np.array_equal(*(jax.random.key_data(a) if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else a for a in pair))
        for pair in pairs
    )


@every_task
def test_problems_batch_and_follow_from_their_key(task: Task):
    sample = jax.jit(lambda key: task.sample_batch(key, 3))
    problems = sample(jax.random.key(0))
    assert same(problems, sample(jax.random.key(0)))
    assert not same(problems, sample(jax.random.key(1)))
    params = jax.jit(jax.vmap(task.initial_params))(problems)
    assert params.shape == (3, task.num_params)
    assert len(np.unique(np.asarray(params), axis=0)) == 3
    losses, gradients = jax.jit(lambda p, x: batch_value_and_grad(task, p, x, jnp.asarray(5)))(problems, params)
    assert losses.shape == (3,)
    assert gradients.shape == params.shape
    assert losses.dtype == gradients.dtype == jnp.float32
    assert np.all(np.isfinite(losses))
    assert np.all(np.isfinite(gradients))
    loss = jax.jit(task.loss)
    for i in range(3):  # alone as in the batch
        alone = loss(jax.tree.map(lambda leaf: leaf[i], problems), params[i], jnp.asarray(5))  # noqa: B023
        np.testing.assert_allclose(alone, losses[i], rtol=1e-5)


@every_task
def test_a_task_is_a_value(task: Task):
    """Equal settings are one task: it can be a static argument, and be closed over or passed to a compiled function."""
    rebuilt = jax.tree.unflatten(jax.tree.structure(task), jax.tree.leaves(task))
    assert rebuilt == task
    assert hash(rebuilt) == hash(task)
    problem = jax.jit(task.sample)(jax.random.key(0))

    @functools.partial(jax.jit, static_argnums=0)
    def static(task, problem):
        return task.loss(problem, task.initial_params(problem), jnp.asarray(1))

    passed = jax.jit(lambda task, problem: task.loss(problem, task.initial_params(problem), jnp.asarray(1)))
    assert static(task, problem) == passed(task, problem)


def learned() -> LearnedOptimizer:
    """A GRU-3 with random weights everywhere, readout and initial state too."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: create_learned(jax.random.key(0), cell="gru", units=3, output_scale=0.1))
    return jax.tree.map(lambda leaf: jnp.asarray(0.7 * rng.normal(size=leaf.shape)), shapes)


ALIKE = ("two moons", "mnist, ReLU")  # as the one after or before it


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if name in ALIKE else name for name in TASKS]
)
def test_meta_gradient_equals_autodiff(name: str):
    """The reverse pass of ours, with exact Hessian-vector products, against autodiff of the plain unroll."""
    task = TASKS[name]
    with jax.enable_x64(True):
        optimizer, problems = learned(), jax.jit(lambda key: task.sample_batch(key, 2))(jax.random.key(3))

        def objective(optimizer):
            return jnp.mean(meta_objective(unroll(optimizer, task, problems, 4).losses))

        expected = jax.jit(jax.grad(objective))(optimizer)
        ours = jax.jit(lambda o: meta_value_and_grad(o, task, problems, num_steps=4)[1])(optimizer)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9 * np.abs(b).max())
