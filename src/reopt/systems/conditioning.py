"""How the step of an optimizer follows each thing that it is told, all others as they were met.

Of a run that was kept, at one step:

    progress           the number of the step, from the first to the last, in the state that was met
    loss               what it is told of the loss, times a factor, at this step alone
    gradients          all gradients of the run times s: what it keeps is made anew from the first step
    scale              parameters times s and gradients over s, as if the network multiplied what it is given by 1 / s
    earlier gradients  those before this step times s: what is left of the answer to the gradient of this step

`size` is the root mean square of a problem's updates over that of the updates met; in the last row it is the odd part
of the answer to one parameter's gradient, over the one met: a linear method answers as before, whatever went before.
Exponents are d log size / d log s between s = 1/10 and 10: of `gradients` 1 in proportion and 0 blind to their size; of
`scale` 1 where steps are made in units of the parameters.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int

from reopt.optimizers.joint import VALIDATED, Inputs, Joint, JointRun, Layout, State
from reopt.systems.slices import Met

FRACTIONS = (0.0, 0.25, 0.5, 0.75, 1.0)
LOSS_FACTORS = (0.25, 1.0, 4.0)
FACTORS = (0.01, 0.1, 1.0, 10.0, 100.0)
LOW, HIGH = 0.1, 10.0  # between which exponents are taken
OF_HISTORY = ("gradients", "scale", "earlier_gradients")


class Told(NamedTuple):
    """What a run told its optimizer, step by step; `held_out` is None where it looks at no such losses."""

    gradients: Float[Array, "step problem param"]
    params: Float[Array, "step problem param"]
    losses: Float[Array, "step problem"]
    held_out: Float[Array, "step problem"] | None

    def at(self, step: Int[Array, ""]) -> Inputs:
        """Of one step."""
        held_out = None if self.held_out is None else self.held_out[step]
        now = (self.gradients[step], self.params[step], self.losses[step])
        return Inputs(*now, step, jnp.asarray(self.losses.shape[0]), held_out)


def told_in(run: JointRun, validate: Callable[[Array], Array] | None = None) -> Told:
    """What a run that was kept told its optimizer; `validate` is that of the run."""
    assert run.params is not None
    assert run.gradients is not None
    held_out = None
    if validate is not None:
        looked = jax.lax.map(validate, run.params[::VALIDATED])
        held_out = jnp.full_like(run.losses, jnp.nan).at[::VALIDATED].set(looked)
    return Told(run.gradients, run.params, run.losses, held_out)


@eqx.filter_jit
def state_before(joint: Joint, layout: Layout, told: Told, step: Array) -> State:
    """The state that a run which told this has before a step."""

    def body(at: Array, state: State) -> State:
        return joint.step(layout, state, told.at(at))[0]

    return jax.lax.fori_loop(0, step, body, joint.start(layout, told.params[0]))


@eqx.filter_jit
def _updates(joint: Joint, layout: Layout, state: State, inputs: Inputs) -> Float[Array, "problem param"]:
    return joint.step(layout, state, inputs)[1]


Odd = Callable[[Met], Float[np.ndarray, " point"]]
"""The odd part of the answer to one gradient, of some parameters at what is met."""


def read_conditioning(
    joint: Joint, layout: Layout, told: Told, step: int, odd: Odd, problem_of: np.ndarray
) -> pd.DataFrame:
    """A row an input, value and problem: input, value, problem, size, step.

    **Arguments:** `odd` of the parameters that are looked at, of which `problem_of` says in which problem each is.
    """
    at, last = jnp.asarray(step), len(told.losses) - 1
    now = told.at(at)
    rows: list[tuple[str, float, int, float]] = []

    def met_after(history: Told) -> State:
        return state_before(joint, layout, history, at)

    def size(state: State, inputs: Inputs) -> np.ndarray:
        return np.sqrt(np.mean(np.square(np.asarray(_updates(joint, layout, state, inputs))), axis=1))

    state = met_after(told)
    usual, answered = size(state, now), odd(Met(state, now))

    def note(name: str, value: float, sizes: np.ndarray) -> None:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = sizes / usual
        rows.extend((name, value, problem, ratio) for problem, ratio in enumerate(ratios))

    for fraction in FRACTIONS:
        note("progress", fraction, size(state, now._replace(step=jnp.asarray(round(fraction * last)))))
    for factor in LOSS_FACTORS:
        held_out = None if now.validation is None else now.validation * factor
        note("loss", factor, size(state, now._replace(loss=now.loss * factor, validation=held_out)))
    for s in FACTORS:
        after = met_after(told._replace(gradients=told.gradients * s))
        note("gradients", s, size(after, now._replace(gradient=now.gradient * s)))
        grown = told._replace(gradients=told.gradients / s, params=told.params * s)
        changed = now._replace(gradient=now.gradient / s, param=now.param * s)
        note("scale", s, size(met_after(grown), changed))
        with np.errstate(divide="ignore", invalid="ignore"):
            kept = np.abs(odd(Met(after, now))) / np.abs(answered)
        for problem in np.unique(problem_of):
            of_it = kept[(problem_of == problem) & np.isfinite(kept)]
            rows.append(("earlier_gradients", s, int(problem), float(np.median(of_it)) if of_it.size else np.nan))
    return pd.DataFrame(rows, columns=["input", "value", "problem", "size"]).assign(step=step)


def exponents(table: pd.DataFrame) -> pd.DataFrame:
    """Of each input that acts through the whole run, at each step and problem: input, step, problem, exponent."""
    rows = table[table["input"].isin(OF_HISTORY)]
    keys = ["input", "step", "problem"]
    low, high = (rows[rows["value"] == one].set_index(keys)["size"] for one in (LOW, HIGH))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (np.log(high) - np.log(low)) / np.log(HIGH / LOW)
    return found.rename("exponent").reset_index()
