"""Subjects by words: what a call in them gives, and what is refused."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from reopt.core.errors import ReoptError
from reopt.pipeline.subjects import load_object, split_object


@pytest.mark.parametrize(
    ("words", "same"),
    [
        ("optax:adam(1e-2)", optax.adam(1e-2)),
        ("optax:sgd(0.1, momentum=0.9, nesterov=True)", optax.sgd(0.1, momentum=0.9, nesterov=True)),
        ("optax:chain(clip(0.5), adam(cosine_decay_schedule(0.1, 100), b1=-0.5 + 1))", None),
        ("optax:chain(clip(0.5), adam(cosine_decay_schedule(0.1, 100), b1=0.5))",
         optax.chain(optax.clip(0.5), optax.adam(optax.cosine_decay_schedule(0.1, 100), b1=0.5))),
        ("optax:contrib.schedule_free_sgd(0.1)", optax.contrib.schedule_free_sgd(0.1)),
    ],
)  # fmt: skip
def test_a_call_gives_what_python_gives(words: str, same: optax.GradientTransformation | None) -> None:
    if same is None:
        with pytest.raises(ReoptError, match="is no call, name or plain value"):
            load_object(words)
        return
    found, params = load_object(words), jnp.array([1.0, -2.0])
    ours, theirs = found.init(params), same.init(params)
    for gradient in ([1.0, 0.2], [-3.0, 0.1]):
        update, ours = found.update(jnp.array(gradient), ours, params)
        expected, theirs = same.update(jnp.array(gradient), theirs, params)
        np.testing.assert_array_equal(update, expected)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("optax:adam(1e-2", "is no call that Python can read"),
        ("optax:adam(lambda: 1)", "is no call, name or plain value"),
        ("optax:adam(nothing)", "optax has no 'nothing'"),
        ("optax:__builtins__()", "optax has no '__builtins__'"),
        ("optax:adam(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)", "failed"),
        ("no_such_module:adam(1)", "cannot import no_such_module"),
    ],
)
def test_what_is_no_call_of_plain_values_is_refused(words: str, said: str) -> None:
    with pytest.raises(ReoptError, match=said):
        load_object(words)


def test_a_colon_within_a_call_is_part_of_it() -> None:
    assert split_object("mine.py:made({'a': 1})") == ("mine.py", "made({'a': 1})")
    assert split_object("package.module:name") == ("package.module", "name")
