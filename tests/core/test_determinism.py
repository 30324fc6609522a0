"""A chaotic run ends in the same bytes whatever instructions a processor has, once it is held to one kind of them."""

import os
import subprocess
import sys

import pytest

from reopt.core.determinism import _has_avx2

RUN = """
import sys
if sys.argv[1] == "held":
    from reopt.core.determinism import same_on_all_processors
    same_on_all_processors()
import jax, jax.numpy as jnp
jax.config.update("jax_enable_x64", True)
key = jax.random.key(0)
basis = jax.random.orthogonal(key, 5, dtype=jnp.float32).astype(jnp.float64)

def step(_, x):
    turned = basis @ x
    return jnp.sin(3.0 * turned + 1.3 * turned * x + 0.1)  # fused or not: the last bit

print(jax.jit(lambda x: jax.lax.fori_loop(0, 2000, step, x))(jnp.linspace(-0.5, 0.7, 5)).tolist())
"""


def _end(held: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", RUN, held], env=os.environ | environment, check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.long
@pytest.mark.skipif(not _has_avx2(), reason="a processor without AVX2")
def test_a_chaotic_run_is_the_same_with_other_instructions():
    older = {"XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2", "OPENBLAS_CORETYPE": "Prescott"}
    assert _end("free") != _end("free", **older)
    assert _end("held") == _end("held", **older)
