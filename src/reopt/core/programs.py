"""Compiled programs of a long process, given up before the system maps no more memory for it.

XLA maps every program for the CPU into memory in several pieces and keeps it as long as the function that it was made
of, or jax's cache of programs, lives. An examination leaves some 2,400 mappings. Linux allows a process 65,530
(`vm.max_map_count`), and LLVM ends it with a segmentation fault at the next one.
"""

from pathlib import Path

import jax

MAPPINGS, LIMIT = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")
SHARE = 0.5  # of the mappings allowed, from which on programs are given up


def release_programs(share: float = SHARE) -> bool:
    """Empty jax's caches of compiled programs if the process uses more than this share of the memory mappings that the
    system allows it; whether it did. What is needed again is compiled again, or read from jax's persistent cache.

    Where the system does not tell how many there are (not Linux), nothing is given up.
    """
    if not (MAPPINGS.is_file() and LIMIT.is_file()):
        return False
    with MAPPINGS.open("rb") as lines:
        if sum(1 for _ in lines) <= share * int(LIMIT.read_text()):
            return False
    jax.clear_caches()
    return True
