"""The search on one core and on two: the same bytes, also where chaos amplifies the last bit."""

import os
import subprocess
import sys

import pytest

SEARCH = """
import hashlib, os, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[1])])
import jax.numpy as jnp
import numpy as np
from reopt.dynamics.fixed_points import find_fixed_points

rng = np.random.default_rng(0)
weights, bias = 3 * rng.normal(size=(256, 256)) / 16, rng.normal(size=256)
found = find_fixed_points(
    lambda h, g: jnp.tanh(weights @ h + bias + g),
    rng.normal(size=(4, 256)), max_iterations=128, newton_seeds=1, newton_iterations=6,
)
assert len(found.slow_points) == 4
arrays = found._asdict()
print(*(hashlib.sha256(arrays[name].tobytes()).hexdigest() for name in sorted(arrays)))
"""


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_slow_points_of_a_chaotic_network_do_not_depend_on_the_cores():
    """tanh(W h + b) with a gain of 3 is chaotic; LAPACK factors 256 x 256 matrices otherwise with two threads."""
    one, two = (
        subprocess.run([sys.executable, "-c", SEARCH, cores], capture_output=True, text=True, check=True).stdout
        for cores in "12"
    )
    assert one == two
