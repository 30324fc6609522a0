"""The parts that rules make one by one, and all of them in one process: the same numbers, under the same names."""

import functools
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from reopt.core.errors import ReoptError
from reopt.core.tables import read_arrays
from reopt.examination.dissect import STORED, dissect
from reopt.examination.examination import Examination, examine
from reopt.examination.parts import FILES, PARTS, earlier, files_of
from reopt.examination.settings import Settings
from reopt.mechanisms.base import ABSENT, PRESENT, UNDETERMINED
from reopt.mechanisms.registry import mechanisms
from reopt.optimizers.base import Optimizer
from reopt.optimizers.classical import Momentum, RMSProp
from reopt.optimizers.learned import create_learned
from reopt.tasks.quadratic import Quadratic

SMALL = Settings(
    num_steps=30, problems=4, state_problems=2, visited_seeds=20, perturbed_seeds=8, gradients=7, evaluation_problems=8
)
SUBJECTS = {
    "gru": create_learned(jax.random.key(3), cell="gru", units=4),
    "rmsprop": RMSProp(0.05, 0.9, 1e-4),
}


class SoftClipped(Momentum):
    """Heavy ball on c tanh(g / c), c = 0.5."""

    def update(self, state: jax.Array, gradient: jax.Array) -> jax.Array:
        return super().update(state, 0.5 * jnp.tanh(gradient / 0.5))


def by_rules(optimizer: Optimizer, folder: Path) -> None:
    """Each part made by itself, from what is stored of those it needs, as the pipeline does."""
    for name in PARTS:
        Examination(optimizer, Quadratic(), SMALL, stored=folder, given=earlier(name)).make(name, folder)


@pytest.mark.long
@pytest.mark.parametrize("name", ["gru", "rmsprop"])
def test_rules_and_dissect_give_the_same_numbers(name: str, tmp_path: Path):
    by_rules(SUBJECTS[name], tmp_path / "rules")
    dissect(SUBJECTS[name], Quadratic(), SMALL, name=name).write(tmp_path / "dissect")
    for file in files_of(*STORED):
        one, other = tmp_path / "rules" / file, tmp_path / "dissect" / file
        if file.endswith(".npz"):
            for key, array in read_arrays(one).items():
                np.testing.assert_allclose(read_arrays(other)[key], array, rtol=1e-9, err_msg=f"{file} {key}")
        elif ".csv" in file:
            pd.testing.assert_frame_equal(pd.read_csv(one), pd.read_csv(other), rtol=1e-9, check_exact=False)
        else:
            assert one.read_bytes() == other.read_bytes()


def test_the_planted_soft_clip_is_its_level_everywhere():
    """c tanh(g / c) levels off at c = 0.5; its slope has halved at c acosh(sqrt 2) = 0.4407."""
    found = examine(SoftClipped(0.1, 0.8), Quadratic(), SMALL)
    np.testing.assert_allclose(found.clipping["threshold"], 0.5, rtol=1e-9)
    np.testing.assert_allclose(found.clipping["half_slope_positive"], 0.5 * np.arccosh(np.sqrt(2)), rtol=1e-9)
    readings = found.readings.set_index(["mechanism", "quantity"])
    np.testing.assert_allclose(readings.loc[("clipping", "threshold"), "value"], 0.5, rtol=1e-9)


@pytest.mark.long
def test_a_part_reads_what_it_needs_and_nothing_else(tmp_path: Path):
    """A stale file of the part that is made, or of a later one, is not looked at."""
    by_rules(SUBJECTS["rmsprop"], tmp_path)
    before = (tmp_path / "pca.npz").read_bytes()
    (tmp_path / "pca.npz").write_bytes(b"stale")
    (tmp_path / "readings.csv").write_bytes(b"stale")
    found = Examination(SUBJECTS["rmsprop"], Quadratic(), SMALL, stored=tmp_path, given=earlier("pca"))
    found.make("pca", tmp_path)
    assert (tmp_path / "pca.npz").read_bytes() == before


def test_stored_parts_alone_are_an_examination(tmp_path: Path):
    by_rules(SUBJECTS["rmsprop"], tmp_path)
    found = Examination(None, None, stored=tmp_path)
    assert found.points.points.shape == (1, 1)
    assert set(found.readings["mechanism"]) == {one.name for one in mechanisms()}
    (tmp_path / "modes.csv").unlink()
    with pytest.raises(ReoptError, match=r"modes\.csv"):
        _ = found.modes


@functools.cache
def of_rmsprop() -> Examination:
    return examine(SUBJECTS["rmsprop"], Quadratic(), replace(SMALL, seed=1))


@pytest.mark.parametrize("mechanism", mechanisms(), ids=lambda one: one.name)
def test_every_mechanism_keeps_its_contract(mechanism):
    """Bounds leave room for undetermined; a number says what it must; readings are numbers within their intervals."""
    below, between, above = mechanism.bounds.absent / 2, sum(mechanism.bounds) / 2, mechanism.bounds.present * 2
    assert 0 < mechanism.bounds.absent < mechanism.bounds.present
    assert [mechanism.bounds.verdict(number) for number in (below, between, above, np.nan)] == [
        ABSENT,
        UNDETERMINED,
        PRESENT,
        UNDETERMINED,
    ]
    assert mechanism.number
    found = of_rmsprop()
    finding = {one.mechanism: one for one in found.findings}[mechanism.name]
    assert finding.verdict in (PRESENT, ABSENT, UNDETERMINED)
    assert finding.why
    for quantity, index, value, low, high, unit in finding.readings:
        assert quantity
        assert unit
        assert index >= 0
        assert not low > value
        assert not high < value
    if mechanism.remove is not None:
        without = found.without(mechanism.name)
        state = without.initial_states((3,))
        assert without(state, jnp.zeros(3))[1].shape == (3,)


def test_without_momentum_a_heavy_ball_is_gradient_descent():
    """v' = 0.9 v + g without its one slow mode: each step starts from v = 0, so dx = -0.1 g whatever came before."""
    found = examine(Momentum(0.1, 0.9), Quadratic(), SMALL)
    bare = found.without("momentum")
    state = bare.initial_state()
    for gradient in (1.0, -2.0, 0.5, 0.0):
        state, update = bare(state, jnp.asarray(gradient))
        np.testing.assert_allclose(update, -0.1 * gradient, atol=1e-7)
    with pytest.raises(ReoptError, match="'remainder' cannot be taken away; these can: momentum, clipping, schedule"):
        found.without("remainder")


def test_names_of_files_stand_once():
    files = [file for attribute in FILES.values() for file in attribute]
    assert len(set(files)) == len(files)
    made = [attribute for part in PARTS.values() for attribute in part.makes]
    assert len(set(made)) == len(made)
    for number, (name, part) in enumerate(PARTS.items()):
        before = {name for one in list(PARTS.values())[:number] for name in one.makes}
        assert set(part.needs) <= set(earlier(name)) <= before
