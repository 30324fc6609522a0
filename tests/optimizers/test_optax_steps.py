"""Transformations whose steps are unlike those of optax: one line each says what they do, and what to change."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reopt.core.errors import ReoptError
from reopt.optimizers.optax_bridge import from_optax, refuse_layouts


class Anything:
    """An object of somebody's own."""


def descent(gradient, state, params=None):
    return jax.tree.map(lambda g: -0.1 * g, gradient), state


def keeps(state):
    return optax.GradientTransformation(lambda params: state, descent)


def becomes(state, after):
    """A transformation whose state is another one after a step."""
    return optax.GradientTransformation(lambda params: state, lambda g, s, p=None: (g, after(s, g)))


def gives(result):
    return optax.GradientTransformation(lambda params: (), lambda g, s, p=None: result(g, s))


def asks(function):
    return optax.GradientTransformationExtraArgs(lambda params: (), lambda g, s, p=None, **more: function(g, s, more))


def looks(params):
    if float(jnp.sum(params)) > 0:
        raise ValueError("never")
    return ()


FIX = "functools.partial"
ODD = {
    "plateau": (optax.contrib.reduce_on_plateau(), "asks for value", FIX),
    "plateau in a chain": (optax.chain(optax.adam(0.1), optax.contrib.reduce_on_plateau()), "asks for value", FIX),
    "line search": (optax.lbfgs(), "asks for value, grad, value_fn", FIX),
    "an argument taken from all": (asks(lambda g, s, more: (-g * more["loss"], s)), "asks for loss", FIX),
    "an argument that may be none": (asks(lambda g, s, more: (-g * more.get("speed"), s)), "asks for speed", FIX),
    "a text": (keeps({"mode": "warm"}), "keeps a str in its state (mode)", "made of numbers"),
    "a function": (keeps((jnp.sin,)), "in its state (0)", "made of numbers"),
    "an object": (keeps(Anything()), "keeps a Anything", "made of numbers"),
    "an array of objects": (keeps(np.array([None, 1])), "keeps a ndarray of object", "made of numbers"),
    "an array of texts": (keeps(np.array("a")), "keeps a ndarray of <U1", "made of numbers"),
    "a date": (keeps(np.datetime64("2020-01-01")), "datetime64", "made of numbers"),
    "complex": (keeps(jnp.zeros(3, complex)), "complex64", "real ones do"),
    "none, then one": (becomes(None, lambda s, g: g), "structure of its state", "from None to *"),
    "a list that grows": (becomes([], lambda s, g: [*s, g]), "structure of its state", "from [] to [*]"),
    "an array that grows": (
        becomes(jnp.zeros(0), lambda s, g: jnp.append(s, 1.0)),
        "changes the shape of its state",
        "from (0,) to (1,)",
    ),
    "a whole number that gets a fraction": (
        becomes(jnp.zeros((), int), lambda s, g: s + 0.5),
        "changes the type of its state",
        "from int32 to float32",
    ),
    "half precision": (becomes(jnp.zeros(3), lambda s, g: s.astype(jnp.float16)), "type", "from float32 to float16"),
    "an init that looks": (optax.GradientTransformation(looks, descent), "looks at the numbers", "jnp.where"),
    "an update that looks": (gives(lambda g, s: (-g if g.sum() > 0 else g, s)), "looks at the numbers", "jnp.where"),
    "numpy": (gives(lambda g, s: (-np.asarray(g), s)), "looks at the numbers", "jax.numpy"),
    "no pair": (gives(lambda g, s: g), "gives a array of float32, not a pair", "(updates, state)"),
    "three": (gives(lambda g, s: (g, s, s)), "gives a tuple of 3, not a pair", "(updates, state)"),
    "nothing": (gives(lambda g, s: None), "gives a NoneType, not a pair", "(updates, state)"),
    "a text for an update": (gives(lambda g, s: ("a", s)), "gives a str for an update", "numbers"),
    "no update": (gives(lambda g, s: (None, s)), "gives None", "to update one array"),
    "two updates": (gives(lambda g, s: ((g, g), s)), "gives (*, *)", "to update one array"),
    "complex updates": (gives(lambda g, s: (1j * g, s)), "complex updates", "complex64"),
    "an error": (gives(lambda g, s: 1 / 0), "ZeroDivisionError", "from gradient, state and parameters alone"),
    "no arguments": (
        optax.GradientTransformation(lambda: (), descent),
        "takes 0 positional arguments",
        "on any array of parameters",
    ),
    "no function": (optax.GradientTransformation(None, descent), "init is a NoneType, not a function", ""),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("see", [from_optax, refuse_layouts], ids=["examined", "compared"])
def test_what_is_no_step_of_optax_is_one_line_with_what_to_change(name, see):
    transformation, said, remedy = ODD[name]
    with pytest.raises(ReoptError) as refused:
        see(transformation)
    text = str(refused.value)
    assert said in text
    assert remedy in text
    assert "Tracer" not in text
    assert len(text) < 400


def test_the_remedy_for_an_argument_that_is_asked_for_works():
    """With a constant value the plateau's scale stays 1: what is left is the descent."""
    plateau = optax.chain(optax.sgd(0.3), optax.contrib.reduce_on_plateau(patience=10**6))
    fixed = optax.GradientTransformation(plateau.init, functools.partial(plateau.update, value=1.0))
    optimizer = from_optax(fixed)
    _, update = optimizer(optimizer.initial_states((2,)), jnp.array([1.0, -2.0]))
    np.testing.assert_allclose(update, [-0.3, 0.6], rtol=1e-6)


@settings(max_examples=3, deadline=None, derandomize=True)
@given(st.floats(0.1, 0.95), st.floats(0.01, 1.0))
def test_numbers_of_python_in_a_state_are_numbers(beta: float, rate: float):
    """m_t = beta m + 1 from a float, t from an int: the third update of a gradient 2 is - 2 rate m_2 / (1 + 2)."""

    def update(gradient, state, params=None):
        change = jax.tree.map(lambda g: -rate * g * state["m"] / (1 + state["t"]), gradient)
        return change, {"m": beta * state["m"] + 1, "t": state["t"] + 1}

    optimizer = from_optax(optax.GradientTransformation(lambda params: {"m": 0.0, "t": 0}, update))
    state = optimizer.initial_state()
    for _ in range(3):
        state, change = optimizer(state, jnp.asarray(2.0))
    np.testing.assert_allclose(change, -2 * rate * (beta + 1) / 3, rtol=1e-5)


@settings(max_examples=1, deadline=None, derandomize=True)
@given(st.integers(2, 40))
@example(300)
def test_the_phases_of_a_state_are_told(every: int):
    """An accumulation over k gradients counts 0 to k - 1 and starts again, which is no clock."""
    optimizer = from_optax(optax.MultiSteps(optax.sgd(0.1), every))
    (phase,) = (leaf for leaf in optimizer.leaves if leaf.name == "mini_step")
    assert (phase.kind, phase.phases) == ("vector", (0, every - 1))
    (caveat,) = optimizer.caveats_at(np.array([1.0, 0.0, 0.3, 0.0]))
    assert f"mini_step from 0 to {every - 1}" in caveat
    assert "one phase, mini_step 1, gradient_step 0, not of a whole cycle" in caveat


@pytest.mark.parametrize(
    "transformation", [optax.adam(0.1), optax.sgd(0.1, 0.9), optax.apply_if_finite(optax.adam(0.1), 5)]
)
def test_what_keeps_the_same_whole_numbers_or_a_clock_has_no_phases(transformation):
    assert from_optax(transformation).caveats == ()
