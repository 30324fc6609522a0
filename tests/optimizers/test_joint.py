"""Optimizers with a context: averages over arrays, the slice of one parameter, STAR against its equations by hand."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reopt.core.errors import ReoptError
from reopt.dynamics.closed_loop import largest_stable_curvature
from reopt.dynamics.linearization import linearize
from reopt.optimizers import accumulators
from reopt.optimizers.accumulators import EPS, FEATURES, FLOOR, ROOT, TINY, features, in_units
from reopt.optimizers.hierarchical import create_hierarchical
from reopt.optimizers.joint import Inputs, Joint, Layout, State, layout_of, run_joint, slice_of
from reopt.optimizers.learned import cast
from reopt.optimizers.star import DECAYS, OUTPUTS, SCALE, STAR, TIMES, create_star
from reopt.optimizers.velo import OF_ARRAY, VeLO, create_velo
from reopt.systems.family import Family
from reopt.tasks.quadratic import Quadratic
from reopt.tasks.two_moons import TwoMoons
from reopt.training.evolution import unroll_joint

LAYOUT = Layout(((2, 3), (3,), (4, 2, 2)))
SIZE = 6 + 3 + 16


def test_averages_are_those_of_numpy() -> None:
    values = np.random.default_rng(0).normal(size=(5, SIZE))
    matrix, vector, kernel = values[:, :6].reshape(5, 2, 3), values[:, 6:9], values[:, 9:].reshape(5, 4, 2, 2)

    def joined(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        full = [
            np.broadcast_to(part, (5, *shape)).reshape(5, -1)
            for part, shape in zip((a, b, c), LAYOUT.shapes, strict=True)
        ]
        return np.concatenate(full, axis=1)

    with jax.enable_x64(True):
        arrays = joined(
            matrix.mean((1, 2), keepdims=True), vector.mean(1, keepdims=True), kernel.mean((1, 2, 3), keepdims=True)
        )
        np.testing.assert_allclose(LAYOUT.array_mean(jnp.asarray(values)), arrays, rtol=1e-12)
        # The two largest axes of (2, 3) are 0 and 1; of (4, 2, 2) the last axis of two, and 0.
        rows = joined(matrix.mean(1, keepdims=True), vector, kernel.mean(3, keepdims=True))
        np.testing.assert_allclose(LAYOUT.row_mean(jnp.asarray(values)), rows, rtol=1e-12)
        columns = joined(matrix.mean(2, keepdims=True), vector, kernel.mean(1, keepdims=True))
        np.testing.assert_allclose(LAYOUT.column_mean(jnp.asarray(values)), columns, rtol=1e-12)
    assert LAYOUT.row_size().tolist() == [2] * 6 + [1] * 3 + [2] * 16
    assert LAYOUT.column_size().tolist() == [3] * 6 + [1] * 3 + [4] * 16


def test_the_layout_is_that_of_the_task() -> None:
    assert layout_of(TwoMoons((4, 3), 64)).shapes == ((2, 4), (4,), (4, 3), (3,), (3, 1), (1,))
    assert layout_of(Quadratic(5)).shapes == ((5,),)
    assert layout_of(Family()).bounds[-1] == 105

    class Wrong(Quadratic):
        shapes = ((2, 2),)

    with pytest.raises(ReoptError, match="hold 4 numbers"):
        layout_of(Wrong(5))


def drawn(seed: int = 0, **settings: Any) -> STAR:
    """STAR with weights that do something; float64."""
    star = create_star(jax.random.key(seed), **{"weight_decay": 0.01, **settings})
    return cast(star, jnp.float64)  # type: ignore[arg-type,return-value]


def run(star: Joint, *, steps: int = 12, scale: float = 1.0, layout: Layout = LAYOUT) -> Any:
    """On two quadratics of curvature 0.1 to 1, everything kept."""
    rng = np.random.default_rng(1)
    shape = 2, int(layout.bounds[-1])
    curvature = jnp.asarray(rng.uniform(0.1, 1, size=shape))
    start = jnp.asarray(rng.normal(size=shape))

    def both(params: Any, step: Any) -> tuple[Any, Any]:
        del step
        return scale * 0.5 * jnp.sum(curvature * params**2, axis=1), scale * curvature * params

    return run_joint(star, layout, start, both, steps, keep=True)


@settings(max_examples=2, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(["adam", "adam_single", "momentum", "sgd", "none"]), st.booleans())
def test_a_slice_is_the_run_of_its_parameter(seed: int, nominal: str, preconditioned: bool) -> None:
    with jax.enable_x64(True):
        star = drawn(seed, nominal=nominal, preconditioned=preconditioned)
        kept = run(star)
        for step, problem, param in ((0, 0, 0), (5, 1, 7), (11, 0, 20), (11, 1, 3)):
            one = star.one(slice_of(kept.contexts, (step, problem, param)))
            state, update = one(kept.states.own[step, problem, param], kept.gradients[step, problem, param])
            assert float(update) == pytest.approx(float(kept.updates[step, problem, param]), rel=1e-9)
            if step + 1 < len(kept.losses):
                np.testing.assert_allclose(state, kept.states.own[step + 1, problem, param], rtol=1e-9)


@pytest.mark.parametrize("size", [1, *(pytest.param(it, marks=pytest.mark.long) for it in (2, 5))])
@pytest.mark.parametrize("make", ["star", pytest.param("velo", marks=pytest.mark.long)])
def test_the_slope_of_a_slice_is_that_of_the_run(make: str, size: int) -> None:
    """d update_i / d g_i of all parameters of a vector, in the step and through the state in the next one: of a vector
    of one the own feature is all of its scale, so that only `FLOOR` under the root lets it matter."""
    layout, slopes = Layout(((size,),)), []
    with jax.enable_x64(True):
        for seed in (4, 5):
            whole: Joint = drawn(seed) if make == "star" else velo(seed)
            kept = run(whole, steps=4, layout=layout)
            met = Inputs(kept.gradients[3], kept.params[3], kept.losses[3], jnp.asarray(3), 4)
            states = jax.tree.map(lambda leaf: leaf[3], kept.states)

            def moved(push: jax.Array, whole=whole, met=met, states=states) -> tuple[jax.Array, jax.Array]:
                pushed = met._replace(gradient=met.gradient.at[0, 0].add(push))
                after, updates, _ = eqx.filter_jit(whole.step)(layout, states, pushed)
                return after.own[0, 0], updates[0, 0]

            def alone(push: jax.Array, whole=whole, met=met, kept=kept, states=states) -> tuple[jax.Array, jax.Array]:
                one = whole.one(slice_of(kept.contexts, (3, 0, 0)))
                return one(states.own[0, 0], met.gradient[0, 0] + push)

            for ours, theirs in zip(jax.jacfwd(alone)(0.0), jax.jacfwd(moved)(0.0), strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-12)
            slopes.append(abs(float(theirs)))
    assert max(slopes) > 1e-9


def by_hand(star: STAR, gradients: np.ndarray, params: np.ndarray) -> np.ndarray:
    """Updates of a 2 x 3 matrix in plain numpy, from the equations of the module."""
    m, v = np.zeros((3, 2, 3)), np.zeros((2, 3))
    rows, columns = np.zeros((3, 2, 3)), np.zeros((3, 2, 3))
    decays = 1 - np.exp(SCALE * np.asarray(star.momentum_logs, float))[:, None, None]
    kept = 1 - np.exp(SCALE * float(star.second_log))
    out = []
    for step, (g, x) in enumerate(zip(gradients, params, strict=True)):
        m = decays * m + (1 - decays) * g
        v = kept * v + (1 - kept) * g**2
        rows = decays * rows + (1 - decays) * np.broadcast_to((g**2).mean(0, keepdims=True), g.shape)
        columns = decays * columns + (1 - decays) * np.broadcast_to((g**2).mean(1, keepdims=True), g.shape)
        root = np.sqrt(v + EPS)
        factored = 1 / np.sqrt(rows * columns / (rows.mean((1, 2), keepdims=True) + TINY) + TINY)
        made = [g, x, *m, v, *(m / root), 1 / root, *(g * factored), *rows, *columns]
        made += [*(1 / np.sqrt(rows + ROOT)), *(1 / np.sqrt(columns + ROOT)), *(m * factored)]
        assert len(made) == FEATURES
        normed = [one / np.sqrt(FLOOR + np.mean(one**2)) for one in made]
        time = [np.full((2, 3), np.tanh(step / tau - 1)) for tau in TIMES]
        z = np.stack([*normed, *time], axis=-1)
        weights = [np.asarray(one, float) for one in star.network.weights]
        biases = [np.asarray(one, float) for one in star.network.biases]
        for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            z = z @ weight + bias
            z = np.maximum(z, 0) if number + 1 < len(weights) else z
        d, magnitude, a, r = np.moveaxis(z, -1, 0)
        change = -star.step_scale * d * np.exp(star.exponent * magnitude) / root
        change -= star.nominal_scale * np.exp(star.exponent * a) * m.mean(0) / root
        out.append(change - star.weight_decay * np.exp(star.exponent * r) * x)
    return np.stack(out)


def test_star_follows_its_equations() -> None:
    rng = np.random.default_rng(2)
    gradients, params = rng.normal(size=(2, 6, 2, 3))
    layout = Layout(((2, 3),))
    with jax.enable_x64(True):
        star = drawn(3)
        state, found = star.start(layout, jnp.asarray(params[0].reshape(1, 6))), []
        for step, (g, x) in enumerate(zip(gradients, params, strict=True)):
            inputs = Inputs(
                jnp.asarray(g.reshape(1, 6)), jnp.asarray(x.reshape(1, 6)), jnp.ones(1), jnp.asarray(step), 6
            )
            state, updates, _ = eqx.filter_jit(star.step)(layout, state, inputs)
            found.append(np.asarray(updates).reshape(2, 3))
        np.testing.assert_allclose(np.stack(found), by_hand(star, gradients, params), rtol=1e-9)
    assert sum(leaf.size for leaf in jax.tree.leaves(star.network)) == 200
    assert sum(leaf.size for leaf in jax.tree.leaves(star)) == 207
    assert star.network.weights[0].shape == (FEATURES + len(TIMES), 4)
    assert star.network.weights[-1].shape[1] == OUTPUTS


def nominal_alone(**settings: Any) -> STAR:
    """The black box off and no learned magnitudes: what is left is planted."""
    star = drawn(0, step_scale=0.0, exponent=0.0, **settings)
    return star


def size(joint: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(joint))


def test_each_has_as_many_weights_as_its_structure() -> None:
    """STAR: (39 + 1) 4 + (4 + 1) 4 + (4 + 1) 4 = 200, and 7 decays. VeLO: two mixing layers, LSTM 4 x 16 (32 + 1), mix
    and rate, 8 sets of (30 + 1) 4 + (4 + 1) 4 + (4 + 1) 3, and the start of the LSTM."""
    assert size(create_star(jax.random.key(0))) == 207
    assert size(create_velo(jax.random.key(0))) == 4561
    assert size(create_hierarchical(jax.random.key(0))) == 4634


def test_decays_that_training_takes_below_zero_leave_averages_positive() -> None:
    with jax.enable_x64(True):
        star = eqx.tree_at(lambda one: one.factored_logs, drawn(), jnp.asarray([0.01, -0.1, -0.3]))
        assert float(star.decays.factored[0]) == 0
        found = run(star)
    assert np.isfinite(np.asarray(found.updates)).all()
    assert all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(found.contexts))


@pytest.mark.long
def test_the_factored_estimate_is_that_of_optax_also_of_kernels() -> None:
    """With a decay of 0 the averages are those of one gradient: g / sqrt(row column / mean)."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        for shape in ((3, 5), (3, 3, 4, 5)):
            gradient = jnp.asarray(rng.normal(size=shape))
            optax_one = optax.scale_by_factored_rms(min_dim_size_to_factor=2, decay_rate=0.0, epsilon=0.0)
            state = optax_one.init(gradient)
            wanted, _ = optax_one.update(gradient, state, gradient)
            layout = Layout((shape,))
            flat = gradient.reshape(1, -1)
            decays = accumulators.Decays(jnp.zeros(1), jnp.zeros(()), jnp.zeros(1))
            told = accumulators.sense(layout, accumulators.start(1, flat), flat, flat, decays)
            after = accumulators.accumulate(accumulators.start(1, flat), flat, told, decays)
            found = accumulators.features(after, flat, told)[..., 6]
            np.testing.assert_allclose(found.reshape(shape), wanted, rtol=1e-5)


def test_planted_gains_are_a_third_for_each_accumulator() -> None:
    """dx = -eta / sqrt(v) mean_i m_i: with v held, the answer to a gradient is a third of each decay's."""
    with jax.enable_x64(True):
        star = nominal_alone(nominal_scale=0.1)
        kept = run(star, steps=30)
        at = (29, 0, 4)
        one, point = star.one(slice_of(kept.contexts, at)), kept.states.own[at]
        found = linearize(one, np.asarray(point))
        root = np.sqrt(float(one.update(point, jnp.asarray(0.0))[3]) + EPS)
        decays = np.array(DECAYS)
        # What the first three components, the momenta, hand on to the update, over what the gradient hands to them.
        gains = -np.asarray(found.readout)[:3] * root / 0.1
        np.testing.assert_allclose(gains, 1 / 3, atol=1e-9)
        np.testing.assert_allclose(np.asarray(found.jacobian)[:3, :3], np.diag(decays), atol=1e-12)


def test_the_largest_stable_curvature_of_a_slice_is_that_of_its_accumulators() -> None:
    """With v held, dx = -k sum_i m_i / 3, k = eta / sqrt(v): at z = -1 the loop of x and the m_i is
    2 = lambda k sum_i (1 - beta_i) / (1 + beta_i) / 3."""
    with jax.enable_x64(True):
        star = nominal_alone(nominal_scale=0.1)
        kept = run(star, steps=3)
        one = star.one(slice_of(kept.contexts, (2, 0, 4)))
        state = np.zeros(10)
        state[3] = 0.04
        found = linearize(one, state)
        size = 0.1 / np.sqrt(float(one.update(jnp.asarray(state), jnp.asarray(0.0))[3]) + EPS)
        decays = np.array(DECAYS)
        edge = 2 / (size * np.mean((1 - decays) / (1 + decays)))
        assert largest_stable_curvature(found) == pytest.approx(edge, rel=1e-6)


def test_features_forget_the_scale_of_gradients_above_their_floor() -> None:
    """Divided by their root mean squares: of gradients ten times as large a feature is the same, to half of
    `FLOOR` over the smaller of its mean squares; squares and inverse roots are never all above the floor."""
    with jax.enable_x64(True):
        star = drawn(5, step_scale=0.0, nominal_scale=0.0, weight_decay=0.0)
        found = []
        for scale in (1e2, 1e3):
            kept = run(star, steps=8, scale=scale)
            at, own = slice_of(kept.contexts, (6, 0)).told, kept.states.own[7, 0]
            raw = np.asarray(features(own, kept.gradients[6, 0], at))
            square = np.asarray(at.rest_squares + at.share[:, None] * raw**2)[:6]  # of the matrix
            found.append((np.asarray(in_units(raw, at))[:6], square.min(axis=0)))
        (one, first), (other, second) = found
        bound = 0.5 * FLOOR / np.minimum(first, second) + 1e-6
        assert (np.abs(one - other).max(axis=0) <= bound * np.abs(one).max(axis=0)).all()
        assert (bound < 0.01).sum() >= 20, "most of them are above it"


def test_permuted_rows_have_permuted_updates() -> None:
    rng = np.random.default_rng(6)
    gradients, params = rng.normal(size=(2, 4, 3, 5))
    layout, order = Layout(((3, 5),)), [2, 0, 1]
    with jax.enable_x64(True):
        star = drawn(7)

        def updates(gradients: np.ndarray, params: np.ndarray) -> np.ndarray:
            state: State = star.start(layout, jnp.asarray(params[0].reshape(1, 15)))
            found = []
            for step, (g, x) in enumerate(zip(gradients, params, strict=True)):
                given = jnp.asarray(g.reshape(1, 15)), jnp.asarray(x.reshape(1, 15))
                state, change, _ = eqx.filter_jit(star.step)(
                    layout, state, Inputs(*given, jnp.ones(1), jnp.asarray(step), 4)
                )
                found.append(np.asarray(change).reshape(3, 5))
            return np.stack(found)

        mixed = updates(gradients[:, order], params[:, order])
        np.testing.assert_allclose(mixed, updates(gradients, params)[:, order], rtol=1e-9)


@pytest.mark.long
def test_it_runs_on_the_family_in_single_precision() -> None:
    task = Family()
    problems = task.sample_batch(jax.random.key(0), 4)
    found = unroll_joint(create_star(jax.random.key(1)), task, problems, 10)
    assert found.losses.shape == (10, 4)
    assert bool(jnp.isfinite(found.losses).all())
    assert found.losses.dtype == jnp.float32


def test_a_vectors_factored_estimate_is_its_own() -> None:
    """Of a matrix g sqrt(mean(row)) / sqrt(row column), of a vector g / sqrt(its own average)."""
    layout, rng = Layout(((2, 3), (4,))), np.random.default_rng(8)
    with jax.enable_x64(True):
        star = drawn(0)
        g, x = jnp.asarray(rng.normal(size=(2, 1, 10)))
        context, _ = star.sense(layout, star.start(layout, x), Inputs(g, x, jnp.ones(1), jnp.asarray(0), 4))
        state = star.one(context).update(star.start(layout, x).own, g)
        found = np.asarray(features(state, g, context.told))[0, :, 10:13]  # the gradient by the factored estimate
        average = (1 - np.array(DECAYS)) * np.asarray(g)[0, 6:, None] ** 2
        np.testing.assert_allclose(found[6:], np.asarray(g)[0, 6:, None] / np.sqrt(average + TINY), rtol=1e-6)
        square = np.asarray(g)[0, :6].reshape(2, 3) ** 2
        rows, columns = square.mean(0, keepdims=True), square.mean(1, keepdims=True)
        estimate = (rows * columns / square.mean()).reshape(6)[:, None] * (1 - np.array(DECAYS))
        np.testing.assert_allclose(found[:6], np.asarray(g)[0, :6, None] / np.sqrt(estimate + TINY), rtol=1e-5)


def velo(seed: int = 0, **settings: Any) -> VeLO:
    return cast(create_velo(jax.random.key(seed), **settings), jnp.float64)  # type: ignore[arg-type,return-value]


@settings(max_examples=2, deadline=None)
@given(st.integers(0, 1000))
def test_a_slice_of_velo_is_the_run_of_its_parameter(seed: int) -> None:
    with jax.enable_x64(True):
        optimizer = velo(seed)
        kept = run(optimizer)
        assert bool(jnp.isfinite(kept.updates).all())
        for at in ((0, 0, 0), (5, 1, 7), (11, 0, 20)):
            one = optimizer.one(slice_of(kept.contexts, at))
            state, update = one(kept.states.own[at], kept.gradients[at])
            assert float(update) == pytest.approx(float(kept.updates[at]), rel=1e-9)
            if at[0] + 1 < len(kept.losses):
                np.testing.assert_allclose(state, kept.states.own[at[0] + 1, at[1], at[2]], rtol=1e-9)


@pytest.mark.long
def test_arrays_that_are_alike_have_one_mixture_and_one_rate() -> None:
    """Two arrays with the same parameters and gradients are told the same: the largest over arrays is their own."""
    layout, rng = Layout(((2, 3), (2, 3))), np.random.default_rng(3)
    with jax.enable_x64(True):
        optimizer = velo(1)
        twice = [jnp.asarray(np.tile(rng.normal(size=(1, 6)), 2)) for _ in range(4)]
        both, one = optimizer.start(layout, twice[0]), optimizer.start(Layout(((2, 3),)), twice[0][:, :6])
        for step, gradient in enumerate(twice[1:]):
            loss, at = jnp.asarray([1.0 / (step + 1)]), jnp.asarray(step)
            both, update, context = eqx.filter_jit(optimizer.step)(
                layout, both, Inputs(gradient, twice[0], loss, at, 9)
            )
            given = gradient[:, :6], twice[0][:, :6]
            one, alone, _ = eqx.filter_jit(optimizer.step)(Layout(((2, 3),)), one, Inputs(*given, loss, at, 9))
            np.testing.assert_allclose(update[:, :6], update[:, 6:], rtol=1e-12)
            np.testing.assert_allclose(update[:, :6], alone, rtol=1e-9)
            np.testing.assert_allclose(context.mixture[:, 0], context.mixture[:, 6], rtol=1e-12)


def test_without_input_weights_velo_has_no_schedule_and_no_feedback() -> None:
    """Rate and mixture are then what the LSTM's biases say, whatever the time, loss and gradients."""
    with jax.enable_x64(True):
        optimizer = velo(2)
        blind = jax.tree.map(jnp.zeros_like, (optimizer.own_mix, optimizer.other_mix))
        gates = optimizer.gates.__class__(jnp.zeros_like(optimizer.gates.weight), optimizer.gates.bias)
        start = optimizer.initial_hidden, optimizer.initial_cell
        optimizer = VeLO(*blind, gates, optimizer.control, optimizer.rate, optimizer.bank, *start)
        one, other = run(optimizer, steps=6), run(optimizer, steps=6, scale=100.0)
        np.testing.assert_allclose(one.contexts.rate, other.contexts.rate, rtol=1e-12)
        assert float(jnp.ptp(one.contexts.rate)) < 1e-12


@pytest.mark.long
def test_the_step_of_velo_follows_the_size_of_its_array() -> None:
    """Parameters and gradients as of a network that uses rho times them: the step over the parameters is the same."""
    with jax.enable_x64(True):
        optimizer, layout = velo(3), Layout(((3, 4),))
        g, x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 1, 12)))

        def ratio(rho: float) -> np.ndarray:
            one = optimizer.start(layout, x)
            _, update, _ = eqx.filter_jit(optimizer.step)(
                layout, one, Inputs(g, rho * x, jnp.ones(1), jnp.asarray(0), 9)
            )
            return np.asarray(update / rho)

        np.testing.assert_allclose(np.abs(ratio(10.0)).mean(), np.abs(ratio(100.0)).mean(), rtol=0.05)
    assert OF_ARRAY == 30
    assert accumulators.FEATURES + 2 == 30


@pytest.mark.long
@settings(max_examples=2, deadline=None)
@given(st.integers(0, 1000))
def test_a_slice_of_the_hierarchical_optimizer_is_the_run_of_its_parameter(seed: int) -> None:
    with jax.enable_x64(True):
        optimizer: Any = cast(create_hierarchical(jax.random.key(seed)), jnp.float64)  # type: ignore[arg-type]
        kept = run(optimizer)
        assert bool(jnp.isfinite(kept.updates).all())
        for at in ((0, 0, 0), (5, 1, 7), (11, 0, 20)):
            one = optimizer.one(slice_of(kept.contexts, at))
            state, update = one(kept.states.own[at], kept.gradients[at])
            assert float(update) == pytest.approx(float(kept.updates[at]), rel=1e-9)
            if at[0] + 1 < len(kept.losses):
                np.testing.assert_allclose(state, kept.states.own[at[0] + 1, at[1], at[2]], rtol=1e-9)


@pytest.mark.long
def test_gradients_are_cut_at_ten_times_their_running_size() -> None:
    """Of gradients of size 1, then one of 1e6: it counts as 10 times the mean of their sizes, which are all 1."""
    layout = Layout(((2, 2),))
    with jax.enable_x64(True):
        optimizer: Any = cast(create_hierarchical(jax.random.key(0)), jnp.float64)  # type: ignore[arg-type]
        params = jnp.ones((1, 4))
        state = optimizer.start(layout, params)
        for step, size in enumerate((1.0, 1.0, 1.0, 1e6)):
            given = Inputs(jnp.full((1, 4), size), params, jnp.ones(1), jnp.asarray(step), 9)
            state, _, context = eqx.filter_jit(optimizer.step)(layout, state, given)
        np.testing.assert_allclose(context.cut, 10.0, rtol=1e-6)
        np.testing.assert_allclose(state.own[0, 0, 0], 0.5 * 10 + 0.5 * (1 - 0.5**3), rtol=1e-6)
