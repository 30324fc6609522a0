"""Files of published weights: one flat array of numbers in an npy file, read without running anything in it.

`known.json` describes each kind: paper, source, licence, how many numbers, and how the digests of the published files
begin. Weights are the user's; none come with the package.
"""

import hashlib
import importlib.resources
import io
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from reopt.core.errors import ReoptError

NPY, PICKLE, ZIP = b"\x93NUMPY", b"\x80", b"PK"
LARGEST = 2**24  # bytes
HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class Weights(NamedTuple):
    """The numbers of a file, float64; its digest; and the name of the published file that begins with it, or None."""

    values: Float[np.ndarray, " number"]
    sha256: str
    published_as: str | None


def known(kind: str) -> dict[str, Any]:
    """What `known.json` says of a kind of weights, such as "open"."""
    text = importlib.resources.files("reopt.published").joinpath("known.json").read_text(encoding="utf-8")
    return json.loads(text)[kind]


def read_weights(path: Path | str, kind: str) -> Weights:
    """The flat array in an npy file of one of the sizes that this kind has.

    **Raises** `ReoptError` where there is no such file, or it is a pickle, an archive, truncated, of another size or
    type, not finite, or bears the name of a published file and has another digest.
    """
    path, about = Path(path), known(kind)
    if not path.is_file():
        raise ReoptError(f"there is no file {path}: weights of {about['name']} are at {about['source']}")
    if path.stat().st_size > LARGEST:
        raise ReoptError(f"{path} is larger than {LARGEST} bytes: no such weights are known")
    content = path.read_bytes()
    values = _array(path, content)
    sizes = tuple(int(size) for size in about["units"])
    if values.ndim != 1 or values.size not in sizes:
        wanted = " or ".join(str(size) for size in sizes)
        raise ReoptError(f"{path} has shape {values.shape}, but weights of {about['name']} are {wanted} numbers")
    if not np.isfinite(values).all():
        raise ReoptError(f"{path} holds numbers that are not finite")
    digest, begins = hashlib.sha256(content).hexdigest(), about["sha256_begins"]
    expected = begins.get(path.name)
    if expected is not None and not digest.startswith(expected):
        raise ReoptError(
            f"{path} has sha256 {digest[:12]}..., but the published {path.name} {expected}...: it is damaged or "
            "another file; one of your own takes another name"
        )
    return Weights(values, digest, next((name for name, start in begins.items() if digest.startswith(start)), None))


def _array(path: Path, content: bytes) -> np.ndarray:
    """The array of an npy file, by its own header. Nothing in it is unpickled. **Raises** `ReoptError`."""
    if content.startswith(PICKLE):
        raise ReoptError(
            f"{path} is a pickle, which can run code: where you trust it, convert it once by "
            "np.save('weights.npy', np.asarray(flat, np.float32))"
        )
    if content.startswith(ZIP):
        raise ReoptError(f"{path} is an archive, not an npy file of one array")
    if not content.startswith(NPY):
        raise ReoptError(f"{path} is no npy file")
    stream = io.BytesIO(content)
    try:
        shape, column_major, kind = HEADERS[np.lib.format.read_magic(stream)](stream)
    except Exception as error:  # numpy raises whatever its parser runs into
        raise ReoptError(f"{path} is no npy file that can be read: its header is damaged") from error
    if kind.hasobject or kind.kind not in "f":
        raise ReoptError(f"{path} holds {kind}, not floating-point numbers")
    rest = content[stream.tell() :]
    if len(rest) != math.prod(shape) * kind.itemsize:
        raise ReoptError(f"{path} is truncated: {len(rest)} bytes of an array of {math.prod(shape) * kind.itemsize}")
    found = np.frombuffer(rest, kind).reshape(shape, order="F" if column_major else "C")
    return found.astype(np.float64)
