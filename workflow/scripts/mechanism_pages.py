"""Write the planted examples of docs/mechanisms: picture, numbers beside the page, and the table in it.

    python workflow/scripts/mechanism_pages.py          examine all planted optimizers (minutes on one core)
    python workflow/scripts/mechanism_pages.py --check  exit 1 where a page does not show the numbers beside it

The text of a page is written by hand; between its markers stands what this makes. No number there is typed: the
planted ones are the hyperparameters below, the read ones come out of `reopt.examination.dissect`.
"""

import argparse
import math
import sys
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from jaxtyping import Array

from reopt.core.tables import read_table, write_table, write_text
from reopt.examination.dissect import Dissection, dissect
from reopt.figures import remainder as remainder_figure
from reopt.figures.save import render
from reopt.mechanisms.distillation import distilled_updates
from reopt.mechanisms.remainder import distill
from reopt.optimizers.base import Optimizer
from reopt.optimizers.optax_bridge import from_optax
from reopt.tasks.quadratic import Quadratic

PAGES = Path("docs/mechanisms")
PICTURES = Path("docs/images/mechanisms")
STEPS, PROBLEMS, DPI = 101, 16, 110
START, END = "<!-- planted: generated -->\n", "<!-- end planted -->"
COLUMNS = ("optimizer", "quantity", "planted", "value", "low", "high", "unit", "verdict")

RATE, BETA, THRESHOLD, DECAY, EPS = 0.05, 0.9, 0.3, 0.95, 1e-6
WARMUP, PEAK, LAST = 20, 0.08, 0.002


class Aggregated(Optimizer):
    """A slow buffer, a fast one of negative alpha, and one that swings: v <- beta v + g, update = -sum Re(alpha v)."""

    betas: tuple[complex, ...] = (0.95, 0.3, 0.7 + 0.4j)
    alphas: tuple[float, ...] = (0.02, -0.01, 0.03)

    @property
    def state_names(self) -> tuple[str, ...]:
        return ("slow", "fast", "real", "imaginary")

    def initial_state(self) -> Array:
        return jnp.zeros(4)

    def update(self, state: Array, gradient: Array) -> Array:
        slow, fast, real, imaginary = jnp.moveaxis(state, -1, 0)
        turn = self.betas[2]
        return jnp.stack(
            [
                self.betas[0].real * slow + gradient,
                self.betas[1].real * fast + gradient,
                turn.real * real - turn.imag * imaginary + gradient,
                turn.imag * real + turn.real * imaginary,
            ],
            axis=-1,
        )

    def readout(self, state: Array, gradient: Array) -> Array:
        del gradient
        return -sum(alpha * state[..., i] for i, alpha in enumerate(self.alphas))


class Planted(NamedTuple):
    """A planted optimizer, in words, and what should be read: quantity to numbers, in any order."""

    words: str
    optimizer: Optimizer
    numbers: dict[str, tuple[float, ...]]


WARM_COSINE = optax.warmup_cosine_decay_schedule(0.0, PEAK, WARMUP, STEPS - 1, LAST)


def chain(*parts: optax.GradientTransformation) -> Optimizer:
    return from_optax(optax.chain(*parts))


def examples() -> dict[str, list[Planted]]:
    """The planted optimizers of each page; the first of them is drawn."""
    aggregated, turn = Aggregated(), Aggregated().betas[2]
    half = aggregated.alphas[2] / 2  # a complex pole is a pair of conjugate modes
    momentum = Planted(
        "aggregated momentum",
        aggregated,
        {
            "alpha_real": (aggregated.alphas[0], aggregated.alphas[1], half, half),
            "beta_real": (aggregated.betas[0].real, aggregated.betas[1].real, turn.real, turn.real),
            "beta_imag": (0.0, 0.0, turn.imag, -turn.imag),
        },
    )
    nesterov = Planted(
        f"optax.sgd({RATE}, momentum={BETA}, nesterov=True)",
        from_optax(optax.sgd(RATE, momentum=BETA, nesterov=True)),
        {"alpha_real": (RATE * BETA, RATE), "beta_real": (BETA, 0.0)},
    )
    clip = Planted(
        f"optax.clip({THRESHOLD}), trace({BETA}), scale(-{RATE})",
        chain(optax.clip(THRESHOLD), optax.trace(BETA), optax.scale(-RATE)),
        {"threshold": (THRESHOLD,), "hardness": (1.0,), "slope": (RATE,)},
    )
    warm = Planted(
        "optax.sgd(warmup_cosine_decay_schedule(...))",
        from_optax(optax.sgd(WARM_COSINE)),
        {"initial": (0.0,), "peak": (PEAK,), "peak_step": (float(WARMUP),), "final": (LAST,)},
    )
    rmsprop = Planted(
        f"optax.rmsprop({RATE}, decay={DECAY}, eps={EPS:g})",
        from_optax(optax.rmsprop(RATE, DECAY, EPS)),
        {"exponent": (-1.0,), "knee": (math.sqrt(EPS / DECAY),), "time_constant": (-1 / math.log(DECAY),)},
    )
    everything = Planted(
        f"clip({THRESHOLD}), scale_by_rms({DECAY}), trace({BETA}), cosine",
        chain(
            optax.clip(THRESHOLD),
            optax.scale_by_rms(DECAY, EPS),
            optax.trace(BETA),
            optax.scale_by_learning_rate(optax.cosine_decay_schedule(0.1 * RATE, 2 * STEPS)),
        ),
        {"r2": (1.0,)},
    )
    unknown = Planted("optax.adagrad(0.05)", from_optax(optax.adagrad(RATE)), {"r2": (math.nan,)})
    explained = [one._replace(numbers={"r2": (1.0,)}) for one in (momentum, clip, warm, rmsprop)]
    return {
        "momentum": [momentum, nesterov],
        "clipping": [clip],
        "schedule": [warm],
        "adaptation": [rmsprop],
        "remainder": [unknown, *explained, everything],
    }


def compared(mechanism: str, planted: Planted, result: Dissection) -> pd.DataFrame:
    """Each planted number beside the reading of its quantity that comes nearest."""
    readings = result.readings
    readings = readings[readings["mechanism"] == mechanism]
    rows = []
    for quantity, numbers in planted.numbers.items():
        left = readings[readings["quantity"] == quantity]
        for number in numbers:
            if left.empty:
                rows.append((planted.words, quantity, number, *[math.nan] * 3, "", readings["verdict"].iloc[0]))
                continue
            apart = (left["value"] - (0.0 if math.isnan(number) else number)).abs()
            row = left.loc[apart.idxmin()]
            left = left.drop(index=row.name)
            rows.append((planted.words, quantity, number, *(row[c] for c in COLUMNS[3:])))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def picture(mechanism: str, planted: Planted, result: Dissection) -> tuple[bytes, str]:
    """(PNG, caption) of the mechanism in a planted optimizer."""
    if mechanism != "remainder":
        figure, caption = result.figures[mechanism]
        return render(figure, "png", dpi=DPI), caption
    found = result.examination
    findings = {finding.mechanism: finding for finding in result.findings}
    explained = distilled_updates(distill(found, findings), found.recording.gradients)
    updates = pd.DataFrame(
        {
            "step": np.arange(len(explained)),
            "true": found.recording.updates[:, 0, 0].astype(float),
            "explained": np.asarray(explained)[:, 0, 0],
        }
    )
    r2 = float(findings["remainder"].readings[0][2])
    data = remainder_figure.Remainder(planted.words, updates, r2)
    return render(remainder_figure.figure(data), "png", dpi=DPI), remainder_figure.caption(data)


def block(mechanism: str, table: pd.DataFrame, caption: str) -> str:
    """What stands between the markers of a page."""
    lines = [f"![{mechanism} of a planted optimizer](../images/mechanisms/{mechanism}.png)", "", caption, ""]
    lines += ["| optimizer | quantity | planted | read | interval | unit | verdict |", "|---|---|---|---|---|---|---|"]
    for _, row in table.iterrows():
        planted, value, low, high = (
            "-" if math.isnan(row[column]) else f"{row[column]:.7g}" for column in ("planted", "value", "low", "high")
        )
        lines.append(
            f"| {row['optimizer']} | {row['quantity']} | {planted} | {value} | [{low}, {high}] | {row['unit']} | "
            f"{row['verdict']} |"
        )
    return "\n".join(lines) + "\n"


def with_block(text: str, content: str) -> str:
    """The page with what stands between its markers replaced."""
    head, _, rest = text.partition(START)
    return head + START + content + END + rest.partition(END)[2]


def shown(text: str) -> list[str]:
    """The rows of the table between the markers of a page."""
    return [line for line in text.partition(START)[2].partition(END)[0].splitlines() if line.startswith("|")]


def out_of_step(folder: Path = PAGES) -> list[Path]:
    """Pages whose table is not that of the CSV beside them."""
    stale = []
    for mechanism in ("momentum", "clipping", "schedule", "adaptation", "remainder"):
        page, table = folder / f"{mechanism}.md", read_table(folder / f"{mechanism}.csv", COLUMNS).fillna({"unit": ""})
        rows = [line for line in block(mechanism, table, "").splitlines() if line.startswith("|")]
        if shown(page.read_text(encoding="utf-8")) != rows:
            stale.append(page)
    return stale


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="examine nothing; exit 1 if a page is out of step")
    if parser.parse_args().check:
        stale = out_of_step()
        for path in stale:
            print(f"out of step: {path}; repair with: uv run python workflow/scripts/mechanism_pages.py")
        return int(bool(stale))
    done: dict[str, Dissection] = {}
    PICTURES.mkdir(parents=True, exist_ok=True)
    for mechanism, planted in examples().items():
        for one in planted:
            if one.words not in done:
                print(f"examining {one.words}", flush=True)
                name = one.words.partition("(")[0].removeprefix("optax.")
                settings = {"num_steps": STEPS, "problems": PROBLEMS, "task_name": "quadratic"}
                done[one.words] = dissect(one.optimizer, Quadratic(), name=name, **settings)
        table = pd.concat([compared(mechanism, one, done[one.words]) for one in planted], ignore_index=True)
        content, caption = picture(mechanism, planted[0], done[planted[0].words])
        write_table(PAGES / f"{mechanism}.csv", table)
        (PICTURES / f"{mechanism}.png").write_bytes(content)
        page = PAGES / f"{mechanism}.md"
        write_text(page, with_block(page.read_text(encoding="utf-8"), block(mechanism, table, caption)))
        print(f"written: {page}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
