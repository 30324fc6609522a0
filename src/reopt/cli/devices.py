"""What JAX says of devices, in a line: a plugin without its device, and a platform that is asked for and not there."""

import logging
import os
import sys

PLUGINS = ("jax_plugins.xla_cuda12", "jax_plugins.xla_cuda13")  # of the extra `cuda`
_LIBRARIES = ("jax_cuda12_plugin", "jax_cuda13_plugin")
_GPUS = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg")  # where JAX looks for one, too


class _InALine(logging.Filter):
    """Of what JAX logs of plugins, a line on standard error in place of a traceback; its warnings are dropped."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not str(record.msg).startswith("Jax plugin configuration error"):
            return record.levelno >= logging.ERROR
        if os.environ.get("JAX_PLATFORMS"):  # then whoever runs it has decided
            return False
        name = str(record.args[0]) if isinstance(record.args, tuple) and record.args else "a plugin of JAX"
        if sys.modules.get(name, self) is None:
            reason = "there is no NVIDIA GPU here"
        else:
            error = record.exc_info[1] if record.exc_info else None
            lines = str(error or "it is not there").split("\n")
            reason = f"{name} cannot be used: {lines[0][:200]}"
        print(f"reopt: {reason}; computing on the CPU", file=sys.stderr, flush=True)
        return False


def speak_plainly() -> None:
    """Have JAX say in a line that it does without a GPU; before it is imported.

    Where no NVIDIA GPU is to be seen, its plugin is not loaded: it would say so at length, and not through Python.
    """
    logger = logging.getLogger("jax._src.xla_bridge")
    logger.setLevel(logging.WARNING)
    if not any(isinstance(one, _InALine) for one in logger.filters):
        logger.addFilter(_InALine())
    if not any(os.path.exists(path) for path in _GPUS):
        for name in (*PLUGINS, *_LIBRARIES):
            sys.modules.setdefault(name, None)  # type: ignore[arg-type]


def no_such_device() -> str:
    """A sentence where JAX has not got the device that it was told to use; else nothing."""
    wanted = os.environ.get("JAX_PLATFORMS")
    if not wanted or "jax" not in sys.modules:
        return ""
    try:
        sys.modules["jax"].devices()
    except Exception:  # JAX raises assertions too
        return f"JAX_PLATFORMS={wanted}: there is no such device here; unset it, or set it to cpu"
    return ""
