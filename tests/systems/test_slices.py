"""The slice of one parameter against the whole step: derivatives by its gradient and its value, of every system."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reopt.core.errors import ReoptError
from reopt.optimizers.joint import Joint, JointRun, Layout, run_joint
from reopt.optimizers.learned import cast
from reopt.systems import kinds
from reopt.systems.schema import KindName
from reopt.systems.slices import ExactSlice, Met, exact_slice, left_out, met

ARRAYS = ((1,), (2,), (5,), (3, 4))
LAYOUT = Layout(ARRAYS)
STEPS = 6
FIRST = (0, 1, 3, 8)  # a parameter of each array
NAMES: tuple[KindName, ...] = ("star", "velo", "hierarchical", "optim4rl")


def system(name: KindName, seed: int) -> Joint:
    """With weights that do something: all are drawn but decays, which are vectors of STAR."""
    settings: dict[KindName, dict[str, Any]] = {"star": {"weight_decay": 0.05}, "hierarchical": {"exponent": 0.1}}
    leaves, tree = jax.tree.flatten(kinds.create(name, settings.get(name, {}), seed))
    drawn = [
        0.5 * jax.random.normal(key, leaf.shape) if leaf.ndim > 1 or name == "optim4rl" else leaf
        for key, leaf in zip(jax.random.split(jax.random.key(100 + seed), len(leaves)), leaves, strict=True)
    ]
    return cast(jax.tree.unflatten(tree, drawn), jnp.dtype("float64"))  # type: ignore[arg-type,return-value]


def ran(joint: Joint, layout: Layout = LAYOUT, steps: int = STEPS) -> JointRun:
    """Kept, on two quadratics of curvature 0.1 to 1."""
    rng = np.random.default_rng(1)
    shape = 2, int(layout.bounds[-1])
    curvature, start = jnp.asarray(rng.uniform(0.1, 1, size=shape)), jnp.asarray(rng.normal(size=shape))

    def both(params: Any, step: Any) -> tuple[Any, Any]:
        del step
        return 0.5 * jnp.sum(curvature * params**2, axis=1), curvature * params

    return eqx.filter_jit(lambda: run_joint(joint, layout, start, both, steps, keep=True))()


@eqx.filter_jit
def slopes_of_the_run(joint: Joint, at: Met, params: Any) -> list[Any]:
    """d (own state, update) of parameters of problem 1, each by its own gradient and its own value."""

    def one(param: Any) -> Any:
        def moved(gradient: Any, value: Any) -> tuple[Any, Any]:
            inputs = at.inputs._replace(
                gradient=at.inputs.gradient.at[1, param].set(gradient), param=at.inputs.param.at[1, param].set(value)
            )
            after, updates, _ = joint.step(LAYOUT, at.state, inputs)
            return after.own[1, param], updates[1, param]

        return jax.jacfwd(moved, argnums=(0, 1))(at.inputs.gradient[1, param], at.inputs.param[1, param])

    return jax.tree.leaves(jax.vmap(one)(params))


@eqx.filter_jit
def slopes_of_slices(exact: ExactSlice, at: Met, params: Any) -> list[Any]:
    """The same of slices."""

    def one(param: Any) -> Any:
        def moved(gradient: Any, value: Any) -> tuple[Any, Any]:
            return eqx.tree_at(lambda s: (s.param, s.value), exact, (param, value))(at.state.own[1, param], gradient)

        return jax.jacfwd(moved, argnums=(0, 1))(at.inputs.gradient[1, param], at.inputs.param[1, param])

    return jax.tree.leaves(jax.vmap(one)(params))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if name in ("velo", "hierarchical") else []) for name in NAMES]
)
def test_the_slope_of_a_slice_is_that_of_the_run(name: KindName) -> None:
    """In arrays of 1, 2, 5 and 3 x 4: by the own gradient, and by the own value."""
    with jax.enable_x64(True):
        joint = system(name, 3)
        at = met(ran(joint), STEPS - 1, STEPS)
        found = slopes_of_slices(exact_slice(joint, LAYOUT, at, 1, 0), at, jnp.asarray(FIRST))
        known = slopes_of_the_run(joint, at, jnp.asarray(FIRST))
        for ours, theirs in zip(found, known, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-12)
        # No derivative goes through the gradient in Optim4RL.
        assert (np.abs(np.asarray(known[2])) > 1e-5).all() or name == "optim4rl"


def test_what_a_held_context_leaves_out() -> None:
    """Of STAR nothing in a vector; the other features of a matrix feel the gradient through row and column."""
    with jax.enable_x64(True):
        joint = system("star", 3)
        at = met(ran(joint), STEPS - 1, STEPS)
        for param in FIRST:
            held, whole = left_out(joint, LAYOUT, at, 1, param)
            if param < FIRST[-1]:
                assert held == pytest.approx(whole, rel=1e-6)
            else:
                assert 1e-4 < abs(held / whole - 1) < 0.1


def test_a_slice_acts_on_leading_axes() -> None:
    with jax.enable_x64(True):
        joint = system("star", 3)
        at = met(ran(joint), 2, STEPS)
        one, readout = exact_slice(joint, LAYOUT, at, 0, 9), eqx.filter_jit(ExactSlice.readout)
        states, gradients = at.state.own[0, 9] * jnp.asarray([[1.0], [0.5]]), jnp.asarray([0.3, -0.1])
        found = readout(one, states, gradients)
        for i in range(2):
            assert float(found[i]) == pytest.approx(float(readout(one, states[i], gradients[i])), rel=1e-12)


def test_what_is_not_there_is_refused() -> None:
    with jax.enable_x64(True):
        joint = system("optim4rl", 0)
        kept = ran(joint, Layout(((2,),)), 3)
        with pytest.raises(ReoptError, match="steps 0 to 2"):
            met(kept, 3, 3)
        with pytest.raises(ReoptError, match="not kept"):
            met(kept._replace(states=None), 0, 3)
        with pytest.raises(ReoptError, match="2 problems of 2 parameters"):
            exact_slice(joint, Layout(((2,),)), met(kept, 0, 3), 0, 2)
