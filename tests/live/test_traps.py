"""What would give wrong numbers: first steps, frozen elements, coupled ones, accumulation, low precision."""

from typing import Any

import chains
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from chains import known_gradients, readings, reasons, values

import reopt


def test_the_first_step_of_adam_has_no_derivative_to_speak_of() -> None:
    gradients = known_gradients(steps=1)
    table = readings(optax.adam(0.01), gradients=gradients)
    for quantity in ("learning_rate", "clipped", "adaptation"):
        assert "sign of the gradient" in reasons(table, quantity)[0]
    g = gradients["a"].ravel()
    np.testing.assert_allclose(values(table, "secant_rate"), 0.01 * np.abs(g).sum() / (g @ g), rtol=1e-5)
    np.testing.assert_allclose(values(table, "saturation"), 1, atol=1e-4)


def test_a_sign_is_no_clip() -> None:
    table = readings(optax.lion(0.01, weight_decay=0.1))
    for quantity in ("learning_rate", "clipped", "adaptation"):
        assert all("sign of the gradient" in reason for reason in reasons(table, quantity))
    np.testing.assert_allclose(values(table, "memory"), 1, rtol=1e-6)  # without a gradient it goes on at full size


def frozen_where(mask: Any) -> optax.GradientTransformation:
    """Updates of 0 at some elements of each array."""
    return optax.stateless(lambda updates, params: jax.tree.map(lambda u, m: jnp.where(m, 0, u), updates, mask))


def test_frozen_elements_take_no_part() -> None:
    mask = {name: np.arange(np.prod(shape)).reshape(shape) % 3 == 0 for name, shape in chains.SHAPES.items()}
    chain = optax.chain(optax.clip(0.3), optax.adam(0.01), frozen_where(mask), optax.add_decayed_weights(-0.01))
    gradients = known_gradients()
    table = readings(chain, gradients=gradients, first=1)
    steps = table["step"].unique()
    assert set(table[table["group"] == "a"]["elements"]) == {28}
    counted = [(np.abs(gradients["a"][step][~mask["a"]]) > 0.3).mean() for step in steps]
    np.testing.assert_allclose(values(table, "clipped"), counted, rtol=1e-6)
    moving = {name: g[:, ~mask[name]] for name, g in gradients.items()}
    alone = readings(
        optax.chain(optax.clip(0.3), optax.adam(0.01)),
        gradients=moving,
        params={name: p[~mask[name]] for name, p in chains.start().items()},
        first=1,
    )
    for quantity in ("learning_rate", "secant_rate", "memory", "adaptation"):
        np.testing.assert_allclose(values(table, quantity), values(alone, quantity), rtol=2e-4)


def test_groups_of_a_multi_transform_are_read_each_by_its_own() -> None:
    chain = optax.multi_transform({"slow": optax.sgd(0.01), "none": optax.set_to_zero()}, {"a": "slow", "b": "none"})
    table = readings(chain)
    np.testing.assert_allclose(values(table, "learning_rate"), 0.01, rtol=1e-6)
    for quantity in table["quantity"].unique():
        assert all("frozen" in reason for reason in reasons(table, quantity, "b"))


@pytest.mark.long
def test_a_tap_inside_masked_parts_sees_its_own_arrays_alone() -> None:
    parts = {"one": reopt.tap(optax.sgd(0.01), 20), "two": reopt.tap(optax.sgd(0.1, momentum=0.5), 20)}
    chain = optax.multi_transform(parts, {"a": "one", "b": "two"})
    params, state = chains.start(), None
    state = chain.init(params)
    for step in range(3):
        _, state = chain.update(jax.tree.map(lambda g, i=step: jnp.asarray(g[i]), known_gradients(3)), state, params)
    table = reopt.tap_table(state)
    assert set(table["group"]) == {"a", "b"}
    np.testing.assert_allclose(values(table, "learning_rate", "a"), 0.01, rtol=1e-6)
    np.testing.assert_allclose(values(table, "memory", "b"), 0.5, rtol=1e-6)


@pytest.mark.parametrize("clipped", [True, False])
def test_a_global_norm_couples_and_its_rate_is_the_secant(clipped: bool) -> None:
    gradients = known_gradients()
    limit = 1.0 if clipped else 1e3
    table = readings(optax.chain(optax.clip_by_global_norm(limit), optax.sgd(0.1, momentum=0.9)), gradients=gradients)
    norms = [np.sqrt(sum(np.sum(g[step] ** 2) for g in gradients.values())) for step in range(0, chains.STEPS, 20)]
    np.testing.assert_allclose(values(table, "secant_rate"), 0.1 * np.minimum(1, limit / np.array(norms)), rtol=1e-5)
    np.testing.assert_allclose(values(table, "memory"), 0.9, rtol=1e-5)
    np.testing.assert_allclose(values(table, "saturation"), float(clipped), atol=1e-4)
    if clipped:
        for quantity in ("learning_rate", "clipped", "adaptation"):
            assert all("coupled" in reason for reason in reasons(table, quantity))
    else:
        np.testing.assert_allclose(values(table, "learning_rate"), 0.1, rtol=1e-6)


def test_norms_of_arrays_are_coupled_too() -> None:
    table = readings(optax.lamb(0.01), first=20)
    assert all("coupled" in reason for reason in reasons(table, "learning_rate"))
    assert all("otherwise than by weight decay" in reason for reason in reasons(table, "memory"))


@pytest.mark.long
def test_accumulated_gradients_are_not_read_from_outside_but_from_inside() -> None:
    inside, outside = chains.STEPS // 4, chains.STEPS
    table = readings(optax.MultiSteps(optax.sgd(0.1, momentum=0.9), 4), every=4)
    for quantity in ("learning_rate", "secant_rate", "memory", "clipped"):
        assert all("accumulated" in reason for reason in reasons(table, quantity))
    table = readings(optax.MultiSteps(optax.sgd(0.1, momentum=0.9), 4), every=4, first=3)
    np.testing.assert_allclose(values(table, "learning_rate"), 0.1 / 4, rtol=1e-6)  # of each of the four
    assert all("accumulated" in reason for reason in reasons(table, "memory"))
    assert table["step"].max() < outside

    chain = optax.MultiSteps(reopt.tap(optax.sgd(0.1, momentum=0.9), every=5, samples=None), 4)
    params = chains.start()

    def step(state: Any, gradient: Any) -> tuple[Any, None]:
        return chain.update(gradient, state, params)[1], None

    state, _ = jax.lax.scan(step, chain.init(params), jax.tree.map(jnp.asarray, known_gradients()))
    table = reopt.tap_table(state)
    assert table["step"].unique().tolist() == list(range(0, inside, 5))
    np.testing.assert_allclose(values(table, "learning_rate"), 0.1, rtol=1e-6)
    np.testing.assert_allclose(values(table, "memory"), 0.9, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_in_half_precision_a_reading_is_right_to_its_digits_or_not_given(dtype: Any) -> None:
    params = chains.start(dtype)
    table = readings(optax.chain(optax.clip(0.3), optax.sgd(0.05, momentum=0.9)), params=params)
    np.testing.assert_allclose(values(table, "learning_rate"), 0.05, rtol=0.01)
    np.testing.assert_allclose(values(table, "memory"), 0.9, rtol=0.01)
    gradients = np.asarray(known_gradients()["a"], dtype)
    counted = [(np.abs(gradients[step]) > dtype(0.3)).mean() for step in range(0, chains.STEPS, 20)]
    np.testing.assert_allclose(values(table, "clipped"), counted, atol=1 / 42 + 1e-6)  # one may lie on the threshold
    secant = values(table, "secant_rate")
    assert np.all(np.isnan(secant) | (secant < 0.055))


def test_a_gradient_lost_in_rounding_is_not_read() -> None:
    gradients = {name: np.stack([g[0], 1e-8 * g[1]]) for name, g in known_gradients(2).items()}
    table = readings(optax.sgd(0.1, momentum=0.9), gradients=gradients, every=1)
    assert reasons(table, "secant_rate") == ["", "the gradient's part of the update is lost in rounding"]
    np.testing.assert_allclose(values(table, "learning_rate"), 0.1, rtol=1e-6)


def test_gradients_that_are_not_finite_are_no_reading() -> None:
    gradients = known_gradients(3)
    gradients["a"][1, 0, 0] = np.nan
    table = readings(optax.sgd(0.1), gradients=gradients, every=1)
    assert reasons(table, "learning_rate") == ["", "a gradient or an update is not finite", ""]
    assert reasons(table, "learning_rate", "b") == ["", "", ""]


@pytest.mark.long
def test_arrays_without_gradient() -> None:
    gradients = {name: 0 * g for name, g in known_gradients(2).items()}
    plain = readings(optax.sgd(0.1), gradients=gradients, every=1)
    np.testing.assert_allclose(values(plain, "learning_rate"), 0.1, rtol=1e-6)
    assert set(reasons(plain, "secant_rate")) == {"all gradients are 0"}
    adam = readings(optax.adam(0.1), gradients=gradients, every=1)
    assert set(reasons(adam, "adaptation")) <= {"too few elements, or their gradients are all of one size"}
    assert set(reasons(adam, "secant_rate")) == {"all gradients are 0"}


def test_states_with_parameters_or_keys_have_no_memory_to_read() -> None:
    free = readings(optax.contrib.schedule_free_sgd(0.1), every=50)
    assert all("copies of parameters" in reason for reason in reasons(free, "memory"))
    noisy = readings(optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(0)), optax.sgd(0.1)), every=50)
    assert all("random key" in reason for reason in reasons(noisy, "memory"))
    np.testing.assert_allclose(values(noisy, "learning_rate"), 0.1, rtol=1e-6)


def test_a_transformation_without_a_derivative_still_has_a_secant() -> None:
    @jax.custom_vjp
    def opaque(x: jax.Array) -> jax.Array:
        return -0.1 * x

    opaque.defvjp(lambda x: (opaque(x), None), lambda _, c: (-0.1 * c,))
    table = readings(optax.stateless(lambda updates, _: jax.tree.map(opaque, updates)))
    assert all("no derivative" in reason for reason in reasons(table, "learning_rate"))
    np.testing.assert_allclose(values(table, "secant_rate"), 0.1, rtol=1e-6)


def test_small_groups_have_no_slope() -> None:
    table = readings(optax.sgd(0.1))
    assert all("too few" in reason for reason in reasons(table, "adaptation", "b"))
