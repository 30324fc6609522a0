"""Reverse-engineers optimizers: examines any of them, meta-trains learned ones, finds their mechanisms.

The public names stand in `__init__.pyi`, and each is imported when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
