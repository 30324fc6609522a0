"""Optimizers to optax and back."""

import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pandas as pd
import pytest

from reopt.core.errors import ReoptError
from reopt.evaluation.evaluate_optax import unroll_optax
from reopt.optimizers.base import Optimizer
from reopt.optimizers.classical import Adam, Momentum, RMSProp
from reopt.optimizers.learned import create_learned
from reopt.optimizers.optax_bridge import NotComponentWise, as_optax, from_optax
from reopt.optimizers.optax_walk import walk
from reopt.tasks.quadratic import Quadratic

SCHEDULE = optax.exponential_decay(0.1, 7, 0.5)
ACCEPTED = {
    "sgd": optax.sgd(0.1),
    "nesterov": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "scheduled": optax.sgd(SCHEDULE, momentum=0.5),
    "adam": optax.adam(0.1, b1=0.8, b2=0.95),
    "adam, scheduled": optax.adam(SCHEDULE),  # counts steps twice
    "rmsprop": optax.rmsprop(0.1, decay=0.8, centered=True, momentum=0.7),
    "lion": optax.lion(0.1, weight_decay=0.0),
    "sign_sgd": optax.sign_sgd(0.1),
    "adagrad": optax.adagrad(0.1),
    "clipped element by element": optax.chain(optax.clip(0.2), optax.adam(0.1)),
    "no weight decay": optax.adamw(0.1, weight_decay=0.0),
    "accumulated": optax.MultiSteps(optax.sgd(0.1), 3),
    "injected": optax.inject_hyperparams(optax.adam)(learning_rate=0.1),
}
REFUSED = {
    "global norm": (
        optax.chain(optax.clip_by_global_norm(1e4), optax.sgd(0.1)),
        r"couples parameters: the gradient of vector\[0\] changes the update of vector\[1\]",
    ),
    "lamb": (optax.lamb(0.1), "acts by how parameters are divided into arrays"),
    "block": (optax.chain(optax.clip_by_block_rms(1.0), optax.sgd(0.1)), "acts by how parameters are divided"),
    "rows of matrices": (optax.centralize(), "acts by the shape of arrays: as a matrix in place of a vector"),
    "through the parameters": (optax.contrib.prodigy(), "couples parameters"),
    "weight decay": (optax.adamw(0.1), "depend on the values of the parameters .* set the decay to 0"),
    "by shape": (
        optax.masked(optax.sgd(0.1), lambda params: jax.tree.map(lambda leaf: leaf.ndim < 2, params)),
        "acts by the shape of arrays: as a matrix in place of a vector",
    ),
    "randomness": (optax.noisy_sgd(0.1, key=0), "random key '0.rng_key'"),
    "after many steps": (
        optax.MultiSteps(optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)), 40),
        "every parameter influences every other",
    ),
    "large matrices": (
        optax.scale_by_factored_rms(min_dim_size_to_factor=40),
        "acts by the shape of arrays: in an array of 4096 numbers in place of smaller ones",
    ),
    "no scalars": (optax.sm3(0.1), "acts by the shape of arrays"),
    "one place": (
        optax.stateless(lambda g, p: jax.tree.map(lambda x: x.at[..., :1].mul(2.0) if x.ndim else x, g)),
        "acts by|otherwise than a lone scalar",
    ),
    "penalty": (optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1, momentum=0.9)), "not by a decoupled"),
    "nonnegative": (optax.keep_params_nonnegative(), "not by a decoupled"),
    "other tree": (
        optax.GradientTransformation(lambda params: (), lambda g, s, p=None: (jnp.zeros(7), s)),
        r"updates unlike its gradients: \(7,\) for \(24,\)",
    ),
    "other shapes": (
        optax.GradientTransformation(lambda params: (), lambda g, s, p=None: (jax.tree.map(lambda x: x[None], g), s)),
        r"updates unlike its gradients: \(1, 24\) for \(24,\)",
    ),
    "needs the loss": (optax.lbfgs(), "its update asks for value, grad, value_fn"),
    "no transformation": (0.1, "0.1 is no optax transformation"),
}


def tree_gradients(num_steps: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Gradients of a pytree, stacked over steps, with zeros among them."""
    rng = np.random.default_rng(seed)
    gradients = {"w": rng.normal(size=(num_steps, 3, 2)), "b": {"c": rng.normal(size=(num_steps,))}}
    gradients["w"][:4, 0] = 0
    gradients["w"][:, 1, 1] *= 1e3
    return gradients


def run_optax(transformation: optax.GradientTransformation, gradients: dict) -> dict:
    """The updates of an optax transformation, stacked over steps."""

    def step(state, gradient):
        update, state = transformation.update(gradient, state, params)
        return state, update

    params = jax.tree.map(lambda g: jnp.ones(g.shape[1:], g.dtype), gradients)
    return jax.lax.scan(step, transformation.init(params), gradients)[1]


def run_ours(optimizer: Optimizer, gradients: jax.Array) -> jax.Array:
    start = optimizer.initial_states(gradients.shape[1:]).astype(gradients.dtype)
    return jax.lax.scan(lambda h, g: optimizer(h, g), start, gradients)[1]


ALIKE = ("sgd", "scheduled", "lion", "sign_sgd", "adagrad", "no weight decay")  # as others, or parts of them


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if name in ALIKE else name for name in ACCEPTED]
)
def test_from_optax_equals_optax_itself(name: str):
    with jax.enable_x64(True):
        gradients = jax.tree.map(jnp.asarray, tree_gradients(20))
        optimizer = from_optax(ACCEPTED[name])
        expected = run_optax(ACCEPTED[name], gradients)
        own = run_ours(optimizer, jnp.concatenate([g.reshape(20, -1) for g in jax.tree.leaves(gradients)], axis=1))
        assert own.dtype == jnp.float64
        expected = np.concatenate([np.reshape(leaf, (20, -1)) for leaf in jax.tree.leaves(expected)], axis=1)
        np.testing.assert_allclose(own, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", REFUSED)
def test_from_optax_refuses(name: str):
    transformation, sentence = REFUSED[name]
    with pytest.raises(ReoptError, match=sentence) as caught:
        from_optax(transformation)
    assert "\n" not in str(caught.value)


def test_states_hold_moments_then_clock_then_update():
    adam = from_optax(ACCEPTED["adam, scheduled"])
    assert adam.state_names == ("0.mu", "0.nu", "step", "update")
    assert adam.clock == 2
    gradients = jnp.tile(jnp.asarray([2.0, -1.0]), (3, 1))
    state, updates = jax.lax.scan(lambda h, g: adam(h, g), adam.initial_states((2,)), gradients)
    np.testing.assert_allclose(state[:, 0], (1 - 0.9**3) * np.asarray([2.0, -1.0]), rtol=1e-5)
    np.testing.assert_array_equal(state[:, 2], 3)
    np.testing.assert_array_equal(state[:, 3], updates[-1])
    assert from_optax(optax.sgd(0.1)).state_names == ("update",)
    assert from_optax(optax.sgd(0.1)).clock is None
    # A hyperparameter that is only passed on is no part of the dynamics; one with a schedule is.
    assert from_optax(ACCEPTED["injected"]).state_size == 4
    scheduled = from_optax(optax.inject_hyperparams(optax.sgd)(learning_rate=SCHEDULE))
    assert scheduled.state_names == ("hyperparams.learning_rate", "step", "update")
    assert from_optax(optax.adagrad(0.1, initial_accumulator_value=0.3)).initial_state().tolist() == [
        np.float32(0.3),
        0,
    ]


def test_momentum_from_optax_is_linear_with_the_modes_of_momentum():
    """h' = J h + B g with the eigenvalue beta, and the impulse response -lr beta^k of the update."""
    optimizer = from_optax(optax.sgd(0.2, momentum=0.9, nesterov=True))
    state, gradient = optimizer.initial_state(), jnp.zeros(())
    jacobian = jax.jacobian(optimizer.update)(state, gradient)
    np.testing.assert_allclose(sorted(np.linalg.eigvals(jacobian)), [0, 0.9], atol=1e-6)
    impulse = jnp.zeros(6).at[0].set(1.0)
    response = run_ours(optimizer, impulse)
    np.testing.assert_allclose(response, -0.2 * np.asarray([1.9, *(0.9 ** np.arange(2, 7))]), rtol=1e-5)


@pytest.mark.parametrize(
    ("ours", "twin"),
    [
        (Adam(0.1, 0.8, 0.95), optax.adam(0.1, 0.8, 0.95)),
        (RMSProp(0.1, 0.9, 1e-6), optax.rmsprop(0.1, 0.9, 1e-6)),
        (Momentum(0.1, 0.9), optax.sgd(0.1, 0.9)),
    ],
)
def test_as_optax_equals_the_twin_on_a_pytree(ours: Optimizer, twin: optax.GradientTransformation):
    gradients = jax.tree.map(lambda g: jnp.asarray(g, jnp.float32), tree_gradients(20))
    own, expected = run_optax(as_optax(ours), gradients), run_optax(twin, gradients)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7), own, expected)


@pytest.mark.long
def test_there_and_back():
    gradients = jnp.asarray(np.random.default_rng(3).normal(size=(20, 4)), jnp.float32)
    ours = Adam(0.1, 0.8, 0.95)
    np.testing.assert_allclose(
        run_ours(from_optax(as_optax(ours)), gradients), run_ours(ours, gradients), rtol=1e-5, atol=1e-7
    )
    yogi = optax.yogi(0.1)
    np.testing.assert_allclose(
        run_optax(as_optax(from_optax(yogi)), gradients), run_optax(yogi, gradients), rtol=1e-5, atol=1e-7
    )


def test_as_optax_keeps_the_type_of_each_leaf_and_fits_a_chain():
    transformation = optax.chain(optax.clip(1.0), as_optax(Adam(0.1)))
    params = {"half": jnp.ones((2, 3), jnp.bfloat16), "none": None, "single": jnp.ones(())}
    gradients = jax.tree.map(lambda leaf: leaf * 3, params)
    state = transformation.init(params)
    assert state[1]["half"].dtype == jnp.float32  # a count in bfloat16 would stop at 256
    assert state[1]["half"].shape == (2, 3, 3)
    updates, new = jax.jit(transformation.update)(gradients, state, params)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), new) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), state
    )
    moved = optax.apply_updates(params, updates)
    assert moved["half"].dtype == jnp.bfloat16
    np.testing.assert_allclose(moved["single"], 0.9, rtol=1e-5)


def test_as_optax_is_differentiable():
    """The loss after a few steps against the optimizer's weights, as meta-training by others would have it."""
    optimizer = create_learned(jax.random.key(0), cell="vanilla", units=3)

    @jax.jit
    @jax.grad
    def meta_gradient(optimizer: Optimizer) -> jax.Array:
        transformation = as_optax(optimizer)
        params = {"x": jnp.asarray([1.0, -2.0])}
        state = transformation.init(params)
        for _ in range(3):
            updates, state = transformation.update(jax.tree.map(lambda x: 2 * x, params), state)
            params = optax.apply_updates(params, updates)
        return jnp.sum(jnp.square(params["x"]))

    gradient = meta_gradient(optimizer)
    # A bias b moves each parameter by 3 b in all: d/db sum (x + 3 b)^2 = 6 sum x.
    np.testing.assert_allclose(gradient.readout_bias, 6 * (1.0 - 2.0), rtol=1e-5)
    assert np.all(np.abs(gradient.readout_weight) > 0)


@pytest.mark.parametrize(
    ("transformation", "without", "share"),
    [
        (optax.adamw(0.1, weight_decay=0.03), optax.adam(0.1), 0.003),
        (optax.lion(0.02, weight_decay=0.5), optax.lion(0.02, weight_decay=0.0), 0.01),
        (optax.chain(optax.sgd(0.3), optax.add_decayed_weights(-0.02)), optax.sgd(0.3), 0.02),
    ],
)
def test_decoupled_weight_decay_is_taken_off_and_said(transformation, without, share):
    optimizer = from_optax(transformation, decay=True)
    np.testing.assert_allclose(optimizer.weight_decay, share, rtol=1e-6)
    (caveat,) = optimizer.caveats
    assert f"{share:.6g}" in caveat
    gradients = jnp.asarray(np.random.default_rng(2).normal(size=(20, 4)), jnp.float32)
    np.testing.assert_allclose(run_ours(optimizer, gradients), run_ours(from_optax(without), gradients), rtol=1e-5)


def test_what_follows_the_displacement_of_its_parameter_is_exact():
    """Schedule-free averaging from any start: its updates depend on the values, but not on where they began."""
    transformation = optax.contrib.schedule_free_sgd(0.3)
    optimizer = from_optax(transformation)
    assert "displacement" in optimizer.state_names
    assert optimizer.caveats == ()
    gradients = jnp.asarray(np.random.default_rng(4).normal(size=(20, 3)), jnp.float32)
    params = jnp.asarray([5.0, -1.0, 0.3])
    state, updates = transformation.init(params), []
    for gradient in gradients:
        update, state = transformation.update(gradient, state, params)
        params = optax.apply_updates(params, update)
        updates.append(update)
    np.testing.assert_allclose(run_ours(optimizer, gradients), np.stack(updates), rtol=1e-4, atol=1e-5)


def test_coupled_is_the_optimizer_of_a_lone_scalar():
    optimizer = from_optax(optax.chain(optax.clip_by_global_norm(0.7), optax.sgd(0.5)), coupled=True)
    found = run_ours(optimizer, jnp.asarray([[0.1, -3.0, 0.7, 2.0]]))[0]
    np.testing.assert_allclose(found, -0.5 * np.array([0.1, -0.7, 0.7, 0.7]), rtol=1e-6)
    (caveat,) = optimizer.caveats
    assert "Conditional" in caveat
    assert "every parameter influences every other" in caveat
    norms = optax.stateless(lambda g, p: optax.tree.scale(-0.01 * optax.tree.norm(p) / optax.tree.norm(g), g))
    trusting = from_optax(norms, coupled=True)
    assert trusting.held == 1.0  # its values matter: 0.01 |x| / |g| at x = 1
    np.testing.assert_allclose(run_ours(trusting, jnp.asarray([[2.0, -5.0]]))[0], [-0.01, 0.01], rtol=1e-5)


def test_coupling_and_decay_are_both_said():
    both = optax.chain(optax.clip_by_global_norm(0.7), optax.adamw(0.1, weight_decay=0.03))
    with pytest.raises(NotComponentWise, match="set the decay to 0"):
        from_optax(both, coupled=True)
    optimizer = from_optax(both, coupled=True, decay=True)
    np.testing.assert_allclose(optimizer.weight_decay, 0.003, rtol=1e-6)
    decay, coupling = optimizer.caveats
    assert "takes 0.003 of the parameter's value away" in decay
    assert "every parameter influences every other). All readings are those of a problem with one scalar" in coupling
    assert "of value 0" in coupling
    alone = from_optax(optax.chain(optax.clip(0.7), optax.adam(0.1)))  # the norm of a lone scalar is its size
    gradients = jnp.asarray(np.random.default_rng(2).normal(size=(20, 4)), jnp.float32)
    np.testing.assert_allclose(run_ours(optimizer, gradients), run_ours(alone, gradients), rtol=1e-5)


@pytest.mark.long
def test_coupling_and_displacement_go_together():
    averaged = optax.contrib.schedule_free_sgd(0.3)
    optimizer = from_optax(optax.chain(optax.clip_by_global_norm(0.7), averaged), coupled=True)
    assert optimizer.displaced
    assert "with one scalar parameter: no other" in optimizer.caveats[0]
    gradients = jnp.asarray(np.random.default_rng(4).normal(size=(20, 3)), jnp.float32)
    alone = from_optax(optax.chain(optax.clip(0.7), averaged))
    np.testing.assert_allclose(run_ours(optimizer, gradients), run_ours(alone, gradients), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("transformation", [optax.clip_by_global_norm(0.5), optax.add_decayed_weights(0.2)])
def test_true_runs_of_what_couples_or_decays(transformation):
    """Gradient descent with the global norm clipped, or with decay, beside plain arithmetic."""
    chain = optax.chain(transformation, optax.scale(-0.4))
    task = Quadratic()
    problems = jax.jit(lambda key: task.sample_batch(key, 2))(jax.random.key(0))
    slope = jax.jit(jax.vmap(jax.grad(lambda x, p: task.loss(p, x, 0))))
    run = unroll_optax(chain, task, problems, 5)
    params = np.asarray(jax.vmap(task.initial_params)(problems), np.float64)
    for _ in range(5):
        gradient = np.asarray(slope(jnp.asarray(params), problems))
        if "clip" in transformation.update.__qualname__:
            gradient = gradient * np.minimum(1, 0.5 / np.linalg.norm(gradient, axis=1, keepdims=True))
        else:
            gradient = gradient + 0.2 * params
        params = params - 0.4 * gradient
    expected = [
        float(task.loss(jax.tree.map(lambda leaf, i=i: leaf[i], problems), jnp.asarray(params[i]), 0)) for i in range(2)
    ]
    np.testing.assert_allclose(run.final_loss, expected, rtol=1e-4)


KINDS = {
    "couples parameters": "clip_by_global_norm normalize_by_update_norm contrib.dog contrib.prodigy contrib.mechanize",
    "acts by how parameters are divided into arrays": "lamb lars fromage novograd adafactor clip_by_block_rms",
    "acts by the shape of arrays": "sm3 adaptive_grad_clip centralize scale_by_factored_rms contrib.muon",
    "needs more than gradients": "lbfgs polyak_sgd contrib.momo contrib.reduce_on_plateau lookahead",
    "looks at parameter values": "keep_params_nonnegative",
    "draws random numbers": "noisy_sgd add_noise contrib.dpsgd contrib.sophia",
    "component-wise": "adam adamw lion adagrad rprop yogi contrib.ademamix contrib.schedule_free_sgd MultiSteps",
}


def test_the_table_in_the_docs_lists_the_installed_optax():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = [name for name, _ in walk()]
    table = pd.read_csv("docs/optax.csv")
    assert list(table["name"]) == names
    kinds = table.set_index("name")["kind"]
    for kind, members in KINDS.items():
        assert {kinds[f"optax.{name}"] for name in members.split()} == {kind}
    unexamined = table["note"].str.startswith("not examined", na=False)
    assert set(table.loc[unexamined, "name"]) == {"optax.snapshot"}  # its state starts without a value
    examined = (table["kind"] == "component-wise") & ~unexamined
    verdicts = table.loc[examined, ["momentum", "clipping", "schedule", "adaptation"]]
    assert verdicts.isin(["present", "absent", "undetermined"]).all(axis=None)
    page = Path("docs/optax.md").read_text()
    assert all(f"| `{name}` | {kinds[name]} |" in page for name in names)


def test_the_transformation_is_run_in_python_once_for_all_programs():
    """What is derived, batched or put into a loop of the same step is made from one trace, and is the same."""
    calls = []
    inner = optax.adam(1e-2)

    def update(updates, state, params=None):
        calls.append(1)
        return inner.update(updates, state, params)

    optimizer = from_optax(optax.GradientTransformation(inner.init, update))
    states, gradients = np.random.default_rng(0).uniform(0.5, 1, (3, optimizer.state_size)), jnp.ones(3)
    states = jnp.asarray(states).at[:, optimizer.clock].set(3.0)
    optimizer.update(states[0], gradients[0])
    calls.clear()
    slopes = jax.jit(jax.vmap(jax.jacfwd(optimizer.update)))(states, gradients)
    back = jax.vmap(jax.grad(lambda h, g: optimizer(h, g)[1]))(states, gradients)
    after = jax.jit(optimizer.update)(states, gradients)
    assert not calls
    mean, square, count, _ = (float(part) for part in states[0])
    assert slopes[0, 0, 0] == pytest.approx(0.9)  # the mean forgets by beta1
    assert after[0, 1] == pytest.approx(0.999 * square + 0.001)
    corrected = (0.9 * mean + 0.1) / (1 - 0.9 ** (count + 1)), after[0, 1] / (1 - 0.999 ** (count + 1))
    assert after[0, -1] == pytest.approx(-1e-2 * corrected[0] / (float(corrected[1]) ** 0.5 + 1e-8), rel=1e-4)
    assert back[0, 0] == pytest.approx(-1e-2 * 0.9 / (1 - 0.9 ** (count + 1)) / float(corrected[1]) ** 0.5, rel=1e-4)
