"""How often the examination finds what is not there: its verdicts on optimizers without any mechanism.

Four kinds of them are drawn: plain SGD, networks before training, and SGD with noise added to its updates, where the
noise is a function of the step, of the gradient's last bits, of the gradient by a fast wave, or of a chaotic state. A
verdict "present" on any of their mechanisms is false; so is one on the remainder, for there is nothing more to find
than noise. A network before training has a readout of zeros: with a random readout it does have memory and a
saturating update, and to say so is right.

    python -m reopt.dissection.calibration --draws 200 --out FILE.csv
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

from reopt.artifacts.tables import write_table
from reopt.dissection.examine import examine
from reopt.dissection.readings import PRESENT, read
from reopt.optimizers.base import Optimizer
from reopt.optimizers.classical import SGD
from reopt.optimizers.learned import create_learned
from reopt.tasks.quadratic import Quadratic

NoiseSource = Literal["step", "bits", "wave", "chaos"]
KINDS = ("sgd", "untrained", "step", "bits", "wave", "chaos")
UNITS = (4, 8, 16)
COLUMNS = ("draw", "kind", "mechanism", "verdict", "false")


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


def verdicts(draws: int, *, seed: int = 0, num_steps: int = 80, problems: int = 8) -> pd.DataFrame:
    """The verdict on each mechanism of `draws` optimizers without any, the kinds taken in turn, on quadratics.

    Columns: `draw`, `kind`, `mechanism`, `verdict`, `false` (1 if it is "present").
    """
    rng, rows = np.random.default_rng(seed), []
    for draw in range(draws):
        kind = KINDS[draw % len(KINDS)]
        optimizer = innocent(kind, rng)
        found = examine(optimizer, Quadratic(), num_steps=num_steps, problems=problems, seed=seed)
        for finding in read(found, optimizer):
            rows.append((draw, kind, finding.mechanism, finding.verdict, int(finding.verdict == PRESENT)))
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
    """`python -m reopt.dissection.calibration`: the verdicts as a table, and their rate of error."""
    parser = argparse.ArgumentParser(description="how often the examination finds what is not there")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    words = parser.parse_args()
    table = verdicts(words.draws, seed=words.seed)
    write_table(words.out, table)
    print(summary(table))


if __name__ == "__main__":
    main()
