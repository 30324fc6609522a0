"""The mechanisms that there are: each module of this package that has a `MECHANISM`."""

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING

import reopt.mechanisms

if TYPE_CHECKING:
    from reopt.mechanisms.base import Mechanism


def mechanism_modules() -> list[str]:
    """Names of the modules of this package, without importing them."""
    return sorted(module.name for module in pkgutil.iter_modules(reopt.mechanisms.__path__))


@cache
def mechanisms() -> "tuple[Mechanism, ...]":
    """Every mechanism, in the order in which they are measured."""
    modules = (importlib.import_module(f"{reopt.mechanisms.__name__}.{name}") for name in mechanism_modules())
    found = [module.MECHANISM for module in modules if hasattr(module, "MECHANISM")]
    return tuple(sorted(found, key=lambda one: (one.order, one.name)))
