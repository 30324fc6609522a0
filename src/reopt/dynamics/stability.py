"""What the rounding of a Jacobian lets be said: which eigenvalues lie inside, outside or on the unit circle, and
whether I - J is singular.

An eigenvalue counts as on the circle (or as 1) if some matrix that rounding cannot tell from J has it there. With N the
entrywise uncertainty of J, no matrix within N has the eigenvalue z if rho(|(z I - J)^-1| N) < 1 (Rump, Acta Numerica
19, 2010, section 10; Higham, Accuracy and Stability of Numerical Algorithms, section 7.2). A diagonal change of units,
J -> D J D^-1 and N -> D N D^-1, leaves rho as it is, and so every verdict.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.linalg import matrix_balance

NEAR_CIRCLE = 0.05  # eigenvalues farther from the unit circle are looked at only if none is nearer


class Stability(NamedTuple):
    """Of each point: |eigenvalues| of J, how many are outside the unit circle for certain, how many may be on it, and
    the dimension of the kernel of I - J (0: regular)."""

    magnitudes: Float[np.ndarray, "point free"]
    unstable: Int[np.ndarray, " point"]
    marginal: Int[np.ndarray, " point"]
    kernel: Int[np.ndarray, " point"]

    @property
    def stable(self) -> np.ndarray:
        """Whether all eigenvalues are inside the unit circle for certain."""
        return (self.unstable == 0) & (self.marginal == 0)


def is_stable(found: Any) -> Bool[np.ndarray, " point"]:
    """Which points are stable: all eigenvalues of J inside the unit circle, by more than their error.

    **Arguments:** `found`: `FixedPoints` or `FixedPointsOver`, or a mapping with the arrays of one. Where it comes from
    a file without `marginal_directions`, 1e-9 stands for the errors.
    """
    arrays = found if isinstance(found, Mapping) else found._asdict()
    if arrays.get("marginal_directions") is None:
        return np.asarray(arrays["spectral_radius"]) < 1 - 1e-9
    return (arrays["unstable_directions"] == 0) & (arrays["marginal_directions"] == 0)


def judge(
    jacobian: Float[np.ndarray, "point free free"], change: Float[np.ndarray, "point free free"] | None = None
) -> Stability:
    """The verdicts on Jacobians (finite) that are uncertain by rounding and by `change`, entrywise."""
    count, size = jacobian.shape[:2]
    magnitudes = np.zeros((count, size))
    verdicts = np.zeros((3, count), np.int64)
    for i, matrix in enumerate(jacobian):
        values, *verdicts[:, i] = _judge(matrix, None if change is None else change[i])
        magnitudes[i] = np.abs(values)
    return Stability(magnitudes, *verdicts)


def _judge(matrix: np.ndarray, change: np.ndarray | None) -> tuple[np.ndarray, int, int, int]:
    """(eigenvalues, unstable ones, marginal ones, dimension of the kernel)."""
    if not len(matrix):
        return np.zeros(0), 0, 0, 0
    matrix, scale = _balanced(matrix)
    unsure = rounding(matrix)
    if change is not None:
        unsure = unsure + change * scale[None, :] / scale[:, None]
    values = np.linalg.eigvals(matrix)
    away = np.abs(np.abs(values) - 1)
    marginal = np.zeros(len(values), bool)
    for i in np.flatnonzero(away <= max(NEAR_CIRCLE, away.min())):
        nearest = values[i] / np.abs(values[i]) if values[i] else 1.0
        marginal[i] = reaches(matrix, unsure, nearest)
    outside = int(((np.abs(values) > 1) & ~marginal).sum())
    return values, outside, int(marginal.sum()), _kernel(matrix, unsure)


def _balanced(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """D^-1 J D with rows and columns of like size, and the diagonal of D (powers of 2, so without rounding)."""
    balanced, (scale, _) = matrix_balance(matrix, permute=False, separate=True)
    return balanced, scale


def rounding(matrix: Float[np.ndarray, "*point free free"]) -> Float[np.ndarray, "*point free free"]:
    """The entrywise uncertainty of a Jacobian (and its eigenvalues) by rounding: 16 n eps (I + |J|)."""
    size = matrix.shape[-1]
    return 16 * size * np.finfo(float).eps * (np.eye(size) + np.abs(matrix))


def reaches(
    matrix: Float[np.ndarray, "free free"], unsure: Float[np.ndarray, "free free"], value: complex | float
) -> bool:
    """Whether a matrix within `unsure` of `matrix` may have the eigenvalue `value`."""
    shifted = value * np.eye(len(matrix)) - matrix
    try:
        inverse = np.abs(np.linalg.inv(shifted.real if np.isreal(value) else shifted))
    except np.linalg.LinAlgError:
        return True
    if not np.isfinite(inverse).all():
        return True
    return not _radius_below_one(inverse, unsure)


def _radius_below_one(first: np.ndarray, second: np.ndarray) -> bool:
    """rho(first second) < 1 for matrices without negative entries: max (K x)_i / x_i of any x > 0 bounds rho."""
    x = np.ones(len(first))
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(8):
            after = first @ (second @ x)
            if (after < x).all():
                return True
            x = after / after.max() + np.finfo(float).tiny
        product = first @ second
    return bool(np.isfinite(product).all() and np.abs(np.linalg.eigvals(product)).max() < 1)


def _kernel(matrix: np.ndarray, unsure: np.ndarray) -> int:
    """Dimension of the kernel of I - J: singular values within its uncertainty, rows and columns scaled to like size.

    Scaling leaves the rank as it is, and a matrix that is singular for certain has at least one such value.
    """
    if not reaches(matrix, unsure, 1.0):
        return 0
    rows, columns = equilibrate(np.eye(len(matrix)) + np.abs(matrix))
    singular = np.linalg.svd(rows[:, None] * (np.eye(len(matrix)) - matrix) * columns, compute_uv=False)
    return max(1, int((singular <= np.linalg.norm(rows[:, None] * unsure * columns)).sum()))


def equilibrate(sizes: Float[np.ndarray, "free free"]) -> tuple[Float[np.ndarray, " free"], Float[np.ndarray, " free"]]:
    """Factors of the rows and of the columns that bring the largest entry of each near 1 (Ruiz, 2001)."""
    rows, columns = np.ones(len(sizes)), np.ones(len(sizes))
    for _ in range(40):
        scaled = rows[:, None] * sizes * columns
        rows, columns = rows / np.sqrt(scaled.max(axis=1)), columns / np.sqrt(scaled.max(axis=0))
    return rows, columns
