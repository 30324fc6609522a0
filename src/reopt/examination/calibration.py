"""How often the examination is wrong: its verdicts on drawn optimizers of which the truth is known.

**Without any mechanism:** plain SGD, networks before training, and SGD with noise added to its updates, where the noise
is a function of the step, of the gradient's last bits, of the gradient by a fast wave, or of a chaotic state. A verdict
"present" on any of their mechanisms is false; so is one on the remainder, for there is nothing more to find than noise.
A network before training has a readout of zeros: with a random readout it does have memory and a saturating update, and
to say so is right.

**Rules that gate, sign or mask,** with a mechanism behind the gate or without one, and buffers that are slow or kept in
other units: see `GatedRule`. There "present" where the truth is absent is false, and "absent" where it is present. What
a gate does is none of the four mechanisms, so that the remainder of these is not judged.

    python -m reopt.examination.calibration --draws 200 --out FILE.csv
"""

import argparse
from pathlib import Path
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float

from reopt.core.tables import write_table
from reopt.examination.examination import examine
from reopt.examination.verdicts import read
from reopt.mechanisms.base import ABSENT, PRESENT
from reopt.optimizers.base import Optimizer
from reopt.optimizers.classical import SGD
from reopt.optimizers.learned import create_learned
from reopt.tasks.quadratic import Quadratic

NoiseSource = Literal["step", "bits", "wave", "chaos"]
INNOCENT = ("sgd", "untrained", "step", "bits", "wave", "chaos")
MECHANISMS = ("momentum", "clipping", "schedule", "adaptation")
RULES: dict[str, tuple[str, ...]] = {
    "dead_zone": (),
    "soft_threshold": (),
    "one_sided": (),
    "sign_agreement": (),
    "dead_zone_clip": ("clipping",),
    "dead_zone_schedule": ("schedule",),
    "dead_zone_momentum": ("momentum",),
    "masked_momentum": ("momentum",),
    "cautious_momentum": ("momentum",),
    "rprop": ("adaptation", "clipping"),
    "masked_rms": ("adaptation",),
    "slow_momentum": ("momentum",),
    "scaled_momentum": ("momentum",),
    "scaled_rms": ("adaptation",),
}
"""The rules of `GatedRule`, and the mechanisms that each has."""
KINDS = (*INNOCENT, *RULES)
STATELESS = ("dead_zone", "soft_threshold", "one_sided", "dead_zone_clip")
UNITS = (4, 8, 16)
COLUMNS = ("draw", "kind", "mechanism", "verdict", "truth", "false")


class NoisySGD(Optimizer):
    """dx = -learning_rate g + deviation xi, with xi of mean 0 and variance about 1, by its `source`:

    "step", a hash of a step count; "bits", a hash of the gradient's last bits; "wave", sqrt(2) sin(1e6 g + seed);
    "chaos", a logistic map in the state, z' = 3.99 z (1 - z).
    """

    learning_rate: Float[Array, ""]
    deviation: Float[Array, ""]
    seed: Float[Array, ""]
    source: NoiseSource = eqx.field(static=True)

    @property
    def state_names(self) -> tuple[str, ...]:
        return {"step": ("step",), "chaos": ("chaos",)}.get(self.source, ())

    @property
    def clock(self) -> int | None:
        return 0 if self.source == "step" else None

    def initial_state(self) -> Array:
        start = {"step": jnp.zeros(1), "chaos": 0.1 + 0.8 * self.seed[None]}
        return start.get(self.source, jnp.zeros(0))

    def update(self, state: Array, gradient: Array) -> Array:
        del gradient
        if self.source == "step":
            return state + 1
        return 3.99 * state * (1 - state)

    def readout(self, state: Array, gradient: Array) -> Array:
        rate = jnp.asarray(self.learning_rate, gradient.dtype)
        if self.source == "step":
            noise = _hashed(state[..., 0], self.seed)
        elif self.source == "bits":
            noise = _hashed(gradient, self.seed)
        elif self.source == "wave":
            noise = 2**0.5 * jnp.sin(1e6 * gradient + self.seed)
        else:
            noise = 3.0 * (state[..., 0] - 0.5)
        return -rate * gradient + jnp.asarray(self.deviation, gradient.dtype) * noise.astype(gradient.dtype)


def _hashed(value: Array, seed: Array) -> Array:
    """A number between -sqrt(3) and sqrt(3) from the bits of a float32; without slope."""
    bits = jax.lax.bitcast_convert_type(value.astype(jnp.float32), jnp.uint32)
    bits = bits ^ jax.lax.bitcast_convert_type(jnp.asarray(seed, jnp.float32), jnp.uint32)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        bits = (bits ^ (bits >> shift)) * jnp.uint32(factor)
    bits = bits ^ (bits >> 16)
    return jax.lax.stop_gradient(3**0.5 * (bits.astype(jnp.float32) / 2.0**31 - 1))


class GatedRule(Optimizer):
    """A rule that gates, signs or masks, or keeps its state slowly or in other units; g is the gradient, t `threshold`.

    Without a mechanism: "dead_zone", dx = -rate g [|g| > t]; "soft_threshold", dx = -rate sign(g) max(|g| - t, 0);
    "one_sided", dx = -rate max(g, 0); "sign_agreement", dx = -rate g [g g' > 0], g' the gradient before.

    Behind a dead zone: "dead_zone_clip", dx = +-10 t rate where |g| > 10 t; "dead_zone_schedule", the rate is divided
    by 1 + step / 10; "dead_zone_momentum", v <- decay v + g [|g| > t], dx = -rate v; "masked_rms", s <- decay s +
    (1 - decay) g² and dx = -rate g / (sqrt(s) + t) only where |g| > t.

    Masked: "masked_momentum", v <- decay v + g, dx = -rate v [|g| > t]; "cautious_momentum", dx = -rate v [v g > 0]
    (Liang et al., arXiv 2411.16085, equation 2). "rprop": the step grows by 1.2 where g g' > 0, halves and waits a
    step where g g' < 0, within 1e-6 and 50 (Riedmiller and Braun 1993; as in torch).

    Slow or scaled: "slow_momentum" and "scaled_momentum", v <- decay v + unit g, dx = -rate v / unit; "scaled_rms", s
    in units of `unit`.
    """

    rate: Float[Array, ""]
    threshold: Float[Array, ""]
    decay: Float[Array, ""]
    unit: Float[Array, ""]
    rule: str = eqx.field(static=True)

    @property
    def state_names(self) -> tuple[str, ...]:
        two = {"rprop": ("step", "before"), "sign_agreement": ("now", "before")}
        return two.get(self.rule, () if self.rule in STATELESS else ("kept",))

    @property
    def clock(self) -> int | None:
        return 0 if self.rule == "dead_zone_schedule" else None

    def initial_state(self) -> Array:
        return jnp.stack([self.rate, jnp.zeros_like(self.rate)]) if self.rule == "rprop" else jnp.zeros(self.state_size)

    def update(self, state: Array, gradient: Array) -> Array:
        if not self.state_names:
            return state
        if self.clock is not None:
            return state + 1
        kept, decay, unit = state[..., 0], jnp.asarray(self.decay, state.dtype), jnp.asarray(self.unit, state.dtype)
        if self.rule == "sign_agreement":
            return jnp.stack([gradient, kept], axis=-1)
        if self.rule == "rprop":
            agrees = gradient * state[..., 1]
            factor = jnp.where(agrees > 0, 1.2, jnp.where(agrees < 0, 0.5, 1.0)).astype(state.dtype)
            return jnp.stack([jnp.clip(kept * factor, 1e-6, 50.0), jnp.where(agrees < 0, 0, gradient)], axis=-1)
        passes = self._passes(gradient)
        if self.rule in ("masked_rms", "scaled_rms"):
            after = decay * kept + (1 - decay) * unit * gradient**2
            return (jnp.where(passes, after, kept) if self.rule == "masked_rms" else after)[..., None]
        heard = jnp.where(passes, gradient, 0) if self.rule == "dead_zone_momentum" else gradient
        return (decay * kept + unit * heard)[..., None]

    def readout(self, state: Array, gradient: Array) -> Array:
        threshold, unit = (jnp.asarray(value, gradient.dtype) for value in (self.threshold, self.unit))
        passes = self._passes(gradient)
        if self.rule in ("masked_rms", "scaled_rms"):
            moved = gradient / (jnp.sqrt(state[..., 0] / unit) + threshold)
            moved = jnp.where(passes, moved, 0) if self.rule == "masked_rms" else moved
        elif self.rule == "rprop":
            return -state[..., 0] * jnp.sign(state[..., 1])
        elif self.rule == "sign_agreement":
            moved = jnp.where(gradient * state[..., 1] > 0, gradient, 0)
        elif not self.state_names or self.clock is not None:
            moved = self._stateless(gradient, threshold)
            moved = moved if self.clock is None else moved / (1 + state[..., 0] / 10)
        else:
            moved = state[..., 0] / unit
            shown = {"masked_momentum": passes, "cautious_momentum": moved * gradient > 0}
            moved = jnp.where(shown[self.rule], moved, 0) if self.rule in shown else moved
        return -jnp.asarray(self.rate, gradient.dtype) * moved

    def _passes(self, gradient: Array) -> Array:
        return jnp.abs(gradient) > jnp.asarray(self.threshold, gradient.dtype)

    def _stateless(self, gradient: Array, threshold: Array) -> Array:
        if self.rule == "one_sided":
            return jnp.where(gradient > 0, gradient, 0)
        passed = gradient - jnp.sign(gradient) * threshold if self.rule == "soft_threshold" else gradient
        passed = jnp.clip(gradient, -10 * threshold, 10 * threshold) if self.rule == "dead_zone_clip" else passed
        return jnp.where(self._passes(gradient), passed, 0)


def gated(rule: str, rng: np.random.Generator) -> GatedRule:
    """A drawn rule: rates from 1e-4 to 1 (Rprop's first step to 0.1), thresholds from 1e-3 to 1, decays from 0.3 to
    0.99 (slow: to 1 - 1e-6), units from 1e-12 to 1e12."""
    rate = 10.0 ** rng.uniform(-4, -1 if rule == "rprop" else 0)
    slow = rule in ("slow_momentum", "masked_rms", "scaled_rms")
    decay = 1 - 10.0 ** rng.uniform(-6 if rule == "slow_momentum" else -3 if slow else -2, -0.15)
    unit = 10.0 ** rng.uniform(-12, 12) if rule.startswith("scaled") else 1.0
    values = {"rate": rate, "threshold": 10.0 ** rng.uniform(-3, 0), "decay": decay, "unit": unit}
    return GatedRule(**{name: jnp.asarray(float(value)) for name, value in values.items()}, rule=rule)


def innocent(kind: str, rng: np.random.Generator) -> Optimizer:
    """A drawn optimizer without a mechanism: rates from 1e-4 to 10, noise of 1e-4 to 1 times the rate."""
    rate = float(10.0 ** rng.uniform(-4, 1))
    if kind == "sgd":
        return SGD(jnp.asarray(rate))
    if kind == "untrained":
        key = jax.random.key(int(rng.integers(2**31)))
        return create_learned(key, cell="gru", units=int(rng.choice(UNITS)))
    deviation, seed = rate * 10.0 ** rng.uniform(-4, 0), rng.uniform()
    return NoisySGD(jnp.asarray(rate), jnp.asarray(deviation), jnp.asarray(seed), kind)  # type: ignore[arg-type]


def verdicts(
    draws: int, *, seed: int = 0, num_steps: int = 80, problems: int = 8, kinds: tuple[str, ...] = KINDS
) -> pd.DataFrame:
    """The verdict on each mechanism of `draws` optimizers, the `kinds` taken in turn, on quadratics.

    Columns: `draw`, `kind`, `mechanism`, `verdict`, `truth`, `false` (1 where one of the last two is "present" and the
    other "absent").
    """
    rng, rows = np.random.default_rng(seed), []
    for draw in range(draws):
        kind = kinds[draw % len(kinds)]
        optimizer = gated(kind, rng) if kind in RULES else innocent(kind, rng)
        found = examine(optimizer, Quadratic(), num_steps=num_steps, problems=problems, seed=seed)
        for finding in read(found):
            if kind in RULES and finding.mechanism not in MECHANISMS:
                continue
            truth = PRESENT if finding.mechanism in RULES.get(kind, ()) else ABSENT
            false = int({truth, finding.verdict} == {PRESENT, ABSENT})
            rows.append((draw, kind, finding.mechanism, finding.verdict, truth, false))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def summary(table: pd.DataFrame) -> str:
    """The rate of false verdicts, and that of optimizers with any, in words."""
    optimizers = table.groupby("draw")["false"].max()
    unsure = (table["verdict"] == "undetermined").mean()
    return (
        f"{int(table['false'].sum())} of {len(table)} verdicts are false ({table['false'].mean():.2%}), on "
        f"{int(optimizers.sum())} of {len(optimizers)} optimizers ({optimizers.mean():.2%}); "
        f"{unsure:.1%} are undetermined"
    )


def main() -> None:
    """`python -m reopt.examination.calibration`: the verdicts as a table, and their rate of error."""
    parser = argparse.ArgumentParser(description="how often the examination is wrong")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    words = parser.parse_args()
    table = verdicts(words.draws, seed=words.seed)
    write_table(words.out, table)
    print(summary(table))


if __name__ == "__main__":
    main()
