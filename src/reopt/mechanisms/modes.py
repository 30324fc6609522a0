"""Momentum: an optimizer near its fixed point as a sum of momentum buffers (arXiv 2011.02159, section 5.1).

With J = R diag(beta) L^T (L^T R = I) the linearized optimizer is one buffer a mode,

    v_j <- beta_j v_j + g,    update = offset - sum_j Re(alpha_j v_j),    alpha_j = -(C r_j)(l_j^T B),

which is aggregated momentum with complex rates; alpha keeps its sign and phase. What the readout takes directly from
the gradient, D g, is one more term with beta = 0: alpha = -D (Nesterov's momentum has one).
The impulse response of the update to a gradient at lag 0 is  D [k = 0] + C J^k B = -sum_j alpha_j beta_j^k.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Complex, Float

from reopt.dynamics.autonomous import CLOCK, FreeSystem
from reopt.dynamics.linearization import Linearization, linearized_optimizer
from reopt.dynamics.precision import double_precision, to_double
from reopt.evaluation.evaluate import problem_batches
from reopt.evaluation.unroll import unroll
from reopt.optimizers.base import Optimizer
from reopt.tasks.base import Task

PARAMS = 2**16
LEAST_PROBLEMS = 64
ROUNDINGS = 16  # of the last place, that an entry of a Jacobian or a product may be off by
LAGS, BLOCKS = 400, 20000  # of the impulse response, over which memory is summed
REST, ROUNDING = 1e-14, 1e-12  # shares of that sum: what is left out, and what is rounding
UNLIKE = 2.0**10  # components whose sizes differ by more than this are looked at in units of their own


class Modes(NamedTuple):
    """Momentum buffers by falling |beta|; `condition` is the condition number of the eigenvectors.

    A large condition number (beyond 1e8, say) means that J is defective or nearly so: single alphas are then large and
    cancel, and only their sum, the impulse response, means anything. `rounding` bounds the error of each alpha by the
    rounding of J, B and C, to first order; an alpha below the rounding of the sums that make it is 0.
    """

    alpha: Complex[np.ndarray, " mode"]
    beta: Complex[np.ndarray, " mode"]
    right: Complex[np.ndarray, "hidden mode"]  # r_j, of unit length
    direct: Float[np.ndarray, ""]  # alpha of the direct term, -D
    condition: Float[np.ndarray, ""]
    rounding: Float[np.ndarray, " mode"]


class LinearizedRuns(NamedTuple):
    """The optimizer and its linearization on the same problems."""

    curves: pd.DataFrame  # step, learned, linearized: mean over problems of loss / initial loss
    problems: pd.DataFrame  # problem, learned, linearized: meta-objectives; inf where a run diverged


def modes(linearization: Linearization) -> Modes:
    """The momentum buffers of a linearization. A held clock has none.

    The eigenvectors are those in units of what a gradient moves each component by, so that a small alpha is not lost
    beside a large component of the state.
    """
    size = len(linearization.point)
    free = np.setdiff1d(np.arange(size), linearization.held)
    right = np.zeros((size, len(free)), complex)
    if not free.size:
        none, nothing = np.zeros(0, complex), np.zeros(0)
        return Modes(none, none, right, np.asarray(-linearization.direct), np.asarray(1.0), nothing)
    jacobian = linearization.jacobian[np.ix_(free, free)]
    units = _units(jacobian, linearization.input[free])
    jacobian = jacobian * units[None, :] / units[:, None]
    drive, weight = linearization.input[free] / units, linearization.readout[free] * units
    beta, vectors = (part.astype(np.complex128) for part in np.linalg.eig(jacobian))
    singular = np.linalg.svd(vectors, compute_uv=False)
    condition = singular[0] / singular[-1] if singular[-1] > 0 else np.inf
    # Least squares, for the eigenvectors of a defective J do not span the space.
    heard = np.linalg.lstsq(vectors, drive.astype(complex), rcond=None)[0]
    alpha = -(weight @ vectors) * heard
    lost, rounding = _rounding(jacobian, beta, vectors, drive, weight)
    alpha = np.where(np.abs(alpha) > lost, alpha, 0)
    order = np.lexsort((-beta.imag, -beta.real, -np.abs(beta).round(12)))
    right[free] = vectors if (units == 1).all() else _of_unit_length(vectors * units[:, None])
    parts = np.asarray(-linearization.direct), np.asarray(condition)
    return Modes(alpha[order], beta[order], right[:, order], *parts, rounding[order])


def _rounding(
    jacobian: np.ndarray, beta: np.ndarray, vectors: np.ndarray, drive: np.ndarray, weight: np.ndarray
) -> tuple[Float[np.ndarray, " mode"], Float[np.ndarray, " mode"]]:
    """(what the sums C r_j and l_j B lose, the error of alpha_j with that of the eigenvectors), to first order.

    A change E of J moves r_j by sum_k r_k (l_k E r_j) / (beta_j - beta_k), and l_j likewise (Stewart and Sun, Matrix
    Perturbation Theory, section V.2); rounding changes entries by |E| <= n eps |J|.
    """
    left = np.linalg.pinv(vectors)
    unit = ROUNDINGS * len(beta) * np.finfo(float).eps
    outward, inward = np.abs(weight @ vectors), np.abs(left @ drive)
    out_terms, in_terms = np.abs(weight) @ np.abs(vectors), np.abs(left) @ np.abs(drive)
    lost = unit * out_terms * in_terms
    mixed = np.abs(left) @ np.abs(jacobian) @ np.abs(vectors)
    gaps = np.abs(beta[:, None] - beta[None, :])
    np.fill_diagonal(mixed, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mixed = np.where(mixed > 0, mixed / gaps, 0)
        moved = (outward @ mixed) * inward + outward * (mixed @ inward)
    return lost, lost + unit * np.nan_to_num(moved, nan=0.0, posinf=np.inf)


def _units(jacobian: Float[np.ndarray, "free free"], drive: Float[np.ndarray, " free"]) -> Float[np.ndarray, " free"]:
    """A unit for each component: the size, to a power of 2, that a unit pulse of gradient gives it within a few steps.

    An update of 1e13 beside a first moment of 0.1 (Adam with a tiny eps) makes eigenvectors that are parallel to 13
    digits, though J is regular; in these units they are not. All 1 where sizes differ by less than UNLIKE.
    """
    sizes, state = np.zeros(len(drive)), np.abs(drive)
    for _ in range(len(drive)):
        sizes = np.maximum(sizes, state)
        state = np.abs(jacobian) @ state
    reached = (sizes > 0) & np.isfinite(sizes)
    if not reached.any() or sizes[reached].max() < UNLIKE * sizes[reached].min():
        return np.ones(len(drive))
    return np.exp2(np.round(np.log2(np.where(reached, sizes, 1.0))))


def _of_unit_length(vectors: Complex[np.ndarray, "free mode"]) -> Complex[np.ndarray, "free mode"]:
    vectors = vectors / np.abs(vectors).max(axis=0)  # squares of what is below 1e-162 are 0
    return vectors / np.linalg.norm(vectors, axis=0)


def modes_table(found: Modes) -> pd.DataFrame:
    """The modes as a table, by falling magnitude; the direct term, if any, as one more mode of kind "direct".

    `participation` is the share of |alpha| in its sum, `gain` that of |alpha / (1 - beta)|, the response to a constant
    gradient; both are 0 where there is no response at all.
    """
    direct = [found.direct] if found.direct != 0 else []
    alpha, beta = np.append(found.alpha, direct), np.append(found.beta, np.zeros(len(direct)))
    kind = ["mode"] * len(found.alpha) + ["direct"] * len(direct)
    magnitude = np.abs(beta)
    with np.errstate(divide="ignore"):
        timescale = np.where(magnitude > 0, -1 / np.log(magnitude), 0.0)
    # A mode with beta = 1 integrates without end; its gain is as large as rounding lets it be.
    standing = np.abs(alpha) / np.maximum(np.abs(1 - beta), np.finfo(float).eps)
    return pd.DataFrame(
        {
            "mode": np.arange(len(alpha)),
            "beta_real": beta.real,
            "beta_imag": beta.imag,
            "alpha_real": alpha.real,
            "alpha_imag": alpha.imag,
            "magnitude": magnitude,
            "timescale": timescale,
            "participation": _share(np.abs(alpha)),
            "gain": _share(standing),
            "kind": kind,
        }
    )


def _share(values: np.ndarray) -> np.ndarray:
    total = values.sum()
    return values / total if total > 0 else np.zeros_like(values)


def leading_mode(found: Modes) -> int:
    """Index of the mode with the largest gain |alpha / (1 - beta)|: the one that carries most of the update."""
    standing = np.abs(found.alpha) / np.maximum(np.abs(1 - found.beta), np.finfo(float).eps)
    return int(np.argmax(standing))


def modal_response(found: Modes, num_lags: int) -> Float[np.ndarray, " lag"]:
    """-sum_j Re(alpha_j beta_j^k), and the direct term at lag 0."""
    powers = found.beta[None, :] ** np.arange(num_lags)[:, None]
    response = -np.real(powers @ found.alpha)
    response[:1] -= found.direct
    return response


def linear_response(linearization: Linearization, num_lags: int) -> Float[np.ndarray, " lag"]:
    """C J^k B, and D at lag 0: the same as `modal_response`, without eigenvectors."""
    response, state = np.zeros(num_lags), linearization.input
    for lag in range(num_lags):
        response[lag] = linearization.readout @ state
        state = linearization.jacobian @ state
    response[:1] += linearization.direct
    return response


def impulse_memory(linearization: Linearization) -> float:
    """sum_{k >= 1} |r_k| / sum_{k >= 0} |r_k| of the impulse response r, over as many lags as it lasts.

    Summed over `LAGS` lags, and on in blocks of as many until what is left is below `REST` of the sum by the ratio of
    the last two blocks; beyond `BLOCKS` blocks that geometric rest is added. 0 without a response, 1 where it never
    ends.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # of a response that grows without end
        return _memory_share(linearization)


def _memory_share(linearization: Linearization) -> float:
    response, state = np.zeros(LAGS), linearization.input
    rows = np.zeros((LAGS, len(state)))
    row = linearization.readout
    for lag in range(LAGS):
        response[lag], rows[lag] = linearization.readout @ state, row
        state, row = linearization.jacobian @ state, row @ linearization.jacobian
    response[:1] += linearization.direct
    later, total = float(np.abs(response)[1:].sum()), float(np.abs(response).sum())
    if total == 0:
        return 0.0
    leap = np.linalg.matrix_power(linearization.jacobian, LAGS)
    before, block = total, float(np.abs(rows @ state).sum())
    for _ in range(BLOCKS):
        if not np.isfinite(total + block):
            return 1.0
        ratio = block / before if before > 0 else 0.0
        if block <= ROUNDING * total or block * ratio <= REST * total * max(1 - ratio, 0.0):
            return later / total
        later, total = later + block, total + block
        state = leap @ state
        before, block = block, float(np.abs(rows @ state).sum())
    rest = block / (1 - block / before) if block < before else np.inf
    return (later + rest) / (total + rest) if np.isfinite(rest) else 1.0


def impulse_response(
    optimizer: Optimizer,
    linearization: Linearization,
    *,
    num_lags: int = 50,
    pulse: float = 1e-4,
) -> pd.DataFrame:
    """The update's answer to one small gradient at rest: the true one, over `pulse`, and the linear ones.

    Columns: `lag`; `response`, of the optimizer itself, started at the point, less its update at rest; `linear`, from
    the matrices; `modes`, from the modes, which departs from `linear` only where J is (nearly) defective.
    """
    with double_precision():
        held = linearization.point[linearization.held]
        system = FreeSystem(to_double(optimizer), float(held[0]) if held.size else CLOCK)
        start = jnp.asarray(system.restrict(np.stack([linearization.point] * 2)))
        gradients = jnp.zeros((num_lags, 2)).at[0, 0].set(pulse) + linearization.gradient
        updates = np.asarray(_updates(system, start, gradients))
    return pd.DataFrame(
        {
            "lag": np.arange(num_lags),
            "response": (updates[:, 0] - updates[:, 1]) / pulse,
            "linear": linear_response(linearization, num_lags),
            "modes": modal_response(modes(linearization), num_lags),
        }
    )


@eqx.filter_jit
def _updates(system: FreeSystem, start: Array, gradients: Float[Array, "step row"]) -> Float[Array, "step row"]:
    return jax.lax.scan(lambda state, gradient: system.advance(state, gradient), start, gradients)[1]


def linearized_runs(
    optimizer: Optimizer,
    linearization: Linearization,
    task: Task,
    *,
    seed: int,
    num_steps: int,
    problems: int,
) -> LinearizedRuns:
    """Run the optimizer and its linearization (from rest) on the evaluation problems of `seed`.

    Of tasks with many parameters the first problems alone are run, so that all their parameters stay below
    `PARAMS`.
    """
    problems = min(problems, max(LEAST_PROBLEMS, PARAMS // task.num_params))
    linear = linearized_optimizer(linearization)
    names = {"learned": optimizer, "linearized": linear}
    curves: dict[str, np.ndarray] = {}
    for name, subject in names.items():
        run = eqx.filter_jit(lambda subject, batch: unroll(subject, task, batch, num_steps).losses)
        parts = [np.asarray(run(subject, batch)) for batch in problem_batches(task, seed=seed, count=problems)]
        losses = np.concatenate(parts, axis=1).astype(np.float64)
        relative = losses / losses[0]
        curves[name] = np.where(np.isnan(relative), np.inf, relative)
    steps = {"step": np.arange(num_steps)}
    rows = {"problem": np.arange(problems)}
    return LinearizedRuns(
        pd.DataFrame(steps | {name: curve.mean(axis=1) for name, curve in curves.items()}),
        pd.DataFrame(rows | {name: curve.mean(axis=0) for name, curve in curves.items()}),
    )
