"""The meta-gradient against autodiff, finite differences, and a step-by-step reference of the clipped reverse pass."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reopt.evaluation.unroll import meta_objective, unroll
from reopt.optimizers.cells import CELLS
from reopt.optimizers.learned import LearnedOptimizer, create_learned
from reopt.tasks.base import Problem, Task
from reopt.training.chunking import Plan
from reopt.training.cotangent_clipping import CotangentClipping, clip_cotangent
from reopt.training.meta_gradient import meta_value_and_grad

STEPS, SEGMENT, BATCH = 8, 3, 5
PLAN = Plan(segment=SEGMENT)


class Hills(Task):
    """A non-convex loss whose Hessian changes with the point and with the step.

    A marked problem has, at step 4, a gradient like any other but a Hessian that is not finite.
    """

    @property
    def num_params(self) -> int:
        return 3

    def sample(self, key):
        keys = jax.random.split(key)
        return jax.random.normal(keys[0], (3,)), jax.random.normal(keys[1], (3,)), jnp.zeros((), bool)

    def initial_params(self, problem):
        return problem[0]

    def loss(self, problem, params, step):
        _, shift, marked = problem
        smooth = 2 + jnp.sum(jnp.sin(params + 0.3 * step + shift)) / 3 + 0.1 * jnp.sum(params**4)
        smooth += 0.2 * params[0] * params[1] * params[2]
        # |u|^1.5 at u = 0: value 0, slope 0, no second derivative.
        corner = jnp.where(marked & (step == 4), params[0] - jax.lax.stop_gradient(params[0]), 1.0)
        return smooth + jnp.abs(corner) ** 1.5


TASK = Hills()


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def learned(cell: str, features: str, seed: int = 0) -> LearnedOptimizer:
    """A learned optimizer in float64 with random weights everywhere, readout and initial state too."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(
        lambda: create_learned(
            jax.random.key(0), cell=cell, units=4, features=features, input_scale=0.7, output_scale=0.3
        )
    )
    return jax.tree.map(lambda leaf: jnp.asarray(0.7 * rng.normal(size=leaf.shape)), shapes)


@functools.cache
def problems(marked: int | None = None) -> Problem:
    start, shift = jnp.asarray(np.random.default_rng(1).normal(size=(2, BATCH, 3)))
    return start, shift, jnp.arange(BATCH) == (-1 if marked is None else marked)


@functools.partial(jax.jit, static_argnames=("cotangent_clipping", "plan"))
def own(optimizer: LearnedOptimizer, problems: Problem, cotangent_clipping: float | None = None, plan: Plan = PLAN):
    return meta_value_and_grad(
        optimizer,
        TASK,
        problems,
        num_steps=STEPS,
        cotangent_clipping=cotangent_clipping and CotangentClipping(cotangent_clipping),
        plan=plan,
    )


def objective(optimizer: LearnedOptimizer, problems: Problem) -> jax.Array:
    return jnp.mean(meta_objective(unroll(optimizer, TASK, problems, STEPS).losses))


by_autodiff = jax.jit(jax.value_and_grad(objective))


def flat(tree: LearnedOptimizer) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@pytest.mark.parametrize("features", ["raw", "log1p"])
@pytest.mark.parametrize("cell", CELLS)
def test_equals_autodiff(cell: str, features: str):
    optimizer = learned(cell, features)
    objectives, gradient = own(optimizer, problems())
    value, expected = by_autodiff(optimizer, problems())
    assert objectives.shape == (BATCH,)
    np.testing.assert_allclose(jnp.mean(objectives), value, rtol=1e-13)
    assert jax.tree.structure(gradient) == jax.tree.structure(expected)
    for ours, leaf in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected), strict=True):
        assert np.all(np.asarray(leaf) != 0)
        np.testing.assert_allclose(ours, leaf, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("cell", CELLS)
def test_equals_finite_differences(cell: str):
    optimizer = learned(cell, "raw")
    gradient = flat(own(optimizer, problems())[1])
    leaves, structure = jax.tree.flatten(optimizer)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        direction = [rng.normal(size=leaf.shape) for leaf in leaves]

        def at(distance: float, direction=direction) -> float:
            moved = [leaf + distance * d for leaf, d in zip(leaves, direction, strict=True)]
            return float(jnp.mean(own(jax.tree.unflatten(structure, moved), problems())[0]))

        h = 1e-4  # of fourth order: the error is that of rounding, 1e-16 / h, and of h^4
        slope = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
        along = gradient @ np.concatenate([d.ravel() for d in direction])
        assert along == pytest.approx(slope, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("segment", [1, 7, 8, 50])
def test_segments_change_nothing(segment: int):
    optimizer = learned("vanilla", "raw")
    expected, gradient = (flat(own(optimizer, problems(), 1.0, Plan(segment=s))[1]) for s in (SEGMENT, segment))
    np.testing.assert_allclose(gradient, expected, rtol=1e-10, atol=1e-14)


def test_cotangent_clipping_by_a_huge_factor_is_exact():
    optimizer = learned("gru", "raw")
    np.testing.assert_allclose(
        flat(own(optimizer, problems(), 1e9)[1]), flat(own(optimizer, problems())[1]), rtol=1e-12
    )


def clipped_by_hand(cotangent: np.ndarray, factor: float) -> np.ndarray:
    rows = cotangent.reshape(len(cotangent), -1)
    finite = np.isfinite(rows).all(axis=1)
    rows = np.where(finite[:, None], rows, 0)
    norms = np.linalg.norm(rows, axis=1)
    limit = factor * np.median(norms)
    shrink = np.array([limit / norm if norm > limit else 1 for norm in norms])
    return (rows * shrink[:, None]).reshape(cotangent.shape)


@jax.jit
def step_map(optimizer, problems, params, state, step):
    """The next parameters and state, the losses and their gradients."""
    losses, gradients = jax.vmap(jax.value_and_grad(TASK.loss, argnums=1), (0, 0, None))(problems, params, step)
    state, updates = optimizer(state, gradients)
    return (params + updates, state), losses, gradients


@jax.jit
def pull_back(optimizer, problems, params, state, step, cotangents):
    return jax.vjp(lambda *at: step_map(at[0], problems, *at[1:], step)[0], optimizer, params, state)[1](cotangents)


def reference(optimizer: LearnedOptimizer, problems: Problem, factor: float) -> np.ndarray:
    """The meta-gradient with clipped cotangents: a `jax.vjp` of the step map a step, numpy's cut between them."""
    visited = [(jax.vmap(TASK.initial_params)(problems), optimizer.initial_states((BATCH, 3)))]
    for step in range(STEPS):
        visited.append(step_map(optimizer, problems, *visited[-1], step)[0])
    first_loss = np.asarray(step_map(optimizer, problems, *visited[0], 0)[1])
    d_params, d_state = np.zeros((BATCH, 3)), np.zeros(visited[0][1].shape)
    total = jax.tree.map(lambda leaf: np.zeros(leaf.shape), optimizer)
    for step in reversed(range(STEPS)):
        params, state = visited[step]
        d_weights, d_params, d_state = pull_back(optimizer, problems, params, state, step, (d_params, d_state))
        total = jax.tree.map(np.add, total, jax.tree.map(np.asarray, d_weights))
        slope = np.asarray(step_map(optimizer, problems, params, state, step)[2])
        d_params = np.asarray(d_params) + slope / (STEPS * BATCH * first_loss[:, None])
        d_params, d_state = clipped_by_hand(d_params, factor), clipped_by_hand(np.asarray(d_state), factor)
    total.start[...] += d_state.sum(axis=(0, 1))
    return flat(total)


@pytest.mark.parametrize(("cell", "factor"), [("gru", 1.0), ("lstm", 0.5)])
def test_cotangent_clipping_equals_its_reference(cell: str, factor: float):
    optimizer = learned(cell, "raw")
    gradient = flat(own(optimizer, problems(), factor)[1])
    np.testing.assert_allclose(gradient, reference(optimizer, problems(), factor), rtol=1e-9, atol=1e-13)
    exact = flat(own(optimizer, problems())[1])
    assert np.linalg.norm(gradient - exact) > 1e-2 * np.linalg.norm(exact)  # there was something to cut


def test_cotangent_clipping_leaves_the_forward_pass_alone():
    optimizer = learned("gru", "raw")
    np.testing.assert_array_equal(own(optimizer, problems(), 1.0)[0], own(optimizer, problems())[0])


def test_one_problem_that_is_not_finite_spoils_only_itself():
    optimizer = learned("gru", "raw")
    objectives, exact = own(optimizer, problems(marked=2))
    assert np.all(np.isfinite(objectives))
    assert not np.all(np.isfinite(flat(exact)))
    _, clipped = own(optimizer, problems(marked=2), 1e9)
    expected = reference(optimizer, problems(marked=2), 1e9)
    np.testing.assert_allclose(flat(clipped), expected, rtol=1e-9, atol=1e-13)
    # The problem's marks change its own share alone, and that by leaving out what flows back through its step 4.
    share = np.linalg.norm(flat(clipped) - flat(own(optimizer, problems(), 1e9)[1]))
    assert 0 < share < np.linalg.norm(flat(clipped))


def test_clip_cotangent_on_numbers():
    """Norms 1, 2, 3, 40 and a NaN, which counts as 0: the median is 2."""
    rows = jnp.asarray([[1.0, 0.0], [0.0, -2.0], [3.0, 0.0], [24.0, -32.0], [jnp.nan, 1.0]])
    np.testing.assert_allclose(
        clip_cotangent(rows, CotangentClipping(1.25)), [[1, 0], [0, -2], [2.5, 0], [1.5, -2.0], [0, 0]], rtol=1e-14
    )
    even = clip_cotangent(rows[:4], CotangentClipping(1.0))  # of 1, 2, 3, 40 the median is 2.5
    np.testing.assert_allclose(np.linalg.norm(even, axis=1), [1, 2, 2.5, 2.5], rtol=1e-14)
    np.testing.assert_array_equal(clip_cotangent(jnp.zeros((3, 2, 2)), CotangentClipping(1.0)), 0)


def test_groups_are_clipped_by_themselves():
    rows = jnp.asarray(np.random.default_rng(2).normal(size=(12, 3, 2)) ** 5)
    groups = [clip_cotangent(rows[at : at + 4], CotangentClipping(1.5)) for at in (0, 4, 8)]
    np.testing.assert_allclose(clip_cotangent(rows, CotangentClipping(1.5, 4)), np.concatenate(groups), rtol=1e-14)
    assert not np.allclose(clip_cotangent(rows, CotangentClipping(1.5)), np.concatenate(groups))
