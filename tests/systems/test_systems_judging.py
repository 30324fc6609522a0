"""Judging: measures written out, rivals against their own formulas, choices by tuning problems, intervals, claims."""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import yaml

from reopt.core.errors import ReoptError
from reopt.core.schema import Range
from reopt.evaluation.keys import problem_key
from reopt.optimizers.accumulators import EPS
from reopt.optimizers.joint import VALIDATED, Inputs, layout_of
from reopt.optimizers.star import DECAYS, SECOND_DECAY
from reopt.systems import judge, kinds, rivals
from reopt.systems.catch import Catch
from reopt.systems.config import load_systems, parse
from reopt.systems.family import Family
from reopt.systems.schema import Sample, SystemsConfig, Tuning
from reopt.systems.summary import difference, over_seeds_and_problems, read_judged, summary, verdict, verdicts

ROOT = Path(__file__).parents[2]
SMOKE = ROOT / "config/systems_smoke.yaml"
FAMILY = Family(units=3)
STAR: dict[str, Any] = {
    **{"kind": "star", "task": "family", "measure": "objective", "seeds": [0]},
    "training": {"estimator": "es"},
}


lives = jax.jit(judge.lives, static_argnums=(1, 3))


def descend(task: Any, problem: Any, rate: float, num_steps: int) -> list[Any]:
    """Parameters of sign descent, step by step."""
    params, met, slope = task.initial_params(problem), [], jax.jit(jax.grad(task.loss, argnums=1))
    for step in range(num_steps):
        met.append(params)
        params = params - rate * jnp.sign(slope(problem, params, step))
    return met


def test_measures_are_what_they_say_on_sign_descent_written_out() -> None:
    num_steps, rate = 12, 0.05
    batch = FAMILY.sample_batch(jax.random.key(0), 2)
    found = lives(rivals.sign_descent(jnp.asarray(rate)), FAMILY, batch, num_steps)
    for i in range(2):
        problem = jax.tree.map(lambda leaf, i=i: leaf[i], batch)
        met = descend(FAMILY, problem, rate, num_steps)
        loss, validation = jax.jit(FAMILY.loss), jax.jit(FAMILY.validation)
        losses = np.asarray([loss(problem, params, step) for step, params in enumerate(met)])
        held_out = np.asarray([validation(problem, params) for params in met[::VALIDATED]])
        for name, value in {
            "objective": losses.mean() / losses[0],
            "last_tenth": losses[-1] / losses[0],
            "validation": held_out.mean() / held_out[0],
            "last_validation": held_out[-1] / held_out[0],
        }.items():
            assert float(found[name][i]) == pytest.approx(value, rel=1e-4), name
    assert "score" not in found


def test_scores_are_returns_over_the_life_and_its_last_fifth() -> None:
    task = Catch(units=4, episodes=2)
    batch = task.sample_batch(jax.random.key(1), 2)
    found = lives(rivals.sign_descent(jnp.asarray(0.01)), task, batch, 10)
    for i in range(2):
        problem = jax.tree.map(lambda leaf, i=i: leaf[i], batch)
        met = descend(task, problem, 0.01, 10)
        score = jax.jit(task.score)
        scores = [float(score(problem, params, step)) for step, params in enumerate(met)]
        assert float(found["score"][i]) == pytest.approx(np.mean(scores), abs=1e-6)
        assert float(found["last_score"][i]) == pytest.approx(np.mean(scores[-2:]), abs=1e-6)


def test_what_diverges_counts_as_the_ceiling() -> None:
    batch = FAMILY.sample_batch(jax.random.key(0), 4)
    found = lives(
        rivals.build("momentum", {"learning_rate": jnp.asarray(1e30)} | {"momentum": jnp.asarray(0.9)}),
        FAMILY,
        batch,
        10,
    )
    np.testing.assert_array_equal(found["objective"], 10.0)


def test_the_nominal_term_alone_is_stars_formula() -> None:
    rate, layout = 0.2, layout_of(FAMILY)
    joint = rivals.nominal_alone(jnp.asarray(rate))
    params = jax.random.normal(jax.random.key(0), (1, FAMILY.num_params))
    state = joint.start(layout, params)
    momentum, second = np.zeros((len(DECAYS), FAMILY.num_params)), np.zeros(FAMILY.num_params)
    for step in range(3):
        gradient = jax.random.normal(jax.random.key(step + 1), params.shape)
        state, update, _ = eqx.filter_jit(joint.step)(
            layout, state, Inputs(gradient, params, jnp.ones(1), jnp.asarray(step), 50)
        )
        g = np.asarray(gradient[0], float)
        momentum = np.asarray(DECAYS)[:, None] * momentum + (1 - np.asarray(DECAYS)[:, None]) * g
        second = SECOND_DECAY * second + (1 - SECOND_DECAY) * g**2
        np.testing.assert_allclose(update[0], -rate * momentum.mean(axis=0) / np.sqrt(second + EPS), rtol=2e-4)


def test_settings_of_rivals_are_checked() -> None:
    with pytest.raises(ReoptError, match="the settings of sign are learning_rate"):
        rivals.build("sign", {"learning_rate": jnp.asarray(0.1), "momentum": jnp.asarray(0.9)})


def test_draws_are_one_in_each_part_of_each_range() -> None:
    ranges = {
        "learning_rate": Range(low=1e-3, high=10.0, scale="log"),
        "beta1": Range(low=0.0, high=0.99, scale="one_minus_log"),
    }
    unit, values = rivals.draw(ranges, 16, 3)
    assert unit.shape == (16, 2)
    for column in unit.T:
        np.testing.assert_array_equal(np.sort(np.floor(16 * column)), np.arange(16))
    np.testing.assert_allclose(values["learning_rate"], 1e-3 * 1e4 ** unit[:, 1], rtol=1e-5)
    np.testing.assert_allclose(1 - values["beta1"], 0.01 ** unit[:, 0], rtol=1e-4)
    assert rivals.at_edge(ranges, [0.01, 0.5]) == ["beta1"]


def test_rates_are_chosen_on_tuning_problems_and_judged_on_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """That the two never share a problem, and that every value is that of the chosen draw."""
    monkeypatch.setattr(judge, "AT_ONCE", 10)
    sample = Sample(problems=40, seed=0)
    draws = {"learning_rate": np.asarray([0.003, 0.05, 30.0])}
    made = lambda settings: rivals.build("sign", settings)  # noqa: E731
    tuned, judged = (judge.score_draws(made, draws, FAMILY, purpose, sample, 8) for purpose in ("tuning", "evaluation"))
    assert tuned["objective"].shape == (3, 40)
    chosen = judge.chosen({name: values.mean(axis=1) for name, values in tuned.items()})
    assert chosen["objective"] == 1
    table = judge.problem_table(judged, {"one": chosen}, each=True)
    one, each = (table[table["choice"] == choice]["objective"].to_numpy() for choice in ("one", "each"))
    np.testing.assert_array_equal(one, judged["objective"][1])
    np.testing.assert_array_equal(each, judged["objective"].min(axis=0))
    tuning, judging = (FAMILY.sample_batch(problem_key(purpose, 0), 40) for purpose in ("tuning", "evaluation"))
    assert not (tuning.start[:, None] == judging.start[None]).all(axis=-1).any()
    alone = lives(made({"learning_rate": jnp.asarray(0.05)}), FAMILY, judging, 8)
    np.testing.assert_allclose(one, alone["objective"], rtol=1e-4)


def test_a_race_keeps_the_best_by_each_measure_and_chooses_as_without_it() -> None:
    tuning = Tuning(problems=12, seed=2, draws=6, first=4, kept=2)
    draws = {"learning_rate": np.asarray([30.0, 0.05, 1e-5, 0.02, 10.0, 0.1], np.float32)}
    made = lambda settings: rivals.build("sign", settings)  # noqa: E731
    table, chosen = judge.race(made, draws, FAMILY, tuning, 8)
    whole = judge.score_draws(made, draws, FAMILY, "tuning", tuning, 8)
    plain = judge.mean_table(whole, draws)
    assert chosen == judge.chosen({name: values.mean(axis=1) for name, values in whole.items()})
    early = {name: values[:, :4].mean(axis=1) for name, values in whole.items()}
    on = judge.best_draws(early, 2)
    assert set(on) == {i for values in early.values() for i in np.argsort(values)[:2]}
    assert table["problems"].tolist() == [12 if i in on else 4 for i in range(6)]
    for name, values in early.items():
        column = f"mean_{name}"
        np.testing.assert_allclose(table[column][on], plain[column][on], rtol=1e-5)
        others = np.setdiff1d(np.arange(6), on)
        np.testing.assert_allclose(table[column][others], values[others], rtol=1e-5)
    assert judge.best_draws({"score": np.asarray([0.1, 0.5, 0.3])}, 2).tolist() == [1, 2]


def test_of_scores_more_is_better() -> None:
    assert judge.chosen({"score": np.asarray([0.1, 0.3]), "objective": np.asarray([0.1, 0.3])}) == {
        "score": 1,
        "objective": 0,
    }


def test_intervals_cover_the_true_mean_in_19_of_20() -> None:
    """Differences with a part of the seed, one of the problem and one of both: 5 seeds, 40 problems."""
    random, covered = np.random.default_rng(0), []
    for _ in range(1500):
        values = (
            0.3
            + 0.05 * random.normal(size=(5, 1))
            + 0.2 * random.normal(size=(1, 40))
            + 0.1 * random.normal(size=(5, 40))
        )
        found = over_seeds_and_problems(values)
        covered.append(found.low < 0.3 < found.high)
    assert 0.93 < np.mean(covered) < 0.98


def test_of_one_seed_the_interval_is_students_over_problems() -> None:
    values = np.asarray([[0.1, 0.4, 0.2, 0.3]])
    found = over_seeds_and_problems(values)
    half = 3.182446 * values.std(ddof=1) / 2
    assert found == pytest.approx((0.25, 0.25 - half, 0.25 + half), rel=1e-5)


def planted(config: SystemsConfig, results: Path) -> None:
    """Tables in which STAR is better than Adam by 0.1 everywhere, and its second seed by 0.02 more."""
    problems = np.arange(config.judging.problems)
    base = 0.5 + 0.001 * problems

    def write(path: str, **choices: Any) -> None:
        parts = [pd.DataFrame({"choice": name, "problem": problems} | columns) for name, columns in choices.items()]
        (results / path).parent.mkdir(parents=True, exist_ok=True)
        pd.concat(parts).to_csv(results / path, index=False)

    def losses(values: np.ndarray) -> dict[str, np.ndarray]:
        return {"objective": values, "validation": values}

    for seed in (0, 1):
        write(f"family/systems/star-s{seed}/problems.csv", trained=losses(base - 0.1 - 0.02 * seed))
        write(f"family/systems/star_neither-s{seed}/problems.csv", trained=losses(base - 0.02 * seed))
        gain = {"trained": {"score": 0.2 + 0 * base}, "scaled": {"score": 0.6 + 0 * base}}
        write(f"catch/systems/optim4rl-s{seed}/problems.csv", **gain)
    write("family/systems/hierarchical-s0/problems.csv", trained=losses(base))
    for rival in ("adam", "nominal"):
        write(f"family/rivals/{rival}/problems.csv", one=losses(base), each=losses(base - 0.3))
    write("catch/rivals/sign/problems.csv", one={"score": 0.5 + 0 * base}, each={"score": 0.9 + 0 * base})


def test_planted_differences_are_read_back_with_their_verdicts(tmp_path: Path) -> None:
    config = load_systems(SMOKE)
    planted(config, tmp_path)
    table = summary(config, tmp_path)
    rows = table.set_index(["system", "form", "seed", "against", "choice"])
    for seed, expected in {"0": -0.1, "1": -0.12, "all": -0.11}.items():
        row = rows.loc["star", "trained", seed, "adam", "one"]
        assert row["difference"] == pytest.approx(expected)
        assert row["better"] == 1
        assert row["other"] == pytest.approx(row["mean"] - expected)
    assert rows.loc["star", "trained", "all", "adam", "each"]["difference"] == pytest.approx(0.19)
    scaled = rows.loc["optim4rl", "scaled", "all", "sign", "one"]
    assert scaled["difference"] == pytest.approx(-0.1), "of a score the other way round"
    assert scaled["other"] == pytest.approx(0.5)
    assert rows.loc["optim4rl", "trained", "all", "sign", "one"]["difference"] == pytest.approx(0.3)
    assert rows.loc["star", "trained", "all", "hierarchical", "trained"]["difference"] == pytest.approx(-0.11)
    neither = rows.loc["star", "trained", "all", "star_neither", "trained"]
    assert neither[["difference", "low", "high"]].tolist() == pytest.approx([-0.1] * 3), "in pairs of seeds"
    against_adam = rows.loc["star", "trained", "all", "adam", "one"]
    assert against_adam["high"] == pytest.approx(-0.11 + 12.7062 * 0.01, rel=1e-4), "Student's t of two seeds"
    found = verdicts(config, table).set_index("claim")["verdict"]
    assert found.to_dict() == {"star_adam": "undetermined", "optim4rl_sign": "holds"}


def test_tables_of_other_problems_are_refused(tmp_path: Path) -> None:
    config = load_systems(SMOKE)
    planted(config, tmp_path)
    more = config.model_copy(update={"judging": Sample(problems=41, seed=1)})
    with pytest.raises(ReoptError, match="holds 40 problems, but the config says 41"):
        read_judged(more, tmp_path)
    judged = read_judged(config, tmp_path)
    assert difference(config, judged, "star", "trained", "adam", "one").shape == (2, 40)


@pytest.mark.parametrize(
    ("low", "high", "margin", "expected"),
    [
        (-0.2, -0.1, 0.0, "holds"),
        (-0.2, 0.1, 0.0, "undetermined"),
        (0.0, 0.1, 0.0, "fails"),
        (-0.2, -0.1, 0.15, "undetermined"),
        (-0.1, -0.05, 0.15, "fails"),
    ],
)
def test_a_claim_holds_where_the_whole_interval_is_beyond_the_margin(
    low: float, high: float, margin: float, expected: str
) -> None:
    assert verdict({"low": low, "high": high}, margin) == expected


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"odd": 1}, "odd: Extra inputs are not permitted"),
        ({"tuning": {"draws": 0, "problems": 8, "seed": 0}}, "tuning.draws"),
        ({"tasks": {}}, "systems.star.task: there is no task 'family'"),
        ({"systems": {"one": STAR | {"variant_of": "two"}}}, "systems.one.variant_of: 'two' is no system on family"),
        ({"claims": {"a": {"statement": "", "system": "banana", "against": "adam"}}}, "no system 'banana'"),
        ({"claims": {"a": {"statement": "", "system": "star", "against": "sign"}}}, "'sign' is none of adam, nominal"),
        (
            {"claims": {"a": {"statement": "", "system": "star", "against": "adam", "form": "scaled"}}},
            "star has one factor alone",
        ),
    ],
)
def test_what_is_wrong_with_a_config_is_said_with_its_key(change: dict[str, Any], said: str) -> None:
    content = yaml.safe_load(SMOKE.read_text(encoding="utf-8")) | change
    with pytest.raises(ReoptError) as caught:
        parse(content, "mine.yaml")
    assert str(caught.value).startswith("mine.yaml: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_settings_of_a_task_are_said_with_their_key() -> None:
    content = yaml.safe_load(SMOKE.read_text(encoding="utf-8"))
    content["tasks"]["family"]["problem"] = {"units": 0}
    with pytest.raises(ReoptError, match=r"mine.yaml: tasks.family.problem.units"):
        parse(content, "mine.yaml")


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("systems*.yaml")), ids=lambda path: path.stem)
def test_shipped_configs_load_and_their_systems_can_be_made(path: Path) -> None:
    config = load_systems(path)
    assert config.name == path.stem
    for entry in config.systems.values():
        assert jax.tree.leaves(kinds.create(entry.kind, entry.settings))
