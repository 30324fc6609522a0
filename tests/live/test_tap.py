"""The tap around a transformation: same bits, log, groups, what is refused, and what it costs by compiled counts."""

import functools
import re
from typing import Any

import chains
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from chains import known_gradients
from hypothesis import given, settings
from hypothesis import strategies as st

import reopt
from reopt.live.tap import _slot

FULLY_OPTIMISED = {  # whatever the environment of the tests is
    "xla_backend_optimization_level": 3,
    "xla_llvm_disable_expensive_passes": False,
    "xla_cpu_use_fusion_emitters": True,
    "xla_cpu_parallel_codegen_split_count": 32,
}

CHAINS = {
    "descent": lambda: optax.sgd(optax.cosine_decay_schedule(0.1, 20)),
    "heavy ball": lambda: optax.sgd(0.05, momentum=0.9, nesterov=True),
    "adamw": lambda: optax.adamw(1e-2, weight_decay=0.1),
    "clips": lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.clip(0.3), optax.adam(1e-2)),
    "lamb": lambda: optax.lamb(1e-2),
    "accumulated": lambda: optax.MultiSteps(optax.adam(1e-2), 3).gradient_transformation(),
    "parts": lambda: optax.multi_transform(
        {"matrix": optax.adafactor(1e-2), "rest": optax.lion(1e-3)},
        lambda tree: jax.tree.map(lambda leaf: "matrix" if leaf.ndim == 2 else "rest", tree),
    ),
    "noise": lambda: optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(0)), optax.sgd(0.1)),
    "plateau": lambda: optax.chain(optax.adam(1e-2), optax.contrib.reduce_on_plateau(patience=2)),  # takes the loss
}
PARAMS = {
    "matrix": jnp.linspace(-1, 1, 35).reshape(5, 7),
    "scalar": jnp.ones(()),
    "brain": [jnp.linspace(-1, 1, 12, dtype=jnp.bfloat16).reshape(3, 2, 2), jnp.ones((1, 4), jnp.bfloat16)],
    "half": (jnp.linspace(-1, 1, 24, dtype=jnp.float16).reshape(4, 6),),
}
STEPS = 20


def bits(tree: Any) -> list[bytes]:
    def plain(leaf: Any) -> np.ndarray:
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    return [plain(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def gradients_and_losses() -> tuple[Any, jax.Array]:
    generator = np.random.default_rng(0)
    given = jax.tree.map(lambda leaf: jnp.asarray(generator.normal(size=(STEPS, *leaf.shape)), leaf.dtype), PARAMS)
    return given, jnp.asarray(generator.exponential(size=STEPS), jnp.float32)


def in_one_precision(tree: Any, chain: str) -> Any:
    """Without float16 for what asks for the lowest precision of all parameters, which bfloat16 beside it has not."""
    return {name: part for name, part in tree.items() if name != "half"} if chain == "plateau" else tree


def advance(optimizer: Any, carry: Any, given: Any) -> Any:
    params, state = carry
    gradients, value = given
    # Given ones are cut out of a longer array; those of a network are an array already.
    gradients = jax.lax.optimization_barrier(gradients)
    updates, state = optax.with_extra_args_support(optimizer).update(gradients, state, params, value=value)
    return (optax.apply_updates(params, updates), state), updates


@pytest.mark.long
@pytest.mark.parametrize("chain", CHAINS)
def test_the_same_bits_with_and_without(chain: str) -> None:
    """Parameters, updates and inner state of twenty steps, in a scan that is compiled as a user's is."""

    def scanned(optimizer: Any) -> Any:
        def whole(params: Any, given: Any) -> Any:
            return jax.lax.scan(lambda *args: advance(optimizer, *args), (params, optimizer.init(params)), given)

        gradients, losses = gradients_and_losses()
        arguments = in_one_precision(PARAMS, chain), (in_one_precision(gradients, chain), losses)
        return jax.jit(whole).lower(*arguments).compile(compiler_options=FULLY_OPTIMISED)(*arguments)

    (bare, state), updates = scanned(CHAINS[chain]())
    (tapped, tapped_state), tapped_updates = scanned(reopt.tap(CHAINS[chain](), every=7))
    assert reopt.tap_table(tapped_state)["step"].unique().tolist() == [0, 7, 14]
    assert bits(tapped) == bits(bare)
    assert bits(tapped_updates) == bits(updates)
    assert bits(tapped_state.inner) == bits(state)
    assert jax.tree.structure(tapped_state.inner) == jax.tree.structure(state)


@pytest.mark.long
@pytest.mark.parametrize("chain", ["clips", "plateau"])
def test_the_same_bits_a_step_at_a_time(chain: str) -> None:
    bare, tapped = CHAINS[chain](), reopt.tap(CHAINS[chain](), every=2)
    params = in_one_precision(PARAMS, chain)
    gradients, losses = gradients_and_losses()
    every = in_one_precision(gradients, chain), losses
    one, other = (params, bare.init(params)), (params, tapped.init(params))
    compiled = [
        jax.jit(lambda *args, o=optimizer: advance(o, *args)[0], compiler_options=FULLY_OPTIMISED)
        for optimizer in (bare, tapped)
    ]
    for step in range(5):
        given = jax.tree.map(lambda leaf, step=step: leaf[step], every)
        one, other = compiled[0](one, given), compiled[1](other, given)
    assert bits(one) == bits((other[0], other[1].inner))


@pytest.mark.long
@pytest.mark.parametrize("chain", ["adamw", "clips", "heavy ball"])
def test_a_network_learns_the_same_bits(chain: str) -> None:
    """An MLP of three layers, its gradients a program of their own, trained for fifty steps with and without a tap.

    In one program the compiler is free to add up the gradients themselves in another order, which no optimizer sees.
    """
    descend = jax.jit(jax.grad(mean_loss), compiler_options=FULLY_OPTIMISED)

    def trained(optimizer: Any) -> Any:
        @functools.partial(jax.jit, compiler_options=FULLY_OPTIMISED)
        def step(gradients: Any, params: Any, state: Any) -> Any:
            updates, state = optimizer.update(gradients, state, params)
            return optax.apply_updates(params, updates), state

        params, images, targets = network()
        state = optimizer.init(params)
        for index in range(50):
            shifted = jnp.sin(images + jnp.arange(64) * index)
            params, state = step(descend(params, shifted, (targets + index) % 10), params, state)
        return params, state

    params, state = trained(CHAINS[chain]())
    tapped, tapped_state = trained(reopt.tap(CHAINS[chain](), every=10))
    assert bits(tapped) == bits(params)
    assert bits(tapped_state.inner) == bits(state)


@settings(max_examples=60, deadline=None)
@given(every=st.integers(1, 7), first=st.integers(0, 9), half=st.integers(1, 5), number=st.integers(1, 300))
def test_the_log_covers_the_whole_run_evenly(every: int, first: int, half: int, number: int) -> None:
    rows = 2 * half
    steps, interval = np.full(rows, -1), every
    slots = jax.jit(_slot)
    for step in range(first, first + number):
        if (step - first) % interval == 0:
            slot, after = slots(jnp.asarray(steps - first), jnp.asarray(interval))
            steps[int(slot)], interval = step, int(after)
    kept = set(steps[steps >= 0].tolist())
    assert set(range(first, first + number, interval)) <= kept
    assert all((step - first) % every == 0 for step in kept)
    assert interval == every or len(kept) == rows
    assert interval < max(every, 4 * number / rows + every)


def test_a_full_log_drops_every_second_row() -> None:
    table = reopt.tap_table(chains.run(optax.sgd(0.1), known_gradients(), every=1, rows=8)[1])
    assert len(table["step"].unique()) == 8
    assert {0, 16, 32, 48, 64, 80, 96} <= set(table["step"])


def test_arrays_are_joined_to_groups_by_their_path() -> None:
    table = reopt.tap_table(chains.run(optax.sgd(0.1), known_gradients(), group=lambda path: "all")[1])
    assert set(table["group"]) == {"all"}
    assert set(table["elements"]) == {47}
    mlp = eqx.filter(eqx.nn.MLP(2, 3, 4, 1, key=jax.random.key(0)), eqx.is_inexact_array)
    state = reopt.tap(optax.sgd(0.1)).init(mlp)
    assert state.groups == ("layers/0/weight", "layers/0/bias", "layers/1/weight", "layers/1/bias")


@pytest.mark.parametrize("shape", [(64, 48), (3000,), (16, 16, 12)])
def test_a_sample_stands_for_the_whole(shape: tuple[int, ...]) -> None:
    """Columns of different gradients are all met; the share clipped is near that of a full count."""
    gradient = np.random.default_rng(0).normal(size=(1, *shape)) * np.linspace(0.1, 1, shape[-1])
    params = {"a": jnp.zeros(shape)}
    table = reopt.tap_table(
        chains.run(optax.chain(optax.clip(0.3), optax.sgd(0.1)), {"a": gradient}, params, samples=1024)[1]
    )
    share, (elements,) = chains.values(table, "clipped"), table["elements"].unique()
    whole = (np.abs(gradient) > 0.3).mean()
    assert 600 <= elements <= 1024
    assert abs(share - whole) < 4 * np.sqrt(whole * (1 - whole) / elements)


@pytest.mark.long
def test_runs_side_by_side_are_read_one_by_one() -> None:
    optimizer = reopt.tap(optax.sgd(0.1, momentum=0.9), every=1)
    params = jnp.ones((3, 9))
    states = jax.vmap(optimizer.init)(params)
    _, states = jax.vmap(optimizer.update)(jnp.cos(params), states, params)
    with pytest.raises(reopt.ReoptError, match="many runs"):
        reopt.tap_table(states)
    table = reopt.tap_table(jax.tree.map(lambda leaf: leaf[1], states))
    np.testing.assert_allclose(chains.values(table, "learning_rate", "parameters"), 0.1, rtol=1e-6)


def test_optax_finds_its_way_in_the_state() -> None:
    """Tools of optax that walk states take a tapped one for what it is."""
    optimizer = reopt.tap(optax.inject_hyperparams(optax.adam)(learning_rate=0.1))
    params = {"a": jnp.ones(3)}
    state = optimizer.init(params)
    assert optax.tree.get(state, "learning_rate") == np.float32(0.1)
    slower = optax.tree.set(state, learning_rate=jnp.asarray(0.01))
    np.testing.assert_allclose(optimizer.update({"a": jnp.ones(3)}, slower)[0]["a"], -0.01, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"every": 0}, "every must be a whole number of at least 1, not 0"),
        ({"every": 2.5}, "every must be a whole number"),
        ({"rows": 3}, "rows must be even"),
        ({"samples": 0}, "samples must be"),
        ({"first": -1}, "first must be"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(reopt.ReoptError, match=words):
        reopt.tap(optax.sgd(0.1), **arguments)


def test_what_is_no_optimizer_no_group_or_no_tap_is_refused() -> None:
    with pytest.raises(reopt.ReoptError, match="no optax transformation"):
        reopt.tap(0.1)
    with pytest.raises(reopt.ReoptError, match=r"group\('a'\) is 3"):
        reopt.tap(optax.sgd(0.1), group=lambda path: 3).init({"a": jnp.ones(2)})
    with pytest.raises(reopt.ReoptError, match=r"wrap the transformation in reopt\.tap"):
        reopt.tap_table(optax.sgd(0.1).init(jnp.ones(2)))
    optimizer = reopt.tap(optax.sgd(0.1))
    with pytest.raises(reopt.ReoptError, match="the gradients have the groups"):
        optimizer.update({"b": jnp.ones(2)}, optimizer.init({"a": jnp.ones(2)}))


# What it costs, by the compiled programs.

WIDTH, BATCH, EVERY = 256, 128, 50


def network() -> tuple[Any, jax.Array, jax.Array]:
    """Parameters of an MLP of about 84,000, images and targets."""
    params = eqx.filter(eqx.nn.MLP(64, 10, WIDTH, 2, key=jax.random.key(0)), eqx.is_inexact_array)
    return params, jnp.ones((BATCH, 64)), jnp.zeros(BATCH, int)


def mean_loss(params: Any, images: jax.Array, targets: jax.Array) -> jax.Array:
    """Cross-entropy of the MLP."""
    _, static = eqx.partition(eqx.nn.MLP(64, 10, WIDTH, 2, key=jax.random.key(0)), eqx.is_inexact_array)
    logits = jax.vmap(eqx.combine(params, static))(images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()


def training_step(optimizer: Any) -> tuple[Any, Any]:
    """One step of that MLP, and its arguments."""
    params, images, targets = network()

    def step(params: Any, state: Any, images: jax.Array, targets: jax.Array) -> Any:
        updates, state = optimizer.update(jax.grad(mean_loss)(params, images, targets), state, params)
        return optax.apply_updates(params, updates), state

    return step, (params, optimizer.init(params), images, targets)


def computations(text: str) -> dict[str, list[str]]:
    """The computations of a compiled program by name, a line an instruction; the first one is "ENTRY"."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if head := re.match(r"(ENTRY )?%?([\w.\-]+) .*\{$", line):
            name = "ENTRY" if head[1] else head[2]
            found[name] = []
        elif " = " in line and found:
            found[name].append(line)
    return found


def elements_outside_measuring(text: str) -> int:
    """Elements that the instructions of a program write, without those of the branch that measures."""
    program = computations(text)
    total, waiting, seen = 0, ["ENTRY"], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for line in program[name]:
            if " parameter(" not in line and " get-tuple-element(" not in line and " tuple(" not in line:
                for shape in re.findall(r"\w+\[([\d,]*)\]", line.split(" = ", 1)[1].split("(")[0]):
                    total += int(np.prod([int(n) for n in shape.split(",") if n] or [1]))
            if " conditional(" in line:
                branches = re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", line)
                listed = re.search(r"branch_computations=\{([^}]*)\}", line)
                branches = branches or re.findall(r"[\w.\-]+", listed[1])
                sizes = {branch: len(program[branch]) for branch in branches}
                waiting.append(min(sizes, key=sizes.__getitem__))
            elif " fusion(" not in line:
                waiting += re.findall(r"(?:to_apply|calls|body|condition)=%?([\w.\-]+)", line)
    return total


@pytest.fixture(scope="module", params=["adam", pytest.param("clipped adamw", marks=pytest.mark.long)])
def programs(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """A training step without a tap and with one, lowered."""
    make = {
        "adam": lambda: optax.adam(1e-3),
        "clipped adamw": lambda: optax.chain(optax.clip(0.01), optax.adamw(1e-3)),
    }[request.param]

    def lowered(optimizer: Any) -> Any:
        step, arguments = training_step(optimizer)
        return jax.jit(step, donate_argnums=(0, 1)).lower(*arguments)

    return lowered(make()), lowered(reopt.tap(make(), EVERY))


@pytest.mark.long
def test_a_step_that_is_not_measured_costs_a_counter_and_a_row(programs: tuple[Any, Any]) -> None:
    """The rest of the compiled program writes what it wrote without the tap; nothing grows with the parameters."""
    bare, tapped = (
        elements_outside_measuring(program.compile(compiler_options=FULLY_OPTIMISED).as_text()) for program in programs
    )
    groups, row, rows = 6, 15, 65
    assert tapped - bare <= 4 * rows * groups * row  # the log, of 6,000 numbers, and rows; of 84,000 parameters none


def test_measuring_costs_a_few_percent_of_the_operations(programs: tuple[Any, Any]) -> None:
    """By XLA's count of the program before it leaves products to a library, spread over the steps between."""
    bare, tapped = (program.cost_analysis()["flops"] for program in programs)
    weights = 64 * WIDTH + WIDTH**2 + WIDTH * 10
    assert bare > 2 * 2 * BATCH * weights  # products are counted, forward and back
    assert 0 < (tapped - bare) / EVERY <= 0.05 * bare
