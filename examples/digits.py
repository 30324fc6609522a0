"""A small network learns scikit-learn's digits while a tap measures its optimizer: `python examples/digits.py`.

The optimizer clips gradients, has momentum, adapts by Adam's second moment, warms up and decays; the tap reads all of
it while it trains. Writes a figure (SVG or PNG) and, if asked, the table as CSV.
"""

import argparse
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

import reopt
from reopt.core.tables import rounded, write_table
from reopt.figures.save import save

STEPS, BATCH, TESTED = 2000, 64, 360
CLIP = 0.003


def layer(path: str) -> str:
    """The group of an array: `layers/0/weight` and `layers/0/bias` are "layer 1"."""
    return f"layer {int(path.split('/')[1]) + 1}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("digits.png"), help="figure to write (default: digits.png)")
    parser.add_argument("--table", type=Path, help="CSV to write")
    arguments = parser.parse_args()

    digits = load_digits()
    images, targets = jnp.asarray(digits.data / 16, jnp.float32), jnp.asarray(digits.target)
    network = eqx.nn.MLP(64, 10, 64, 2, key=jax.random.key(0))
    params, static = eqx.partition(network, eqx.is_inexact_array)

    rate = optax.warmup_cosine_decay_schedule(0.0, 3e-3, warmup_steps=200, decay_steps=STEPS)
    optimizer = reopt.tap(optax.chain(optax.clip(CLIP), optax.adamw(rate, weight_decay=1e-2)), every=50, group=layer)

    def loss(params, chosen):
        logits = jax.vmap(eqx.combine(params, static))(images[chosen])
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets[chosen]).mean()

    def step(carry, index):
        params, state = carry
        chosen = jax.random.randint(jax.random.fold_in(jax.random.key(1), index), (BATCH,), TESTED, len(images))
        updates, state = optimizer.update(jax.grad(loss)(params, chosen), state, params)
        return (optax.apply_updates(params, updates), state), None

    (params, state), _ = jax.jit(lambda start: jax.lax.scan(step, start, jnp.arange(STEPS)))(
        (params, optimizer.init(params))
    )

    right = jnp.argmax(jax.vmap(eqx.combine(params, static))(images[:TESTED]), axis=1) == targets[:TESTED]
    table = reopt.tap_table(state)
    print(f"test accuracy {float(right.mean()):.3f} after {STEPS} steps")
    last = table[table["step"] == table["step"].max()]
    print(last.pivot(index="group", columns="quantity", values="value").to_string(float_format="{:.3g}".format))
    save(reopt.tap_figure(table), arguments.out)
    if arguments.table:
        write_table(arguments.table, rounded(table))


if __name__ == "__main__":
    main()
