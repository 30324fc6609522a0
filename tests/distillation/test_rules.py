"""Rules in a few numbers: what they are made of, their code in a bare process, training, and the share that is kept."""

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reopt.core.errors import ReoptError
from reopt.distillation.code import optax_code, torch_code
from reopt.distillation.ladder import Recipe, _without, kept_share, ladder, objectives, train_rule
from reopt.evaluation.unroll import meta_objective, unroll
from reopt.optimizers.base import Optimizer
from reopt.optimizers.classical import Momentum
from reopt.optimizers.learned import cast
from reopt.optimizers.rules import KNOTS, PARTS, Rule, heavy_ball, numbers_of, rule
from reopt.tasks.quadratic import Quadratic
from reopt.training.cotangent_clipping import CotangentClipping

START = heavy_ball(0.5, 0.8, largest=3.0, usual=0.3)
EVERY = tuple(PARTS)


def drawn(parts: tuple[str, ...], seed: int = 0) -> Rule:
    """A rule whose numbers are none of those at which a part does nothing."""
    rng = np.random.default_rng(seed)
    moved = {name: value + 0.3 * rng.normal(size=np.shape(value)) for name, value in START.items()}
    return rule({name: jnp.asarray(value, jnp.float32) for name, value in moved.items()}, parts, 60)


def words(parts: tuple[str, ...]) -> str:
    return "+".join(parts) or "none"


def updates_of(optimizer: Optimizer, gradients: np.ndarray) -> np.ndarray:
    start = optimizer.initial_states(gradients.shape[1:]).astype(gradients.dtype)
    return np.asarray(jax.lax.scan(lambda h, g: optimizer(h, g), start, jnp.asarray(gradients))[1])


def gradients(steps: int = 40, params: int = 6, dtype: Any = np.float64) -> np.ndarray:
    rng = np.random.default_rng(1)
    return (rng.normal(size=(steps, params)) * np.geomspace(1e-3, 10, params)).astype(dtype)


@pytest.mark.parametrize(
    "parts", [(), EVERY, *((part,) for part in PARTS)], ids=lambda parts: "+".join(parts) or "none"
)
def test_where_its_numbers_say_so_a_rule_is_a_heavy_ball(parts: tuple[str, ...]) -> None:
    with jax.enable_x64(True):
        given = gradients() * 1e-4  # far inside the clip: tanh is straight to 1e-9
        found = updates_of(cast(rule(START, parts, 60), jnp.float64), given)
        np.testing.assert_allclose(found, updates_of(Momentum(0.5, 0.8), given), rtol=1e-6, atol=1e-12)


def test_the_numbers_are_counted_as_they_are_named() -> None:
    counts = {(): 2, ("gate",): 6, ("gain",): 7, ("gate", "gain"): 9, EVERY[:-1]: 14, EVERY: 14 + 2 * KNOTS}
    for parts, count in counts.items():
        assert rule(START, parts, 60).size == count
    with pytest.raises(ReoptError, match="no part of a rule is called 'gat'"):
        numbers_of(("gat",))


def by_hand(n: dict[str, float], g: np.ndarray) -> list[float]:
    """The equations of the family, of all parts but the schedule, in plain Python."""
    u = gain = s = 0.0
    out = []
    rate, c, decay = np.exp(n["rate_log"]), np.exp(n["c_log"]), 1 / (1 + np.exp(-n["c2_logit"]))
    for t, one in enumerate(g):
        a = -one * u
        r = a / (abs(a) + (np.exp(n["k1_log"]) * rate * one**2 + np.exp(n["k2_log"]) * u**2 / rate) / 2)
        b = 1 / (1 + np.exp(-(n["q0"] + n["q1"] * r + n["q2"] * r * r)))
        gain = gain / (1 + np.exp(-n["d_logit"])) + n["e"] * (r - n["r0"])
        s = decay * s + (1 - decay) * one**2
        x = c * np.tanh(one / c) * (s / (1 - decay ** (t + 1)) + np.exp(n["eps_log"])) ** -n["p"]
        step = rate * np.exp(gain) * x
        u = b * u - step
        out.append(u - n["c0"] * step)
    return out


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**20))
def test_a_rule_follows_its_equations(seed: int) -> None:
    with jax.enable_x64(True):
        one = cast(drawn(EVERY[:-1], seed), jnp.float64)
        given = gradients(25, 3)
        found = updates_of(one, given)
        numbers = {name: float(value) for name, value in one.numbers.items()}
        expected = np.stack([by_hand(numbers, column) for column in given.T], axis=1)
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def in_a_bare_process(text: str, folder: Path, *, parts: str) -> np.ndarray:
    """Updates of rule.py, run where nothing of reopt can be imported."""
    (folder / "rule.py").write_text(text)
    np.save(folder / "gradients.npy", gradients())
    code = f"""
import sys
sys.modules["reopt"] = None
import numpy as np, jax, jax.numpy as jnp
jax.config.update("jax_enable_x64", True)
from rule import rule
gradients = np.load("gradients.npy")
tx = rule(); params = {{"w": jnp.zeros((2, 2)), "b": jnp.zeros(2)}}
state, found = tx.init(params), []
for g in gradients:
    update, state = tx.update({{"w": jnp.asarray(g[:4]).reshape(2, 2), "b": jnp.asarray(g[4:])}}, state, params)
    found.append(np.concatenate([np.ravel(update["w"]), update["b"]]))
np.save("updates.npy", np.stack(found))  # {parts}
"""
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, timeout=120)
    return np.load(folder / "updates.npy")


@pytest.mark.parametrize("parts", [(), EVERY, ("gate", "schedule")], ids=words)
def test_its_code_alone_makes_the_same_updates(parts: tuple[str, ...], tmp_path: Path) -> None:
    one = drawn(parts)
    text = optax_code(one, "A rule")
    assert "reopt" not in text
    found = in_a_bare_process(text, tmp_path, parts="+".join(parts))
    with jax.enable_x64(True):
        expected = updates_of(cast(one, jnp.float64), gradients())
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    single = updates_of(one, gradients(dtype=np.float32))
    np.testing.assert_allclose(single, expected, rtol=2e-4, atol=1e-6 * np.abs(expected).max())
    assert optax_code(one, "A rule") == text


@pytest.mark.parametrize("parts", [(), EVERY, ("gain", "power")], ids=words)
def test_torch_makes_the_same_updates(parts: tuple[str, ...]) -> None:
    torch = pytest.importorskip("torch")
    one = drawn(parts)
    space: dict[str, Any] = {}
    exec(compile(torch_code(one, "A rule"), "rule_torch.py", "exec"), space)
    x = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    optimizer, found = space["Rule"]([x]), []
    for g in gradients():
        before = x.detach().clone()
        x.grad = torch.from_numpy(g)
        optimizer.step()
        found.append((x.detach() - before).numpy())
    with jax.enable_x64(True):
        expected = updates_of(cast(one, jnp.float64), gradients())
    np.testing.assert_allclose(np.stack(found), expected, rtol=1e-7, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("parts", [(), EVERY], ids=["none", "all"])
def test_both_files_are_code_of_the_same_equations(parts: tuple[str, ...]) -> None:
    texts = optax_code(drawn(parts), "A rule"), torch_code(drawn(parts), "A rule")
    bodies = []
    for text in texts:
        compile(text, "rule.py", "exec")
        body = text.partition("def element")[2].partition("\n\n\n")[0]
        bodies.append([line for line in body.splitlines() if "=" in line or "return" in line][1:])
    assert bodies[0] == bodies[1]


def test_meta_gradients_without_clipping_are_exact() -> None:
    """Against central differences; the clipping of cotangents has no effect where its limit is far above."""
    task, one = Quadratic(3), drawn(EVERY)
    with jax.enable_x64(True):
        problems = jax.tree.map(
            lambda leaf: leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf,
            task.sample_batch(jax.random.key(0), 4),
        )
        one = cast(one, jnp.float64)

        def value(numbers: Any) -> Any:
            return objectives(
                Rule(numbers, one.parts, one.horizon), task, problems, 12, CotangentClipping(1e9, 4)
            ).mean()

        gradient = jax.grad(value)(one.numbers)
        for name in ("rate_log", "q1", "e", "p", "c0"):
            up, down = (one.numbers | {name: one.numbers[name] + sign * 1e-6} for sign in (1, -1))
            assert gradient[name] == pytest.approx(float(value(up) - value(down)) / 2e-6, rel=1e-5, abs=1e-9)
        plain = meta_objective(unroll(one, task, problems, 12).losses)
        np.testing.assert_allclose(value(one.numbers), plain.mean(), rtol=1e-12)


SHORT = Recipe(outer_steps=60, problems=16, validation=64, every=10)


def test_training_is_better_than_where_it_began() -> None:
    task = Quadratic()
    begin = rule(START, ("gate",), 40)
    found = train_rule(begin, task, SHORT, num_steps=40, seed=3)
    nothing = train_rule(begin, task, SHORT._replace(outer_steps=1), num_steps=40, seed=3)
    assert found.validation < 0.9 * nothing.validation
    assert found.validation == pytest.approx(found.seen.min())
    again = train_rule(begin, task, SHORT, num_steps=40, seed=3)
    assert again.validation == found.validation


@pytest.mark.long
def test_a_ladder_ends_at_a_heavy_ball() -> None:
    recipe = SHORT._replace(outer_steps=12, every=4)
    rungs = ladder(START, ("gate", "clip"), Quadratic(), recipe, num_steps=20, seed=0)
    sizes = [one.rule.size for one in rungs]
    assert sizes[0] == 7
    assert sizes[-1] == 2
    assert all(a > b for a, b in itertools.pairwise(sizes))
    assert all(set(b.rule.parts) < set(a.rule.parts) for a, b in itertools.pairwise(rungs))


def test_a_problem_that_overflows_does_not_stop_the_training_of_the_others() -> None:
    """At a rate of 4.5 one of 16 problems overflows in 201 steps: its gradient alone is lost."""
    task = Quadratic()
    problems = task.sample_batch(jax.random.key(3), 16)
    hot = rule(heavy_ball(4.5, 0.8, largest=3.0, usual=0.3), (), 201)
    found = np.asarray(objectives(hot, task, problems, 201, CotangentClipping(4.0, 16)))
    assert (found > 1e3).any()

    def mean(numbers: dict) -> Any:
        found = objectives(Rule(numbers, (), 201), task, problems, 201, CotangentClipping(4.0, 16))
        return jnp.mean(jnp.where(found > 1, 1 + jnp.log(jnp.maximum(found, 1)), found))

    slope = jax.grad(mean)(hot.numbers)
    assert all(np.isfinite(value) for value in slope.values())
    assert slope["rate_log"] > 0, "a smaller rate is better"


def test_an_unknown_part_is_an_error() -> None:
    with pytest.raises(ReoptError, match="no part of a rule is called 'gat'"):
        ladder(START, ("gat",), Quadratic(), SHORT, num_steps=20, seed=0)


def test_without_its_power_law_a_rule_keeps_its_rate_at_the_usual_gradient() -> None:
    """(usual^2 + eps)^-p is taken up by the rate: at a constant gradient of that size the steps are the same."""
    numbers = START | {"p": jnp.asarray(0.4)}
    after = _without("power", numbers, 0.3)
    with jax.enable_x64(True):
        given = np.full((60, 1), 0.3)
        with_it, without = (
            updates_of(cast(rule(one, parts, 60), jnp.float64), given)
            for one, parts in ((numbers, ("power",)), (after, ()))
        )
    np.testing.assert_allclose(without[-1], with_it[-1], rtol=1e-5)


def test_the_share_that_is_kept() -> None:
    rng = np.random.default_rng(0)
    learned = rng.uniform(0.02, 0.04, size=400)
    base = learned + rng.uniform(0.01, 0.03, size=400)
    half = kept_share(base, 0.5 * (base + learned), learned)
    assert half == pytest.approx((0.5, 0.5, 0.5))
    noisy = kept_share(base, learned + rng.uniform(0, 0.02, size=400), learned)
    assert noisy.low < noisy.value < noisy.high
    assert noisy.value == pytest.approx(0.5, abs=0.05)
    lost = kept_share(base, np.full(400, np.nan), learned, middle=np.median)
    assert lost.value < -100
    assert np.isnan(kept_share(learned, learned, learned)).all()


@pytest.mark.long
def test_a_planted_member_of_the_family_comes_back() -> None:
    """A rule trained from another start keeps what a trained one has gained over the best heavy ball of its start."""
    task = Quadratic()
    recipe = Recipe(outer_steps=400, problems=32, validation=256)
    planted = train_rule(rule(START, ("gate", "clip"), 60), task, recipe, num_steps=60, seed=1)
    other = heavy_ball(0.2, 0.6, largest=10.0, usual=0.1)
    found = train_rule(rule(other, EVERY, 60), task, recipe, num_steps=60, seed=2)
    problems = task.sample_batch(jax.random.key(99), 1024)

    def judged(optimizer: Optimizer) -> np.ndarray:
        return np.asarray(meta_objective(unroll(optimizer, task, problems, 60).losses))

    kept = kept_share(judged(Momentum(0.5, 0.8)), judged(found.rule), judged(planted.rule))
    assert kept.value >= 0.95
