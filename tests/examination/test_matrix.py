"""Optimizers of matrices: what each acts by, Muon's map and momentum against closed forms, planted preconditioners."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest

import reopt
from reopt.cli import app as cli
from reopt.core.errors import ReoptError
from reopt.examination.matrix import ELEMENT, FILES, PLACE, RANDOM, SPECTRAL, TENSOR, UNTOLD, read_matrix


class _Factors(NamedTuple):
    left: Any
    right: Any


def shampoo(rate: float = 0.1, eps: float = 1e-30) -> optax.GradientTransformation:
    """Gupta, Koren and Singer 2018, algorithm 1: L^(-1/4) G R^(-1/4), of the sums of G G^T and G^T G."""

    def init(params: Any) -> Any:
        return jax.tree.map(lambda one: _Factors(eps * jnp.eye(one.shape[0]), eps * jnp.eye(one.shape[1])), params)

    def power(matrix: Any) -> Any:
        values, vectors = jnp.linalg.eigh(matrix)
        kept = values > 1e-12 * values[-1]  # of a gradient of less than full rank
        return (vectors * jnp.where(kept, jnp.where(kept, values, 1.0) ** -0.25, 0.0)) @ vectors.T

    def update(gradients: Any, state: Any, params: Any = None) -> Any:
        del params
        gradient, kept = gradients["weight"], state["weight"]
        kept = _Factors(kept.left + gradient @ gradient.T, kept.right + gradient.T @ gradient)
        return {"weight": -rate * power(kept.left) @ gradient @ power(kept.right)}, {"weight": kept}

    return optax.GradientTransformation(init, update)


def soap(rate: float = 0.1, b2: float = 0.9) -> optax.GradientTransformation:
    """Adam without a first moment in the eigenvectors of the averages of G G^T and G^T G (Vyas et al. 2024)."""

    def init(params: Any) -> Any:
        rows, columns = params["weight"].shape
        return jnp.zeros((rows, rows)), jnp.zeros((columns, columns)), jnp.zeros((rows, columns))

    def update(gradients: Any, state: Any, params: Any = None) -> Any:
        del params
        gradient = gradients["weight"]
        left = b2 * state[0] + (1 - b2) * gradient @ gradient.T
        right = b2 * state[1] + (1 - b2) * gradient.T @ gradient
        u, v = jnp.linalg.eigh(left)[1], jnp.linalg.eigh(right)[1]
        turned = u.T @ gradient @ v
        second = b2 * state[2] + (1 - b2) * turned**2
        return {"weight": -rate * u @ (turned / (jnp.sqrt(second) + 1e-6)) @ v.T}, (left, right, second)

    return optax.GradientTransformation(init, update)


def by_place() -> optax.GradientTransformation:
    """Rates that differ from row to row."""

    def update(gradients: Any, state: Any, params: Any = None) -> Any:
        del params
        return jax.tree.map(lambda g: -0.1 * jnp.arange(1.0, 1 + len(g))[:, None] * g, gradients), state

    return optax.GradientTransformation(lambda params: (), update)


def by_chance() -> optax.GradientTransformation:
    drawn = np.random.default_rng(0)

    def update(gradients: Any, state: Any, params: Any = None) -> Any:
        del params
        noise = jax.pure_callback(lambda: drawn.normal(size=()), jax.ShapeDtypeStruct((), float))
        return jax.tree.map(lambda g: -0.1 * g + noise, gradients), state

    return optax.GradientTransformation(lambda params: (), update)


RULES = {
    "sgd": (optax.sgd(0.1), ELEMENT),
    "heavy ball": (optax.sgd(0.1, momentum=0.9), ELEMENT),
    "nesterov": (optax.sgd(0.1, momentum=0.9, nesterov=True), ELEMENT),
    "clip": (optax.chain(optax.clip(0.5), optax.sgd(0.1)), ELEMENT),
    "adam": (optax.adam(0.1), ELEMENT),
    "adamw": (optax.adamw(0.1), ELEMENT),
    "lion": (optax.lion(0.1), ELEMENT),
    "rmsprop": (optax.rmsprop(0.1), ELEMENT),
    "global norm": (optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.1)), SPECTRAL),
    "normalized": (optax.chain(optax.contrib.normalize(), optax.sgd(0.1)), SPECTRAL),
    "muon": (optax.contrib.muon(0.1), SPECTRAL),
    "shampoo": (shampoo(), SPECTRAL),
    "soap": (soap(), SPECTRAL),
    "lamb": (optax.lamb(0.1), TENSOR),
    "adafactor": (optax.adafactor(0.1, min_dim_size_to_factor=2), TENSOR),
    "sm3": (optax.sm3(0.1), TENSOR),
    "clip by block": (optax.chain(optax.clip(0.1), optax.clip_by_block_rms(0.05)), TENSOR),
    "rows": (by_place(), PLACE),
    "chance": (by_chance(), RANDOM),
    "noise": (optax.chain(optax.add_noise(0.1, 0.5, 0), optax.sgd(0.1)), RANDOM),
    "muon, every eighth step": (optax.MultiSteps(optax.contrib.muon(0.1), 8), SPECTRAL),
    "muon in bfloat16": (optax.contrib.muon(0.1, mu_dtype=jnp.bfloat16), UNTOLD),
    "sgd in bfloat16": (optax.sgd(0.1, momentum=0.9, accumulator_dtype=jnp.bfloat16), ELEMENT),
    "muon in float32": (optax.contrib.muon(0.1, mu_dtype=jnp.float32), SPECTRAL),
}


ALIKE = ("nesterov", "heavy ball", "clip", "adamw", "rmsprop", "normalized", "sm3", "muon in float32", "shampoo")


@pytest.mark.parametrize(("shape", "seed"), [((3, 5), 4), pytest.param((8, 6), 0, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if name in ALIKE else name for name in RULES]
)
def test_what_a_rule_acts_by_is_told_from_symmetries(name: str, shape: tuple[int, int], seed: int) -> None:
    rule, acts = RULES[name]
    found = read_matrix(rule, shape, name=name, seed=seed)
    assert found.acts == acts, found.symmetry
    assert found.acts in found.sentences()[0]


@pytest.mark.parametrize("steps", [5, 2])
def test_muons_map_is_the_scalar_newton_schulz_iteration(steps: int) -> None:
    """x <- 3.4445 x - 4.775 x^3 + 2.0315 x^5, `steps` times, on s / |s|: what Nesterov adds to the first
    gradient the norm takes away again."""
    found = read_matrix(optax.contrib.muon(0.02, ns_steps=steps), (8, 6)).spectral_map
    one = found[found["scale"] == 1.0]
    value = one["singular_in"].to_numpy()
    value = value / (np.linalg.norm(value) + 1e-8)  # its eps
    for _ in range(steps):
        value = 3.4445 * value - 4.775 * value**3 + 2.0315 * value**5
    np.testing.assert_allclose(one["singular_out"], 0.02 * value, rtol=1e-8)
    assert one["beside"].max() < 1e-12
    assert read_matrix(optax.contrib.muon(0.02)).scale_free


@pytest.mark.parametrize("beta", [0.95, 0.8])
@pytest.mark.parametrize("nesterov", [True, False])
def test_muons_momentum_is_read_behind_its_map(beta: float, nesterov: bool) -> None:
    """Nesterov: beta of the average, and 1 - beta of the gradient: 1 - beta^2 at once, then (1 - beta) beta^(lag + 1).
    Without: (1 - beta) beta^lag."""
    found = read_matrix(optax.contrib.muon(0.02, beta=beta, nesterov=nesterov)).momentum
    assert found.beta == pytest.approx(beta, abs=1e-8)
    first = 1 - beta**2 if nesterov else 1 - beta
    assert found.memory == pytest.approx(1 - first, abs=1e-7)
    assert found.direct == pytest.approx(1 - beta if nesterov else 0.0, abs=1e-7)
    lags = np.arange(1, len(found.response))
    truth = np.concatenate([[first], (1 - beta) * beta ** (lags + nesterov)])
    np.testing.assert_allclose(found.response, truth / truth.sum(), atol=1e-8)


def newton_schulz(value: np.ndarray) -> np.ndarray:
    value = value / (np.linalg.norm(value) + 1e-8)
    for _ in range(5):
        value = 3.4445 * value - 4.775 * value**3 + 2.0315 * value**5
    return value


def test_the_map_is_that_of_the_first_update_that_moves_and_has_no_decay_in_it() -> None:
    """A warm-up gives nothing at step 0 and 0.02 / 100 at step 1; a decay acts on parameters, which are 0."""
    sizes = np.geomspace(1.0, 1e-5, 3)
    for rule, rate in (
        (optax.contrib.muon(optax.linear_schedule(0.0, 0.02, 100)), 2e-4),
        (optax.contrib.muon(0.02, weight_decay=0.1), 0.02),
    ):
        found = read_matrix(rule, (4, 3))
        one = found.spectral_map[found.spectral_map["scale"] == 1.0]
        np.testing.assert_allclose(one["singular_out"], rate * newton_schulz(sizes), rtol=1e-5)
        assert found.by_value == (rate == 0.02)


def behind_a_norm(*before: optax.GradientTransformation) -> optax.GradientTransformation:
    return optax.chain(*before, optax.contrib.normalize(), optax.sgd(0.1))


def test_memory_that_is_no_exponential_is_read_too() -> None:
    """Optimistic: 1.5 of the gradient, -0.5 of the last. A mean of two: a half each. Two averages of 0.9 and 0.99,
    a half each: 0.5 (0.1 + 0.01) at once, the rest later."""
    optimistic = read_matrix(behind_a_norm(optax.scale_by_optimistic_gradient(1.0, 0.5)), (4, 3)).momentum
    assert (optimistic.memory, optimistic.whole) == (pytest.approx(-0.5, abs=1e-8), True)
    assert np.isnan(optimistic.beta)

    def of_two() -> optax.GradientTransformation:
        def update(g: Any, last: Any, params: Any = None) -> Any:
            return jax.tree.map(lambda a, b: (a + b) / 2, g, last), g

        return optax.GradientTransformation(lambda params: jax.tree.map(jnp.zeros_like, params), update)

    mean = read_matrix(behind_a_norm(of_two()), (4, 3)).momentum
    assert mean.memory == pytest.approx(0.5, abs=1e-8)

    def two_averages() -> optax.GradientTransformation:
        def update(g: Any, kept: Any, params: Any = None) -> Any:
            averaged = zip((0.9, 0.99), kept, strict=True)
            kept = [jax.tree.map(lambda m, one, b=b: b * m + (1 - b) * one, m, g) for b, m in averaged]
            return jax.tree.map(lambda a, b: (a + b) / 2, *kept), kept

        return optax.GradientTransformation(lambda params: [jax.tree.map(jnp.zeros_like, params)] * 2, update)

    both = read_matrix(behind_a_norm(two_averages()), (4, 3)).momentum
    assert both.whole
    assert both.memory == pytest.approx(1 - 0.055, abs=1e-4)


def test_a_norm_has_no_memory_and_a_clip_counts_the_size() -> None:
    found = read_matrix(RULES["global norm"][0])
    assert not found.scale_free
    assert found.momentum.memory == pytest.approx(0.0, abs=1e-8)
    table = found.spectral_map
    small = table[table["scale"] == 1e-3]
    np.testing.assert_allclose(small["singular_out"], 1e-4 * small["singular_in"], rtol=1e-9)


def test_planted_shampoo_makes_all_singular_values_one() -> None:
    """(s^2)^(-1/4) s (s^2)^(-1/4) = 1 at the first step, whatever s."""
    table = read_matrix(shampoo(0.3), (6, 6)).spectral_map
    reached = table[table["singular_in"] > 1e-4]
    np.testing.assert_allclose(reached["singular_out"], 0.3, rtol=1e-5)


def test_what_is_not_read_says_why() -> None:
    with pytest.raises(ReoptError, match="acts by element: a spectral map is read of what acts by singular values"):
        _ = read_matrix(optax.adam(0.1)).spectral_map
    with pytest.raises(ReoptError, match="moves the matrix at 0 of 512 steps: nothing can be told"):
        read_matrix(optax.set_to_zero())
    with pytest.raises(ReoptError, match="not finite"):
        read_matrix(optax.chain(optax.sgd(0.1), optax.scale(float("nan"))))
    with pytest.raises(ReoptError, match="two at least"):
        read_matrix(optax.adam(0.1), (1, 6))
    with pytest.raises(ReoptError, match="no optax transformation"):
        read_matrix(3)
    with pytest.raises(ReoptError, match="takes no step on a matrix 8 x 6"):
        read_matrix(optax.GradientTransformation(lambda params: (), lambda g, s, p: 1 / 0))
    assert "momentum is not read" in read_matrix(shampoo(0.3)).sentences()[-1]


def test_the_command_writes_tables_and_a_figure(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setattr("sys.argv", ["reopt", "matrix", "optax:contrib.muon(0.02)", "--shape", "4", "6", "--out", "m"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    said = capsys.readouterr().out
    assert "on a matrix 4 x 6 it acts by singular values" in said
    assert "from lag to lag 0.95" in said
    assert {path.name for path in (tmp_path / "m").iterdir()} == {*FILES, "matrix.svg", "matrix.png"}
    assert len(pd.read_csv(tmp_path / "m/spectral_map.csv")) == 12
    assert "acts by singular values" in repr(reopt.read_matrix(optax.contrib.muon(0.02)))
