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

from reopt.dynamics.free_system import CLOCK, FreeSystem
from reopt.dynamics.linearization import Linearization, linearized_optimizer
from reopt.dynamics.precision import double_precision, to_double
from reopt.optimizers.base import Optimizer
from reopt.tasks.base import Task
from reopt.training.evaluate import problem_batches
from reopt.training.unroll import unroll

PARAMS = 2**16
LEAST_PROBLEMS = 64


class Modes(NamedTuple):
    """Momentum buffers by falling |beta|; `condition` is the condition number of the eigenvectors.

    A large condition number (beyond 1e8, say) means that J is defective or nearly so: single alphas are then large and
    cancel, and only their sum, the impulse response, means anything.
    """

    alpha: Complex[np.ndarray, " mode"]
    beta: Complex[np.ndarray, " mode"]
    right: Complex[np.ndarray, "hidden mode"]  # r_j, of unit length
    direct: Float[np.ndarray, ""]  # alpha of the direct term, -D
    condition: Float[np.ndarray, ""]


class LinearizedRuns(NamedTuple):
    """The optimizer and its linearization on the same problems."""

    curves: pd.DataFrame  # step, learned, linearized: mean over problems of loss / initial loss
    problems: pd.DataFrame  # problem, learned, linearized: meta-objectives; inf where a run diverged


def modes(linearization: Linearization) -> Modes:
    """The momentum buffers of a linearization. A held clock has none."""
    size = len(linearization.point)
    free = np.setdiff1d(np.arange(size), linearization.held)
    jacobian = linearization.jacobian[np.ix_(free, free)]
    beta, vectors = (part.astype(np.complex128) for part in np.linalg.eig(jacobian))
    if free.size:
        singular = np.linalg.svd(vectors, compute_uv=False)
        condition = singular[0] / singular[-1] if singular[-1] > 0 else np.inf
        # Least squares, for the eigenvectors of a defective J do not span the space.
        drive = np.linalg.lstsq(vectors, linearization.input[free].astype(complex), rcond=None)[0]
    else:
        condition, drive = 1.0, np.zeros(0, complex)
    alpha = -(linearization.readout[free] @ vectors) * drive
    order = np.lexsort((-beta.imag, -beta.real, -np.abs(beta).round(12)))
    right = np.zeros((size, len(free)), complex)
    right[free] = vectors
    return Modes(alpha[order], beta[order], right[:, order], np.asarray(-linearization.direct), np.asarray(condition))


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
