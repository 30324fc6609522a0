"""The version of the installed package, and of what computes in it."""

import platform
from importlib.metadata import version

__version__ = version("reopt")


def versions() -> str:
    """Of what decides the numbers of an examination, in words."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("reopt", "jax", "numpy"))
    return f"{packages}, Python {platform.python_version()}"
