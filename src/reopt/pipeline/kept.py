"""A checked config with its defaults, kept until the file or the code that checks it changes.

To check a config takes the modules of its tasks, and these take JAX: most of the time that a dry run needs.
"""

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

from reopt.core.atomic import write_atomically
from reopt.core.errors import ReoptError
from reopt.pipeline.config import filled, read_yaml
from snakedvc import SnakedvcError, sources

FOLDER = Path(".reopt/checked")


def read_filled_once(path: Path | str, folder: Path = FOLDER) -> dict[str, Any]:
    """The content of a config file with its defaults filled in, checked only where it was not before.

    **Raises** `ReoptError` where the config is wrong: what is wrong is never kept.
    """
    content = read_yaml(path)
    key = _key(content)
    place = folder / f"{hashlib.sha256(str(path).encode()).hexdigest()[:16]}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(place.read_bytes())
        if key is not None and kept["key"] == key:
            return kept["config"]
    whole = filled(content, str(path))
    text = json.dumps({"key": key, "config": whole})
    # Snakemake compares the written form of what a rule is given, so nothing may come back in another one.
    if key is not None and repr(json.loads(text)["config"]) == repr(whole):
        with contextlib.suppress(ReoptError):  # then it is checked again
            write_atomically(place, lambda temporary: temporary.write_text(text))
    return whole


def _key(content: dict[str, Any]) -> str | None:
    """Of the content and of every source file that checks it; None where the tasks cannot even be found."""
    try:
        checkers = sources("reopt.pipeline.config", *(f"reopt.tasks.{task}" for task in content["tasks"]))
    except (SnakedvcError, KeyError, TypeError):
        return None
    return hashlib.sha256(f"{content!r} {checkers!r}".encode()).hexdigest()
