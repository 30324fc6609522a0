"""A process that compiles without end: Linux maps 65,530 pieces of memory for it and no more."""

import sys

import jax
import jax.numpy as jnp
import pytest

from reopt.core.programs import LIMIT, MAPPINGS, release_programs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")


def mappings() -> int:
    return len(MAPPINGS.read_bytes().splitlines())


def test_programs_are_given_up_beyond_the_share_and_not_below_it():
    """Functions that live on (as methods of an optimizer do) hold programs; 40 of them at least 80 mappings."""
    kept = [jax.jit(lambda x, i=i: jnp.sin(x * i).sum() + jnp.linalg.norm(x)) for i in range(40)]
    jax.clear_caches()
    before = mappings()
    for function in kept:
        function(jnp.ones(7))
    full = mappings()
    assert full >= before + 80
    allowed = int(LIMIT.read_text())

    assert not release_programs((full + 500) / allowed)
    assert mappings() >= full
    assert release_programs((full - 40) / allowed)
    assert mappings() < (before + full) / 2

    assert kept[3](jnp.zeros(7)) == 0  # compiled again


def test_an_examination_looks_at_the_limit_first(monkeypatch):
    """An examination leaves some 2,400 mappings: 28 of them in a loop would end the process."""
    from reopt.examination.examination import Examination

    function = jax.jit(jnp.cos)
    function(jnp.ones(3))
    monkeypatch.setattr(release_programs, "__defaults__", (0.0,))
    Examination(None, None)
    assert function._cache_size() == 0
