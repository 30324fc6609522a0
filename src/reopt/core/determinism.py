"""One kind of machine for results that amplify rounding.

A chaotic run turns the last bit of a sum into another result, in float64 as in float32, and compilers and LAPACK round
otherwise on each kind of processor: they fuse, or order sums, as its instructions allow. Held to the instructions that
every x86-64 processor of the last decade has (AVX2 with FMA), they do the same on all of them. Matmuls stay with the
machine: in float32 their kernels are chosen apart, and the caller does better in float64; large ones are cut into
blocks by the sizes of its caches. What comes from a process that was not held (a decomposition in float64) is best
rounded to float32 where it enters such a run.
"""

import os
import platform
import sys
from pathlib import Path

XLA_FLAG = "--xla_cpu_max_isa=AVX2"
LAPACK_KERNELS = "Haswell"


def same_on_all_processors() -> None:
    """Hold XLA and OpenBLAS to AVX2, in a process that has loaded neither jax nor scipy yet; else, and on
    processors without AVX2, nothing changes."""
    if {"jax", "scipy"} & set(sys.modules) or not _has_avx2():
        return
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {XLA_FLAG}".strip()
    os.environ["OPENBLAS_CORETYPE"] = LAPACK_KERNELS


def _has_avx2() -> bool:
    processors = Path("/proc/cpuinfo")
    return platform.machine() == "x86_64" and processors.is_file() and " avx2 " in processors.read_text()
