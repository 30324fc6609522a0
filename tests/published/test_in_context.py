"""Readings in context: planted update functions of each kind, and memories with a closed form."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax import Array

from reopt.cli import app as cli
from reopt.cli.options import DEFAULT
from reopt.core.errors import ReoptError
from reopt.evaluation.keys import problem_key
from reopt.figures.in_context import pictures
from reopt.optimizers.base import Optimizer
from reopt.optimizers.joint import Inputs, Joint, Layout, State, layout_of
from reopt.pipeline.setting import setting_of
from reopt.published.in_context import (
    ABSENT,
    FILES,
    LATER,
    PRESENT,
    UNDETERMINED,
    InContext,
    near_zero,
    read_in_context,
)
from reopt.published.page import page_of
from reopt.systems import kinds
from reopt.systems.conditioning import FRACTIONS
from reopt.tasks.quadratic import Quadratic
from reopt.tasks.two_moons import TwoMoons
from reopt.training.evolution import unroll_joint

FUNCTIONS: dict[str, Callable] = {
    "linear": lambda g: -0.1 * g,
    "tanh": lambda g: -0.01 * jnp.tanh(g / 0.1),
    "clip": lambda g: -0.01 * jnp.clip(g, -0.1, 0.1),
    "square beside": lambda g: -0.1 * g + 0.01 * g**2,
    "offset": lambda g: -0.1 * g + 0.3,
    "sign": lambda g: -1e-3 * jnp.sign(g),
    "sign and slope": lambda g: -1e-3 * jnp.sign(g) - 0.1 * g,
    "absolute": lambda g: -0.1 * g + 0.03 * jnp.abs(g),
    "root": lambda g: -0.01 * jnp.sign(g) * jnp.sqrt(jnp.abs(g)),
    "logarithm": lambda g: 1e-3 * jnp.log(jnp.abs(g) + 1e-30) - 1e-4 * jnp.sign(g),
    "uphill": lambda g: 1e-3 * g,
    "blows up": lambda g: 1e10 * g,
}
KINDS = {
    **dict.fromkeys(("linear", "tanh", "clip", "square beside", "offset"), "regular"),
    "sign": "jump",
    "sign and slope": "jump",
    "absolute": "kink",
    "root": "steep",
    "logarithm": "steep",
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("size", [1e-8, 1e-6])
def test_what_a_function_is_like_at_zero(name: str, size: float) -> None:
    function = {key: lambda g, f=f: np.asarray(f(np.asarray(g)), float) for key, f in FUNCTIONS.items()}[name]
    sizes = size * np.array([[1.0, 10.0, 100.0]])
    with jax.enable_x64(True):
        assert near_zero(function(sizes), function(-sizes), size) == [KINDS[name]]


class Planted(Joint):
    """m <- beta m + g, dx = function(m), its context a number that is not used."""

    name: str
    beta: float = 0.0

    def start(self, layout: Layout, params: Array) -> State:
        return State(jnp.zeros((*params.shape, 1), params.dtype), ())

    def sense(self, layout: Layout, state: State, inputs: Inputs) -> tuple[Array, tuple]:
        return jnp.zeros_like(inputs.param), ()

    def one(self, context: Array) -> Optimizer:
        return PlantedSlice(FUNCTIONS[self.name], self.beta)


class PlantedSlice(Optimizer):
    """A parameter of `Planted`."""

    function: Callable
    beta: float

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("m",)

    def initial_state(self) -> Array:
        return jnp.zeros(1)

    def update(self, state: Array, gradient: Array) -> Array:
        return self.beta * state + gradient[..., None]

    def readout(self, state: Array, gradient: Array) -> Array:
        return self.function(state[..., 0])


@functools.cache
def read(name: str, beta: float = 0.0, **sizes: int) -> InContext:
    return read_in_context(Planted(name, beta), Quadratic(5), **{"problems": 4, "num_steps": 60, **sizes})


def verdicts(found: InContext) -> dict[str, str]:
    return dict(zip(found.findings["mechanism"], found.findings["verdict"], strict=True))


@pytest.mark.parametrize(
    ("name", "clipping"),
    [("linear", ABSENT), ("tanh", PRESENT), ("sign", UNDETERMINED), ("absolute", UNDETERMINED), ("root", UNDETERMINED)],
)
def test_verdicts_say_nothing_false(name: str, clipping: str) -> None:
    found = read(name)
    assert verdicts(found)["clipping"] == clipping
    assert verdicts(found)["descent"] == PRESENT
    assert verdicts(found)["momentum"] == ABSENT
    assert set(found.points["at_zero"]) == {KINDS[name]}
    why = found.findings.set_index("mechanism").loc["clipping", "why"]
    assert ("singular at zero" in why) == (clipping == UNDETERMINED)
    assert not found.findings["why"].str.contains("inf|nan").any()


def test_exponents_are_exact() -> None:
    for name, exponent in (("linear", 1.0), ("sign", 0.0), ("root", 0.5), ("absolute", 1.0)):
        np.testing.assert_allclose(read(name).points["exponent"], exponent, atol=1e-9)


def test_odd_and_even_parts_are_apart() -> None:
    found = read("absolute").points
    np.testing.assert_allclose(found["odd"], -0.1 * np.abs(found["gradient"]), rtol=1e-9)
    np.testing.assert_allclose(found["even"], 0.03 * np.abs(found["gradient"]), rtol=1e-9)
    np.testing.assert_allclose(found["even_share"], 3 / 13, rtol=1e-9)
    drift = read("logarithm")
    assert verdicts(drift)["drift"] == PRESENT
    assert verdicts(drift)["clipping"] == UNDETERMINED
    assert verdicts(read("linear"))["drift"] == ABSENT


@pytest.mark.parametrize("beta", [0.5, 0.9])
def test_memory_has_its_closed_form(beta: float) -> None:
    found = read("linear", beta, num_steps=120)
    share = 1 - 1 / sum(beta**k for k in range(LATER))
    assert verdicts(found)["momentum"] == PRESENT
    why = found.findings.set_index("mechanism").loc["momentum", "why"]
    assert why.startswith(f"{share:.1%} of the answer")


class Centred(Joint):
    """dx = -rate (g - the mean of its array): each parameter's gradient is felt by all of its array."""

    rate: float

    def start(self, layout: Layout, params: Array) -> State:
        return State(jnp.zeros((*params.shape, 0), params.dtype), ())

    def sense(self, layout: Layout, state: State, inputs: Inputs) -> tuple[Array, tuple]:
        return layout.array_mean(inputs.gradient), ()

    def one(self, context: Array) -> Optimizer:
        return CentredSlice(self.rate, context)


class CentredSlice(Optimizer):
    """A parameter of `Centred`."""

    rate: float
    mean: Array

    @property
    def state_names(self) -> tuple[str, ...]:
        return ()

    def initial_state(self) -> Array:
        return jnp.zeros(0)

    def update(self, state: Array, gradient: Array) -> Array:
        return state

    def readout(self, state: Array, gradient: Array) -> Array:
        return -self.rate * (gradient - self.mean)


def test_what_couples_to_what_and_the_parameters_own_part_of_a_mean() -> None:
    """Of n in an array a gradient is felt by 1 - 1/n on itself and by 1/n on each of the others."""
    task = TwoMoons((2,), 32)
    sizes = np.array(layout_of(task).sizes)
    found = read_in_context(Centred(0.1), task, problems=3, num_steps=12)
    points = found.points
    n = np.repeat(sizes, sizes)[points["param"]]
    usable = n > 1  # a lone one never moves
    np.testing.assert_allclose(points["on_itself"][usable], 0.5, rtol=1e-6)
    np.testing.assert_allclose(points["on_its_array"][usable], 0.5, rtol=1e-6)
    np.testing.assert_allclose(points["on_other_arrays"][usable], 0.0, atol=1e-9)
    size = np.abs(points["gradient"])
    np.testing.assert_allclose(points["odd"][usable], (-0.1 * (1 - 1 / n) * size)[usable], rtol=1e-6)
    assert verdicts(found)["coupling"] == PRESENT
    why = found.findings.set_index("mechanism").loc["coupling", "why"]
    assert "50.0% is its own parameter's, 50.0% that of others in its array, 0.0% in other arrays" in why
    assert verdicts(read("linear"))["coupling"] == ABSENT
    assert read("linear").points["on_itself"].eq(1).all()


class Conditioned(Joint):
    """dx = -0.001 (1 + t / last) sqrt(loss) RMS(x) m / sqrt(v), of averages m and v at decays 1/2 and 0.9."""

    def start(self, layout: Layout, params: Array) -> State:
        return State(jnp.zeros((*params.shape, 2), params.dtype), ())

    def sense(self, layout: Layout, state: State, inputs: Inputs) -> tuple[Array, tuple]:
        progress = 1 + inputs.step / (jnp.asarray(inputs.num_steps, inputs.param.dtype) - 1)
        size = jnp.sqrt(layout.array_mean(jnp.square(inputs.param)))
        return progress * jnp.sqrt(inputs.loss)[:, None] * size, ()

    def one(self, context: Array) -> Optimizer:
        return ConditionedSlice(context)


class ConditionedSlice(Optimizer):
    """A parameter of `Conditioned`."""

    rate: Array

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("m", "v")

    def initial_state(self) -> Array:
        return jnp.zeros(2)

    def update(self, state: Array, gradient: Array) -> Array:
        return jnp.stack([0.5 * (state[..., 0] + gradient), 0.9 * state[..., 1] + 0.1 * gradient**2], axis=-1)

    def readout(self, state: Array, gradient: Array) -> Array:
        return -1e-3 * self.rate * state[..., 0] / jnp.sqrt(state[..., 1])


def test_what_the_step_follows_has_its_planted_form() -> None:
    steps = 41
    found = read_in_context(Conditioned(), Quadratic(5), problems=3, num_steps=steps)
    table = found.conditioning
    assert set(table["step"]) == {10, 20}
    sizes = {name: rows.set_index("value") for name, rows in table.groupby("input")}
    progress = sizes["progress"]
    expected = (1 + progress.index) / (1 + progress["step"] / (steps - 1))
    np.testing.assert_allclose(progress["size"], expected, rtol=1e-9)
    np.testing.assert_allclose(sizes["loss"]["size"], np.sqrt(sizes["loss"].index), rtol=1e-9)
    np.testing.assert_allclose(sizes["gradients"]["size"], 1, rtol=1e-9)
    np.testing.assert_allclose(sizes["scale"]["size"], sizes["scale"].index, rtol=1e-9)
    earlier = sizes["earlier_gradients"]["size"]
    np.testing.assert_allclose(earlier[1.0], 1, rtol=1e-9)
    assert (earlier[0.1].to_numpy() > 1).all()
    assert (earlier[10.0].to_numpy() < 1).all()
    assert verdicts(found)["schedule"] == PRESENT
    assert verdicts(found)["adaptation"] == PRESENT
    assert "by a factor of 2," in found.findings.set_index("mechanism").loc["schedule", "why"]


def test_the_page_shows_what_was_read(tmp_path: Path) -> None:
    found = read_in_context(Conditioned(), Quadratic(5), problems=3, num_steps=41)
    drawn = pictures(found)
    assert set(drawn) == {"performance", "clipping", "coupling", "schedule", "adaptation", "momentum"}
    (lines,) = [axes.lines for axes in drawn["schedule"][0].axes]
    by_step = {line.get_label(): line.get_ydata() for line in lines}
    np.testing.assert_allclose(by_step["in the state of step 20"], (1 + np.array(FRACTIONS)) / 1.5, rtol=1e-9)
    page = page_of(found, "planted", "quadratic", facts={"runs": "41 steps"}, command="reopt dissect planted")
    for row in found.findings.itertuples(index=False):
        assert f'<a href="#{row.mechanism}">{row.mechanism}</a></td><td><span class="verdict {row.verdict}">' in page
    assert page.count("data:image/svg+xml") == len(drawn)
    assert "mixture.csv, conditioning.csv, beside this page" in page


def test_what_follows_nothing_is_not_said_to_follow() -> None:
    found = read("linear", 0.9)
    assert verdicts(found)["schedule"] == UNDETERMINED
    assert verdicts(found)["adaptation"] == ABSENT
    why = found.findings.set_index("mechanism").loc["adaptation", "why"]
    assert why.endswith("with all gradients of a run times s, steps go as s^1")
    # A limit of the sum is met sooner after large gradients.
    assert verdicts(read("tanh", 0.9))["adaptation"] == PRESENT
    why = read("tanh", 0.9).findings.set_index("mechanism").loc["adaptation", "why"]
    assert "vanishes where those before it are larger" in why


class Mixed(Joint):
    """dx = -(0.3 m - 0.1 s + 0.2 g), of an average at decay 1/2 and a sum at 0.9; a square is kept and not used."""

    def start(self, layout: Layout, params: Array) -> State:
        return State(jnp.zeros((*params.shape, 3), params.dtype), ())

    def sense(self, layout: Layout, state: State, inputs: Inputs) -> tuple[Array, tuple]:
        return jnp.zeros_like(inputs.param), ()

    def one(self, context: Array) -> Optimizer:
        return MixedSlice()


class MixedSlice(Optimizer):
    """A parameter of `Mixed`."""

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("average", "sum", "square")

    def initial_state(self) -> Array:
        return jnp.zeros(3)

    def update(self, state: Array, gradient: Array) -> Array:
        mean, total, square = jnp.moveaxis(state, -1, 0)
        parts = [0.5 * mean + 0.5 * gradient, 0.9 * total + gradient, 0.9 * square + gradient**2]
        return jnp.stack(parts, axis=-1)

    def readout(self, state: Array, gradient: Array) -> Array:
        return -0.01 * (0.3 * state[..., 0] - 0.1 * state[..., 1] + 0.2 * gradient)


def test_a_mixture_of_accumulators_has_its_planted_shares() -> None:
    """In the long run 0.3, -0.1 / (1 - 0.9) and 0.2, over the sum of their sizes, 1.5."""
    table = read_in_context(Mixed(), Quadratic(5), problems=2, num_steps=30).mixture
    assert table.groupby("step").size().eq(3).all()
    of = dict(list(table.groupby("accumulator")))
    assert set(of) == {"average", "sum", "direct"}
    for name, share in {"average": 0.2, "sum": -1 / 1.5, "direct": 0.2 / 1.5}.items():
        np.testing.assert_allclose(of[name][["share", "low", "high"]], share, rtol=1e-9)
    np.testing.assert_allclose(of["average"]["decay"], 0.5, rtol=1e-9)
    np.testing.assert_allclose(of["sum"]["decay"], 0.9, rtol=1e-9)


@pytest.mark.parametrize(
    ("nominal", "shares", "direct"),
    [
        ("adam", {0.5: 1 / 3, 0.9: 1 / 3, 0.99: 1 / 3}, 0),
        pytest.param("momentum", {0.5: 1 / 3, 0.9: 1 / 3, 0.99: 1 / 3}, 0, marks=pytest.mark.long),
        pytest.param("adam_single", {0.5: 0, 0.9: 1, 0.99: 0}, 0, marks=pytest.mark.long),
        ("sgd", {0.5: 0, 0.9: 0, 0.99: 0}, 1),
    ],
)
def test_the_nominal_term_of_star_is_a_mixture_of_its_accumulators(
    nominal: str, shares: dict[float, float], direct: float
) -> None:
    settings = {"step_scale": 0.0, "nominal_scale": 0.1, "exponent": 0.0, "nominal": nominal}
    found = read_in_context(kinds.create("star", settings, seed=3), TwoMoons((2,), 32), problems=2, num_steps=16)
    table = found.mixture
    momenta = table[table["accumulator"].str.startswith("momentum")]
    assert set(momenta["decay"].round(6)) == set(shares)
    for decay, share in shares.items():
        read = momenta[momenta["decay"].round(6) == decay]["share"]
        np.testing.assert_allclose(read, share, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(table[table["accumulator"] == "direct"]["share"], direct, rtol=1e-5, atol=1e-9)
    assert verdicts(found)["schedule"] == UNDETERMINED


@pytest.mark.long
@pytest.mark.parametrize("kind", ["velo", "optim4rl"])  # shipped readings are of all
def test_a_checkpoint_of_a_system_is_dissected(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    kinds.save("one.safetensors", kinds.create(kind, {}, seed=1), kind, {}, seed=1, task="family")
    task = "catch --steps 6" if kind == "optim4rl" else "family --steps 12"
    words = f"dissect one.safetensors --task {task} --problems 3 --out out"
    monkeypatch.setattr(sys, "argv", ["reopt", *words.split()])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    said = capsys.readouterr().err
    assert f"dissect {kind}" in said
    assert "no optimizer in this layout" not in said
    found = pd.read_csv("out/verdicts.csv").set_index("mechanism")["verdict"]
    assert found["coupling"] == (ABSENT if kind == "optim4rl" else PRESENT)
    assert "reopt dissect one.safetensors" in Path("out/index.html").read_text(encoding="utf-8")
    shares = pd.read_csv("out/points.csv").filter(like="on_").dropna()
    assert len(shares) > 10
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=1e-6)


def test_a_checkpoint_of_a_system_is_judged_with_all_that_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    system = kinds.create("star", {}, seed=1)
    kinds.save("one.safetensors", system, "star", {}, seed=1, task="family")
    words = "evaluate one.safetensors --task quadratic --steps 12 --problems 5 --seed 7 --out out.csv"
    monkeypatch.setattr(sys, "argv", ["reopt", *words.split()])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    table = pd.read_csv("out.csv")
    assert set(table["optimizer"]) == {"star"}
    monkeypatch.setattr(sys, "argv", ["reopt", "diff", "one.safetensors", "adam", "--task", "quadratic"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "one.safetensors sees more than its own gradient" in capsys.readouterr().err
    task = setting_of("quadratic", config=None, steps=None, problems=None, seed=None, default=DEFAULT).task
    drawn = task.sample_batch(problem_key("evaluation", 7), 5)
    losses = np.asarray(unroll_joint(system, task, drawn, 12).losses, np.float64)
    np.testing.assert_allclose(table["meta_objective"], (losses / losses[0]).mean(axis=0), rtol=1e-4)


def test_what_does_not_lower_the_loss_is_said(tmp_path: Path) -> None:
    found = read("uphill")
    assert "does not fall" in found.sentences()[0]
    assert verdicts(found)["descent"] == UNDETERMINED
    assert "does not fall" not in read("linear").sentences()[0]
    found.write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)


def test_a_run_that_diverges_is_refused() -> None:
    with pytest.raises(ReoptError, match="leaves the finite numbers at step"):
        read("blows up")
