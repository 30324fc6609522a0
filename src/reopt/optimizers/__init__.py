"""Optimizers as dynamical systems h' = F(h, g), dx = r(h', g): classical, learned, and optax's."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
