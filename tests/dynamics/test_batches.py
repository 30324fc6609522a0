"""Batches of other sizes are the same rows, and ask for no other program."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reopt.dynamics.autonomous import FreeSystem, jacobians_at
from reopt.dynamics.batches import filled, pad, padded
from reopt.dynamics.precision import double_precision, to_double
from reopt.dynamics.root_finding import residuals
from reopt.optimizers.classical import Momentum


@given(st.integers(0, 5000), st.integers(1, 9))
def test_filled_batches_keep_their_rows(count: int, size: int):
    rows = np.arange(float(count * 2)).reshape(count, 2)
    (found,) = filled(size, rows)
    assert len(found) in ((count,) if size > 8 or not count else (32, 64, 512, 4096, 32768))
    np.testing.assert_array_equal(np.asarray(found)[:count], rows)
    if count:
        assert (pad(rows, padded(count))[count - 1 :] == rows[-1]).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 70))
def test_derivatives_of_any_number_of_rows_are_those_of_each(count: int):
    with double_precision():
        system = FreeSystem(to_double(Momentum(learning_rate=0.1, momentum=0.9)))
        states, gradients = np.ones((count, system.size)), np.linspace(-1, 1, count)
        found = jacobians_at(system, states, gradients)
    assert found.shape == (count, system.size, system.size)
    assert found == pytest.approx(0.9)


def test_numbers_of_numpy_ask_for_no_program_of_their_own():
    """`jnp.asarray` compiles one for each shape that it sees."""
    compiled = []
    listen = lambda name, seconds, **_: compiled.append(name) if "backend_compile" in name else None  # noqa: E731
    with double_precision():
        system = FreeSystem(to_double(Momentum(learning_rate=0.1, momentum=0.9)))
        residuals(system, np.ones((3, system.size)), np.ones(3))
        jax.monitoring.register_event_duration_secs_listener(listen)
        try:
            for count in (1, 5, 11, 17, 63):
                residuals(system, np.ones((count, system.size)), np.ones(count))
        finally:
            jax.monitoring.unregister_event_duration_listener(listen)
    assert not compiled
