"""Logistic regression on scikit-learn's breast cancer data; a problem is an initialisation, and minibatches.

    f(w, b) = mean_i [log(1 + exp(z_i)) - y_i z_i],   z = X w + b

The 30 features are standardized over all 569 tumours; each step sees `batch` of them.
"""

import functools
import hashlib
from typing import Annotated, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from pydantic import Field

from reopt.core.schema import Section
from reopt.tasks.base import Task
from reopt.tasks.subsets import random_subset

TUMOURS, FEATURES = 569, 30


class Settings(Section):
    """The task's block in the config."""

    batch: Annotated[int, Field(ge=1, le=TUMOURS, description="tumours a step sees; 569 is all of them")]
    start: Annotated[float, Field(gt=0, le=10, description="standard deviation of the initial weights")]


@functools.cache
def tumours() -> tuple[Float[np.ndarray, "tumour feature"], Int[np.ndarray, " tumour"]]:
    """Standardized features, and whether each tumour is benign."""
    from sklearn.datasets import load_breast_cancer

    features, benign = load_breast_cancer(return_X_y=True)
    return ((features - features.mean(axis=0)) / features.std(axis=0)).astype(np.float32), benign


@functools.cache
def _arrays() -> tuple[Float[Array, "tumour feature"], Float[Array, " tumour"]]:
    with jax.ensure_compile_time_eval():
        features, benign = tumours()
        return jnp.asarray(features), jnp.asarray(benign, jnp.float32)


class LogisticProblem(NamedTuple):
    """A starting point and the key of the minibatches."""

    start: Float[Array, " param"]
    minibatches: PRNGKeyArray


class Logistic(Task):
    """Thirty weights and a bias."""

    batch: int = eqx.field(static=True, default=TUMOURS)
    start: float = eqx.field(static=True, default=1.0)

    @property
    def num_params(self) -> int:
        return FEATURES + 1

    def sample(self, key: Array) -> LogisticProblem:
        key_start, key_minibatches = jax.random.split(key)
        return LogisticProblem(self.start * jax.random.normal(key_start, (self.num_params,)), key_minibatches)

    def initial_params(self, problem: LogisticProblem) -> Array:
        return problem.start

    def loss(self, problem: LogisticProblem, params: Array, step: Array) -> Array:
        features, benign = _arrays()
        if self.batch < TUMOURS:
            seen = random_subset(jax.random.fold_in(problem.minibatches, step), TUMOURS, self.batch)
            features, benign = features[seen], benign[seen]
        logit = jnp.sum(features.astype(params.dtype) * params[:-1], axis=1) + params[-1]
        return jnp.mean(jax.nn.softplus(logit) - benign.astype(params.dtype) * logit)

    def accuracy(self, problem: LogisticProblem, params: Array) -> Array:
        """Share of all tumours that are named right; none are held out."""
        del problem
        features, benign = _arrays()
        return jnp.mean((jnp.sum(features * params[:-1], axis=1) + params[-1] > 0) == (benign > 0))

    def provenance(self) -> dict[str, str]:
        """Digest (sha256) of features and labels."""
        features, benign = tumours()
        return {"data": hashlib.sha256(features.tobytes() + benign.astype("u1").tobytes()).hexdigest()}


def create(settings: Settings) -> Logistic:
    """The task as its block in the config says."""
    return Logistic(settings.batch, settings.start)
