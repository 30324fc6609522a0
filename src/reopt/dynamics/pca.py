"""Principal components of hidden states (arXiv 2011.02159, section 4): how many directions an optimizer uses."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from reopt.core.errors import ReoptError
from reopt.dynamics.record import finite_states


class PCA(NamedTuple):
    """Components of unit length, by falling variance; the largest entry of each is positive."""

    mean: Float[np.ndarray, " hidden"]
    components: Float[np.ndarray, "component hidden"]
    explained: Float[np.ndarray, " component"]  # share of the total variance
    deviation: Float[np.ndarray, " component"]  # standard deviation of the states along the component
    projected: Float[np.ndarray, "... kept"]  # the states, float32


def pca(
    states: Float[np.ndarray, "... hidden"],
    *,
    clock: int | None = None,
    num_components: int = 10,
    num_projected: int = 3,
) -> PCA:
    """Principal components of all states together.

    **Arguments:** states that are not finite are left out of the analysis (and stay NaN when projected); the component
    with index `clock` has no weight in any principal component, for steps are not states.
    """
    states = np.asarray(states)
    rows = finite_states(states).astype(np.float64)
    if rows.shape[0] == 0:
        rows = np.zeros((1, states.shape[-1]))
    mean = rows.mean(axis=0)
    free = np.delete(np.arange(rows.shape[1]), [] if clock is None else [clock])
    centred = (rows - mean)[:, free]
    # The covariance, not the states, is decomposed: there are many more states than components.
    variances, vectors = np.linalg.eigh(centred.T @ centred / rows.shape[0])
    order = np.argsort(variances)[::-1][: min(num_components, free.size)]
    components = np.zeros((order.size, rows.shape[1]))
    components[:, free] = vectors[:, order].T
    if components.size:
        largest = np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1)
        components = components * np.where(largest < 0, -1.0, 1.0)
    variance = np.maximum(variances[order], 0)
    total = centred.var(axis=0).sum()
    explained = variance / total if total > 0 else np.zeros_like(variance)
    result = PCA(mean, components, explained, np.sqrt(variance), np.zeros(0))
    return result._replace(projected=project(states, result, num_projected).astype(np.float32))


def refuse_no_pca(found: PCA, where: object) -> None:
    """See that what was read from `where` can be principal components: orthonormal, with shares of a variance.

    **Raises** `ReoptError`.
    """
    gram = found.components @ found.components.T
    shares = found.explained
    orthonormal = np.allclose(gram, np.eye(len(gram)), atol=1e-6)
    if not orthonormal or not (np.all((shares >= 0) & (shares <= 1 + 1e-6)) and np.all(found.deviation >= 0)):
        raise ReoptError(f"{where}: the stored principal components are none: they are damaged")


def project(states: Float[np.ndarray, "... hidden"], basis: PCA, count: int = 3) -> Float[np.ndarray, "... component"]:
    """Coordinates of states along the first `count` components (fewer where the state has fewer)."""
    with np.errstate(invalid="ignore", over="ignore"):  # states that are not finite become NaN
        return (np.asarray(states, np.float64) - basis.mean) @ basis.components[:count].T
