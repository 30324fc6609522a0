"""What acts by shape, name, nesting or division into arrays is refused on a flat vector; true couplings are not."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

from reopt.examination.compare import subject_of
from reopt.optimizers.classical import Adam
from reopt.optimizers.layouts import dependence
from reopt.optimizers.optax_bridge import as_optax, from_optax
from reopt.optimizers.refusals import BY_GROUP, BY_NAME, BY_SHAPE, COUPLED, RANDOM, NotComponentWise

SLOW = ("odd_part", "other")
MATRICES = optax.adamw(0.01, mask=lambda p: jax.tree.map(lambda x: x.ndim > 1, p), weight_decay=5)


def labelled(slow) -> optax.GradientTransformation:
    """Adam for the paths that `slow` picks, else SGD."""
    return optax.multi_transform(
        {"slow": optax.adam(0.1), "fast": optax.sgd(0.1)},
        lambda params: jax.tree_util.tree_map_with_path(lambda path, x: "slow" if slow(path) else "fast", params),
    )


def dotted(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def masked(chosen) -> optax.GradientTransformation:
    return optax.masked(optax.sgd(0.1), lambda params: jax.tree.map(chosen, params))


def shampoo_like() -> optax.GradientTransformation:
    """Preconditioned by the rows' second moment of a matrix, by the own one of anything else."""

    def init(params):
        return jax.tree.map(lambda x: jnp.zeros(x.shape[:1] if x.ndim == 2 else x.shape), params)

    def update(grads, state, params=None):
        state = jax.tree.map(lambda s, g: s + (jnp.sum(g**2, axis=1) if g.ndim == 2 else g**2), state, grads)
        scaled = jax.tree.map(lambda g, s: g / jnp.sqrt((s[:, None] if g.ndim == 2 else s) + 1e-8), grads, state)
        return scaled, state

    return optax.GradientTransformation(init, update)


def counting() -> optax.GradientTransformation:
    """The rate is divided by the number of arrays."""
    return optax.stateless(lambda g, p: optax.tree.scale(-0.1 / len(jax.tree.leaves(g)), g))


REFUSED = {
    "decay of matrices": (MATRICES, BY_SHAPE),
    "small decay of matrices": (
        optax.adamw(0.01, mask=lambda p: jax.tree.map(lambda x: x.ndim > 1, p), weight_decay=1e-5),
        BY_SHAPE,
    ),
    "long arrays": (masked(lambda x: x.size > 5000), BY_SHAPE),
    "many rows": (masked(lambda x: x.ndim == 2 and x.shape[0] > 300), BY_SHAPE),
    "convolutions": (masked(lambda x: x.ndim == 3), BY_SHAPE),
    "scalars": (masked(lambda x: x.ndim == 0), BY_SHAPE),
    "rare matrices": (optax.MultiSteps(masked(lambda x: x.ndim > 1), 40), BY_SHAPE),
    "name": (labelled(lambda path: "kernel" in jax.tree_util.keystr(path)), BY_NAME),
    "odd name": (labelled(lambda path: jax.tree_util.keystr(path).endswith("['my_odd_name']")), BY_NAME),
    "names outside": (labelled(lambda path: any(getattr(key, "key", None) in SLOW for key in path)), BY_NAME),
    "a path of names": (labelled(lambda path: "decoder_7.gain" in dotted(path)), BY_NAME),
    "number of arrays": (counting(), BY_GROUP),
    "lamb": (optax.lamb(0.1), BY_GROUP),
    "lars": (optax.lars(0.1), BY_GROUP),
    "adafactor": (optax.adafactor(0.1), BY_GROUP),
    "factored": (optax.scale_by_factored_rms(), BY_SHAPE),
    "muon": (optax.contrib.muon(0.1), BY_SHAPE),
    "muon alone": (optax.contrib.scale_by_muon(), BY_SHAPE),
    "shampoo": (shampoo_like(), BY_SHAPE),
}


EVERY_WAY = ("factored", "muon")


@pytest.mark.parametrize("name", REFUSED)
def test_what_acts_by_layout_is_refused_on_every_way(name: str):
    transformation, kind = REFUSED[name]
    ways = [lambda: from_optax(transformation, decay=True, coupled=True), lambda: subject_of("it", transformation)]
    for way in ways if name in EVERY_WAY else ways[:1]:
        with pytest.raises(NotComponentWise, match="without its mask, labels or norms") as caught:
            way()
        assert caught.value.kind == kind
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "transformation",
    [
        optax.adamw(0.1, weight_decay=0.1, mask=lambda params: jax.tree.map(lambda _: True, params)),
        optax.masked(optax.adam(0.1), True),
        optax.adam(0.1, mu_dtype=jnp.bfloat16),
        optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.1)),  # rounding alone tells layouts apart
        optax.contrib.prodigy(),
    ],
)
def test_what_does_not_is_not(transformation):
    assert dependence(transformation) is None


def test_a_global_norm_still_is_a_coupling():
    clipped = optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.1))
    with pytest.raises(NotComponentWise) as caught:
        from_optax(clipped)
    assert caught.value.kind == COUPLED
    assert from_optax(clipped, coupled=True).couplings


def test_random_numbers_from_outside_are_found():
    rng = np.random.default_rng(0)

    def drawn(g, p):
        noise = jax.pure_callback(lambda: rng.normal(size=()), jax.ShapeDtypeStruct((), jnp.float64))
        return jax.tree.map(lambda x: x * noise, g)

    anew = optax.stateless(lambda g, p: jax.tree.map(lambda x: x * rng.normal(), g))  # in each program
    for transformation, said in ((optax.stateless(drawn), "calls back into Python"), (anew, "when it is run again")):
        with pytest.raises(NotComponentWise, match=said) as caught:
            from_optax(transformation)
        assert caught.value.kind == RANDOM


def test_a_transformation_made_of_arrays_has_no_hash_and_is_taken_all_the_same():
    assert dependence(as_optax(Adam(jnp.asarray(0.1)))) is None
    rates = jnp.asarray(0.1)
    assert dependence(Scaled(rates)) is None


class Scaled(NamedTuple):
    """A rate that is an array: equal to nothing by a hash."""

    rate: jax.Array

    def init(self, params):
        return ()

    def update(self, grads, state, params=None):
        return jax.tree.map(lambda g: -self.rate * g, grads), state
