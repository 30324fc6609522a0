"""Branches of fixed points followed in the gradient: closed forms, folds, and points that repel."""

import os
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from reopt.dynamics.autonomous import FreeSystem, jacobians
from reopt.dynamics.continuation import Branch, follow_branch
from reopt.dynamics.precision import double_precision, to_double
from reopt.dynamics.root_finding import iterate
from reopt.dynamics.stability import judge
from reopt.dynamics.system import StateUpdate, dynamical_system

TOLERANCE = 1e-10


def follow(function: StateUpdate, start: list[float], targets: list[float], gradient: float = 0.0) -> Branch:
    with double_precision():
        system = FreeSystem(to_double(dynamical_system(function, len(start))))
        return follow_branch(system, np.array(start), gradient, targets, unit=1e-3, tolerance=TOLERANCE)


def slow(h, g):
    """A component that takes 1e7 (1 + g^2) steps to tanh(g), and one that follows it at once, to 2 tanh(g) + g."""
    rate = 1e-7 / (1 + g**2)
    return jnp.stack([h[0] + rate * (jnp.tanh(g) - h[0]), 2 * h[0] + g + 0.1 * (h[0] - jnp.tanh(g)) ** 2])


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_points_of_a_marginal_mode_are_those_of_the_closed_form(sign: float):
    g = sign * np.array([1e-3, 0.1, 2.0, 50.0])
    found = follow(slow, [0.0, 0.0], list(g))
    assert (found.residual <= TOLERANCE * np.maximum(1, np.linalg.norm(found.states, axis=1))).all()
    np.testing.assert_allclose(found.states, np.stack([np.tanh(g), 2 * np.tanh(g) + g], axis=1), atol=1e-6)
    with double_precision():
        system = FreeSystem(to_double(dynamical_system(slow, 2)))
        judged = judge(np.asarray(jacobians(system, jnp.asarray(found.states), jnp.asarray(g))))
    np.testing.assert_allclose(1 - judged.magnitudes.max(axis=1), 1e-7 / (1 + g**2), rtol=1e-3)
    assert judged.stable.all()


def test_a_mode_that_does_not_move_at_all_stays_where_it_was_and_is_not_called_stable():
    found = follow(lambda h, g: jnp.stack([h[0], 0.5 * h[1] + g]), [0.3, 0.0], [1.0, 4.0])
    np.testing.assert_allclose(found.states, [[0.3, 2.0], [0.3, 8.0]], atol=1e-9)
    assert not judge(np.tile(np.diag([1.0, 0.5]), (2, 1, 1))).stable.any()


def cubic(h, g):
    return h + 0.3 * (h - h**3 + g)


def test_the_branch_is_followed_around_two_folds():
    """From h = -1 the cubic's roots lead back in g at -1 / sqrt 3, forth at 1 / sqrt 3, and on above."""
    targets = [0.2, 0.38, 0.39, 0.6]  # the fold is at 2 / (3 sqrt 3) = 0.3849
    found = follow(cubic, [-1.0], targets)
    roots = [np.sort(np.roots([-1, 0, 1, g]).real[np.abs(np.roots([-1, 0, 1, g]).imag) < 1e-9]) for g in targets]
    np.testing.assert_allclose(found.states[:, 0], [root[0] for root in roots], atol=1e-9)
    assert found.states[1, 0] < 0 < found.states[2, 0]


def test_where_the_branch_ends_in_a_fold_nothing_is_found():
    """h^2 = 1 - g has no root beyond g = 1: the branch turns back there, and does not come again."""
    found = follow(lambda h, g: h - 0.2 * (h**2 - 1 + g), [1.0], [0.5, 0.99, 1.01, 2.0])
    np.testing.assert_allclose(found.states[:2, 0], np.sqrt([0.5, 0.01]), atol=1e-9)
    assert np.isnan(found.states[2:]).all()
    assert np.isinf(found.residual[2:]).all()


def centre(g):
    return jnp.stack([jnp.sin(g), 0.1 * g])


def spiral(h, g):
    """About `centre`, by a rotation that grows by 0.9 + g a turn's step: beyond g = 0.1 it ends in a circle."""
    turned = jnp.array([[0.6, -0.8], [0.8, 0.6]]) @ (h - centre(g))
    return centre(g) + (0.9 + g) * turned / jnp.sqrt(1 + turned @ turned)


def test_points_that_repel_are_found_where_iteration_circles():
    g = np.array([0.05, 0.2, 1.0])
    found = follow(spiral, [0.0, 0.0], list(g))
    expected = np.stack([np.sin(g), 0.1 * g], axis=1)
    np.testing.assert_allclose(found.states, expected, atol=1e-9)
    with double_precision():
        system = FreeSystem(to_double(dynamical_system(spiral, 2)))
        judged = judge(np.asarray(jacobians(system, jnp.asarray(found.states), jnp.asarray(g))))
        circling = iterate(system, np.zeros((1, 2)), g[2:], tolerance=TOLERANCE, max_iterations=2048, limit=1e8)
    np.testing.assert_allclose(judged.magnitudes.max(axis=1), 0.9 + g, rtol=1e-9)
    assert judged.stable.tolist() == [True, False, False]
    assert circling.residual[0] > 0.1


def test_nothing_is_asked_and_nothing_is_free():
    assert follow(cubic, [-1.0], []).states.shape == (0, 1)
    with double_precision():
        empty = FreeSystem(to_double(dynamical_system(lambda h, g: h, 0)))
        assert follow_branch(empty, np.zeros(0), 0.0, [1.0], unit=1.0, tolerance=TOLERANCE).states.shape == (1, 0)


FOLLOW = """
import hashlib, os, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[1])])
import jax.numpy as jnp
import numpy as np
from reopt.dynamics.autonomous import FreeSystem
from reopt.dynamics.continuation import follow_branch
from reopt.dynamics.precision import double_precision, to_double
from reopt.dynamics.system import dynamical_system

rng = np.random.default_rng(0)
weights, drive = 1.5 * rng.normal(size=(160, 160)) / np.sqrt(160), rng.normal(size=160)
with double_precision():
    system = FreeSystem(to_double(dynamical_system(lambda h, g: jnp.tanh(weights @ h + drive * g), 160)))
    found = follow_branch(system, np.zeros(160), 0.0, [0.3, 1.0], unit=0.1, tolerance=1e-10)
assert np.isfinite(found.residual).all()
print(hashlib.sha256(found.states.tobytes()).hexdigest())
"""


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_a_branch_does_not_depend_on_the_cores():
    """A random network with a gain of 1.5, whose point at rest repels: the same bytes on one core and on two."""
    one, two = (
        subprocess.run([sys.executable, "-c", FOLLOW, cores], capture_output=True, text=True, check=True).stdout
        for cores in "12"
    )
    assert one == two
