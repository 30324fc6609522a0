"""What all tests share: compiled programs, and the order in which the workers take files."""

import itertools
import os
import signal
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

# The longest first, so that the workers end together.
LONGEST = (
    "tests/workflow/test_contract.py",
    "tests/people/",
    "tests/workflow/test_fifth_task.py",  # needs what the first makes, which takes a while
    "tests/snakedvc/test_campaign.py",
    "tests/fuzz/",
    "tests/packaging/",
    "tests/examination/test_shipped.py",
    "tests/examination/test_planted.py",
    "tests/figures/test_every_figure.py",
    "tests/figures/test_reference_pictures.py",
    "tests/dynamics/test_planted_systems.py",
    "tests/mechanisms/",
    "tests/snakedvc/",
    "tests/tasks/",
    "tests/training/",
)
QUICKLY_COMPILED = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
KNOWN_TO = "0.10."  # versions of jaxlib
_TESTS = itertools.count()
COMPILED = Path(__file__).parents[1] / ".reopt/compiled-for-tests"


def pytest_configure() -> None:
    """Keep compiled programs from one run to the next, for both workers and the processes that tests start.

    A program is found by its own text, the versions, the flags and the kind of processor. They are compiled without
    the passes of LLVM that cost more than small problems gain by them, and without the fusion emitters, which cost two
    thirds of that time.
    """
    # A shell starts what runs in its background with interrupts ignored, and a command of a test would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # XLA ends the process at a flag that it does not know.
    if version("jaxlib").startswith(KNOWN_TO) and QUICKLY_COMPILED not in (flags := os.environ.get("XLA_FLAGS", "")):
        os.environ["XLA_FLAGS"] = f"{flags} {QUICKLY_COMPILED}".strip()
    os.environ["PIP_COMPILE"] = "0"  # what a test installs is compiled where it is imported, and most of it never is
    os.environ["REOPT_CACHE"] = ""  # tuned baselines are kept by the tests of that alone
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(COMPILED))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


@pytest.fixture(autouse=True)
def same_place_for_programs() -> None:
    """A command that ran in this process has had them kept in the folder where it ran."""
    if "jax" in sys.modules:
        import jax
        from jax.experimental.compilation_cache import compilation_cache

        if jax.config.jax_compilation_cache_dir != (kept := os.environ["JAX_COMPILATION_CACHE_DIR"]):
            jax.config.update("jax_compilation_cache_dir", kept)
            compilation_cache.reset_cache()


@pytest.fixture(autouse=True)
def few_programs() -> None:
    """A worker compiles more programs than the system maps into the memory of one process.

    Looked at now and then: to count 20,000 mappings takes 30 ms.
    """
    if "jax" in sys.modules and next(_TESTS) % 16 == 0:
        from reopt.core.programs import release_programs

        release_programs()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first."""
    items.sort(key=lambda item: next((i for i, name in enumerate(LONGEST) if item.nodeid.startswith(name)), 99))
