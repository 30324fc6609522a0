"""The closed loop of optimizers whose update depends on the value of the parameter: closed forms, and a run of STAR."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from reopt.core.errors import ReoptError
from reopt.dynamics import closed_loop as without
from reopt.dynamics.linearization import linearize
from reopt.optimizers.base import Optimizer
from reopt.optimizers.classical import Momentum
from reopt.optimizers.joint import Layout, run_joint
from reopt.optimizers.learned import cast
from reopt.optimizers.star import DECAYS, create_star
from reopt.systems.closed_loop import closed_loop, linearize_with_value, radius, stable_curvatures
from reopt.systems.slices import exact_slice, met

RATE, BETA, DECAY = 0.3, 0.8, 0.1


class Decayed(Optimizer):
    """Heavy ball, decoupled weight decay in the update, and `leak` of the value in the state."""

    value: Array
    decay: float = DECAY
    leak: float = 0.0

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("momentum",)

    def initial_state(self) -> Array:
        return jnp.zeros(1)

    def update(self, state: Array, gradient: Array) -> Array:
        return BETA * state + (gradient + self.leak * self.value)[..., None]

    def readout(self, state: Array, gradient: Array) -> Array:
        del gradient
        return -RATE * state[..., 0] - self.decay * self.value


@pytest.mark.parametrize("curvature", [0.0, 0.01, 0.7, 5.0, 30.0])
def test_the_radius_of_a_heavy_ball_with_weight_decay(curvature: float) -> None:
    """Roots of z^2 - (1 - w - rate lambda + beta) z + beta (1 - w)."""
    found = linearize_with_value(Decayed(jnp.asarray(0.7)), np.zeros(1), 0.0)
    roots = np.roots([1, -(1 - DECAY - RATE * curvature + BETA), BETA * (1 - DECAY)])
    assert radius(found, curvature) == pytest.approx(np.abs(roots).max(), rel=1e-9)


def test_a_coupled_penalty_is_a_curvature() -> None:
    """In the gradient, as an L2 penalty is, a decay adds to lambda."""
    found = linearize_with_value(Decayed(jnp.asarray(0.7), 0.0, 0.4), np.zeros(1), 0.0)
    plain = linearize(Momentum(np.float64(RATE), np.float64(BETA)), np.zeros(1))
    for curvature in (0.0, 0.5, 10.0):
        np.testing.assert_allclose(
            np.sort(np.abs(np.linalg.eigvals(closed_loop(found, curvature)))),
            np.sort(np.abs(np.linalg.eigvals(without.closed_loop(plain, curvature + 0.4)))),
            rtol=1e-9,
        )


def test_the_edge_of_a_heavy_ball_with_weight_decay() -> None:
    """An eigenvalue is -1 where rate lambda = (2 - w) (1 + beta); a growth is held only by a curvature."""
    found = stable_curvatures(linearize_with_value(Decayed(jnp.asarray(0.7)), np.zeros(1), 0.0))
    assert found.low == 0
    assert found.high == pytest.approx((2 - DECAY) * (1 + BETA) / RATE, rel=1e-9)
    assert 0 < found.best < found.high
    # With w < 0 an eigenvalue is 1 where (1 - beta) (-w) = rate lambda; the product of both must stay below 1.
    grown = stable_curvatures(linearize_with_value(Decayed(jnp.asarray(0.7), -0.1), np.zeros(1), 0.0))
    assert grown.low == pytest.approx(0.1 * (1 - BETA) / RATE, rel=1e-9)
    assert grown.high == pytest.approx(2.1 * (1 + BETA) / RATE, rel=1e-9)


def test_without_a_dependence_it_is_the_loop_without() -> None:
    found = linearize_with_value(Decayed(jnp.asarray(0.7), 0.0), np.zeros(1), 0.0)
    np.testing.assert_array_equal(closed_loop(found, 3.0), without.closed_loop(found.linear, 3.0))
    assert stable_curvatures(found).high == pytest.approx(without.largest_stable_curvature(found.linear), rel=1e-9)


@pytest.mark.long
def test_the_loop_of_star_with_weight_decay_is_its_run() -> None:
    """With the nominal term of plain momentum alone STAR is linear: x of the whole run is that of powers of M."""
    layout, curvature, steps = Layout(((2, 2),)), 0.5, 40
    with jax.enable_x64(True):
        made = create_star(
            jax.random.key(0), step_scale=0.0, exponent=0.0, nominal="momentum", nominal_scale=0.2, weight_decay=0.03
        )
        star: Any = cast(made, jnp.dtype("float64"))  # type: ignore[arg-type]

        def both(params: Array, step: Array) -> tuple[Array, Array]:
            del step
            return 0.5 * curvature * jnp.sum(params**2, axis=1), curvature * params

        start = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4)))
        kept = eqx.filter_jit(lambda: run_joint(star, layout, start, both, steps, keep=True))()
        at = met(kept, 5, steps)
        one = exact_slice(star, layout, at, 0, 2)
        found = linearize_with_value(one, np.asarray(at.state.own[0, 2]), float(at.inputs.gradient[0, 2]))
    assert found.direct == pytest.approx(-0.03, rel=1e-6)
    matrix = closed_loop(found, curvature)
    state, path = np.append(start[0, 2], np.zeros(len(matrix) - 1)), []
    for _ in range(steps):
        path.append(state[0])
        state = matrix @ state
    np.testing.assert_allclose(path, kept.params[:, 0, 2], rtol=1e-5)
    # The same loop written out, without the averages of squares, which do not reach x.
    decays = np.array(DECAYS)
    plain = np.zeros((4, 4))
    plain[1:, 1:], plain[1:, 0] = np.diag(decays), (1 - decays) * curvature
    plain[0] = -0.2 / 3 * plain[1:].sum(axis=0)
    plain[0, 0] += 1 - 0.03
    assert all(np.abs(np.linalg.eigvals(matrix) - value).min() < 1e-6 for value in np.linalg.eigvals(plain))


def test_what_cannot_be_closed_is_refused() -> None:
    with pytest.raises(ReoptError, match="has no value"):
        linearize_with_value(Momentum(np.float64(0.1), np.float64(0.5)), np.zeros(1), 0.0)
    with pytest.raises(ReoptError, match="stable at no curvature"):
        stable_curvatures(linearize_with_value(Decayed(jnp.asarray(0.7), -8.0), np.zeros(1), 0.0))
